use std::time::Duration;

use muster_model::policy::Offer;
use muster_model::state::{State, Waiting, Withdrawal};
use muster_model::wire::device::{Account, AccountEntry};
use serde_json::json;

use super::*;
use crate::input::Input;
use crate::outbox::OUTBOX_BYTES_MAX;
use crate::saved::Saved;
use crate::world::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn nightly(n: u32) -> Key {
    let occurrence = format!("nightly#{n}").parse().unwrap();
    Key { advertisement: advertisement(1), occurrence }
}

/// An offer of `ad-1` each day at noon and some seconds, from the day after the world began on.
fn daily(world: &mut World) -> Offer {
    let offer = world.hello(1);
    by_rule(offer, "DTSTART:20270116T080000Z RRULE:FREQ=DAILY", NOON.plus(24 * HOUR))
}

/// The offer with this rule instead, whose first occurrence is due at `first`.
fn by_rule(mut offer: Offer, every: &str, first: Wall) -> Offer {
    let occurrence = nightly(1).occurrence;
    offer.occurrences = vec![Due { occurrence, at: Some(At::Instant(first)) }];
    let assignment = Name::new("nightly").unwrap();
    offer.recurrences = vec![Recurrence { assignment, every: every.parse().unwrap() }];
    offer
}

/// The states of the first occurrences.
#[track_caller]
fn check(world: &World, expected: &[&str]) {
    let states: Vec<String> =
        (1..).map(|n| world.state(&nightly(n))).take_while(|state| state != "(none)").collect();
    let words: Vec<&str> =
        states.iter().map(|state| state.split(" until").next().unwrap()).collect();
    assert_eq!(words, expected);
}

/// Programs are gone again by the next occurrence, so that each one runs.
fn forgetful(world: &mut World) {
    use crate::input::Found::{Absent, Present};
    world.answers.found.extend((0..20).flat_map(|_| [Absent, Present]));
}

#[test]
fn each_occurrence_runs_at_its_time_and_the_next_one_opens() {
    let mut world = World::new();
    forgetful(&mut world);
    let offer = daily(&mut world);
    world.offer(vec![offer]);
    check(&world, &["waiting(time"]);
    world.pass(24 * HOUR);
    check(&world, &["succeeded(detected)", "waiting(time"]);
    world.pass(24 * HOUR);
    check(&world, &["succeeded(detected)", "succeeded(detected)", "waiting(time"]);
    assert_eq!(world.armed().len(), 2);
}

#[test]
fn a_device_cut_off_from_its_site_goes_on_by_the_rule() {
    let mut world = World::new();
    forgetful(&mut world);
    let offer = daily(&mut world);
    world.offer(vec![offer]);
    world.answers.site_down = true;
    world.pass(5 * 24 * HOUR);
    check(
        &world,
        &["succeeded(detected)"; 5].into_iter().chain(["waiting(time"]).collect::<Vec<_>>(),
    );
}

#[test]
fn many_missed_ones_make_one_late_run_and_each_is_accounted_for() {
    let mut world = World::new();
    forgetful(&mut world);
    let offer = daily(&mut world);
    world.offer(vec![offer]);
    // Off for four days and a half; the site tells the time when it is heard again.
    world.now.wall = world.now.wall.plus(108 * HOUR);
    world.reboot();
    let site_time = Some(NOON.plus(108 * HOUR));
    world.give(Input::NothingNew { site_time });
    world.serve();
    let missed = "expired(missed)";
    check(&world, &[missed, missed, missed, "succeeded(detected)", "waiting(time"]);
    assert_eq!(world.armed().len(), 1);
    assert_eq!(world.story(&nightly(2)), [missed]);
}

#[test]
fn an_unstarted_one_ends_missed_when_the_next_falls_due_and_a_running_one_goes_on() {
    let mut world = World::new();
    forgetful(&mut world);
    world.answers.mute = true;
    let offer = daily(&mut world);
    world.offer(vec![offer]);
    world.pass(30 * HOUR);
    world.answers.conditions.push_back(Some(Waiting::Disk));
    world.pass(18 * HOUR);
    assert_eq!(world.state(&nightly(1)), "expired(missed)");

    let mut world = World::new();
    forgetful(&mut world);
    world.answers.endless = true;
    let offer = world.package(1, program(json!({})), false);
    let offer = by_rule(offer, "DTSTART:20270116T080000Z RRULE:FREQ=DAILY", NOON.plus(24 * HOUR));
    world.offer(vec![offer]);
    world.pass(72 * HOUR);
    check(&world, &["running(attempt 1)", "expired(missed)", "waiting(turn)", "waiting(time"]);
}

