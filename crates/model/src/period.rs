//! Lengths of time as people write them: `10m`, `24h`, `30d`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest period, 100 years: beyond it nothing is meant, and sums stay far from overflow.
pub const PERIOD_MAX: Period = Period::days(36_500);

/// A length of time, in whole milliseconds. Written as numbers with the units `d h m s ms`; a day
/// is 24 hours.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Period(u64);

/// Text that is not a period.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a length of time is written like 90s, 10m, 24h or 30d and is at most 36500d, not {0:?}")]
pub struct NotAPeriod(pub String);

const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Period {
    /// `n` milliseconds.
    pub const fn millis(n: u64) -> Self {
        Self(n)
    }
    /// `n` seconds.
    pub const fn secs(n: u64) -> Self {
        Self(n * 1_000)
    }
    /// `n` minutes.
    pub const fn minutes(n: u64) -> Self {
        Self::secs(n * 60)
    }
    /// `n` hours.
    pub const fn hours(n: u64) -> Self {
        Self::minutes(n * 60)
    }
    /// `n` times 24 hours.
    pub const fn days(n: u64) -> Self {
        Self::hours(n * 24)
    }
    /// The same as a [`Duration`], in whole milliseconds.
    pub fn of(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
    /// Whether it is no time at all.
    pub fn is_zero(&self) -> bool {
        self.0 == 0
    }
    /// The same as a [`Duration`].
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl FromStr for Period {
    type Err = NotAPeriod;
    fn from_str(text: &str) -> Result<Self, NotAPeriod> {
        let refuse = || NotAPeriod(text.chars().take(40).collect());
        let mut rest = text.trim();
        let mut total: u64 = 0;
        if rest.is_empty() {
            return Err(refuse());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refuse)?;
            let number: u64 = rest[..digits].parse().map_err(|_| refuse())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(rest.len());
            let (_, unit) =
                UNITS.iter().find(|(unit, _)| *unit == &rest[..letters]).ok_or_else(refuse)?;
            total = number
                .checked_mul(*unit)
                .and_then(|part| total.checked_add(part))
                .filter(|sum| *sum <= PERIOD_MAX.0)
                .ok_or_else(refuse)?;
            rest = rest[letters..].trim_start();
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        let mut first = true;
        for (unit, size) in UNITS {
            let number = rest / size;
            rest %= size;
            if number > 0 {
                write!(f, "{}{number}{unit}", if first { "" } else { " " })?;
                first = false;
            }
        }
        if first { f.write_str("0s") } else { Ok(()) }
    }
}

impl fmt::Debug for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Period {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_read_and_print() {
        for (text, period, printed) in [
            ("10m", Period::minutes(10), "10m"),
            ("24h", Period::hours(24), "1d"),
            ("1h 30m", Period::minutes(90), "1h 30m"),
            ("0s", Period::secs(0), "0s"),
            ("250ms", Period::millis(250), "250ms"),
        ] {
            assert_eq!(text.parse(), Ok(period));
            assert_eq!(period.to_string(), printed);
        }
    }

    #[test]
    fn other_text_is_refused() {
        for bad in ["", "10", "m", "-1m", "1y", "36501d", "99999999999999999999s", "1 m"] {
            assert!(bad.parse::<Period>().is_err(), "{bad}");
        }
    }
}
