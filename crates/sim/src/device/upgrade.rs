//! A device whose agent is another version from one start to the next: releases that are laid out, on
//! trial under the eyes of the version before, passed or given up. Which of them stands is as durable as
//! a file that is replaced by rename.

use std::time::Duration;

use muster_agent_core::input::Input;
use muster_agent_core::saved::{Key, Stage};
use muster_agent_core::step::Write;
use muster_agent_core::upgrade::ReleaseNews;
use muster_agent_core::versions::{Event as Change, Footing, Phase, Release};
use muster_model::digest::Digest;
use muster_model::period::Period;
use muster_model::policy::{Offer, PinnedPackage};
use muster_model::state::Waiting;

use super::Device;
use super::shell::Cut;
use crate::core::{Core, Moment, Node};
use crate::event::Event;
use crate::hours::Watch;
use crate::scenario::{MINUTE, SECOND};
use crate::sometimes::Rare;
use crate::upgrades::ReleaseDeed;

/// The version that was installed.
pub(super) const INSTALLED: &str = "1.0.0";

impl Device {
    /// Which version a process that is being started is; `None` if it is a release that is no agent.
    pub(super) fn footing_at_start(&mut self, core: &mut Core) -> Option<Footing> {
        self.versions = self.versions.clone().next(Change::Start);
        let current = self.versions.current.as_ref().map(|release| release.manifest);
        let Phase::OnTrial { release, trial, starts } = &self.versions.phase else {
            return Some(self.versions.footing(current, INSTALLED));
        };
        let (manifest, trial, starts) = (release.manifest, trial.duration(), *starts);
        core.note(self.node(), format_args!("release {} is on trial", manifest.short()));
        let deed = core.scenario.release(manifest).unwrap_or(ReleaseDeed::Works);
        match deed {
            ReleaseDeed::Ends => {
                core.queue.after(SECOND, Event::AgentStarts { device: self.index });
            }
            _ => self.watch_trial(core, manifest, starts, trial),
        }
        let runs = matches!(deed, ReleaseDeed::Works | ReleaseDeed::Deaf);
        runs.then(|| self.versions.footing(Some(manifest), INSTALLED))
    }

    /// Whether what this process asks is never answered.
    pub(super) fn is_deaf(&self, core: &Core) -> bool {
        let Phase::OnTrial { release, .. } = &self.versions.phase else { return false };
        core.scenario.release(release.manifest) == Some(ReleaseDeed::Deaf)
    }

    fn watch_trial(&self, core: &mut Core, manifest: Digest, starts: u32, trial: Duration) {
        let trial = u64::try_from(trial.as_millis()).unwrap_or(MINUTE);
        let event = Event::TrialOver { device: self.index, manifest, starts };
        core.queue.after(trial, event);
    }

    /// A release has had its time, if this is still the same start of it.
    pub(crate) fn trial_over(&mut self, core: &mut Core, manifest: Digest, starts: u32) {
        let Phase::OnTrial { release, starts: now, .. } = &self.versions.phase else { return };
        if release.manifest != manifest || *now != starts || !self.machine.on {
            return;
        }
        // Without a network nobody would have reached the site.
        if !core.connected(self.node(), Node::Site) {
            return self.watch_trial(core, manifest, starts, Duration::from_secs(60));
        }
        core.note(self.node(), format_args!("release {} is given up", manifest.short()));
        let why = "it did not reach the site".to_owned();
        self.versions = self.versions.clone().next(Change::GaveUp { why });
        self.exchange(core);
    }

    /// Another version takes the place of this process.
    fn exchange(&mut self, core: &mut Core) {
        if let Some(process) = self.process.take() {
            self.remember_branches(core, &process.agent);
            self.free_locks_of(process.number);
        }
        let delay = core.dice.spread(100, 2 * SECOND);
        core.queue.after(delay, Event::AgentStarts { device: self.index });
    }

    /// No release is taken up outside a window or in a freeze, but in an emergency or because a user asked.
    pub(super) fn check_upgrades_begin(&self, core: &mut Core, writes: &[Write]) {
        let durable = self.journal.durable();
        let arrived = writes.iter().find_map(|write| match write {
            Write::Policy(policy) => Some(&**policy),
            _ => None,
        });
        let Some(policy) = arrived.or(durable.policy.as_ref()) else { return };
        let is_upgrading = |key: &Key| {
            durable.obligations.get(key).is_some_and(|known| known.stage == Stage::Upgrading)
        };
        for write in writes {
            let Write::Obligation(record) = write else { continue };
            if record.stage != Stage::Upgrading || is_upgrading(&record.key) || record.user.asked {
                continue;
            }
            let of_it = |offer: &&Offer| offer.advertisement == record.key.advertisement;
            let offer = policy.advertisements.iter().find(of_it);
            if offer.is_none_or(|offer| offer.emergency) {
                continue;
            }
            let (now, none) = (self.clocks(core), Duration::ZERO);
            let Some(agent) = self.agent() else { return };
            let trusted = (agent.view(now).trusted_time, now.elapsed);
            let watch = Watch::new(&core.truth.hours, &policy.windows, trusted, none, self.index);
            match watch.broken(now.elapsed) {
                Some(at) => {
                    let found = format!("{}: {} is taken up at {at}", self.name, record.name);
                    core.violated("windows are kept", found);
                }
                None if watch.is_bound() => core.seen.world(Rare::UpgradedInWindow),
                None => {}
            }
        }
    }

    /// Lays a release out and gives it its trial.
    pub(super) fn take_up(
        &mut self,
        core: &mut Core,
        package: PinnedPackage,
        trial: Period,
    ) -> Result<(), Cut> {
        let manifest = package.manifest;
        if core.hindered() {
            let (wait, why) = (Some(Waiting::Disk), "no room".to_owned());
            let news = ReleaseNews::NotTaken { wait, why };
            self.later(core, Input::Release { manifest, news });
            return Ok(());
        }
        let over = INSTALLED.to_owned();
        let release = Release { manifest, version: package.version, program: manifest, over };
        self.change_version(core, Change::Begin { release, trial })?;
        self.exchange(core);
        Err(Cut)
    }

    /// The release that runs has reached the site.
    pub(super) fn trial_passed(&mut self, core: &mut Core, manifest: Digest) -> Result<(), Cut> {
        self.change_version(core, Change::Passed { manifest })?;
        self.later(core, Input::Release { manifest, news: ReleaseNews::Passed });
        Ok(())
    }

    /// That the version before is back has been said.
    pub(super) fn return_told(&mut self, core: &mut Core, manifest: Digest) -> Result<(), Cut> {
        self.change_version(core, Change::Told { manifest })
    }

    fn change_version(&mut self, core: &mut Core, change: Change) -> Result<(), Cut> {
        let crash = core.crash_at_write();
        if !matches!(crash, Some((_, Moment::Before))) {
            self.versions = self.versions.clone().next(change);
        }
        match crash {
            Some((crash, _)) => {
                self.crash(core, crash);
                Err(Cut)
            }
            None => Ok(()),
        }
    }
}
