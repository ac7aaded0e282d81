//! The people at the device: who is logged on, what they are given notice of, what they ask for.
//!
//! ```text
//! available, waiting(time | notice | retry) -- install --> starts as soon as nothing forbids it
//! ready, somebody logged on -- notice --> waiting(notice, until) -- countdown over, nobody left --> starts
//!                                           ^        |
//!                                           +-- defer, never beyond the deadline
//! ```
//!
//! A user hastens or puts off; what forbids a start (held, halted, stopped, conflict, stale policy)
//! forbids it to users as well. What they said is saved with the obligation, so a restart of agent or
//! machine neither forgets it nor begins a countdown anew.

use muster_model::clock::{Now, Wall};
use muster_model::id::AdvertisementId;
use muster_model::notice::Notice;
use muster_model::package::{Program, RunWhen};
use muster_model::policy::Offer;
use muster_model::program::USER_CHARS_MAX;
use muster_model::state::{State, Waiting, Word};
use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::draft::Draft;
use crate::obligation::{Standing, forbidden, offered};
use crate::report::Told;
use crate::saved::{ContentStanding, Key, ObligationRecord, Stage};
use crate::schedule::{Start, start};
use crate::sometimes::Branch;

/// What a user of the device asks for. Taken twice it is taken once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// Start the program now: an available one, or a mandatory one before its time.
    Install {
        /// The advertisement.
        advertisement: AdvertisementId,
    },
    /// Put a start off that notice was given of.
    Defer {
        /// The advertisement.
        advertisement: AdvertisementId,
        /// Until then, in trusted time; the deadline if that is earlier.
        until: Wall,
    },
    /// Look at the agent itself and tell the site.
    Verify,
}

/// What will become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// The program starts as soon as its content is here and nothing is in the way.
    Starts,
    /// It starts when this is over.
    StartsAfter(Waiting),
    /// It has been started already.
    Runs,
    /// The start is put off.
    PutOff {
        /// Until then, in trusted time.
        until: Wall,
    },
    /// The agent looks at itself and tells the site.
    Verifies,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestRefused {
    /// There is no such obligation.
    #[error("nothing of that name is advertised to this device")]
    NotAdvertised,
    /// The memory was lost, and the site has not told what was done before.
    #[error("the device waits for its site's account of what was done before")]
    AwaitsAccount,
    /// It has ended, and what has ended stays ended.
    #[error("it has ended already: {0}; an administrator can run it again with `muster rerun`")]
    Ended(State),
    /// It is not for this machine.
    #[error("it is not for this machine: {0}")]
    NotApplicable(State),
    /// There is nothing to put off.
    #[error("no notice of a start has been given: it stands at {0}")]
    NoNotice(State),
    /// It was put off as long as it may be.
    #[error("it cannot be put off beyond {0}")]
    TooLate(Wall),
}

impl Agent {
    /// Who is logged on changed: what waited for that is looked at again, or falls due.
    pub(crate) fn sessions_changed(&mut self, draft: &mut Draft, mut users: Vec<String>) {
        // What no machine calls a user is nobody.
        users.retain(|user| (1..=USER_CHARS_MAX).contains(&user.chars().count()));
        users.sort();
        users.dedup();
        if self.sessions.as_ref() == Some(&users) {
            return;
        }
        let before = self.sessions.replace(users.clone());
        self.logged_on(draft, before.as_deref(), &users);
        if let Some(before) = before {
            self.tell_newcomers(draft, &before, &users);
        }
        let trusted = self.trusted(draft.now);
        for record in self.obligations.values_mut() {
            if let Stage::Holding { why: Waiting::User, until } = &mut record.stage {
                *until = trusted;
            }
        }
    }

    /// Whether somebody is logged on; `None` if the shell has not said.
    pub(crate) fn somebody(&self) -> Option<bool> {
        self.sessions.as_ref().map(|users| !users.is_empty())
    }

    /// What would become of a request now. Changes nothing.
    pub fn weigh(&self, now: Now, request: &Request) -> Result<Promise, RequestRefused> {
        if *request == Request::Verify {
            return Ok(Promise::Verifies);
        }
        if self.memory.awaits_account {
            return Err(RequestRefused::AwaitsAccount);
        }
        self.weighed(self.trusted(now), request).map(|(_, promise)| promise)
    }

    /// Takes a request. One that is refused by now is ignored: who asked was told where it stands.
    pub(crate) fn asked(&mut self, draft: &mut Draft, request: &Request) {
        if *request == Request::Verify {
            return self.verification_asked();
        }
        let trusted = self.trusted(draft.now);
        let Ok((key, promise)) = self.weighed(trusted, request) else {
            return self.ignore("a request that cannot be granted");
        };
        let Some(record) = self.obligations.get_mut(&key) else { return };
        match promise {
            Promise::Runs | Promise::Verifies => return,
            Promise::PutOff { until } => record.user.starts = Some(until),
            Promise::Starts | Promise::StartsAfter(_) => record.user.asked = true,
        }
        self.fired.note(Branch::UserAsked);
        // What was tried before and failed need not wait for its next attempt.
        if let Stage::Holding { why: Waiting::Retry, until } = &mut record.stage {
            *until = trusted;
        }
        draft.obligations.insert(key);
    }

