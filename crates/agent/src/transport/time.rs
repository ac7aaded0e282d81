//! Trusted time as the shell keeps it: for certificates and tickets. The machine keeps its own, from
//! the same site times.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_host::clock::Clock;
use muster_model::clock::{TrustedTime, Wall};

/// What is no leap of the site's time: less than any certificate has left when it is renewed.
const LEAP_LEAST: Duration = Duration::from_secs(60 * 60);

/// Trusted time: the last signed site time plus the boot time elapsed since. Clones share it.
#[derive(Clone, Debug)]
pub struct TrustedClock {
    clock: Clock,
    time: Arc<Mutex<TrustedTime>>,
}

impl TrustedClock {
    /// A clock that goes on from `time`, which was learnt in this boot or brought into it.
    pub fn new(clock: Clock, time: TrustedTime) -> Self {
        Self { clock, time: Arc::new(Mutex::new(time)) }
    }

    /// Takes a site time whose signature was checked; true if it is the first, or later by a leap than
    /// was known: what was good may have expired.
    pub fn learn(&self, site: Wall) -> bool {
        let now = self.clock.now();
        let mut time = self.lock();
        let news = *time == TrustedTime::default() || site.since(time.at(now)) >= LEAP_LEAST;
        time.learn(site, now);
        news
    }

    /// Goes on from `time` instead, unless a site time came meanwhile that is later.
    pub fn resume(&self, time: TrustedTime) {
        let now = self.clock.now();
        let mut held = self.lock();
        if *held == TrustedTime::default() || time.at(now) > held.at(now) {
            *held = time;
        }
    }

    /// Trusted time; `None` before the first contact, when no certificate's date can be judged.
    pub fn trusted(&self) -> Option<Wall> {
        let time = *self.lock();
        (time != TrustedTime::default()).then(|| time.at(self.clock.now()))
    }

    /// Trusted time, which before the first contact is the wall clock.
    pub fn wall(&self) -> Wall {
        self.lock().at(self.clock.now())
    }

    fn lock(&self) -> MutexGuard<'_, TrustedTime> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_trusted_time_before_the_first_contact() {
        let clock = Clock::from_env().unwrap();
        let time = TrustedClock::new(clock, TrustedTime::default());
        assert_eq!(time.trusted(), None);
        let site = time.wall().plus(std::time::Duration::from_secs(400 * 86_400));
        assert!(time.learn(site) && !time.learn(site));
        assert!(time.trusted().unwrap() >= site && time.wall() >= site);
        assert!(time.learn(site.plus(LEAP_LEAST.mul_f32(1.1))), "a leap");
    }
}
