//! The step of windows and freezes.
//!
//! Whether one is open depends on the device's zone and its trusted time, so the device says it; the
//! site says which windows there are, where they come from, and what can never fit into them.

use muster_model::state::{State, Waiting};
use muster_model::window::{Effect, Window};

use super::step::step;
use super::{Inputs, Step, Verdict};
use crate::window::names;

/// What the windows say about an obligation that has not begun; `None` where there are none.
pub(super) fn window_step(inputs: &Inputs<'_>, state: &State) -> Option<Step> {
    if inputs.windows.is_empty() || !state.word().is_unstarted() {
        return None;
    }
    let said = listed(inputs.windows);
    if inputs.advertisement.emergency {
        let because = format!("an emergency stands above {said}");
        return Some(step("window", Verdict::Yes, because));
    }
    let (verdict, because) = match (state, &inputs.too_short) {
        (State::Waiting { why: Waiting::Freeze, until: Some(until) }, _) => {
            (Verdict::Waiting, format!("frozen, and may start at {until}: {said}"))
        }
        (_, Some(why)) => (Verdict::No, why.clone()),
        (State::Waiting { why: Waiting::Window, until: Some(until) }, _) => {
            (Verdict::Waiting, format!("the next window that has room opens at {until}: {said}"))
        }
        (State::Waiting { why: why @ (Waiting::Window | Waiting::Freeze), until: None }, _) => {
            (Verdict::No, format!("the device waits for a {why} that it cannot see: {said}"))
        }
        _ => (Verdict::Yes, format!("the device keeps to {said}")),
    };
    Some(step("window", verdict, because))
}

/// `windows a, b and freezes c`.
fn listed(windows: &[Window]) -> String {
    let of = |effect: Effect| {
        let found = names(windows.iter().filter(|one| one.effect == effect));
        (!found.is_empty()).then(|| format!("{} {found}", plural(effect)))
    };
    let parts: Vec<String> = [Effect::Window, Effect::Freeze].into_iter().filter_map(of).collect();
    parts.join(" and ")
}

fn plural(effect: Effect) -> &'static str {
    match effect {
        Effect::Window => "windows",
        Effect::Freeze => "freezes",
    }
}
