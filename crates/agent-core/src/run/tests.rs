use std::time::Duration;

use muster_model::state::Waiting;
use serde_json::json;

use crate::input::{Ending, Exit, Found, Input, RunEvidence, RunResult};
use crate::sometimes::Branch;
use crate::step::{Effect, Write};
use crate::world::*;

/// A world in which a program of `more` is under way.
fn running(more: serde_json::Value, detects: bool) -> World {
    let mut world = World::new();
    let offer = world.package(1, program(more), detects);
    world.answers.endless = true;
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "running(attempt 1)");
    world
}

/// The rest of the story after `running(attempt 1)`.
fn rest(world: &World) -> Vec<String> {
    world.story(&key(1)).into_iter().skip(2).collect()
}

#[test]
fn the_intent_is_written_before_anything_is_armed() {
    let mut world = World::new();
    let offer = world.hello(1);
    world.answers.mute = true;
    world.offer(vec![offer]);
    let step = world.give(Input::Conditions { key: key(1), blocked: None });
    assert!(step.writes.iter().any(|write| matches!(write, Write::Run(_))));
    assert!(matches!(step.effects.first(), Some(Effect::Arm(_))), "{:?}", step.effects);
}

#[test]
fn a_restart_inspects_and_a_live_supervisor_keeps_its_run() {
    let mut world = running(json!({}), true);
    let told = world.story(&key(1)).len();
    world.restart();
    assert!(world.waiting.contains(&Effect::Inspect(world.run())));
    world.see(RunEvidence::Alive);
    assert_eq!(world.story(&key(1)).len(), told);
    assert_eq!(world.armed(), [(1, 1)]);
}

#[test]
fn an_exit_record_found_after_a_restart_settles_the_run() {
    let mut world = running(json!({}), true);
    world.restart();
    world.answers.found.push_back(Found::Present);
    world.see(RunEvidence::Exited(exited(0)));
    assert_eq!(rest(&world), ["succeeded(detected)"]);
    assert_eq!(world.done.iter().filter(|e| **e == Effect::Clean(world.run())).count(), 1);
}

#[test]
fn what_never_entered_is_armed_again_under_a_higher_launch_number() {
    let mut world = running(json!({"rerun": "never"}), true);
    world.restart();
    world.see(RunEvidence::NeverEntered);
    assert_eq!(world.armed(), [(1, 1), (1, 2)]);
    assert_eq!(rest(&world), Vec::<String>::new());
    world.restart();
    world.see(RunEvidence::NeverEntered);
    assert_eq!(world.armed(), [(1, 1), (1, 2), (1, 3)]);
    assert!(world.agent.fired().has(Branch::LaunchRaised));
}

#[test]
fn what_never_entered_is_not_armed_while_somebody_stopped_it_and_keeps_its_number() {
    let mut world = running(json!({}), true);
    let mut offer = world.policy.advertisements[0].clone();
    offer.stopped = order();
    world.offer(vec![offer.clone()]);
    assert_eq!(world.state(&key(1)), "running(attempt 1)");
    world.restart();
    world.see(RunEvidence::NeverEntered);
    assert_eq!(world.state(&key(1)), "waiting(stopped)");
    offer.stopped = None;
    world.offer(vec![offer]);
    assert_eq!(world.armed(), [(1, 1), (1, 2)]);
}

#[test]
fn the_folder_of_an_attempt_that_was_taken_back_is_cleaned_at_the_end() {
    let mut world = running(json!({}), true);
    let run = world.run();
    world.give(Input::ArmFailed { run, wait: Some(Waiting::Disk), why: "full".into() });
    assert!(!world.done.contains(&Effect::Discard(run)));
    world.offer(Vec::new());
    assert_eq!(world.state(&key(1)), "withdrawn(left-collection)");
    assert!(world.done.contains(&Effect::Discard(run)));
}

#[test]
fn a_run_id_that_was_given_up_is_never_launched_again() {
    let mut world = running(json!({"rerun": "never"}), true);
    let (run, offers) = (world.run(), world.policy.advertisements.clone());
    world.give(Input::ArmFailed { run, wait: Some(Waiting::Disk), why: "full".into() });
    world.offer(Vec::new());
    world.offer(offers);
    assert_eq!(world.armed(), [(1, 1), (2, 1)]);
    assert_ne!(world.run(), run);
}

