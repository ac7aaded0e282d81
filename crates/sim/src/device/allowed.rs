//! What must not start or be executed again, judged from the side: by the policy that is durable on the device, and by when
//! the world knows that the device last heard its site.

use muster_agent_core::input::Ending;
use muster_agent_core::step::Launch;
use muster_model::advertisement::OfflineFor;
use muster_model::digest::Digest;
use muster_model::package::Program;

use super::Device;
use super::hazard::is_copied;
use crate::core::Core;
use crate::truth::Execution;

impl Device {
    /// Nothing is armed that the policy at hand does not offer, that somebody ordered to hold still, or
    /// that the site's silence forbids.
    pub(super) fn check_allowed(&self, core: &mut Core, launch: &Launch) {
        let durable = self.journal.durable();
        let Some(policy) = &durable.policy else { return };
        let mut offers = policy.advertisements.iter();
        let offer = offers.find(|offer| offer.advertisement == launch.key.advertisement);
        let silent = self.heard.map(|heard| core.now().saturating_sub(heard));
        let stale = |most: OfflineFor| match most {
            OfflineFor::Unlimited => false,
            OfflineFor::AtMost(most) => {
                silent.is_some_and(|silent| u128::from(silent) > most.duration().as_millis())
            }
        };
        let against = match offer {
            None => Some("it is not offered"),
            Some(_) if policy.held.is_some() => Some("the device is held"),
            Some(_) if policy.halted.is_some() => Some("everything is halted"),
            Some(offer) if offer.stopped.is_some() => Some("it is stopped"),
            Some(offer) if offer.revoked.is_some() => Some("its package is revoked"),
            Some(offer) if stale(offer.offline_for) => Some("the site was silent for too long"),
            Some(_) => None,
        };
        if let Some(why) = against {
            let found = format!("{}: run {} is armed, but {why}", self.name, launch.run);
            core.violated("nothing starts against an order", found);
        }
    }

    /// One execution per run; one in all where the publisher allows no second.
    pub(super) fn check_execution(&self, core: &mut Core) {
        if is_copied(core, self.id) {
            return;
        }
        let Some(newest) = core.truth.executions.last().cloned() else { return };
        if core.truth.of_run(newest.run) > 1 {
            let found = format!("{}: run {} is executed twice", self.name, newest.run);
            core.violated("one execution per attempt", found);
        }
        let destroyed = core.truth.destroyed.contains(&(self.index, newest.key.clone()));
        // An edit may move an obligation to another package: that one was not executed before.
        let same = core.truth.of_obligation(self.index, &newest.key);
        let is_same = |one: &&Execution| one.manifest == newest.manifest && one.user == newest.user;
        let same: Vec<&Execution> = same.filter(is_same).collect();
        let before = same.iter().filter(|one| !one.idle).count();
        let served = same.iter().any(|one| one.ended == Some(Ending::Exited { code: 0 }));
        if newest.user.is_some() && served && !destroyed {
            let found = format!("{}: {:?} once more", self.name, newest.user);
            core.violated("each user is served once", found);
        }
        if newest.rerun == muster_model::package::Rerun::Never && before > 1 && !destroyed {
            let found = format!("{}: {:?} is executed again", self.name, newest.key.occurrence);
            core.violated("`never` is executed at most once", found);
        }
        let durable = self.journal.durable();
        let counted = durable.obligations.get(&newest.key).map_or(0, |record| record.attempts);
        // A lost journal counts nothing; the site has what it knew, and the last look compares.
        let lost = core.truth.lost_streams.keys().any(|(device, _)| *device == self.id);
        if counted < newest.attempt && !destroyed && !lost {
            let found = format!(
                "{}: attempt {} is executed, {counted} are recorded",
                self.name, newest.attempt
            );
            core.violated("executions at most attempts", found);
        }
    }

    /// Nothing is taken off that was not executed for the same advertisement before: what somebody else
    /// installed stays.
    pub(super) fn check_removal(&self, core: &mut Core) {
        let Some(newest) = core.truth.executions.last() else { return };
        if !newest.key.occurrence.is_removal() || is_copied(core, self.id) {
            return;
        }
        let mut before = core.truth.executions.iter().filter(|one| {
            one.device == self.index
                && one.manifest == newest.manifest
                && one.key.advertisement == newest.key.advertisement
                && !one.key.occurrence.is_removal()
        });
        if before.next().is_none() {
            let found = format!("{}: {}", self.name, newest.key.occurrence);
            core.violated("what was not installed here is not removed", found);
        }
    }

    /// Nothing is executed before what must succeed before it.
    pub(super) fn check_dependencies(&self, core: &mut Core, program: &Program, manifest: Digest) {
        let Some(wanted) = &program.depends_on else { return };
        let before =
            core.scenario.software.iter().find(|one| one.package.name == wanted.package.name);
        let Some(before) = before.map(|one| one.package.manifest) else { return };
        if !self.reached.contains(&before) {
            let found = format!(
                "{}: {} is executed before {wanted} has succeeded",
                self.name,
                manifest.short()
            );
            core.violated("what goes before comes before", found);
        }
    }

    /// One program at a time.
    pub(super) fn check_turn(&self, core: &mut Core, supervisor: u64) {
        let mut others = self.supervisors.iter().filter(|(id, _)| **id != supervisor);
        if let Some((_, other)) = others.find(|(_, one)| one.is_running()) {
            let found = format!("{}: while run {} goes on", self.name, other.run());
            core.violated("one program at a time", found);
        }
    }
}
