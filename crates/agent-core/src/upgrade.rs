//! The agent's own upgrade: the way of an obligation whose package is an agent release.
//!
//! ```text
//! Idle, Fetching, ... as any other (gates, content, time, windows)
//!   |                              running already ----------------> succeeded(already-present)
//!   |                              older, not signed as a downgrade -> not-applicable(newer-present)
//!   |  runs, a restart is near: Holding, `upgradeWait` at most
//!   v
//! Upgrading -- TakeUp: laid out, given a trial, this process ends --> another version starts
//!   |  the footing says that the release runs, and the site has answered it -> succeeded(reached-site)
//!   |  the footing says that the version before is back                     -> failed(returned)
//! ```
//!
//! No run is touched: supervisors outlive the agent, whichever version it is. That runs are waited for
//! at all is courtesy, and ends after a day, so that neither a program without an end nor a locked
//! file keeps a device on an old version for ever. Which version stands is the shell's
//! [`Versions`](crate::versions::Versions); the machine learns it once per start, so a power cut
//! anywhere is the same as a start.

use std::time::Duration;

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::period::Period;
use muster_model::policy::PinnedPackage;
use muster_model::release::AgentRelease;
use muster_model::settings::Setting;
use muster_model::state::{Evidence, EvidenceKind, NotApplicable, Rule, State, Waiting};

use crate::agent::Agent;
use crate::draft::Draft;
use crate::obligation::{Move, Standing};
use crate::outcome::failed;
use crate::report::Told;
use crate::saved::{Key, ObligationRecord, Stage};
use crate::sometimes::Branch;
use crate::step::Effect;
use crate::versions::Footing;

/// What of upgrades a restart forgets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upgrading {
    /// Which version runs.
    pub(crate) footing: Footing,
    /// The site has answered a poll of this process, under its signature.
    pub(crate) heard: bool,
    /// The shell was asked to take this release up and has not answered.
    asked: Option<Digest>,
    /// The shell was told that the trial is passed.
    passed: bool,
}

/// What the shell says about a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleaseNews {
    /// The trial is over, durably: the release stands.
    Passed,
    /// It could not be taken up.
    NotTaken {
        /// The reason to wait (disk, content), or `None` if it can never work.
        wait: Option<Waiting>,
        /// What happened, for people.
        why: String,
    },
}

/// What becomes of a release that is being taken up.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    /// It is to be taken up.
    TakeUp,
    /// It runs, and has yet to reach the site.
    OnTrial,
    /// It has.
    Stands,
    /// It has not.
    Returned(String),
}

fn outcome(footing: &Footing, manifest: Digest) -> Outcome {
    match &footing.returned {
        Some((returned, why)) if *returned == manifest => Outcome::Returned(why.clone()),
        _ if footing.release != Some(manifest) => Outcome::TakeUp,
        _ if footing.on_trial => Outcome::OnTrial,
        _ => Outcome::Stands,
    }
}

/// What an obligation for a release does next, once its time has come and a window is open.
pub(crate) fn next_of_release(standing: &Standing<'_>, release: &AgentRelease) -> Move {
    let Some(package) = &standing.record.package else { return Move::Stay };
    let footing = standing.footing;
    if footing.release == Some(package.manifest) || footing.version == package.version {
        let evidence = Evidence { rule: EvidenceKind::AlreadyPresent, exit_code: None };
        return Move::End(State::Succeeded { evidence });
    }
    if release.refuses(&footing.version, &package.version) {
        return Move::Rest(State::NotApplicable { why: NotApplicable::NewerPresent });
    }
    if let Stage::Holding { why, until } = &standing.record.stage
        && !matches!(why, Waiting::Turn | Waiting::Restart | Waiting::Outbox)
        && *until > standing.trusted
    {
        return Move::Stay;
    }
    if footing.on_trial {
        return Move::Hold(Waiting::Turn);
    }
    let another = standing.others.values().any(|other| other.stage == Stage::Upgrading);
    if another {
        return Move::Hold(Waiting::Turn);
    }
    if !standing.outbox_room {
        return Move::Hold(Waiting::Outbox);
    }
    let why = match (standing.restart_near, standing.turn_free) {
        (true, _) => Waiting::Restart,
        (false, false) => Waiting::Turn,
        (false, true) => return Move::Upgrade,
    };
    let since = standing.record.times.in_use_since.unwrap_or(standing.trusted);
    let until = since.min(standing.trusted).plus(standing.upgrade_wait);
    #[cfg(feature = "planted")]
    let until = if standing.planted.upgrade_waits_for_ever { Wall(i64::MAX) } else { until };
    match until <= standing.trusted {
        true => Move::Upgrade,
        false => Move::InUse { why, until },
    }
}

impl ObligationRecord {
    /// Whether its upgrade waits for a run or a restart.
    pub(crate) fn waits_to_upgrade(&self) -> bool {
        let waits =
            matches!(self.stage, Stage::Holding { why: Waiting::Turn | Waiting::Restart, .. });
        waits && self.times.in_use_since.is_some()
    }
}

impl Agent {
    /// The machine on the version that runs, before its first input.
    #[must_use]
    pub fn standing_on(mut self, footing: Footing) -> Agent {
        self.upgrading.footing = footing;
        self
    }

