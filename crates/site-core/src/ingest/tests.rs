//! Batches in order, doubled, early, forged and poisoned.

use muster_model::facts::Facts;
use muster_model::id::EpochId;
use muster_model::message::{Body, MESSAGE_BYTES_MAX};
use muster_model::state::{Author, State, Waiting, Word};

use super::*;
use crate::testing::*;

/// Takes a batch and expects it to be taken.
#[track_caller]
fn taken(stream: &StreamRow, reading: Reading, lookups: Lookups) -> Taken {
    match plan(stream, reading, lookups) {
        Ingest::Taken(taken) => *taken,
        other => panic!("expected to be taken: {other:?}"),
    }
}

/// The stream after two messages, and the two messages.
fn two_taken() -> (StreamRow, Vec<Vec<u8>>) {
    let messages = vec![says(1, State::Accepted), says(2, running())];
    let reading = batch(1, Digest::ZERO, 1, messages.clone());
    (taken(&stream(), reading, lookups()).stream, messages)
}

fn sequences(taken: &Taken) -> Vec<u64> {
    taken.accepted.iter().map(|accepted| accepted.sequence.0).collect()
}

#[test]
fn a_batch_moves_stream_row_and_counters_together() {
    let messages = vec![says(1, State::Accepted), says(2, running()), says(3, succeeded())];
    let reading = batch(1, Digest::ZERO, 1, messages);
    assert_eq!(reading.touched(), BTreeSet::from([key(1)]));
    let head = reading.header.head;
    let taken = taken(&stream(), reading, lookups());
    assert_eq!(sequences(&taken), [1, 2, 3]);
    assert_eq!((taken.stream.through, taken.stream.head), (Sequence(3), head));
    // Three words, one row: the counters see only where the batch leaves it.
    let [row] = taken.obligations.as_slice() else { panic!("{:?}", taken.obligations) };
    assert_eq!((&row.state, row.decided, row.attempt), (&succeeded(), Author::Device, 1));
    let [delta] = taken.deltas.as_slice() else { panic!("{:?}", taken.deltas) };
    assert_eq!((delta.word, delta.delta), (Word::Succeeded, 1));
    let receipt = taken.stream.receipt(EpochId(Default::default()));
    assert_eq!((receipt.through, receipt.head), (Sequence(3), head));
}

#[test]
fn what_the_site_has_is_not_taken_twice() {
    let (stream, mut messages) = two_taken();
    messages.push(says(3, succeeded()));
    let mut lookups = lookups();
    lookups.rows.insert(key(1), row(key(1), running(), Author::Device));
    let taken = taken(&stream, batch(1, Digest::ZERO, 1, messages), lookups);
    assert_eq!((taken.exists, sequences(&taken)), (2, vec![3]));
    assert!(taken.fired.has(Branch::Exists));
    let moves: Vec<_> = taken.deltas.iter().map(|delta| (delta.word, delta.delta)).collect();
    assert_eq!(moves, [(Word::Running, -1), (Word::Succeeded, 1)]);
}

#[test]
fn a_batch_that_is_wholly_old_is_answered_with_the_receipt_and_writes_nothing() {
    let (stream, messages) = two_taken();
    let first = batch(1, Digest::ZERO, 1, messages[..1].to_vec());
    let known = Lookups { chain_at_last: Some(first.header.head), ..lookups() };
    let taken = taken(&stream, first, known);
    assert_eq!((taken.exists, taken.accepted.len(), taken.deltas.len()), (1, 0, 0));
    assert_eq!(taken.stream, stream);
}

#[test]
fn a_batch_ahead_of_the_site_is_told_where_to_go_on() {
    let (stream, _) = two_taken();
    // The device still holds message 3: nothing is lost, it only came too early.
    let ahead = batch(4, Digest::of(b"3"), 1, vec![says(4, succeeded())]);
    let ingest = plan(&stream, ahead, lookups());
    assert_eq!(ingest, Ingest::Behind { through: Sequence(2) });
    assert!(ingest.fired().has(Branch::Behind));
    // It holds 5 and later, but begins with 6: first it has to send 5.
    let skipping = batch(6, Digest::of(b"5"), 5, vec![says(6, succeeded())]);
    assert_eq!(plan(&stream, skipping, lookups()), Ingest::Behind { through: Sequence(2) });
}

