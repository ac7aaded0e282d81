use muster_model::id::Incarnation;
use muster_model::state::State;
use muster_model::wire::device::{Account, AccountEntry};
use serde_json::json;

use crate::input::{Found, Input, RunEvidence};
use crate::saved::Saved;
use crate::step::Effect;
use crate::world::*;

/// A device that was put back to a snapshot, in its next life.
fn put_back() -> World {
    let mut identity = identity();
    identity.incarnation = Incarnation(3);
    identity.fresh_incarnation_because = Some("put back to a snapshot".into());
    World::unstarted(identity, Saved::default())
}

fn account(world: &mut World, attempt: u32) {
    let state = State::RolledBack { cause: "snapshot".into() };
    let key = key(1);
    let (advertisement, occurrence) = (key.advertisement, key.occurrence);
    let entry = AccountEntry { advertisement, occurrence, revision: 1, state, attempt };
    let (device, incarnation, epoch) = (world.identity.device, world.identity.incarnation, EPOCH);
    let account = Account { device, incarnation, epoch, obligations: vec![entry] };
    world.give(Input::AccountArrived(account));
    world.serve();
}

/// The site's account says that the first obligation was rolled back after two attempts.
#[track_caller]
fn check(
    program_says: serde_json::Value,
    detection: bool,
    found: &[Found],
    expected: &[&str],
) -> World {
    let mut world = put_back();
    world.start();
    let offer = world.package(1, program(program_says), detection);
    world.answers.found.extend(found.iter().cloned());
    account(&mut world, 2);
    world.offer(vec![offer]);
    assert_eq!(world.story(&key(1)), expected);
    world
}

#[test]
fn what_is_gone_with_the_snapshot_is_done_again_under_a_run_of_its_own() {
    let story = ["accepted", "running(attempt 3)", "succeeded(detected)"];
    let world = check(json!({}), true, &[Found::Absent, Found::Present], &story);
    assert_eq!(world.armed().len(), 1);
}

#[test]
fn what_is_there_after_all_has_succeeded_without_a_run() {
    let present = [Found::Present];
    let world = check(json!({}), true, &present, &["accepted", "succeeded(already-present)"]);
    assert_eq!(world.armed().len(), 0);
    let never = json!({"rerun": "never"});
    check(never, true, &present, &["succeeded(already-present)"]);
}

#[test]
fn what_may_never_run_again_stays_rolled_back() {
    for found in [Found::Absent, Found::Error("exit 7".into())] {
        let world = check(json!({"rerun": "never"}), true, &[found], &[]);
        assert_eq!(
            (world.state(&key(1)), world.armed().len()),
            ("rolled-back(snapshot)".into(), 0)
        );
    }
}

#[test]
fn without_detection_only_what_its_author_always_runs_again_runs_again() {
    let world = check(json!({}), false, &[], &[]);
    assert_eq!(world.state(&key(1)), "rolled-back(snapshot)");
    let story = ["accepted", "running(attempt 3)", "succeeded(exit-code)"];
    check(json!({"rerun": "always"}), false, &[], &story);
}

#[test]
fn what_is_offered_no_more_stays_rolled_back() {
    let mut world = put_back();
    world.start();
    account(&mut world, 1);
    world.offer(Vec::new());
    assert_eq!(world.state(&key(1)), "rolled-back(snapshot)");
    assert_eq!(world.story(&key(1)), Vec::<String>::new());
}

#[test]
fn a_run_that_the_snapshot_holds_is_judged_by_its_folder_and_not_done_again() {
    let mut world = put_back();
    let offer = world.package(1, program(json!({"rerun": "never"})), false);
    let manifested = world.programs[&offer.package.manifest].clone();
    let exited = RunEvidence::Exited(exited(0));
    let found = found_run(&offer, &manifested, exited.clone());
    let run = found.launch.run;
    world.found = vec![found];
    world.start();
    account(&mut world, 2);
    world.offer(vec![offer]);
    assert!(world.done.contains(&Effect::Inspect(run)));
    world.give(Input::RunSeen { run, evidence: exited });
    world.serve();
    assert_eq!(world.story(&key(1)), ["running(attempt 1)", "succeeded(exit-code)"]);
    assert_eq!(world.armed(), []);
}
