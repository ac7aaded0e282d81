//! The next opening: the earliest moment from which something has room in the windows of a device and
//! before its next freeze.

use std::time::Duration;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan as _};

use super::{Begins, Effect, Purpose, Window, windows_for};
use crate::advertisement::At;
use crate::clock::Wall;
use crate::name::Name;
use crate::period::Period;
use crate::recurrence::Clock;
use crate::state::Waiting;

/// How far ahead an opening is looked for: two leap days lie at most eight years apart.
pub const HORIZON_DAYS: u64 = 10 * 366;
/// Moments that are tried: two for each day of more than a year of daily windows that are too short.
pub const LOOKS_MAX: usize = 1_000;
/// Spans of one window that are looked at for one moment: a window recurs hourly at most and does not
/// overlap itself, so this reaches over every run that may be.
const SPANS_MAX: usize = 1_000;
/// Beyond this an open window is not followed: the end of a run is never further off than its limit of
/// seven days and a grace, so what comes later is looked at later.
const FOLLOW_MOST: Duration = Duration::from_secs(86_400);
/// Civil time and instants differ by up to a day and an hour where a zone changes its side of the date
/// line (Samoa, 2011).
const ZONE_SLACK_HOURS: i64 = 25;

/// A zone that is in no database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no time zone is called {0:?}: one has a name like Europe/Vienna")]
pub(super) struct NoSuchZone(String);

/// The zone of that name in the database inside the binary: every device of one release agrees, whatever
/// its machine has installed.
pub(super) fn named_zone(name: &str) -> Result<TimeZone, NoSuchZone> {
    TimeZoneDatabase::bundled().get(name).map_err(|_| NoSuchZone(name.chars().take(80).collect()))
}

/// When something may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Now.
    Now {
        /// And at any moment up to this one, at least; `None` is no limit.
        latest: Option<Wall>,
    },
    /// Later.
    Later {
        /// Then.
        at: Wall,
        /// What forbids it now.
        closed: Closed,
    },
    /// Not within [`HORIZON_DAYS`] and [`LOOKS_MAX`].
    Never {
        /// What forbids it now.
        closed: Closed,
    },
}

/// What forbids a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// [`Waiting::Window`] or [`Waiting::Freeze`].
    pub why: Waiting,
    /// The freeze that forbids it, or the window that is waited for, if there is one.
    pub by: Option<Name>,
    /// The same for people.
    pub because: String,
}

/// The earliest moment, not before `from`, at which something that takes at most `room` may start.
/// `device` is the device's own zone.
pub fn opening(
    windows: &[Window],
    device: &TimeZone,
    purpose: Purpose,
    from: Wall,
    room: Duration,
) -> Opening {
    let calendar = Calendar::new(windows, device, purpose);
    match calendar {
        Ok(calendar) => calendar.search(from, room),
        // A window that cannot be placed is never open, a freeze that cannot be placed never ends.
        Err((window, why)) => Opening::Never {
            closed: Closed {
                why: waiting(window.effect),
                by: Some(window.name.clone()),
                because: format!("{} `{}`: {why}", window.effect.word(), window.name),
            },
        },
    }
}

fn waiting(effect: Effect) -> Waiting {
    match effect {
        Effect::Window => Waiting::Window,
        Effect::Freeze => Waiting::Freeze,
    }
}

/// The windows of one purpose, each with the zone that its times are read in.
struct Calendar<'a> {
    windows: Vec<(&'a Window, TimeZone)>,
    freezes: Vec<(&'a Window, TimeZone)>,
}

/// One time that a window is open, or a freeze holds.
#[derive(Clone, Copy, Debug)]
struct Span<'a> {
    begins: Wall,
    ends: Wall,
    name: &'a Name,
}

/// What stands in the way at one moment, and the next one worth trying.
struct Blocked<'a> {
    closed: Closed,
    next: Option<Span<'a>>,
    /// The next moment is the end of `next`, not its beginning.
    after: bool,
}

