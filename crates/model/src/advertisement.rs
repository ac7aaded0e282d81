//! Advertisements: this program, for that collection, on this schedule.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::clock::Wall;
use crate::name::Name;
use crate::notice::Notice;
use crate::period::Period;
use crate::problem::{Checks, Problem};

/// Assignments of one advertisement. SMS 2.0 had 15 and went silent beyond (Q294750).
pub const ASSIGNMENTS_MAX: usize = 64;
/// What `offlineFor` is when nothing is said.
pub const OFFLINE_FOR_DEFAULT: Period = Period::days(30);

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
    /// A line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
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
    /// When it falls due.
    pub at: At,
}

/// When an assignment falls due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// As soon as possible.
    Now,
    /// At an instant: written with an offset or `Z`.
    Instant(Wall),
    /// At a civil time of the device: written without offset.
    Local(jiff::civil::DateTime),
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
    pub fn named_assignments(&self) -> Vec<(Name, At)> {
        self.assignments
            .iter()
            .enumerate()
            .filter_map(|(i, assignment)| {
                let name = match &assignment.name {
                    Some(name) => name.clone(),
                    None => Name::new(format!("a{}", i + 1)).ok()?,
                };
                Some((name, assignment.at))
            })
            .collect()
    }

    /// Every fault of the spec that can be seen without other objects.
    pub fn check(&self) -> Vec<Problem> {
        let mut checks = Checks::new();
        let assignments = &self.assignments;
        checks.range("spec.assignments", "assignments", assignments.len(), 0, ASSIGNMENTS_MAX);
        let names = self.named_assignments();
        for (i, (name, at)) in names.iter().enumerate() {
            checks.that(
                !names[..i].iter().any(|(other, _)| other == name),
                &format!("spec.assignments[{i}].name"),
                &format!("two assignments are called `{name}`"),
            );
            if let (At::Instant(due), Some(expires)) = (at, self.expires) {
                checks.that(
                    *due < expires,
                    &format!("spec.assignments[{i}].at"),
                    &format!(
                        "at is {due} but expires is {expires}: the assignment could never start"
                    ),
                );
            }
        }
        if let Some(notice) = &self.notice {
            notice.check("spec.notice", &mut checks);
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
        checks.finish()
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
        if text == "now" {
            return Ok(Self::Now);
        }
        if let Ok(instant) = text.parse::<Wall>() {
            return Ok(Self::Instant(instant));
        }
        text.parse::<jiff::civil::DateTime>().map(Self::Local).map_err(|_| {
            NotThat(format!(
                "at is `now`, a local time like 2027-01-31T08:00:00, or an instant like \
                 2027-01-31T08:00:00Z, not {text:?}"
            ))
        })
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Now => f.write_str("now"),
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
    fn texts_round_trip() {
        for at in ["now", "2027-01-31T08:00:00", "2027-01-31T08:00:00Z"] {
            assert_eq!(at.parse::<At>().unwrap().to_string(), at);
        }
        assert!("soon".parse::<At>().is_err());
        assert!("a@".parse::<PackageRef>().is_err());
        assert_eq!("unlimited".parse(), Ok(OfflineFor::Unlimited));
    }
}
