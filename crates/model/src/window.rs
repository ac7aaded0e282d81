//! Maintenance windows and freezes: when a device may start runs and restarts.
//!
//! A window allows what begins *and ends* in it; a freeze forbids what would overlap it, and beats a
//! window. A device keeps to the windows of all its collections: windows that touch are one, a run
//! needs room in one of them, and a device without windows may start at any time that is not frozen.
//!
//! A duration is time that passes: a window of four hours that begins before the clocks go forward
//! still has four hours. Where a start stands in the gap or in the repeated hour, it is read as RFC
//! 5545, 3.3.5, says ([`crate::recurrence`]).

mod opening;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::advertisement::At;
use crate::name::Name;
use crate::package::Program;
use crate::period::Period;
use crate::problem::{Checks, Problem};
use crate::recurrence::{Clock, Every};

use opening::named_zone;
pub use opening::{Closed, HORIZON_DAYS, LOOKS_MAX, Opening, opening};

/// The shortest window: what is shorter has no room for any run.
pub const DURATION_LEAST: Period = Period::minutes(1);
/// The longest window or freeze: a leap year.
pub const DURATION_MOST: Period = Period::days(366);
/// Windows and freezes that hold for one device, over all its collections.
pub const WINDOWS_MAX: usize = 256;
/// Starts that are looked at to see whether a window overlaps itself.
const STARTS_CHECKED: usize = 64;

/// `kind: MaintenanceWindow`, `spec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MaintenanceWindowSpec {
    /// The machines that keep to it.
    pub collection: Name,
    /// Whether it allows or forbids.
    #[serde(default, skip_serializing_if = "Effect::is_window")]
    pub effect: Effect,
    /// When it begins, again and again; or `at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Every>,
    /// When it begins, once; or `every`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
    /// How long it lasts, in time that passes.
    pub duration: Period,
    /// The zone of times without one. Absent: the device's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What it is about.
    #[serde(rename = "for", default, skip_serializing_if = "Governs::is_both")]
    pub governs: Governs,
    /// A line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// A window or freeze as it stands in a device's policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// Its name, for people.
    pub name: Name,
    /// Whether it allows or forbids.
    #[serde(default, skip_serializing_if = "Effect::is_window")]
    pub effect: Effect,
    /// When it begins.
    #[serde(flatten)]
    pub begins: Begins,
    /// How long it lasts, in time that passes.
    pub duration: Period,
    /// The zone of times without one. Absent: the device's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What it is about.
    #[serde(rename = "for", default, skip_serializing_if = "Governs::is_both")]
    pub governs: Governs,
}

/// When a window begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Begins {
    /// Again and again.
    Every(Box<Every>),
    /// Once.
    At(At),
}

/// Whether a window allows or forbids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// What begins and ends in it is allowed.
    #[default]
    Window,
    /// What would overlap it is forbidden.
    Freeze,
}

/// What a window or freeze is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Governs {
    /// Runs alone.
    Runs,
    /// Restarts by the agent alone.
    Restarts,
    /// Both.
    #[default]
    Both,
}

/// What somebody wants to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// A run of a program.
    Run,
    /// A restart of the machine by the agent.
    Restart,
}

impl Effect {
    fn is_window(&self) -> bool {
        *self == Self::Window
    }

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Effect::Window => "window",
            Effect::Freeze => "freeze",
        }
    }
}

impl Governs {
    fn is_both(&self) -> bool {
        *self == Self::Both
    }

    fn covers(self, purpose: Purpose) -> bool {
        matches!(
            (self, purpose),
            (Governs::Both, _)
                | (Governs::Runs, Purpose::Run)
                | (Governs::Restarts, Purpose::Restart)
        )
    }
}

/// How long a run of `program` may take, to the end of its last process: what a window must have room
/// for. `grace` is the time between TERM and KILL where the program declares none.
pub fn room(program: &Program, grace: Duration) -> Duration {
    let grace = program.grace.map_or(grace, |declared| declared.duration());
    program.max_run_time.duration().saturating_add(grace)
}

/// The windows that `purpose` keeps to; empty means any time. A restart is the heavier thing: where no
/// window is about restarts, it keeps to those for runs.
pub fn windows_for(windows: &[Window], purpose: Purpose) -> Vec<&Window> {
    let about = |purpose: Purpose| -> Vec<&Window> {
        let covers = |one: &&Window| one.effect == Effect::Window && one.governs.covers(purpose);
        windows.iter().filter(covers).collect()
    };
    let found = about(purpose);
    if found.is_empty() { about(Purpose::Run) } else { found }
}

impl MaintenanceWindowSpec {
    /// The window as policies carry it; `None` if the spec has a fault.
    pub fn window(&self, name: &Name) -> Option<Window> {
        let begins = match (&self.every, self.at) {
            (Some(every), None) => Begins::Every(Box::new(every.clone())),
            (None, Some(at)) => Begins::At(at),
            _ => return None,
        };
        Some(Window {
            name: name.clone(),
            effect: self.effect,
            begins,
            duration: self.duration,
            time_zone: self.time_zone.clone(),
            governs: self.governs,
        })
    }

    /// Every fault of the spec that can be seen without other objects.
    pub fn check(&self) -> Vec<Problem> {
        let mut checks = Checks::new();
        checks.period("spec.duration", self.duration, DURATION_LEAST, DURATION_MOST);
        checks.that(
            self.every.is_some() != self.at.is_some(),
            "spec.every",
            "a window begins `at` a time or `every` so often: exactly one of the two",
        );
        checks.that(
            self.at != Some(At::Now),
            "spec.at",
            "`now` is no time that every machine agrees on; write it like 2027-01-31T08:00:00",
        );
        self.check_zone(&mut checks);
        let gap = self.every.as_ref().and_then(|every| every.shortest_gap(STARTS_CHECKED));
        if let Some(gap) = gap.filter(|gap| *gap < self.duration) {
            let detail = format!(
                "duration is {} but every recurs after {gap}: the window would overlap itself",
                self.duration
            );
            checks.that(false, "spec.duration", &detail);
        }
        checks.finish()
    }

    fn check_zone(&self, checks: &mut Checks) {
        let Some(name) = &self.time_zone else { return };
        if let Err(why) = named_zone(name) {
            checks.that(false, "spec.timeZone", &why.to_string());
        }
        let own = match (&self.every, self.at) {
            (Some(every), _) => match every.zone() {
                Clock::Floating => None,
                Clock::Utc => Some("every is in UTC (`Z`)".to_owned()),
                Clock::Zone(zone) => Some(format!("every has TZID={zone}")),
            },
            (None, Some(At::Instant(at))) => Some(format!("at is the instant {at}")),
            _ => None,
        };
        if let Some(own) = own {
            let detail =
                format!("timeZone is {name} but {own}: only one can say what clock is meant");
            checks.that(false, "spec.timeZone", &detail);
        }
    }
}

#[cfg(test)]
mod tests;
