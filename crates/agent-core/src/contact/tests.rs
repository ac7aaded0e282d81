use std::time::Duration;

use muster_model::advertisement::OfflineFor;
use muster_model::clock::Wall;
use muster_model::period::Period;
use muster_model::settings::Setting;

use super::{ANSWER_MOST, CUT_WITHIN};
use crate::backoff::Jitter;
use crate::input::Input;
use crate::step::Effect;
use crate::world::*;

fn polls(world: &World) -> usize {
    world.done.iter().filter(|effect| matches!(effect, Effect::Poll { .. })).count()
}

#[test]
fn a_poll_follows_the_last_answer_at_once() {
    let mut world = World::new();
    assert_eq!(polls(&world), 1);
    world.move_to(world.now.elapsed.plus(Duration::from_secs(55)));
    world.give(Input::NothingNew { site_time: Some(NOON) });
    assert_eq!(polls(&world), 2);
}

#[test]
fn answers_that_come_at_once_are_asked_for_once_a_second_at_most() {
    let mut world = World::new();
    for _ in 0..100 {
        world.give(Input::NothingNew { site_time: None });
        world.move_to(world.now.elapsed.plus(Duration::from_millis(100)));
        world.give(Input::Tick);
    }
    assert!(polls(&world) <= 11, "{}", polls(&world));
}

#[test]
fn after_an_outage_polls_go_on_within_half_of_it() {
    let mut world = World::new();
    for _ in 0..20 {
        world.give(Input::PollFailed { why: "no route".into() });
        let before = polls(&world);
        world.pass(Duration::from_secs(30));
        if polls(&world) == before {
            return;
        }
    }
    panic!("the back-off never grew beyond 30 s in ten minutes");
}

#[test]
fn a_poll_that_breaks_after_an_hour_is_followed_within_seconds_at_a_time_of_the_devices_own() {
    let mut waits = std::collections::BTreeSet::new();
    for device in 0..20 {
        let mut world = World::new();
        world.agent.jitter = Jitter::new(device);
        world.move_to(world.now.elapsed.plus(Duration::from_secs(3_500)));
        world.give(Input::PollFailed { why: "the site restarts".into() });
        let wait = world.agent.contact.poll.due().since(world.now.elapsed);
        assert!(wait <= CUT_WITHIN / 2, "{wait:?}");
        waits.insert(wait);
    }
    assert!(waits.len() > 10, "{waits:?}");
}

#[test]
fn a_question_that_is_never_answered_is_asked_again() {
    let mut world = World::new();
    let held = Setting::PollWait.default().duration();
    world.pass(held + ANSWER_MOST - Duration::from_secs(60));
    assert_eq!(polls(&world), 1);
    world.pass(Duration::from_secs(120));
    assert_eq!(polls(&world), 2);
}

#[test]
fn no_poll_is_held_so_long_that_a_connected_device_takes_its_policy_for_stale() {
    let mut world = World::new();
    let (mut brief, mut longer) = (world.hello(1), world.hello(2));
    brief.offline_for = OfflineFor::AtMost(Period::minutes(30));
    longer.offline_for = OfflineFor::Unlimited;
    world.offer(vec![brief, longer]);
    world.give(Input::NothingNew { site_time: None });
    world.pass(Duration::from_secs(1));
    let last = world.done.iter().rev().find_map(|effect| match effect {
        Effect::Poll { wait, .. } => Some(*wait),
        _ => None,
    });
    assert_eq!(last, Some(Duration::from_secs(600)));
}

#[test]
fn what_is_heard_is_saved_seldom() {
    let mut world = World::new();
    let mut saved = 0;
    for minute in 0..60 {
        let site_time = Some(NOON.plus(Duration::from_secs(60 * minute)));
        let step = world.give(Input::NothingNew { site_time });
        saved += step.writes.len();
        world.move_to(world.now.elapsed.plus(Duration::from_secs(60)));
        world.give(Input::Tick);
    }
    assert!(saved <= 7, "{saved}");
}

#[test]
fn a_wrong_wall_clock_moves_no_trusted_time() {
    let mut world = World::new();
    world.offer(Vec::new());
    world.now.wall = Wall(0);
    assert_eq!(world.agent.trusted(world.now), NOON);
}

#[test]
fn trusted_time_survives_boots_without_a_contact_and_loses_minutes_at_most() {
    let mut world = World::new();
    world.offer(Vec::new());
    for _ in 0..3 {
        world.pass(Duration::from_secs(3_600));
        world.now.wall = Wall(0);
        world.reboot();
    }
    let lost = NOON.plus(Duration::from_secs(3 * 3_600)).since(world.agent.trusted(world.now));
    assert!(lost < Duration::from_secs(3 * 900), "{lost:?}");
}
