//! Windows and freezes on this device: whether a run may begin now, until when, and what it waits for.
//!
//! Judged in trusted time, so a machine whose clock is wrong keeps its windows. A judgement is kept for
//! as long as it holds: a device is looked at at every input, and its calendar seldom changes.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use muster_model::clock::Wall;
use muster_model::package::Program;
use muster_model::policy::Offer;
use muster_model::settings::Setting;
use muster_model::state::Waiting;
use muster_model::window::{Closed, Opening, Purpose, Window, opening, room};
use serde::Serialize;

use crate::agent::Agent;
use crate::obligation::{Standing, offered};
use crate::saved::{ContentStanding, Key};

/// Judgements that are kept: one for each length of run among what is advertised.
const JUDGED_MAX: usize = 256;
/// A judgement that nothing opens holds for so long: the horizon moves on.
const NEVER_HOLDS: Duration = Duration::from_secs(86_400);

/// What was judged of the windows at hand. Forgotten with every change of windows or zone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calendar(BTreeMap<(Purpose, Duration), Judged>);

#[derive(Clone, Debug)]
struct Judged {
    at: Wall,
    opening: Opening,
}

impl Judged {
    /// Whether it still says what the windows say. Trusted time may go back before the site is heard.
    fn holds(&self, now: Wall) -> bool {
        let until = match &self.opening {
            Opening::Now { latest } => return self.at <= now && latest.is_none_or(|l| now <= l),
            Opening::Later { at, .. } => *at,
            Opening::Never { .. } => self.at.plus(NEVER_HOLDS),
        };
        self.at <= now && now < until
    }
}

/// What the windows say about one obligation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Admittance {
    /// The device has neither windows nor freezes.
    AnyTime,
    /// What was ordered stands above them.
    Overridden,
    /// They let it start now.
    Open {
        /// And up to this moment, if there is a limit.
        latest: Option<Wall>,
    },
    /// They do not.
    Shut {
        /// What forbids it.
        closed: Closed,
        /// When that ends; `None`: no window is known that has room.
        until: Option<Wall>,
    },
}

impl Standing<'_> {
    /// What the windows say about a start of `program` now. Emergencies and a user's own click stand
    /// above windows and freezes.
    pub(crate) fn admittance(&self, offer: &Offer, program: &Program) -> Admittance {
        let windows = self.policy.map_or(&[][..], |policy| &policy.windows);
        if windows.is_empty() {
            return Admittance::AnyTime;
        }
        if offer.emergency || self.record.user.asked {
            return Admittance::Overridden;
        }
        let room = room(program, self.grace);
        #[cfg(feature = "planted")]
        let room = if self.planted.window_without_room { LEAST_ROOM } else { room };
        match self.calendar.opening(windows, self.zone, Purpose::Run, self.trusted, room) {
            Opening::Now { latest } => Admittance::Open { latest },
            Opening::Later { at, closed } => Admittance::Shut { closed, until: Some(at) },
            Opening::Never { closed } => Admittance::Shut { closed, until: None },
        }
    }

    /// The window or freeze that is waited for, if one is, and when that ends.
    pub(crate) fn shut(&self, offer: &Offer, program: &Program) -> Option<(Waiting, Option<Wall>)> {
        match self.admittance(offer, program) {
            Admittance::Shut { closed, until } => Some((closed.why, until)),
            _ => None,
        }
    }
}

impl Calendar {
    fn opening(
        &self,
        windows: &[Window],
        zone: &TimeZone,
        purpose: Purpose,
        now: Wall,
        room: Duration,
    ) -> Opening {
        match self.0.get(&(purpose, room)).filter(|judged| judged.holds(now)) {
            Some(judged) => judged.opening.clone(),
            None => opening(windows, zone, purpose, now, room),
        }
    }

    fn learn(
        &mut self,
        windows: &[Window],
        zone: &TimeZone,
        purpose: Purpose,
        now: Wall,
        room: Duration,
    ) {
        if self.0.get(&(purpose, room)).is_some_and(|judged| judged.holds(now)) {
            return;
        }
        if self.0.len() >= JUDGED_MAX {
            self.0.clear();
        }
        let opening = opening(windows, zone, purpose, now, room);
        self.0.insert((purpose, room), Judged { at: now, opening });
    }
}

