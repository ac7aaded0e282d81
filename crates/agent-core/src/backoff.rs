//! Back-off: when to try again, growing with the outage and starting anew after each success.
//!
//! The wait is half of the outage so far, at least one second and at most a setting, so a short outage
//! costs seconds and a long one little traffic. Jitter only shortens it: a fleet that lost its site
//! together comes back spread out, and never later than half the outage.

use std::time::Duration;

use muster_model::clock::Elapsed;

/// The least wait between two tries.
pub(crate) const BACKOFF_LEAST: Duration = Duration::from_secs(1);
/// Jitter takes away up to this part of a wait, in thousandths.
const JITTER_PERMILLE: u64 = 200;

/// When to try again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    outage_since: Option<Elapsed>,
    due: Elapsed,
}

impl Backoff {
    /// The next try is due then; at the beginning, at once.
    pub(crate) fn due(&self) -> Elapsed {
        self.due
    }

    pub(crate) fn is_due(&self, now: Elapsed) -> bool {
        self.due <= now
    }

    /// A try that began at `began` has failed.
    pub(crate) fn failed(
        &mut self,
        began: Elapsed,
        now: Elapsed,
        most: Duration,
        jitter: &mut Jitter,
    ) {
        let outage = now.since(*self.outage_since.get_or_insert(began));
        let wait = (outage / 2).clamp(BACKOFF_LEAST, most.max(BACKOFF_LEAST));
        self.due = now.plus(jitter.shorten(wait));
    }

    /// A try has succeeded; the next one is due at `next`.
    pub(crate) fn succeeded(&mut self, next: Elapsed) {
        *self = Self { outage_since: None, due: next };
    }

    /// Something changed (the link came up): try now, whatever was planned.
    pub(crate) fn hasten(&mut self) {
        self.due = Elapsed(0);
    }
}

/// A spread of waits from one seed (SplitMix64). Nothing but waits may depend on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A length of time below `most`.
    pub(crate) fn below(&mut self, most: Duration) -> Duration {
        let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.next() % millis.max(1))
    }

    pub(crate) fn shorten(&mut self, wait: Duration) -> Duration {
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let off = self.next() % (JITTER_PERMILLE + 1);
        wait.saturating_sub(Duration::from_millis(millis / 1_000 * off))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(900);

    #[test]
    fn after_an_outage_of_a_minute_the_next_try_is_within_thirty_seconds() {
        for seed in 0..100 {
            let mut jitter = Jitter::new(seed);
            let mut backoff = Backoff::default();
            let mut now = Elapsed(1_000_000);
            let began = now;
            while now.since(began) <= Duration::from_secs(60) {
                backoff.failed(began, now, MOST, &mut jitter);
                let wait = backoff.due().since(now);
                assert!(wait >= BACKOFF_LEAST * 4 / 5, "{wait:?}");
                assert!(wait <= Duration::from_secs(30), "{wait:?}");
                now = backoff.due();
            }
        }
    }

    #[test]
    fn no_wait_is_longer_than_the_setting_and_success_starts_anew() {
        let mut jitter = Jitter::new(7);
        let mut backoff = Backoff::default();
        let began = Elapsed(0);
        let late = Elapsed(86_400_000);
        backoff.failed(began, began, MOST, &mut jitter);
        backoff.failed(began, late, MOST, &mut jitter);
        let wait = backoff.due().since(late);
        assert!(wait <= MOST && wait >= MOST * 4 / 5, "{wait:?}");
        backoff.succeeded(late);
        assert!(backoff.is_due(late));
        backoff.failed(late, late, MOST, &mut jitter);
        assert!(backoff.due().since(late) <= BACKOFF_LEAST);
    }
}
