//! Windows and freezes as the world itself knows them, counted by remainders instead of rules: what a
//! run may overlap is judged from the side, in the zone that the device really stands in.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use muster_model::clock::{Elapsed, Wall};
use muster_model::window::Window;

use crate::core::Core;
use crate::queue::Time;
use crate::scenario::{HOUR, MINUTE};

/// Offsets of the zones that devices stand in, in minutes: east, west, half an hour, none.
const OFFSETS: [i64; 4] = [0, 120, -300, 630];

/// When a window is open, or a freeze holds: milliseconds of the clock it is read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hours {
    begins: i64,
    /// `None`: once.
    every: Option<i64>,
    lasts: i64,
    frozen: bool,
    /// The clock is the device's.
    local: bool,
}

impl Hours {
    fn holds(&self, at: Wall, offset: i64) -> bool {
        let local = if self.local { offset * 60_000 } else { 0 };
        let since = at.0 + local - self.begins;
        let within = self.every.map_or(since, |every| since % every);
        since >= 0 && within < self.lasts
    }

    /// Whether it lets anything of the world come to its end: a freeze ends by itself, a window must
    /// have room for the longest program and its grace.
    pub(crate) fn ends_well(&self, room: Time) -> bool {
        self.frozen || self.lasts >= room as i64
    }

    /// Draws one, and writes it as an administrator would.
    pub(crate) fn draw(core: &mut Core) -> (Self, serde_json::Value) {
        // Whole minutes: rules know no parts of a second.
        let now = core.wall().0 / 60_000 * 60_000;
        let room = core.scenario.room();
        let dice = &mut core.dice;
        let frozen = dice.per_mille(350);
        let local = dice.per_mille(500);
        // Two hours and some, or a little more than the longest program needs.
        let hours = dice.between(2, 3).max(room / HOUR + 2);
        let every = (!frozen).then_some((hours * HOUR) as i64);
        let longest = if room < HOUR { 100 } else { room / MINUTE + 60 };
        let lasts = (dice.between(12, if frozen { 150 } else { longest }) * MINUTE) as i64;
        // A window began some days ago, a freeze begins about now, on whichever clock.
        let ago = if frozen { dice.below(120) * MINUTE } else { dice.below(4_000) * MINUTE };
        let later = if frozen { 60 * MINUTE } else { 0 };
        let begins = now + later as i64 - ago as i64;
        let civil = TimeZone::UTC.to_datetime(timestamp(begins));
        let zone = if local { "" } else { "Z" };
        let document = match every {
            Some(_) => serde_json::json!({
                "every": format!("DTSTART:{}{zone} RRULE:FREQ=HOURLY;INTERVAL={hours}",
                    civil.strftime("%Y%m%dT%H%M%S")),
                "duration": format!("{}m", lasts / 60_000),
            }),
            None => serde_json::json!({
                "at": format!("{}{zone}", civil.strftime("%Y-%m-%dT%H:%M:%S")),
                "duration": format!("{}m", lasts / 60_000), "effect": "freeze",
            }),
        };
        (Self { begins, every, lasts, frozen, local }, document)
    }
}

/// The offset of the zone that a device stands in, in minutes.
pub(crate) fn offset_of(device: usize) -> i64 {
    OFFSETS[device % OFFSETS.len()]
}

/// The same as a zone.
pub(crate) fn zone_of(device: usize) -> TimeZone {
    let seconds = i32::try_from(offset_of(device) * 60).unwrap_or(0);
    jiff::tz::Offset::from_seconds(seconds).map_or(TimeZone::UTC, TimeZone::fixed)
}

fn timestamp(at: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(at).unwrap_or_default()
}

/// What a run that was armed has to keep to, whatever becomes of the policy afterwards.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    hours: Vec<Hours>,
    /// Trusted time at a moment of the boot clock.
    trusted: (Wall, Elapsed),
    room: Duration,
    offset: i64,
    /// It need not keep to anything.
    pub(crate) emergency: bool,
}

impl Watch {
    /// Of a run on `device` that takes `room`, armed under these windows.
    pub(crate) fn new(
        known: &BTreeMap<String, Hours>,
        windows: &[Window],
        trusted: (Wall, Elapsed),
        room: Duration,
        device: usize,
    ) -> Self {
        let hours = windows.iter().filter_map(|one| known.get(one.name.as_str()).copied());
        let offset = offset_of(device);
        Self { hours: hours.collect(), trusted, room, offset, emergency: false }
    }

    /// Whether there is anything to keep to.
    pub(crate) fn is_bound(&self) -> bool {
        !self.hours.is_empty()
    }

    /// The first minute at which the run may not be under way, if it begins at `now`.
    pub(crate) fn broken(&self, now: Elapsed) -> Option<Wall> {
        let begins = self.trusted.0.plus(now.since(self.trusted.1));
        let minutes = self.room.as_secs() / 60;
        let steps = (0..=minutes).map(|n| begins.plus(Duration::from_secs(n * 60)));
        let last = begins.plus(self.room.saturating_sub(Duration::from_millis(1)));
        steps.filter(|at| *at < last).chain([last]).find(|at| !self.is_free(*at))
    }

    fn is_free(&self, at: Wall) -> bool {
        let holds = |one: &&Hours| one.holds(at, self.offset);
        let mut windows = self.hours.iter().filter(|one| !one.frozen).peekable();
        let open = windows.peek().is_none() || windows.any(|one| holds(&one));
        open && !self.hours.iter().filter(|one| one.frozen).any(|one| holds(&one))
    }
}
