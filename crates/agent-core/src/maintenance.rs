//! Maintenance: the agent looks at itself, says what it found, and mends what it can. It never touches
//! a run (law 6).
//!
//! ```text
//! verifyEvery, or a person -- Verify --> findings -- Body::Verified --> the site
//!                                          | faults that can be mended
//!                                          v
//!   Found -- in use --> InUse -- run over, or its deadline --> UnderWay --> (mended, forgotten)
//!     ^  \-------------------- not in use -------------------->/    \       once more: Verify
//!     +------------------ next verification ----------------- Failed
//! ```
//!
//! A verification only reads. A repair puts a new copy in the place of an old one; what a run uses is
//! left alone until the run is over, or for [`IN_USE_MOST`]: even then the run keeps the copy that it
//! has. Each step of a repair that people wait for is a message, and what is not mended yet is saved,
//! so a restart goes on with it.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_model::clock::{Elapsed, Wall};
use muster_model::component::Component;
use muster_model::digest::Digest;
use muster_model::message::{Body, RunId};
use muster_model::settings::Setting;
use muster_model::verification::{
    CHECKS_MAX, Check, Repair, RepairState, Verification, VerifiedBy,
};
use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::draft::Draft;
use crate::sometimes::Branch;
use crate::step::Effect;

/// How long a repair waits for a run that uses what is damaged: as long as an upgrade does, so that a
/// program without an end blocks neither.
pub const IN_USE_MOST: Duration = Duration::from_secs(24 * 3_600);
/// Faults that are mended at once: more than an agent has folders; damaged content beyond it is found
/// again by the next verification.
pub const FAULTS_MAX: usize = 64;
/// A verification by interval that found the same as the one before is said again after this: an
/// interval of a second must not fill the outbox.
const SAID_AGAIN_BY_INTERVAL: Duration = Duration::from_secs(3_600);
/// The same for one that a person asked for, who looks for it at the site.
const SAID_AGAIN_BY_PERSON: Duration = Duration::from_secs(60);
/// Before the site has told the time trusted time may jump, so a deadline is looked at again at least
/// so often.
const LOOK_MOST: Duration = Duration::from_secs(3_600);

/// Something that is not as it should be and that the agent can mend. Paths are relative to its folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// A folder of the agent is missing.
    FolderMissing {
        /// Which.
        folder: String,
    },
    /// Others than the agent may read or write a file or folder of it.
    Mode {
        /// Which.
        path: String,
    },
    /// Fetched content is damaged or missing.
    Content {
        /// The package's manifest.
        manifest: Digest,
    },
}

/// What a look at the agent came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// Every check, in a fixed order.
    pub checks: Vec<Check>,
    /// What of it the agent can mend.
    pub faults: Vec<Fault>,
}

/// What of maintenance outlives a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Maintenance {
    /// Since when the time to the next verification counts: the last one, or the first start. Trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted_from: Option<Wall>,
    /// What was said last of a verification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said: Option<Said>,
    /// What is not mended yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<RepairRecord>,
    /// Where the components stand, as was said last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<Component>,
}

impl Maintenance {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What was said of a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// When, in trusted time.
    pub at: Wall,
    /// The checks that failed, by name.
    pub failed: Vec<String>,
}

/// Something that is not mended yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepairRecord {
    /// What.
    pub fault: Fault,
    /// Where its repair stands.
    pub stage: RepairStage,
}

/// Where a repair stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "kebab-case")]
pub enum RepairStage {
    /// It was found.
    Found,
    /// A run uses what is damaged; that was said.
    InUse {
        /// The run.
        run: RunId,
        /// It is mended then at the latest, in trusted time.
        until: Wall,
    },
    /// It is being mended; asked for again after a restart.
    UnderWay,
    /// It could not be mended, which was said; the next verification finds it again.
    Failed,
}

/// Maintenance, as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MaintenanceView {
    /// When the site was last told of a verification, in trusted time, and which checks failed.
    pub verified: Option<Said>,
    /// When the next one by interval is due, in trusted time; `None`: never by itself.
    pub next: Option<Wall>,
    /// What is not mended yet, and what that waits for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<String>,
}

/// What of maintenance a restart forgets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Maintaining {
    /// The verification that is under way.
    verifying: Option<VerifiedBy>,
    /// A person asked for one.
    asked: bool,
    /// Repairs are over: whether they took is seen by one more.
    recheck: bool,
    /// What the last one was made for.
    verified_by: Option<VerifiedBy>,
    /// Repairs that the shell was asked for and has not answered.
    mending: BTreeSet<Fault>,
    /// The shell has said what is held still.
    pub(crate) told_paused: bool,
    /// A newer program than the one that runs lies on the disk.
    pub(crate) upgrade_waits: bool,
}

/// What a repair does next.
enum Next {
    Stay,
    Wait(RunId),
    Begin,
}

impl Fault {
    /// What is mended, for people.
    pub fn what(&self) -> String {
        match self {
            Fault::FolderMissing { folder } => format!("folder {folder}"),
            Fault::Mode { path } => format!("the permissions of {path}"),
            Fault::Content { manifest } => format!("content {}", manifest.short()),
        }
    }
}

