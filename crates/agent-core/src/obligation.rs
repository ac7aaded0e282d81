//! The stage machine of one obligation: one pure function from where it stands to its next move.
//!
//! ```text
//!              gates (account, held, halted, stopped, conflict, paused, switched off, stale policy)
//!                |
//! Idle -> Fetching -> (time) -> DetectingBefore -> (turn) -> Checking -> Running -> DetectingAfter -> Over
//!   ^                                                |          |           |             |
//!   |                                                +--Holding-+     RestartPending      |
//!   +------------------------- Holding(retry) -------------------------------+------------+
//! Recalled -> Running: the site's account named a run whose record this device lost
//! Undone -> Idle | Over: the site's account says that a snapshot undid its end ([`crate::undone`])
//! ```
//!
//! The decision looks at the whole standing each time and remembers nothing: it may be taken as often
//! as one likes, after any input and after any restart, and only [`Move::Stay`] follows when nothing
//! changed. Everything that forbids a start is looked at again right before [`Move::Arm`].

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use muster_model::advertisement::{At, OfflineFor};
use muster_model::clock::Wall;
use muster_model::facts::Facts;
use muster_model::id::{BootId, DeviceId};
use muster_model::package::{Detection, Program, Rerun};
use muster_model::policy::{Due, Offer, Policy, Recurrence};
use muster_model::settings::Setting;
use muster_model::state::{Expiry, Interruption, Rule, State, Waiting, Withdrawal, Word};

use crate::content::{Content, Contents};
use crate::input::Manifested;
use crate::newer::newer;
use crate::outcome::{detects, failed};
use crate::part::{Known, manifested, part_of, ran_before};
use crate::saved::{ContentStanding, Key, ObligationRecord, Stage};
use crate::schedule::{Start, late, settling, start};
use crate::turn::{Whose, refused};
use crate::undone::next_undone;
use crate::upgrade::next_of_release;
use crate::user::{announced, fits};
use crate::versions::Footing;
use crate::window::Calendar;

/// Everything that decides what an obligation does next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing<'a> {
    pub(crate) device: DeviceId,
    pub(crate) record: &'a ObligationRecord,
    pub(crate) policy: Option<&'a Policy>,
    /// The content of the part that is next or at work.
    pub(crate) content: Option<&'a Content>,
    /// All content.
    pub(crate) contents: &'a Contents,
    /// All obligations of the device.
    pub(crate) others: &'a BTreeMap<Key, ObligationRecord>,
    pub(crate) facts: &'a Facts,
    pub(crate) boot: &'a BootId,
    pub(crate) zone: &'a TimeZone,
    /// What was judged of the policy's windows.
    pub(crate) calendar: &'a Calendar,
    /// How long a program has between TERM and KILL.
    pub(crate) grace: Duration,
    /// Trusted time.
    pub(crate) trusted: Wall,
    /// Until then, in trusted time, the machine has only just started; `None`: it has not.
    pub(crate) settles: Option<Wall>,
    /// When the site was last heard.
    pub(crate) heard: Option<Wall>,
    /// From this long after its time on, an occurrence that was not seen due before is late.
    pub(crate) late_after: Duration,
    /// A later occurrence of the same rule has fallen due.
    pub(crate) is_passed: bool,
    /// The account has not come yet.
    pub(crate) awaits_account: bool,
    /// The site has not yet answered the first word of this boot, and there is time for that.
    pub(crate) awaits_first_answer: bool,
    /// The component is paused on the device.
    pub(crate) paused: bool,
    /// No run is under way.
    pub(crate) turn_free: bool,
    /// The machine is about to restart.
    pub(crate) restart_near: bool,
    /// Whether somebody is logged on; `None` if the shell does not say.
    pub(crate) somebody: Option<bool>,
    /// Who is, by name.
    pub(crate) sessions: Option<&'a [String]>,
    /// The outbox can take the outcome of one more run.
    pub(crate) outbox_room: bool,
    /// Which version of the agent runs.
    pub(crate) footing: &'a Footing,
    /// How long an upgrade waits for runs and restarts.
    pub(crate) upgrade_wait: Duration,
    /// A detection for this obligation is under way.
    pub(crate) detecting: bool,
    /// A look at the conditions of this obligation is under way.
    pub(crate) checking: bool,
    /// The conditions were found clear by the input that is being handled.
    pub(crate) cleared: bool,
    /// Planted bugs.
    #[cfg(feature = "planted")]
    pub(crate) planted: crate::planted::Planted,
}

