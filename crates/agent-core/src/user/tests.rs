use std::time::Duration;

use muster_model::advertisement::At;
use muster_model::clock::Wall;
use muster_model::message::Occurrence;
use muster_model::policy::{Due, Offer};
use serde_json::json;

use super::{Promise, Request, RequestRefused};
use crate::input::{Found, Input, RunEvidence};
use crate::saved::Key;
use crate::step::Effect;
use crate::telling::Announcement;
use crate::world::*;

const MINUTE: Duration = Duration::from_secs(60);

fn after(minutes: u32) -> Wall {
    NOON.plus(MINUTE * minutes)
}

fn install() -> Request {
    Request::Install { advertisement: advertisement(1) }
}

fn defer(until: Wall) -> Request {
    Request::Defer { advertisement: advertisement(1), until }
}

fn log_on(world: &mut World, users: &[&str]) {
    world.give(Input::Sessions(users.iter().map(|user| (*user).to_owned()).collect()));
    world.serve();
}

fn ask(world: &mut World, request: Request) {
    world.give(Input::Asked(request));
    world.serve();
}

fn weigh(world: &World, request: &Request) -> Result<Promise, RequestRefused> {
    world.agent.weigh(world.now, request)
}

/// A world with ada logged on, and an offer of a program of `more`.
fn with_ada(more: serde_json::Value) -> (World, Offer) {
    let mut world = World::new();
    log_on(&mut world, &["ada"]);
    let offer = world.package(1, program(more), false);
    (world, offer)
}

fn available() -> (World, Offer, Key) {
    let (mut world, mut offer) = with_ada(json!({}));
    let occurrence: Occurrence = format!("{}#1", Occurrence::AVAILABLE).parse().unwrap();
    offer.occurrences = vec![Due { occurrence: occurrence.clone(), at: None }];
    world.offer(vec![offer.clone()]);
    let key = Key { advertisement: offer.advertisement, occurrence };
    assert_eq!(world.state(&key), "available");
    (world, offer, key)
}

#[test]
fn what_is_available_starts_when_a_user_asks_for_it_also_after_a_crash() {
    let (mut world, _, key) = available();
    assert_eq!(weigh(&world, &install()), Ok(Promise::Starts));
    world.give(Input::Asked(install()));
    world.restart();
    world.serve();
    assert_eq!(
        world.story(&key),
        ["available", "accepted", "running(attempt 1)", "succeeded(exit-code)"]
    );
    let ended = weigh(&world, &install()).unwrap_err().to_string();
    assert!(ended.starts_with("it has ended already: succeeded(exit-code)"), "{ended}");
    ask(&mut world, install());
    assert_eq!(world.armed().len(), 1);
}

#[test]
fn a_failed_attempt_that_a_user_asked_for_is_followed_by_the_next() {
    let (mut world, _, key) = available();
    world.answers.exits.push_back(exited(3));
    ask(&mut world, install());
    assert!(world.state(&key).starts_with("waiting(retry"), "{}", world.state(&key));
    ask(&mut world, install());
    assert_eq!(world.state(&key), "succeeded(exit-code)");
    assert_eq!(world.armed(), [(1, 1), (2, 1)]);
}

#[test]
fn what_forbids_a_start_forbids_it_to_users_too() {
    let (mut world, mut offer, key) = available();
    offer.stopped = order();
    world.offer(vec![offer.clone()]);
    let stopped = muster_model::state::Waiting::Stopped;
    assert_eq!(weigh(&world, &install()), Ok(Promise::StartsAfter(stopped)));
    ask(&mut world, install());
    assert_eq!(world.state(&key), "waiting(stopped)");
    offer.stopped = None;
    world.offer(vec![offer]);
    assert_eq!(world.state(&key), "succeeded(exit-code)");
}

#[test]
fn after_offline_for_a_user_starts_nothing_either() {
    let (mut world, _, key) = available();
    world.move_to(world.now.elapsed.plus(MINUTE * 60 * 24 * 31));
    ask(&mut world, install());
    assert_eq!(world.state(&key), "waiting(stale-policy)");
}

#[test]
fn what_is_not_advertised_cannot_be_asked_for() {
    let (mut world, _, _) = available();
    world.offer(Vec::new());
    assert!(matches!(weigh(&world, &install()), Err(RequestRefused::Ended(_))));
    let other = Request::Install { advertisement: advertisement(7) };
    assert_eq!(weigh(&world, &other), Err(RequestRefused::NotAdvertised));
}

