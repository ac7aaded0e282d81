use std::time::Duration;

use muster_model::state::Waiting;

use crate::input::{ContentNews, Input};
use crate::sometimes::Branch;
use crate::step::Effect;
use crate::world::*;

/// A world whose one package is being fetched.
fn fetching() -> (World, muster_model::policy::Offer) {
    let mut world = World::new();
    let offer = world.hello(1);
    let programs = std::mem::take(&mut world.programs);
    world.offer(vec![offer.clone()]);
    world.programs = programs;
    (world, offer)
}

fn fetches(world: &World) -> usize {
    world.done.iter().filter(|effect| matches!(effect, Effect::Fetch(_))).count()
}

#[test]
fn progress_is_told_at_most_every_so_often() {
    let (mut world, offer) = fetching();
    for have in 0..300 {
        let news = ContentNews::Progress { have, of: 300 };
        world.give(Input::Content { manifest: offer.package.manifest, news });
        world.move_to(world.now.elapsed.plus(Duration::from_millis(100)));
    }
    assert_eq!(
        world.story(&key(1)),
        [
            "accepted",
            "downloading(0 of 300 bytes)",
            "downloading(100 of 300 bytes)",
            "downloading(200 of 300 bytes)"
        ]
    );
}

#[test]
fn content_that_is_not_to_be_had_is_waited_for_and_tried_again() {
    let (mut world, offer) = fetching();
    let manifest = offer.package.manifest;
    let unavailable = || ContentNews::Unavailable { wait: Waiting::Content, why: "404".to_owned() };
    world.programs.clear();
    for _ in 0..6 {
        world.give(Input::Content { manifest, news: unavailable() });
        world.pass(Duration::from_secs(40));
    }
    assert_eq!(world.state(&key(1)), "waiting(content)");
    assert!(fetches(&world) >= 4, "{}", fetches(&world));
    assert_eq!(world.story(&key(1)).len(), 2);
    assert!(world.agent.fired().has(Branch::ContentUnavailable));
    let news = ContentNews::Progress { have: 1, of: 2 };
    world.give(Input::Content { manifest, news });
    assert_eq!(world.state(&key(1)), "downloading(1 of 2 bytes)");
}

#[test]
fn two_obligations_share_one_fetch_and_the_last_one_drops_it() {
    let mut world = World::new();
    let first = world.hello(1);
    let mut second = first.clone();
    second.advertisement = advertisement(2);
    let manifest = first.package.manifest;
    world.offer(vec![first, second]);
    assert_eq!(fetches(&world), 1);
    let dropped = world.done.iter().filter(|e| **e == Effect::DropContent(manifest)).count();
    assert_eq!(dropped, 1);
    assert!(world.journal.saved.contents.is_empty());
}

#[test]
fn content_is_kept_while_a_withdrawn_program_still_runs() {
    let mut world = World::new();
    let offer = world.hello(1);
    let manifest = offer.package.manifest;
    world.answers.endless = true;
    world.offer(vec![offer]);
    world.offer(Vec::new());
    assert!(!world.done.contains(&Effect::DropContent(manifest)));
    world.see(crate::input::RunEvidence::Exited(exited(0)));
    assert!(world.done.contains(&Effect::DropContent(manifest)));
}

#[test]
fn news_of_content_that_nothing_needs_is_ignored() {
    let mut world = World::new();
    let manifest = muster_model::digest::Digest::of(b"other");
    let news = ContentNews::Progress { have: 1, of: 2 };
    assert_eq!(world.give(Input::Content { manifest, news }).writes, []);
    assert!(world.agent.fired().has(Branch::Ignored));
}
