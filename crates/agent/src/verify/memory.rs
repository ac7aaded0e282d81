//! The agent's memory: its journal, what waits in the outbox, and the folders of its runs.

use std::fs;
use std::time::Duration;

use muster_agent_core::saved::RunRecord;
use muster_model::id::Sequence;
use muster_model::message::RunId;
use muster_model::period::Period;

use super::{Look, Seen, bad, few, good};
use crate::journal::{JournalError, Looked};
use crate::run_folder::RunFolder;
use crate::{RUNS_DIR, chain_of};

/// A message that waits longer than this is a sign that the site is not reached: back-off ends at a
/// quarter of an hour, and a machine that is off every night is back within a day.
const OUTBOX_AGE_MOST: Duration = Duration::from_secs(24 * 3_600);

pub(super) fn journal(look: &Look<'_>) -> Seen {
    let check = match &look.memory {
        Ok(Looked { saved, .. }) => good(
            "journal",
            format!(
                "whole: {} obligations, {} runs, {} messages, whose chain fits",
                saved.obligations.len(),
                saved.runs.len(),
                saved.messages.len()
            ),
        ),
        Err(error @ JournalError::TooNew { .. }) => {
            bad("journal", chain_of(error), "install the version that wrote it, or a newer one")
        }
        Err(error @ (JournalError::Missing { .. } | JournalError::Damaged { .. })) => bad(
            "journal",
            chain_of(error),
            "restart the agent: it sets the journal aside, asks its site what was done, runs nothing twice",
        ),
        Err(error) => bad("journal", chain_of(error), "look at the disk and the folder's owner"),
    };
    (check, Vec::new())
}

pub(super) fn outbox(look: &Look<'_>) -> Seen {
    let Ok(Looked { saved, .. }) = &look.memory else {
        return (bad("outbox", "the journal cannot be read", "mend the journal first"), Vec::new());
    };
    let relieved = saved.memory.as_ref().map_or(Sequence(0), |memory| memory.relieved);
    let mut waiting = saved.messages.iter().filter(|message| message.sequence > relieved);
    let bytes: usize = waiting.clone().map(|message| message.bytes.len()).sum();
    let Some(oldest) = waiting.next() else {
        return (good("outbox", "the site has acknowledged everything"), Vec::new());
    };
    let age = look.trusted().since(oldest.written);
    let since = Period::of(Duration::from_secs(age.as_secs()));
    let mut detail =
        format!("{} messages wait, the oldest for {since}: {bytes} bytes", waiting.count() + 1);
    let gave_way = saved.memory.as_ref().map_or(0, |memory| memory.gave_way.dropped);
    if gave_way > 0 {
        detail = format!("{detail}; {gave_way} that were no outcomes gave way");
    }
    let check = match age > OUTBOX_AGE_MOST {
        true => {
            bad("outbox", detail, "see `trouble` in `muster agent status`: the site is not reached")
        }
        false => good("outbox", detail),
    };
    (check, Vec::new())
}

/// Run folders are evidence: they are read, never locked, never mended.
pub(super) fn run_folders(look: &Look<'_>) -> Seen {
    let Ok(memory) = &look.memory else {
        return (good("run-folders", "known once the journal can be read"), Vec::new());
    };
    let runs = look.data.join(RUNS_DIR);
    let followed = |looked: &Looked, run: RunId| {
        looked.launched.contains(&run)
            && looked.saved.runs.iter().any(|known| known.run == run && is_followed(known))
    };
    let suspects = memory.saved.runs.iter().filter(|known| followed(memory, known.run));
    let wrong: Vec<String> = suspects
        .filter_map(|known| {
            let folder = RunFolder::of(&runs, known.run);
            let wrong =
                match (folder.path().is_dir(), folder.spec(), folder.entered(), folder.exit()) {
                    (false, ..) => "is missing".to_owned(),
                    (true, Ok(None), ..) => "does not say what to run".to_owned(),
                    (true, Err(error), ..)
                    | (true, _, Err(error), _)
                    | (true, _, _, Err(error)) => chain_of(&error),
                    (true, Ok(Some(_)), Ok(_), Ok(_)) => return None,
                };
            let still = look.still(|now| followed(now, known.run));
            still.then(|| format!("run {} {wrong}", known.run))
        })
        .collect();
    if !wrong.is_empty() {
        let remedy = "nothing: its outcome is decided by detection, and never mended by hand";
        return (bad("run-folders", few(&wrong), remedy), Vec::new());
    }
    let under_way = memory.saved.runs.iter().filter(|run| is_followed(run)).count();
    let folders = fs::read_dir(&runs).map_or(0, |entries| entries.filter_map(Result::ok).count());
    (good("run-folders", format!("{folders}, of which {under_way} of runs under way")), Vec::new())
}

/// Whether nothing has been said yet of how it ended.
fn is_followed(run: &RunRecord) -> bool {
    run.told_in.is_none()
}
