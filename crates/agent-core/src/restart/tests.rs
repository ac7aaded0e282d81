use std::time::Duration;

use muster_model::window::Window;
use serde_json::json;

use crate::input::{Ending, Exit, Found, Input, RestartTry, RunEvidence, RunResult};
use crate::sometimes::Branch;
use crate::step::Effect;
use crate::world::*;

const HOUR: Duration = Duration::from_secs(3_600);

/// A world whose agent can restart the machine, with a program of `more` under way.
fn running(more: serde_json::Value) -> World {
    let mut world = World::new();
    world.give(Input::RestartAble(true));
    let offer = world.package(1, program(more), true);
    world.answers.endless = true;
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "running(attempt 1)");
    world
}

/// The same, and the program has asked for a restart.
fn pending() -> World {
    let mut world = running(json!({"restartCodes": [102]}));
    world.see(RunEvidence::Exited(exited(102)));
    world
}

fn rest(world: &World) -> Vec<String> {
    world.story(&key(1)).into_iter().skip(2).collect()
}

fn asked(world: &World) -> usize {
    world.done.iter().filter(|effect| **effect == Effect::Restart).count()
}

fn tried(world: &mut World, tried: RestartTry) {
    world.give(Input::RestartTried(tried));
    world.serve();
}

fn failed() -> RestartTry {
    RestartTry::Failed { why: "exit code 1".to_owned() }
}

#[test]
fn the_site_is_told_before_the_restart_command_runs() {
    let mut world = running(json!({"restartCodes": [102]}));
    let run = world.run();
    let step = world.give(Input::RunSeen { run, evidence: RunEvidence::Exited(exited(102)) });
    assert!(!step.effects.contains(&Effect::Restart), "{:?}", step.effects);
    assert!(matches!(step.effects.as_slice(), [Effect::Send(_)]), "{:?}", step.effects);
    world.serve();
    assert_eq!(rest(&world), ["restart-pending(agent)"]);
    assert_eq!(asked(&world), 1);
}

#[test]
fn a_site_that_cannot_be_told_is_waited_for_ten_seconds() {
    let mut world = running(json!({"afterRunning": "agent-restarts"}));
    world.answers.site_down = true;
    world.see(RunEvidence::Exited(exited(0)));
    world.pass(Duration::from_millis(9_999));
    assert_eq!(asked(&world), 0);
    world.pass(Duration::from_millis(2));
    assert_eq!(asked(&world), 1);
}

#[test]
fn who_is_logged_on_has_the_countdown_before_the_restart() {
    let more = json!({"restartCodes": [102], "notice": {"countdown": "5m"}});
    let mut world = running(more);
    world.give(Input::Sessions(vec!["ada".to_owned()]));
    world.see(RunEvidence::Exited(exited(102)));
    assert_eq!(rest(&world), ["restart-pending(notice)"]);
    world.pass(Duration::from_millis(299_999));
    assert_eq!(asked(&world), 0);
    world.pass(Duration::from_millis(2));
    assert_eq!((world.state(&key(1)).as_str(), asked(&world)), ("restart-pending(agent)", 1));
}

#[test]
fn when_nobody_is_left_the_countdown_is_over() {
    let more = json!({"restartCodes": [102], "notice": {"countdown": "5m"}});
    let mut world = running(more);
    world.give(Input::Sessions(vec!["ada".to_owned()]));
    world.see(RunEvidence::Exited(exited(102)));
    assert_eq!(asked(&world), 0);
    world.give(Input::Sessions(Vec::new()));
    world.serve();
    world.pass(Duration::from_secs(1));
    assert_eq!(asked(&world), 1);
}

#[test]
fn a_result_file_asks_for_a_restart_too() {
    let mut world = running(json!({}));
    let result = Some(RunResult { restart: true, ..RunResult::default() });
    world.see(RunEvidence::Exited(Exit { result, ..exited(0) }));
    assert_eq!((rest(&world), asked(&world)), (vec!["restart-pending(agent)".to_owned()], 1));
}

#[test]
fn after_the_restart_detection_decides() {
    let mut world = pending();
    world.reboot();
    world.answers.found.push_back(Found::Present);
    world.serve();
    assert_eq!(rest(&world), ["restart-pending(agent)", "succeeded(detected-after-restart)"]);
}

