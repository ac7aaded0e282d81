//! Two clocks and a site's word (law 12). Values only: shells read clocks, cores receive [`Now`].

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An instant of civil time: milliseconds since 1970-01-01T00:00:00Z. Written as RFC 3339.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Wall(pub i64);

/// Milliseconds on the boot clock (`CLOCK_BOOTTIME`): runs through sleep, starts anew at a boot.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Elapsed(pub u64);

/// Both clocks, read at one moment by the shell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// The machine's wall clock, which may be years wrong.
    pub wall: Wall,
    /// The boot clock, which measures durations and never jumps.
    pub elapsed: Elapsed,
}

impl Wall {
    /// This instant moved by `by`, saturating.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by) as i64))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Wall) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0) as u64)
    }
}

impl Elapsed {
    /// This instant moved by `by`, saturating.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Elapsed) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What a device knows of true time: the site's last signed time plus the boot time elapsed since,
/// never going back. Before the first contact it is the wall clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TrustedTime {
    anchor: Option<(Wall, Elapsed)>,
}

impl TrustedTime {
    /// Trusted time now.
    pub fn at(&self, now: Now) -> Wall {
        match self.anchor {
            Some((site, elapsed)) => site.plus(now.elapsed.since(elapsed)),
            None => now.wall,
        }
    }

    /// Takes a site time whose signature was checked. An older one than is known already changes
    /// nothing: a replayed time cannot turn the clock back.
    pub fn learn(&mut self, site: Wall, now: Now) {
        if self.anchor.is_none() || site > self.at(now) {
            self.anchor = Some((site, now.elapsed));
        }
    }

    /// After a boot the boot clock starts anew: goes on from the last known time. The time that the
    /// machine was off is missing until the site is heard; the wall clock is not asked, since one that
    /// is years ahead would make every certificate look expired.
    pub fn rebooted(&mut self, last_known: Wall, now: Now) {
        if self.anchor.is_some() {
            self.anchor = Some((last_known, now.elapsed));
        }
    }
}

/// Text that is not an RFC 3339 instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a time is written like 2027-01-31T08:00:00Z, not {0:?}")]
pub struct NotATime(pub String);

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => time.fmt(f),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Wall {
    type Err = NotATime;
    fn from_str(text: &str) -> Result<Self, NotATime> {
        text.parse::<jiff::Timestamp>()
            .map(|time| Wall(time.as_millisecond()))
            .map_err(|_| NotATime(text.chars().take(80).collect()))
    }
}

impl Serialize for Wall {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Wall {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(wall: i64, elapsed: u64) -> Now {
        Now { wall: Wall(wall), elapsed: Elapsed(elapsed) }
    }

    #[test]
    fn before_the_first_contact_trusted_time_is_the_wall_clock() {
        assert_eq!(TrustedTime::default().at(now(77, 5)), Wall(77));
    }

    #[test]
    fn a_wrong_wall_clock_does_not_move_trusted_time() {
        let mut time = TrustedTime::default();
        time.learn(Wall(1_000_000), now(5, 10));
        assert_eq!(time.at(now(-999, 2_010)), Wall(1_002_000));
    }

    #[test]
    fn a_replayed_site_time_cannot_turn_the_clock_back() {
        let mut time = TrustedTime::default();
        time.learn(Wall(1_000_000), now(0, 0));
        time.learn(Wall(500_000), now(0, 1_000));
        assert_eq!(time.at(now(0, 1_000)), Wall(1_001_000));
    }

    #[test]
    fn a_boot_with_a_clock_years_ahead_does_not_move_trusted_time() {
        let mut time = TrustedTime::default();
        time.learn(Wall(1_000_000), now(0, 50));
        time.rebooted(Wall(1_003_000), now(i64::MAX, 7));
        assert_eq!(time.at(now(i64::MAX, 1_007)), Wall(1_004_000));
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        let time: Wall = "2099-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(time.to_string(), "2099-01-01T00:00:00Z");
        assert!("tomorrow".parse::<Wall>().is_err());
    }
}
