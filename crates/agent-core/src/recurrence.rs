//! Recurring assignments on the device: which of their occurrences there are, with or without the site.
//!
//! ```text
//! n falls due:  n+1 becomes an obligation, waiting(time); all before n that nothing started have missed
//! ```
//!
//! A device that was off finds many that fell due: each becomes an obligation that ends
//! `expired(missed)`, but the newest, which makes the one late run. Numbers only grow: an occurrence that
//! has ended and was let go of is never made again, whatever a clock or an older policy says.

use std::collections::VecDeque;

use muster_model::advertisement::At;
use muster_model::clock::Wall;
use muster_model::id::AdvertisementId;
use muster_model::message::Occurrence;
use muster_model::name::Name;
use muster_model::policy::{Due, Offer, Recurrence};
use muster_model::recurrence::EVERY_LOOKS_MAX;

use crate::agent::Agent;
use crate::draft::Draft;
use crate::obligation::{over_before_start, policy_offer};
use crate::saved::{Key, LetGo, ObligationRecord, Stage};
use crate::schedule::due_time;
use crate::sometimes::Branch;

/// Missed occurrences of one rule that a device accounts for one by one; of more, the newest. A year of
/// days and some: what a rule missed beyond that, its site accounts for.
const MISSED_MAX: usize = 500;
/// Obligations of one rule that have ended and are kept beside those whose messages are kept.
const ENDED_KEPT: usize = 8;

impl LetGo {
    fn is_of(&self, advertisement: AdvertisementId, assignment: &Name) -> bool {
        self.advertisement == advertisement && self.assignment == *assignment
    }
}

impl Agent {
    /// Opens what has fallen due by the rules at hand.
    pub(crate) fn open_occurrences(&mut self, draft: &mut Draft) {
        // What has no room to be told is not opened: it is missed as it is by a device that is off.
        if self.memory.awaits_account || !self.outbox.has_room(self.memory.relieved) {
            return;
        }
        let offers = self.policy.iter().flat_map(|policy| &policy.advertisements);
        let recurring: Vec<Offer> =
            offers.filter(|offer| !offer.recurrences.is_empty()).cloned().collect();
        for offer in &recurring {
            for rule in &offer.recurrences {
                self.follow_rule(draft, offer, rule);
                self.open_next(draft, offer, rule);
            }
        }
    }

    /// Takes what the policy says of the times of a rule's occurrences: those that it lists as it lists
    /// them, those beyond by the rule.
    fn follow_rule(&mut self, draft: &mut Draft, offer: &Offer, rule: &Recurrence) {
        let listed =
            offer.occurrences.iter().filter(|due| due.occurrence.assignment == rule.assignment);
        let mut newest: Option<&Due> = None;
        for due in listed {
            if newest.is_none_or(|newest| newest.occurrence.n < due.occurrence.n) {
                newest = Some(due);
            }
            let key =
                Key { advertisement: offer.advertisement, occurrence: due.occurrence.clone() };
            self.set_due(draft, &key, due.at);
        }
        let Some(newest) = newest else { return };
        let mut at = newest.at;
        let beyond: Vec<Key> = self
            .rule_keys(offer, &rule.assignment)
            .filter(|key| key.occurrence.n > newest.occurrence.n)
            .cloned()
            .collect();
        let mut n = newest.occurrence.n;
        for key in beyond {
            let Some(record) = self.obligations.get(&key) else { continue };
            let moves = record.revision != offer.revision && record.stage.is_before_start();
            if record.times.due.is_some() && !moves {
                continue;
            }
            while n < key.occurrence.n && at.is_some() {
                at = at.and_then(|at| rule.every.after(at, &self.zone));
                n += 1;
            }
            self.set_due(draft, &key, at);
            if moves {
                self.fired.note(Branch::Moved);
                self.follow(draft, &key, offer);
            }
        }
    }

    fn set_due(&mut self, draft: &mut Draft, key: &Key, at: Option<At>) {
        let Some(record) = self.obligations.get_mut(key) else { return };
        if record.times.due != at {
            record.times.due = at;
            draft.obligations.insert(key.clone());
        }
    }

    fn open_next(&mut self, draft: &mut Draft, offer: &Offer, rule: &Recurrence) {
        let trusted = self.trusted(draft.now);
        let newest = self.rule_keys(offer, &rule.assignment).next_back();
        let Some(newest) = newest.and_then(|key| self.obligations.get(key)) else { return };
        let (mut n, mut due) = (newest.key.occurrence.n, newest.times.due);
        let mut opened: VecDeque<(u32, At)> = VecDeque::new();
        if over_before_start(offer, trusted).is_some() {
            return;
        }
        for _ in 0..EVERY_LOOKS_MAX {
            let fallen = due.filter(|at| self.has_come(*at, trusted));
            let next = fallen.and_then(|at| rule.every.after(at, &self.zone));
            let Some(next) = next.filter(|at| !self.is_beyond(offer, *at)) else { break };
            n += 1;
            due = Some(next);
            opened.push_back((n, next));
            if opened.len() > MISSED_MAX {
                opened.pop_front();
            }
        }
        if opened.len() > 2 {
            self.fired.note(Branch::ManyMissed);
        }
        let opens = !opened.is_empty();
        for (n, due) in opened {
            let occurrence = Occurrence { assignment: rule.assignment.clone(), n };
            let key = Key { advertisement: offer.advertisement, occurrence };
            let mut record = ObligationRecord::offered(key.clone(), offer);
            record.times.due = Some(due);
            self.obligations.insert(key.clone(), record);
            draft.obligations.insert(key);
        }
        if opens {
            self.forget_ended(draft, offer, rule);
        }
    }

