//! The index of the spool: which batches are on disk, in stream order, within bounds.

use std::collections::BTreeMap;

use super::step::{BatchKey, Spooled, Stream};
use muster_model::digest::Digest;
use muster_model::id::Sequence;

/// Bytes of one device's batches: two of the largest, so that one device that the site refuses to
/// hear cannot fill the spool for its neighbours.
pub const SPOOL_STREAM_BYTES_MAX: u64 = 8 * 1024 * 1024;

type Place = (Sequence, Sequence, Digest);

/// Every spooled batch, without its bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Spool {
    streams: BTreeMap<Stream, BTreeMap<Place, u64>>,
    bytes: u64,
}

impl Spool {
    pub(super) fn insert(&mut self, spooled: Spooled) {
        let key = spooled.key;
        let place = (key.first, key.last, key.head);
        let batches = self.streams.entry(key.stream).or_default();
        let replaced = batches.insert(place, spooled.bytes).unwrap_or(0);
        self.bytes = self.bytes + spooled.bytes - replaced;
    }

    pub(super) fn remove(&mut self, key: &BatchKey) -> bool {
        let Some(batches) = self.streams.get_mut(&key.stream) else { return false };
        let Some(bytes) = batches.remove(&(key.first, key.last, key.head)) else { return false };
        self.bytes -= bytes;
        if batches.is_empty() {
            self.streams.remove(&key.stream);
        }
        true
    }

    pub(super) fn contains(&self, key: &BatchKey) -> bool {
        self.streams
            .get(&key.stream)
            .is_some_and(|batches| batches.contains_key(&(key.first, key.last, key.head)))
    }

    /// The batches of `stream` in the order in which they go.
    pub(super) fn of(&self, stream: Stream) -> impl Iterator<Item = BatchKey> {
        let places = self.streams.get(&stream).into_iter().flat_map(BTreeMap::keys);
        places.map(move |(first, last, head)| BatchKey {
            stream,
            first: *first,
            last: *last,
            head: *head,
        })
    }

    /// The name of the limit that one more batch of `bytes` would break. An empty spool takes one batch
    /// whatever its size: the smallest quota delays, it never blocks.
    pub(super) fn refuses(
        &self,
        stream: Stream,
        bytes: u64,
        bytes_max: u64,
    ) -> Option<&'static str> {
        let held: u64 = self.streams.get(&stream).map_or(0, |batches| batches.values().sum());
        if self.bytes == 0 {
            None
        } else if self.bytes.saturating_add(bytes) > bytes_max {
            Some("quota")
        } else if held.saturating_add(bytes) > SPOOL_STREAM_BYTES_MAX {
            Some("SPOOL_STREAM_BYTES_MAX")
        } else {
            None
        }
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = Stream> {
        self.streams.keys().copied()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.streams.values().map(BTreeMap::len).sum()
    }
}
