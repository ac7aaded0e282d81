use muster_model::advertisement::Late;
use muster_model::policy::Due;

use super::*;
use crate::input::Input;
use crate::saved::Key;
use crate::world::*;

const HOUR: Duration = Duration::from_secs(3_600);

/// The story of an obligation due so long before (or after) the world began, under a late rule.
#[track_caller]
fn check(late: Late, due: Wall, expected: &[&str]) {
    let mut world = World::new();
    let mut offer = world.hello(1);
    offer.occurrences[0].at = Some(At::Instant(due));
    offer.late = late;
    world.offer(vec![offer]);
    world.pass(2 * HOUR);
    let story = world.story(&key(1));
    let words: Vec<&str> =
        story.iter().map(|state| state.split(" until").next().unwrap()).collect();
    assert_eq!(words, expected, "{late:?} at {due}");
}

#[test]
fn the_late_rule_says_what_becomes_of_a_time_that_went_by() {
    let yesterday = Wall(NOON.0 - 86_400_000);
    let ran = &["accepted", "running(attempt 1)", "succeeded(detected)"];
    check(Late::RunLate, yesterday, ran);
    check(Late::Skip, yesterday, &["accepted", "expired(late)"]);
    check(Late::Ask, yesterday, &["available"]);
    // A minute is not late.
    check(Late::Skip, Wall(NOON.0 - 59_000), ran);
}

#[test]
fn who_was_on_in_time_is_not_late_however_long_it_waits() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    offer.occurrences[0].at = Some(At::Instant(NOON.plus(HOUR)));
    offer.late = Late::Skip;
    offer.stopped = order();
    world.offer(vec![offer.clone()]);
    world.pass(3 * HOUR);
    assert_eq!(world.state(&key(1)), "waiting(stopped)");
    world.restart();
    offer.stopped = None;
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn a_splay_is_each_devices_own_and_the_same_after_a_restart() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    offer.splay = Period::hours(10);
    offer.occurrences[0].at = Some(At::Instant(NOON.plus(HOUR)));
    world.offer(vec![offer.clone()]);
    let own = splay(DEVICE, advertisement(1), offer.splay);
    let starts = NOON.plus(HOUR).plus(own);
    assert_eq!(world.state(&key(1)), format!("waiting(time until {starts})"));
    world.restart();
    world.pass(HOUR + own - Duration::from_secs(1));
    assert_eq!(world.state(&key(1)), format!("waiting(time until {starts})"));
    world.pass(Duration::from_secs(1));
    assert_eq!(world.state(&key(1)), "succeeded(detected)");

    let hour = Period::hours(1);
    let mut starts: Vec<Duration> = (0..1_000)
        .map(|n| splay(DeviceId(uuid::Uuid::from_u128(n)), advertisement(1), hour))
        .collect();
    starts.sort();
    assert!(starts[0] < HOUR / 20 && starts[500] > HOUR / 3 && starts[500] < HOUR * 2 / 3);
    assert!(starts[999] > HOUR * 19 / 20 && starts[999] <= HOUR);
    assert_ne!(splay(DEVICE, advertisement(1), hour), splay(DEVICE, advertisement(2), hour));
}

#[test]
fn as_soon_as_possible_is_splayed_from_when_the_device_learnt_of_it() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    offer.splay = Period::hours(1);
    world.offer(vec![offer]);
    let starts = NOON.plus(splay(DEVICE, advertisement(1), Period::hours(1)));
    world.restart();
    assert_eq!(world.state(&key(1)), format!("waiting(time until {starts})"));
    world.pass(HOUR);
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn a_start_up_assignment_is_due_at_the_next_start_of_the_machine() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    offer.occurrences[0].at = Some(At::StartUp);
    world.offer(vec![offer]);
    world.pass(HOUR);
    world.restart();
    world.serve();
    assert_eq!(world.state(&key(1)), "waiting(start-up)");
    let why = world.agent.why(world.now, &key(1)).unwrap();
    assert_eq!(why.next.what, "the machine starts");
    world.reboot();
    world.serve();
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
    world.reboot();
    world.serve();
    assert_eq!(world.armed().len(), 1);
}

