use std::time::Duration;

use jiff::tz::TimeZone;
use muster_model::clock::Wall;
use muster_model::period::Period;
use muster_model::window::Window;
use serde_json::json;

use crate::input::{Input, RunEvidence};
use crate::sometimes::Branch;
use crate::step::Effect;
use crate::user::Request;
use crate::world::*;

const HOUR: Duration = Duration::from_secs(3_600);

/// A window or freeze that begins so many hours after [`NOON`], once.
fn once(effect: &str, after_hours: u64, duration: &str) -> Window {
    let at = NOON.plus(HOUR * after_hours as u32);
    let document = json!({"name": format!("{effect}-{after_hours}"), "effect": effect,
        "at": at.to_string(), "duration": duration});
    serde_json::from_value(document).unwrap()
}

/// A program that may take an hour, grace and all.
fn an_hour() -> serde_json::Value {
    json!({"maxRunTime": "59m 50s"})
}

fn hour_of(world: &World) -> u64 {
    world.now.wall.since(NOON).as_secs() / 3_600
}

/// Offers a package that takes an hour to a device with these windows; the story of the first two days,
/// and the hour in which it ended.
#[track_caller]
fn check(windows: Vec<Window>, expected: &[&str], ends_in_hour: u64) {
    let mut world = World::new();
    world.policy.windows = windows;
    let offer = world.package(1, program(an_hour()), true);
    world.offer(vec![offer]);
    while !world.state(&key(1)).starts_with("succeeded") && hour_of(&world) < 48 {
        world.pass(HOUR / 2);
    }
    assert_eq!(world.story(&key(1)), expected);
    assert_eq!(hour_of(&world), ends_in_hour);
}

#[test]
fn a_run_waits_for_its_window_and_its_content_does_not() {
    let mut world = World::new();
    world.policy.windows = vec![once("window", 5, "2h")];
    let offer = world.package(1, program(an_hour()), true);
    world.offer(vec![offer]);
    assert!(world.done.iter().any(|effect| matches!(effect, Effect::Fetch(_))));
    let opens = NOON.plus(HOUR * 5);
    assert_eq!(world.state(&key(1)), format!("waiting(window until {opens})"));
    world.pass(HOUR * 5 - Duration::from_millis(1));
    assert_eq!(world.armed(), []);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
    assert!(world.agent.fired().has(Branch::WindowShut));
}

#[test]
fn a_window_without_room_is_passed_over() {
    let opens = format!("waiting(window until {})", NOON.plus(HOUR * 9));
    check(
        vec![once("window", 5, "59m"), once("window", 9, "1h")],
        &["accepted", &opens, "accepted", "running(attempt 1)", "succeeded(detected)"],
        9,
    );
}

#[test]
fn a_freeze_is_waited_out_also_one_that_begins_too_soon() {
    let ends = format!("waiting(freeze until {})", NOON.plus(HOUR * 4));
    let story = ["accepted", &ends, "accepted", "running(attempt 1)", "succeeded(detected)"];
    check(vec![once("freeze", 0, "4h")], &story, 4);
    check(vec![once("freeze", 0, "3h"), once("freeze", 3, "1h")], &story, 4);
    let mut soon = once("freeze", 0, "4h");
    soon.begins = muster_model::window::Begins::At(muster_model::advertisement::At::Instant(
        NOON.plus(HOUR / 2),
    ));
    soon.duration = Period::minutes(210);
    check(vec![soon], &story, 4);
}

#[test]
fn a_window_that_never_has_room_says_so() {
    let mut world = World::new();
    world.policy.windows = vec![once("window", 5, "30m")];
    let offer = world.package(1, program(an_hour()), true);
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "waiting(window)");
    let chain = world.agent.why(world.now, &key(1)).unwrap().chain;
    let said = chain.iter().find(|link| link.step == "window").unwrap();
    assert_eq!(said.verdict, "waits: window");
    assert!(said.because.contains("none that comes has room"), "{}", said.because);
}