#[test]
fn a_full_disk_at_arming_is_waited_for_and_is_no_spent_attempt() {
    let mut world = running(json!({"rerun": "never"}), true);
    let run = world.run();
    world.give(Input::ArmFailed { run, wait: Some(Waiting::Disk), why: "full".into() });
    world.pass(Duration::from_secs(31));
    assert_eq!(rest(&world), ["waiting(disk)", "running(attempt 1)"]);
    assert_eq!(world.armed(), [(1, 1), (1, 2)]);
}

#[test]
fn an_arming_that_can_never_work_is_a_failed_attempt() {
    let mut world = running(json!({"rerun": "never"}), true);
    let run = world.run();
    world.give(Input::ArmFailed { run, wait: None, why: "no such program".into() });
    assert_eq!(rest(&world), ["failed(not-started: no such program)"]);
}

#[test]
fn content_altered_before_the_start_is_refused_and_never_tried_again() {
    let mut world = running(json!({}), true);
    let (run, manifest) = (world.run(), world.policy.advertisements[0].package.manifest);
    let news = crate::input::ContentNews::Refused {
        rule: muster_model::state::Rule::ContentRefused,
        why: "chunk 2 differs".into(),
    };
    world.give(Input::Content { manifest, news });
    world.give(Input::ArmFailed { run, wait: None, why: "refused".into() });
    assert_eq!(rest(&world), ["failed(content-refused: chunk 2 differs)"]);
}

/// A running program is cut short: what its story is then.
#[track_caller]
fn check_cut(more: serde_json::Value, found: &[Found], evidence: RunEvidence, expected: &[&str]) {
    let mut world = running(more, !found.is_empty());
    world.answers.found.extend(found.iter().cloned());
    world.restart();
    world.see(evidence);
    assert_eq!(rest(&world), expected);
}

#[test]
fn a_run_killed_in_this_boot_runs_again_at_once_if_it_is_not_detected() {
    let killed = RunEvidence::CutShort { same_boot: true };
    let again = format!("[interrupted(killed)] waiting(retry until {NOON})");
    let found = [Found::Absent, Found::Absent];
    check_cut(json!({}), &found, killed, &[&again, "running(attempt 2)"]);
}

#[test]
fn a_run_that_may_never_run_again_ends_interrupted() {
    let never = || json!({"rerun": "never"});
    let lost = RunEvidence::CutShort { same_boot: false };
    check_cut(never(), &[], lost.clone(), &["interrupted(restart)"]);
    check_cut(never(), &[Found::Absent], lost, &["interrupted(restart)"]);
    check_cut(never(), &[], RunEvidence::Missing, &["interrupted(memory-lost)"]);
}

#[test]
fn what_cannot_be_known_is_not_guessed() {
    let killed = RunEvidence::CutShort { same_boot: true };
    check_cut(json!({}), &[], killed, &["interrupted(killed)"]);
}

#[test]
fn an_idempotent_program_runs_again_while_attempts_are_left() {
    let mut world = running(json!({"rerun": "always", "attempts": 2}), false);
    world.see(RunEvidence::CutShort { same_boot: true });
    assert_eq!(world.state(&key(1)), "running(attempt 2)");
    world.see(RunEvidence::CutShort { same_boot: true });
    assert_eq!(world.state(&key(1)), "interrupted(killed)");
    assert_eq!(world.armed(), [(1, 1), (2, 1)]);
}

#[test]
fn a_success_of_a_run_cut_short_that_may_not_run_again_is_disputed() {
    let mut world = running(json!({"rerun": "never"}), true);
    world.answers.found.push_back(Found::Present);
    world.see(RunEvidence::CutShort { same_boot: true });
    assert_eq!(rest(&world), ["succeeded(detected)"]);
    let report = world.reports(&key(1)).pop().unwrap();
    assert_eq!(report.disputed.as_deref(), Some("the run was cut short (killed)"));
}

#[test]
fn a_failed_attempt_waits_for_the_next_and_the_last_one_is_the_end() {
    let mut world = World::new();
    let more = json!({"attempts": 2, "retryDelays": ["10m"]});
    let offer = world.package(1, program(more), true);
    let failing = Exit { output: "no space".into(), ..exited(3) };
    world.answers.exits.extend([failing.clone(), failing]);
    world.answers.found.extend(std::iter::repeat_n(Found::Absent, 4));
    world.offer(vec![offer]);
    world.pass(Duration::from_secs(601));
    let until = NOON.plus(Duration::from_secs(600));
    assert_eq!(
        rest(&world),
        [
            &format!("[failed(exit-code (exit code 3))] waiting(retry until {until})"),
            "running(attempt 2)",
            "failed(exit-code (exit code 3))"
        ]
    );
    let reports = world.reports(&key(1));
    assert_eq!(reports[2].output, "no space");
    assert_eq!(reports[2].run, Some(world.reports(&key(1))[1].run.unwrap()));
    assert_eq!((reports[4].attempt, reports[4].exit_code), (2, Some(3)));
    assert_ne!(reports[4].run, reports[2].run);
}