#[test]
fn messages_that_the_device_no_longer_holds_become_a_named_gap() {
    let (stream, _) = two_taken();
    let taken = taken(&stream, batch(5, Digest::of(b"4"), 5, vec![says(5, failed())]), lookups());
    assert_eq!(taken.gap, Some(Gap { first: Sequence(3), last: Sequence(4) }));
    assert_eq!((taken.stream.through, sequences(&taken)), (Sequence(5), vec![5]));
    assert!(taken.fired.has(Branch::Gap));
}

#[test]
fn another_history_overwrites_nothing_and_marks_the_stream() {
    let (stream, mut messages) = two_taken();
    let (ours, theirs) = (stream.head, says(2, failed()));
    // A rewritten message 2, alone, followed by a 3, and as the history before a new message.
    messages[1] = theirs;
    for messages in [messages.clone(), [messages, vec![says(3, succeeded())]].concat()] {
        let ingest = plan(&stream, batch(1, Digest::ZERO, 1, messages), lookups());
        let Ingest::Forked { stream: held } = &ingest else { panic!("{ingest:?}") };
        assert!(ingest.fired().has(Branch::Equivocation));
        assert_eq!((held.through, held.head), (stream.through, stream.head));
        assert!(held.fork.as_ref().is_some_and(|fork| fork.at == Sequence(2) && fork.ours == ours));
    }
    let other_past = batch(3, Digest::of(b"other"), 1, vec![says(3, succeeded())]);
    assert!(matches!(plan(&stream, other_past, lookups()), Ingest::Forked { .. }));
}

#[test]
fn an_old_batch_of_another_history_is_seen_where_its_end_is_stored() {
    let (stream, messages) = two_taken();
    let genuine = batch(1, Digest::ZERO, 1, messages[..1].to_vec()).header.head;
    let forged = batch(1, Digest::ZERO, 1, vec![says(1, failed())]);
    let known = Lookups { chain_at_last: Some(genuine), ..lookups() };
    assert!(matches!(plan(&stream, forged, known), Ingest::Forked { .. }));
}

#[test]
fn a_poisoned_message_is_set_aside_and_the_next_go_on() {
    let mut foreign = message(4, Body::Dropped { count: 1 });
    foreign.device = device_id(2);
    let messages = vec![
        says(1, State::Accepted),
        vec![0xff, 0xfe],
        vec![b' '; MESSAGE_BYTES_MAX + 1],
        bytes(&foreign),
        says(9, failed()),
        says(6, succeeded()),
    ];
    let taken = taken(&stream(), batch(1, Digest::ZERO, 1, messages.clone()), lookups());
    assert_eq!((sequences(&taken), taken.stream.through), (vec![1, 6], Sequence(6)));
    let aside: Vec<(u64, &str)> =
        taken.set_aside.iter().map(|one| (one.place.sequence.0, one.reason.word())).collect();
    assert_eq!(aside, [(2, "unreadable"), (3, "too-large"), (4, "misplaced"), (5, "misplaced")]);
    assert!(taken.set_aside.iter().all(|one| one.sender == device_id(1)));
    assert_eq!(taken.set_aside[0].bytes, messages[1]);
    assert_eq!(taken.obligations[0].state, succeeded());
    assert!(taken.fired.has(Branch::SetAside));
}

#[test]
fn a_report_about_an_occurrence_that_never_targeted_the_device_is_a_stray() {
    let nothing = Lookups { targeted: BTreeSet::new(), ..lookups() };
    let reading = batch(1, Digest::ZERO, 1, vec![says(1, succeeded())]);
    let taken = taken(&stream(), reading, nothing);
    assert_eq!((taken.obligations.len(), taken.deltas.len()), (0, 0));
    let [stray] = taken.set_aside.as_slice() else { panic!("{:?}", taken.set_aside) };
    assert_eq!(stray.reason.word(), "stray");
    assert!(taken.fired.has(Branch::Stray));
}

