//! The site's database, in memory: rows, and transactions that are there as a whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{AdvertisementId, CollectionId, DeviceId, EpochId, Incarnation, Sequence};
use muster_model::message::{Body, Message, Occurrence, Report};
use muster_model::policy::Order;
use muster_model::sign::PublicKey;
use muster_model::state::Word;
use muster_model::window::Window;
use muster_site_core::accounting::Counts;
use muster_site_core::device::Device;
use muster_site_core::edit::AdvertisementRow;
use muster_site_core::ingest::{Gap, StreamRow, Taken};
use muster_site_core::membership::Collection;
use muster_site_core::obligation::{Applied, Key, ObligationRow};
use muster_site_core::occurrence::{Interval, OccurrenceRow, Revision};
use uuid::Uuid;

/// A device's row.
#[derive(Clone)]
pub(crate) struct DeviceRow {
    /// Who it is, to the site's decisions.
    pub device: Device,
    /// Its key.
    pub key: PublicKey,
    /// Its own part of its policy tag.
    pub version: u64,
    /// The highest incarnation handed out.
    pub granted: Incarnation,
    /// The highest incarnation heard of.
    pub newest: Incarnation,
}

/// A collection's row.
#[derive(Clone)]
pub(crate) struct CollectionRow {
    /// Whom it holds.
    pub collection: Collection,
    /// Moves when what is offered to it changes.
    pub policy_version: u64,
}

/// An advertisement's row.
#[derive(Clone)]
pub(crate) struct Advertised {
    /// As the plans of edits know it.
    pub row: AdvertisementRow,
    /// Which software it is, by its number in the scenario.
    pub software: usize,
    /// The first revision from which on it has been of that software.
    pub since: u32,
    /// Somebody stopped it.
    pub stopped: Option<Order>,
    /// Its package was revoked.
    pub revoked: Option<Order>,
    /// It was deleted: its accounting stays.
    pub deleted: bool,
}

/// A message as stored, set aside or taken.
#[derive(Clone)]
pub(crate) struct StoredMessage {
    /// The chain after it.
    pub chain: Digest,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The report it carries, if it was taken.
    pub report: Option<Report>,
    /// It came late.
    pub late: bool,
    /// In which order the site took it.
    pub taken: u64,
    /// When, in the site's time.
    pub received: Wall,
}

/// All rows.
#[derive(Clone)]
pub(crate) struct Store {
    /// The site's epoch.
    pub epoch: EpochId,
    /// The newest revision.
    pub revision: Revision,
    /// Devices.
    pub devices: BTreeMap<DeviceId, DeviceRow>,
    /// Collections.
    pub collections: BTreeMap<CollectionId, CollectionRow>,
    /// Who was a member of what, and when.
    pub intervals: Vec<Interval>,
    /// Advertisements.
    pub advertisements: BTreeMap<AdvertisementId, Advertised>,
    /// Windows and freezes, by name, with their collections.
    pub windows: BTreeMap<String, (CollectionId, Window)>,
    /// Everything is halted, and how often that changed.
    pub halted: (Option<Order>, u64),
    /// Streams.
    pub streams: BTreeMap<(DeviceId, Incarnation), StreamRow>,
    /// Messages. Shared with the copy that a transaction is made of.
    pub messages: BTreeMap<(DeviceId, Incarnation, Sequence), Arc<StoredMessage>>,
    /// Named gaps.
    pub gaps: BTreeMap<(DeviceId, Incarnation), Vec<Gap>>,
    /// Obligations that have a row.
    pub rows: BTreeMap<Key, ObligationRow>,
    /// Counters.
    pub counters: BTreeMap<(AdvertisementId, Occurrence), Counts>,
}

impl Store {
    /// An empty database.
    pub(crate) fn new(epoch: EpochId) -> Self {
        Self {
            epoch,
            revision: Revision(0),
            devices: BTreeMap::new(),
            collections: BTreeMap::new(),
            intervals: Vec::new(),
            advertisements: BTreeMap::new(),
            windows: BTreeMap::new(),
            halted: (None, 0),
            streams: BTreeMap::new(),
            messages: BTreeMap::new(),
            gaps: BTreeMap::new(),
            rows: BTreeMap::new(),
            counters: BTreeMap::new(),
        }
    }

    /// Takes the next revision.
    pub(crate) fn next_revision(&mut self) -> Revision {
        self.revision = Revision(self.revision.0 + 1);
        self.revision
    }

    /// The end of what the site has of a stream.
    pub(crate) fn through(&self, device: DeviceId, incarnation: Incarnation) -> Sequence {
        self.streams.get(&(device, incarnation)).map_or(Sequence(0), |stream| stream.through)
    }

    /// A device's intervals.
    pub(crate) fn intervals_of(&self, device: DeviceId) -> Vec<Interval> {
        self.intervals.iter().filter(|interval| interval.device == device).copied().collect()
    }

    /// The collections that a device is in now.
    pub(crate) fn memberships(&self, device: DeviceId) -> BTreeSet<CollectionId> {
        let open = |interval: &&Interval| interval.device == device && interval.until.is_none();
        self.intervals.iter().filter(open).map(|interval| interval.collection).collect()
    }

