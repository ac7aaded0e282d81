//! Removal when no longer advertised: what the site does next for one device and one advertisement that
//! declares a removal.
//!
//! ```text
//! nothing -> Begin (waiting(time, until): the grace) -> Open (targeted, offered) -> the device's word
//!               \__________ TakeBack (withdrawn(advertised-again)) ________/          \-> Again
//!               \__________ Undeclared (withdrawn(assignment-removed)) _____/
//! ```
//!
//! A removal is an occurrence like any other: it is offered by a signed policy, runs as a run, and ends
//! with an outcome. It is never inferred by a device from an offer that is missing, so a policy that could
//! not be read removes nothing. Looking twice, or in two processes, does nothing more: what was decided
//! stands in the rows.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_model::clock::Wall;
use muster_model::id::AdvertisementId;
use muster_model::message::Occurrence;
use muster_model::name::Name;
use muster_model::package::Achieves;
use muster_model::state::{Author, EvidenceKind, State, Verdict, Waiting, Word, judge};

use crate::decision::Decision;
use crate::obligation::ObligationRow;
use crate::occurrence::{OccurrenceRow, Revision};
use crate::targeting::LiveAdvertisement;

/// Everything that bears on the removal of one advertisement from one device.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The site's time.
    pub now: Wall,
    /// The grace time.
    pub after: Duration,
    /// The first revision of the advertisement from which on it has been of this package: what an earlier
    /// one installed is something else.
    pub since: u32,
    /// The advertisement is offered to the device: live, not expired, and the device a member.
    pub advertised: bool,
    /// Another live advertisement wants the package on the device.
    pub wanted: bool,
    /// The occurrences of the advertisement, removals among them.
    pub occurrences: &'a [OccurrenceRow],
    /// The device's rows of the advertisement, in any order.
    pub rows: &'a [ObligationRow],
    /// Those of the occurrences that target the device.
    pub targeted: &'a BTreeSet<Occurrence>,
}

/// What the site does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it is advertised, was never installed by Muster, or the device has the word.
    Nothing,
    /// Nothing before that time: the grace goes on.
    At(Wall),
    /// The grace begins, or is none: this decision, in a row of [`next_named`].
    Begin(Decision),
    /// The grace time was edited: it ends then.
    Until(Wall),
    /// The grace is over: the removal is offered.
    Open,
    /// The device is meant again, or another advertisement wants the package: nothing is removed.
    TakeBack,
    /// The advertisement is of another package by now: what its program would take off is not what was
    /// installed.
    Undeclared,
    /// It was removed and is advertised again: a manual occurrence opens, so that it is installed again.
    Again,
}

/// What follows for one device.
pub fn next(inputs: &Inputs<'_>) -> Next {
    let newest = newest(inputs.rows);
    let kept = inputs.advertised || inputs.wanted;
    match newest.map(|row| (row, row.state.word())) {
        Some((row, word)) if word.is_unstarted() && !is_declared(row, inputs.since) => {
            return Next::Undeclared;
        }
        Some((_, word)) if word.is_unstarted() && kept => return Next::TakeBack,
        Some((row, word)) if word.is_unstarted() => return grace_goes_on(inputs, row),
        Some((_, word)) if !word.is_terminal() => return Next::Nothing,
        Some((row, _)) if inputs.advertised && !is_taken_back(row) => return again(inputs, row),
        _ => {}
    }
    if kept || !is_installed(inputs) {
        return Next::Nothing;
    }
    let grace = (!inputs.after.is_zero()).then(|| inputs.now.plus(inputs.after));
    Next::Begin(Decision::Removal { until: grace })
}

/// The grace time is what the advertisement says now, from when the device was first seen to be meant no
/// more.
fn grace_goes_on(inputs: &Inputs<'_>, row: &ObligationRow) -> Next {
    let ends = row.since.plus(inputs.after);
    match grace_of(row) {
        None => Next::Nothing,
        Some(_) if ends <= inputs.now => Next::Open,
        Some(until) if until != ends => Next::Until(ends),
        Some(until) => Next::At(until),
    }
}

/// The device's newest removal.
pub fn newest(rows: &[ObligationRow]) -> Option<&ObligationRow> {
    rows.iter().filter(|row| row.key.occurrence.is_removal()).max_by_key(|row| row.key.occurrence.n)
}

/// Until when the site holds a removal back; `None`: it has been offered, or has ended.
pub fn grace_of(row: &ObligationRow) -> Option<Wall> {
    match row.state {
        State::Waiting { why: Waiting::Time, until } if row.decided == Author::Site => until,
        _ => None,
    }
}