    /// Whether the rule leads from an occurrence to a later one, at the time that the policy says. It
    /// does not if the rule was edited in between, or if nothing opens any more.
    pub(crate) fn rule_leads(
        &self,
        offer: &Offer,
        rule: &Recurrence,
        from: &ObligationRecord,
        to: &Due,
    ) -> bool {
        let steps = to.occurrence.n.saturating_sub(from.key.occurrence.n);
        let mut at = from.times.due;
        // Further behind, those between were missed in any zone, and the site accounts for them.
        for _ in 0..steps.min(MISSED_MAX as u32) {
            at = at.and_then(|at| rule.every.after(at, &self.zone));
        }
        let opens = offer.revoked.is_none() && at.is_some_and(|at| !self.is_beyond(offer, at));
        opens && at == to.at
    }

    /// Lets go of old occurrences that have ended and whose messages are no longer kept: the site has
    /// them, and their numbers never come again.
    fn forget_ended(&mut self, draft: &mut Draft, offer: &Offer, rule: &Recurrence) {
        let through = self.outbox.before().through;
        let goes = |key: &&Key| {
            let record = self.obligations.get(key);
            record
                .is_some_and(|record| record.stage == Stage::Over && record.reported_in <= through)
        };
        let keys: Vec<&Key> = self.rule_keys(offer, &rule.assignment).collect();
        let old = keys.len().saturating_sub(ENDED_KEPT);
        let gone: Vec<Key> = keys[..old].iter().copied().filter(goes).cloned().collect();
        for key in gone {
            self.obligations.remove(&key);
            self.note_let_go(draft, &key);
            draft.forget_obligation(key);
        }
    }

    fn note_let_go(&mut self, draft: &mut Draft, key: &Key) {
        let Some(all) = &mut self.memory.let_go else { return };
        let (advertisement, Occurrence { assignment, n }) = (key.advertisement, &key.occurrence);
        draft.memory = true;
        match all.iter_mut().find(|one| one.is_of(advertisement, assignment)) {
            Some(one) => one.through = one.through.max(*n),
            None => all.push(LetGo { advertisement, assignment: assignment.clone(), through: *n }),
        }
    }

    /// Whether an occurrence that has no record, and is older than one that has, was let go of. Else the
    /// device never had it: it has lost its memory since the newer one.
    pub(crate) fn has_let_go(&self, advertisement: AdvertisementId, of: &Name, n: u32) -> bool {
        let Some(all) = &self.memory.let_go else { return true };
        all.iter().any(|one| one.is_of(advertisement, of) && n <= one.through)
    }

    /// Nothing more comes of what is neither advertised nor on record.
    pub(crate) fn forget_let_go(&mut self, draft: &mut Draft) {
        let policy = self.policy.as_ref();
        let Some(all) = &mut self.memory.let_go else { return };
        let before = all.len();
        let obligations = &self.obligations;
        all.retain(|one| {
            let is_offered = policy.is_some_and(|at| policy_offer(at, one.advertisement).is_some());
            is_offered || obligations.keys().any(|key| key.advertisement == one.advertisement)
        });
        draft.memory |= all.len() < before;
    }

    /// The obligations of one assignment, by number.
    pub(crate) fn rule_keys(
        &self,
        offer: &Offer,
        assignment: &Name,
    ) -> impl DoubleEndedIterator<Item = &Key> {
        let key = |n| Key {
            advertisement: offer.advertisement,
            occurrence: Occurrence { assignment: assignment.clone(), n },
        };
        self.obligations.range(key(0)..=key(u32::MAX)).map(|(key, _)| key)
    }

    /// Whether a later occurrence of the same rule has fallen due.
    pub(crate) fn is_passed(&self, record: &ObligationRecord, trusted: Wall) -> bool {
        let last = Occurrence { n: u32::MAX, ..record.key.occurrence.clone() };
        let last = Key { advertisement: record.key.advertisement, occurrence: last };
        let bounds = (std::ops::Bound::Excluded(&record.key), std::ops::Bound::Included(&last));
        let next = self.obligations.range::<Key, _>(bounds).next();
        // Only what a rule makes has a due time of its own.
        next.and_then(|(_, next)| next.times.due).is_some_and(|due| self.has_come(due, trusted))
    }

    /// When the next occurrence of any rule opens.
    pub(crate) fn next_opening(&self, trusted: Wall) -> Option<Wall> {
        let policy = self.policy.as_ref().filter(|_| !self.memory.awaits_account)?;
        let rules = policy
            .advertisements
            .iter()
            .flat_map(|offer| offer.recurrences.iter().map(move |rule| (offer, rule)));
        let newest = |(offer, rule): (&Offer, &Recurrence)| {
            let key = self.rule_keys(offer, &rule.assignment).next_back()?;
            due_time(self.obligations.get(key)?.times.due?, &self.zone)
        };
        rules.filter_map(newest).filter(|at| *at > trusted).min()
    }

    fn has_come(&self, at: At, trusted: Wall) -> bool {
        due_time(at, &self.zone).is_some_and(|due| due <= trusted)
    }

    /// Whether `at` is no time before the advertisement expires.
    fn is_beyond(&self, offer: &Offer, at: At) -> bool {
        let due = due_time(at, &self.zone);
        offer.expires.is_some_and(|expires| due.is_none_or(|due| due >= expires))
    }
}

#[cfg(test)]
mod tests;