    /// Says once more how long an upgrade waits for what is under way.
    pub(crate) fn wait_in_use(&mut self, draft: &mut Draft, key: &Key, why: Waiting, until: Wall) {
        let trusted = self.trusted(draft.now);
        let Some(record) = self.obligations.get_mut(key) else { return };
        if record.times.in_use_since.is_none() {
            self.fired.note(Branch::UpgradeWaits);
        }
        // A clock that was ahead must not put it off.
        let since = record.times.in_use_since.unwrap_or(trusted).min(trusted);
        if record.times.in_use_since.replace(since) != Some(since) {
            draft.obligations.insert(key.clone());
        }
        self.set_stage(draft, key, Stage::Holding { why, until });
        self.report(draft, key, State::Waiting { why, until: Some(until) }, Told::default());
    }

    /// The release is taken up: said and saved before anything is done.
    pub(crate) fn upgrade(&mut self, draft: &mut Draft, key: &Key) {
        let Some(record) = self.obligations.get_mut(key) else { return };
        record.attempts += 1;
        record.times.in_use_since = None;
        let attempt = record.attempts;
        draft.obligations.insert(key.clone());
        self.fired.note(Branch::Upgraded);
        self.set_stage(draft, key, Stage::Upgrading);
        self.report(draft, key, State::Running { attempt }, Told::default());
    }

    /// Sees what becomes of a release that is being taken up.
    pub(crate) fn pump_upgrade(&mut self, draft: &mut Draft) {
        self.pass_trial(draft);
        let under_way = |record: &&ObligationRecord| record.stage == Stage::Upgrading;
        let open: Vec<(Key, Option<PinnedPackage>)> = self
            .obligations
            .values()
            .filter(under_way)
            .map(|record| (record.key.clone(), record.package.clone()))
            .collect();
        for (key, package) in open {
            if let Some(package) = package {
                self.pump_release(draft, &key, package);
            }
        }
        if let Some((manifest, _)) = self.upgrading.footing.returned.take() {
            draft.effect(Effect::ReturnTold(manifest));
        }
    }

    fn pump_release(&mut self, draft: &mut Draft, key: &Key, package: PinnedPackage) {
        match outcome(&self.upgrading.footing, package.manifest) {
            Outcome::TakeUp if self.upgrading.asked.is_none() => {
                if self.is_here(&package.manifest) != Some(true) {
                    return self.refetch(draft, key, &package);
                }
                self.upgrading.asked = Some(package.manifest);
                let trial = Period::of(self.setting(Setting::UpgradeTrial));
                draft.effect(Effect::TakeUp { package, trial });
            }
            Outcome::TakeUp | Outcome::OnTrial => {}
            Outcome::Stands => {
                self.fired.note(Branch::ReachedSite);
                let evidence = Evidence { rule: EvidenceKind::ReachedSite, exit_code: None };
                self.end(draft, key, State::Succeeded { evidence }, Told::default());
            }
            Outcome::Returned(why) => {
                self.fired.note(Branch::Returned);
                let state = failed(Rule::Returned, None, why);
                self.end(draft, key, state, Told::default());
            }
        }
    }

    /// Its content went while it was being taken up: it begins again, and the attempt does not count.
    fn refetch(&mut self, draft: &mut Draft, key: &Key, package: &PinnedPackage) {
        self.want_content(draft, package);
        self.take_back(draft, key);
    }

    fn take_back(&mut self, draft: &mut Draft, key: &Key) {
        if let Some(record) = self.obligations.get_mut(key) {
            record.uncounted += 1;
            draft.obligations.insert(key.clone());
        }
        self.set_stage(draft, key, Stage::Idle);
    }

    /// The site has answered the release that is on trial.
    fn pass_trial(&mut self, draft: &mut Draft) {
        let Footing { release: Some(manifest), on_trial: true, .. } = self.upgrading.footing else {
            return;
        };
        if self.upgrading.heard && !self.upgrading.passed {
            self.upgrading.passed = true;
            draft.effect(Effect::TrialPassed(manifest));
        }
    }

    /// Takes what the shell says about a release.
    pub(crate) fn release_news(&mut self, draft: &mut Draft, manifest: Digest, news: ReleaseNews) {
        match news {
            ReleaseNews::Passed if self.upgrading.footing.release == Some(manifest) => {
                self.upgrading.footing.on_trial = false;
            }
            ReleaseNews::NotTaken { wait, why } if self.upgrading.asked == Some(manifest) => {
                self.upgrading.asked = None;
                self.not_taken(draft, manifest, wait, why);
            }
            _ => self.ignore("news of a release that nobody asked for"),
        }
    }

    fn not_taken(
        &mut self,
        draft: &mut Draft,
        manifest: Digest,
        wait: Option<Waiting>,
        why: String,
    ) {
        let is = |record: &&ObligationRecord| {
            let package = record.package.as_ref();
            record.stage == Stage::Upgrading && package.is_some_and(|one| one.manifest == manifest)
        };
        let Some(key) = self.obligations.values().find(is).map(|record| record.key.clone()) else {
            return self.ignore("a release that nobody takes up");
        };
        match wait {
            Some(wait) => {
                self.take_back(draft, &key);
                self.hold(draft, &key, wait);
            }
            None => self.end(draft, &key, failed(Rule::NotStarted, None, why), Told::default()),
        }
    }

    /// Polls of a release on trial are answered at once: its trial is shorter than a poll may be held.
    pub(crate) fn is_on_trial(&self) -> bool {
        self.upgrading.footing.on_trial && !self.upgrading.heard
    }

    pub(crate) fn upgrade_wait(&self) -> Duration {
        self.setting(Setting::UpgradeWait)
    }
}

#[cfg(test)]
mod tests;
