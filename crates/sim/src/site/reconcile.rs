//! What the site decides by itself: it looks at what is, not at what happened, so it may run at any
//! time and any number of times.

use jiff::tz::TimeZone;
use muster_model::object::Spec;
use muster_model::state::{State, Waiting};
use muster_site_core::decision::Decision;
use muster_site_core::ingest::Reading;
use muster_site_core::obligation::{Key, ObligationRow};
use muster_site_core::occurrence::{Revision, Span};
use muster_site_core::recurrence::{Here, Turning, admit, is_passed, turn};

use super::store::Advertised;
use super::transaction::live;
use super::{Cut, Site};
use crate::core::Core;
use crate::sometimes::Rare;

impl Site {
    /// What the site decides by itself. Idempotent: it looks at what is, not at what happened.
    pub(crate) fn reconcile(&mut self, core: &mut Core) {
        self.turn(core);
        self.expire(core);
        self.withdraw(core);
        self.remove(core);
    }

    /// What is not offered to a device any more, and not started, is withdrawn. A word that a device
    /// wrote before it heard of that may have come since, perhaps from a life of its memory that is
    /// over, and then nobody else would say so.
    fn withdraw(&mut self, core: &mut Core) {
        let store = &self.store;
        let now = core.wall();
        let to_come = |state: &State| match state {
            State::Waiting { why: Waiting::Time, until: Some(until) } => *until > now,
            State::NotApplicable { .. } => true,
            _ => false,
        };
        let pending = |row: &&ObligationRow| {
            row.state.word().is_unstarted()
                && store.is_admitted(row.key.device)
                && !(self.no_longer(&row.key) == Some(Decision::Miss) && to_come(&row.state))
        };
        let due: Vec<(Decision, Key)> = store
            .rows
            .values()
            .filter(pending)
            .filter_map(|row| Some((self.no_longer(&row.key)?, row.key.clone())))
            .collect();
        if !due.is_empty() {
            self.transact(core, "withdraws what is not offered", |staged, _| {
                due.iter().for_each(|(decision, key)| staged.decide(*decision, key));
            });
        }
    }

    /// Why an obligation is not offered any more.
    fn no_longer(&self, key: &Key) -> Option<Decision> {
        let advertised = self.store.advertisements.get(&key.advertisement)?;
        if key.occurrence.is_removal() {
            let is_declared = self.declares_removal(key.advertisement);
            return (!is_declared).then_some(Decision::RemoveAssignment);
        }
        if advertised.deleted {
            return Some(Decision::Delete);
        }
        let occurrences = &advertised.row.occurrences;
        let row = occurrences.iter().find(|row| row.occurrence == key.occurrence)?;
        if is_passed(occurrences, &key.occurrence) {
            return Some(Decision::Miss);
        }
        let memberships = self.store.memberships(key.device);
        let open = |span: &&Span| span.is_open();
        if row.spans.is_empty() {
            return None;
        }
        match row.spans.iter().find(open) {
            None if row.spans.iter().any(|span| memberships.contains(&span.collection)) => {
                Some(Decision::RemoveAssignment)
            }
            None => Some(Decision::Leave),
            Some(span) if !memberships.contains(&span.collection) => Some(Decision::Leave),
            Some(_) => None,
        }
    }