#[test]
fn a_stray_that_is_retried_counts_once_its_occurrence_exists() {
    let nothing = Lookups { targeted: BTreeSet::new(), ..lookups() };
    let reading = batch(1, Digest::ZERO, 1, vec![says(1, succeeded())]);
    let mut first = taken(&stream(), reading, nothing.clone());
    let item = first.set_aside.remove(0);
    assert_eq!(item.touched(), Some(key(1)));
    let again = retry(&first.stream, item.clone(), nothing);
    assert_eq!((again.accepted.len(), again.set_aside.as_slice()), (0, [item.clone()].as_slice()));
    let now = retry(&first.stream, item.clone(), lookups());
    assert_eq!((sequences(&now), &now.stream), (vec![1], &first.stream));
    assert_eq!(now.obligations[0].state, succeeded());
    // The device has ended it meanwhile: what was set aside is the past.
    let mut ended = lookups();
    ended.rows.insert(key(1), row(key(1), failed(), Author::Device));
    let late = retry(&first.stream, item, ended);
    assert!(late.accepted[0].late && late.obligations.is_empty());
}

#[test]
fn a_word_after_the_end_is_kept_as_late_and_counted_nowhere() {
    let mut lookups = lookups();
    lookups.rows.insert(key(1), row(key(1), succeeded(), Author::Device));
    let reading = batch(1, Digest::ZERO, 1, vec![says(1, running())]);
    let taken = taken(&stream(), reading, lookups);
    assert!(taken.accepted[0].late && taken.fired.has(Branch::Late));
    assert_eq!((taken.obligations.len(), taken.deltas.len()), (0, 0));
}

#[test]
fn a_life_of_the_memory_that_was_never_handed_out_is_refused() {
    let granted = Lookups { granted: Incarnation(0), ..lookups() };
    let ingest = plan(&stream(), batch(1, Digest::ZERO, 1, vec![says(1, failed())]), granted);
    assert!(matches!(ingest, Ingest::UnknownIncarnation { said: Incarnation(1), .. }));
}

#[test]
fn an_older_life_of_the_memory_changes_no_facts() {
    let started = |version: &str| {
        let facts = Facts { agent_version: version.into(), ..Facts::default() };
        vec![bytes(&message(1, Body::AgentStarted { facts }))]
    };
    let newer = taken(&stream(), batch(1, Digest::ZERO, 1, started("2")), lookups());
    assert_eq!(newer.facts.map(|facts| facts.agent_version), Some("2".to_owned()));
    let past = Lookups { newest: Incarnation(2), ..lookups() };
    let older = taken(&stream(), batch(1, Digest::ZERO, 1, started("1")), past);
    assert_eq!(older.facts, None);
}

#[test]
fn a_header_that_claims_to_hold_less_than_it_sends_opens_no_gap() {
    let (stream, messages) = two_taken();
    let lying = batch(1, Digest::ZERO, 9, messages);
    let taken = taken(&stream, lying, lookups());
    assert_eq!((taken.gap, taken.exists), (None, 2));
    // What it sends it has: the device must not be told for ever to send what it says is gone.
    let ahead = batch(5, Digest::of(b"4"), 9, vec![says(5, failed())]);
    let Ingest::Taken(taken) = plan(&stream, ahead, lookups()) else { panic!("not taken") };
    assert_eq!(taken.gap, Some(Gap { first: Sequence(3), last: Sequence(4) }));
}

#[test]
fn the_wait_reasons_of_one_batch_end_in_one_row() {
    let messages = vec![
        says(1, waiting(Waiting::Content)),
        says(2, waiting(Waiting::Disk)),
        says(3, waiting(Waiting::Turn)),
    ];
    let taken = taken(&stream(), batch(1, Digest::ZERO, 1, messages), lookups());
    assert_eq!(taken.obligations.len(), 1);
    assert_eq!(taken.obligations[0].state, waiting(Waiting::Turn));
    assert_eq!(taken.deltas.len(), 1);
}

#[cfg(feature = "planted")]
#[test]
fn the_planted_short_name_loses_a_message() {
    let mut lookups = lookups();
    lookups.planted.short_names = Some((0..=255).collect());
    let taken = taken(&stream(), batch(1, Digest::ZERO, 1, vec![says(1, failed())]), lookups);
    assert_eq!((taken.accepted.len(), taken.stream.through), (0, Sequence(1)));
}
