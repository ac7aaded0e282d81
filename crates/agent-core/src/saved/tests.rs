use muster_model::digest::Digest;
use muster_model::id::Sequence;

use super::{Damaged, Saved};
use crate::agent::Agent;
use crate::world::*;

/// The journal of a device with a run under way and a few messages.
fn journal() -> Saved {
    let mut world = World::new();
    let offer = world.hello(1);
    world.answers.endless = true;
    world.offer(vec![offer]);
    world.journal.saved
}

/// Bends a journal; it must be named damaged, and restored without a panic all the same.
#[track_caller]
fn check_damaged(bend: impl FnOnce(&mut Saved)) -> Damaged {
    let mut saved = journal();
    bend(&mut saved);
    let mut world = World::unstarted(identity(), saved.clone());
    world.lawless = true;
    world.start();
    world.serve();
    world.pass(std::time::Duration::from_secs(60));
    saved.check().unwrap_err()
}

#[test]
fn a_whole_journal_is_not_damaged() {
    assert_eq!(journal().check(), Ok(()));
    assert_eq!(Saved::default().check(), Ok(()));
}

#[test]
fn a_missing_message_is_named() {
    let damaged = check_damaged(|saved| drop(saved.messages.remove(1)));
    let (missing, first, head) = (Sequence(2), Sequence(1), Sequence(3));
    assert_eq!(damaged, Damaged::Hole { missing, first, head });
    let damaged = check_damaged(|saved| drop(saved.messages.pop()));
    assert_eq!(damaged, Damaged::Hole { missing: Sequence(3), first, head });
}

#[test]
fn a_flipped_byte_in_a_message_is_named() {
    let damaged = check_damaged(|saved| saved.messages[1].bytes[7] ^= 1);
    assert_eq!(damaged, Damaged::Chain(Sequence(2)));
    let damaged = check_damaged(|saved| {
        saved.memory.as_mut().unwrap().chain = Digest::ZERO;
    });
    assert_eq!(damaged, Damaged::Chain(Sequence(3)));
}

#[test]
fn a_lost_memory_or_run_is_named() {
    assert!(matches!(
        check_damaged(|saved| saved.memory = None),
        Damaged::MemoryMissing { rows: 5 }
    ));
    assert!(matches!(check_damaged(|saved| saved.runs.clear()), Damaged::RunMissing { .. }));
}

#[test]
fn after_a_hole_only_what_has_a_known_chain_is_sent() {
    let mut saved = journal();
    saved.messages.remove(1);
    let agent = Agent::restore(&identity(), saved.clone());
    let before = agent.outbox.before();
    assert_eq!((before.through, before.chain), (Sequence(3), saved.messages[1].chain));
}

#[test]
fn rows_read_back_as_written() {
    let saved = journal();
    for record in &saved.obligations {
        let json = serde_json::to_string(record).unwrap();
        assert_eq!(&serde_json::from_str::<super::ObligationRecord>(&json).unwrap(), record);
    }
    let json = serde_json::to_string(&saved.runs).unwrap();
    assert_eq!(serde_json::from_str::<Vec<super::RunRecord>>(&json).unwrap(), saved.runs);
    let json = serde_json::to_string(&saved.memory).unwrap();
    assert_eq!(serde_json::from_str::<Option<super::Memory>>(&json).unwrap(), saved.memory);
    let json = serde_json::to_string(&saved.contents).unwrap();
    assert_eq!(serde_json::from_str::<Vec<super::ContentRecord>>(&json).unwrap(), saved.contents);
}
