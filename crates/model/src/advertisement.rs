//! Advertisements: this program, for that collection, on this schedule.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::clock::Wall;
use crate::message::Occurrence;
use crate::name::Name;
use crate::notice::Notice;
use crate::parameter::{PARAMETERS_MAX, Values};
use crate::period::Period;
use crate::problem::{Checks, Problem};
use crate::recurrence::Every;
use crate::removal::Removal;

/// Assignments of one advertisement. SMS 2.0 had 15 and went silent beyond (Q294750).
pub const ASSIGNMENTS_MAX: usize = 64;
/// What `offlineFor` is when nothing is said.
pub const OFFLINE_FOR_DEFAULT: Period = Period::days(30);
/// The longest `splay`: beyond a week it is another assignment.
pub const SPLAY_MAX: Period = Period::days(7);
/// Times of a rule between which `splay` must fit; of a rule that is irregular for longer it is not seen.
const SPLAY_LOOKS: usize = 32;

/// `kind: Advertisement`, `spec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdvertisementSpec {
    /// `NAME` or `NAME@VERSION`. `apply` pins the version by digest.
    pub package: PackageRef,
    /// A program of that package.
    pub program: Name,
    /// The machines meant.
    pub collection: Name,
    /// Mandatory times. None: the program is available and nothing starts by itself.
    #[serde(default)]
    pub assignments: Vec<Assignment>,
    /// `latest`: each newer published version is pinned in a new revision. Absent: the pin stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track: Option<Track>,
    /// From then on nothing starts; what runs finishes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Wall>,
    /// A device that has not heard from its site for longer starts nothing new.
    #[serde(default, skip_serializing_if = "OfflineFor::is_default")]
    pub offline_for: OfflineFor,
    /// What whoever is logged on is given before a mandatory start, instead of what the program says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Notice>,
    /// It overrides maintenance windows and freezes; asks for a permission of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub emergency: bool,
    /// What becomes of an assignment whose time went by while the device was off.
    #[serde(default, skip_serializing_if = "Late::is_default")]
    pub late: Late,
    /// Each device starts so much later than an assignment falls due, at most: a length of its own that
    /// never changes, so that not all start at once.
    #[serde(default, skip_serializing_if = "Period::is_zero")]
    pub splay: Period,
    /// Values of the program's parameters; they go before those of the collection.
    #[serde(default, skip_serializing_if = "Values::is_empty")]
    pub parameters: Values,
    /// What takes off again what it installed, where it is no longer advertised. Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removal: Option<Removal>,
    /// A line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// What becomes of an assignment whose time went by while the device was off, or before it was meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Late {
    /// It runs as soon as possible.
    #[default]
    RunLate,
    /// It ends `expired(late)`.
    Skip,
    /// It becomes `available`: a user may start it.
    Ask,
}

impl Late {
    /// Whether it is what holds when nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A package by name, and perhaps version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageRef {
    /// The package.
    pub name: Name,
    /// The version; absent means the newest when the advertisement is applied.
    pub version: Option<String>,
}

/// Follow newer versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Track {
    /// Always the newest published version.
    Latest,
}

/// A mandatory time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Assignment {
    /// Keeps the occurrences together when the assignment is edited. Unnamed ones are called by
    /// position: `a1`, `a2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// When it falls due, if it does so once. Exactly one of `at` and `every` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
    /// When it falls due, if it does so again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Every>,
}

/// When an assignment falls due: once, or again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Once: its only occurrence is the first.
    Once(At),
    /// At each time of a rule; each is an occurrence.
    Every(Every),
}

/// When an occurrence falls due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// As soon as possible.
    Now,
    /// At an instant: written with an offset or `Z`.
    Instant(Wall),
    /// At a civil time of the device: written without offset.
    Local(jiff::civil::DateTime),
    /// At the next start of the machine after the device learnt of it.
    StartUp,
    /// When next somebody logs on after the device learnt of it.
    LogOn,
}

/// How long a device may act on its policy without hearing from its site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfflineFor {
    /// At most this long.
    AtMost(Period),
    /// For ever.
    Unlimited,
}

impl OfflineFor {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for OfflineFor {
    fn default() -> Self {
        Self::AtMost(OFFLINE_FOR_DEFAULT)
    }
}

impl AdvertisementSpec {
    /// Each assignment with the name that its occurrences carry.
    pub fn named_assignments(&self) -> Vec<(Name, Schedule)> {
        self.assignments
            .iter()
            .enumerate()
            .filter_map(|(i, assignment)| {
                let name = match &assignment.name {
                    Some(name) => name.clone(),
                    None => Name::new(format!("a{}", i + 1)).ok()?,
                };
                Some((name, assignment.schedule()?))
            })
            .collect()
    }