#[test]
fn a_full_outbox_opens_nothing_and_with_room_again_the_newest_runs_late() {
    let mut world = World::new();
    forgetful(&mut world);
    let offer = daily(&mut world);
    world.offer(vec![offer]);
    world.pass(24 * HOUR);
    check(&world, &["succeeded(detected)", "waiting(time"]);
    world.answers.site_down = true;
    world.agent.outbox.limit(0);
    let written = world.agent.memory.head;
    world.pass(96 * HOUR);
    check(&world, &["succeeded(detected)", "waiting(outbox)"]);
    assert_eq!(world.agent.memory.head, written, "what there is no room for is not written");
    world.answers.site_down = false;
    world.agent.outbox.limit(OUTBOX_BYTES_MAX);
    world.answers.found.clear();
    forgetful(&mut world);
    world.pass(HOUR);
    let missed = "expired(missed)";
    check(
        &world,
        &["succeeded(detected)", missed, missed, missed, "succeeded(detected)", "waiting(time"],
    );
}

#[test]
fn a_wall_clock_that_jumps_years_runs_nothing_twice_and_skips_nothing() {
    let mut world = World::new();
    forgetful(&mut world);
    let offer = daily(&mut world);
    world.offer(vec![offer]);
    world.pass(24 * HOUR);
    for years in [-20_i64, 10] {
        world.now.wall = Wall(world.now.wall.0 + years * 365 * 86_400_000);
        world.give(Input::Tick);
        world.serve();
        world.reboot();
        world.serve();
    }
    check(&world, &["succeeded(detected)", "waiting(time"]);
    world.pass(24 * HOUR);
    check(&world, &["succeeded(detected)", "succeeded(detected)", "waiting(time"]);
    assert_eq!(world.armed().len(), 2);
}

#[test]
fn a_trusted_time_that_goes_back_opens_nothing_again() {
    let mut world = World::new();
    forgetful(&mut world);
    let offer = daily(&mut world);
    world.offer(vec![offer]);
    world.pass(72 * HOUR);
    let before = world.armed().len();
    // A journal of yesterday's time, today's obligations: a power cut took the last memory.
    world.now.elapsed = muster_model::clock::Elapsed(0);
    world.restart();
    world.pass(95 * HOUR);
    assert_eq!(world.armed().len(), before);
    world.pass(2 * HOUR);
    assert_eq!(world.armed().len(), before + 1);
}

#[test]
fn a_rule_that_was_edited_moves_what_has_not_fallen_due() {
    let mut world = World::new();
    forgetful(&mut world);
    let offer = daily(&mut world);
    world.offer(vec![offer.clone()]);
    world.answers.site_down = true;
    world.pass(48 * HOUR);
    check(&world, &["succeeded(detected)", "succeeded(detected)", "waiting(time"]);
    // The site, not having heard, lists the first two; hourly from the second on.
    let mut hourly =
        by_rule(offer, "DTSTART:20270117T083000Z RRULE:FREQ=HOURLY", NOON.plus(24 * HOUR));
    hourly.revision = 2;
    let second =
        Due { occurrence: nightly(2).occurrence, at: Some(At::Instant(NOON.plus(48 * HOUR))) };
    hourly.occurrences.push(second);
    world.offer(vec![hourly]);
    assert_eq!(world.state(&nightly(3)), "waiting(time until 2027-01-17T08:30:00Z)");
    world.pass(HOUR / 2);
    assert_eq!(world.state(&nightly(3)), "succeeded(detected)");
}

#[test]
fn after_a_rule_has_ended_or_expired_nothing_more_opens() {
    let mut world = World::new();
    forgetful(&mut world);
    let first = NOON.plus(24 * HOUR);
    let offer = world.hello(1);
    let twice = by_rule(offer, "DTSTART:20270116T080000Z RRULE:FREQ=DAILY;COUNT=2", first);
    world.offer(vec![twice]);
    world.pass(96 * HOUR);
    check(&world, &["succeeded(detected)", "succeeded(detected)"]);

    let mut world = World::new();
    let mut offer = daily(&mut world);
    offer.expires = Some(NOON.plus(47 * HOUR));
    world.offer(vec![offer]);
    world.pass(96 * HOUR);
    check(&world, &["succeeded(detected)"]);
}

#[test]
fn what_is_not_for_the_platform_stays_so_when_its_time_is_over() {
    let mut world = World::new();
    let windows = program(json!({"platform": "windows"}));
    let offer = world.package(1, windows, false);
    let offer = by_rule(offer, "DTSTART:20270116T080000Z RRULE:FREQ=DAILY", NOON.plus(24 * HOUR));
    world.offer(vec![offer]);
    world.pass(49 * HOUR);
    check(&world, &["not-applicable(platform)"; 3]);
    let over = |key: &Key| world.agent.obligations[key].stage == Stage::Over;
    assert!(over(&nightly(1)) && !over(&nightly(2)));
}

#[test]
fn a_lost_memory_goes_on_from_the_number_that_the_site_names() {
    let mut world = World::new();
    forgetful(&mut world);
    let mut offer = daily(&mut world);
    offer.occurrences = vec![
        Due { occurrence: nightly(7).occurrence, at: Some(At::Instant(NOON)) },
        Due { occurrence: nightly(8).occurrence, at: Some(At::Instant(NOON.plus(24 * HOUR))) },
    ];
    world.offer(vec![offer]);
    assert_eq!(world.state(&nightly(7)), "succeeded(detected)");
    world.pass(24 * HOUR);
    assert_eq!(world.state(&nightly(8)), "succeeded(detected)");
    assert!(world.state(&nightly(9)).starts_with("waiting(time"));
}

