use std::time::Duration;

use muster_model::id::Incarnation;
use muster_model::message::Report;
use muster_model::policy::{Offer, Order};
use muster_model::wire::device::{Account, AccountEntry};
use serde_json::{Value, json};

use super::{TURNS_MAX, Turn};
use crate::input::{Ending, Exit, FoundRun, Input, RunEvidence, RunResult};
use crate::saved::Saved;
use crate::step::{Effect, Launch};
use crate::world::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn log_on(world: &mut World, users: &[&str]) {
    world.give(Input::Sessions(users.iter().map(|user| (*user).to_owned()).collect()));
    world.serve();
}

/// An offer of a program for each user, with `more`.
fn each(world: &mut World, more: Value) -> Offer {
    let mut program = json!({"runAs": "each-user", "retryDelays": ["1m"]});
    program.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.package(1, crate::world::program(program), false)
}

/// A world in which `users` are logged on when such a program is offered.
fn offered(users: &[&str], more: Value, exits: &[i32]) -> World {
    let mut world = World::new();
    log_on(&mut world, users);
    let offer = each(&mut world, more);
    world.answers.exits.extend(exits.iter().copied().map(exited));
    world.offer(vec![offer]);
    world
}

/// The same, with programs that go on until a test ends them.
fn under_way(users: &[&str], more: Value) -> (World, Offer) {
    let mut world = World::new();
    world.answers.endless = true;
    log_on(&mut world, users);
    let offer = each(&mut world, more);
    world.offer(vec![offer.clone()]);
    (world, offer)
}

/// Whom runs were launched for, in order.
fn launched(world: &World) -> Vec<String> {
    let launches = world.done.iter().filter_map(|effect| match effect {
        Effect::Arm(launch) => Some(launch.user.clone().expect("a run for nobody")),
        _ => None,
    });
    launches.collect()
}

fn ends(world: &mut World, code: i32) {
    world.see(RunEvidence::Exited(exited(code)));
}

fn last(world: &World) -> Report {
    world.reports(&key(1)).pop().unwrap()
}

fn turns(world: &World) -> Vec<String> {
    world.journal.record(&key(1)).unwrap().turns.iter().map(Turn::to_string).collect()
}

#[test]
fn each_user_has_a_run_one_after_the_other_and_the_obligation_one_answer() {
    let world = offered(&["cy", "ada", "bo"], json!({}), &[]);
    let story = [
        "accepted",
        "running(attempt 1)",
        "[succeeded(exit-code)] accepted",
        "running(attempt 2)",
        "[succeeded(exit-code)] accepted",
        "running(attempt 3)",
        "[succeeded(exit-code)] succeeded(each-user)",
    ];
    assert_eq!(world.story(&key(1)), story);
    assert_eq!(launched(&world), ["ada", "bo", "cy"]);
    let users: Vec<Option<String>> =
        world.reports(&key(1)).into_iter().map(|report| report.user).collect();
    let said: Vec<&str> = users.iter().map(|user| user.as_deref().unwrap_or("-")).collect();
    assert_eq!(said, ["-", "ada", "ada", "bo", "bo", "cy", "cy"]);
}

#[test]
fn one_users_failure_fails_the_whole_with_the_name_and_the_others_run_all_the_same() {
    let world = offered(&["ada", "bo", "cy"], json!({"attempts": 1}), &[0, 3, 0]);
    assert_eq!(launched(&world), ["ada", "bo", "cy"]);
    let failed = "failed(each-user (exit code 3): bo: failed(exit-code (exit code 3)); \
                  well for ada, cy)";
    assert_eq!(world.state(&key(1)), failed);
}

#[test]
fn only_who_was_not_served_has_another_run() {
    let mut world = offered(&["ada", "bo", "cy"], json!({"attempts": 2}), &[3, 0, 4, 0, 0]);
    assert_eq!(launched(&world), ["ada", "bo", "cy"]);
    assert!(world.state(&key(1)).starts_with("waiting(retry until"), "{}", world.state(&key(1)));
    world.pass(Duration::from_secs(61));
    assert_eq!(launched(&world), ["ada", "bo", "cy", "ada", "cy"], "with one wait for both");
    assert_eq!(world.state(&key(1)), "succeeded(each-user)");
}

