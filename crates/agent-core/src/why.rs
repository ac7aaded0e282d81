//! `why`: the chain of decisions that an obligation stands at, and what happens next, when.
//!
//! Told from the same standing that the moves are made from, so the answer cannot differ from what the
//! machine does.

use muster_model::clock::{Now, Wall};
use muster_model::period::Period;
use muster_model::state::{State, Waiting};
use muster_model::window::room;
use serde::Serialize;

use crate::agent::Agent;
use crate::obligation::{Standing, forbidden, offered, over_before_start};
use crate::saved::{ContentStanding, Key, ObligationRecord, Stage};
use crate::schedule::{Start, due_time, start};
use crate::turn::{Stands, Turn};
use crate::window::Admittance;

/// The chain of decisions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Chain {
    /// Each decision, in the order in which they are taken.
    pub chain: Vec<Link>,
    /// What happens next.
    pub next: Next,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Link {
    /// What is decided.
    pub step: &'static str,
    /// How.
    pub verdict: String,
    /// Why.
    pub because: String,
}

/// What happens next.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Next {
    /// What.
    pub what: String,
    /// When, in trusted time, if that is known.
    pub at: Option<Wall>,
}

impl Agent {
    /// Why an obligation stands where it does; `None` if the device has no such obligation.
    pub fn why(&self, now: Now, key: &Key) -> Option<Chain> {
        let trusted = self.trusted(now);
        let standing = self.standing(key, trusted)?;
        let mut chain = vec![policy_link(&standing), offer_link(&standing)];
        chain.extend(gate_link(&standing));
        chain.extend(dependency_link(standing.record));
        chain.extend(requirement_link(standing.record));
        chain.extend(newer_link(standing.record));
        chain.push(content_link(&standing));
        chain.extend(time_link(&standing));
        chain.extend(window_link(&standing));
        chain.extend(turn_link(standing.record));
        chain.extend(run_link(standing.record));
        chain.push(Link {
            step: "state",
            verdict: standing.record.reported.to_string(),
            because: format!("since {}", standing.record.since),
        });
        Some(Chain { chain, next: self.next_of(standing.record, trusted) })
    }

    /// What happens next to an obligation.
    pub(crate) fn next_of(&self, record: &ObligationRecord, trusted: Wall) -> Next {
        let at = self.next_look(record, trusted);
        let what = match (&record.stage, &record.reported) {
            (Stage::Over, _) => "nothing: it has ended",
            (Stage::Running { .. }, _) => "the program ends",
            (Stage::DetectingAfter { .. }, _) => "detection judges the run",
            (Stage::RestartPending { .. }, _) => "the machine restarts, then detection judges",
            (Stage::Upgrading, _) => {
                "the new version of the agent reaches the site, or the one before returns"
            }
            (Stage::Recalled, _) => "the folder of the run from before the loss is looked at",
            (Stage::Undone, _) => {
                "detection, or the program's re-run rule, says whether it is done again"
            }
            (Stage::DetectingBefore, _) => "detection tells whether anything is to be done",
            (Stage::Checking, _) => "conditions are looked at, then the program starts",
            (_, State::Waiting { why, .. }) => next_after(*why),
            (Stage::Fetching, _) => "the content is here",
            (_, State::Available) => "a user starts it",
            (_, State::NotApplicable { .. }) => "the device's facts change",
            _ => "the next decision",
        };
        Next { what: what.to_owned(), at }
    }
}