#[test]
fn old_occurrences_are_let_go_of_and_never_made_again() {
    let mut world = World::new();
    world.lawless = true;
    let mut offer = world.hello(1);
    offer.program = program(json!({})).name;
    let hourly = by_rule(offer, "DTSTART:20270115T090000Z RRULE:FREQ=HOURLY", NOON.plus(HOUR));
    world.policy.settings.set("keepRelieved", muster_model::period::Period::hours(6)).unwrap();
    world.offer(vec![hourly]);
    world.pass(72 * HOUR);
    let kept = world.agent.obligations.len();
    assert!(kept <= ENDED_KEPT + 8, "{kept} kept");
    assert_eq!(world.journal.saved.obligations.len(), kept);
    world.advance_policy();
    world.serve();
    assert_eq!(world.state(&nightly(1)), "(none)");
    // A memory of the first release did not note what it let go of.
    world.agent.memory.let_go = None;
    world.advance_policy();
    world.serve();
    assert_eq!(world.state(&nightly(1)), "(none)");
    world.offer(Vec::new());
    assert_eq!(world.agent.memory.let_go, None);
}

#[test]
fn what_was_let_go_of_is_noted_for_as_long_as_it_may_be_listed() {
    let mut world = World::new();
    let offer = world.hello(1);
    let offer = by_rule(offer, "DTSTART:20270115T090000Z RRULE:FREQ=HOURLY", NOON.plus(HOUR));
    world.policy.settings.set("keepRelieved", muster_model::period::Period::hours(6)).unwrap();
    world.offer(vec![offer]);
    world.pass(40 * HOUR);
    let noted =
        |world: &World| world.journal.saved.memory.as_ref().unwrap().let_go.clone().unwrap();
    assert_eq!(noted(&world).len(), 1);
    assert!(noted(&world)[0].through > 10, "{:?}", noted(&world));
    world.lawless = true;
    world.agent.obligations.clear();
    world.offer(Vec::new());
    assert_eq!(noted(&world), []);
}

#[test]
fn after_a_loss_of_memory_an_open_occurrence_older_than_one_that_was_withdrawn_is_taken_up() {
    let mut identity = identity();
    identity.incarnation = muster_model::id::Incarnation(2);
    identity.fresh_incarnation_because = Some("the journal was gone".into());
    let mut world = World::unstarted(identity, Saved::default());
    world.start();
    let Key { advertisement, occurrence } = nightly(7);
    let state = State::Withdrawn { why: Withdrawal::AssignmentRemoved };
    let entry = AccountEntry { advertisement, occurrence, revision: 1, state, attempt: 0 };
    let (device, incarnation, epoch) = (DEVICE, world.identity.incarnation, EPOCH);
    let account = Account { device, incarnation, epoch, obligations: vec![entry] };
    world.give(Input::AccountArrived(account));
    world.serve();
    let offer = world.hello(1);
    let every = "DTSTART:20270115T090000Z RRULE:FREQ=HOURLY";
    let mut offer = by_rule(offer, every, NOON.plus(HOUR));
    offer.occurrences[0].occurrence = nightly(6).occurrence;
    world.offer(vec![offer]);
    assert!(world.state(&nightly(6)).starts_with("waiting(time"), "{}", world.state(&nightly(6)));
}

#[test]
fn rows_without_a_rule_are_written_as_before() {
    let mut world = World::new();
    let offer = world.hello(1);
    world.offer(vec![offer]);
    let saved: &Saved = &world.journal.saved;
    let json = serde_json::to_value(&saved.obligations[0]).unwrap();
    assert!(json.get("times").is_none(), "{json}");
}

#[test]
fn a_device_behind_the_clock_of_its_site_skips_nothing() {
    let mut world = World::new();
    forgetful(&mut world);
    let west = jiff::tz::TimeZone::fixed(jiff::tz::Offset::constant(-8));
    world.give(Input::ZoneChanged(west));
    let every = "DTSTART:20270115T090000 RRULE:FREQ=HOURLY";
    let offer = world.hello(1);
    let mut offer = by_rule(offer, every, NOON);
    let due = |n: u32| Due {
        occurrence: nightly(n).occurrence,
        at: Some(At::Local(jiff::civil::date(2027, 1, 15).at(8 + n as i8, 0, 0, 0))),
    };
    offer.occurrences = vec![due(1)];
    world.offer(vec![offer.clone()]);
    // Three hours later the site is at the third; here it is three in the morning.
    world.pass(3 * HOUR);
    offer.occurrences = vec![due(3), due(4)];
    world.offer(vec![offer]);
    check(&world, &["waiting(time"]);
    world.pass(7 * HOUR);
    check(&world, &["succeeded(detected)", "succeeded(detected)", "waiting(time"]);
}