    /// Every fault of the spec that can be seen without other objects.
    pub fn check(&self) -> Vec<Problem> {
        let mut checks = Checks::new();
        let assignments = &self.assignments;
        checks.range("spec.assignments", "assignments", assignments.len(), 0, ASSIGNMENTS_MAX);
        for (i, assignment) in assignments.iter().enumerate() {
            checks.that(
                assignment.at.is_some() != assignment.every.is_some(),
                &format!("spec.assignments[{i}]"),
                "an assignment has either at or every",
            );
        }
        checks.period("spec.splay", self.splay, Period::default(), SPLAY_MAX);
        let names = self.named_assignments();
        for (i, (name, schedule)) in names.iter().enumerate() {
            checks.that(
                !names[..i].iter().any(|(other, _)| other == name),
                &format!("spec.assignments[{i}].name"),
                &format!("two assignments are called `{name}`"),
            );
            checks.that(
                !Occurrence::RESERVED.contains(&name.as_str()),
                &format!("spec.assignments[{i}].name"),
                &format!("`{name}` is what the site calls occurrences of its own"),
            );
            match (schedule, self.expires) {
                (Schedule::Once(At::Instant(due)), Some(expires)) => checks.that(
                    *due < expires,
                    &format!("spec.assignments[{i}].at"),
                    &format!(
                        "at is {due} but expires is {expires}: the assignment could never start"
                    ),
                ),
                (Schedule::Every(every), _) => self.check_splay(&mut checks, i, every),
                _ => {}
            }
        }
        if let Some(notice) = &self.notice {
            notice.check("spec.notice", &mut checks);
        }
        if let Some(removal) = &self.removal {
            removal.check(&self.program, &mut checks);
        }
        checks.that(
            !(self.track.is_some() && self.package.version.is_some()),
            "spec.track",
            "track is `latest` but package names one version",
        );
        checks.that(
            !(self.emergency && self.track.is_some()),
            "spec.emergency",
            "emergency is true but track is `latest`: a version that nobody has seen yet would override \
             every window and freeze",
        );
        checks.range("spec.parameters", "values", self.parameters.len(), 0, PARAMETERS_MAX);
        checks.finish()
    }
}

impl AdvertisementSpec {
    /// A start put off until the next occurrence falls due would always be missed.
    fn check_splay(&self, checks: &mut Checks, i: usize, every: &Every) {
        let Some(gap) = every.shortest_gap(SPLAY_LOOKS) else { return };
        checks.that(
            self.splay < gap,
            "spec.splay",
            &format!(
                "splay is {} but spec.assignments[{i}].every falls due again after {gap}: a start put \
                 off so long would miss its occurrence",
                self.splay
            ),
        );
    }
}

impl Assignment {
    /// When it falls due; `None` if it says neither or both, which [`AdvertisementSpec::check`] refuses.
    pub fn schedule(&self) -> Option<Schedule> {
        match (&self.at, &self.every) {
            (Some(at), None) => Some(Schedule::Once(*at)),
            (None, Some(every)) => Some(Schedule::Every(every.clone())),
            _ => None,
        }
    }
}

/// Text that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotThat(String);

impl FromStr for PackageRef {
    type Err = NotThat;
    fn from_str(text: &str) -> Result<Self, NotThat> {
        let (name, version) = match text.rsplit_once('@') {
            Some((name, version)) if !version.is_empty() => (name, Some(version.to_owned())),
            Some(_) => return Err(NotThat(format!("`{text}` has no version after its `@`"))),
            None => (text, None),
        };
        let name = Name::new(name).map_err(|why| NotThat(format!("package: {why}")))?;
        Ok(Self { name, version })
    }
}

impl fmt::Display for PackageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => self.name.fmt(f),
        }
    }
}

impl FromStr for At {
    type Err = NotThat;
    fn from_str(text: &str) -> Result<Self, NotThat> {
        match text {
            "now" => return Ok(Self::Now),
            "start-up" => return Ok(Self::StartUp),
            "log-on" => return Ok(Self::LogOn),
            _ => {}
        }
        if let Ok(instant) = text.parse::<Wall>() {
            return Ok(Self::Instant(instant));
        }
        text.parse::<jiff::civil::DateTime>().map(Self::Local).map_err(|_| {
            NotThat(format!(
                "at is `now`, `start-up`, `log-on`, a local time like 2027-01-31T08:00:00, or an \
                 instant like 2027-01-31T08:00:00Z, not {text:?}"
            ))
        })
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Now => f.write_str("now"),
            At::StartUp => f.write_str("start-up"),
            At::LogOn => f.write_str("log-on"),
            At::Instant(time) => time.fmt(f),
            At::Local(time) => time.fmt(f),
        }
    }
}

