//! What the site decides for obligations that nobody started: a device left its collection or came
//! back, an assignment was removed, an advertisement was deleted or expired.
//!
//! Done after the commit that caused it, in portions of bounded size, each with its rows and counters
//! in one transaction; the sums hold between any two. Everything is a function of what is stored, so
//! doing it twice, or in two processes at once, does nothing more; what a crash left undone is found
//! at the next start.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use muster_model::clock::Wall;
use muster_model::id::{AdvertisementId, CollectionId, DeviceId};
use muster_model::message::{Message, Occurrence};
use muster_model::state::{State, Waiting, Withdrawal, Word};
use muster_site_core::decision::{Decision, decide, merged, rejoin};
use muster_site_core::obligation::{Applied, Key, ObligationRow, Place};
use muster_site_core::occurrence::{OccurrenceRow, Span};
use muster_site_core::recurrence::is_passed;

use super::App;
use super::error::Outcome;
use crate::store::{ACCOUNTING_PAGE_MAX, AdvertisementRow, Read};

/// Devices in one transaction.
const PORTION: usize = 1_000;

/// What is to be looked at.
#[derive(Default)]
pub(crate) struct Unsettled(Mutex<Queue>, Mutex<Passed>);

#[derive(Default)]
struct Queue {
    moves: BTreeMap<CollectionId, BTreeSet<DeviceId>>,
    advertisements: BTreeSet<AdvertisementId>,
    /// Expired ones of which nothing is left to decide, until something of them changes.
    over: HashSet<AdvertisementId>,
}

/// Occurrences that a later one has passed and of which nothing is left to decide, ever: a rule leaves
/// ever more of them.
type Passed = HashSet<(AdvertisementId, Occurrence)>;

impl Unsettled {
    /// A device joined or left a collection.
    pub(crate) fn moved(&self, collection: CollectionId, device: DeviceId) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.moves.entry(collection).or_default().insert(device);
    }

    /// An advertisement was edited, deleted or has expired.
    pub(crate) fn changed(&self, advertisement: AdvertisementId) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.advertisements.insert(advertisement);
        queue.over.remove(&advertisement);
    }

    /// An advertisement has expired. Looked at once, and again when something of it changes.
    fn expired(&self, advertisement: AdvertisementId) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.over.insert(advertisement) {
            queue.advertisements.insert(advertisement);
        }
    }

    fn take(&self) -> Queue {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = held.over.clone();
        std::mem::replace(&mut *held, Queue { over, ..Queue::default() })
    }

    /// Nothing is left to decide about an occurrence that a later one has passed.
    fn passed(&self, occurrence: &OccurrenceRow) {
        let mut passed = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        passed.insert((occurrence.advertisement, occurrence.occurrence.clone()));
    }

    fn is_passed(&self, occurrence: &OccurrenceRow) -> bool {
        let passed = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        passed.contains(&(occurrence.advertisement, occurrence.occurrence.clone()))
    }

    fn give_back(&self, queue: Queue) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.advertisements.extend(queue.advertisements);
        for (collection, devices) in queue.moves {
            held.moves.entry(collection).or_default().extend(devices);
        }
    }
}

impl App {
    /// Decides what waits. Called by a task; safe to call at any time.
    pub(crate) async fn settle(&self) -> Outcome<()> {
        let mut queue = self.unsettled.take();
        let done = self.settle_queue(&mut queue).await;
        if done.is_err() {
            self.unsettled.give_back(queue);
        }
        done
    }