impl<'a> Calendar<'a> {
    fn new(
        all: &'a [Window],
        device: &TimeZone,
        purpose: Purpose,
    ) -> Result<Self, (&'a Window, NoSuchZone)> {
        let placed = |window: &'a Window| match zone_of(window, device) {
            Ok(zone) => Ok((window, zone)),
            Err(why) => Err((window, why)),
        };
        let frozen = |one: &&Window| one.effect == Effect::Freeze && one.governs.covers(purpose);
        Ok(Self {
            windows: windows_for(all, purpose).into_iter().map(placed).collect::<Result<_, _>>()?,
            freezes: all.iter().filter(frozen).map(placed).collect::<Result<_, _>>()?,
        })
    }

    fn search(&self, from: Wall, room: Duration) -> Opening {
        let horizon = from.plus(Duration::from_secs(HORIZON_DAYS * 86_400));
        let (mut at, mut first) = (from, None);
        for _ in 0..LOOKS_MAX {
            let blocked = match self.look(at, room) {
                Ok(latest) => {
                    return match first {
                        None => Opening::Now { latest },
                        Some(closed) => Opening::Later { at, closed },
                    };
                }
                Err(blocked) => blocked,
            };
            let closed = first.get_or_insert(blocked.closed).clone();
            let next = blocked.next.map(|span| if blocked.after { span.ends } else { span.begins });
            match next.filter(|next| *next > at && *next <= horizon) {
                Some(next) => at = next,
                None if at == from => return Opening::Never { closed },
                None => break,
            }
        }
        let nothing =
            || Closed { why: Waiting::Window, by: None, because: "no window was found".to_owned() };
        let mut closed = first.unwrap_or_else(nothing);
        closed.because.push_str("; none that comes has room for it");
        Opening::Never { closed }
    }

    /// Whether something that takes `room` may start at `at`, and until when; or what is in the way.
    fn look(&self, at: Wall, room: Duration) -> Result<Option<Wall>, Blocked<'a>> {
        let until = at.plus(room);
        let freezes = spans(&self.freezes, at, until.plus(FOLLOW_MOST));
        let freeze = freezes.iter().copied().min_by_key(|span| span.begins);
        if let Some(freeze) = freeze.filter(|freeze| freeze.begins < until) {
            return Err(frozen(freeze, at, room));
        }
        let frozen_from = freeze.map(|freeze| freeze.begins);
        if self.windows.is_empty() {
            return Ok(frozen_from.map(|begins| minus(begins, room)));
        }
        let open = spans(&self.windows, at, until.plus(FOLLOW_MOST));
        let Some(ends) = open_until(&open, at) else { return Err(self.shut(at)) };
        if ends < until {
            return Err(self.short(ends, at, room));
        }
        let ends = frozen_from.map_or(ends, |begins| begins.min(ends));
        Ok(Some(minus(ends, room)))
    }

    /// No window is open at `at`.
    fn shut(&self, at: Wall) -> Blocked<'a> {
        let next = self.next_window(at);
        let because = match next {
            Some(span) => format!("no window is open; `{}` opens at {}", span.name, span.begins),
            None => "no window is open, and none opens again".to_owned(),
        };
        let by = next.map(|span| span.name.clone());
        Blocked { closed: Closed { why: Waiting::Window, by, because }, next, after: false }
    }

    /// What is open at `at` ends at `ends`, too early.
    fn short(&self, ends: Wall, at: Wall, room: Duration) -> Blocked<'a> {
        let left = Period::of(ends.since(at));
        let needed = Period::of(room);
        let because =
            format!("a run may take {needed}, and the window that is open has {left} left");
        let next = self.next_window(ends);
        let by = next.map(|span| span.name.clone());
        Blocked { closed: Closed { why: Waiting::Window, by, because }, next, after: false }
    }

    /// The first window that begins at `at` or later.
    fn next_window(&self, at: Wall) -> Option<Span<'a>> {
        let next = |(window, zone): &(&'a Window, TimeZone)| next_span(window, zone, at);
        self.windows.iter().filter_map(next).min_by_key(|span| span.begins)
    }
}

fn frozen(freeze: Span<'_>, at: Wall, room: Duration) -> Blocked<'_> {
    let (name, begins, ends) = (freeze.name, freeze.begins, freeze.ends);
    let because = if begins <= at {
        format!("freeze `{name}` holds until {ends}")
    } else {
        let needed = Period::of(room);
        format!("freeze `{name}` begins at {begins}, and a run may take {needed}")
    };
    let closed = Closed { why: Waiting::Freeze, by: Some(name.clone()), because };
    Blocked { closed, next: Some(freeze), after: true }
}

/// Windows that touch are one: the end of what is open at `at`.
fn open_until(spans: &[Span<'_>], at: Wall) -> Option<Wall> {
    let reach = |from: Wall| {
        let holds = |span: &&Span<'_>| span.begins <= from && from < span.ends;
        spans.iter().filter(holds).map(|span| span.ends).max()
    };
    let mut ends = reach(at)?;
    while let Some(further) = reach(ends) {
        ends = further;
    }
    Some(ends)
}

/// Every span that overlaps or touches `from` to `until`.
fn spans<'a>(windows: &[(&'a Window, TimeZone)], from: Wall, until: Wall) -> Vec<Span<'a>> {
    let mut found = Vec::new();
    for (window, zone) in windows {
        let starts = Starts::new(window, zone, minus(from, window.duration.duration()));
        let spans = starts.take(SPANS_MAX).map(|begins| span(window, begins));
        found.extend(spans.take_while(|span| span.begins <= until).filter(|one| one.ends > from));
    }
    found
}