    fn weighed(&self, trusted: Wall, request: &Request) -> Result<(Key, Promise), RequestRefused> {
        let (Request::Install { advertisement } | Request::Defer { advertisement, .. }) = request
        else {
            return Err(RequestRefused::NotAdvertised);
        };
        let record = self.concerned(*advertisement).ok_or(RequestRefused::NotAdvertised)?;
        let standing = self.standing(&record.key, trusted).ok_or(RequestRefused::NotAdvertised)?;
        let promise = match request {
            Request::Defer { until, .. } => may_defer(&standing, *until)?,
            _ => may_install(&standing)?,
        };
        Ok((record.key.clone(), promise))
    }

    /// The obligation that a user means: the first one that has not ended, or else the newest.
    fn concerned(&self, advertisement: AdvertisementId) -> Option<&ObligationRecord> {
        let of_it =
            || self.obligations.values().filter(move |r| r.key.advertisement == advertisement);
        of_it().find(|record| record.stage != Stage::Over).or_else(|| of_it().next_back())
    }

    /// Gives notice of a start, or waits on until it.
    pub(crate) fn give_notice(&mut self, draft: &mut Draft, key: &Key, starts: Wall) {
        let trusted = self.trusted(draft.now);
        let Some(record) = self.obligations.get_mut(key) else { return };
        if record.user.starts != Some(starts) {
            self.fired.note(Branch::NoticeGiven);
            record.user.starts = Some(starts);
            record.user.noticed = Some(record.user.noticed.unwrap_or(trusted).min(trusted));
            draft.obligations.insert(key.clone());
            let users = self.sessions.clone().unwrap_or_default();
            self.tell_start(draft, key, &users);
        }
        let why = Waiting::Notice;
        self.set_stage(draft, key, Stage::Holding { why, until: starts });
        self.report(draft, key, State::Waiting { why, until: Some(starts) }, Told::default());
    }
}

fn may_install(standing: &Standing<'_>) -> Result<Promise, RequestRefused> {
    let record = standing.record;
    match (&record.stage, record.reported.word()) {
        (Stage::Over, _) => return Err(RequestRefused::Ended(record.reported.clone())),
        (_, Word::NotApplicable) => {
            return Err(RequestRefused::NotApplicable(record.reported.clone()));
        }
        (_, word) if !word.is_unstarted() => return Ok(Promise::Runs),
        _ => {}
    }
    let (offer, _) = offered(standing).map_err(|_| RequestRefused::NotAdvertised)?;
    Ok(match forbidden(standing, offer) {
        Some(why) => Promise::StartsAfter(why),
        None if standing.restart_near => Promise::StartsAfter(Waiting::Restart),
        None if !standing.turn_free => Promise::StartsAfter(Waiting::Turn),
        None => Promise::Starts,
    })
}

fn may_defer(standing: &Standing<'_>, until: Wall) -> Result<Promise, RequestRefused> {
    let refused = || RequestRefused::NoNotice(standing.record.reported.clone());
    let told = matches!(standing.record.reported, State::Waiting { why: Waiting::Notice, .. });
    let starts = standing.record.user.starts.filter(|_| told).ok_or_else(refused)?;
    let latest = latest_start(standing).ok_or_else(refused)?;
    if latest <= starts {
        return Err(RequestRefused::TooLate(latest));
    }
    Ok(Promise::PutOff { until: until.clamp(starts, latest) })
}

/// Whether `run_when` allows a start. A shell that does not say who is logged on looks for itself.
pub(crate) fn fits(run_when: RunWhen, somebody: Option<bool>) -> bool {
    match (run_when, somebody) {
        (RunWhen::Any, _) | (_, None) => true,
        (RunWhen::UserLoggedOn, Some(somebody)) => somebody,
        (RunWhen::NobodyLoggedOn, Some(somebody)) => !somebody,
    }
}

/// The announced start that is waited for; `None` if there is nobody to wait for, or it has come.
pub(crate) fn announced(standing: &Standing<'_>, program: &Program) -> Option<Wall> {
    let (offer, _) = offered(standing).ok()?;
    let notice = notice_of(offer, Some(program))?;
    let user = &standing.record.user;
    // Before the shell has said who is logged on, what was announced is kept.
    let somebody = standing.somebody.unwrap_or(user.starts.is_some());
    // Notice is given once for all whose turn it is.
    if user.asked || !somebody || standing.record.has_taken_turns() {
        return None;
    }
    // A start so far away was announced by a clock that was wrong.
    let most = notice.countdown.max(notice.defer_until).duration();
    match user.starts.filter(|starts| starts.since(standing.trusted) <= most) {
        Some(starts) => (starts > standing.trusted).then_some(starts),
        None => Some(standing.trusted.plus(notice.countdown.duration())),
    }
}

/// The latest start that a user may put it off to: counted from the due time, so that it is the same
/// whenever somebody looks; but the countdown is given in any case.
pub(crate) fn latest_start(standing: &Standing<'_>) -> Option<Wall> {
    let (offer, due) = offered(standing).ok()?;
    let part = standing.record.part()?;
    let program = standing.content.and_then(|content| match &content.record.standing {
        ContentStanding::Ready { manifested } => manifested.program(part.program),
        _ => None,
    });
    let notice = notice_of(offer, program)?;
    let noticed = standing.record.user.noticed.unwrap_or(standing.trusted).min(standing.trusted);
    let due = match start(standing, offer, due.at?) {
        Start::From(due) => due,
        Start::Now | Start::On(_) => noticed,
    };
    let deferred = due.plus(notice.defer_until.duration());
    Some(deferred.max(noticed.plus(notice.countdown.duration())))
}

fn notice_of(offer: &Offer, program: Option<&Program>) -> Option<Notice> {
    offer.notice.or_else(|| program.and_then(|program| program.notice))
}

#[cfg(test)]
mod tests;
