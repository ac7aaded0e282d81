//! Removals of what is no longer advertised: looked for by time and after each change, decided by
//! `site-core`, written in portions.
//!
//! A look reads; only what follows is written, under the revision lock, from rows read again. If the site
//! has changed in between, the look is taken again: what wants a package now is never missed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster_model::clock::Wall;
use muster_model::id::{AdvertisementId, DeviceId};
use muster_model::message::Occurrence;
use muster_model::plural::counted;
use muster_site_core::decision::{Decision, decide, merged};
use muster_site_core::obligation::{Applied, Key, ObligationRow};
use muster_site_core::occurrence::{OccurrenceRow, Revision};
use muster_site_core::removal::{Inputs, Next, grace_of, newest, next, next_named, wanted_by};

use super::App;
use super::change::{Change, Code};
use super::error::Outcome;
use super::live::{LiveSet, Removing};
use crate::store::{Read, Subject};

/// How often every advertisement with a removal is looked at: how late the site sees that something was
/// installed on a device that had left before.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How soon after a look the next one follows, however much changes.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Devices in one transaction.
const PORTION: usize = 1_000;
/// How often a look that a change has overtaken is taken again at once.
const TRIES_MAX: usize = 5;

type KnownRemoving = BTreeMap<AdvertisementId, Arc<Removing>>;

/// When each advertisement is looked at next.
#[derive(Default)]
pub(crate) struct Removals(Mutex<Looks>);

#[derive(Default)]
struct Looks {
    looked: Option<Wall>,
    changed: bool,
    due: BTreeMap<AdvertisementId, Wall>,
}

impl Removals {
    /// Members or advertisements have changed.
    pub(crate) fn changed(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).changed = true;
    }

    /// Those of the advertisements with a removal that are due at `now`.
    fn due(&self, known: &KnownRemoving, now: Wall) -> Vec<AdvertisementId> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.due.retain(|id, _| known.contains_key(id));
        let rested = held.looked.is_none_or(|looked| looked.plus(LOOK_AGAIN_AFTER) <= now);
        let all = held.changed && rested;
        let is_due = |id: &AdvertisementId| all || held.due.get(id).is_none_or(|due| *due <= now);
        let due: Vec<AdvertisementId> = known.keys().copied().filter(is_due).collect();
        if all {
            held.changed = false;
            held.looked = Some(now);
        }
        due
    }

    fn looked(&self, id: AdvertisementId, next: Wall) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).due.insert(id, next);
    }

    /// When something is due next.
    fn next(&self) -> Option<Wall> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let again =
            held.looked.filter(|_| held.changed).map(|looked| looked.plus(LOOK_AGAIN_AFTER));
        held.due.values().copied().chain(again).min()
    }
}

/// What follows for some devices.
struct Look {
    occurrences: Vec<OccurrenceRow>,
    next: Vec<(DeviceId, Next, Vec<ObligationRow>)>,
}

impl App {
    /// Decides about removals. Answers when something is due next. Safe to call at any time.
    pub(crate) async fn settle_removals(&self) -> Outcome<Option<Wall>> {
        let mut read = self.db.read().await?;
        let set = self.live.at(&mut read).await?;
        drop(read);
        if set.removing().is_empty() {
            return Ok(None);
        }
        for id in self.removals.due(set.removing(), self.now()) {
            let ends = self.look_at_removals(id).await?;
            let now = self.now();
            let expires = set.removing().get(&id).and_then(|one| one.expires);
            let expires = expires.filter(|expires| *expires > now);
            let next = [now.plus(LOOK_EVERY)].into_iter().chain(ends).chain(expires).min();
            self.removals.looked(id, next.unwrap_or(now));
        }
        Ok(self.removals.next())
    }

    /// Looks at all devices of one advertisement. Answers when the first grace ends.
    async fn look_at_removals(&self, id: AdvertisementId) -> Outcome<Option<Wall>> {
        let mut read = self.db.read().await?;
        let set = self.live.at(&mut read).await?;
        let Some(removing) = set.removing().get(&id) else { return Ok(None) };
        let collection = (!removing.is_over(self.now())).then_some(removing.removal.collection);
        let devices = read.removal_devices(id, collection).await?;
        let mut ends: Option<Wall> = None;
        for portion in devices.chunks(PORTION) {
            let look = look(&mut read, &set, removing, portion, self.now()).await?;
            let mut acts = false;
            for (_, next, _) in &look.next {
                match next {
                    Next::Nothing => {}
                    Next::At(until) => ends = ends.into_iter().chain([*until]).min(),
                    _ => acts = true,
                }
            }
            if acts {
                let begun = self.decide_removals(id, portion).await?;
                ends = ends.into_iter().chain(begun).min();
            }
        }
        Ok(ends)
    }