/// Whether a removal that is offered is the one that its advertisement declares, which has been of the same
/// package since revision `since`: only then may a policy offer it.
pub fn is_declared(row: &ObligationRow, since: u32) -> bool {
    row.revision >= since
}

/// A removal that nothing came of: it was taken back before the device began.
pub fn is_taken_back(row: &ObligationRow) -> bool {
    row.state.word() == Word::Withdrawn
}

/// Whether a row says where its device stands. A removal in its grace time, or one that was taken back,
/// is no answer: what the device did before it stays the answer.
pub fn is_answer(row: &ObligationRow) -> bool {
    !row.key.occurrence.is_removal() || !(is_taken_back(row) || grace_of(row).is_some())
}

/// Whether the site may offer a removal again that nothing came of.
fn opens_again(row: &ObligationRow) -> bool {
    let offered = judge(&row.state, row.decided, &State::Targeted, Author::Site);
    is_taken_back(row) && offered == Verdict::Applied
}

fn again(inputs: &Inputs<'_>, removed: &ObligationRow) -> Next {
    let mandatory = inputs.occurrences.iter().any(|row| row.is_open() && row.is_mandatory());
    let announced = announced(inputs.occurrences, &removed.key.occurrence);
    let opened_since = inputs.occurrences.iter().any(|row| {
        !row.occurrence.is_removal()
            && row.announced > announced
            && inputs.targeted.contains(&row.occurrence)
    });
    if mandatory && !opened_since { Next::Again } else { Next::Nothing }
}

/// Whether the program succeeded on the device because Muster ran it, and nothing was removed since.
fn is_installed(inputs: &Inputs<'_>) -> bool {
    let removals = inputs.rows.iter().filter(|row| row.key.occurrence.is_removal());
    let removed = removals
        .filter(|row| !is_taken_back(row))
        .map(|row| announced(inputs.occurrences, &row.key.occurrence))
        .max();
    let by_us = |row: &&ObligationRow| match &row.state {
        State::Succeeded { evidence } => evidence.rule != EvidenceKind::AlreadyPresent,
        _ => false,
    };
    inputs
        .rows
        .iter()
        .filter(|row| !row.key.occurrence.is_removal() && row.revision >= inputs.since)
        .filter(by_us)
        .any(|row| Some(announced(inputs.occurrences, &row.key.occurrence)) > removed)
}

fn announced(occurrences: &[OccurrenceRow], one: &Occurrence) -> Revision {
    let row = occurrences.iter().find(|row| row.occurrence == *one);
    row.map(|row| row.announced).unwrap_or_default()
}

/// The occurrence in which a device with these rows is named: its removal ([`Occurrence::REMOVAL`]), or
/// the run that follows it ([`Occurrence::RERUN`]). The newest one as long as nothing of the advertisement
/// was announced since and the device has not ended it, so that there are no more of them than there are
/// reasons to tell them apart; else a new one, announced at `at`.
pub fn next_named(
    assignment: &str,
    advertisement: AdvertisementId,
    occurrences: &[OccurrenceRow],
    rows: &[ObligationRow],
    at: Revision,
) -> Option<OccurrenceRow> {
    let assignment = Name::new(assignment).ok()?;
    let all = occurrences.iter().filter(|row| row.occurrence.assignment == assignment);
    let last = all.max_by_key(|row| row.occurrence.n);
    let newest = occurrences.iter().map(|row| row.announced).max();
    let is_free = |one: &&OccurrenceRow| {
        let mut rows = rows.iter().filter(|row| row.key.occurrence == one.occurrence);
        Some(one.announced) == newest && rows.all(opens_again)
    };
    if let Some(reused) = last.filter(is_free) {
        return Some(reused.clone());
    }
    let n = last.map_or(0, |last| last.occurrence.n) + 1;
    Some(OccurrenceRow::named(advertisement, Occurrence { assignment, n }, at))
}

/// The advertisement that keeps the package of `removal` on a device to which `live` is offered: one
/// that installs it, needs it before its own program, or replaced it.
pub fn wanted_by<'l>(
    removal: &LiveAdvertisement,
    live: impl IntoIterator<Item = &'l LiveAdvertisement>,
    now: Wall,
) -> Option<&'l Name> {
    let package = &removal.package.name;
    let wants = |one: &&LiveAdvertisement| {
        one.advertisement != removal.advertisement
            && one.expires.is_none_or(|expires| now < expires)
            && one.achieves == Achieves::Present
            && (one.package.name == *package
                || one.supersedes.contains(package)
                || one.dependencies.iter().any(|before| before.package.name == *package))
    };
    live.into_iter().find(wants).map(|one| &one.name)
}

#[cfg(test)]
mod tests;
