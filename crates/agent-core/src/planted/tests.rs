//! Each planted bug really is one: it breaks the rule that it is named after.

use std::time::Duration;

use muster_model::digest::Digest;
use muster_model::id::DeviceId;

use super::Planted;
use crate::input::{Input, RunEvidence};
use crate::step::Effect;
use crate::world::*;

/// A world with bugs, which is not held to the laws.
fn planted(bugs: Planted) -> World {
    let mut world = World::new();
    world.lawless = true;
    world.agent.planted = bugs;
    world
}

#[test]
fn an_outcome_with_a_time_limit_is_never_sent() {
    let mut world = planted(Planted { outcome_time_limit: true, ..Planted::default() });
    world.answers.site_down = true;
    world.serve();
    world.pass(Duration::from_secs(1_200));
    assert_eq!(world.agent.memory.relieved, world.agent.memory.head);
}

#[test]
fn a_sequence_is_given_twice() {
    let mut world = World::new();
    world.serve();
    world.lawless = true;
    let head = world.agent.memory.head;
    let mut agent = crate::agent::Agent::restore(&world.identity, world.journal.saved.clone());
    agent.planted.sequence_reused_after_restart = true;
    world.agent = agent;
    world.boot += 1;
    world.start();
    assert_eq!(world.agent.memory.head, head);
    assert!(world.journal.saved.check().is_err());
}

#[test]
fn a_user_has_a_second_turn() {
    let mut world = World::new();
    world.give(Input::Sessions(vec!["ada".into(), "bo".into()]));
    world.answers.endless = true;
    let more = serde_json::json!({"runAs": "each-user", "rerun": "always"});
    let offer = world.package(1, program(more), false);
    world.offer(vec![offer]);
    world.see(RunEvidence::Exited(exited(0)));
    world.lawless = true;
    let mut agent = crate::agent::Agent::restore(&world.identity, world.journal.saved.clone());
    agent.planted.turns_forgotten = true;
    world.agent = agent;
    world.start();
    world.give(Input::Sessions(vec!["ada".into()]));
    world.see(RunEvidence::Exited(exited(0)));
    let users = world.done.iter().filter_map(|effect| match effect {
        Effect::Arm(launch) => launch.user.clone(),
        _ => None,
    });
    assert_eq!(users.collect::<Vec<_>>(), ["ada", "bo", "ada"]);
}

#[test]
fn a_strangers_receipt_relieves() {
    let mut world = planted(Planted { receipt_of_anyone_relieves: true, ..Planted::default() });
    let batch = world.done.iter().find_map(|effect| match effect {
        Effect::Send(batch) => Some(batch.clone()),
        _ => None,
    });
    let mut receipt = world.receipt(&batch.unwrap());
    receipt.device = DeviceId(uuid::Uuid::nil());
    receipt.head = Digest::ZERO;
    world.give(Input::ReceiptArrived(receipt));
    assert_eq!(world.agent.memory.relieved, world.agent.memory.head);
}

#[test]
fn an_exit_record_is_cleaned_before_its_outcome_is_saved() {
    let bugs = Planted { exit_record_cleaned_before_reported: true, ..Planted::default() };
    let mut world = planted(bugs);
    let offer = world.package(1, program(serde_json::json!({})), false);
    world.answers.endless = true;
    world.offer(vec![offer]);
    let run = world.run();
    world.give(Input::RunSeen { run, evidence: RunEvidence::Exited(exited(0)) });
    assert!(world.done.contains(&Effect::Discard(run)));
    assert_eq!(world.state(&key(1)), "running(attempt 1)");
    world.give(Input::Tick);
    assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
}

#[test]
fn a_window_is_not_asked_for_room() {
    let mut world = planted(Planted { window_without_room: true, ..Planted::default() });
    let at = NOON.to_string();
    let window = serde_json::json!({"name": "w", "at": at, "duration": "5m"});
    world.policy.windows = vec![serde_json::from_value(window).unwrap()];
    let offer = world.package(1, program(serde_json::json!({"maxRunTime": "1h"})), false);
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
}
