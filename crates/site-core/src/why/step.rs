//! The steps of the proof, each from the values that bear on it.

use muster_model::policy::Order;
use muster_model::state::{Author, State, Word};

use super::{Inputs, Step, Verdict};
use crate::device::Admission;
use crate::membership::Standing;
use crate::targeting::LiveAdvertisement;
use muster_model::rule::Truth;

pub(super) fn step(step: &str, verdict: Verdict, because: impl Into<String>) -> Step {
    Step { step: step.to_owned(), verdict, because: because.into() }
}

/// The state of the obligation; `None` if there is none.
pub(super) fn state_of(inputs: &Inputs<'_>) -> Option<State> {
    if let Some(row) = inputs.row {
        return Some(row.state.clone());
    }
    inputs.occurrence.filter(|one| one.targets(inputs.intervals)).map(|_| State::Targeted)
}

pub(super) fn device_step(inputs: &Inputs<'_>) -> Step {
    let heard = match inputs.last_contact {
        Some(at) => format!("last heard of at {at}"),
        None => "never heard of since it was enrolled".to_owned(),
    };
    match &inputs.device.admission {
        Admission::Admitted => step("device", Verdict::Yes, format!("admitted, {heard}")),
        Admission::Pending => {
            step("device", Verdict::Waiting, "waits for `muster device approve`".to_owned())
        }
        Admission::Held { order } => {
            step("device", Verdict::Waiting, format!("held {}, {heard}", by(order)))
        }
        Admission::Retired => step("device", Verdict::No, format!("retired, {heard}")),
    }
}

pub(super) fn by(order: &Order) -> String {
    match order.reason.as_str() {
        "" => format!("by {}", order.by),
        reason => format!("by {}: {reason}", order.by),
    }
}

pub(super) fn collection_step(inputs: &Inputs<'_>) -> Step {
    let name = inputs.collection;
    let Some(standing) = &inputs.standing else {
        let because = format!("collection `{name}` could not be evaluated");
        return step("collection", Verdict::No, because);
    };
    let verdict = if standing.member == Truth::Yes { Verdict::Yes } else { Verdict::No };
    step("collection", verdict, format!("`{name}`: {}", clause(standing)))
}

/// The clause that decides, in the order of the algebra.
fn clause(standing: &Standing) -> &'static str {
    let meant = [Truth::from(standing.named), standing.query, standing.included];
    match (meant.into_iter().fold(Truth::No, Truth::or), standing) {
        (_, Standing { member: Truth::Yes, named: true, .. }) => "a member by name",
        (_, Standing { member: Truth::Yes, query: Truth::Yes, .. }) => "the query holds",
        (_, Standing { member: Truth::Yes, included: Truth::Yes, .. }) => {
            "a member of an included collection"
        }
        (_, Standing { member: Truth::Yes, .. }) => "every admitted device is a member",
        (Truth::No, _) => "no clause names the device",
        (Truth::Unknown, Standing { query: Truth::Unknown, .. }) => {
            "the query cannot be decided: a fact is missing, or of another kind"
        }
        (Truth::Unknown, _) => "membership of an included collection cannot be decided",
        (_, Standing { within: Truth::No, .. }) => "taken away by limitTo",
        (_, Standing { within: Truth::Unknown, .. }) => {
            "membership of the limiting collection cannot be decided"
        }
        (_, Standing { excluded: Truth::Yes, .. }) => "taken away by exclude",
        _ => "membership of an excluded collection cannot be decided",
    }
}

pub(super) fn occurrence_step(inputs: &Inputs<'_>) -> Step {
    let Some(row) = inputs.occurrence else {
        return step("occurrence", Verdict::No, "no occurrence was announced yet");
    };
    let name = &row.occurrence;
    let due = match row.due {
        Some(at) => format!("due {at}"),
        None => "started by nobody but a user".to_owned(),
    };
    let open = if row.is_open() { "open" } else { "closed" };
    if row.targets(inputs.intervals) {
        let because = format!("{name} ({due}, {open}): a member while it was open");
        return step("occurrence", Verdict::Yes, because);
    }
    match inputs.row {
        Some(_) => step("occurrence", Verdict::Yes, format!("{name} ({due}) names the device")),
        None => {
            let because = format!("{name} ({open}): never a member while it was open");
            step("occurrence", Verdict::No, because)
        }
    }
}

pub(super) fn advertisement_step(inputs: &Inputs<'_>) -> Step {
    let one = inputs.advertisement;
    let (verdict, because) = match one {
        _ if inputs.deleted => (Verdict::No, "deleted".to_owned()),
        LiveAdvertisement { revoked: Some(order), .. } => {
            (Verdict::No, format!("package {} revoked {}", package(one), by(order)))
        }
        LiveAdvertisement { expires: Some(at), .. } if *at <= inputs.now => {
            (Verdict::No, format!("expired at {at}"))
        }
        LiveAdvertisement { stopped: Some(order), .. } => {
            (Verdict::Waiting, format!("stopped {}", by(order)))
        }
        _ => match (inputs.halted, inputs.conflict) {
            (Some(order), _) => (Verdict::Waiting, format!("everything is halted {}", by(order))),
            (None, Some(other)) => {
                (Verdict::Waiting, format!("`{other}` wants the opposite on this device"))
            }
            (None, None) => {
                (Verdict::Yes, format!("live, revision {}, package {}", one.revision, package(one)))
            }
        },
    };
    step("advertisement", verdict, because)
}

fn package(one: &LiveAdvertisement) -> String {
    format!("{}@{}", one.package.name, one.package.version)
}

pub(super) fn policy_step(inputs: &Inputs<'_>) -> Step {
    match inputs.told {
        Some((tag, at)) if tag == inputs.tag => step(
            "policy",
            Verdict::Yes,
            format!("the device has the newest policy, said so at {at}"),
        ),
        Some((tag, at)) => step(
            "policy",
            Verdict::Waiting,
            format!(
                "the device last had policy {} at {at}; the newest is {}",
                tag.short(),
                inputs.tag.short()
            ),
        ),
        None => step("policy", Verdict::Waiting, "the device has not asked for its policy yet"),
    }
}

pub(super) fn outcome_step(inputs: &Inputs<'_>, state: &State) -> Step {
    let word = state.word();
    let verdict = match word {
        Word::Succeeded => Verdict::Yes,
        word if word.is_complete() => Verdict::No,
        _ => Verdict::Waiting,
    };
    let evidence = match inputs.row {
        None => "the device has said nothing about it yet".to_owned(),
        Some(row) => {
            let author = match row.decided {
                Author::Device => "said by the device",
                Author::Site => "decided by the site",
            };
            let place = row
                .place
                .map(|place| format!(" in message {}/{}", place.incarnation, place.sequence));
            let attempt = (row.attempt > 0).then(|| format!(", attempt {}", row.attempt));
            let parts = [place, attempt].into_iter().flatten().collect::<String>();
            format!("{author}{parts}, since {}", row.since)
        }
    };
    let mut because = format!("{state}: {evidence}");
    let marks = &inputs.marks;
    if let Some(why) = &marks.disputed {
        because.push_str(&format!("; disputed: {why}"));
    }
    if let Some(since) = marks.silent {
        because.push_str(&format!("; silent since {since}"));
    }
    if let Some(since) = marks.overdue {
        because.push_str(&format!("; overdue since {since}"));
    }
    step("outcome", verdict, because)
}