/// What an obligation does next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Move {
    /// Nothing.
    Stay,
    /// It ends unstarted.
    End(State),
    /// It rests in this state until policy or facts change.
    Rest(State),
    /// It is over in the state that it rests in.
    Close,
    /// It is not for this machine until this requirement holds.
    Unmet(String),
    /// It is not for this machine while this package, which replaces its own, is there.
    Replaced(String),
    /// What replaced its package is there no more.
    Readmit,
    /// The part at work ran before, and need not run again.
    Skip,
    /// Something forbids a start; `until` is when that ends, if it is known.
    Wait { why: Waiting, until: Option<Wall> },
    /// Its content is fetched; `wait`: what that waits for.
    Fetch { wait: Option<Waiting> },
    /// Detection runs before the program.
    Detect(Box<Detection>),
    /// Conditions are looked at.
    Check { program: Box<Program>, size: u64 },
    /// All is clear but for this, which is looked at again.
    Hold(Waiting),
    /// Whoever is logged on is given notice of a start.
    Notify { starts: Wall },
    /// The program is started, for this user if it runs for each.
    Arm { program: Box<Program>, detection: Option<Box<Detection>>, user: Option<String> },
    /// Every user had their turn, or has left.
    SumUp,
    /// The release waits for a run or a restart, until then at most.
    InUse { why: Waiting, until: Wall },
    /// The release is taken up.
    Upgrade,
    /// Detection runs after the program.
    DetectAfter,
    /// The machine has restarted, as was asked.
    Restarted,
    /// The program was to restart the machine itself and has not done so in time.
    ProgramRestartOver,
    /// What a snapshot undid is to be done again.
    Reopen,
    /// Detection tells whether what a snapshot undid is there after all.
    DetectUndone(Box<Detection>),
    /// The run that the account named can be looked at.
    Recall { program: Box<Program>, detection: Option<Box<Detection>> },
}

/// What an obligation does next.
pub(crate) fn next(standing: &Standing<'_>) -> Move {
    match &standing.record.stage {
        // After the account and before the first policy nothing is known to be withdrawn.
        _ if standing.policy.is_none() => Move::Stay,
        Stage::Over | Stage::Running { .. } | Stage::Upgrading => Move::Stay,
        Stage::DetectingAfter { .. } if standing.detecting => Move::Stay,
        // A run that was found again is judged once its package is here again.
        Stage::DetectingAfter { .. } if is_judge_missing(standing) => Move::Stay,
        Stage::DetectingAfter { .. } => Move::DetectAfter,
        Stage::RestartPending { boot, .. } if boot != standing.boot => Move::Restarted,
        Stage::RestartPending { until: Some(until), .. } if *until <= standing.trusted => {
            Move::ProgramRestartOver
        }
        Stage::RestartPending { .. } => Move::Stay,
        // A run folder may tell of an attempt after the one that was salvaged.
        Stage::Recalled if standing.awaits_account => Move::Stay,
        Stage::Recalled => next_recalled(standing),
        Stage::Undone => next_undone(standing),
        _ => next_unstarted(standing),
    }
}

fn next_unstarted(standing: &Standing<'_>) -> Move {
    let not_applicable = standing.record.reported.word() == Word::NotApplicable;
    if standing.is_passed {
        // What the machine is, it was: the word stays.
        return match not_applicable {
            true => Move::Close,
            false => Move::End(State::Expired { why: Expiry::Missed }),
        };
    }
    let (offer, due) = match offered(standing) {
        Ok(offered) => offered,
        Err(why) => return Move::End(State::Withdrawn { why }),
    };
    if let Some(end) = over_before_start(offer, standing.trusted) {
        return Move::End(end);
    }
    if let Some(by) = &offer.superseded {
        return Move::End(State::Superseded { by: by.clone() });
    }
    let asked = standing.record.user.asked;
    let Some(at) = due.at.or(asked.then_some(At::Now)) else {
        return Move::Rest(State::Available);
    };
    match (newer(standing, offer), &standing.record.replaced_by) {
        (None, Some(_)) => return Move::Readmit,
        (_, None) if not_applicable => return Move::Stay,
        (Some(by), _) => return Move::Replaced(by),
        (None, None) => {}
    }
    // What a user may start rests, and needs no content.
    if let Some(rest @ Move::Rest(_)) = late(standing, offer, at) {
        return rest;
    }
    if let Some(why) = forbidden(standing, offer) {
        return Move::Wait { why, until: None };
    }
    let Known { program, manifested } = match part_of(standing, offer) {
        Ok(known) => known,
        Err(next) => return next,
    };
    if standing.record.whose_turn(program, standing.sessions) == Whose::Over {
        return Move::SumUp;
    }
    if let Some(next) = late(standing, offer, at) {
        return next;
    }
    if let Some(next) = still_fetching(standing) {
        return next;
    }
    match start(standing, offer, at) {
        Start::From(time) if time > standing.trusted && !asked => {
            Move::Wait { why: Waiting::Time, until: Some(time) }
        }
        Start::On(event) if !asked => Move::Wait { why: event, until: None },
        _ if standing.awaits_first_answer => Move::Stay,
        _ => match settling(standing, offer) {
            Some(until) => Move::Wait { why: Waiting::BootGrace, until: Some(until) },
            None => next_in_window(standing, offer, program, manifested),
        },
    }
}

