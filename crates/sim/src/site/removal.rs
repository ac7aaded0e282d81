//! Removals of what is no longer advertised, as the site decides and offers them.

use std::collections::BTreeSet;

use muster_model::advertisement::{AdvertisementSpec, At};
use muster_model::clock::Wall;
use muster_model::id::{AdvertisementId, DeviceId};
use muster_model::message::Occurrence;
use muster_model::object::Spec;
use muster_model::package::Achieves;
use muster_model::policy::Due;
use muster_model::removal::Removal;
use muster_site_core::decision::Decision;
use muster_site_core::obligation::{Key, ObligationRow};
use muster_site_core::removal::{
    Inputs, Next, is_answer, is_declared, newest, next, next_named, wanted_by,
};
use muster_site_core::targeting::{LiveAdvertisement, OpenOccurrence, Timing};

use super::Site;
use super::store::Advertised;
use crate::core::Core;
use crate::sometimes::Rare;

/// What a device is offered: advertisements, and their open occurrences.
type Offered = (Vec<LiveAdvertisement>, Vec<OpenOccurrence>);

impl Site {
    /// Decides about removals, one device after the other.
    pub(super) fn remove(&mut self, core: &mut Core) {
        let ids: Vec<AdvertisementId> = self.store.advertisements.keys().copied().collect();
        let devices: Vec<DeviceId> = self.store.devices.keys().copied().collect();
        for id in ids {
            for device in &devices {
                if self.store.is_admitted(*device) && self.is_up() {
                    self.remove_one(core, id, *device);
                }
            }
        }
    }

    fn remove_one(&mut self, core: &mut Core, id: AdvertisementId, device: DeviceId) {
        let Some(advertised) = self.store.advertisements.get(&id) else { return };
        let Some((spec, removal)) = declared(advertised) else { return };
        let now = core.wall();
        let rows: Vec<ObligationRow> = self
            .store
            .rows
            .values()
            .filter(|row| row.key.advertisement == id && row.key.device == device)
            .cloned()
            .collect();
        let open = self.open_occurrences(device);
        let named =
            |one: &OpenOccurrence| one.due.occurrence.assignment.as_str() == Occurrence::RERUN;
        let offered: BTreeSet<AdvertisementId> =
            open.iter().filter(|one| !named(one)).map(|one| one.advertisement).collect();
        let others = self.store.advertisements.iter().filter(|(id, _)| offered.contains(id));
        let others: Vec<LiveAdvertisement> =
            others.map(|(id, one)| self.live(core, *id, one)).collect();
        let mine = self.live(core, id, advertised);
        let occurrences = &advertised.row.occurrences;
        let key = |one: &Occurrence| Key { advertisement: id, occurrence: one.clone(), device };
        let targeted = occurrences.iter().map(|row| row.occurrence.clone());
        let next = next(&Inputs {
            now,
            after: removal.after.duration(),
            since: advertised.since,
            advertised: offered.contains(&id) && !is_over(advertised, spec, now),
            wanted: wanted_by(&mine, &others, now).is_some(),
            occurrences,
            rows: &rows,
            targeted: &targeted.filter(|one| self.store.is_targeted(&key(one))).collect(),
        });
        let (assignment, decision) = match next {
            Next::Nothing | Next::At(_) => return,
            Next::Begin(decision) => (Some(Occurrence::REMOVAL), decision),
            Next::Until(until) => (None, Decision::Removal { until: Some(until) }),
            Next::Open => (None, Decision::Removal { until: None }),
            Next::TakeBack => (None, Decision::TakeBack),
            Next::Undeclared => (None, Decision::RemoveAssignment),
            Next::Again => (Some(Occurrence::RERUN), Decision::Name),
        };
        match next {
            Next::TakeBack => core.seen.world(Rare::RemovalTakenBack),
            Next::Undeclared => core.seen.world(Rare::RemovalUndeclared),
            Next::Again => core.seen.world(Rare::InstalledAgain),
            _ => {}
        }
        self.transact(core, "decides about a removal", |staged, _| {
            let at = staged.at;
            let Some(one) = staged.store.advertisements.get_mut(&id) else { return };
            let occurrences = &mut one.row.occurrences;
            let occurrence = match assignment {
                Some(assignment) => {
                    let row = next_named(assignment, id, occurrences, &rows, at);
                    row.map(|row| {
                        let occurrence = row.occurrence.clone();
                        if !occurrences.iter().any(|known| known.occurrence == occurrence) {
                            occurrences.push(row);
                        }
                        occurrence
                    })
                }
                None => newest(&rows).map(|row| row.key.occurrence.clone()),
            };
            let Some(occurrence) = occurrence else { return };
            staged.decide(decision, &Key { advertisement: id, occurrence, device });
            staged.touch(device);
        });
        let mine = |row: &&ObligationRow| row.key.advertisement == id && row.key.device == device;
        let rows: Vec<ObligationRow> = self.store.rows.values().filter(mine).cloned().collect();
        let holds = newest(&rows).is_some_and(|row| row.state == decision.state());
        if self.is_up() && assignment != Some(Occurrence::RERUN) && !holds {
            let found = format!("{decision:?} for {device}: {:?}", newest(&rows));
            core.violated("what is decided about a removal holds", found);
        }
    }

