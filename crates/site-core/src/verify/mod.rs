//! The invariants of the accounting, held against stored values: what `muster accounting verify` and
//! the simulator check.
//!
//! Each check reads values and names what is wrong; none repairs anything, and none is used by what
//! it checks: sums are counted anew, chains hashed anew, rows replayed from their messages.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use muster_model::digest::Digest;
use muster_model::id::{DeviceId, Sequence};
use muster_model::message::{Report, RunId};
use muster_model::state::{Author, Interruption, State, Withdrawal, Word};
use muster_model::wire::batch::chain;
use muster_model::wire::device::Receipt;
use serde::{Deserialize, Serialize};

use crate::accounting::{Counts, summary};
use crate::ingest::{Gap, StreamRow};
use crate::obligation::{ObligationRow, Place};
use crate::occurrence::OccurrenceRow;
use crate::removal::grace_of;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which one.
    pub invariant: Invariant,
    /// What was found, with the ids to look at.
    pub what: String,
}

/// The invariants that stored values can be held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Invariant {
    /// The states of an occurrence sum to whom it targets, by counters and by rows.
    Conservation,
    /// Who has a row is targeted.
    Existence,
    /// What is acknowledged is a contiguous, chained prefix; every hole is named.
    Contiguity,
    /// Each message is there once.
    Idempotency,
    /// What the device ended stays ended.
    Monotonicity,
    /// Each run ends once.
    OneEnd,
    /// What the device is said to have said, it said.
    NoPhantom,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.what)
    }
}

fn finding(invariant: Invariant, what: String) -> Finding {
    Finding { invariant, what }
}

/// Holds counters, rows and targeting of one occurrence against each other. `targeted` are the devices
/// targeted by membership; an occurrence without spans names its devices by their rows.
pub fn check_sums<'a>(
    occurrence: &OccurrenceRow,
    targeted: &BTreeSet<DeviceId>,
    counters: &Counts,
    rows: impl IntoIterator<Item = &'a ObligationRow>,
) -> Vec<Finding> {
    let which = format!("{} of {}", occurrence.occurrence, occurrence.advertisement);
    let mut found = Vec::new();
    let mut counted = Counts::default();
    let mut devices = BTreeSet::new();
    for row in rows {
        counted.add(row.state.word(), 1);
        let device = row.key.device;
        if !devices.insert(device) {
            found.push(finding(Invariant::Idempotency, format!("{which}: two rows for {device}")));
        }
        if !occurrence.spans.is_empty() && !targeted.contains(&device) {
            let what = format!("{which}: {device} has a row but was never targeted");
            found.push(finding(Invariant::Existence, what));
        }
    }
    if counted != *counters {
        let what = format!("{which}: counters say {:?}, rows say {:?}", counters.0, counted.0);
        found.push(finding(Invariant::Conservation, what));
    }
    let targeted = targeted.union(&devices).count() as u64;
    match summary(targeted, 0, counters, Default::default()) {
        Err(why) => found.push(finding(Invariant::Conservation, format!("{which}: {why}"))),
        Ok(accounting) if accounting.count(|_| true) != targeted => {
            let sum = accounting.count(|_| true);
            let what = format!("{which}: states sum to {sum}, targeted are {targeted}");
            found.push(finding(Invariant::Conservation, what));
        }
        Ok(_) => {}
    }
    found
}

/// A stored message of a stream, set-aside ones included.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// Its place.
    pub sequence: Sequence,
    /// The chain stored with it.
    pub chain: Digest,
    /// Its exact bytes; `None` if they were aged out.
    pub bytes: Option<&'a [u8]>,
}

/// Holds a stream's row against its messages and gaps. `messages` are all that are stored, set-aside
/// ones included, in ascending order; `aged` is the last place whose messages were deleted by
/// retention (0: none).
pub fn check_stream<'a>(
    stream: &StreamRow,
    messages: impl IntoIterator<Item = Stored<'a>>,
    gaps: &[Gap],
    aged: Sequence,
) -> Vec<Finding> {
    let name = format!("stream {}/{}", stream.device, stream.incarnation);
    let mut found = Vec::new();
    let mut at = aged;
    // The chain before the next message; `None` behind a gap or what was aged out.
    let mut head = (aged.0 == 0).then_some(Digest::ZERO);
    let mut gaps: BTreeMap<u64, Gap> = gaps.iter().map(|gap| (gap.first.0, *gap)).collect();
    for message in messages {
        if message.sequence <= at {
            let what = format!("{name}: message {} is there twice", message.sequence);
            found.push(finding(Invariant::Idempotency, what));
            continue;
        }
        if let Some(gap) = gaps.remove(&at.next().0) {
            (at, head) = (gap.last, None);
        }
        if message.sequence != at.next() {
            let (first, last) = (at.next(), Sequence(message.sequence.0 - 1));
            let what = format!("{name}: messages {first} to {last} are missing and in no gap");
            found.push(finding(Invariant::Contiguity, what));
            head = None;
        }
        if let (Some(before), Some(bytes)) = (head, message.bytes)
            && chain(before, bytes) != message.chain
        {
            let what = format!("{name}: message {} does not continue the chain", message.sequence);
            found.push(finding(Invariant::Contiguity, what));
        }
        (at, head) = (message.sequence, Some(message.chain));
    }
    if let Some(gap) = gaps.remove(&at.next().0) {
        (at, head) = (gap.last, None);
    }
    if at != stream.through {
        let what = format!("{name}: taken through {}, but stored are {at}", stream.through);
        found.push(finding(Invariant::Contiguity, what));
    } else if head.is_some_and(|head| head != stream.head) {
        let what = format!("{name}: its head is not the chain of its last message");
        found.push(finding(Invariant::Contiguity, what));
    }
    for gap in gaps.values() {
        let what = format!("{name}: the gap {} to {} lies over messages", gap.first, gap.last);
        found.push(finding(Invariant::Contiguity, what));
    }
    found
}