    /// Opens and closes what falls due, and says of whom nothing was heard that he missed it.
    fn turn(&mut self, core: &mut Core) {
        let ids = live(&self.store);
        for id in ids {
            let turned = |site: &Self, at: Revision| {
                let advertised = site.store.advertisements.get(&id)?;
                let Spec::Advertisement(spec) = &advertised.row.object.spec else { return None };
                if advertised.revoked.is_some() {
                    return None;
                }
                let timing = super::timing(spec);
                let here = Here { now: core.wall(), zone: &TimeZone::UTC };
                let rules = &timing.recurrences;
                let turning = Turning { rules, expires: spec.expires, here };
                turn(&advertised.row.occurrences, &turning, at)
            };
            let next = Revision(self.store.revision.0 + 1);
            let Some(rows) = turned(self, next) else { continue };
            core.seen.world(Rare::Turned);
            self.transact(core, "opens what falls due", |staged, _| {
                if let Some(advertised) = staged.store.advertisements.get_mut(&id) {
                    advertised.row.occurrences = rows;
                }
            });
        }
        let closed: Vec<(Decision, Key)> = self
            .store
            .advertisements
            .values()
            .flat_map(|one| &one.row.occurrences)
            // One open span: whoever left it was decided about when he did.
            .filter(|row| row.spans.len() > 1 || !row.is_open() && !row.spans.is_empty())
            .flat_map(|row| self.store.keys_of(row.advertisement, &row.occurrence))
            .filter(|key| !self.store.rows.contains_key(key))
            .filter_map(|key| Some((self.no_longer(&key)?, key)))
            .collect();
        if !closed.is_empty() {
            self.transact(core, "decides what nobody spoke of", |staged, _| {
                closed.iter().for_each(|(decision, key)| staged.decide(*decision, key));
            });
        }
    }

    /// Opens what a device reports and the site has not opened for it.
    pub(super) fn open_reported(&mut self, core: &mut Core, reading: &Reading) -> Result<(), Cut> {
        let unknown: Vec<Key> =
            reading.touched().into_iter().filter(|key| !self.store.is_targeted(key)).collect();
        for key in unknown {
            let Some(advertised) = self.store.advertisements.get(&key.advertisement) else {
                continue;
            };
            let Spec::Advertisement(spec) = &advertised.row.object.spec else { continue };
            let rules = super::timing(spec).recurrences;
            let rule = rules.iter().find(|rule| rule.assignment == key.occurrence.assignment);
            let here = Here { now: core.wall(), zone: &TimeZone::UTC };
            let rows = &advertised.row.occurrences;
            let intervals = self.store.intervals_of(key.device);
            let next = Revision(self.store.revision.0 + 1);
            let every = rule.map(|rule| &rule.every);
            let Some(row) = admit(rows, &key.occurrence, &intervals, every, &here, next) else {
                continue;
            };
            core.seen.world(Rare::OpenedByReport);
            self.transact(core, "opens what a device reports", |staged, _| {
                let advertised = staged.store.advertisements.get_mut(&key.advertisement);
                let Some(advertised) = advertised else { return };
                let revoked = advertised.revoked.is_some();
                advertised.row.occurrences.retain(|one| one.occurrence != row.occurrence);
                advertised.row.occurrences.push(row);
                // Who knows of the revocation opens nothing by itself.
                if revoked {
                    staged.offer_changed(key.advertisement);
                }
            });
            if !self.is_up() {
                return Err(Cut);
            }
        }
        Ok(())
    }

    /// Unstarted obligations of advertisements that have expired.
    fn expire(&mut self, core: &mut Core) {
        let now = core.wall();
        let expired = |one: &&Advertised| match &one.row.object.spec {
            Spec::Advertisement(spec) => spec.expires.is_some_and(|at| at <= now) && !one.deleted,
            _ => false,
        };
        let due: Vec<Advertised> =
            self.store.advertisements.values().filter(expired).cloned().collect();
        let keys: Vec<Key> = due
            .iter()
            .flat_map(|one| &one.row.occurrences)
            .filter(|row| !row.occurrence.is_removal())
            .flat_map(|row| self.store.keys_of(row.advertisement, &row.occurrence))
            .filter(|key| {
                let row = self.store.rows.get(key);
                row.is_none_or(|row| {
                    row.state.word().is_unstarted() && !row.state.word().is_complete()
                })
            })
            .collect();
        if !keys.is_empty() {
            self.transact(core, "lets obligations expire", |staged, _| {
                keys.iter().for_each(|key| staged.decide(Decision::Expire, key));
            });
        }
    }
}
