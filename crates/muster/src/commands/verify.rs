//! `agent verify`: what the device looks like, told here and, through its agent, to the site.

use std::path::Path;

use muster_agent::verify::{VerifyView, verify};
use muster_agent::{Request, requests, status};

use crate::args::Output;
use crate::error::{Failure, Outcome, Tried};
use crate::print::{answer, out, say, table};

/// Looks, prints what was found, and leaves word for the agent to report it. Changes nothing else.
pub(crate) fn command(data: &Path, output: Output) -> Outcome {
    let found = verify(data).tried(|| format!("verify the agent in {}", data.display()))?;
    answer(output, &found, print)?;
    leave_word(data);
    if found.ok {
        return Ok(());
    }
    let failed: Vec<&str> =
        found.checks.iter().filter(|check| !check.ok).map(|check| check.name.as_str()).collect();
    Err(Failure::new(format!("not as it should be: {}", failed.join(", "))))
}

fn print(found: &VerifyView) {
    let rows = found.checks.iter().map(|check| {
        let verdict = if check.ok { "ok" } else { "NOT OK" };
        [check.name.as_str(), verdict, check.detail.as_str(), check.remedy.as_str()]
            .map(str::to_owned)
    });
    table(&["check", "verdict", "what was found", "what to do"], rows);
    if found.ok {
        out("everything is as it should be");
    }
}

/// The agent looks for itself and reports that. Whatever stands in the way, what was found stands.
fn leave_word(data: &Path) {
    match (requests::leave(data, &Request::Verify), status::is_running(data)) {
        (Err(error), _) => say(format!("the site is not told: {error}")),
        (Ok(_), true) => {}
        (Ok(_), false) => say("the agent does not run: it tells the site when it starts"),
    }
}