#[test]
fn a_restart_of_the_agent_alone_is_no_restart_and_is_asked_for_again() {
    let mut world = pending();
    world.restart();
    world.give(Input::RestartAble(true));
    world.serve();
    assert_eq!(rest(&world), ["restart-pending(agent)"]);
    assert_eq!(asked(&world), 2);
}

#[test]
fn who_cannot_restart_the_machine_leaves_it_to_others_and_goes_on() {
    let mut world = pending();
    world.give(Input::RestartAble(false));
    assert_eq!(world.state(&key(1)), "restart-pending(outside)");
    let other = world.hello(2);
    let mut offers = world.policy.advertisements.clone();
    offers.push(other);
    world.answers.endless = false;
    world.offer(offers);
    assert_eq!(world.state(&key(2)), "succeeded(detected)");
}

#[test]
fn nothing_starts_while_a_restart_is_near() {
    let mut world = pending();
    let mut offers = world.policy.advertisements.clone();
    offers.push(world.hello(2));
    world.offer(offers);
    assert_eq!(world.state(&key(2)), "waiting(restart)");
    assert_eq!(world.armed().len(), 1);
    world.answers.endless = false;
    world.reboot();
    world.answers.found.extend([Found::Present, Found::Present]);
    world.serve();
    world.pass(Duration::from_secs(31));
    assert_eq!(world.state(&key(2)), "succeeded(detected)");
}

#[test]
fn a_restart_waits_for_other_runs() {
    let mut world = pending();
    // Nobody could restart the machine when the second program started.
    world.give(Input::RestartAble(false));
    let mut offers = world.policy.advertisements.clone();
    offers.push(world.hello(2));
    world.offer(offers);
    assert_eq!(world.state(&key(2)), "running(attempt 1)");
    let before = asked(&world);
    world.restart();
    world.give(Input::RestartAble(true));
    world.pass(Duration::from_secs(3_600));
    assert_eq!(world.state(&key(1)), "restart-pending(runs)");
    assert_eq!(asked(&world), before);
    world.answers.found.push_back(Found::Present);
    world.see(RunEvidence::Exited(exited(0)));
    assert_eq!(world.state(&key(1)), "restart-pending(agent)");
    assert_eq!(asked(&world), before + 1);
}

#[test]
fn a_failing_restart_command_is_reported_and_tried_again_by_back_off() {
    let mut world = pending();
    tried(&mut world, failed());
    assert_eq!(world.state(&key(1)), "restart-pending(command-failed: exit code 1)");
    world.pass(Duration::from_millis(1_100));
    assert_eq!(asked(&world), 2);
    let told = world.story(&key(1)).len();
    tried(&mut world, failed());
    assert_eq!(world.story(&key(1)).len(), told, "the same trouble is told once");
    world.pass(Duration::from_secs(3_600));
    assert!((4..20).contains(&asked(&world)), "{} tries in an hour", asked(&world));
    assert!(world.agent.fired().has(Branch::RestartFailed));
}

#[test]
fn a_restart_command_that_failed_holds_nothing_else_back_until_the_next_try() {
    let mut world = pending();
    world.pass(Duration::from_secs(60));
    tried(&mut world, failed());
    let mut offers = world.policy.advertisements.clone();
    offers.push(world.hello(2));
    world.offer(offers);
    assert_eq!(world.state(&key(2)), "running(attempt 1)");
}

#[test]
fn a_machine_that_is_still_up_after_the_command_is_told_again() {
    let mut world = pending();
    tried(&mut world, RestartTry::Begun);
    world.pass(Duration::from_secs(299));
    assert_eq!(asked(&world), 1);
    world.pass(Duration::from_secs(2));
    assert_eq!(
        world.state(&key(1)),
        "restart-pending(command-failed: the restart command ended well, but the machine is still up)"
    );
    world.pass(Duration::from_secs(200));
    assert_eq!(asked(&world), 2);
}

#[test]
fn a_program_that_restarts_the_machine_has_its_time_for_it() {
    let mut world = running(json!({"afterRunning": "program-restarts"}));
    world.see(RunEvidence::Exited(exited(0)));
    assert_eq!(rest(&world), ["restart-pending(program)"]);
    world.reboot();
    world.answers.found.push_back(Found::Present);
    world.serve();
    assert_eq!(rest(&world), ["restart-pending(program)", "succeeded(detected-after-restart)"]);
    assert_eq!(asked(&world), 0);
}