fn next_after(why: Waiting) -> &'static str {
    match why {
        Waiting::Time => "its time comes",
        Waiting::Content => "fetching the content is tried again",
        Waiting::Disk => "room on disk is looked for again",
        Waiting::Outbox => "the site takes messages, so that the outbox has room",
        Waiting::PackageManager => "the package manager's lock is looked at again",
        Waiting::Turn => "the run that has the turn ends",
        Waiting::Retry => "the next attempt",
        Waiting::StalePolicy => "the site is heard again",
        Waiting::Account => "the site's account arrives",
        Waiting::Stopped => "somebody resumes the advertisement",
        Waiting::Halted => "somebody ends the halt",
        Waiting::Held => "somebody admits the device",
        Waiting::Conflict => "one of the conflicting advertisements goes",
        Waiting::Notice => "the time that was given to who is logged on is over, or nobody is",
        Waiting::Restart => "the machine restarts",
        Waiting::User => "the user's presence is looked at again",
        Waiting::Power => "the power supply is looked at again",
        Waiting::Link => "the network is looked at again",
        Waiting::Disabled => "the publisher publishes a version that is not held back",
        Waiting::RunAs => "the user that it runs as is looked for again",
        Waiting::Dependency => "the site pins the programs that go before",
        Waiting::Paused => "the component is resumed on the device",
        Waiting::SwitchedOff => "the site switches software distribution on",
        Waiting::Window => "a window opens that has room for the run",
        Waiting::Freeze => "the freeze ends",
        Waiting::StartUp => "the machine starts",
        Waiting::BootGrace => "the machine has been up for `bootGrace`",
        Waiting::LogOn => "somebody logs on",
    }
}

fn link(step: &'static str, verdict: &str, because: String) -> Link {
    Link { step, verdict: verdict.to_owned(), because }
}

fn policy_link(standing: &Standing<'_>) -> Link {
    match standing.policy {
        None => link("policy", "none", "the site has not given one yet".to_owned()),
        Some(policy) => {
            let heard = match standing.heard {
                Some(heard) => format!("the site was last heard {heard}"),
                None => "the site's time has not been heard".to_owned(),
            };
            link("policy", "held", format!("revision {}; {heard}", policy.revision))
        }
    }
}

fn offer_link(standing: &Standing<'_>) -> Link {
    match offered(standing) {
        Err(why) => link("offer", "none", format!("it is no longer offered: {why}")),
        Ok((offer, _)) => {
            let package = format!("{}@{}", offer.package.name, offer.package.version);
            let followed = standing.record.revision;
            let because = format!(
                "revision {} offers `{}` of {package}; revision {followed} is followed",
                offer.revision, offer.program
            );
            link("offer", "offered", because)
        }
    }
}

fn gate_link(standing: &Standing<'_>) -> Option<Link> {
    let (offer, _) = offered(standing).ok()?;
    if let Some(end) = over_before_start(offer, standing.trusted) {
        return Some(link("start", "over", end.to_string()));
    }
    let Some(why) = forbidden(standing, offer) else {
        return Some(link("start", "allowed", "nothing forbids it".to_owned()));
    };
    let policy = standing.policy?;
    let order = match why {
        Waiting::Held => policy.held.as_ref(),
        Waiting::Halted => policy.halted.as_ref(),
        Waiting::Stopped => offer.stopped.as_ref(),
        _ => None,
    };
    let because = match (order, &offer.conflict) {
        (Some(order), _) if order.reason.is_empty() => format!("by {}", order.by),
        (Some(order), _) => format!("by {}: {}", order.by, order.reason),
        (None, Some(with)) if why == Waiting::Conflict => format!("with {with}"),
        _ => next_after(why).to_owned(),
    };
    Some(link("start", &format!("waits: {why}"), because))
}

/// What goes before, if anything does: which of it is done, and which is at work.
fn dependency_link(record: &ObligationRecord) -> Option<Link> {
    let (done, all) = (record.dependencies_done(), record.dependencies.len());
    let next = record.part().and_then(|part| part.dependency);
    (all > 0).then(|| match next {
        Some(one) => link("dependency", &format!("{done} of {all} done"), format!("next: {one}")),
        None => link("dependency", "done", format!("all {all} that go before succeeded")),
    })
}

fn requirement_link(record: &ObligationRecord) -> Option<Link> {
    let unmet = record.unmet.as_ref()?;
    let because = format!("`{unmet}` does not certainly hold for the device's facts");
    Some(link("requirement", "not met", because))
}

