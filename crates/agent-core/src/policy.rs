//! Taking a policy: what is refused, and what becomes of the obligations that it changes.
//!
//! A new occurrence becomes an obligation. An unstarted one moves to a newer revision, a running one
//! finishes under the old one, one that ended stays ended; only `withdrawn(left-collection)` opens
//! again. What is no longer offered is seen by the next move of its obligation.

use muster_model::clock::Wall;
use muster_model::id::{DeviceId, Sequence};
use muster_model::message::Occurrence;
use muster_model::policy::{Due, Offer, Order, POLICY_FORMAT, PinnedPackage, Policy};
use muster_model::state::{State, Withdrawal};

use crate::agent::Agent;
use crate::draft::Draft;
use crate::newer::Making;
use crate::obligation::policy_offer;
use crate::report::Told;
use crate::saved::{Key, ObligationRecord, RunRecord, Stage, Times, UserWord};
use crate::sometimes::Branch;
use crate::step::{Effect, Write};

/// Epochs that are remembered as left: one for each restore of the site from a backup.
const EPOCHS_LEFT_MAX: usize = 64;

/// Why a policy is not acted on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PolicyRefusal {
    /// It is for another device.
    #[error("the policy is for device {0}")]
    OtherDevice(DeviceId),
    /// It is older than the one at hand.
    #[error("the policy is of revision {revision}, older than {at_hand} at hand")]
    OlderRevision {
        /// Its revision.
        revision: u64,
        /// The revision at hand.
        at_hand: u64,
    },
    /// It is of an epoch that the site has left.
    #[error("the policy is of an epoch that the site has left")]
    EpochLeft,
    /// It is of a format that this version cannot act on.
    #[error("the policy is of format {0}, this version acts on up to {POLICY_FORMAT}")]
    Format(u32),
}

impl Agent {
    /// Why `policy` must not be acted on.
    pub(crate) fn policy_refusal(&self, policy: &Policy) -> Option<PolicyRefusal> {
        if policy.format > POLICY_FORMAT {
            return Some(PolicyRefusal::Format(policy.format));
        }
        if policy.device != self.identity.device {
            return Some(PolicyRefusal::OtherDevice(policy.device));
        }
        if self.memory.epochs_left.contains(&policy.epoch) {
            return Some(PolicyRefusal::EpochLeft);
        }
        let at_hand = self.policy.as_ref().filter(|at_hand| at_hand.epoch == policy.epoch)?;
        (policy.revision < at_hand.revision).then_some(PolicyRefusal::OlderRevision {
            revision: policy.revision,
            at_hand: at_hand.revision,
        })
    }

    /// Acts on a policy that was not refused.
    pub(crate) fn take_policy(&mut self, draft: &mut Draft, mut policy: Policy) {
        let said = self.memory.head;
        if self.memory.epoch != Some(policy.epoch) {
            self.enter_epoch(draft, &policy);
        }
        policy.advertisements.sort_by_key(|offer| offer.advertisement);
        if self.policy.as_ref() == Some(&policy) {
            return;
        }
        if self.policy.as_ref().is_none_or(|old| old.windows != policy.windows) {
            self.calendar_changed();
        }
        let before = self.policy.replace(policy);
        draft.policy = true;
        self.match_offers(draft);
        self.forget_let_go(draft);
        match before {
            Some(before) => self.restate_offered_anew(draft, &before, said),
            None => self.inspect_runs(draft),
        }
        self.order_stops(draft);
        self.go_on_if_put_back(draft);
    }

    /// Says again where those obligations stand that the policy before did not offer. A site that was
    /// restored may have heard of them before it counted the device among those it means, and then it
    /// has set the word aside. `said`: the last message before this policy.
    fn restate_offered_anew(&mut self, draft: &mut Draft, before: &Policy, said: Sequence) {
        let Some(policy) = &self.policy else { return };
        // A memory that is not the first may have been lost together with the epochs it had seen.
        let may_be_restored = !self.memory.epochs_left.is_empty()
            || self.identity.fresh_incarnation_because.is_some();
        if self.memory.awaits_account || !may_be_restored {
            return;
        }
        let was_offered =
            |record: &ObligationRecord| before.epoch == policy.epoch && is_offered(before, record);
        let anew: Vec<Key> = self
            .obligations
            .values()
            .filter(|record| record.reported_in > Sequence(0) && record.reported_in <= said)
            .filter(|record| is_offered(policy, record) && !was_offered(record))
            .map(|record| record.key.clone())
            .collect();
        for key in anew {
            self.fired.note(Branch::OfferedAnew);
            self.tell_again(draft, &key);
        }
    }