#[test]
fn an_emergency_stands_above_windows_and_freezes() {
    let mut world = World::new();
    world.policy.windows = vec![once("window", 5, "2h"), once("freeze", 0, "9h")];
    let mut offer = world.package(1, program(an_hour()), true);
    offer.emergency = true;
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn without_its_windows_a_device_starts_at_once() {
    let mut world = World::new();
    world.policy.windows = vec![once("freeze", 0, "9h")];
    let offer = world.package(1, program(an_hour()), true);
    world.offer(vec![offer.clone()]);
    assert_eq!(world.story(&key(1)).len(), 2);
    world.policy.windows.clear();
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn a_window_that_closes_under_a_check_is_noticed_before_the_start() {
    let mut world = World::new();
    world.policy.windows = vec![once("window", 0, "90m"), once("window", 20, "2h")];
    world.answers.mute = true;
    let offer = world.package(1, program(an_hour()), true);
    world.offer(vec![offer]);
    world.pass(HOUR);
    world.give(Input::Conditions { key: key(1), blocked: None });
    assert_eq!(world.armed(), []);
    let opens = NOON.plus(HOUR * 20);
    assert_eq!(world.state(&key(1)), format!("waiting(window until {opens})"));
}

#[test]
fn a_retry_keeps_to_the_windows_too() {
    let mut world = World::new();
    world.policy.windows = vec![once("window", 0, "2h"), once("window", 20, "2h")];
    world.answers.exits.push_back(exited(3));
    let mut more = an_hour();
    more["retryDelays"] = json!(["90m"]);
    let offer = world.package(1, program(more), false);
    world.offer(vec![offer]);
    let opens = NOON.plus(HOUR * 20);
    assert_eq!(
        world.story(&key(1)).last().unwrap(),
        &format!(
            "[failed(exit-code (exit code 3))] waiting(retry until {})",
            NOON.plus(HOUR * 3 / 2)
        )
    );
    world.pass(HOUR * 2);
    assert_eq!(world.state(&key(1)), format!("waiting(window until {opens})"));
    world.pass(HOUR * 18);
    assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
}

#[test]
fn a_launch_carries_the_last_moment_at_which_it_still_fits() {
    let mut world = World::new();
    world.policy.windows = vec![once("window", 0, "2h"), once("window", 20, "2h")];
    world.answers.endless = true;
    let offer = world.package(1, program(an_hour()), false);
    world.offer(vec![offer]);
    let start_by = world.done.iter().find_map(|effect| match effect {
        Effect::Arm(launch) => launch.start_by,
        _ => None,
    });
    assert_eq!(start_by, Some(world.now.elapsed.plus(HOUR)));
    // The supervisor came too late and entered nothing.
    world.move_to(world.now.elapsed.plus(HOUR * 2));
    world.see(RunEvidence::NeverEntered);
    let opens = NOON.plus(HOUR * 20);
    assert_eq!(world.state(&key(1)), format!("waiting(window until {opens})"));
    assert_eq!(world.armed(), [(1, 1)]);
}

#[test]
fn what_runs_is_left_alone_when_its_window_closes() {
    let mut world = World::new();
    world.policy.windows = vec![once("window", 0, "2h")];
    world.answers.endless = true;
    let offer = world.package(1, program(an_hour()), false);
    world.offer(vec![offer]);
    world.pass(HOUR * 3);
    assert_eq!(world.state(&key(1)), "running(attempt 1)");
    assert!(!world.done.iter().any(|effect| matches!(effect, Effect::Stop(_))));
}

#[test]
fn a_wrong_wall_clock_opens_no_window() {
    let mut world = World::new();
    world.policy.windows = vec![once("window", 5, "2h")];
    let offer = world.package(1, program(an_hour()), true);
    world.offer(vec![offer]);
    world.now.wall = Wall(world.now.wall.0 + 5 * 3_600_000);
    world.give(Input::Tick);
    world.serve();
    assert_eq!(world.armed(), []);
}

#[test]
fn another_zone_is_another_window() {
    let mut world = World::new();
    let local = json!({"name": "w", "every": "DTSTART:20270101T100000 RRULE:FREQ=DAILY",
        "duration": "2h"});
    world.policy.windows = vec![serde_json::from_value(local).unwrap()];
    let offer = world.package(1, program(an_hour()), true);
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "waiting(window until 2027-01-15T10:00:00Z)");
    let east = TimeZone::fixed(jiff::tz::offset(1));
    world.give(Input::ZoneChanged(east));
    assert_eq!(world.state(&key(1)), "waiting(window until 2027-01-15T09:00:00Z)");
}

#[test]
fn status_shows_what_the_windows_say() {
    let mut world = World::new();
    assert_eq!(world.agent.view(world.now).windows, None);
    world.policy.windows = vec![once("window", 5, "2h"), once("freeze", 30, "2h")];
    world.offer(Vec::new());
    let shown = serde_json::to_value(world.agent.view(world.now).windows).unwrap();
    assert_eq!(shown["of"], json!(["window window-5", "freeze freeze-30"]));
    assert_eq!(shown["runs"]["open"], false);
    assert_eq!(shown["runs"]["until"], json!(NOON.plus(HOUR * 5)));
}

#[test]
fn what_a_user_asks_for_stands_above_windows() {
    let mut world = World::new();
    world.policy.windows = vec![once("window", 5, "2h"), once("freeze", 0, "1h")];
    let offer = world.package(1, program(an_hour()), true);
    world.offer(vec![offer.clone()]);
    assert_eq!(world.armed(), []);
    world.give(Input::Asked(Request::Install { advertisement: offer.advertisement }));
    world.serve();
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}