impl Agent {
    /// Looks at the windows for what `key` would run, if the last look no longer holds.
    pub(crate) fn look_at_windows(&mut self, key: &Key, trusted: Wall) {
        let Some(record) = self.obligations.get(key) else { return };
        let Some(part) = record.part() else { return };
        let content = self.contents.get(&part.package.manifest);
        let Some(ContentStanding::Ready { manifested }) = content.map(|one| &one.record.standing)
        else {
            return;
        };
        let Some(program) = manifested.program(part.program) else { return };
        let room = room(program, self.setting(Setting::TermGrace));
        self.judge_windows(Purpose::Run, trusted, room);
    }

    /// Judges the windows for something that takes `room`, if the last judgement no longer holds.
    pub(crate) fn judge_windows(&mut self, purpose: Purpose, trusted: Wall, room: Duration) {
        let windows = self.policy.as_ref().map_or(&[][..], |policy| &policy.windows);
        if !windows.is_empty() {
            self.calendar.learn(windows, &self.zone, purpose, trusted, room);
        }
    }

    /// The windows or the zone are others: what was judged of them is void.
    pub(crate) fn calendar_changed(&mut self) {
        self.calendar = Calendar::default();
    }

    /// The last moment, in trusted time, at which `program` may enter for `key`; `None` if nothing
    /// limits it. Only asked when it may.
    pub(crate) fn latest_start(&self, key: &Key, program: &Program, trusted: Wall) -> Option<Wall> {
        let standing = self.standing(key, trusted)?;
        let (offer, _) = offered(&standing).ok()?;
        match standing.admittance(offer, program) {
            Admittance::Open { latest } => latest,
            // It may no longer start at all; who asks has looked before.
            Admittance::Shut { .. } => Some(trusted),
            Admittance::AnyTime | Admittance::Overridden => None,
        }
    }

    /// What the windows of the device say, for people; `None` without any.
    pub(crate) fn windows_view(&self, trusted: Wall) -> Option<WindowsView> {
        let windows = &self.policy.as_ref().filter(|policy| !policy.windows.is_empty())?.windows;
        let names = windows.iter().map(|one| format!("{} {}", one.effect.word(), one.name));
        Some(WindowsView {
            of: names.collect(),
            runs: OpeningView::of(self.opening_of(Purpose::Run, trusted, LEAST_ROOM)),
            restarts: OpeningView::of(self.opening_of(Purpose::Restart, trusted, RESTART_ROOM)),
        })
    }

    /// When something of that purpose may start that takes `room`.
    pub(crate) fn opening_of(&self, purpose: Purpose, trusted: Wall, room: Duration) -> Opening {
        let windows = self.policy.as_ref().map_or(&[][..], |policy| &policy.windows);
        self.calendar.opening(windows, &self.zone, purpose, trusted, room)
    }
}

/// What a person calls open has room for something.
const LEAST_ROOM: Duration = Duration::from_secs(1);
/// A machine that restarts is back within this, or has a fault that no window cures.
pub(crate) const RESTART_ROOM: Duration = Duration::from_secs(600);

/// What the windows of the device say now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WindowsView {
    /// All of them, freezes too: `window nightly`, `freeze year-end`.
    pub of: Vec<String>,
    /// Whether runs may start.
    pub runs: OpeningView,
    /// Whether the agent may restart the machine.
    pub restarts: OpeningView,
}

/// Whether something may start now, and when that changes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpeningView {
    /// It may.
    pub open: bool,
    /// When it closes, or opens; absent if that is not known, or never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Wall>,
    /// What forbids it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

impl OpeningView {
    fn of(opening: Opening) -> Self {
        match opening {
            Opening::Now { latest } => Self { open: true, until: latest, because: None },
            Opening::Later { at, closed } => {
                Self { open: false, until: Some(at), because: Some(closed.because) }
            }
            Opening::Never { closed } => {
                Self { open: false, until: None, because: Some(closed.because) }
            }
        }
    }
}

#[cfg(test)]
mod tests;
