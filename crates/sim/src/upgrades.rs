//! Worlds in which the agents themselves are upgraded: releases that work, and some that end, hang or
//! never hear the site, among programs that run for hours, under windows, with crashes and power cuts at any
//! point, disks that are copied and put back, journals that are lost, and a site that is restored.
//!
//! Q322967: an upgrade that waits for what is in use for as long as it is in use never happens.

use std::collections::BTreeMap;

use muster_agent_core::saved::Key;
use muster_agent_core::versions::Phase;
use muster_model::digest::Digest;
use muster_model::policy::PinnedPackage;
use muster_model::release::AgentRelease;
use muster_model::settings::{Setting, Settings};
use muster_model::state::{EvidenceKind, State, Waiting};

use crate::core::Core;
use crate::device::Device;
use crate::dice::Dice;
use crate::kind::Kind;
use crate::queue::Time;
use crate::scenario::{Deed, Faults, HOUR, MINUTE, SECOND, Scenario, Software, known_name};

/// Longer than a release waits, and short enough for a world: how long the long program runs.
const LONG_RUN: Time = 5 * HOUR;
/// What the long program needs of a window: its time, and more than the longest grace.
pub(crate) const ROOM: Time = LONG_RUN + 5 * MINUTE;
/// What may come on top of `upgradeWait`: a trial that is under way, a machine that is off.
const WAIT_MORE: Time = HOUR;

/// What a release does when it is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReleaseDeed {
    /// It is an agent.
    Works,
    /// It is one, but nothing that it asks is ever answered.
    Deaf,
    /// It does nothing, and goes on with that.
    Hangs,
    /// It ends at once.
    Ends,
}

/// What is kept to hold the world to its upgrades.
#[derive(Default)]
pub(crate) struct Upgrades {
    /// Since when an upgrade has waited for a run or a restart.
    waiting: BTreeMap<(usize, Key), Time>,
}

/// A long program, something ordinary, and three releases.
pub(crate) fn software(dice: &mut Dice) -> Vec<Software> {
    let mut long = Software::draw(dice, 1);
    long.program.max_run_time = muster_model::period::Period::millis(LONG_RUN);
    long.program.rerun = muster_model::package::Rerun::Never;
    long.program.attempts = None;
    long.program.requirements = String::new();
    long.refused = None;
    long.endings = vec![Deed::Hangs];
    let ordinary = Software::draw(dice, 2);
    let release = |n: u64, deed| {
        let name = format!("software-{n}");
        Software {
            package: PinnedPackage {
                manifest: Digest::of(name.as_bytes()),
                version: format!("1.{n}"),
                name: known_name(&name),
                signatures: Vec::new(),
            },
            refused: None,
            supersedes: Vec::new(),
            program: AgentRelease::program(),
            detection: None,
            detection_error_per_mille: 0,
            endings: vec![Deed::Works],
            release: Some(deed),
            uninstall: None,
        }
    };
    let broken = [ReleaseDeed::Deaf, ReleaseDeed::Hangs, ReleaseDeed::Ends];
    let broken = *dice.pick(&broken).unwrap_or(&ReleaseDeed::Deaf);
    let last = *dice.pick(&[ReleaseDeed::Works, broken]).unwrap_or(&broken);
    vec![long, ordinary, release(3, ReleaseDeed::Works), release(4, broken), release(5, last)]
}

/// Upgrades come in hours.
pub(crate) fn settings(dice: &mut Dice, settings: &mut Settings) {
    let mut set = |setting: Setting, choices: &[Time]| {
        let period = dice.pick(choices).copied().unwrap_or(MINUTE);
        // A value out of range would leave the default, which is as good a world.
        let _ = settings.set(setting.name(), muster_model::period::Period::millis(period));
    };
    set(Setting::UpgradeWait, &[30 * MINUTE, HOUR]);
    set(Setting::UpgradeTrial, &[2 * MINUTE, 10 * MINUTE]);
}

/// Crashes and power cuts at every point, a network that is sometimes away, and memories that are not what
/// they were.
pub(crate) fn faults(dice: &mut Dice) -> Faults {
    let mut some = |every: Time| if dice.per_mille(250) { every } else { 0 };
    let (restore_every, memory_loss_every) = (some(6 * HOUR), some(6 * HOUR));
    let (roll_back_every, clone_every) = (some(2 * HOUR), some(6 * HOUR));
    let clock_jump_every = some(4 * HOUR);
    Faults {
        restore_every,
        memory_loss_every,
        roll_back_every,
        clone_every,
        clock_jump_every,
        crash_per_mille: *dice.pick(&[0, 2, 10]).unwrap_or(&0),
        power_cut_per_mille: *dice.pick(&[200, 600]).unwrap_or(&200),
        outage_every: 2 * HOUR,
        outage_most: MINUTE,
        partition_every: 3 * HOUR,
        partition_most: 5 * MINUTE,
        hindrance_per_mille: *dice.pick(&[0, 100]).unwrap_or(&0),
        slowness_most: 10 * SECOND,
        ..Faults::of_the_network(dice)
    }
}

impl Scenario {
    /// What the release with this manifest does when it is started.
    pub(crate) fn release(&self, manifest: Digest) -> Option<ReleaseDeed> {
        self.software.iter().find(|one| one.package.manifest == manifest)?.release
    }
}

impl Upgrades {
    /// Holds a device to what an upgrade may never do.
    pub(crate) fn observe(&mut self, core: &mut Core, device: &Device) {
        if core.scenario.kind != Kind::Upgrades {
            return;
        }
        self.hold_to_the_truth(core, device);
        if let Some(current) = &device.versions.current
            && core.scenario.release(current.manifest) != Some(ReleaseDeed::Works)
        {
            let found = format!("{}: {} stands", device.name, current.version);
            core.violated("a release that does not work never stands", found);
        }
    }

    fn hold_to_the_truth(&mut self, core: &mut Core, device: &Device) {
        let most = core.scenario.settings.get(Setting::UpgradeWait).duration().as_millis();
        let most = Time::try_from(most).unwrap_or(HOUR) + WAIT_MORE;
        for record in device.journal.durable().obligations.values() {
            // Without a package it is what an account told: it was looked at when it was written.
            let Some(package) = &record.package else { continue };
            let deed = core.scenario.release(package.manifest);
            if has_reached(&record.reported) && deed != Some(ReleaseDeed::Works) {
                let found = format!("{}: {} of {deed:?}", device.name, record.name);
                return core.violated("what reached the site works", found);
            }
            let in_use = matches!(
                record.reported,
                State::Waiting { why: Waiting::Turn | Waiting::Restart, .. }
            );
            let place = (device.index, record.key.clone());
            if !(deed.is_some() && in_use) {
                self.waiting.remove(&place);
                continue;
            }
            let since = *self.waiting.entry(place).or_insert(core.now());
            if core.now() - since > most {
                let found = format!("{}: {} still {}", device.name, record.name, record.reported);
                return core.violated("an upgrade does not wait for ever", found);
            }
        }
    }
}

fn has_reached(state: &State) -> bool {
    matches!(state, State::Succeeded { evidence } if evidence.rule == EvidenceKind::ReachedSite)
}

/// A trial that has not come to its end, on whatever device, if there is any.
pub(crate) fn unfinished(devices: &[Device]) -> Option<String> {
    let on_trial = devices.iter().find(|device| device.versions.phase != Phase::Settled)?;
    Some(format!("{}: {:?}", on_trial.name, on_trial.versions.phase))
}
