//! Disks that forget: what was written is seen by every process at once, and survives the machine
//! only once it was synced.
//!
//! A killed process loses nothing that it wrote: the kernel still has it. A power cut loses what was
//! not synced, or keeps it: both are drawn.

use crate::dice::Dice;

/// Something that is kept on disk and changed by whole, atomic writes.
pub(crate) trait Medium: Clone + Default {
    /// One atomic write: a transaction of a journal.
    type Write;
    /// Makes the write.
    fn apply(&mut self, write: &Self::Write);
}

/// A medium with its unsynced writes.
pub(crate) struct Disk<M: Medium> {
    cached: M,
    durable: M,
    unsynced: Vec<M::Write>,
}

impl<M: Medium> Disk<M> {
    /// An empty disk.
    pub(crate) fn new() -> Self {
        Self { cached: M::default(), durable: M::default(), unsynced: Vec::new() }
    }

    /// What a process reads.
    pub(crate) fn read(&self) -> &M {
        &self.cached
    }

    /// What would survive a power cut for certain.
    pub(crate) fn durable(&self) -> &M {
        &self.durable
    }

    /// Writes, without syncing.
    pub(crate) fn write(&mut self, write: M::Write) {
        self.cached.apply(&write);
        self.unsynced.push(write);
    }

    /// Makes all writes durable.
    pub(crate) fn sync(&mut self) {
        for write in self.unsynced.drain(..) {
            self.durable.apply(&write);
        }
    }

    /// Cuts the power: of the unsynced writes, a prefix of random length survives. (A journal checks
    /// its frames, so that what follows a torn one is not there either.)
    pub(crate) fn power_cut(&mut self, dice: &mut Dice) {
        if self.unsynced.is_empty() {
            return;
        }
        let survive = dice.below(self.unsynced.len() as u64 + 1) as usize;
        for write in self.unsynced.drain(..).take(survive) {
            self.durable.apply(&write);
        }
        self.cached = self.durable.clone();
    }

    /// A copy of what is durable.
    pub(crate) fn copy(&self) -> Self {
        let (cached, durable) = (self.durable.clone(), self.durable.clone());
        Self { cached, durable, unsynced: Vec::new() }
    }

    /// Loses everything: the disk was wiped.
    pub(crate) fn wipe(&mut self) {
        *self = Self::new();
    }
}

impl<M: Medium> Default for Disk<M> {
    fn default() -> Self {
        Self::new()
    }
}

/// One small file that is replaced as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct File<T: Clone> {
    cached: Option<T>,
    durable: Option<T>,
}

impl<T: Clone> File<T> {
    /// A file that is not there.
    pub(crate) fn missing() -> Self {
        Self { cached: None, durable: None }
    }

    /// What a process reads.
    pub(crate) fn read(&self) -> Option<&T> {
        self.cached.as_ref()
    }

    /// Writes, without syncing.
    pub(crate) fn write(&mut self, content: T) {
        self.cached = Some(content);
    }

    /// A copy of what is durable.
    pub(crate) fn copy(&self) -> Self {
        Self { cached: self.durable.clone(), durable: self.durable.clone() }
    }

    /// Makes the content durable (file, rename, folder).
    pub(crate) fn sync(&mut self) {
        self.durable.clone_from(&self.cached);
    }

    /// Cuts the power: an unsynced content survives or the one before comes back.
    pub(crate) fn power_cut(&mut self, dice: &mut Dice) {
        if dice.per_mille(500) {
            self.durable.clone_from(&self.cached);
        }
        self.cached.clone_from(&self.durable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Medium for Vec<u8> {
        type Write = u8;
        fn apply(&mut self, write: &u8) {
            self.push(*write);
        }
    }

    #[test]
    fn a_power_cut_keeps_what_was_synced_and_a_prefix_of_the_rest() {
        let mut lengths = [0; 4];
        for seed in 0..200 {
            let mut disk: Disk<Vec<u8>> = Disk::new();
            disk.write(0);
            disk.sync();
            [1, 2, 3].into_iter().for_each(|write| disk.write(write));
            disk.power_cut(&mut Dice::new(seed));
            assert!([0, 1, 2, 3].starts_with(disk.read()), "{:?}", disk.read());
            lengths[disk.read().len() - 1] += 1;
        }
        assert!(lengths.iter().all(|n| *n > 0), "every prefix occurs: {lengths:?}");
    }

    #[test]
    fn an_unsynced_file_survives_a_power_cut_by_luck_only() {
        let after = |seed| {
            let mut file = File::missing();
            file.write(1);
            file.sync();
            file.write(2);
            file.power_cut(&mut Dice::new(seed));
            file.read().copied()
        };
        let seen: Vec<Option<i32>> = (0..50).map(after).collect();
        assert!(seen.contains(&Some(1)) && seen.contains(&Some(2)) && !seen.contains(&None));
    }
}
