//! Sound values say nothing; each kind of damage is found.

use muster_model::clock::Wall;
use muster_model::id::{EpochId, Incarnation};
use muster_model::state::{Interruption, Loss, Waiting};

use super::*;
use crate::testing::*;

#[track_caller]
fn expect(found: Vec<Finding>, expected: &[Invariant]) {
    let invariants: Vec<Invariant> = found.iter().map(|one| one.invariant).collect();
    assert_eq!(invariants, expected, "{found:#?}");
}

fn counts(counts: &[(Word, i64)]) -> Counts {
    Counts(counts.iter().copied().collect())
}

#[test]
fn sums_that_hold_say_nothing() {
    let targeted = BTreeSet::from([1, 2, 3].map(device_id));
    let rows = [row(key(1), succeeded(), Author::Device), row(key(2), running(), Author::Device)];
    let counters = counts(&[(Word::Succeeded, 1), (Word::Running, 1)]);
    expect(check_sums(&occurrence_row(1, None), &targeted, &counters, &rows), &[]);
    // An occurrence that names its devices has no membership to hold rows against.
    let named = OccurrenceRow { spans: Vec::new(), ..occurrence_row(1, None) };
    expect(check_sums(&named, &BTreeSet::new(), &counters, &rows), &[]);
}

#[test]
fn a_counter_that_disagrees_with_the_rows_is_found() {
    let targeted = BTreeSet::from([device_id(1)]);
    let rows = [row(key(1), succeeded(), Author::Device)];
    let check = |counters| check_sums(&occurrence_row(1, None), &targeted, &counters, &rows);
    expect(check(counts(&[(Word::Failed, 1)])), &[Invariant::Conservation]);
    let twice = check(counts(&[(Word::Succeeded, 2)]));
    expect(twice, &[Invariant::Conservation, Invariant::Conservation]);
}

#[test]
fn rows_of_strangers_and_doubled_rows_are_found() {
    let one = row(key(1), succeeded(), Author::Device);
    let counters = counts(&[(Word::Succeeded, 2)]);
    let targeted = BTreeSet::from([device_id(1), device_id(2)]);
    let rows = [one.clone(), one.clone()];
    let found = check_sums(&occurrence_row(1, None), &targeted, &counters, &rows);
    expect(found, &[Invariant::Idempotency]);
    let nobody = BTreeSet::new();
    let counters = counts(&[(Word::Succeeded, 1)]);
    let found = check_sums(&occurrence_row(1, None), &nobody, &counters, [&one]);
    expect(found, &[Invariant::Existence]);
}

/// A stream of three messages as it is stored.
fn three() -> (StreamRow, Vec<(u64, Digest, Vec<u8>)>) {
    let mut head = Digest::ZERO;
    let messages: Vec<_> = (1..=3u64)
        .map(|n| {
            let bytes = n.to_le_bytes().to_vec();
            head = chain(head, &bytes);
            (n, head, bytes)
        })
        .collect();
    let stream = StreamRow { through: Sequence(3), head, ..crate::testing::stream() };
    (stream, messages)
}

fn check(
    stream: &StreamRow,
    messages: &[(u64, Digest, Vec<u8>)],
    gaps: &[Gap],
    aged: u64,
) -> Vec<Finding> {
    let stored = messages.iter().map(|(sequence, chain, bytes)| Stored {
        sequence: Sequence(*sequence),
        chain: *chain,
        bytes: Some(bytes),
    });
    check_stream(stream, stored, gaps, Sequence(aged))
}

#[test]
fn a_whole_stream_says_nothing_aged_out_or_not() {
    let (stream, messages) = three();
    expect(check(&stream, &messages, &[], 0), &[]);
    expect(check(&stream, &messages[2..], &[], 2), &[]);
    expect(check(&stream, &[], &[], 3), &[]);
    expect(check(&crate::testing::stream(), &[], &[], 0), &[]);
}

#[test]
fn a_hole_is_found_unless_it_is_named() {
    let (stream, mut messages) = three();
    messages.remove(1);
    expect(check(&stream, &messages, &[], 0), &[Invariant::Contiguity]);
    let named = Gap { first: Sequence(2), last: Sequence(2) };
    expect(check(&stream, &messages, &[named], 0), &[]);
    let (stream, messages) = three();
    expect(check(&stream, &messages, &[named], 0), &[Invariant::Contiguity]);
}

#[test]
fn what_is_acknowledged_but_not_there_is_found() {
    let (stream, messages) = three();
    expect(check(&stream, &messages[..2], &[], 0), &[Invariant::Contiguity]);
    expect(check(&stream, &[], &[], 0), &[Invariant::Contiguity]);
    let behind = StreamRow { through: Sequence(2), ..stream };
    expect(check(&behind, &messages, &[], 0), &[Invariant::Contiguity]);
}

#[test]
fn altered_bytes_doubles_and_another_head_are_found() {
    let (stream, messages) = three();
    let mut altered = messages.clone();
    altered[1].2.push(0);
    expect(check(&stream, &altered, &[], 0), &[Invariant::Contiguity]);
    let doubled = [&messages[..2], &messages[1..]].concat();
    expect(check(&stream, &doubled, &[], 0), &[Invariant::Idempotency]);
    let other = StreamRow { head: Digest::of(b"other"), ..stream };
    expect(check(&other, &messages, &[], 0), &[Invariant::Contiguity]);
}