#[test]
fn a_retry_outlives_a_restart_and_a_stop_meanwhile() {
    let mut world = World::new();
    let mut offer = world.package(1, program(json!({"retryDelays": ["10m"]})), true);
    world.answers.exits.push_back(exited(3));
    world.answers.found.extend([Found::Absent, Found::Absent]);
    world.offer(vec![offer.clone()]);
    let waiting = world.state(&key(1));
    world.restart();
    world.serve();
    assert_eq!(world.state(&key(1)), waiting);
    offer.stopped = order();
    world.offer(vec![offer.clone()]);
    assert_eq!(world.state(&key(1)), "waiting(stopped)");
    offer.stopped = None;
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), waiting);
    assert_eq!(world.armed().len(), 1);
    world.answers.found.push_back(Found::Absent);
    world.pass(Duration::from_secs(600));
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn a_goal_reached_between_two_attempts_is_detected_not_run_for() {
    let mut world = World::new();
    let offer = world.package(1, program(json!({"retryDelays": ["10m"]})), true);
    world.answers.exits.push_back(exited(3));
    world.answers.found.extend([Found::Absent, Found::Absent, Found::Present]);
    world.offer(vec![offer]);
    world.pass(Duration::from_secs(601));
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
    assert_eq!(world.armed().len(), 1);
}

#[test]
fn a_device_that_is_no_longer_meant_does_not_try_again() {
    let mut world = running(json!({}), true);
    world.offer(Vec::new());
    assert_eq!(world.state(&key(1)), "running(attempt 1)");
    world.answers.found.push_back(Found::Absent);
    world.see(RunEvidence::Exited(exited(3)));
    assert_eq!(rest(&world), ["failed(exit-code (exit code 3))"]);
}

#[test]
fn a_restart_is_a_state_and_the_new_boot_is_what_ends_it() {
    let mut world = running(json!({"restartCodes": [102]}), true);
    world.see(RunEvidence::Exited(exited(102)));
    assert_eq!(rest(&world), ["restart-pending"]);
    world.restart();
    world.serve();
    assert_eq!(rest(&world), ["restart-pending"]);
    world.reboot();
    world.answers.found.push_back(Found::Present);
    world.serve();
    assert_eq!(rest(&world), ["restart-pending", "succeeded(detected-after-restart)"]);
}

#[test]
fn a_restart_that_came_before_the_exit_record_was_read_is_not_waited_for_again() {
    let mut world = running(json!({}), false);
    let result = Some(RunResult { restart: true, ..RunResult::default() });
    world.reboot();
    world.see(RunEvidence::Exited(Exit { result, ..exited(0) }));
    assert_eq!(rest(&world), ["succeeded(exit-code)"]);
}

#[test]
fn a_program_that_restarts_the_machine_itself_is_judged_by_detection() {
    let mut world = running(json!({"afterRunning": "program-restarts", "rerun": "never"}), true);
    world.reboot();
    world.answers.found.push_back(Found::Present);
    world.see(RunEvidence::CutShort { same_boot: false });
    assert_eq!(rest(&world), ["succeeded(detected-after-restart)"]);
    assert_eq!(world.reports(&key(1)).pop().unwrap().disputed, None);
}

#[test]
fn an_ordered_end_is_obeyed_after_a_crash_too_and_is_an_end() {
    let mut world = running(json!({}), true);
    let run = world.run();
    let mut offer = world.policy.advertisements[0].clone();
    offer.stopped = order().map(|order| muster_model::policy::Order { kill: true, ..order });
    world.offer(vec![offer]);
    let stops = |world: &World| world.done.iter().filter(|e| **e == Effect::Stop(run)).count();
    assert_eq!(stops(&world), 1);
    world.restart();
    world.see(RunEvidence::Alive);
    assert_eq!(stops(&world), 2);
    world.see(RunEvidence::Exited(ended(Ending::Stopped)));
    assert_eq!(rest(&world), ["interrupted(stopped)"]);
}