/// The time has come. Windows come after content, which is fetched ahead of them, and before detection
/// and everything else that the machine would notice.
fn next_in_window(
    standing: &Standing<'_>,
    offer: &Offer,
    program: &Program,
    manifested: &Manifested,
) -> Move {
    match (standing.shut(offer, program), &manifested.release) {
        (Some((why, until)), _) => Move::Wait { why, until },
        (None, Some(release)) => next_of_release(standing, release),
        (None, None) => next_of_ready(standing, program, manifested),
    }
}

/// Content is here, the time has come, nothing forbids a start.
fn next_of_ready(standing: &Standing<'_>, program: &Program, manifested: &Manifested) -> Move {
    let whose = standing.record.whose_turn(program, standing.sessions);
    if let Some(end) = refused(&whose) {
        return Move::End(end);
    }
    let check = || Move::Check { program: Box::new(program.clone()), size: manifested.size };
    let lacking = if standing.restart_near {
        Some(Waiting::Restart)
    } else if !standing.turn_free {
        Some(Waiting::Turn)
    } else if !standing.outbox_room {
        Some(Waiting::Outbox)
    } else if !fits(program.run_when, standing.somebody) || whose == Whose::Nobody {
        Some(Waiting::User)
    } else {
        None
    };
    let checked = |next: &dyn Fn() -> Move| match (lacking, announced(standing, program)) {
        (Some(why), _) => Move::Hold(why),
        (None, Some(starts)) => Move::Notify { starts },
        (None, None) => next(),
    };
    let detection = manifested.detection.as_ref();
    if ran_before(standing, program, detection) {
        return Move::Skip;
    }
    if may_have_run(standing.record, program) && !is_yet_to_detect(standing, program, detection) {
        return Move::End(State::Interrupted { cause: Interruption::MemoryLost });
    }
    match &standing.record.stage {
        Stage::Checking if standing.cleared => checked(&|| Move::Arm {
            program: Box::new(program.clone()),
            detection: detection.cloned().map(Box::new),
            user: whose.user(),
        }),
        Stage::Checking if standing.checking => Move::Stay,
        Stage::Checking => checked(&check),
        Stage::DetectingBefore if standing.detecting => Move::Stay,
        // These are seen from here: no need to wait for the next look.
        Stage::Holding {
            why: Waiting::Restart | Waiting::Turn | Waiting::Outbox | Waiting::Notice,
            ..
        } => checked(&check),
        Stage::Holding { why: Waiting::Retry, until } if *until > standing.trusted => {
            Move::Wait { why: Waiting::Retry, until: Some(*until) }
        }
        Stage::Holding { until, .. } if *until > standing.trusted => Move::Stay,
        Stage::Holding { why, .. } if *why != Waiting::Retry => checked(&check),
        _ => match detection {
            Some(detection) if detects(program, Some(detection)) => {
                Move::Detect(Box::new(detection.clone()))
            }
            _ => checked(&check),
        },
    }
}

/// Whether nobody knows if a program that may run but once has run: the account counts the runs of an
/// obligation, and not of which of its programs they were. ([`turn`](crate::turn) does the same for users.)
fn may_have_run(record: &ObligationRecord, program: &Program) -> bool {
    record.forgotten && !record.dependencies.is_empty() && program.rerun == Rerun::Never
}

/// Whether detection comes before anything else, and may show that the program need not run.
fn is_yet_to_detect(
    standing: &Standing<'_>,
    program: &Program,
    detection: Option<&Detection>,
) -> bool {
    let over = match &standing.record.stage {
        Stage::Checking => true,
        Stage::Holding { why, .. } => *why != Waiting::Retry,
        _ => false,
    };
    !over && detects(program, detection)
}

/// Evidence about a lost run is gathered whatever forbids a start: nothing is started by it.
fn next_recalled(standing: &Standing<'_>) -> Move {
    let lost = Move::End(State::Interrupted { cause: Interruption::MemoryLost });
    let same_revision =
        offered(standing).is_ok_and(|(offer, _)| offer.revision == standing.record.revision);
    // Which part was running is not known, and a run is not judged by another one's rules.
    let parts = !standing.record.dependencies.is_empty();
    let Some(package) = standing.record.package.as_ref().filter(|_| same_revision && !parts) else {
        return lost;
    };
    let manifested = match manifested(standing.contents, package) {
        Ok(manifested) => manifested,
        Err(Move::End(_)) => return lost,
        Err(next) => return next,
    };
    match (manifested.program(&standing.record.program), still_fetching(standing)) {
        // The versions on the device outlive the journal.
        (Some(_), None) if manifested.release.is_some() => Move::Upgrade,
        (None, _) => lost,
        (_, Some(next)) => next,
        // Whose turn it was is not known either.
        (Some(program), None) if program.runs_for_each_user() => lost,
        (Some(program), None) => Move::Recall {
            program: Box::new(program.clone()),
            detection: manifested.detection.clone().map(Box::new),
        },
    }
}

