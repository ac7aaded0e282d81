//! The turns of users: a program that runs for each user who is logged on runs for one after the other,
//! within one obligation that has one answer.
//!
//! ```text
//! the first run begins -- who is logged on, by name --> open ... open
//! open -- the run ends well ------------------------------> served
//!   |---- it does not, and another may follow ------------> owed -- the next run --> (as open)
//!   |---- it does not, and none may ----------------------> failed
//!   '---- logged off, and nobody else is open or owed ----> passed over, when all is summed up
//! ```
//!
//! The list is saved in the write that arms the first run, and each turn in the write that tells how its
//! run ended; each run's folder holds the list as it was armed. So neither a crash nor a lost journal
//! serves anybody twice. Who logs on later is not on the list. Who is owed a run is waited for
//! (`waiting(user)`); who logged off before any run of theirs is not.

mod taking;

use std::fmt;

use muster_model::package::{Program, Rerun};
use muster_model::state::{Evidence, EvidenceKind, Failure, Interruption, Rule, State, Word};
use serde::{Deserialize, Serialize};

use crate::outcome::failed;
use crate::report::head_of;
use crate::saved::ObligationRecord;

/// The most users that one obligation serves: as many desktops as one machine was ever sold for. A run's
/// folder holds the list, and its files have limits.
pub const TURNS_MAX: usize = 100;
/// What is kept of how a run for a user ended, in bytes of its text for people.
const DETAIL_BYTES_MAX: usize = 128;
/// What a message says of users who were passed over, in bytes.
const PASSED_OVER_BYTES_MAX: usize = 256;

/// One user's turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// The user's name.
    pub user: String,
    /// How far it is.
    pub stands: Stands,
}

/// How far a turn is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "turn", rename_all = "kebab-case")]
pub enum Stands {
    /// No run for the user has ended, or none that did anything.
    Open,
    /// The run ended well.
    Served,
    /// The newest run did not end well, and another one may follow.
    Owed {
        /// Runs that have ended.
        runs: u32,
        /// How the newest ended.
        ended: State,
    },
    /// The newest run did not end well, and none may follow.
    Failed {
        /// How it ended.
        ended: State,
    },
}

/// For whom a program runs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// For nobody in particular: it runs once on the machine.
    Machine,
    /// For this user.
    User(String),
    /// Nobody whom it is for is logged on.
    Nobody,
    /// More users are logged on than [`TURNS_MAX`].
    TooMany(usize),
    /// There were turns before the journal was lost, and nothing shows whose.
    Forgotten,
    /// Every turn is over.
    Over,
}

impl Whose {
    /// The user, if it is for one.
    pub(crate) fn user(&self) -> Option<String> {
        match self {
            Whose::User(user) => Some(user.clone()),
            _ => None,
        }
    }
}

impl Turn {
    fn runs(&self) -> u32 {
        match self.stands {
            Stands::Owed { runs, .. } => runs,
            _ => 0,
        }
    }

    fn is_owed(&self) -> bool {
        matches!(self.stands, Stands::Owed { .. })
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stands {
            Stands::Open => write!(f, "{}: not yet", self.user),
            Stands::Served => write!(f, "{}: well", self.user),
            Stands::Owed { ended, .. } => write!(f, "{}: again, after {ended}", self.user),
            Stands::Failed { ended } => write!(f, "{}: {ended}", self.user),
        }
    }
}

impl ObligationRecord {
    /// Whether the list of turns is final: a run for somebody on it has ended.
    pub(crate) fn has_taken_turns(&self) -> bool {
        self.turns.iter().any(|turn| turn.stands != Stands::Open)
    }

    /// Runs for `user` that have ended, and count.
    pub(crate) fn turns_of(&self, user: &str) -> u32 {
        self.turns.iter().find(|turn| turn.user == user).map_or(0, Turn::runs)
    }