    /// Who is in a collection now.
    pub(crate) fn members(&self, collection: CollectionId) -> BTreeSet<DeviceId> {
        let open =
            |interval: &&Interval| interval.collection == collection && interval.until.is_none();
        self.intervals.iter().filter(open).map(|interval| interval.device).collect()
    }

    /// All occurrences of all advertisements.
    pub(crate) fn occurrences(&self) -> impl Iterator<Item = &OccurrenceRow> {
        self.advertisements.values().flat_map(|one| &one.row.occurrences)
    }

    /// Whether an obligation exists.
    pub(crate) fn is_targeted(&self, key: &Key) -> bool {
        let advertised = self.advertisements.get(&key.advertisement);
        let occurrence = advertised.and_then(|one| {
            one.row.occurrences.iter().find(|row| row.occurrence == key.occurrence)
        });
        let member = occurrence.is_some_and(|row| row.targets(&self.intervals_of(key.device)));
        member || self.rows.contains_key(key)
    }

    /// The message that a row rests on.
    pub(crate) fn message_of(&self, row: &ObligationRow) -> Option<Message> {
        let place = row.place?;
        let stored = self.messages.get(&(row.key.device, place.incarnation, place.sequence))?;
        serde_json::from_slice(&stored.bytes).ok()
    }

    /// Makes the changes of a batch.
    pub(crate) fn take(&mut self, taken: &Taken, received: Wall) {
        let stream = (taken.stream.device, taken.stream.incarnation);
        let order = self.messages.len() as u64;
        for (index, accepted) in taken.accepted.iter().enumerate() {
            let report = match &accepted.message.body {
                Body::Obligation(report) => Some(report.clone()),
                _ => None,
            };
            let message = StoredMessage {
                chain: accepted.chain,
                bytes: accepted.bytes.clone(),
                report,
                late: accepted.late,
                taken: order + index as u64,
                received,
            };
            self.messages.insert((stream.0, stream.1, accepted.sequence), Arc::new(message));
        }
        for aside in &taken.set_aside {
            let message = StoredMessage {
                chain: aside.chain,
                bytes: aside.bytes.clone(),
                report: None,
                late: false,
                taken: order,
                received,
            };
            self.messages.insert((stream.0, stream.1, aside.place.sequence), Arc::new(message));
        }
        self.gaps.entry(stream).or_default().extend(taken.gap);
        for row in &taken.obligations {
            self.rows.insert(row.key.clone(), row.clone());
        }
        for delta in &taken.deltas {
            let key = (delta.advertisement, delta.occurrence.clone());
            self.counters.entry(key).or_default().add(delta.word, delta.delta);
        }
        if let Some(device) = self.devices.get_mut(&stream.0) {
            device.newest = device.newest.max(stream.1);
            if let Some(facts) = &taken.facts {
                device.device.facts = facts.clone();
            }
        }
        self.streams.insert(stream, taken.stream.clone());
    }

    /// Makes a decision of the site about one obligation. `counted`: unless a planted bug forgets the
    /// counters.
    pub(crate) fn apply(&mut self, applied: &Applied, counted: bool) {
        for delta in applied.deltas().into_iter().filter(|_| counted) {
            let key = (delta.advertisement, delta.occurrence.clone());
            self.counters.entry(key).or_default().add(delta.word, delta.delta);
        }
        self.rows.insert(applied.row.key.clone(), applied.row.clone());
    }
}

impl Store {
    /// The obligations of an occurrence, with a row or without.
    pub(crate) fn keys_of(
        &self,
        advertisement: AdvertisementId,
        occurrence: &Occurrence,
    ) -> Vec<Key> {
        let key = |device| Key { advertisement, occurrence: occurrence.clone(), device };
        self.devices.keys().map(|device| key(*device)).filter(|key| self.is_targeted(key)).collect()
    }

    /// Whether a device is a part of the fleet.
    pub(crate) fn is_admitted(&self, device: DeviceId) -> bool {
        self.devices.get(&device).is_some_and(|row| row.device.admission.is_admitted())
    }

    /// Rows by state, counted anew.
    pub(crate) fn counted(
        &self,
        advertisement: AdvertisementId,
        occurrence: &Occurrence,
    ) -> BTreeMap<Word, i64> {
        let mut counted = BTreeMap::new();
        for row in self.rows_of(advertisement, occurrence) {
            *counted.entry(row.state.word()).or_default() += 1;
        }
        counted
    }

    /// The rows of an occurrence.
    pub(crate) fn rows_of(
        &self,
        advertisement: AdvertisementId,
        occurrence: &Occurrence,
    ) -> impl Iterator<Item = &ObligationRow> {
        let key = |device| Key { advertisement, occurrence: occurrence.clone(), device };
        let (first, last) = (DeviceId(Uuid::nil()), DeviceId(Uuid::max()));
        self.rows.range(key(first)..=key(last)).map(|(_, row)| row)
    }

    /// The messages of a stream, in order.
    pub(crate) fn messages_of(
        &self,
        device: DeviceId,
        incarnation: Incarnation,
    ) -> impl Iterator<Item = (Sequence, &StoredMessage)> {
        let place = |sequence| (device, incarnation, Sequence(sequence));
        let messages = self.messages.range(place(0)..=place(u64::MAX));
        messages.map(|((_, _, sequence), message)| (*sequence, &**message))
    }
}