#[test]
fn a_mandatory_program_starts_before_its_time_for_who_asks() {
    let (mut world, mut offer) = with_ada(json!({"notice": {"countdown": "5m"}}));
    offer.occurrences[0].at = Some(At::Instant(after(600)));
    world.offer(vec![offer]);
    assert!(world.state(&key(1)).starts_with("waiting(time"));
    ask(&mut world, install());
    assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
}

/// With ada logged on or not, a program of `run_when` waits or starts.
#[track_caller]
fn check_run_when(run_when: &str, users: &[&str], expected: &str) {
    let mut world = World::new();
    let offer = world.package(1, program(json!({"runWhen": run_when})), false);
    log_on(&mut world, users);
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), expected);
}

#[test]
fn run_when_says_who_must_be_logged_on() {
    check_run_when("any", &[], "succeeded(exit-code)");
    check_run_when("any", &["ada"], "succeeded(exit-code)");
    check_run_when("nobody-logged-on", &[], "succeeded(exit-code)");
    check_run_when("nobody-logged-on", &["ada"], "waiting(user)");
    check_run_when("user-logged-on", &[], "waiting(user)");
    check_run_when("user-logged-on", &["ada"], "succeeded(exit-code)");
}

#[test]
fn a_log_on_is_acted_on_at_once() {
    let mut world = World::new();
    let offer = world.package(1, program(json!({"runWhen": "user-logged-on"})), true);
    log_on(&mut world, &[]);
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "waiting(user)");
    log_on(&mut world, &["ada"]);
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn somebody_who_logs_on_during_the_look_at_conditions_is_seen_before_the_start() {
    let mut world = World::new();
    let offer = world.package(1, program(json!({"runWhen": "nobody-logged-on"})), false);
    log_on(&mut world, &[]);
    world.answers.mute = true;
    world.offer(vec![offer]);
    log_on(&mut world, &["ada"]);
    world.give(Input::Conditions { key: key(1), blocked: None });
    assert_eq!(world.state(&key(1)), "waiting(user)");
    assert_eq!(world.armed(), []);
}

#[test]
fn a_run_that_never_entered_is_not_launched_again_against_run_when() {
    let (mut world, offer) = with_ada(json!({"runWhen": "user-logged-on"}));
    world.answers.endless = true;
    world.offer(vec![offer]);
    assert_eq!(world.armed(), [(1, 1)]);
    world.reboot();
    log_on(&mut world, &[]);
    world.see(RunEvidence::NeverEntered);
    assert_eq!((world.state(&key(1)), world.armed().len()), ("waiting(user)".to_owned(), 1));
    log_on(&mut world, &["ada"]);
    assert_eq!(world.armed(), [(1, 1), (1, 2)]);
}

/// A world that has given ada notice of five minutes, to be put off for at most `defer_until`.
fn noticed(defer_until: &str) -> World {
    let notice = json!({"notice": {"countdown": "5m", "deferUntil": defer_until}});
    let (mut world, offer) = with_ada(notice);
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), format!("waiting(notice until {})", after(5)));
    world
}

#[test]
fn the_countdown_is_given_and_then_the_program_starts() {
    let mut world = noticed("0s");
    world.pass(MINUTE * 5 - Duration::from_millis(1));
    assert_eq!(world.armed(), []);
    world.pass(Duration::from_millis(2));
    assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
}

#[test]
fn a_countdown_goes_on_over_a_restart() {
    let mut world = noticed("0s");
    world.pass(MINUTE * 3);
    world.reboot();
    world.serve();
    log_on(&mut world, &["ada"]);
    assert_eq!(world.state(&key(1)), format!("waiting(notice until {})", after(5)));
    // A machine that was off goes on from the time it last saved.
    world.pass(MINUTE * 5 + Duration::from_millis(1));
    assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
}

#[test]
fn with_nobody_logged_on_nobody_is_waited_for() {
    let mut world = noticed("8h");
    log_on(&mut world, &[]);
    assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
}