#[test]
fn a_receipt_for_what_is_not_committed_is_found() {
    let (stream, _) = three();
    let receipt = stream.receipt(EpochId(Default::default()));
    expect(check_receipt(&receipt, Some(&stream), Some(stream.head)), &[]);
    expect(check_receipt(&receipt, None, None), &[Invariant::Contiguity]);
    let behind = StreamRow { through: Sequence(2), ..stream.clone() };
    expect(check_receipt(&receipt, Some(&behind), None), &[Invariant::Contiguity]);
    let other = Some(Digest::of(b"other"));
    expect(check_receipt(&receipt, Some(&stream), other), &[Invariant::Contiguity]);
}

/// Holds a row in `state` against reports, each a state and whether it came late. The row rests on
/// the message numbered `place`.
fn replay(state: State, decided: Author, place: u64, reports: &[(State, bool)]) -> Vec<Finding> {
    let mut row = row(key(1), state, decided);
    let at = |n| Place { incarnation: Incarnation(1), sequence: Sequence(n) };
    row.place = (place > 0).then(|| at(place));
    let reports: Vec<(Report, bool)> =
        reports.iter().map(|(state, late)| (report(state.clone()), *late)).collect();
    let stored: Vec<StoredReport<'_>> = (1..)
        .zip(&reports)
        .map(|(n, (report, late))| StoredReport { place: at(n), late: *late, report })
        .collect();
    check_row(&row, &stored)
}

#[test]
fn a_row_is_what_its_messages_say() {
    use Author::{Device, Site};
    let told = [(State::Accepted, false), (running(), false), (succeeded(), false)];
    expect(replay(succeeded(), Device, 3, &told), &[]);
    let late = [(succeeded(), false), (running(), true)];
    expect(replay(succeeded(), Device, 1, &late), &[]);
    expect(replay(State::Targeted, Site, 0, &[]), &[]);
    expect(replay(State::Lost { cause: Loss::Retired }, Site, 1, &[(running(), false)]), &[]);
    let back = [(left(), false), (State::Accepted, false)];
    expect(replay(State::Accepted, Device, 2, &back), &[]);
}

#[test]
fn the_grace_before_a_removal_is_the_sites_to_say_and_no_other_wait_is() {
    let until = Some(Wall(7));
    let grace = State::Waiting { why: Waiting::Time, until };
    let mut row = row(key(1), grace.clone(), Author::Site);
    expect(check_row(&row, &[]), &[Invariant::NoPhantom]);
    row.key.occurrence = occurrence("(removal)#1");
    expect(check_row(&row, &[]), &[]);
    row.state = State::Waiting { why: Waiting::Disk, until };
    expect(check_row(&row, &[]), &[Invariant::NoPhantom]);
}

#[test]
fn a_success_that_nobody_reported_is_found() {
    use Author::{Device, Site};
    expect(replay(succeeded(), Device, 0, &[]), &[Invariant::NoPhantom]);
    expect(replay(succeeded(), Device, 1, &[(running(), false)]), &[Invariant::NoPhantom]);
    expect(replay(succeeded(), Site, 0, &[]), &[Invariant::NoPhantom]);
    let lagging = [(running(), false), (failed(), false)];
    expect(replay(running(), Device, 1, &lagging), &[Invariant::NoPhantom]);
}

#[test]
fn an_end_that_was_moved_is_found() {
    let back = [(succeeded(), false), (waiting(Waiting::Retry), false)];
    let found = replay(waiting(Waiting::Retry), Author::Device, 2, &back);
    expect(found, &[Invariant::Monotonicity]);
}

#[test]
fn a_run_that_ended_twice_is_found() {
    let mut first = report(failed());
    first.state = waiting(Waiting::Retry);
    first.attempt_ended = Some(failed());
    let mut second = report(succeeded());
    second.run = first.run;
    let at = |n| Place { incarnation: Incarnation(1), sequence: Sequence(n) };
    let stored = [
        StoredReport { place: at(1), late: false, report: &first },
        StoredReport { place: at(2), late: false, report: &second },
    ];
    let mut row = row(key(1), succeeded(), Author::Device);
    row.place = Some(at(2));
    expect(check_row(&row, &stored), &[Invariant::OneEnd]);
}

#[test]
fn a_life_that_has_forgotten_a_run_does_not_end_it_twice() {
    let forgotten = State::Interrupted { cause: Interruption::MemoryLost };
    let mut told = report(waiting(Waiting::Retry));
    told.attempt_ended = Some(failed());
    let mut again = told.clone();
    again.attempt_ended = Some(forgotten);
    (told.run, again.run) = (report(failed()).run, report(failed()).run);
    let at = |incarnation| Place { incarnation: Incarnation(incarnation), sequence: Sequence(1) };
    let stored = [
        StoredReport { place: at(1), late: false, report: &told },
        StoredReport { place: at(2), late: false, report: &again },
    ];
    let mut row = row(key(1), waiting(Waiting::Retry), Author::Device);
    row.place = Some(at(2));
    expect(check_row(&row, &stored), &[]);
}

#[test]
fn a_life_that_forgot_how_a_run_ended_ends_it_no_second_time() {
    let forgotten = State::Interrupted { cause: Interruption::MemoryLost };
    let mut told = report(waiting(Waiting::Retry));
    told.attempt_ended = Some(failed());
    let lost = report(forgotten.clone());
    told.run = lost.run;
    let at = |n| Place { incarnation: Incarnation(n), sequence: Sequence(1) };
    let stored = [
        StoredReport { place: at(1), late: false, report: &told },
        StoredReport { place: at(2), late: false, report: &lost },
    ];
    let mut row = row(key(1), forgotten, Author::Device);
    row.place = Some(at(2));
    expect(check_row(&row, &stored), &[]);
}