    fn enter_epoch(&mut self, draft: &mut Draft, policy: &Policy) {
        draft.memory = true;
        let Some(left) = self.memory.epoch.replace(policy.epoch) else { return };
        self.fired.note(Branch::EpochEntered);
        self.memory.epochs_left.push(left);
        let excess = self.memory.epochs_left.len().saturating_sub(EPOCHS_LEFT_MAX);
        self.memory.epochs_left.drain(..excess);
        self.outbox_enters_epoch(draft);
        self.restate(draft);
    }

    /// Makes obligations of what is offered. Not before the account has come: it may say that they
    /// ended long ago.
    pub(crate) fn match_offers(&mut self, draft: &mut Draft) {
        if self.memory.awaits_account {
            return;
        }
        let Some(policy) = self.policy.clone() else { return };
        for offer in &policy.advertisements {
            self.content_signed_anew(draft, &offer.package);
            for one in &offer.dependencies {
                self.content_signed_anew(draft, &one.package);
            }
            for due in &offer.occurrences {
                self.match_offer(draft, offer, due);
            }
        }
    }

    fn match_offer(&mut self, draft: &mut Draft, offer: &Offer, due: &Due) {
        let key = Key { advertisement: offer.advertisement, occurrence: due.occurrence.clone() };
        if !self.obligations.contains_key(&key) && self.is_the_rules(offer, due) {
            return;
        }
        let Some(record) = self.obligations.get_mut(&key) else {
            let record = ObligationRecord::offered(key.clone(), offer);
            self.obligations.insert(key.clone(), record);
            draft.obligations.insert(key);
            return;
        };
        // What was undone is judged by what is offered now.
        if record.stage == Stage::Undone {
            record.revision = offer.revision;
        }
        if record.package.is_none() && record.revision == offer.revision {
            record.offered_again(offer);
            draft.obligations.insert(key.clone());
        }
        // What ended before a site said what its package replaces has installed it all the same.
        let of_it = record.package.as_ref().is_some_and(|p| p.manifest == offer.package.manifest);
        if of_it && record.program == offer.program.as_str() && record.making != Making::of(offer) {
            record.making = Making::of(offer);
            draft.obligations.insert(key.clone());
        }
        if record.stage != Stage::Over && record.signed_anew(offer) {
            draft.obligations.insert(key.clone());
        }
        match &record.stage {
            Stage::Over => {
                let left = State::Withdrawn { why: Withdrawal::LeftCollection };
                if record.reported == left {
                    self.reopen(draft, &key, offer);
                }
            }
            Stage::Running { .. }
            | Stage::DetectingAfter { .. }
            | Stage::RestartPending { .. }
            | Stage::Recalled
            | Stage::Undone
            | Stage::Upgrading => {}
            _ if record.revision != offer.revision => {
                self.fired.note(Branch::Moved);
                self.follow(draft, &key, offer);
            }
            _ if record.dependencies != offer.dependencies => {
                record.pin(offer);
                draft.obligations.insert(key);
            }
            _ => {}
        }
    }

    /// Whether it is not for the policy to make this occurrence: the device had it, and let go of it; or
    /// the rule leads to it from the newest one that the device has, and the site's clock is only further
    /// on than the device's.
    fn is_the_rules(&self, offer: &Offer, due: &Due) -> bool {
        let Occurrence { assignment, n } = &due.occurrence;
        let Some(rule) = offer.recurrences.iter().find(|rule| rule.assignment == *assignment)
        else {
            return false;
        };
        let newest = self.rule_keys(offer, assignment).next_back();
        let Some(newest) = newest.and_then(|key| self.obligations.get(key)) else { return false };
        match newest.key.occurrence.n {
            known if known > *n => self.has_let_go(offer.advertisement, assignment, *n),
            _ => self.rule_leads(offer, rule, newest, due),
        }
    }

    /// A device that left its collection and came back takes up what it had not started, and one that was
    /// put back to a snapshot what that undid.
    pub(crate) fn reopen(&mut self, draft: &mut Draft, key: &Key, offer: &Offer) {
        self.fired.note(Branch::Reopened);
        self.follow(draft, key, offer);
        if let Some(record) = self.obligations.get_mut(key) {
            record.attempts_anew();
            record.user = UserWord::default();
            record.reopen_turns();
            record.stage = Stage::Idle;
        }
        self.report(draft, key, State::Accepted, Told::default());
    }