    /// Writes what follows for a portion of devices. Answers when the first grace that begins with it
    /// ends; that is now if changes overtook every try.
    async fn decide_removals(
        &self,
        id: AdvertisementId,
        devices: &[DeviceId],
    ) -> Outcome<Option<Wall>> {
        for _ in 0..TRIES_MAX {
            let mut read = self.db.read().await?;
            let set = self.live.at(&mut read).await?;
            drop(read);
            let mut change = Change::begin_by_site(self).await?;
            if change.revision != Revision(set.revision().0 + 1) {
                continue;
            }
            let Some(removing) = set.removing().get(&id) else { return Ok(None) };
            change.tx.stream_lock_many(devices.iter().copied()).await?;
            let now = change.now;
            let look = look(&mut change.tx, &set, removing, devices, now).await?;
            let grace = write(&mut change, removing, look).await?;
            change.commit().await?;
            return Ok(grace);
        }
        Ok(Some(self.now()))
    }
}

/// What follows for `devices`, as `read` has them. `set` is of the revision of `read`, or of the one
/// before the change that reads.
async fn look(
    read: &mut Read,
    set: &LiveSet,
    removing: &Removing,
    devices: &[DeviceId],
    now: Wall,
) -> Outcome<Look> {
    let id = removing.removal.advertisement;
    let occurrences = read.occurrence_list(id).await?;
    let mut rows: BTreeMap<DeviceId, Vec<ObligationRow>> = BTreeMap::new();
    for row in read.obligation_list_of(id, devices).await? {
        rows.entry(row.key.device).or_default().push(row);
    }
    let mut collections: BTreeMap<DeviceId, Vec<_>> = BTreeMap::new();
    for (device, collection) in read.membership_of_many(devices).await? {
        collections.entry(device).or_default().push(collection);
    }
    let targeted = targeted_since(read, &occurrences, &rows).await?;
    let mut found = Vec::new();
    for device in devices {
        let rows = rows.remove(device).unwrap_or_default();
        let offered = set.offered(collections.get(device).map_or(&[], Vec::as_slice)).0;
        let others = offered.values().map(|live| &live.advertisement);
        let targeted = targeted.get(device).cloned().unwrap_or_default();
        let next = next(&Inputs {
            now,
            after: removing.after,
            since: removing.since,
            advertised: offered.contains_key(&id) && !removing.is_over(now),
            wanted: wanted_by(&removing.removal, others, now).is_some(),
            occurrences: &occurrences,
            rows: &rows,
            targeted: &targeted,
        });
        found.push((*device, next, rows));
    }
    Ok(Look { occurrences, next: found })
}

/// What was announced after each device's newest removal and targets it: whether it is installed again by
/// itself.
async fn targeted_since(
    read: &mut Read,
    occurrences: &[OccurrenceRow],
    rows: &BTreeMap<DeviceId, Vec<ObligationRow>>,
) -> Outcome<BTreeMap<DeviceId, BTreeSet<Occurrence>>> {
    let mut keys = BTreeSet::new();
    for (device, rows) in rows {
        let Some(removal) = newest(rows) else { continue };
        let is = |row: &&OccurrenceRow| row.occurrence == removal.key.occurrence;
        let Some(removal) = occurrences.iter().find(is) else { continue };
        let since = occurrences.iter().filter(|row| row.announced > removal.announced);
        keys.extend(since.map(|row| Key {
            advertisement: row.advertisement,
            occurrence: row.occurrence.clone(),
            device: *device,
        }));
    }
    let mut targeted: BTreeMap<DeviceId, BTreeSet<Occurrence>> = BTreeMap::new();
    for key in read.occurrence_targets_many(&keys).await? {
        targeted.entry(key.device).or_default().insert(key.occurrence);
    }
    for row in rows.values().flatten() {
        targeted.entry(row.key.device).or_default().insert(row.key.occurrence.clone());
    }
    Ok(targeted)
}