#[test]
fn a_program_that_did_not_restart_the_machine_after_all_is_judged_as_it_stands() {
    let mut world = running(json!({"afterRunning": "program-restarts"}));
    world.see(RunEvidence::Exited(exited(0)));
    world.answers.found.push_back(Found::Present);
    world.pass(Duration::from_secs(301));
    assert_eq!(rest(&world), ["restart-pending(program)", "succeeded(detected)"]);
    assert_eq!(asked(&world), 0);
}

#[test]
fn a_restart_that_the_run_asked_for_and_its_program_did_not_make_is_the_agents() {
    let mut world = running(json!({"afterRunning": "program-restarts", "restartCodes": [102]}));
    world.see(RunEvidence::Exited(exited(102)));
    world.pass(Duration::from_secs(301));
    assert_eq!(rest(&world), ["restart-pending(program)", "restart-pending(agent)"]);
    assert_eq!(asked(&world), 1);
}

/// The machine restarts under the running program, which is not at its goal afterwards.
fn restart_under(world: &mut World) {
    world.reboot();
    world.answers.found.extend([Found::Absent, Found::Absent]);
    world.see(RunEvidence::CutShort { same_boot: false });
}

#[test]
fn a_program_that_restarts_the_machine_five_times_reaches_its_goal_in_one_attempt_of_its_own() {
    let mut world = running(json!({"afterRunning": "program-restarts", "attempts": 2}));
    for _ in 0..5 {
        restart_under(&mut world);
    }
    assert_eq!(world.state(&key(1)), "running(attempt 6)");
    world.answers.found.push_back(Found::Present);
    world.reboot();
    world.see(RunEvidence::CutShort { same_boot: false });
    assert_eq!(world.state(&key(1)), "succeeded(detected-after-restart)");
    assert_eq!(world.armed().len(), 6);
}

#[test]
fn a_restart_loop_has_an_end_and_a_name() {
    let mut world = running(json!({"afterRunning": "program-restarts"}));
    for _ in 0..10 {
        restart_under(&mut world);
    }
    assert_eq!(world.state(&key(1)), "failed(restart-loop: the machine restarted 10 times for it)");
    assert_eq!(world.armed().len(), 10);
}

#[test]
fn a_loop_of_restarts_that_the_agent_makes_ends_too() {
    let more = json!({"restartCodes": [102], "attempts": 100, "retryDelays": ["1s"]});
    let mut world = running(more);
    for restart in 1..=10 {
        world.see(RunEvidence::Exited(exited(102)));
        world.reboot();
        world.give(Input::RestartAble(true));
        world.answers.found.extend([Found::Absent, Found::Absent]);
        world.serve();
        if restart < 10 {
            world.pass(Duration::from_secs(2));
        }
    }
    assert_eq!(
        world.state(&key(1)),
        "failed(restart-loop (exit code 102): the machine restarted 10 times for it)"
    );
    assert_eq!((world.armed().len(), asked(&world)), (10, 10));
}

#[test]
fn a_restart_that_nobody_asked_for_is_an_interruption_and_a_spent_attempt() {
    let mut world = running(json!({"attempts": 2}));
    restart_under(&mut world);
    assert_eq!(
        rest(&world),
        [
            format!("[interrupted(restart)] waiting(retry until {NOON})"),
            "running(attempt 2)".into()
        ]
    );
    restart_under(&mut world);
    assert_eq!(world.state(&key(1)), "interrupted(restart)");
}

#[test]
fn a_supervisor_that_was_told_to_end_by_the_machine_going_down_was_cut_short_by_the_restart() {
    let mut world = running(json!({"rerun": "never"}));
    world.reboot();
    world.answers.found.push_back(Found::Absent);
    world.see(RunEvidence::Exited(ended(Ending::Stopped)));
    assert_eq!(rest(&world), ["interrupted(restart)"]);
    let mut world = running(json!({"rerun": "never"}));
    world.answers.found.push_back(Found::Absent);
    world.see(RunEvidence::Exited(ended(Ending::Stopped)));
    assert_eq!(rest(&world), ["interrupted(killed)"]);
}

