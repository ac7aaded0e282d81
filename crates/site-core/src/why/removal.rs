//! The step of a removal: why what was installed is taken off again, or is about to be.

use muster_model::rule::Truth;

use super::step::{by, step};
use super::{Inputs, Step, Verdict};
use crate::removal::grace_of;

/// Why a removal that has been opened is one.
pub(super) fn removal_step(inputs: &Inputs<'_>) -> Option<Step> {
    let removing = inputs.removal.as_ref()?;
    let program = removing.program;
    let name = inputs.occurrence.map(|row| row.occurrence.to_string()).unwrap_or_default();
    let (verdict, said) = match &inputs.advertisement.stopped {
        Some(order) => (Verdict::Waiting, format!(", stopped {}", by(order))),
        None => (Verdict::Yes, String::new()),
    };
    let because =
        format!("{name}: `{program}` removes what was installed, {}{said}", cause(inputs));
    Some(step("removal", verdict, because))
}

/// The removal that follows when the grace time is over.
pub(super) fn grace_step(inputs: &Inputs<'_>) -> Option<Step> {
    let removing = inputs.removal.as_ref()?;
    let until = grace_of(removing.row?)?;
    let because = format!(
        "`{}` removes what was installed at {until}, {}, unless it is advertised again",
        removing.program,
        cause(inputs)
    );
    Some(step("removal", Verdict::Waiting, because))
}

/// How it came to be advertised no longer.
fn cause(inputs: &Inputs<'_>) -> String {
    let member = inputs.standing.as_ref().is_some_and(|standing| standing.member == Truth::Yes);
    match inputs.advertisement.expires {
        _ if inputs.deleted => "for the advertisement was deleted".to_owned(),
        Some(at) if at <= inputs.now => format!("for the advertisement expired at {at}"),
        _ if member => "though it is advertised again: it may have begun".to_owned(),
        _ => format!("for the device is no longer a member of `{}`", inputs.collection),
    }
}