/// Writes a look. Answers when the first grace that it begins ends.
async fn write(change: &mut Change<'_>, removing: &Removing, look: Look) -> Outcome<Option<Wall>> {
    let Look { mut occurrences, next } = look;
    let mut decided: Vec<Applied> = Vec::new();
    let mut told = BTreeSet::new();
    let mut grace: Option<Wall> = None;
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (device, next, rows) in next {
        let (assignment, decision, said) = match next {
            Next::Nothing | Next::At(_) => continue,
            Next::Begin(decision @ Decision::Removal { until: Some(until) }) => {
                grace = grace.into_iter().chain([until]).min();
                (Some(Occurrence::REMOVAL), decision, "no longer advertised, its grace begins")
            }
            Next::Begin(decision) => (Some(Occurrence::REMOVAL), decision, OPENED),
            Next::Until(until) => {
                grace = grace.into_iter().chain([until]).min();
                (
                    None,
                    Decision::Removal { until: Some(until) },
                    "the grace before its removal is edited",
                )
            }
            Next::Open => (None, Decision::Removal { until: None }, OPENED),
            Next::TakeBack => {
                (None, Decision::TakeBack, "advertised again, its removal is taken back")
            }
            Next::Undeclared => (
                None,
                Decision::RemoveAssignment,
                "of another package by now, the removal of what it was is given up",
            ),
            Next::Again => {
                (Some(Occurrence::RERUN), Decision::Name, "removed before, installed again")
            }
        };
        let occurrence = match assignment {
            Some(assignment) => name(change, removing, assignment, &mut occurrences, &rows).await?,
            None => newest(&rows).map(|row| row.key.occurrence.clone()),
        };
        let Some(occurrence) = occurrence else { continue };
        let row = rows.iter().find(|row| row.key.occurrence == occurrence);
        // In its grace time nobody was offered it.
        let in_grace = match decision {
            Decision::Removal { until } => until.is_some(),
            Decision::TakeBack | Decision::RemoveAssignment => {
                row.is_some_and(|row| grace_of(row).is_some())
            }
            _ => false,
        };
        if !in_grace {
            told.insert(device);
        }
        let advertisement = removing.removal.advertisement;
        let key = Key { advertisement, occurrence, device };
        if let Some(one) = decide(decision, &key, row, removing.removal.revision, change.now) {
            decided.push(one);
            *counts.entry(said).or_default() += 1;
        }
    }
    let rows: Vec<ObligationRow> = decided.iter().map(|one| one.row.clone()).collect();
    change.tx.obligation_write_many(&rows).await?;
    change.tx.counter_add(&merged(&decided)).await?;
    tell(change, &told).await?;
    let id = removing.removal.advertisement;
    change.concerns(Subject::Advertisement(id.0));
    for (said, count) in counts {
        let text = format!("`{}`: {said} on {}", removing.removal.name, counted(count, "device"));
        change.say(Code::AdvertisementRemoval, id, text);
    }
    Ok(grace)
}

const OPENED: &str = "no longer advertised, removed";

/// The occurrence that names the device; announced with this change if there was none.
async fn name(
    change: &mut Change<'_>,
    removing: &Removing,
    assignment: &str,
    occurrences: &mut Vec<OccurrenceRow>,
    rows: &[ObligationRow],
) -> Outcome<Option<Occurrence>> {
    let id = removing.removal.advertisement;
    let Some(row) = next_named(assignment, id, occurrences, rows, change.revision) else {
        return Ok(None);
    };
    let occurrence = row.occurrence.clone();
    if !occurrences.iter().any(|known| known.occurrence == occurrence) {
        change.tx.occurrence_insert(&row, change.now).await?;
        occurrences.push(row);
    }
    Ok(Some(occurrence))
}

/// Moves the own versions of `devices`: what they alone are offered has changed.
pub(crate) async fn tell(change: &mut Change<'_>, devices: &BTreeSet<DeviceId>) -> Outcome<()> {
    for device in devices {
        if let Some(mut found) = change.tx.device_lock(*device).await? {
            found.own_version += 1;
            change.tx.device_update(&found).await?;
            change.concerns(Subject::Device(device.0));
        }
    }
    Ok(())
}