/// Evidence that a restarted agent finds of a run of `more`, with what detection finds: the rest of the
/// story (accounting 3.3, row by row).
#[track_caller]
fn check(more: serde_json::Value, found: &[Found], seen: RunEvidence, expected: &[&str]) {
    let mut world = World::new();
    let offer = world.package(1, program(more), !found.is_empty());
    world.answers.endless = true;
    world.offer(vec![offer]);
    world.reboot();
    world.answers.found.extend(found.iter().cloned());
    world.see(seen);
    assert_eq!(rest(&world), expected);
}

#[test]
fn five_kinds_of_evidence_decide_in_the_next_boot() {
    let cut = |same_boot| RunEvidence::CutShort { same_boot };
    let never = |after: &str| json!({"afterRunning": after, "rerun": "never"});
    let present = [Found::Present];
    let absent = [Found::Absent];
    // 1. An exit record is known, whatever came after it.
    let done = RunEvidence::Exited(exited(0));
    check(never("none"), &present, done.clone(), &["succeeded(detected-after-restart)"]);
    check(never("none"), &[], done, &["succeeded(exit-code)"]);
    // 2. A live supervisor: still running.
    check(never("none"), &present, RunEvidence::Alive, &[]);
    // 3. No `entered`: the same attempt again.
    check(never("none"), &present, RunEvidence::NeverEntered, &[]);
    // 4. `entered` in this boot.
    check(never("none"), &absent, cut(true), &["interrupted(killed)"]);
    // 5. `entered` in an earlier boot: a declared restart is judged by detection alone.
    for after in ["agent-restarts", "program-restarts"] {
        let succeeded = ["succeeded(detected-after-restart)"];
        check(never(after), &present, cut(false), &succeeded);
        check(never(after), &absent, cut(false), &["interrupted(restart)"]);
        check(never(after), &[], cut(false), &["interrupted(restart)"]);
    }
    check(never("none"), &absent, cut(false), &["interrupted(restart)"]);
}

#[test]
fn an_answer_about_a_restart_that_nobody_asked_for_is_ignored() {
    let mut world = running(json!({}));
    tried(&mut world, RestartTry::Begun);
    assert!(world.agent.fired().has(Branch::Ignored));
    assert_eq!(rest(&world), Vec::<String>::new());
}

/// Windows for runs from [`NOON`] on, and for restarts five hours later, each of an hour.
fn hours() -> Vec<Window> {
    let window = |purpose: &str, after_hours: u32| {
        let at = NOON.plus(HOUR * after_hours);
        let document = json!({"name": purpose, "effect": "window", "for": purpose,
            "at": at.to_string(), "duration": "1h"});
        serde_json::from_value(document).unwrap()
    };
    vec![window("runs", 0), window("restarts", 5)]
}

/// A run in the window for runs that has asked for a restart; `emergency` stands above windows.
fn pending_in_hours(emergency: bool) -> World {
    let mut world = World::new();
    world.policy.windows = hours();
    world.give(Input::RestartAble(true));
    let short = json!({"restartCodes": [102], "maxRunTime": "10m"});
    let mut offer = world.package(1, program(short), true);
    offer.emergency = emergency;
    world.answers.endless = true;
    world.offer(vec![offer]);
    world.see(RunEvidence::Exited(exited(102)));
    world
}

#[test]
fn a_restart_waits_for_a_window_that_allows_restarts() {
    let mut world = pending_in_hours(false);
    assert_eq!(rest(&world), ["restart-pending(window)"]);
    world.pass(HOUR * 5 - Duration::from_millis(1));
    assert_eq!(asked(&world), 0);
    world.pass(Duration::from_millis(1));
    assert_eq!((world.state(&key(1)).as_str(), asked(&world)), ("restart-pending(agent)", 1));
}

#[test]
fn the_restart_of_an_emergency_waits_for_no_window() {
    let world = pending_in_hours(true);
    assert_eq!((rest(&world), asked(&world)), (vec!["restart-pending(agent)".to_owned()], 1));
}

#[test]
fn a_restart_that_waits_for_its_window_holds_nothing_back() {
    let mut world = pending_in_hours(false);
    let mut other = world.package(2, program(json!({"maxRunTime": "10m"})), true);
    other.emergency = true;
    let first = world.policy.advertisements[0].clone();
    world.offer(vec![first, other]);
    assert_eq!(world.state(&key(2)), "running(attempt 1)");
}
