//! Telling people: what whoever is logged on is shown when a start or a restart is announced.
//!
//! Said once for each announcement, and to who logs on while it counts. It is no promise that anybody
//! sees it: what holds is what `agent software` shows, and that is where the times come from.

use std::time::Duration;

use muster_model::clock::Wall;
use muster_model::state::{State, Waiting};

use crate::agent::Agent;
use crate::draft::Draft;
use crate::saved::Key;
use crate::step::Effect;
use crate::user::latest_start;

/// Something to show to users, by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telling {
    /// Who is logged on and has not been told.
    pub users: Vec<String>,
    /// What is announced.
    pub what: Announcement,
}

/// What is announced to people. Times are trusted times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// A program starts.
    Start {
        /// The advertisement's name.
        name: String,
        /// How long from now.
        remaining: Duration,
        /// When.
        at: Wall,
        /// Until when a user may put it off, if that is later.
        latest: Option<Wall>,
    },
    /// The machine restarts.
    Restart {
        /// How long from now.
        remaining: Duration,
    },
}

impl Agent {
    /// Tells `users` of the start of an obligation that notice is given of.
    pub(crate) fn tell_start(&self, draft: &mut Draft, key: &Key, users: &[String]) {
        let trusted = self.trusted(draft.now);
        let Some(standing) = self.standing(key, trusted) else { return };
        let Some(at) = standing.record.user.starts.filter(|_| !users.is_empty()) else { return };
        let latest = latest_start(&standing).filter(|latest| *latest > at);
        let (name, remaining) = (standing.record.name.clone(), at.since(trusted));
        let what = Announcement::Start { name, remaining, at, latest };
        draft.effect(Effect::Tell(Telling { users: users.to_vec(), what }));
    }

    /// Tells who has just logged on of everything that counts down.
    pub(crate) fn tell_newcomers(&self, draft: &mut Draft, before: &[String], users: &[String]) {
        let new: Vec<String> =
            users.iter().filter(|user| !before.contains(user)).cloned().collect();
        let noticed = self.obligations.values().filter(|record| {
            matches!(record.reported, State::Waiting { why: Waiting::Notice, .. })
        });
        for record in noticed {
            self.tell_start(draft, &record.key, &new);
        }
    }

    /// Tells everybody of a restart of the machine.
    pub(crate) fn tell_restart(&self, draft: &mut Draft, remaining: Duration) {
        let users = self.sessions.clone().unwrap_or_default();
        if !users.is_empty() && !remaining.is_zero() {
            draft
                .effect(Effect::Tell(Telling { users, what: Announcement::Restart { remaining } }));
        }
    }
}