#[test]
fn a_log_on_assignment_is_due_when_next_somebody_logs_on() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    offer.occurrences[0].at = Some(At::LogOn);
    world.offer(vec![offer]);
    let users = |users: &[&str]| Input::Sessions(users.iter().map(|user| (*user).into()).collect());
    world.give(users(&["ada"]));
    world.serve();
    assert_eq!(world.state(&key(1)), "waiting(log-on)");
    world.give(users(&[]));
    world.serve();
    assert_eq!(world.state(&key(1)), "waiting(log-on)");
    world.give(users(&["ada"]));
    world.serve();
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn who_is_logged_on_after_a_restart_of_the_machine_has_logged_on() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    offer.occurrences[0].at = Some(At::LogOn);
    world.offer(vec![offer]);
    let ada = || Input::Sessions(vec!["ada".to_owned()]);
    world.restart();
    world.give(ada());
    world.serve();
    assert_eq!(world.state(&key(1)), "waiting(log-on)");
    world.reboot();
    world.give(ada());
    world.serve();
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn a_late_occurrence_of_a_rule_is_skipped_and_the_next_one_runs_in_time() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    let second = |n: u32| -> Key {
        Key { advertisement: advertisement(1), occurrence: format!("nightly#{n}").parse().unwrap() }
    };
    offer.late = Late::Skip;
    offer.occurrences = vec![Due {
        occurrence: second(4).occurrence,
        at: Some(At::Instant(Wall(NOON.0 - 2 * 3_600_000))),
    }];
    let every = "DTSTART:20270101T060000Z RRULE:FREQ=HOURLY;INTERVAL=3".parse().unwrap();
    let assignment = second(4).occurrence.assignment;
    offer.recurrences = vec![muster_model::policy::Recurrence { assignment, every }];
    world.offer(vec![offer]);
    assert_eq!(world.state(&second(4)), "expired(late)");
    world.pass(HOUR);
    assert_eq!(world.state(&second(5)), "succeeded(detected)");
}

#[test]
fn a_user_starts_what_is_late_or_waits_for_its_time_or_event() {
    for (at, late, before) in [
        (At::Instant(Wall(NOON.0 - 3_600_000)), Late::Ask, "available"),
        (At::Instant(Wall(NOON.0 + 3_600_000)), Late::Skip, "waiting(time until"),
        (At::StartUp, Late::RunLate, "waiting(start-up)"),
    ] {
        let mut world = World::new();
        let mut offer = world.hello(1);
        offer.late = late;
        offer.occurrences[0].at = Some(at);
        world.offer(vec![offer]);
        assert!(world.state(&key(1)).starts_with(before), "{}", world.state(&key(1)));
        let request = crate::user::Request::Install { advertisement: advertisement(1) };
        world.give(Input::Asked(request));
        world.serve();
        assert_eq!(world.state(&key(1)), "succeeded(detected)", "{at}");
    }
}

/// A device that has just started, whose site says `bootGrace: 5m`.
fn just_started(offer: impl FnOnce(&mut muster_model::policy::Offer)) -> World {
    let mut world = World::new();
    world.policy.settings.set("bootGrace", Period::minutes(5)).unwrap();
    world.offer(Vec::new());
    world.reboot();
    let mut hello = world.hello(1);
    offer(&mut hello);
    world.offer(vec![hello]);
    world
}

#[test]
fn after_a_start_of_the_machine_nothing_starts_for_the_boot_grace() {
    let mut world = just_started(|_| {});
    let until = world.agent.trusted(world.now).plus(Duration::from_secs(299));
    assert_eq!(world.state(&key(1)), format!("waiting(boot-grace until {until})"));
    // Neither the agent's own restart nor a correction of the time makes it longer, or tells it anew.
    world.restart();
    world.give(Input::NothingNew {
        site_time: Some(world.agent.trusted(world.now).plus(Duration::from_secs(1))),
    });
    world.serve();
    assert_eq!(world.state(&key(1)), format!("waiting(boot-grace until {until})"));
    world.pass(Duration::from_secs(310));
    assert_eq!(
        world.story(&key(1)),
        [
            "accepted",
            &format!("waiting(boot-grace until {until})"),
            "accepted",
            "running(attempt 1)",
            "succeeded(detected)"
        ]
    );
    // Up for longer than that, the next one starts at once.
    let next = world.hello(2);
    world.offer(vec![next]);
    assert_eq!(world.state(&key(2)), "succeeded(already-present)");
}

#[test]
fn an_emergency_and_a_user_do_not_wait_for_the_boot_grace() {
    let world = just_started(|offer| offer.emergency = true);
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
    let mut world = just_started(|_| {});
    let request = crate::user::Request::Install { advertisement: advertisement(1) };
    world.give(Input::Asked(request));
    world.serve();
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}
