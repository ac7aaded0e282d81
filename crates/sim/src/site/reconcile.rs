//! What the site decides by itself: it looks at what is, not at what happened, so it may run at any
//! time and any number of times.

use muster_model::object::Spec;
use muster_site_core::decision::Decision;
use muster_site_core::obligation::{Key, ObligationRow};
use muster_site_core::occurrence::Span;

use super::Site;
use super::store::Advertised;
use crate::core::Core;

impl Site {
    /// What the site decides by itself. Idempotent: it looks at what is, not at what happened.
    pub(crate) fn reconcile(&mut self, core: &mut Core) {
        self.expire(core);
        self.withdraw(core);
    }

    /// What is not offered to a device any more, and not started, is withdrawn. A word that a device
    /// wrote before it heard of that may have come since, perhaps from a life of its memory that is
    /// over, and then nobody else would say so.
    fn withdraw(&mut self, core: &mut Core) {
        let store = &self.store;
        let pending = |row: &&ObligationRow| {
            row.state.word().is_unstarted() && store.is_admitted(row.key.device)
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
        if advertised.deleted {
            return Some(Decision::Delete);
        }
        let occurrences = &advertised.row.occurrences;
        let row = occurrences.iter().find(|row| row.occurrence == key.occurrence)?;
        let memberships = self.store.memberships(key.device);
        let open = |span: &&Span| span.is_open();
        if row.spans.is_empty() {
            return None;
        }
        match row.spans.iter().find(open) {
            None => Some(Decision::RemoveAssignment),
            Some(span) if !memberships.contains(&span.collection) => Some(Decision::Leave),
            Some(_) => None,
        }
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
