//! Batches of many devices taken in one transaction: what a plan is made from, and what it writes.
//!
//! ```text
//! ingest_load(asks) -> rows -> lookups -> site-core's plan, batch by batch -> ingest_write(plans)
//! ```
//!
//! The streams stay locked from the load to the commit, taken in one order, so groups of several
//! processes never wait for each other in a circle. A group holds at most one batch of a device: the
//! second would be planned from rows that the first has outdated. Messages, rows, counters, gaps and
//! what is set aside become durable together; receipts are signed after the commit, never before.

use std::collections::{BTreeMap, BTreeSet};

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{DeviceId, Incarnation, Sequence};
use muster_site_core::ingest::{Lookups, Reading, StreamRow, Taken};
use muster_site_core::obligation::{Key, ObligationRow, Place};
use muster_site_core::put_back::Lives;

use super::arg::{Kind, ToArg};
use super::db::{Read, Tx};
use super::error::StoreError;
use super::row::Row;
use super::set_aside::NewSetAside;
use super::sql::many;
use super::stream::GapRow;

/// What one batch needs to be planned.
#[derive(Clone, Debug)]
pub struct IngestAsk {
    /// Whose batch.
    pub device: DeviceId,
    /// Of which stream.
    pub incarnation: Incarnation,
    /// Its last message.
    pub last: Sequence,
    /// The obligations that it speaks of.
    pub touched: BTreeSet<Key>,
}

/// What a group of batches is planned from, as it is under the locks.
#[derive(Clone, Debug, Default)]
pub struct IngestRows {
    streams: BTreeMap<(DeviceId, Incarnation), StreamRow>,
    rows: BTreeMap<Key, ObligationRow>,
    targeted: BTreeSet<Key>,
    chains: BTreeMap<(DeviceId, Place), Digest>,
    incarnations: BTreeMap<DeviceId, (Incarnation, Incarnation)>,
    /// Of devices of which an older life speaks: when the newest was first heard.
    newest_since: BTreeMap<DeviceId, Wall>,
}

/// A batch that forked its stream: nothing of it is taken.
#[derive(Clone, Debug)]
pub struct Forked {
    /// The stream with the mark.
    pub stream: StreamRow,
    /// The batch, kept apart under the head that it names.
    pub batch: NewSetAside,
}

impl IngestAsk {
    /// What the batch that was read needs.
    pub fn of(reading: &Reading) -> Self {
        let header = &reading.header;
        Self {
            device: header.device,
            incarnation: header.incarnation,
            last: header.last,
            touched: reading.touched(),
        }
    }

    fn stream(&self) -> (DeviceId, Incarnation) {
        (self.device, self.incarnation)
    }

    fn place(&self) -> Place {
        Place { incarnation: self.incarnation, sequence: self.last }
    }
}

impl IngestRows {
    /// The stream of a batch and the lookups for its plan; `None`: the site knows no such device.
    pub fn lookups(&mut self, ask: &IngestAsk, now: Wall) -> Option<(StreamRow, Lookups)> {
        let (newest, granted) = *self.incarnations.get(&ask.device)?;
        let stream = self.streams.get(&ask.stream()).cloned();
        let stream = stream.unwrap_or_else(|| StreamRow::new(ask.device, ask.incarnation));
        let take = |key: &Key| self.rows.remove(key).map(|row| (key.clone(), row));
        let rows = ask.touched.iter().filter_map(take).collect();
        let targeted = ask.touched.intersection(&self.targeted).cloned().collect();
        let chain_at_last = self.chains.get(&(ask.device, ask.place())).copied();
        let found = Lookups::new(granted, newest, now);
        let lives = Lives::of(
            self.streams
                .range((ask.device, Incarnation(0))..=(ask.device, Incarnation(u32::MAX)))
                .map(|(_, row)| row),
        );
        let newest_since = self.newest_since.get(&ask.device).copied();
        Some((stream, Lookups { rows, targeted, chain_at_last, newest_since, lives, ..found }))
    }
}

