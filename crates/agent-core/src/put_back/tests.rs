use muster_model::digest::Digest;
use muster_model::id::{Incarnation, Sequence};
use muster_model::policy::PutBack;

use super::*;
use crate::input::Input;
use crate::world::*;

/// A device that was told how a machine goes on whose first own message is the first of this one.
fn told(change: impl Fn(&mut PutBack)) -> World {
    let mut world = World::new();
    let kept = &world.journal.saved.messages[0];
    let mut put_back = PutBack {
        incarnation: world.identity.incarnation,
        sequence: kept.sequence,
        chain: kept.chain,
        life: Incarnation(3),
    };
    change(&mut put_back);
    world.policy.put_back = Some(put_back);
    world.offer(Vec::new());
    world
}

#[track_caller]
fn check_told(change: impl Fn(&mut PutBack), expected: Option<u32>) {
    let world = told(change);
    let goes_on = world.done.iter().find_map(|effect| match effect {
        Effect::GoOnAs(life) => Some(life.0),
        _ => None,
    });
    assert_eq!(goes_on, expected);
}

#[test]
fn only_the_machine_whose_own_message_is_named_goes_on_in_the_life_that_is() {
    check_told(|_| (), Some(3));
    check_told(|put_back| put_back.chain = Digest::of(b"the original's"), None);
    check_told(|put_back| put_back.sequence = Sequence(9), None);
    check_told(|put_back| put_back.incarnation = Incarnation(2), None);
    check_told(|put_back| put_back.life = Incarnation(1), None);
}

#[test]
fn a_crash_before_the_next_life_began_forgets_nothing() {
    let mut world = told(|_| ());
    world.done.clear();
    world.restart();
    assert!(world.done.contains(&Effect::GoOnAs(Incarnation(3))));
}

/// A device that boots while its site takes no messages, though it may be heard, and is meant by an
/// advertisement.
fn booted(is_heard: bool) -> World {
    let mut world = World::new();
    world.serve();
    let offer = world.hello(1);
    if !is_heard {
        world.give(Input::Paused { paused: true });
        world.offer(vec![offer.clone()]);
    }
    world.answers.site_down = true;
    world.reboot();
    if is_heard {
        let site_time = Some(world.now.wall);
        world.give(Input::NothingNew { site_time });
        world.offer(vec![offer]);
    }
    world.serve();
    world
}

#[test]
fn nothing_starts_before_the_first_word_of_a_boot_is_answered() {
    let mut world = booted(true);
    assert_eq!(world.story(&key(1)), ["accepted"]);
    world.pass(Duration::from_secs(30));
    assert_eq!(world.armed(), []);
    world.answers.site_down = false;
    world.pass(Duration::from_secs(20));
    assert_eq!(world.story(&key(1)).last().unwrap(), "succeeded(detected)");
}

#[track_caller]
fn check_started_after(mut world: World, most: Duration) {
    world.pass(most - Duration::from_millis(1));
    assert_eq!(world.armed(), []);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.armed(), [(1, 1)]);
}

#[test]
fn a_site_that_does_not_answer_holds_nothing_back_for_long() {
    check_started_after(booted(true), FIRST_ANSWER_MOST);
    check_started_after(booted(false), UNHEARD_MOST);
}

#[test]
fn an_agent_that_is_restarted_within_a_boot_waits_for_no_answer() {
    let mut world = World::new();
    world.answers.site_down = true;
    world.pass(FIRST_ANSWER_MOST);
    world.restart();
    let offer = world.hello(1);
    world.offer(vec![offer]);
    assert_eq!(world.armed(), [(1, 1)]);
}