#[test]
fn each_user_has_all_attempts_and_no_more() {
    let mut world = offered(&["ada", "bo"], json!({"attempts": 2}), &[3, 0, 3]);
    world.pass(HOUR);
    assert_eq!(launched(&world), ["ada", "bo", "ada"]);
    let failed =
        "failed(each-user (exit code 3): ada: failed(exit-code (exit code 3)); well for bo)";
    assert_eq!(world.state(&key(1)), failed);
}

#[test]
fn with_nobody_logged_on_it_waits_for_somebody() {
    let mut world = offered(&[], json!({}), &[]);
    assert_eq!(world.state(&key(1)), "waiting(user)");
    log_on(&mut world, &["ada"]);
    assert_eq!(world.state(&key(1)), "succeeded(each-user)");
}

#[test]
fn before_the_shell_has_said_who_is_logged_on_nobody_is() {
    let mut world = World::new();
    let offer = each(&mut world, json!({}));
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "waiting(user)");
}

#[test]
fn an_expiry_ends_the_wait() {
    let mut world = World::new();
    log_on(&mut world, &[]);
    let mut offer = each(&mut world, json!({}));
    offer.expires = Some(NOON.plus(HOUR));
    world.offer(vec![offer]);
    world.pass(HOUR * 2);
    assert_eq!(world.state(&key(1)), "expired(advertisement)");
}

#[test]
fn who_logs_on_later_is_not_on_the_list() {
    let (mut world, _) = under_way(&["bo"], json!({}));
    log_on(&mut world, &["ada", "bo"]);
    ends(&mut world, 0);
    assert_eq!(launched(&world), ["bo"]);
    assert_eq!(world.state(&key(1)), "succeeded(each-user)");
}

#[test]
fn who_has_logged_off_before_their_turn_is_passed_over_and_named() {
    let (mut world, _) = under_way(&["ada", "bo", "cy"], json!({}));
    log_on(&mut world, &["ada", "cy"]);
    ends(&mut world, 0);
    ends(&mut world, 0);
    assert_eq!(launched(&world), ["ada", "cy"]);
    assert_eq!(world.state(&key(1)), "succeeded(users-left)");
    assert_eq!(last(&world).passed_over, "bo");
    assert_eq!(turns(&world), ["ada: well", "bo: not yet", "cy: well"]);
}

#[test]
fn who_comes_back_before_the_end_has_a_turn() {
    let (mut world, _) = under_way(&["ada", "bo", "cy"], json!({}));
    log_on(&mut world, &["ada", "cy"]);
    ends(&mut world, 0);
    log_on(&mut world, &["bo", "cy"]);
    ends(&mut world, 0);
    ends(&mut world, 0);
    assert_eq!(launched(&world), ["ada", "cy", "bo"]);
    assert_eq!(world.state(&key(1)), "succeeded(each-user)");
}

#[test]
fn who_logs_off_between_the_turns_is_passed_over_without_a_run() {
    let (mut world, _) = under_way(&["ada", "bo"], json!({}));
    world.answers.mute = true;
    ends(&mut world, 0);
    assert_eq!(world.state(&key(1)), "accepted");
    log_on(&mut world, &["ada"]);
    assert_eq!(world.state(&key(1)), "succeeded(users-left)");
    assert_eq!((launched(&world).len(), last(&world).passed_over.as_str()), (1, "bo"));
}

#[test]
fn who_is_owed_a_run_is_waited_for() {
    let mut world = offered(&["ada", "bo"], json!({"attempts": 2}), &[3, 0]);
    log_on(&mut world, &["bo"]);
    world.pass(HOUR);
    assert_eq!(world.state(&key(1)), "waiting(user)");
    log_on(&mut world, &["ada"]);
    assert_eq!(launched(&world), ["ada", "bo", "ada"]);
    assert_eq!(world.state(&key(1)), "succeeded(each-user)");
}

