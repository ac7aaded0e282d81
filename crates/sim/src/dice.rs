//! All chance of a simulated world, from its seed.
//!
//! ChaCha8 with a sampling of our own, so that a seed means the same world in every version of every
//! library. Two worlds with one seed draw the same numbers in the same order.

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use uuid::Uuid;

/// A source of chance.
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// The dice of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Sixty-four random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `end`; 0 if `end` is 0. The bias of the multiplication is below 2^-32 for the
    /// small numbers drawn here.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    /// A number from `least` to `most`, both included.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// True `n` times in a thousand.
    pub(crate) fn per_mille(&mut self, n: u32) -> bool {
        self.below(1_000) < u64::from(n)
    }

    /// Mostly short, sometimes very long: a number from `least` up to `most`, with each factor of two
    /// equally likely. What waits in the field is spread like this.
    pub(crate) fn spread(&mut self, least: u64, most: u64) -> u64 {
        let doublings = u64::from((most / least.max(1)).max(1).ilog2()) + 1;
        let top = least.max(1).saturating_mul(1 << self.below(doublings + 1).min(62));
        self.between(least, top.min(most))
    }

    /// One of `items`.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len() as u64) as usize)
    }

    /// An id. Looks random, follows from the seed.
    pub(crate) fn uuid(&mut self) -> Uuid {
        Uuid::from_u64_pair(self.bits(), self.bits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_sequence() {
        let draw = |seed| {
            let mut dice = Dice::new(seed);
            (0..9).map(|_| dice.spread(1, 1_000_000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn a_spread_stays_in_its_range_and_reaches_far() {
        let mut dice = Dice::new(1);
        let drawn: Vec<u64> = (0..2_000).map(|_| dice.spread(10, 5_000)).collect();
        assert!(drawn.iter().all(|n| (10..=5_000).contains(n)));
        assert!(drawn.iter().any(|n| *n < 20) && drawn.iter().any(|n| *n > 2_500));
    }
}