    /// For whom `program`, which is at work, runs next. `sessions`: who is logged on, by name.
    pub(crate) fn whose_turn(&self, program: &Program, sessions: Option<&[String]>) -> Whose {
        if !program.runs_for_each_user() {
            return Whose::Machine;
        }
        if !self.has_taken_turns() {
            // Attempts without a turn are from before the journal was lost.
            let forgotten = self.attempts > self.uncounted && program.rerun != Rerun::Always;
            return match sessions.unwrap_or_default() {
                _ if forgotten => Whose::Forgotten,
                [] => Whose::Nobody,
                here if here.len() > TURNS_MAX => Whose::TooMany(here.len()),
                [first, ..] => Whose::User(first.clone()),
            };
        }
        let Some(here) = sessions else { return Whose::Nobody };
        let open =
            || self.turns.iter().filter(|turn| turn.stands == Stands::Open || turn.is_owed());
        // Everybody has a run before anybody has a second one.
        match open().filter(|turn| here.contains(&turn.user)).min_by_key(|turn| turn.runs()) {
            Some(turn) => Whose::User(turn.user.clone()),
            None if open().any(Turn::is_owed) => Whose::Nobody,
            None => Whose::Over,
        }
    }

    /// Fixes who is served, unless it is fixed already.
    pub(crate) fn draw_turns(&mut self, sessions: Option<&[String]>) {
        if !self.has_taken_turns() {
            let open = |user: &String| Turn { user: user.clone(), stands: Stands::Open };
            self.turns = sessions.unwrap_or_default().iter().map(open).collect();
        }
    }

    /// Who was served stays served; everybody else has all runs before them.
    pub(crate) fn reopen_turns(&mut self) {
        for turn in self.turns.iter_mut().filter(|turn| turn.stands != Stands::Served) {
            turn.stands = Stands::Open;
        }
    }

    /// Notes how a run for `user` ended. `again`: another one may follow.
    fn take_turn(&mut self, user: &str, ended: &State, again: bool) {
        let Some(turn) = self.turns.iter_mut().find(|turn| turn.user == user) else { return };
        let runs = turn.runs().saturating_add(1);
        let ended = shortened(ended.clone());
        turn.stands = match (ended.word(), again) {
            (Word::Succeeded, _) => Stands::Served,
            (_, true) => Stands::Owed { runs, ended },
            (_, false) => Stands::Failed { ended },
        };
    }

    /// The users who had logged off before their turn, once all are over.
    fn passed_over(&self) -> String {
        self.names(|stands| *stands == Stands::Open)
    }

    fn names(&self, of: impl Fn(&Stands) -> bool) -> String {
        let named = self.turns.iter().filter(|turn| of(&turn.stands));
        let names: Vec<&str> = named.map(|turn| turn.user.as_str()).collect();
        head_of(names.join(", "), PASSED_OVER_BYTES_MAX)
    }

    /// What the turns come to: one user whose run did not end well makes the whole fail.
    fn summed_up(&self) -> State {
        let failed: Vec<(&str, &State)> = self
            .turns
            .iter()
            .filter_map(|turn| match &turn.stands {
                Stands::Owed { ended, .. } | Stands::Failed { ended } => {
                    Some((turn.user.as_str(), ended))
                }
                Stands::Open | Stands::Served => None,
            })
            .collect();
        let left = self.passed_over();
        let Some((_, first)) = failed.first() else {
            let rule =
                if left.is_empty() { EvidenceKind::EachUser } else { EvidenceKind::UsersLeft };
            return State::Succeeded { evidence: Evidence { rule, exit_code: None } };
        };
        let mut said: Vec<String> =
            failed.iter().map(|(user, ended)| format!("{user}: {ended}")).collect();
        let served = self.names(|stands| *stands == Stands::Served);
        if !served.is_empty() {
            said.push(format!("well for {served}"));
        }
        if !left.is_empty() {
            said.push(format!("logged off before their turn: {left}"));
        }
        let (rule, exit_code) = (Rule::EachUser, first.exit_code());
        State::Failed { code: Failure { rule, exit_code, detail: said.join("; ") } }
    }
}

/// A state as a turn keeps it: small, because every folder of the list's runs holds it.
fn shortened(state: State) -> State {
    match state {
        State::Failed { mut code } => {
            code.detail = head_of(code.detail, DETAIL_BYTES_MAX);
            State::Failed { code }
        }
        other => other,
    }
}

/// How the part at work ends because of its turns before any further run; `None`: it does not.
pub(crate) fn refused(whose: &Whose) -> Option<State> {
    match whose {
        Whose::Forgotten => Some(State::Interrupted { cause: Interruption::MemoryLost }),
        Whose::TooMany(users) => {
            let detail = format!("{users} users are logged on; at most {TURNS_MAX} are served");
            Some(failed(Rule::EachUser, None, detail))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