impl Tx {
    /// Locks the streams of a group of batches and loads what they are planned from. No two batches
    /// are of one device.
    pub async fn ingest_load(&mut self, asks: &[IngestAsk]) -> Result<IngestRows, StoreError> {
        let streams = self.stream_lock_many(asks.iter().map(|ask| ask.device)).await?;
        let streams: BTreeMap<_, _> =
            streams.into_iter().map(|row| ((row.device, row.incarnation), row)).collect();
        let keys = || asks.iter().flat_map(|ask| &ask.touched);
        let rows = self.obligation_load_many(keys()).await?;
        let rows: BTreeMap<_, _> = rows.into_iter().map(|row| (row.key.clone(), row)).collect();
        // Who has a row is targeted; membership is asked about the others only.
        let without_row = keys().filter(|key| !rows.contains_key(key));
        let targeted = self.occurrence_targets_many(without_row).await?;
        let through = |ask: &IngestAsk| streams.get(&ask.stream()).map(|row| row.through);
        let wholly_old = asks.iter().filter(|ask| through(ask).is_some_and(|t| ask.last < t));
        let places: Vec<_> = wholly_old.map(|ask| (ask.device, ask.place())).collect();
        let chains = self.message_chain_many(&places).await?;
        let chains = chains.into_iter().map(|(device, place, chain)| ((device, place), chain));
        let chains = chains.collect();
        let devices: Vec<DeviceId> = asks.iter().map(|ask| ask.device).collect();
        let incarnations = self.incarnations(&devices).await?;
        let mut newest_since = BTreeMap::new();
        for ask in asks {
            let newest = incarnations.get(&ask.device).map(|(newest, _)| *newest);
            if let Some(newest) = newest.filter(|newest| ask.incarnation < *newest)
                && let Some(since) = self.message_first_received(ask.device, newest).await?
            {
                newest_since.insert(ask.device, since);
            }
        }
        Ok(IngestRows { streams, rows, targeted, chains, incarnations, newest_since })
    }

    /// Writes the plans of a group, all or nothing. `now` is the site's time.
    pub async fn ingest_write(
        &mut self,
        now: Wall,
        taken: &[Taken],
        forked: &[Forked],
    ) -> Result<(), StoreError> {
        let streams: Vec<StreamRow> = taken
            .iter()
            .map(|one| &one.stream)
            .chain(forked.iter().map(|one| &one.stream))
            .cloned()
            .collect();
        self.stream_write_many(&streams).await?;
        let messages: Vec<_> = taken
            .iter()
            .flat_map(|one| one.accepted.iter().map(|accepted| (&one.stream, accepted)))
            .map(|(stream, accepted)| (stream.device, stream.incarnation, accepted))
            .collect();
        self.message_insert_many(now, &messages).await?;
        let set_aside: Vec<NewSetAside> = taken
            .iter()
            .flat_map(|one| one.set_aside.iter().map(set_aside))
            .chain(forked.iter().map(|one| one.batch.clone()))
            .collect();
        self.set_aside_insert_many(now, &set_aside).await?;
        let gaps: Vec<GapRow> = taken.iter().filter_map(|one| gap(one, now)).collect();
        self.gap_insert_many(&gaps).await?;
        let rows: Vec<ObligationRow> =
            taken.iter().flat_map(|one| one.obligations.iter().cloned()).collect();
        self.obligation_write_many(&rows).await?;
        let deltas: Vec<_> = taken.iter().flat_map(|one| one.deltas.iter().cloned()).collect();
        self.counter_add(&deltas).await?;
        let facts: Vec<_> =
            taken.iter().filter_map(|one| Some((one.stream.device, one.facts.as_ref()?))).collect();
        self.device_facts_set_many(&facts).await?;
        let heard: Vec<_> =
            streams.iter().map(|stream| (stream.device, stream.incarnation)).collect();
        self.device_incarnation_heard_many(&heard).await
    }
}

impl Read {
    /// The newest incarnation heard and the highest handed out, of those of `devices` that exist.
    async fn incarnations(
        &mut self,
        devices: &[DeviceId],
    ) -> Result<BTreeMap<DeviceId, (Incarnation, Incarnation)>, StoreError> {
        let rows = devices.iter().map(|id| [id.to_arg()]).collect();
        let tail = "SELECT d.id, d.incarnation, d.next_incarnation FROM k
                    JOIN device d ON d.id = k.id";
        let read = |row: &Row| {
            Ok((row.get("id")?, (row.get("incarnation")?, row.get("next_incarnation")?)))
        };
        let many = many("ingest_load", [("id", Kind::Id)], rows, tail);
        Ok(self.all_many(many, read).await?.into_iter().collect())
    }
}

fn set_aside(item: &muster_site_core::ingest::SetAside) -> NewSetAside {
    NewSetAside {
        reason: item.reason.word().to_owned(),
        detail: item.reason.to_string(),
        sender: item.sender.to_string(),
        place: Some((item.sender, item.place)),
        chain: Some(item.chain),
        bytes: item.bytes.clone(),
    }
}

fn gap(taken: &Taken, at: Wall) -> Option<GapRow> {
    let StreamRow { device, incarnation, .. } = taken.stream;
    Some(GapRow { device, incarnation, gap: taken.gap?, at })
}