fn next_span<'a>(window: &'a Window, zone: &TimeZone, at: Wall) -> Option<Span<'a>> {
    let mut starts = Starts::new(window, zone, at).take(SPANS_MAX);
    starts.find(|begins| *begins >= at).map(|begins| span(window, begins))
}

fn span(window: &Window, begins: Wall) -> Span<'_> {
    Span { begins, ends: begins.plus(window.duration.duration()), name: &window.name }
}

impl Window {
    /// The zone that its times are read in; `None` is the device's own.
    pub fn zone_name(&self) -> Option<String> {
        match (&self.begins, &self.time_zone) {
            (Begins::At(At::Instant(_)), _) => Some("UTC".to_owned()),
            (Begins::At(_), zone) => zone.clone(),
            (Begins::Every(every), zone) => match every.zone() {
                Clock::Utc => Some("UTC".to_owned()),
                Clock::Zone(name) => Some(name),
                Clock::Floating => zone.clone(),
            },
        }
    }

    /// Its next time from `now` on, or the one that has begun; `None` if it has none any more, or if
    /// each device has its own.
    pub fn next_span(&self, now: Wall) -> Option<(Wall, Wall)> {
        let zone = zone_of(self, &TimeZone::UTC).ok().filter(|_| self.zone_name().is_some())?;
        let starts = Starts::new(self, &zone, minus(now, self.duration.duration()));
        let spans = starts.take(SPANS_MAX).map(|begins| span(self, begins));
        spans.map(|span| (span.begins, span.ends)).find(|(_, ends)| *ends > now)
    }
}

/// The instants at which a window begins, from shortly before a moment on.
struct Starts<'a> {
    window: &'a Window,
    zone: &'a TimeZone,
    after: Option<jiff::civil::DateTime>,
}

impl<'a> Starts<'a> {
    fn new(window: &'a Window, zone: &'a TimeZone, from: Wall) -> Self {
        let civil = zone.to_datetime(timestamp(from));
        Self { window, zone, after: Some(civil.saturating_sub(ZONE_SLACK_HOURS.hours())) }
    }
}

impl Iterator for Starts<'_> {
    type Item = Wall;

    fn next(&mut self) -> Option<Wall> {
        match &self.window.begins {
            Begins::Every(every) => {
                let at = every.next_civil(self.after?, false)?;
                self.after = Some(at);
                place(at, self.zone)
            }
            Begins::At(at) => {
                self.after.take()?;
                match at {
                    At::Instant(at) => Some(*at),
                    At::Local(at) => place(*at, self.zone),
                    // No time of its own: refused where it is written.
                    _ => None,
                }
            }
        }
    }
}

/// A civil time in the spring gap is read with the offset before it; in the repeated hour the first one
/// counts (RFC 5545, 3.3.5).
fn place(civil: jiff::civil::DateTime, zone: &TimeZone) -> Option<Wall> {
    let instant = zone.to_ambiguous_timestamp(civil).compatible().ok()?;
    Some(Wall(instant.as_millisecond()))
}

fn zone_of(window: &Window, device: &TimeZone) -> Result<TimeZone, NoSuchZone> {
    let own = match &window.begins {
        Begins::Every(every) => every.zone(),
        Begins::At(_) => Clock::Floating,
    };
    match (own, &window.time_zone) {
        (Clock::Utc, _) => Ok(TimeZone::UTC),
        (Clock::Zone(name), _) => named_zone(&name),
        (Clock::Floating, Some(name)) => named_zone(name),
        (Clock::Floating, None) => Ok(device.clone()),
    }
}

fn timestamp(at: Wall) -> Timestamp {
    let most = if at.0 < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(at.0).unwrap_or(most)
}

fn minus(at: Wall, by: Duration) -> Wall {
    Wall(at.0.saturating_sub_unsigned(millis(by)))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
