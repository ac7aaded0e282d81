//! What becomes of writes that nobody synced: each survives or not, by dice.

use super::{Names, PAGE_BYTES, Twice};

/// One seed's dice.
pub(super) struct Fate(u64);

impl Fate {
    /// The seed 0 lets nothing survive.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Of a file the new length may survive, and each page on its own; what was never written reads as
    /// zeros.
    pub(super) fn of_bytes(&mut self, file: &mut Twice<Vec<u8>>) {
        let length = if self.survives() { file.now.len() } else { file.synced.len() };
        let mut found = vec![0; length];
        for (index, page) in found.chunks_mut(PAGE_BYTES).enumerate() {
            let from = if self.survives() { &file.now } else { &file.synced };
            let there = from.get(index * PAGE_BYTES..).unwrap_or_default();
            let there = &there[..there.len().min(page.len())];
            page[..there.len()].copy_from_slice(there);
        }
        file.now = found;
        file.sync();
    }

    /// Of a folder each name that came, went or moved does so on its own.
    pub(super) fn of_names(&mut self, folder: &mut Twice<Names>) {
        let mut found = Names::new();
        let both = folder.now.keys().chain(folder.synced.keys());
        let names: std::collections::BTreeSet<_> = both.cloned().collect();
        for name in names {
            let from = if self.survives() { &folder.now } else { &folder.synced };
            if let Some(number) = from.get(&name) {
                found.insert(name, *number);
            }
        }
        folder.now = found;
        folder.sync();
    }

    /// Marsaglia's xorshift with 64 bits; a third survives.
    fn survives(&mut self) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 != 0 && (self.0 >> 32).is_multiple_of(3)
    }
}