    /// Whether an advertisement declares a removal: then there are decisions of its own about it.
    pub(super) fn declares_removal(&self, id: AdvertisementId) -> bool {
        self.store.advertisements.get(&id).is_some_and(|one| declared(one).is_some())
    }

    /// Adds the removals that are due on a device to what it is offered.
    pub(super) fn with_removals(
        &self,
        core: &mut Core,
        device: DeviceId,
        mut live: Vec<LiveAdvertisement>,
        mut open: Vec<OpenOccurrence>,
    ) -> Offered {
        let is_due = |row: &&ObligationRow| {
            row.key.device == device
                && row.key.occurrence.is_removal()
                && is_answer(row)
                && !row.state.word().is_terminal()
        };
        for row in self.store.rows.values().filter(is_due) {
            let id = row.key.advertisement;
            let Some(advertised) = self.store.advertisements.get(&id) else { continue };
            // What is advertised is not removed, and what is removed does not run again.
            let named =
                |one: &OpenOccurrence| one.due.occurrence.assignment.as_str() == Occurrence::RERUN;
            let Some((spec, removal)) = declared(advertised) else { continue };
            if !is_declared(row, advertised.since) {
                continue;
            }
            let is_advertised = !is_over(advertised, spec, core.wall());
            if is_advertised && open.iter().any(|one| one.advertisement == id && !named(one)) {
                continue;
            }
            open.retain(|one| one.advertisement != id);
            live.retain(|one| one.advertisement != id);
            core.seen.world(Rare::RemovalOffered);
            let software = &core.scenario.software[advertised.software];
            let uninstall = software.uninstall.as_ref();
            let mine = self.live(core, id, advertised);
            live.push(LiveAdvertisement {
                program: removal.program.clone(),
                achieves: uninstall.map_or(Achieves::Absent, |program| program.achieves),
                expires: None,
                notice: None,
                emergency: false,
                timing: Timing { splay: mine.timing.splay, ..Timing::default() },
                stopped: mine.stopped.clone().filter(|_| !advertised.deleted),
                dependencies: Vec::new(),
                ..mine
            });
            let due = Due { occurrence: row.key.occurrence.clone(), at: Some(At::Now) };
            open.push(OpenOccurrence { advertisement: id, due });
        }
        (live, open)
    }
}

/// What an advertisement says of its removal.
fn declared(advertised: &Advertised) -> Option<(&AdvertisementSpec, &Removal)> {
    match &advertised.row.object.spec {
        Spec::Advertisement(spec) => Some((spec, spec.removal.as_ref()?)),
        _ => None,
    }
}

fn is_over(advertised: &Advertised, spec: &AdvertisementSpec, now: Wall) -> bool {
    advertised.deleted || spec.expires.is_some_and(|expires| expires <= now)
}