#[test]
fn the_first_user_who_was_never_run_for_fixes_nothing() {
    let (mut world, _) = under_way(&["ada"], json!({}));
    log_on(&mut world, &["bo"]);
    // Its supervisor was killed before it began, and ada is not there any more.
    world.see(RunEvidence::NeverEntered);
    assert_eq!(launched(&world), ["ada", "bo"]);
    ends(&mut world, 0);
    assert_eq!(world.state(&key(1)), "succeeded(each-user)");
}

#[test]
fn a_crash_anywhere_serves_nobody_twice_and_forgets_nobody() {
    let (mut world, _) = under_way(&["ada", "bo", "cy"], json!({"rerun": "never"}));
    for user in ["ada", "bo", "cy"] {
        world.restart();
        log_on(&mut world, &["ada", "bo", "cy"]);
        assert_eq!(launched(&world).last().map(String::as_str), Some(user));
        ends(&mut world, 0);
        world.restart();
        log_on(&mut world, &["ada", "bo", "cy"]);
    }
    assert_eq!(launched(&world), ["ada", "bo", "cy"]);
    assert_eq!(world.state(&key(1)), "succeeded(each-user)");
}

#[test]
fn a_restart_of_the_machine_follows_the_declared_rule_for_the_one_whom_it_cut_short() {
    let cut = RunEvidence::CutShort { same_boot: false };
    let (mut world, _) = under_way(&["ada", "bo"], json!({"rerun": "never"}));
    world.reboot();
    log_on(&mut world, &["ada", "bo"]);
    world.see(cut.clone());
    ends(&mut world, 0);
    let failed = "failed(each-user: ada: interrupted(restart); well for bo)";
    assert_eq!(world.state(&key(1)), failed);
    assert_eq!(launched(&world), ["ada", "bo"]);
    let (mut world, _) = under_way(&["ada", "bo"], json!({"rerun": "always"}));
    world.reboot();
    log_on(&mut world, &[]);
    world.see(cut);
    assert_eq!(world.state(&key(1)), "waiting(user)", "ada is owed a run");
    log_on(&mut world, &["ada"]);
    ends(&mut world, 0);
    assert_eq!(launched(&world), ["ada", "ada"]);
    assert_eq!(
        (world.state(&key(1)).as_str(), last(&world).passed_over.as_str()),
        ("succeeded(users-left)", "bo")
    );
}

#[test]
fn a_stop_ends_it_for_all() {
    let (mut world, offer) = under_way(&["ada", "bo"], json!({}));
    let kill = order().map(|order| Order { kill: true, ..order });
    world.offer(vec![Offer { stopped: kill, ..offer }]);
    world.see(RunEvidence::Exited(ended(Ending::Stopped)));
    assert_eq!(world.state(&key(1)), "interrupted(stopped)");
    assert_eq!(launched(&world), ["ada"]);
}

#[test]
fn a_user_who_cannot_be_become_fails_alone() {
    let (mut world, _) = under_way(&["ada", "bo"], json!({"attempts": 1}));
    let why = "the user ada is not known".to_owned();
    world.give(Input::ArmFailed { run: world.run(), wait: None, why });
    world.serve();
    ends(&mut world, 0);
    let failed =
        "failed(each-user: ada: failed(not-started: the user ada is not known); well for bo)";
    assert_eq!(world.state(&key(1)), failed);
}

#[test]
fn a_program_for_each_user_restarts_no_machine_and_is_not_judged_by_detection() {
    let mut world = World::new();
    log_on(&mut world, &["ada"]);
    let more = json!({"runAs": "each-user", "afterRunning": "agent-restarts"});
    let offer = world.package(1, program(more), true);
    let result = RunResult { restart: true, ..RunResult::default() };
    world.answers.exits.push_back(Exit { result: Some(result), ..exited(0) });
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "succeeded(each-user)");
    let detected = world.done.iter().any(|effect| matches!(effect, Effect::Detect { .. }));
    assert!(!detected, "a detection judges the machine");
}

