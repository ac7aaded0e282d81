use std::time::Duration;

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::release::AgentRelease;
use muster_model::state::Waiting;

use super::ReleaseNews;
use crate::input::{Found, Input, RunEvidence};
use crate::step::Effect;
use crate::versions::Footing;
use crate::world::*;

const HOUR: Duration = Duration::from_secs(3_600);

/// A device that runs the installed 0.1 and is meant to take up `version`.
fn offered(version: &str, release: AgentRelease) -> (World, Digest) {
    let mut world = World::new();
    world.restart_on(Footing { version: "0.1".into(), ..Footing::default() });
    let offer = world.release(1, version, release);
    let manifest = offer.package.manifest;
    world.offer(vec![offer]);
    (world, manifest)
}

/// A device on whose installed 0.1 a program runs that does not end, and is meant to take up `0.2`.
fn offered_during_a_run() -> World {
    let mut world = World::new();
    world.restart_on(installed(None));
    world.answers.endless = true;
    let (hello, release) = (world.hello(2), world.release(1, "0.2", AgentRelease::default()));
    world.offer(vec![hello.clone()]);
    world.offer(vec![release, hello]);
    world
}

fn installed(returned: Option<(Digest, String)>) -> Footing {
    Footing { version: "0.1".into(), returned, ..Footing::default() }
}

fn release(manifest: Digest, on_trial: bool) -> Footing {
    Footing { version: "0.2".into(), release: Some(manifest), on_trial, returned: None }
}

fn taken_up(world: &World) -> usize {
    world.done.iter().filter(|effect| matches!(effect, Effect::TakeUp { .. })).count()
}

/// The site answers the poll that is under way.
fn hear(world: &mut World) {
    let site_time = Some(Wall(world.now.wall.0));
    world.give(Input::NothingNew { site_time });
    world.serve();
}

#[test]
fn a_release_is_taken_up_and_stands_once_the_site_has_answered_it() {
    let (mut world, manifest) = offered("0.2", AgentRelease::default());
    assert_eq!((world.state(&key(1)).as_str(), taken_up(&world)), ("running(attempt 1)", 1));
    world.restart_on(release(manifest, true));
    assert_eq!(world.state(&key(1)), "running(attempt 1)");
    assert_eq!(world.agent.components()[0].state.to_string(), "upgrade-waiting(trial)");
    hear(&mut world);
    assert!(world.done.contains(&Effect::TrialPassed(manifest)));
    assert_eq!(world.state(&key(1)), "running(attempt 1)", "not before it is durable");
    world.give(Input::Release { manifest, news: ReleaseNews::Passed });
    assert_eq!(world.state(&key(1)), "succeeded(reached-site)");
    assert_eq!(taken_up(&world), 1);
}

#[test]
fn a_power_cut_after_the_trial_was_passed_loses_nothing() {
    let (mut world, manifest) = offered("0.2", AgentRelease::default());
    world.restart_on(release(manifest, true));
    hear(&mut world);
    world.boot += 1;
    world.restart_on(release(manifest, false));
    assert_eq!(world.state(&key(1)), "succeeded(reached-site)");
}

#[test]
fn one_that_did_not_reach_the_site_is_told_and_not_tried_again() {
    let (mut world, manifest) = offered("0.2", AgentRelease::default());
    let why = "it did not reach the site within 2m";
    world.restart_on(installed(Some((manifest, why.into()))));
    assert_eq!(world.state(&key(1)), format!("failed(returned: {why})"));
    assert!(world.done.contains(&Effect::ReturnTold(manifest)));
    world.pass(HOUR);
    world.restart_on(installed(None));
    assert_eq!(taken_up(&world), 1);
}

#[test]
fn a_crash_before_the_trial_began_takes_it_up_again() {
    let (mut world, _) = offered("0.2", AgentRelease::default());
    world.restart_on(installed(None));
    world.serve();
    assert_eq!((world.state(&key(1)).as_str(), taken_up(&world)), ("running(attempt 1)", 2));
}

#[test]
fn a_run_is_waited_for_but_not_for_ever() {
    let mut world = offered_during_a_run();
    assert!(world.state(&key(1)).starts_with("waiting(turn until "), "{}", world.state(&key(1)));
    assert_eq!(world.agent.components()[0].state.to_string(), "upgrade-waiting(in-use)");
    world.pass(23 * HOUR);
    world.restart_on(installed(None));
    assert_eq!(taken_up(&world), 0);
    world.pass(HOUR + Duration::from_secs(1));
    assert_eq!((world.state(&key(1)).as_str(), taken_up(&world)), ("running(attempt 1)", 1));
    assert_eq!(world.state(&key(2)), "running(attempt 1)", "no run is touched");
    world.answers.found = [Found::Present].into();
    world.see(RunEvidence::Exited(exited(0)));
    assert_eq!(world.state(&key(2)), "succeeded(detected)");
}

#[test]
fn the_end_of_the_run_is_the_end_of_the_wait() {
    let mut world = offered_during_a_run();
    world.answers.found = [Found::Present].into();
    world.see(RunEvidence::Exited(exited(0)));
    assert_eq!(taken_up(&world), 1);
}

#[test]
fn what_runs_already_is_there_and_what_is_older_is_not_for_it() {
    let (world, _) = offered("0.1", AgentRelease::default());
    assert_eq!(world.state(&key(1)), "succeeded(already-present)");
    let (mut world, _) = offered("0.0.9", AgentRelease::default());
    assert_eq!(world.state(&key(1)), "not-applicable(newer-present)");
    world.pass(HOUR);
    assert_eq!(taken_up(&world), 0);
    let (world, _) = offered("0.0.9", AgentRelease { downgrade: true });
    assert_eq!((world.state(&key(1)).as_str(), taken_up(&world)), ("running(attempt 1)", 1));
}

#[test]
fn what_could_not_be_taken_up_waits_or_fails_by_name() {
    let (mut world, manifest) = offered("0.2", AgentRelease::default());
    let why = "the disk is full".to_owned();
    let full = ReleaseNews::NotTaken { wait: Some(Waiting::Disk), why };
    world.give(Input::Release { manifest, news: full });
    assert_eq!((world.state(&key(1)).as_str(), taken_up(&world)), ("waiting(disk)", 1));
    world.pass(Duration::from_secs(31));
    assert_eq!(taken_up(&world), 2);
    let never = ReleaseNews::NotTaken { wait: None, why: "no `muster` in it".into() };
    world.give(Input::Release { manifest, news: never });
    assert_eq!(world.state(&key(1)), "failed(not-started: no `muster` in it)");
}
