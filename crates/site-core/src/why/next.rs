//! What happens next, and when.

use muster_model::state::{Restart, State, Waiting, Word};

use super::{Inputs, Next, Step, Verdict};
use crate::accounting::is_pending;
use crate::removal::grace_of;

pub(super) fn next(inputs: &Inputs<'_>, state: Option<&State>, chain: &[Step]) -> Next {
    let plain = |what: &str| Next { what: what.to_owned(), at: None };
    let Some(state) = state else {
        let first = chain.iter().find(|step| step.verdict != Verdict::Yes);
        return match first {
            Some(step) => plain(&format!("nothing, unless this changes: {}", step.because)),
            None => plain("nothing: the advertisement never targeted the device"),
        };
    };
    let word = state.word();
    if let Some(until) = inputs.removal.and_then(|removing| grace_of(removing.row?)) {
        return Next { what: "what was installed is removed".to_owned(), at: Some(until) };
    }
    if word.is_terminal() {
        return match word {
            Word::Withdrawn => plain("nothing, unless the device becomes a member again"),
            Word::Failed | Word::TimedOut | Word::Interrupted if is_removal(inputs) => {
                plain("nothing by itself: an advertisement of the removing program starts it again")
            }
            Word::Failed | Word::TimedOut | Word::Interrupted => {
                plain("nothing by itself: `muster rerun` starts it again")
            }
            Word::RolledBack => plain(
                "detection or the program's re-run rule says whether the device does it again; \
                 `muster rerun` starts it in any case",
            ),
            _ => plain("nothing: it has ended"),
        };
    }
    let blocked =
        |name: &str| chain.iter().find(|step| step.step == name && step.verdict != Verdict::Yes);
    // What the site knows to hold it back comes before what the device last said it waits for.
    if let Some(step) = ["device", "advertisement"].into_iter().find_map(blocked)
        && word.is_unstarted()
    {
        return plain(&format!("nothing, until this changes: {}", step.because));
    }
    if let Some(since) = inputs.marks.silent.filter(|_| is_pending(word)) {
        return plain(&format!(
            "it goes on when the device is heard of again (silent since {since})"
        ));
    }
    unblocked(inputs, state, blocked("policy").is_some())
}

fn is_removal(inputs: &Inputs<'_>) -> bool {
    inputs.occurrence.is_some_and(|row| row.occurrence.is_removal())
}

fn unblocked(inputs: &Inputs<'_>, state: &State, policy_is_old: bool) -> Next {
    let expires = inputs.advertisement.expires;
    let next = |what: &str, at| Next { what: what.to_owned(), at };
    match state {
        State::Targeted | State::Accepted | State::Waiting { .. } if policy_is_old => {
            next("the device takes the newest policy when it next asks", None)
        }
        State::Targeted | State::Accepted => {
            next("the device reports what it does with the policy", None)
        }
        State::Available => next("a user may start it", expires),
        State::NotApplicable { .. } => next("decided again when the device's facts change", None),
        State::Waiting { why: Waiting::Time, until } => next("it starts at its time", *until),
        State::Waiting { why: Waiting::Notice, until } => {
            next("it starts when the time given to who is logged on is over, or nobody is", *until)
        }
        State::Waiting { why: Waiting::User, .. } => {
            next("it starts when somebody logs on or off at the device", expires)
        }
        State::RestartPending { why: Some(Restart::Outside), .. } => {
            next("somebody restarts the machine, then the outcome is judged", None)
        }
        State::Waiting { why: Waiting::Window, until: None } => {
            next("nothing, until a window is given that has room for the run", expires)
        }
        State::Waiting { why: Waiting::Window, until } => {
            next("it starts when a window opens that has room for the run", *until)
        }
        State::Waiting { why: Waiting::Freeze, until } => {
            next("it starts when the freeze ends", *until)
        }
        State::Waiting { why, until } => {
            next(&format!("the device looks again ({why})"), until.or(expires))
        }
        State::Downloading { .. } => next("it goes on when the content is there", expires),
        State::Running { .. } => next("the program ends, or its time runs out", None),
        _ => next("the machine restarts, then the outcome is judged", None),
    }
}