#[test]
fn a_stop_without_kill_leaves_what_runs_alone() {
    let mut world = running(json!({}), true);
    let mut offer = world.policy.advertisements[0].clone();
    offer.stopped = order();
    world.policy.halted = order();
    world.offer(vec![offer]);
    assert!(!world.done.contains(&Effect::Stop(world.run())));
    assert_eq!(world.state(&key(1)), "running(attempt 1)");
}

#[test]
fn evidence_that_comes_twice_counts_once() {
    let mut world = running(json!({}), false);
    world.see(RunEvidence::Exited(exited(0)));
    let told = world.story(&key(1)).len();
    world.see(RunEvidence::Exited(exited(1)));
    world.see(RunEvidence::Missing);
    assert_eq!(world.story(&key(1)).len(), told);
    assert!(world.agent.fired().has(Branch::Ignored));
}

#[test]
fn a_detection_after_a_run_is_asked_again_after_a_restart() {
    let mut world = running(json!({}), true);
    let run = world.run();
    world.give(Input::RunSeen { run, evidence: RunEvidence::Exited(exited(0)) });
    world.restart();
    world.answers.found.push_back(Found::Present);
    world.serve();
    assert_eq!(rest(&world), ["succeeded(detected)"]);
}

#[test]
fn a_lost_race_for_the_package_managers_lock_is_waited_for_and_is_no_spent_attempt() {
    let never = json!({"rerun": "never", "packageManager": "dpkg"});
    let mut world = running(never, true);
    let first = world.run();
    world.see(RunEvidence::Exited(exited(75)));
    world.pass(Duration::from_secs(31));
    assert_eq!(
        rest(&world),
        ["[failed(exit-code (exit code 75))] waiting(package-manager)", "running(attempt 2)"]
    );
    assert_ne!(world.run(), first);
    world.answers.found.push_back(Found::Present);
    world.see(RunEvidence::Exited(exited(0)));
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn exit_code_75_is_an_ordinary_one_without_a_package_manager_or_when_it_is_declared() {
    let mut world = running(json!({"rerun": "never"}), false);
    world.see(RunEvidence::Exited(exited(75)));
    assert_eq!(rest(&world), ["failed(exit-code (exit code 75))"]);
    let declared = json!({"packageManager": "dpkg", "successCodes": [75]});
    let mut world = running(declared, false);
    world.see(RunEvidence::Exited(exited(75)));
    assert_eq!(rest(&world), ["succeeded(exit-code)"]);
}

#[test]
fn a_revocation_may_end_what_runs() {
    let mut world = running(json!({}), true);
    let mut offer = world.policy.advertisements[0].clone();
    offer.revoked = order();
    world.offer(vec![offer.clone()]);
    assert!(!world.done.contains(&Effect::Stop(world.run())));
    offer.revoked = order().map(|order| muster_model::policy::Order { kill: true, ..order });
    world.offer(vec![offer]);
    assert!(world.done.contains(&Effect::Stop(world.run())));
}

#[test]
fn an_order_to_end_that_was_taken_back_does_not_end_the_next_launch() {
    let mut world = running(json!({}), true);
    let mut offer = world.policy.advertisements[0].clone();
    offer.stopped = order().map(|order| muster_model::policy::Order { kill: true, ..order });
    world.offer(vec![offer.clone()]);
    offer.stopped = None;
    world.offer(vec![offer]);
    world.restart();
    world.see(RunEvidence::NeverEntered);
    world.restart();
    world.see(RunEvidence::Alive);
    let stops = world.done.iter().filter(|e| **e == Effect::Stop(world.run())).count();
    assert_eq!((stops, world.armed()), (1, vec![(1, 1), (1, 2)]));
}

#[test]
fn what_is_there_after_a_run_that_could_not_start_is_not_of_it() {
    let check = |ending: Ending, expected: &str| {
        let mut world = World::new();
        let offer = world.package(1, program(json!({"retryDelays": ["1m"]})), true);
        world.answers.exits.push_back(ended(ending));
        world.answers.found.extend([Found::Absent, Found::Absent]);
        world.offer(vec![offer]);
        world.answers.found.clear();
        world.answers.found.push_back(Found::Present);
        world.pass(Duration::from_secs(61));
        assert_eq!(world.state(&key(1)), expected);
        assert_eq!(world.armed().len(), 1);
    };
    let not_started = Ending::NotStarted { why: "no such file".into() };
    check(not_started, "succeeded(already-present)");
    check(Ending::Exited { code: 3 }, "succeeded(detected)");
}
