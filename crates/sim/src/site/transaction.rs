//! A transaction of the site: a copy of the database that is changed, and takes the place of the
//! committed one as a whole or not at all.

use muster_model::clock::Wall;
use muster_model::id::{AdvertisementId, CollectionId, DeviceId};
use muster_model::object::Object;
use muster_model::policy::Order;
use muster_site_core::branch::Fired;
use muster_site_core::decision::{Decision, decide, rejoin};
use muster_site_core::edit::{AdvertisementPlan, AdvertisementRow};
use muster_site_core::membership::Graph;
use muster_site_core::obligation::{Applied, Key, ObligationRow, Said, apply_planted};
use muster_site_core::occurrence::{Interval, Revision};

use super::Site;
use super::store::{Advertised, Store};
use crate::core::{Core, Node};
use crate::plant::Plant;
use crate::sometimes::Rare;

/// A transaction in the making: a copy of the database.
pub(super) struct Staged<'a> {
    pub(super) store: Store,
    pub(super) at: Revision,
    pub(super) now: Wall,
    planted: &'a muster_site_core::obligation::Planted,
    plant: Option<Plant>,
    fired: Fired,
}

impl Site {
    /// One transaction: all of `change`, or nothing if the site crashes before the commit.
    pub(super) fn transact(
        &mut self,
        core: &mut Core,
        what: &str,
        change: impl FnOnce(&mut Staged<'_>, &mut crate::dice::Dice),
    ) {
        let planted = self.planted.clone();
        let mut store = self.store.clone();
        let at = store.next_revision();
        let (now, fired) = (core.wall(), Fired::default());
        let mut staged = Staged { store, at, now, planted: &planted, plant: core.plant, fired };
        change(&mut staged, &mut core.dice);
        if core.crash().is_some() {
            core.seen.world(Rare::SiteCrashedBeforeCommit);
            self.crash(core);
            return;
        }
        for branch in staged.fired.iter() {
            core.seen.mark("site", &branch);
        }
        let store = staged.store;
        core.note(Node::Site, format_args!("{what}: revision {at}"));
        crate::check::decided(core, &self.store, &store);
        self.store = store;
        crate::check::accounts(core, &self.store);
        self.wake(core);
    }
}

impl Staged<'_> {
    pub(super) fn live(&self) -> Vec<AdvertisementId> {
        live(&self.store)
    }

    pub(super) fn decide(&mut self, decision: Decision, key: &Key) {
        let row = self.store.rows.get(key);
        let revision =
            self.store.advertisements.get(&key.advertisement).map_or(0, |one| one.row.revision);
        let applied = match self.planted.terminal_moved_back {
            // The planted bug: the site's word is written over whatever stands there.
            true => Some(self.overwrite(decision, key, row, revision)),
            false if decision == Decision::Join => {
                let last = row.and_then(|row| self.store.message_of(row));
                rejoin(key, row, last.as_ref(), revision, self.now)
            }
            false => decide(decision, key, row, revision, self.now),
        };
        if let Some(applied) = applied {
            self.store.apply(&applied, self.plant != Some(Plant::DecisionsUncounted));
            self.fired.merge(applied.fired);
        }
    }

    fn overwrite(
        &self,
        decision: Decision,
        key: &Key,
        row: Option<&ObligationRow>,
        revision: u32,
    ) -> Applied {
        let said = Said::by_site(decision.state(), revision, self.now);
        apply_planted(key, row, &said, self.now, self.planted)
    }

    /// The device's own part of its policy changed.
    pub(super) fn touch(&mut self, device: DeviceId) {
        if let Some(row) = self.store.devices.get_mut(&device) {
            row.version = self.at.0;
        }
    }

    pub(super) fn offered_changed(&mut self, collection: CollectionId) {
        if let Some(row) = self.store.collections.get_mut(&collection) {
            row.policy_version = self.at.0;
        }
    }

