use jiff::tz::TimeZone;
use muster_model::id::{BootId, Incarnation};
use muster_model::message::Body;

use crate::agent::Agent;
use crate::input::Input;
use crate::saved::Saved;
use crate::step::{Effect, Step};
use crate::world::*;

#[test]
fn before_it_is_started_a_machine_does_nothing() {
    let mut agent = Agent::restore(&identity(), Saved::default());
    let now = World::new().now;
    assert_eq!(agent.handle(now, Input::Tick), Step::default());
    assert_eq!(agent.handle(now, Input::LinkUp), Step::default());
    assert_eq!(agent.next_deadline(), None);
}

#[test]
fn a_start_says_the_facts_and_asks_for_the_policy() {
    let world = World::new();
    assert_eq!(world.bodies(), [Body::AgentStarted { facts: facts() }]);
    assert!(world.waiting.iter().any(|effect| matches!(effect, Effect::Poll { tag: None, .. })));
    assert!(!world.waiting.contains(&Effect::FetchAccount));
}

#[test]
fn an_agent_that_is_restarted_again_and_again_says_so_once() {
    let mut world = World::new();
    for _ in 0..10 {
        world.restart();
    }
    assert_eq!(world.bodies().len(), 1);
    world.reboot();
    assert_eq!(world.bodies().len(), 2);
}

#[test]
fn a_second_started_is_ignored() {
    let mut world = World::new();
    let boot = BootId("other".into());
    let step = world.give(Input::Started {
        boot,
        facts: facts(),
        zone: TimeZone::UTC,
        seed: 1,
        found: Vec::new(),
    });
    assert_eq!(step.writes, []);
}

#[test]
fn a_journal_of_another_incarnation_is_not_taken_up() {
    let mut world = World::new();
    let offer = world.hello(1);
    world.offer(vec![offer]);
    let mut identity = identity();
    identity.incarnation = Incarnation(2);
    let agent = Agent::restore(&identity, world.journal.saved.clone());
    assert_eq!(agent.view(world.now).obligations, []);
    assert_eq!(agent.memory.head.0, 0);
}

#[test]
fn content_on_its_way_is_asked_for_again() {
    let mut world = World::new();
    let offer = world.hello(1);
    let package = offer.package.clone();
    world.programs.clear();
    world.offer(vec![offer]);
    world.restart();
    assert!(world.waiting.contains(&Effect::Fetch(package)));
}