/// What was announced so far: to whom, and what.
fn told(world: &World) -> Vec<(Vec<String>, Announcement)> {
    let told = world.done.iter().filter_map(|done| match done {
        Effect::Tell(telling) => Some((telling.users.clone(), telling.what.clone())),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_start_is_announced_once_to_each_who_is_there() {
    let mut world = noticed("8h");
    let said = told(&world);
    let [(users, Announcement::Start { remaining, at, latest, .. })] = &said[..] else {
        panic!("{said:?}");
    };
    assert_eq!((&users[..], *remaining, *at), (&["ada".to_owned()][..], 5 * MINUTE, after(5)));
    assert_eq!(*latest, Some(after(480)));
    world.pass(MINUTE);
    world.serve();
    log_on(&mut world, &["ada", "lin"]);
    let said = told(&world);
    let [_, (users, Announcement::Start { remaining, .. })] = &said[..] else {
        panic!("{said:?}");
    };
    assert_eq!((&users[..], *remaining), (&["lin".to_owned()][..], 4 * MINUTE));
    ask(&mut world, defer(after(60)));
    log_on(&mut world, &["ada"]);
    assert_eq!(told(&world).len(), 2, "who put it off knows");
}

#[test]
fn the_advertisements_notice_counts_before_the_programs() {
    let (mut world, mut offer) = with_ada(json!({"notice": {"countdown": "5m"}}));
    offer.notice = serde_json::from_value(json!({"countdown": "7m"})).unwrap();
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), format!("waiting(notice until {})", after(7)));
}

#[test]
fn a_start_is_put_off_again_and_again_but_not_beyond_its_deadline() {
    let mut world = noticed("60m");
    assert_eq!(weigh(&world, &defer(after(40))), Ok(Promise::PutOff { until: after(40) }));
    ask(&mut world, defer(after(40)));
    assert_eq!(world.state(&key(1)), format!("waiting(notice until {})", after(40)));
    world.pass(MINUTE * 20);
    world.restart();
    log_on(&mut world, &["ada"]);
    assert_eq!(weigh(&world, &defer(after(900))), Ok(Promise::PutOff { until: after(60) }));
    ask(&mut world, defer(after(900)));
    assert_eq!(weigh(&world, &defer(after(901))), Err(RequestRefused::TooLate(after(60))));
    ask(&mut world, defer(after(901)));
    world.pass(MINUTE * 40 - Duration::from_millis(1));
    assert_eq!(world.armed(), []);
    world.pass(Duration::from_millis(2));
    assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
}

#[test]
fn the_deadline_counts_from_the_due_time_and_the_countdown_is_given_all_the_same() {
    let notice = json!({"notice": {"countdown": "5m", "deferUntil": "60m"}});
    let (mut world, mut offer) = with_ada(notice);
    offer.occurrences[0].at = Some(At::Instant(Wall(NOON.0 - 50 * 60_000)));
    world.offer(vec![offer.clone()]);
    assert_eq!(weigh(&world, &defer(after(900))), Ok(Promise::PutOff { until: after(10) }));
    offer.occurrences[0].at = Some(At::Instant(Wall(NOON.0 - 900 * 60_000)));
    world.offer(vec![offer]);
    assert_eq!(weigh(&world, &defer(after(900))), Err(RequestRefused::TooLate(after(5))));
}

#[test]
fn without_notice_there_is_nothing_to_put_off() {
    let (world, _, _) = available();
    assert!(matches!(weigh(&world, &defer(after(9))), Err(RequestRefused::NoNotice(_))));
}

#[test]
fn a_user_may_start_it_before_the_countdown_is_over() {
    let mut world = noticed("0s");
    ask(&mut world, install());
    assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
}

#[test]
fn a_start_that_a_wrong_clock_announced_is_announced_anew() {
    let mut world = noticed("0s");
    let record = world.agent.obligations.get_mut(&key(1)).unwrap();
    record.user.starts = Some(after(60 * 24 * 365));
    record.stage = crate::saved::Stage::Idle;
    world.lawless = true;
    world.give(Input::Tick);
    assert_eq!(world.state(&key(1)), format!("waiting(notice until {})", after(5)));
}

#[test]
fn each_attempt_is_announced() {
    let notice = json!({"notice": {"countdown": "5m"}, "retryDelays": ["10m"]});
    let (mut world, offer) = with_ada(notice);
    world.answers.exits.push_back(exited(3));
    world.offer(vec![offer]);
    world.pass(MINUTE * 6);
    assert!(world.state(&key(1)).starts_with("waiting(retry"), "{}", world.state(&key(1)));
    world.pass(MINUTE * 10);
    assert_eq!(world.state(&key(1)), format!("waiting(notice until {})", after(20)));
    world.pass(MINUTE * 5);
    assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
}

#[test]
fn what_is_there_already_needs_no_notice() {
    let mut world = World::new();
    log_on(&mut world, &["ada"]);
    let offer = world.package(1, program(json!({"notice": {"countdown": "5m"}})), true);
    world.answers.found.push_back(Found::Present);
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "succeeded(already-present)");
}

#[test]
fn who_asks_for_what_runs_is_told_so() {
    let (mut world, offer) = with_ada(json!({}));
    world.answers.endless = true;
    world.offer(vec![offer]);
    assert_eq!(weigh(&world, &install()), Ok(Promise::Runs));
    ask(&mut world, install());
    world.see(RunEvidence::Exited(exited(0)));
    assert_eq!(world.armed().len(), 1);
}