#[test]
fn a_window_that_shuts_between_two_users_is_waited_for() {
    let (mut world, offer) = under_way(&["ada", "bo"], json!({}));
    world.offer(vec![Offer { stopped: order(), ..offer.clone() }]);
    ends(&mut world, 0);
    assert_eq!(world.state(&key(1)), "waiting(stopped)");
    world.offer(vec![offer]);
    ends(&mut world, 0);
    assert_eq!(launched(&world), ["ada", "bo"]);
    assert_eq!(world.state(&key(1)), "succeeded(each-user)");
}

#[test]
fn notice_is_given_once_for_all() {
    let mut world = World::new();
    log_on(&mut world, &["ada", "bo"]);
    let offer = each(&mut world, json!({"notice": {"countdown": "5m"}}));
    world.offer(vec![offer]);
    assert!(world.state(&key(1)).starts_with("waiting(notice"));
    world.pass(Duration::from_secs(301));
    assert_eq!(launched(&world), ["ada", "bo"]);
    assert_eq!(world.state(&key(1)), "succeeded(each-user)");
}

#[test]
fn an_edit_to_another_package_begins_anew_for_whoever_is_logged_on() {
    let (mut world, offer) = under_way(&["ada", "bo"], json!({}));
    let mut other = world.package(7, program(json!({"runAs": "each-user"})), false);
    other.advertisement = offer.advertisement;
    other.revision = 2;
    world.offer(vec![other]);
    ends(&mut world, 0);
    ends(&mut world, 0);
    ends(&mut world, 0);
    assert_eq!(launched(&world), ["ada", "ada", "bo"]);
    assert_eq!(world.state(&key(1)), "succeeded(each-user)");
}

#[test]
fn more_users_than_can_be_served_are_a_named_end() {
    let mut world = World::new();
    world.give(Input::Sessions((0..=TURNS_MAX).map(|n| format!("u{n}")).collect()));
    let offer = each(&mut world, json!({}));
    world.offer(vec![offer]);
    let said = "failed(each-user: 101 users are logged on; at most 100 are served)";
    assert_eq!(world.state(&key(1)), said);
    assert_eq!(launched(&world).len(), 0);
}

#[test]
fn what_goes_before_may_run_for_each_user_too() {
    let mut world = World::new();
    log_on(&mut world, &["ada", "bo"]);
    let mut base = world.package(9, program(json!({"runAs": "each-user"})), false);
    base.package.name = "base".parse().unwrap();
    let on = json!({"dependsOn": {"package": "base@1", "program": "install"},
        "runAs": "each-user"});
    let mut offer = world.package(1, program(on), false);
    let (package, of_base) = (base.package, base.program);
    offer.dependencies = vec![muster_model::policy::PinnedProgram { package, program: of_base }];
    world.offer(vec![offer]);
    assert_eq!(launched(&world), ["ada", "bo", "ada", "bo"]);
    assert_eq!(world.state(&key(1)), "succeeded(each-user)");
}

#[test]
fn why_and_the_view_name_each_user() {
    let (mut world, _) = under_way(&["ada", "bo"], json!({}));
    ends(&mut world, 0);
    let chain = world.agent.why(world.now, &key(1)).unwrap().chain;
    let link = chain.iter().find(|link| link.step == "users").unwrap();
    assert_eq!(
        (link.verdict.as_str(), link.because.as_str()),
        ("1 of 2 served", "ada: well; bo: not yet")
    );
    let view = serde_json::to_value(world.agent.view(world.now)).unwrap();
    let users = &view["obligations"][0]["users"];
    assert_eq!((&users[0]["user"], &users[0]["stands"]["turn"]), (&json!("ada"), &json!("served")));
}

/// The launch of the last run.
fn launch(world: &World) -> Launch {
    let launches = world.done.iter().rev().find_map(|effect| match effect {
        Effect::Arm(launch) => Some((**launch).clone()),
        _ => None,
    });
    launches.expect("nothing was armed")
}