    /// Moves an unstarted obligation to the offered revision. Another package or program has all its
    /// attempts before it.
    pub(crate) fn follow(&mut self, draft: &mut Draft, key: &Key, offer: &Offer) {
        self.clean_unentered(draft, key);
        let Some(record) = self.obligations.get_mut(key) else { return };
        let program = offer.program.as_str();
        let manifest = record.package.as_ref().map(|package| package.manifest);
        let other = manifest != Some(offer.package.manifest) || record.program != program;
        record.name = offer.name.to_string();
        record.revision = offer.revision;
        record.package = Some(offer.package.clone());
        record.program = program.to_owned();
        record.pin(offer);
        draft.obligations.insert(key.clone());
        if !other {
            return;
        }
        record.attempts_anew();
        record.times.in_use_since = None;
        record.turns.clear();
        record.stage = Stage::Idle;
        if matches!(record.reported, State::NotApplicable { .. }) {
            self.report(draft, key, State::Accepted, Told::default());
        }
    }

    /// Ends what runs, where somebody ordered that.
    fn order_stops(&mut self, draft: &mut Draft) {
        let Some(policy) = &self.policy else { return };
        let kills = |order: &Option<Order>| order.as_ref().is_some_and(|order| order.kill);
        let all = kills(&policy.held) || kills(&policy.halted);
        let obligations = &self.obligations;
        let ordered = |run: &&mut RunRecord| {
            let offer = policy_offer(policy, run.key.advertisement);
            let runs = obligations
                .get(&run.key)
                .is_some_and(|record| record.stage == Stage::Running { run: run.run });
            runs && !run.stopped
                && (all
                    || offer.is_some_and(|offer| kills(&offer.stopped) || kills(&offer.revoked)))
        };
        for run in self.runs.values_mut().filter(ordered) {
            self.fired.note(Branch::StopOrdered);
            run.stopped = true;
            draft.write(Write::Run(Box::new(run.clone())));
            draft.effect(Effect::Stop(run.run));
        }
    }
}

/// Whether the policy lists the occurrence, or has the rule by which the device opened it.
fn is_offered(policy: &Policy, record: &ObligationRecord) -> bool {
    let Occurrence { assignment, .. } = &record.key.occurrence;
    policy_offer(policy, record.key.advertisement).is_some_and(|offer| {
        let listed = offer.occurrences.iter().any(|due| due.occurrence == record.key.occurrence);
        let recurs = offer.recurrences.iter().any(|rule| rule.assignment == *assignment);
        listed || (recurs && record.times.due.is_some())
    })
}

impl ObligationRecord {
    /// What the account did not tell of an obligation: what it is about.
    fn offered_again(&mut self, offer: &Offer) {
        self.name = offer.name.to_string();
        self.package = Some(offer.package.clone());
        self.program = offer.program.to_string();
        self.pin(offer);
    }

    /// Takes over the signatures where the bytes are the same; answers whether they are others.
    fn signed_anew(&mut self, offer: &Offer) -> bool {
        let pinned = offer.dependencies.iter().map(|one| &one.package).chain([&offer.package]);
        let held = self.dependencies.iter_mut().map(|one| &mut one.package);
        let mut signed_anew = false;
        for held in held.chain(&mut self.package) {
            let same = |package: &&PinnedPackage| package.manifest == held.manifest;
            let package = pinned.clone().find(same);
            if let Some(package) = package.filter(|new| new.signatures != held.signatures) {
                held.signatures.clone_from(&package.signatures);
                signed_anew = true;
            }
        }
        signed_anew
    }

    /// An obligation that has just been offered. It is reported by its first move, in the same step.
    pub(crate) fn offered(key: Key, offer: &Offer) -> Self {
        Self {
            key,
            name: offer.name.to_string(),
            revision: offer.revision,
            package: Some(offer.package.clone()),
            program: offer.program.to_string(),
            attempts: 0,
            uncounted: 0,
            executed: None,
            launches: 0,
            restarts: 0,
            user: UserWord::default(),
            reported: State::Targeted,
            since: Wall::default(),
            reported_in: Sequence(0),
            untold: false,
            stage: Stage::Idle,
            disputed: None,
            times: Times::default(),
            dependencies: offer.dependencies.clone(),
            done: Vec::new(),
            unmet: None,
            turns: Vec::new(),
            making: Making::of(offer),
            forgotten: false,
            replaced_by: None,
        }
    }
}

#[cfg(test)]
mod tests;
