//! When an obligation may start: its time, the device's own splay after it, the event that it waits
//! for, and what becomes of a time that went by.
//!
//! Everything is judged in trusted time, so a wall clock that jumps by years moves nothing. What must
//! outlive a restart (in which boot the device learnt of a start-up assignment, when it first saw an
//! occurrence due) is noted in the obligation before anything follows from it.

use std::time::Duration;

use jiff::tz::TimeZone;
use muster_model::advertisement::{At, Late};
use muster_model::clock::{Elapsed, Wall};
use muster_model::digest::Digest;
use muster_model::id::{AdvertisementId, DeviceId};
use muster_model::period::Period;
use muster_model::policy::Offer;
use muster_model::recurrence::Clock;
use muster_model::settings::Setting;
use muster_model::state::{Expiry, State, Waiting};

use crate::agent::Agent;
use crate::obligation::{Move, Standing};
use crate::saved::Times;

/// When a start is allowed by the schedule alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// As soon as possible.
    Now,
    /// From then on, in trusted time.
    From(Wall),
    /// After an event that has not come.
    On(Waiting),
}

/// When `at` falls due, in trusted time; `None` is "at once" or "at an event". A local time in a spring
/// gap is read with the offset before it, and in a repeated hour the first one counts (RFC 5545, 3.3.5).
pub(crate) fn due_time(at: At, zone: &TimeZone) -> Option<Wall> {
    match at {
        At::Now | At::StartUp | At::LogOn => None,
        At::Instant(time) => Some(time),
        At::Local(civil) => Clock::Floating.place(civil, zone),
    }
}

/// When the obligation may start.
pub(crate) fn start(standing: &Standing<'_>, offer: &Offer, at: At) -> Start {
    let splay = splay(standing.device, offer.advertisement, offer.splay);
    let due = match (due_time(at, standing.zone), at) {
        (Some(due), _) => Some(due),
        (None, At::StartUp | At::LogOn) => match standing.record.times.fell_due {
            None if at == At::StartUp => return Start::On(Waiting::StartUp),
            None => return Start::On(Waiting::LogOn),
            noted => noted,
        },
        (None, _) => standing.record.times.fell_due.filter(|_| !splay.is_zero()),
    };
    due.map_or(Start::Now, |due| Start::From(due.plus(splay)))
}

/// How much later than due this device starts: a length of its own, the same after any restart.
fn splay(device: DeviceId, advertisement: AdvertisementId, most: Period) -> Duration {
    let parts: [&[u8]; 2] = [device.0.as_bytes(), advertisement.0.as_bytes()];
    let digest = Digest::of_parts("muster/splay/v1", &parts);
    let mut head = [0; 8];
    head.copy_from_slice(&digest.as_bytes()[..8]);
    let most = u64::try_from(most.duration().as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(u64::from_le_bytes(head) % most.saturating_add(1))
}

/// Until when the obligation waits because the machine has only just started. Emergencies and a user's
/// own click do not.
///
/// The moment that was told stands as long as it is about right: trusted time is corrected by
/// milliseconds with each word from the site, and that is no news.
pub(crate) fn settling(standing: &Standing<'_>, offer: &Offer) -> Option<Wall> {
    let settles = standing.settles?;
    if offer.emergency || standing.record.user.asked {
        return None;
    }
    let told = match standing.record.reported {
        State::Waiting { why: Waiting::BootGrace, until } => until,
        _ => None,
    };
    let is_right = |told: &Wall| told.since(settles).max(settles.since(*told)) < ABOUT_RIGHT;
    match told.filter(is_right) {
        Some(told) => (told > standing.trusted).then_some(told),
        None => (settles.since(standing.trusted) > ABOUT_RIGHT).then_some(settles),
    }
}

/// How far a moment that was told may be from the one that is known now. What is left of the grace is no
/// shorter when a wait for it begins.
const ABOUT_RIGHT: Duration = Duration::from_secs(2);

impl Agent {
    /// Until when the machine has only just started (`bootGrace`). The boot clock counts from its start.
    pub(crate) fn settles(&self, trusted: Wall) -> Option<Wall> {
        let grace = self.interval(Setting::BootGrace).filter(|_| self.started)?;
        let left = grace.saturating_sub(self.elapsed.since(Elapsed::default()));
        (!left.is_zero()).then(|| trusted.plus(left))
    }
}

/// What the late rule makes of an occurrence that this device first saw due too late. Only before its
/// first run, and not if a user asked for it: what was begun in time goes on.
pub(crate) fn late(standing: &Standing<'_>, offer: &Offer, at: At) -> Option<Move> {
    let due = due_time(at, standing.zone)?;
    let seen = standing.record.times.fell_due?;
    if standing.record.user.asked {
        return None;
    }
    if seen.since(due) <= standing.late_after
        || standing.record.attempts > standing.record.uncounted
    {
        return None;
    }
    match offer.late {
        Late::RunLate => None,
        Late::Skip => Some(Move::End(State::Expired { why: Expiry::Late })),
        Late::Ask => Some(Move::Rest(State::Available)),
    }
}

/// What is to be noted of the times of an obligation before its next move, if that differs from what is
/// noted.
pub(crate) fn noted(standing: &Standing<'_>, offer: &Offer, at: At) -> Option<Times> {
    let record = standing.record;
    if !record.stage.is_before_start() {
        return None;
    }
    let mut times = record.times.clone();
    match (at, due_time(at, standing.zone)) {
        (_, Some(due)) if due > standing.trusted => times.fell_due = None,
        (_, Some(_)) if offer.late != Late::RunLate => {
            times.fell_due.get_or_insert(standing.trusted);
        }
        (At::Now, None) if !offer.splay.is_zero() => {
            times.fell_due.get_or_insert(standing.trusted);
        }
        (At::StartUp, _) => {
            let learnt = times.learnt_in.get_or_insert_with(|| standing.boot.clone());
            if learnt != standing.boot {
                times.fell_due.get_or_insert(standing.trusted);
            }
        }
        (At::LogOn, _) => {
            times.learnt_in.get_or_insert_with(|| standing.boot.clone());
        }
        _ => {}
    }
    (times != record.times).then_some(times)
}

#[cfg(test)]
mod tests;