/// Holds a receipt that was given out against the committed stream: it acknowledges nothing that is
/// not there. `chain_at` is the chain stored at the receipt's place.
pub fn check_receipt(
    receipt: &Receipt,
    stream: Option<&StreamRow>,
    chain_at: Option<Digest>,
) -> Vec<Finding> {
    let name = format!("receipt for {}/{}", receipt.device, receipt.incarnation);
    let through = stream.map_or(Sequence(0), |stream| stream.through);
    if receipt.through > through {
        let what =
            format!("{name}: acknowledges through {}, committed is {through}", receipt.through);
        return vec![finding(Invariant::Contiguity, what)];
    }
    match chain_at {
        Some(chain) if chain != receipt.head => {
            let what = format!("{name}: its head is not the chain at {}", receipt.through);
            vec![finding(Invariant::Contiguity, what)]
        }
        _ => Vec::new(),
    }
}

/// A stored report about one obligation.
#[derive(Clone, Debug)]
pub struct StoredReport<'a> {
    /// The message that carries it.
    pub place: Place,
    /// It was kept, and changed nothing.
    pub late: bool,
    /// What it says.
    pub report: &'a Report,
}

/// Holds a row against the stored reports about it, in the order in which the site took them: the
/// row is what replaying them gives. Nothing can be said where reports were aged out.
pub fn check_row(row: &ObligationRow, reports: &[StoredReport<'_>]) -> Vec<Finding> {
    let which =
        format!("{} of {} on {}", row.key.occurrence, row.key.advertisement, row.key.device);
    let mut found = monotone(&which, reports);
    found.extend(one_end(&which, reports));
    let newest = reports.iter().rfind(|report| !report.late);
    match (row.decided, row.place, newest) {
        (Author::Device, Some(place), Some(newest)) if newest.place == place => {
            if newest.report.state != row.state {
                let what = format!(
                    "{which}: the row says {}, message {}/{} says {}",
                    row.state, place.incarnation, place.sequence, newest.report.state
                );
                found.push(finding(Invariant::NoPhantom, what));
            }
        }
        (Author::Device, place, newest) => {
            let say = |place: Option<Place>| match place {
                Some(place) => format!("message {}/{}", place.incarnation, place.sequence),
                None => "no message".to_owned(),
            };
            let what = format!(
                "{which}: the row rests on {}, the newest report that counts is {}",
                say(place),
                say(newest.map(|one| one.place))
            );
            found.push(finding(Invariant::NoPhantom, what));
        }
        (Author::Site, _, _) if !is_the_sites(row) => {
            let what = format!("{which}: {} was decided by the site, which cannot know", row.state);
            found.push(finding(Invariant::NoPhantom, what));
        }
        (Author::Site, _, _) => {}
    }
    found
}

/// Whether the site may say so of an obligation by itself.
fn is_the_sites(row: &ObligationRow) -> bool {
    let word = row.state.word();
    matches!(
        word,
        Word::Targeted
            | Word::Withdrawn
            | Word::Expired
            | Word::Superseded
            | Word::RolledBack
            | Word::Lost
    ) || row.key.occurrence.is_removal() && grace_of(row).is_some()
}

/// Among the reports that counted, none follows an end of the device but an undone success or a
/// return to the collection.
fn monotone(which: &str, reports: &[StoredReport<'_>]) -> Vec<Finding> {
    let counted: Vec<&StoredReport<'_>> = reports.iter().filter(|report| !report.late).collect();
    let broken = |pair: &&[&StoredReport<'_>]| {
        let [old, new] = pair else { return false };
        let left = State::Withdrawn { why: Withdrawal::LeftCollection };
        let undone = old.report.state.word() == Word::Succeeded
            && new.report.state.word() == Word::RolledBack;
        old.report.state.word().is_terminal() && old.report.state != left && !undone
    };
    let say = |pair: &[&StoredReport<'_>]| {
        let (old, new) = (&pair[0].report.state, &pair[1].report.state);
        finding(Invariant::Monotonicity, format!("{which}: {old} was moved to {new}"))
    };
    counted.windows(2).filter(broken).map(say).collect()
}

/// Each run ends once: by a terminal state, or by the attempt that is reported to have ended.
fn one_end(which: &str, reports: &[StoredReport<'_>]) -> Vec<Finding> {
    let mut ends: BTreeMap<RunId, &State> = BTreeMap::new();
    let mut found = Vec::new();
    for report in reports.iter().filter(|report| !report.late) {
        let Report { state, attempt_ended, run: Some(run), .. } = report.report else { continue };
        let ended = attempt_ended.as_ref().or(state.word().is_terminal().then_some(state));
        let Some(end) = ended else { continue };
        // A later life of the memory speaks so of a run whose end it has forgotten, while the message
        // that tells the end may still be on its way: that is no second end.
        if *end == (State::Interrupted { cause: Interruption::MemoryLost }) {
            continue;
        }
        let undone = state.word() == Word::RolledBack;
        if let Some(other) = ends.insert(*run, end).filter(|other| *other != end && !undone) {
            let what = format!("{which}: run {run} ended {other}, and again {end}");
            found.push(finding(Invariant::OneEnd, what));
        }
    }
    found
}