/// The offer and occurrence that the obligation is for, or how it was withdrawn.
pub(crate) fn offered<'a>(standing: &Standing<'a>) -> Result<(&'a Offer, Due), Withdrawal> {
    let key = &standing.record.key;
    let offer = standing
        .policy
        .and_then(|policy| policy_offer(policy, key.advertisement))
        .ok_or(Withdrawal::LeftCollection)?;
    let due = offer.occurrences.iter().find(|due| due.occurrence == key.occurrence);
    if let Some(due) = due {
        return Ok((offer, due.clone()));
    }
    let recurs = |rule: &Recurrence| rule.assignment == key.occurrence.assignment;
    match standing.record.times.due.filter(|_| offer.recurrences.iter().any(recurs)) {
        Some(at) => Ok((offer, Due { occurrence: key.occurrence.clone(), at: Some(at) })),
        None => Err(Withdrawal::AssignmentRemoved),
    }
}

/// The offer of `advertisement`; offers stand in the order of their ids.
pub(crate) fn policy_offer(
    policy: &Policy,
    advertisement: muster_model::id::AdvertisementId,
) -> Option<&Offer> {
    let offers = &policy.advertisements;
    let at = offers.binary_search_by_key(&advertisement, |offer| offer.advertisement).ok()?;
    offers.get(at)
}

/// What ends an obligation that was not started.
pub(crate) fn over_before_start(offer: &Offer, trusted: Wall) -> Option<State> {
    if let Some(order) = &offer.revoked {
        let detail = match order.reason.as_str() {
            "" => format!("by {}", order.by),
            reason => format!("by {}: {reason}", order.by),
        };
        return Some(failed(Rule::Revoked, None, detail));
    }
    let expired = offer.expires.is_some_and(|expires| expires <= trusted);
    expired.then_some(State::Expired { why: Expiry::Advertisement })
}

/// What forbids any start now, the strongest first.
pub(crate) fn forbidden(standing: &Standing<'_>, offer: &Offer) -> Option<Waiting> {
    let policy = standing.policy?;
    let said = [
        (standing.awaits_account, Waiting::Account),
        (policy.held.is_some(), Waiting::Held),
        (policy.halted.is_some(), Waiting::Halted),
        (offer.stopped.is_some(), Waiting::Stopped),
        (offer.conflict.is_some(), Waiting::Conflict),
        (standing.paused, Waiting::Paused),
        (!policy.settings.is_on(Setting::SoftwareDistribution), Waiting::SwitchedOff),
        (
            stale_from(offer, policy, standing.heard).is_some_and(|from| from < standing.trusted),
            Waiting::StalePolicy,
        ),
    ];
    let said = said.into_iter().filter(|(holds, _)| *holds).map(|(_, why)| why);
    #[cfg(feature = "planted")]
    let said = said.filter(|why| !standing.planted.ignores(*why));
    said.into_iter().next()
}

/// The last moment at which the device may act on `offer` without hearing from its site.
pub(crate) fn stale_from(offer: &Offer, policy: &Policy, heard: Option<Wall>) -> Option<Wall> {
    match offer.offline_for {
        OfflineFor::Unlimited => None,
        OfflineFor::AtMost(most) => Some(heard.unwrap_or(policy.issued).plus(most.duration())),
    }
}

/// Whether the package of the part at work, which says how it is judged, is still being fetched. That of
/// another part need not even be wanted.
fn is_judge_missing(standing: &Standing<'_>) -> bool {
    let part = standing.record.part();
    let content = part.map(|part| standing.contents.get(&part.package.manifest));
    content
        .is_some_and(|one| one.is_none_or(|one| one.record.standing == ContentStanding::Fetching))
}

/// The content of each part comes before the first of them begins.
pub(crate) fn still_fetching(standing: &Standing<'_>) -> Option<Move> {
    let mut contents = standing.record.manifests().map(|one| standing.contents.get(&one));
    let fetching = |content: &&Content| content.record.standing == ContentStanding::Fetching;
    let missing = contents.find(|content| content.as_ref().is_none_or(fetching))?;
    Some(Move::Fetch { wait: missing.and_then(|content| content.wait) })
}

#[cfg(test)]
mod tests;
