//! Verification: what an agent found when it looked at itself, and what became of what it mends.
//!
//! A verification only reads: it stops nothing, restarts nothing, locks nobody out (law 6). What it
//! found is a message, and so is each step of a repair. Made on the device by the agent or by hand;
//! shown by `agent verify`, `messages` and the site at the device.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Wall;
use crate::message::RunId;

/// Checks in one verification: those that there are, and a few to come.
pub const CHECKS_MAX: usize = 16;
/// What a check says and what it advises, in bytes each: a path and a sentence. JSON writes a control
/// character as six bytes, and the largest verification stays below 50 of a message's 64 KiB.
pub const CHECK_TEXT_BYTES_MAX: usize = 256;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// What it was made for.
    pub by: VerifiedBy,
    /// Every check, in a fixed order.
    pub checks: Vec<Check>,
}

/// What a verification is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerifiedBy {
    /// The setting `verifyEvery`.
    Interval,
    /// A person at the device.
    Person,
    /// Repairs that are over: whether they took.
    Repair,
}

/// One look at one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at: a word. A newer agent may know others.
    pub name: String,
    /// It is as it should be.
    pub ok: bool,
    /// What was found, for people; at most [`CHECK_TEXT_BYTES_MAX`].
    pub detail: String,
    /// What to do about it; empty if nothing is to be done. At most [`CHECK_TEXT_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

/// A repair, as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// What is mended, for people.
    pub what: String,
    /// Where the repair stands.
    #[serde(flatten)]
    pub state: RepairState,
}

/// Where a repair stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum RepairState {
    /// A run uses what is to be mended: `waiting(in-use)`.
    InUse {
        /// The run.
        run: RunId,
        /// It is mended then at the latest, in trusted time, beside the run.
        until: Wall,
    },
    /// It is as it should be again, or nothing needs it any more.
    Mended,
    /// It could not be mended; the next verification tries again.
    Failed {
        /// Why.
        why: String,
    },
}

impl Verification {
    /// Whether everything is as it should be.
    pub fn is_ok(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed: Vec<String> = self
            .checks
            .iter()
            .filter(|check| !check.ok)
            .map(|check| format!("{} ({})", check.name, check.detail))
            .collect();
        match failed.as_slice() {
            [] => f.write_str("verified: all well"),
            some => {
                let (few, all) = (some.len(), self.checks.len());
                write!(f, "verified: {few} of {all} checks failed: {}", some.join(", "))
            }
        }
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = &self.what;
        match &self.state {
            RepairState::InUse { run, until } => {
                write!(f, "repair of {what}: waiting(in-use by run {run}, until {until})")
            }
            RepairState::Mended => write!(f, "repair of {what}: mended"),
            RepairState::Failed { why } => write!(f, "repair of {what}: failed: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, ok: bool) -> Check {
        Check { name: name.into(), ok, detail: format!("{name} seen"), remedy: String::new() }
    }

    #[test]
    fn the_sentence_names_what_failed() {
        let mut found =
            Verification { by: VerifiedBy::Interval, checks: vec![check("disk", true)] };
        assert!(found.is_ok());
        assert_eq!(found.to_string(), "verified: all well");
        found.checks.push(check("clock", false));
        assert!(!found.is_ok());
        assert_eq!(found.to_string(), "verified: 1 of 2 checks failed: clock (clock seen)");
    }

    #[test]
    fn a_repair_reads_back_as_written() {
        let run = RunId(crate::digest::Digest::of(b"run"));
        for state in [
            RepairState::InUse { run, until: Wall(7) },
            RepairState::Mended,
            RepairState::Failed { why: "no room".into() },
        ] {
            let repair = Repair { what: "content abc".into(), state };
            let json = serde_json::to_string(&repair).unwrap();
            assert_eq!(serde_json::from_str::<Repair>(&json).unwrap(), repair, "{json}");
        }
    }
}