impl RepairStage {
    fn next(self, user: Option<RunId>, trusted: Wall) -> Next {
        match (self, user) {
            (RepairStage::Found, Some(run)) => Next::Wait(run),
            (RepairStage::InUse { until, .. }, Some(_)) if until > trusted => Next::Stay,
            (RepairStage::Found | RepairStage::InUse { .. }, _) => Next::Begin,
            (RepairStage::UnderWay, _) => Next::Begin,
            (RepairStage::Failed, _) => Next::Stay,
        }
    }
}

impl Agent {
    /// A person at the device asks for a verification.
    pub(crate) fn verification_asked(&mut self) {
        self.maintaining.asked = true;
    }

    /// Looks whether a verification is due and what repairs do next.
    pub(crate) fn pump_maintenance(&mut self, draft: &mut Draft) {
        let trusted = self.trusted(draft.now);
        let from = &mut self.memory.maintenance.counted_from;
        // A clock that was ahead must not put the next one off.
        *from = Some(from.unwrap_or(trusted).min(trusted));
        if self.maintaining.verifying.is_none()
            && let Some(by) = self.verification_due(trusted)
        {
            self.maintaining.asked &= by != VerifiedBy::Person;
            self.maintaining.recheck = false;
            self.maintaining.verifying = Some(by);
            draft.effect(Effect::Verify);
        }
        let open: Vec<Fault> =
            self.memory.maintenance.repairs.iter().map(|record| record.fault.clone()).collect();
        for fault in open {
            self.pump_repair(draft, &fault, trusted);
        }
    }

    fn verification_due(&self, trusted: Wall) -> Option<VerifiedBy> {
        if self.maintaining.asked {
            return Some(VerifiedBy::Person);
        }
        if self.maintaining.recheck {
            return Some(VerifiedBy::Repair);
        }
        self.next_verification().filter(|due| *due <= trusted).map(|_| VerifiedBy::Interval)
    }

    /// When the next verification by interval is due, in trusted time; `None` if it is switched off.
    pub(crate) fn next_verification(&self) -> Option<Wall> {
        let every = self.interval(Setting::VerifyEvery)?;
        self.memory.maintenance.counted_from.map(|from| from.plus(every))
    }

    pub(crate) fn maintenance_view(&self) -> MaintenanceView {
        let line = |record: &RepairRecord| {
            let what = record.fault.what();
            match record.stage {
                RepairStage::Found | RepairStage::UnderWay => format!("{what}: under way"),
                RepairStage::InUse { run, until } => {
                    format!("{what}: waiting(in-use by run {run}, until {until})")
                }
                RepairStage::Failed => format!("{what}: failed; the next verification tries again"),
            }
        };
        MaintenanceView {
            verified: self.memory.maintenance.said.clone(),
            next: self.next_verification(),
            repairs: self.memory.maintenance.repairs.iter().map(line).collect(),
        }
    }

    /// When time alone changes something of maintenance next.
    pub(crate) fn maintenance_deadline(&self, now: Elapsed, trusted: Wall) -> Option<Elapsed> {
        let idle = self.maintaining.verifying.is_none();
        let verify = self.next_verification().filter(|_| idle);
        let untils =
            self.memory.maintenance.repairs.iter().filter_map(|record| match record.stage {
                RepairStage::InUse { until, .. } => Some(until),
                _ => None,
            });
        let next = verify.into_iter().chain(untils).min()?;
        Some(now.plus(next.since(trusted).min(LOOK_MOST)))
    }

    /// Takes what a look at the agent came to.
    pub(crate) fn verified(&mut self, draft: &mut Draft, findings: Findings) {
        let Some(by) = self.maintaining.verifying.take() else {
            return self.ignore("a verification that nobody asked for");
        };
        let trusted = self.trusted(draft.now);
        self.maintaining.verified_by = Some(by);
        self.memory.maintenance.counted_from = Some(trusted);
        draft.memory = true;
        let Findings { mut checks, faults } = findings;
        checks.truncate(CHECKS_MAX);
        let failed: Vec<String> =
            checks.iter().filter(|check| !check.ok).map(|check| check.name.clone()).collect();
        if !failed.is_empty() {
            self.fired.note(Branch::CheckFailed);
        }
        if self.is_worth_saying(by, &failed, trusted) {
            // One that gave way to outcomes is still worth saying.
            if self.say(draft, Body::Verified(Verification { by, checks })) {
                self.memory.maintenance.said = Some(Said { at: trusted, failed });
            }
        }
        self.take_faults(draft, faults);
    }

    fn is_worth_saying(&self, by: VerifiedBy, failed: &[String], trusted: Wall) -> bool {
        let Some(said) = &self.memory.maintenance.said else { return true };
        let again = match by {
            VerifiedBy::Interval | VerifiedBy::Repair => SAID_AGAIN_BY_INTERVAL,
            VerifiedBy::Person => SAID_AGAIN_BY_PERSON,
        };
        said.failed != failed || said.at > trusted || trusted.since(said.at) >= again
    }

