use std::time::Duration;

use muster_model::component::{Component, ComponentState, UpgradeWaiting};
use muster_model::message::Body;
use muster_model::settings::Value;

use crate::input::{Found, Input, RunEvidence};
use crate::saved::Saved;
use crate::world::*;

/// Where software distribution was said to stand, each time.
fn said(world: &World) -> Vec<String> {
    let of = |components: Vec<Component>| components[0].to_string();
    let told = world.bodies().into_iter().filter_map(|body| match body {
        Body::Components { components } => Some(of(components)),
        _ => None,
    });
    told.map(|text| text.replace("software-distribution ", "")).collect()
}

fn switch(world: &mut World, to: Value) {
    world.policy.settings.set("softwareDistribution", to).unwrap();
    world.advance_policy();
    world.serve();
}

fn told() -> World {
    let mut world = World::new();
    world.give(Input::Paused { paused: false });
    world
}

#[test]
fn before_the_first_policy_it_is_pending_and_nothing_is_said() {
    let mut world = told();
    assert_eq!(world.agent.components()[0].state.to_string(), "install-pending(policy)");
    assert_eq!(
        world.agent.components()[1].to_string(),
        "inventory not-available(not-in-this-version)"
    );
    assert!(said(&world).is_empty());
    world.advance_policy();
    assert_eq!(said(&world), ["installed"]);
    world.restart();
    world.give(Input::Paused { paused: false });
    assert_eq!(said(&world), ["installed"], "a restart is no news");
}

#[test]
fn a_lost_memory_is_pending_until_the_account_is_here() {
    let mut identity = identity();
    identity.fresh_incarnation_because = Some("it was missing".into());
    let mut world = World::unstarted(identity, Saved::default());
    world.start();
    assert_eq!(world.agent.components()[0].state.to_string(), "install-pending(account)");
}

#[test]
fn a_pause_and_its_end_are_said() {
    let mut world = told();
    world.advance_policy();
    world.give(Input::Paused { paused: true });
    world.give(Input::Paused { paused: false });
    assert_eq!(said(&world), ["installed", "paused", "installed"]);
}

#[test]
fn the_site_switches_it_off_and_nothing_new_starts() {
    let mut world = told();
    switch(&mut world, Value::Off);
    let offer = world.hello(1);
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "waiting(switched-off)");
    assert!(world.armed().is_empty());
    let chain = world.agent.why(world.now, &key(1)).unwrap();
    assert!(chain.next.what.contains("switches software distribution on"), "{chain:?}");
    switch(&mut world, Value::On);
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
    assert_eq!(said(&world), ["not-available(switched-off)", "installed"]);
}

#[test]
fn switching_off_ends_no_run() {
    let mut world = told();
    world.answers.endless = true;
    let offer = world.hello(1);
    world.offer(vec![offer]);
    switch(&mut world, Value::Off);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.state(&key(1)), "running(attempt 1)");
    world.answers.found = [Found::Present].into();
    world.see(RunEvidence::Exited(exited(0)));
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn a_newer_program_on_the_disk_waits_for_the_run_and_then_for_a_restart() {
    let mut world = told();
    world.answers.endless = true;
    let offer = world.hello(1);
    world.offer(vec![offer]);
    world.give(Input::UpgradeWaits(true));
    let state = world.agent.components()[0].state;
    assert_eq!(state, ComponentState::UpgradeWaiting { reason: UpgradeWaiting::InUse });
    world.answers.found = [Found::Present].into();
    world.see(RunEvidence::Exited(exited(0)));
    let state = world.agent.components()[0].state;
    assert_eq!(state, ComponentState::UpgradeWaiting { reason: UpgradeWaiting::Restart });
}