    async fn settle_queue(&self, queue: &mut Queue) -> Outcome<()> {
        while let Some((collection, devices)) = queue.moves.pop_first() {
            let moved: Vec<DeviceId> = devices.iter().copied().collect();
            if let Err(error) = self.settle_moves(collection, &moved).await {
                queue.moves.insert(collection, devices);
                return Err(error);
            }
        }
        while let Some(id) = queue.advertisements.pop_first() {
            if let Err(error) = self.settle_advertisement(id).await {
                queue.advertisements.insert(id);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Puts everything on the list that a crash may have left undone, and what has expired since.
    pub(crate) async fn unsettle_all(&self) -> Outcome<()> {
        let mut read = self.db.read().await?;
        let occurrences = read.accounting_occurrences().await?;
        let ids: HashSet<AdvertisementId> = occurrences.into_iter().map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| self.unsettled.changed(id));
        Ok(())
    }

    /// Puts the advertisements that have expired on the list.
    pub(crate) async fn unsettle_expired(&self) -> Outcome<()> {
        let mut read = self.db.read().await?;
        let now = self.now();
        let rows = read.advertisement_list_live().await?;
        rows.iter()
            .filter(|row| row.expires.is_some_and(|expires| expires <= now))
            .for_each(|row| self.unsettled.expired(row.id));
        Ok(())
    }

    async fn settle_moves(&self, collection: CollectionId, devices: &[DeviceId]) -> Outcome<()> {
        let mut read = self.db.read().await?;
        let open = read.occurrence_list_open(&[collection]).await?;
        drop(read);
        for occurrence in open {
            for portion in devices.chunks(PORTION) {
                self.settle_portion(&occurrence, portion).await?;
            }
        }
        Ok(())
    }

    /// Looks at every device that an advertisement targets, where one may have to be decided.
    async fn settle_advertisement(&self, id: AdvertisementId) -> Outcome<()> {
        let mut read = self.db.read().await?;
        let Some(row) = read.advertisement_load(id).await? else { return Ok(()) };
        let occurrences = read.occurrence_list(id).await?;
        let removes = self.live.at(&mut read).await?.removing().contains_key(&id);
        drop(read);
        for occurrence in &occurrences {
            // Whom a removal concerns, the advertisement does not: as long as it declares one, there are
            // decisions of its own.
            let is_left = occurrence.occurrence.is_removal() && removes;
            if is_left || self.unsettled.is_passed(occurrence) {
                continue;
            }
            if self.is_settled(&row, occurrence).await? {
                if is_passed(&occurrences, &occurrence.occurrence) {
                    self.unsettled.passed(occurrence);
                }
                continue;
            }
            let mut after = None;
            loop {
                let mut read = self.db.read().await?;
                let one = std::slice::from_ref(&occurrence.occurrence);
                let page = read.accounting_page(id, one, None, after, ACCOUNTING_PAGE_MAX).await?;
                drop(read);
                let open = page.devices.iter().filter(|one| may_move(one.row.as_ref()));
                let devices: Vec<DeviceId> = open.map(|one| one.device).collect();
                self.settle_portion(occurrence, &devices).await?;
                match page.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Whether nothing of an occurrence can be decided: all that is open for members stays open, or
    /// every device has started or ended.
    async fn is_settled(
        &self,
        row: &AdvertisementRow,
        occurrence: &OccurrenceRow,
    ) -> Outcome<bool> {
        let mut read = self.db.read().await?;
        let one = std::slice::from_ref(&occurrence.occurrence);
        let sums = read.accounting_sums(row.id, one).await?;
        let count = |of: &dyn Fn(Word) -> bool| -> i64 {
            sums.rows.0.iter().filter(|(word, _)| of(**word)).map(|(_, count)| *count).sum()
        };
        let with_row = count(&|_| true);
        let unsaid = i64::try_from(sums.targeted).unwrap_or(i64::MAX) - with_row;
        let open = count(&|word| word.is_unstarted() || word == Word::Withdrawn) + unsaid;
        Ok(open == 0)
    }

    /// Decides for some devices of one occurrence, in one transaction.
    async fn settle_portion(
        &self,
        occurrence: &OccurrenceRow,
        devices: &[DeviceId],
    ) -> Outcome<()> {
        if devices.is_empty() {
            return Ok(());
        }
        // Most of the time there is nothing to decide: no batch of these devices waits for that.
        let mut read = self.db.read().await?;
        let decided = self.decided(&mut read, occurrence, devices).await?;
        drop(read);
        if decided.is_empty() {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        tx.stream_lock_many(devices.iter().copied()).await?;
        let decided = self.decided(&mut tx, occurrence, devices).await?;
        if decided.is_empty() {
            return Ok(());
        }
        let rows: Vec<ObligationRow> = decided.iter().map(|one| one.row.clone()).collect();
        tx.obligation_write_many(&rows).await?;
        tx.counter_add(&merged(&decided)).await?;
        Ok(tx.commit().await?)
    }

    /// What there is to decide for some devices of one occurrence, as the rows are now.
    async fn decided(
        &self,
        read: &mut Read,
        occurrence: &OccurrenceRow,
        devices: &[DeviceId],
    ) -> Outcome<Vec<Applied>> {
        let id = occurrence.advertisement;
        let Some(advertisement) = read.advertisement_load(id).await? else { return Ok(Vec::new()) };
        let all = read.occurrence_list(id).await?;
        let is_passed = is_passed(&all, &occurrence.occurrence);
        let spans = all.into_iter().find(|row| row.occurrence == occurrence.occurrence);
        let Some(occurrence) = spans else { return Ok(Vec::new()) };
        let members = members_of(read, &occurrence, devices, Span::is_open).await?;
        let stay = members_of(read, &occurrence, devices, |_| true).await?;
        let keys: Vec<Key> = devices.iter().map(|device| key(&occurrence, *device)).collect();
        let rows = read.obligation_load_many(&keys).await?;
        let rows: BTreeMap<Key, ObligationRow> =
            rows.into_iter().map(|row| (row.key.clone(), row)).collect();
        let targeted = read.occurrence_targets_many(&keys).await?;
        let last = last_words(read, &rows).await?;
        let now = self.now();
        let mut decided = Vec::new();
        for key in &keys {
            let row = rows.get(key);
            if row.is_none() && !targeted.contains(key) {
                continue;
            }
            let is_member = members.contains(&key.device);
            let decision = match is_passed && advertisement.deleted_at.is_none() {
                // The advertisement declares no removal any more.
                _ if occurrence.occurrence.is_removal() => row
                    .filter(|row| row.state.word().is_unstarted())
                    .map(|_| Decision::RemoveAssignment),
                true => missed(row, now),
                false => {
                    let expired = advertisement.expires.is_some_and(|expires| expires <= now);
                    // Its assignment is gone, or has no such occurrence any more.
                    let is_removed = !occurrence.is_open() && stay.contains(&key.device);
                    decision(&advertisement, &occurrence, is_member, is_removed, expired, row)
                }
            };
            decided.extend(decision.and_then(|decision| match decision {
                Decision::Join => rejoin(key, row, last.get(key), advertisement.revision, now),
                _ => decide(decision, key, row, advertisement.revision, now),
            }));
        }
        Ok(decided)
    }
}

/// What the site decides about an obligation, if anything.
fn decision(
    advertisement: &AdvertisementRow,
    occurrence: &OccurrenceRow,
    is_member: bool,
    is_removed: bool,
    expired: bool,
    row: Option<&ObligationRow>,
) -> Option<Decision> {
    let named = occurrence.spans.is_empty();
    match () {
        () if advertisement.deleted_at.is_some() => Some(Decision::Delete),
        () if named || is_member => match expired {
            // What the machine is, it stays.
            true => (row.map(|row| row.state.word()) != Some(Word::NotApplicable))
                .then_some(Decision::Expire),
            false => (!named).then_some(Decision::Join),
        },
        () if is_removed => Some(Decision::RemoveAssignment),
        () => Some(Decision::Leave),
    }
}

/// Whether an obligation whose occurrence a later one has passed is missed.
fn missed(row: Option<&ObligationRow>, now: Wall) -> Option<Decision> {
    let waits = |row: &ObligationRow| match row.state {
        // What the machine is, it was.
        State::NotApplicable { .. } => true,
        // Where the device is it has not fallen due.
        State::Waiting { why: Waiting::Time, until: Some(until) } => until > now,
        _ => false,
    };
    (!row.is_some_and(waits)).then_some(Decision::Miss)
}

/// What their devices said last about those of `rows` that leaving withdrew, as far as it is stored.
async fn last_words(
    read: &mut Read,
    rows: &BTreeMap<Key, ObligationRow>,
) -> Outcome<BTreeMap<Key, Message>> {
    let left = |row: &&ObligationRow| row.state == Decision::Leave.state();
    let places: BTreeMap<(DeviceId, Place), &Key> = rows
        .values()
        .filter(left)
        .filter_map(|row| Some(((row.key.device, row.place?), &row.key)))
        .collect();
    let asked: Vec<(DeviceId, Place)> = places.keys().copied().collect();
    let found = read.message_load_many(&asked).await?;
    let words = found.into_iter().filter_map(|stored| {
        let key = places.get(&(stored.device, stored.place))?;
        Some(((*key).clone(), serde_json::from_str(&stored.body).ok()?))
    });
    Ok(words.collect())
}

/// Those of `devices` that are members now of the collections of those spans that `of` picks.
async fn members_of(
    read: &mut Read,
    occurrence: &OccurrenceRow,
    devices: &[DeviceId],
    of: impl Fn(&Span) -> bool,
) -> Outcome<HashSet<DeviceId>> {
    let open: HashSet<CollectionId> =
        occurrence.spans.iter().filter(|span| of(span)).map(|span| span.collection).collect();
    let memberships = read.membership_of_many(devices).await?;
    let member = |(_, collection): &(DeviceId, CollectionId)| open.contains(collection);
    Ok(memberships.into_iter().filter(member).map(|(device, _)| device).collect())
}

fn key(occurrence: &OccurrenceRow, device: DeviceId) -> Key {
    Key {
        advertisement: occurrence.advertisement,
        occurrence: occurrence.occurrence.clone(),
        device,
    }
}

/// Whether the site may have something to say: nothing was said or started, or leaving withdrew it.
fn may_move(row: Option<&ObligationRow>) -> bool {
    let left = State::Withdrawn { why: Withdrawal::LeftCollection };
    row.is_none_or(|row| row.state.word().is_unstarted() || row.state == left)
}
