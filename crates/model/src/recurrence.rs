//! Recurring times: what an RFC 5545 text means, as civil times that a device places on its own clock.
//!
//! A rule is evaluated in civil time alone, as if no clock were ever changed. Only then is each time
//! placed on the line of instants, with the zone that the text names or the device's own; a time in a
//! spring gap is read with the offset before it, and in a repeated hour the first one counts (section
//! 3.3.5). So no time is skipped and none comes twice, and a rule means the same on every machine. Zones
//! come from the database inside the binary: a machine without one reads a rule as every other does.

mod rule;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::advertisement::At;
use crate::clock::Wall;
use crate::period::Period;

use rule::Rule;
pub use text::NotARecurrence;

/// The longest text of a recurrence, in bytes: a rule and its dates.
pub const EVERY_BYTES_MAX: usize = 16 * 1024;
/// `RDATE` and `EXDATE` hold at most so many times each: one for each day of three years.
pub const EVERY_DATES_MAX: usize = 1_096;
/// `COUNT` is at most this: a rule that counts is told from its start each time.
pub const EVERY_COUNT_MAX: u32 = 10_000;
/// `INTERVAL` is at most this: a million seconds are eleven days, a million days are never.
pub const EVERY_INTERVAL_MAX: u32 = 1_000_000;
/// Days, or ticks of a rule within a day, that are looked at to find its next time. A rule that shows
/// none in so many has ended: for a rule by days they are 547 years.
pub const EVERY_LOOKS_MAX: u32 = 200_000;

/// A recurring time: `DTSTART` with `RRULE`, `RDATE` and `EXDATE`, each on a line of its own or after a
/// space. A value that exists has at least one time.
#[derive(Clone, PartialEq, Eq)]
pub struct Every(Arc<Parts>);

#[derive(PartialEq, Eq)]
struct Parts {
    clock: Clock,
    start: DateTime,
    rule: Option<Rule>,
    also: BTreeSet<DateTime>,
    except: BTreeSet<DateTime>,
    /// What was written, a property on each line.
    text: String,
}

/// Whose clock the times of a rule are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clock {
    /// That of the device, wherever it is: `DTSTART:20270101T020000`.
    Floating,
    /// UTC: `DTSTART:20270101T020000Z`.
    Utc,
    /// A zone of the IANA database: `DTSTART;TZID=Europe/Vienna:20270101T020000`.
    Zone(String),
}

impl Every {
    /// The first time after `after`, or at it if `inclusive`; `None` if there is none.
    pub fn next_civil(&self, after: DateTime, inclusive: bool) -> Option<DateTime> {
        let mut after = after;
        let mut inclusive = inclusive;
        // Each round but the last finds a time that is taken out.
        for _ in 0..=self.0.except.len() {
            let by_rule =
                self.0.rule.as_ref().and_then(|rule| rule.next(self.0.start, after, inclusive));
            let also = self.0.also.range(after..).find(|time| inclusive || **time > after).copied();
            let found = by_rule.into_iter().chain(also).min()?;
            if !self.0.except.contains(&found) {
                return Some(found);
            }
            (after, inclusive) = (found, false);
        }
        None
    }

    /// Whose clock its times are read from.
    pub fn zone(&self) -> Clock {
        self.0.clock.clone()
    }

    /// The first time not before `now`; a floating one as a clock in `zone` shows it.
    pub fn first_from(&self, now: Wall, zone: &TimeZone) -> Option<At> {
        let civil = self.0.clock.civil(now, zone)?;
        self.next_civil(civil, true).and_then(|time| self.0.clock.due(time))
    }

    /// The shortest time between two of the first `looks` times, by the clock that shows them; `None` if
    /// there is only one.
    pub fn shortest_gap(&self, looks: usize) -> Option<Period> {
        let times = std::iter::successors(self.next_civil(DateTime::MIN, true), |time| {
            self.next_civil(*time, false)
        });
        let times: Vec<DateTime> = times.take(looks).collect();
        let gap = |pair: &[DateTime]| pair[1].duration_since(pair[0]).as_millis();
        let shortest = times.windows(2).map(gap).min()?;
        Some(Period::millis(u64::try_from(shortest).unwrap_or(0)))
    }

    /// The time after `due`, which is a time of this rule or of the one that it replaced. `None`: there
    /// is none, or `due` is no time at all.
    pub fn after(&self, due: At, zone: &TimeZone) -> Option<At> {
        let civil = match due {
            At::Local(civil) => civil,
            At::Instant(time) => self.0.clock.civil(time, zone)?,
            At::Now | At::StartUp | At::LogOn => return None,
        };
        self.next_civil(civil, false).and_then(|time| self.0.clock.due(time))
    }
}

impl Clock {
    /// The instant of a civil time; `device` is the zone of floating ones.
    pub fn place(&self, civil: DateTime, device: &TimeZone) -> Option<Wall> {
        let zone = self.time_zone(device)?;
        let instant = zone.to_ambiguous_timestamp(civil).compatible().ok()?;
        Some(Wall(instant.as_millisecond()))
    }

    /// What this clock shows at an instant; `device` is the zone of a floating one.
    pub fn civil(&self, at: Wall, device: &TimeZone) -> Option<DateTime> {
        let instant = jiff::Timestamp::from_millisecond(at.0).ok()?;
        Some(self.time_zone(device)?.to_datetime(instant))
    }

    /// When an occurrence at this civil time falls due: the device's own time stays one.
    fn due(&self, civil: DateTime) -> Option<At> {
        match self {
            Clock::Floating => Some(At::Local(civil)),
            Clock::Utc | Clock::Zone(_) => self.place(civil, &TimeZone::UTC).map(At::Instant),
        }
    }

    fn time_zone(&self, device: &TimeZone) -> Option<TimeZone> {
        match self {
            Clock::Floating => Some(device.clone()),
            Clock::Utc => Some(TimeZone::UTC),
            Clock::Zone(name) => named_zone(name),
        }
    }
}

/// The zone of that name in the database inside the binary.
fn named_zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.text, f)
    }
}

crate::text_serde!(Every);