impl FromStr for OfflineFor {
    type Err = NotThat;
    fn from_str(text: &str) -> Result<Self, NotThat> {
        match text {
            "unlimited" => Ok(Self::Unlimited),
            _ => text.parse().map(Self::AtMost).map_err(|why| {
                NotThat(format!("offlineFor is `unlimited` or a length of time: {why}"))
            }),
        }
    }
}

impl fmt::Display for OfflineFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(period) => period.fmt(f),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

crate::text_serde!(PackageRef, At, OfflineFor);

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(more: &str) -> AdvertisementSpec {
        serde_json::from_str(&format!(
            r#"{{"package":"hello@2.10","program":"install","collection":"lab"{more}}}"#
        ))
        .unwrap()
    }

    #[test]
    fn a_removal_is_another_program_and_comes_within_a_year() {
        let check = |more: &str, field: Option<&str>| {
            let problems = spec(more).check();
            let fields: Vec<&str> = problems.iter().map(|one| one.field.as_str()).collect();
            assert_eq!(fields, field.into_iter().collect::<Vec<_>>(), "{more}");
        };
        check(r#","removal":{"program":"uninstall"}"#, None);
        check(r#","removal":{"program":"install"}"#, Some("spec.removal.program"));
        let late = r#","removal":{"program":"uninstall","after":"366d"}"#;
        check(late, Some("spec.removal.after"));
        let removal = spec(r#","removal":{"program":"uninstall"}"#).removal;
        assert_eq!(removal.map(|one| one.after), Some(crate::removal::AFTER_DEFAULT));
        let named = r#","assignments":[{"name":"(removal)","at":"now"}]"#;
        check(named, Some("spec.assignments[0].name"));
    }

    #[test]
    fn unnamed_assignments_are_called_by_position() {
        let spec =
            spec(r#","assignments":[{"at":"now"},{"name":"late","at":"2027-01-01T00:00:00"}]"#);
        let names: Vec<String> =
            spec.named_assignments().iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["a1", "late"]);
        assert_eq!(spec.check(), []);
    }

    #[test]
    fn contradictions_name_both_settings() {
        let late = spec(
            r#","expires":"2026-01-01T00:00:00Z","assignments":[{"at":"2027-01-01T00:00:00Z"}]"#,
        );
        let said = late.check()[0].to_string();
        assert!(said.contains("at is") && said.contains("expires is"), "{said}");
        assert_eq!(spec(r#","track":"latest""#).check()[0].field, "spec.track");
        let unseen = spec(r#","emergency":true,"track":"latest""#);
        assert!(unseen.check().iter().any(|one| one.field == "spec.emergency"));
        let twice = spec(r#","assignments":[{"name":"a2","at":"now"},{"at":"now"}]"#);
        assert_eq!(twice.check()[0].field, "spec.assignments[1].name");
    }

    #[test]
    fn an_assignment_falls_due_once_or_again_and_again() {
        let every = r#""every":"DTSTART:20270101T020000\nRRULE:FREQ=HOURLY""#;
        let recurring = spec(&format!(r#","assignments":[{{{every}}}]"#));
        assert_eq!(recurring.check(), []);
        let json = serde_json::to_string(&recurring).unwrap();
        assert_eq!(serde_json::from_str::<AdvertisementSpec>(&json).unwrap(), recurring);
        for wrong in [format!(r#"{{"at":"now",{every}}}"#), r#"{"name":"a"}"#.to_owned()] {
            let wrong = spec(&format!(r#","assignments":[{wrong}]"#));
            assert_eq!(wrong.check()[0].field, "spec.assignments[0]", "{wrong:?}");
        }
        let splayed = spec(&format!(r#","splay":"1h","assignments":[{{{every}}}]"#));
        let said = splayed.check()[0].to_string();
        assert!(said.contains("splay is 1h") && said.contains("again after 1h"), "{said}");
    }

    #[test]
    fn texts_round_trip() {
        for at in ["now", "start-up", "log-on", "2027-01-31T08:00:00", "2027-01-31T08:00:00Z"] {
            assert_eq!(at.parse::<At>().unwrap().to_string(), at);
        }
        assert!("soon".parse::<At>().is_err());
        assert!("a@".parse::<PackageRef>().is_err());
        assert_eq!("unlimited".parse(), Ok(OfflineFor::Unlimited));
    }
}