    /// What is offered changed, to the collection and to devices named one by one.
    pub(super) fn offer_changed(&mut self, id: AdvertisementId) {
        let Some(one) = self.store.advertisements.get(&id) else { return };
        let collection = one.row.collection;
        let named: Vec<DeviceId> = self
            .store
            .rows
            .keys()
            .filter(|key| key.advertisement == id)
            .map(|key| key.device)
            .collect();
        named.into_iter().for_each(|device| self.touch(device));
        self.offered_changed(collection);
    }

    pub(super) fn set_stopped(&mut self, id: AdvertisementId, stopped: Option<Order>) {
        if let Some(one) = self.store.advertisements.get_mut(&id) {
            one.stopped = stopped;
            self.offer_changed(id);
        }
    }

    pub(super) fn write_plan(
        &mut self,
        id: AdvertisementId,
        software: usize,
        object: Object,
        plan: AdvertisementPlan,
    ) {
        let at = self.at;
        let before = self.store.advertisements.get(&id).cloned();
        let known: &[_] = before.as_ref().map_or(&[], |one| &one.row.occurrences);
        let occurrences = plan.occurrences.rows(id, known, at);
        let row = AdvertisementRow {
            object,
            revision: plan.revision,
            package: plan.package,
            collection: plan.collection,
            occurrences,
        };
        let same = before.as_ref().filter(|one| one.software == software);
        let since = same.map_or(row.revision, |one| one.since);
        let (stopped, revoked) = before.map_or((None, None), |one| (one.stopped, one.revoked));
        let advertised = Advertised { row, software, since, stopped, revoked, deleted: false };
        self.store.advertisements.insert(id, advertised);
        self.offer_changed(id);
        for closed in &plan.occurrences.closed {
            for key in self.store.keys_of(id, closed) {
                self.decide(Decision::RemoveAssignment, &key);
            }
        }
        let members = self.store.members(plan.collection);
        if let Some(old) = plan.occurrences.moved_from {
            self.offered_changed(old);
            for (kept, _) in &plan.occurrences.kept {
                for key in self.store.keys_of(id, kept) {
                    let stays = members.contains(&key.device);
                    self.decide(if stays { Decision::Join } else { Decision::Leave }, &key);
                }
            }
        }
        for (opened, _) in &plan.occurrences.opened {
            let keys = self.store.keys_of(id, opened).into_iter();
            for key in keys.filter(|key| members.contains(&key.device)) {
                self.decide(Decision::Join, &key);
            }
        }
    }

    /// Evaluates one device anew and writes what it joined and left.
    pub(super) fn evaluate(&mut self, device: DeviceId) {
        let collections = self.store.collections.values().map(|row| row.collection.clone());
        let Ok(graph) = Graph::new(collections) else { return };
        let Some(row) = self.store.devices.get(&device) else { return };
        let new = graph.memberships(&row.device);
        let old = self.store.memberships(device);
        let at = self.at;
        for left in old.difference(&new) {
            let open = self.store.intervals.iter_mut().find(|interval| {
                interval.device == device
                    && interval.collection == *left
                    && interval.until.is_none()
            });
            if let Some(interval) = open {
                interval.until = Some(at);
                if self.plant == Some(Plant::LeaversForgotten) {
                    interval.until = Some(interval.from);
                }
            }
            self.decide_for_member(*left, device, Decision::Leave);
        }
        for joined in new.difference(&old) {
            self.store.intervals.push(Interval {
                collection: *joined,
                device,
                from: at,
                until: None,
            });
            self.decide_for_member(*joined, device, Decision::Join);
        }
    }

    fn decide_for_member(
        &mut self,
        collection: CollectionId,
        device: DeviceId,
        decision: Decision,
    ) {
        let open: Vec<Key> = self
            .store
            .occurrences()
            .filter(|row| {
                row.spans.iter().any(|span| span.is_open() && span.collection == collection)
            })
            .map(|row| Key {
                advertisement: row.advertisement,
                occurrence: row.occurrence.clone(),
                device,
            })
            .collect();
        open.iter().for_each(|key| self.decide(decision, key));
    }
}

pub(super) fn live(store: &Store) -> Vec<AdvertisementId> {
    store.advertisements.iter().filter(|(_, one)| !one.deleted).map(|(id, _)| *id).collect()
}