/// The device of `before` without its journal; its folders show `found`, the site's account says
/// `state` after `attempt` runs, and what it offered is offered again.
fn without_journal(before: World, found: Vec<FoundRun>, state: &str, attempt: u32) -> World {
    let mut identity = identity();
    identity.incarnation = Incarnation(2);
    identity.fresh_incarnation_because = Some("it was deleted".to_owned());
    let mut world = World::unstarted(identity, Saved::default());
    world.programs = before.programs;
    world.policy = before.policy;
    world.found = found;
    world.answers.endless = true;
    world.start();
    log_on(&mut world, &["ada", "bo"]);
    let obligations = vec![AccountEntry {
        advertisement: key(1).advertisement,
        occurrence: key(1).occurrence,
        revision: 1,
        state: serde_json::from_value(json!({"state": state, "attempt": attempt})).unwrap(),
        attempt,
    }];
    let (device, incarnation, epoch) = (DEVICE, Incarnation(2), EPOCH);
    world.give(Input::AccountArrived(Account { device, incarnation, epoch, obligations }));
    let offers = world.policy.advertisements.clone();
    world.offer(offers);
    world
}

#[test]
fn a_device_without_its_journal_learns_from_the_newest_folder_whose_turn_it_is() {
    let (mut before, _) = under_way(&["ada", "bo"], json!({"rerun": "never"}));
    let first = FoundRun { launch: launch(&before), evidence: RunEvidence::Exited(exited(0)) };
    ends(&mut before, 0);
    // The site has heard how ada's run ended, and nothing of bo's.
    let alive = FoundRun { launch: launch(&before), evidence: RunEvidence::Alive };
    let mut world = without_journal(before, vec![first, alive], "accepted", 1);
    assert_eq!(world.state(&key(1)), "running(attempt 2)");
    let run = world.run_in_journal();
    world.give(Input::RunSeen { run, evidence: RunEvidence::Exited(exited(0)) });
    world.serve();
    assert_eq!(world.state(&key(1)), "succeeded(each-user)");
    assert_eq!(world.armed(), []);
}

#[test]
fn a_turn_that_the_site_knows_of_is_not_repeated_after_the_journal_was_lost() {
    let (before, _) = under_way(&["ada", "bo"], json!({"rerun": "never"}));
    let first = FoundRun { launch: launch(&before), evidence: RunEvidence::Exited(exited(0)) };
    let mut world = without_journal(before, vec![first], "accepted", 1);
    assert_eq!(launched(&world), ["bo"]);
    assert_eq!(world.armed(), [(2, 1)]);
    ends(&mut world, 0);
    assert_eq!(world.state(&key(1)), "succeeded(each-user)");
}

#[test]
fn without_journal_and_folders_nobody_is_served_twice_unless_the_author_allows_it() {
    let (before, _) = under_way(&["ada", "bo"], json!({"rerun": "never"}));
    let world = without_journal(before, Vec::new(), "accepted", 1);
    assert_eq!(world.state(&key(1)), "interrupted(memory-lost)");
    assert_eq!(world.armed(), []);
    let (before, _) = under_way(&["ada", "bo"], json!({"rerun": "never"}));
    let world = without_journal(before, Vec::new(), "running", 1);
    assert_eq!(world.state(&key(1)), "interrupted(memory-lost)");
    let (before, _) = under_way(&["ada", "bo"], json!({"rerun": "always"}));
    let world = without_journal(before, Vec::new(), "accepted", 1);
    assert_eq!(launched(&world), ["ada"]);
}

#[test]
fn the_folders_of_a_list_stay_until_the_site_knows_how_all_of_it_ended() {
    let (mut world, _) = under_way(&["ada", "bo"], json!({}));
    let discarded = |world: &World| {
        world.done.iter().filter(|effect| matches!(effect, Effect::Discard(_))).count()
    };
    ends(&mut world, 0);
    world.pass(HOUR);
    assert_eq!(discarded(&world), 0, "ada's tells that ada was served");
    ends(&mut world, 0);
    world.pass(HOUR);
    assert_eq!(discarded(&world), 2);
}