    /// What was found anew is mended, what is under way goes on, and what is no longer found has been
    /// mended by somebody else.
    fn take_faults(&mut self, draft: &mut Draft, found: Vec<Fault>) {
        let found: BTreeSet<Fault> = found.into_iter().collect();
        let before = std::mem::take(&mut self.memory.maintenance.repairs);
        let mut repairs = Vec::new();
        for record in before {
            match record.stage {
                RepairStage::UnderWay => repairs.push(record),
                RepairStage::Failed if found.contains(&record.fault) => {
                    repairs.push(RepairRecord { stage: RepairStage::Found, ..record });
                }
                _ if found.contains(&record.fault) => repairs.push(record),
                RepairStage::Found => {}
                RepairStage::InUse { .. } | RepairStage::Failed => {
                    self.say_repair(draft, &record.fault, RepairState::Mended);
                }
            }
        }
        for fault in found {
            let known = repairs.iter().any(|record| record.fault == fault);
            if !known && repairs.len() < FAULTS_MAX {
                repairs.push(RepairRecord { fault, stage: RepairStage::Found });
            }
        }
        self.memory.maintenance.repairs = repairs;
    }

    fn pump_repair(&mut self, draft: &mut Draft, fault: &Fault, trusted: Wall) {
        let user = self.user_of(fault);
        let Some(record) = self.repair_mut(fault) else { return };
        match record.stage.next(user, trusted) {
            Next::Stay => {}
            Next::Wait(run) => {
                let until = trusted.plus(IN_USE_MOST);
                record.stage = RepairStage::InUse { run, until };
                self.fired.note(Branch::RepairWaits);
                self.say_repair(draft, fault, RepairState::InUse { run, until });
            }
            Next::Begin => {
                if record.stage != RepairStage::UnderWay {
                    record.stage = RepairStage::UnderWay;
                    draft.memory = true;
                }
                self.mend(draft, fault);
            }
        }
    }

    fn mend(&mut self, draft: &mut Draft, fault: &Fault) {
        match fault {
            Fault::Content { manifest } => self.mend_content(draft, fault, *manifest),
            Fault::FolderMissing { .. } | Fault::Mode { .. } => {
                if self.maintaining.mending.insert(fault.clone()) {
                    draft.effect(Effect::Repair(fault.clone()));
                }
            }
        }
    }

    /// Content is mended by fetching what is damaged of it again; content that nothing needs any more
    /// goes, and its damage with it.
    fn mend_content(&mut self, draft: &mut Draft, fault: &Fault, manifest: Digest) {
        let asked = !self.maintaining.mending.insert(fault.clone());
        match self.is_here(&manifest) {
            None => self.repair_over(draft, fault),
            Some(true) if asked => self.repair_over(draft, fault),
            Some(true) => self.fetch_again(draft, manifest),
            Some(false) => {}
        }
    }

    /// Takes what became of a repair.
    pub(crate) fn repaired(&mut self, draft: &mut Draft, fault: &Fault, failed: Option<String>) {
        let under_way = self.maintaining.mending.contains(fault);
        match (under_way, failed) {
            (false, _) => self.ignore("a repair that nobody asked for"),
            (true, None) => self.repair_over(draft, fault),
            (true, Some(why)) => {
                self.maintaining.mending.remove(fault);
                if let Some(record) = self.repair_mut(fault) {
                    record.stage = RepairStage::Failed;
                }
                self.say_repair(draft, fault, RepairState::Failed { why });
            }
        }
    }

    fn repair_over(&mut self, draft: &mut Draft, fault: &Fault) {
        self.fired.note(Branch::Mended);
        self.maintaining.mending.remove(fault);
        self.memory.maintenance.repairs.retain(|record| record.fault != *fault);
        self.say_repair(draft, fault, RepairState::Mended);
        // One that follows repairs asks for no other: what comes back again and again makes no loop.
        self.maintaining.recheck = self.memory.maintenance.repairs.is_empty()
            && self.maintaining.verified_by != Some(VerifiedBy::Repair);
    }

    fn repair_mut(&mut self, fault: &Fault) -> Option<&mut RepairRecord> {
        self.memory.maintenance.repairs.iter_mut().find(|record| record.fault == *fault)
    }

    fn say_repair(&mut self, draft: &mut Draft, fault: &Fault, state: RepairState) {
        self.say(draft, Body::Repair(Repair { what: fault.what(), state }));
    }

    /// A run that is not over and uses what is to be mended: its package's content, or the folder that
    /// its own lies in.
    fn user_of(&self, fault: &Fault) -> Option<RunId> {
        let uses = |manifest: &Digest| match fault {
            Fault::Content { manifest: damaged } => manifest == damaged,
            Fault::FolderMissing { folder: path } | Fault::Mode { path } => path == "runs",
        };
        let under_way = self
            .runs
            .values()
            .filter(|run| self.run_of(&run.key).is_some_and(|now| now.run == run.run));
        under_way.filter(|run| uses(&run.manifest)).map(|run| run.run).next()
    }
}

#[cfg(test)]
mod tests;