fn newer_link(record: &ObligationRecord) -> Option<Link> {
    let by = record.replaced_by.as_ref()?;
    let because = format!("{by}, which replaces it, was installed here and is not removed");
    Some(link("newer", "present", because))
}

fn content_link(standing: &Standing<'_>) -> Link {
    let Some(content) = standing.content else {
        return link("content", "not needed", "nothing is to be run now".to_owned());
    };
    let package = &content.record.package;
    let manifest = package.manifest.short();
    match (&content.record.standing, content.wait) {
        (ContentStanding::Ready { .. }, _) => {
            link("content", "ready", format!("every byte of {manifest} is verified"))
        }
        (ContentStanding::Refused { rule, why }, _) => {
            link("content", "refused", format!("{rule}: {why}"))
        }
        (ContentStanding::Fetching, Some(wait)) => {
            link("content", &format!("waits: {wait}"), format!("{manifest} could not be fetched"))
        }
        (ContentStanding::Fetching, None) => {
            link("content", "fetching", format!("{manifest} is on its way"))
        }
    }
}

fn time_link(standing: &Standing<'_>) -> Option<Link> {
    let (offer, due) = offered(standing).ok()?;
    let Some(at) = due.at else {
        return Some(link("time", "never by itself", "the program is available".to_owned()));
    };
    let splay = match offer.splay.is_zero() {
        true => String::new(),
        false => format!(", with its own part of the splay of {}", offer.splay),
    };
    Some(match (start(standing, offer, at), due_time(at, standing.zone)) {
        (_, Some(due)) if standing.is_passed => {
            link("time", "missed", format!("{due} went by, and so has the next time"))
        }
        (Start::On(event), _) => {
            link("time", &format!("waits: {event}"), next_after(event).to_owned())
        }
        (Start::From(time), due) if time > standing.trusted => {
            let due = due.map(|due| format!(", due at {due}")).unwrap_or_default();
            link("time", "later", format!("at {time}{due}{splay}"))
        }
        (_, None) => link("time", "due", "as soon as possible".to_owned()),
        (_, Some(due)) => link("time", "due", format!("since {due}{splay}")),
    })
}

/// Known once the manifest is: a window must have room for the program.
fn window_link(standing: &Standing<'_>) -> Option<Link> {
    let (offer, _) = offered(standing).ok()?;
    let ContentStanding::Ready { manifested } = &standing.content?.record.standing else {
        return None;
    };
    let program = manifested.program(&standing.record.program)?;
    let room = Period::of(room(program, standing.grace));
    Some(match standing.admittance(offer, program) {
        Admittance::AnyTime => return None,
        Admittance::Overridden => {
            link("window", "overridden", "an emergency stands above windows and freezes".to_owned())
        }
        Admittance::Open { latest: None } => link("window", "open", "no freeze is near".to_owned()),
        Admittance::Open { latest: Some(latest) } => {
            link("window", "open", format!("a run may take {room} and may start until {latest}"))
        }
        Admittance::Shut { closed, until } => {
            let opens = match until {
                Some(at) => format!("; it may start at {at}"),
                None => String::new(),
            };
            let verdict = format!("waits: {}", closed.why);
            link("window", &verdict, format!("{}{opens}", closed.because))
        }
    })
}

/// Whom the program runs for, if it runs for each who is logged on.
fn turn_link(record: &ObligationRecord) -> Option<Link> {
    let served = record.turns.iter().filter(|turn| turn.stands == Stands::Served).count();
    let said: Vec<String> = record.turns.iter().map(Turn::to_string).collect();
    let verdict = format!("{served} of {} served", record.turns.len());
    (!said.is_empty()).then(|| link("users", &verdict, said.join("; ")))
}

fn run_link(record: &ObligationRecord) -> Option<Link> {
    let spent = record.attempts.checked_sub(record.uncounted)?;
    (record.attempts > 0)
        .then(|| link("run", &format!("attempt {}", record.attempts), format!("{spent} counted")))
}
