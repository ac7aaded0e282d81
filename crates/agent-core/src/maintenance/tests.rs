use std::time::Duration;

use muster_model::component::{ComponentState, RepairPending};
use muster_model::digest::Digest;
use muster_model::message::Body;
use muster_model::settings::Value;
use muster_model::verification::{Check, RepairState, VerifiedBy};

use super::{FAULTS_MAX, Fault, Findings, IN_USE_MOST, RepairStage};
use crate::input::{ContentNews, Found, Input, RunEvidence};
use crate::sometimes::Branch;
use crate::step::Effect;
use crate::user::{Promise, Request};
use crate::world::*;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// What a look found: one check, and what of it can be mended.
fn found(faults: Vec<Fault>) -> Findings {
    let check = Check {
        name: "folders".into(),
        ok: faults.is_empty(),
        detail: "seen".into(),
        remedy: String::new(),
    };
    Findings { checks: vec![check], faults }
}

fn folder() -> Fault {
    Fault::FolderMissing { folder: "requests".into() }
}

/// A world that is verified when a person asks.
fn verify(world: &mut World, findings: Findings) {
    world.give(Input::Asked(Request::Verify));
    world.serve();
    world.give(Input::Verified(findings));
    world.serve();
}

/// Much time passes at once, as it does for a machine that sleeps.
fn leap(world: &mut World, time: Duration) {
    world.move_to(world.now.elapsed.plus(time));
    world.give(Input::Tick);
    world.serve();
}

fn verifications(world: &World) -> usize {
    world.done.iter().filter(|effect| **effect == Effect::Verify).count()
}

/// Every verification and repair that was said, as people read it.
fn said(world: &World) -> Vec<String> {
    let bodies = world.bodies();
    let ours = bodies.iter().filter(|body| matches!(body, Body::Verified(_) | Body::Repair(_)));
    ours.map(|body| body.status().text).collect()
}

fn stages(world: &World) -> Vec<RepairStage> {
    world.agent.memory.maintenance.repairs.iter().map(|record| record.stage).collect()
}

fn set(world: &mut World, name: &str, value: &str) {
    world.policy.settings.set(name, value.parse::<Value>().unwrap()).unwrap();
    world.advance_policy();
    world.serve();
}

/// A world whose program goes on until the test ends it, and the manifest of its package.
fn running() -> (World, Digest) {
    let mut world = World::new();
    world.answers.endless = true;
    let offer = world.hello(1);
    let manifest = offer.package.manifest;
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "running(attempt 1)");
    (world, manifest)
}

/// The program ends well, and detection finds what it installed.
fn end(world: &mut World) {
    world.answers.found = [Found::Present].into();
    let run = world.run_in_journal();
    world.give(Input::RunSeen { run, evidence: RunEvidence::Exited(exited(0)) });
    world.serve();
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn a_device_verifies_itself_by_interval_and_says_what_it_found() {
    let mut world = World::new();
    world.advance_policy();
    leap(&mut world, 30 * DAY - HOUR);
    assert_eq!(verifications(&world), 0);
    leap(&mut world, 2 * HOUR);
    assert_eq!(verifications(&world), 1);
    world.give(Input::Verified(found(Vec::new())));
    assert_eq!(said(&world), ["verified: all well"]);
    leap(&mut world, 29 * DAY);
    assert_eq!(verifications(&world), 1);
    leap(&mut world, DAY);
    assert_eq!(verifications(&world), 2);
}

#[test]
fn the_interval_is_kept_through_restarts_and_a_clock_that_was_ahead() {
    let mut world = World::new();
    world.advance_policy();
    leap(&mut world, 20 * DAY);
    world.restart();
    leap(&mut world, 11 * DAY);
    assert_eq!(verifications(&world), 1);
    // Of what was asked and not answered a restart asks again.
    world.restart();
    leap(&mut world, HOUR);
    assert_eq!(verifications(&world), 2);
    world.give(Input::Verified(found(Vec::new())));
    world.agent.memory.maintenance.counted_from = Some(NOON.plus(DAY * 4_000));
    leap(&mut world, HOUR);
    leap(&mut world, 30 * DAY);
    assert_eq!(verifications(&world), 3);
}

#[test]
fn verification_can_be_set_short_and_switched_off() {
    let mut world = World::new();
    set(&mut world, "verifyEvery", "off");
    leap(&mut world, 100 * DAY);
    assert_eq!(verifications(&world), 0);
    set(&mut world, "verifyEvery", "1s");
    assert_eq!(verifications(&world), 1);
    // One at a time, however long it takes.
    leap(&mut world, HOUR);
    assert_eq!(verifications(&world), 1);
    for _ in 0..5 {
        world.give(Input::Verified(found(Vec::new())));
        world.pass(Duration::from_secs(2));
    }
    assert_eq!(verifications(&world), 6);
    assert_eq!(said(&world).len(), 1, "the same again and again fills no outbox");
    world.give(Input::Verified(found(vec![folder()])));
    assert_eq!(said(&world).len(), 2, "news is told at once");
}

#[test]
fn a_person_asks_and_the_site_is_told() {
    let mut world = World::new();
    world.advance_policy();
    assert_eq!(world.agent.weigh(world.now, &Request::Verify), Ok(Promise::Verifies));
    verify(&mut world, found(Vec::new()));
    let by = world.bodies().iter().find_map(|body| match body {
        Body::Verified(verification) => Some(verification.by),
        _ => None,
    });
    assert_eq!(by, Some(VerifiedBy::Person));
    // Asked again at once it is looked again, and the same is not said twice.
    verify(&mut world, found(Vec::new()));
    assert_eq!((verifications(&world), said(&world).len()), (2, 1));
    world.pass(Duration::from_secs(61));
    verify(&mut world, found(Vec::new()));
    assert_eq!(said(&world).len(), 2);
}

#[test]
fn a_verification_that_nobody_asked_for_is_ignored() {
    let mut world = World::new();
    world.give(Input::Verified(found(vec![folder()])));
    world.give(Input::Repaired { fault: folder(), failed: None });
    assert!(world.agent.fired().has(Branch::Ignored));
    assert!(said(&world).is_empty() && stages(&world).is_empty());
}

#[test]
fn what_was_found_is_mended_and_both_are_said() {
    let mut world = World::new();
    world.advance_policy();
    verify(&mut world, found(vec![folder()]));
    assert!(world.done.contains(&Effect::Repair(folder())));
    assert_eq!(stages(&world), [RepairStage::UnderWay]);
    world.give(Input::Repaired { fault: folder(), failed: None });
    assert!(stages(&world).is_empty());
    assert_eq!(
        said(&world),
        ["verified: 1 of 1 checks failed: folders (seen)", "repair of folder requests: mended"]
    );
}

#[test]
fn once_all_is_mended_it_is_looked_once_more_and_never_in_a_loop() {
    let mut world = World::new();
    world.advance_policy();
    verify(&mut world, found(vec![folder()]));
    world.give(Input::Repaired { fault: folder(), failed: None });
    assert_eq!(verifications(&world), 2);
    // It is damaged again at once, and mended again.
    world.give(Input::Verified(found(vec![folder()])));
    world.give(Input::Repaired { fault: folder(), failed: None });
    assert_eq!((verifications(&world), stages(&world).len()), (2, 0));
}

#[test]
fn a_repair_goes_on_after_a_restart() {
    let mut world = World::new();
    world.advance_policy();
    verify(&mut world, found(vec![folder()]));
    world.done.clear();
    world.restart();
    assert_eq!(world.done.iter().filter(|done| **done == Effect::Repair(folder())).count(), 1);
    world.give(Input::Repaired { fault: folder(), failed: None });
    assert!(stages(&world).is_empty());
}

#[test]
fn a_repair_that_failed_is_said_and_tried_again_by_the_next_verification() {
    let mut world = World::new();
    world.advance_policy();
    world.give(Input::Paused { paused: false });
    verify(&mut world, found(vec![folder()]));
    world.give(Input::Repaired { fault: folder(), failed: Some("no room".into()) });
    assert_eq!(said(&world)[1], "repair of folder requests: failed: no room");
    let state = world.agent.components()[0].state;
    assert_eq!(state, ComponentState::RepairPending { reason: RepairPending::Retry });
    world.done.clear();
    leap(&mut world, HOUR);
    assert!(!world.done.contains(&Effect::Repair(folder())));
    verify(&mut world, found(vec![folder()]));
    assert!(world.done.contains(&Effect::Repair(folder())));
}

#[test]
fn what_somebody_else_mended_is_no_longer_waited_for() {
    let mut world = World::new();
    world.advance_policy();
    verify(&mut world, found(vec![folder()]));
    world.give(Input::Repaired { fault: folder(), failed: Some("no room".into()) });
    verify(&mut world, found(Vec::new()));
    assert!(stages(&world).is_empty());
    assert_eq!(said(&world).last().unwrap(), "repair of folder requests: mended");
}

#[test]
fn damaged_content_is_fetched_again() {
    let mut world = World::new();
    // Content waits here for its time.
    let mut offer = world.hello(1);
    let later = muster_model::advertisement::At::Instant(NOON.plus(DAY));
    offer.occurrences[0].at = Some(later);
    let manifest = offer.package.manifest;
    world.offer(vec![offer]);
    let fetches =
        |world: &World| world.done.iter().filter(|done| matches!(done, Effect::Fetch(_))).count();
    assert_eq!(fetches(&world), 1);
    verify(&mut world, found(vec![Fault::Content { manifest }]));
    assert_eq!(fetches(&world), 2);
    let what = format!("repair of content {}: mended", manifest.short());
    assert_eq!(said(&world).last(), Some(&what));
    leap(&mut world, 2 * DAY);
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn a_fetch_that_takes_long_is_no_second_repair_and_survives_a_restart() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    offer.occurrences[0].at = Some(muster_model::advertisement::At::Instant(NOON.plus(DAY)));
    let manifest = offer.package.manifest;
    world.offer(vec![offer]);
    let manifested = world.programs.remove(&manifest).unwrap();
    verify(&mut world, found(vec![Fault::Content { manifest }]));
    world.restart();
    world.serve();
    assert_eq!(stages(&world), [RepairStage::UnderWay]);
    verify(&mut world, found(Vec::new()));
    assert_eq!(stages(&world), [RepairStage::UnderWay]);
    let news = ContentNews::Ready(Box::new(manifested));
    world.give(Input::Content { manifest, news });
    assert!(stages(&world).is_empty());
}

#[test]
fn a_repair_of_what_a_run_uses_waits_for_the_run() {
    let (mut world, manifest) = running();
    let run = world.run();
    let fault = Fault::Content { manifest };
    world.done.clear();
    verify(&mut world, found(vec![fault.clone()]));
    verify(&mut world, found(vec![fault]));
    assert!(matches!(stages(&world)[..], [RepairStage::InUse { run: user, .. }] if user == run));
    assert!(!world.done.iter().any(|done| matches!(done, Effect::Fetch(_))), "{:?}", world.done);
    let waits = format!("repair of content {}: waiting(in-use by run {run}", manifest.short());
    assert_eq!(said(&world).iter().filter(|text| text.starts_with(&waits)).count(), 1);
    end(&mut world);
    assert!(stages(&world).is_empty(), "what nothing needs any more is not mended");
    let last = world.bodies().pop().unwrap();
    let Body::Repair(repair) = last else { panic!("{last:?}") };
    assert_eq!(repair.state, RepairState::Mended);
}

#[test]
fn a_run_without_an_end_puts_no_repair_off_for_ever_and_is_not_touched() {
    let (mut world, _) = running();
    let fault = Fault::Mode { path: "runs".into() };
    verify(&mut world, found(vec![fault.clone()]));
    world.done.clear();
    leap(&mut world, IN_USE_MOST - HOUR);
    assert!(!world.done.contains(&Effect::Repair(fault.clone())));
    leap(&mut world, 2 * HOUR);
    assert!(world.done.contains(&Effect::Repair(fault)));
    let touched = |done: &Effect| {
        matches!(done, Effect::Stop(_) | Effect::Clean(_) | Effect::Discard(_) | Effect::Restart)
    };
    assert!(!world.done.iter().any(touched), "{:?}", world.done);
    assert_eq!(world.state(&key(1)), "running(attempt 1)");
}

/// The first founding failure (Q283130): verification and repair during a run.
#[test]
fn verifying_and_mending_every_second_leaves_a_run_alone() {
    let (mut world, manifest) = running();
    set(&mut world, "verifyEvery", "1s");
    let faults = vec![folder(), Fault::Mode { path: "runs".into() }, Fault::Content { manifest }];
    world.done.clear();
    for second in 0..120 {
        world.pass(Duration::from_secs(1));
        world.give(Input::Verified(found(faults.clone())));
        world
            .give(Input::Repaired { fault: folder(), failed: (second % 3 == 0).then(String::new) });
        if second % 30 == 0 {
            world.restart();
            world
                .give(Input::RunSeen { run: world.run_in_journal(), evidence: RunEvidence::Alive });
        }
    }
    let touched = |done: &&Effect| {
        matches!(
            done,
            Effect::Stop(_)
                | Effect::Clean(_)
                | Effect::Discard(_)
                | Effect::Arm(_)
                | Effect::Fetch(_)
                | Effect::DropContent(_)
        )
    };
    assert_eq!(world.done.iter().find(touched), None);
    end(&mut world);
    assert_eq!(
        world.story(&key(1)).iter().filter(|state| *state == "running(attempt 1)").count(),
        1
    );
}

#[test]
fn faults_are_bounded_and_one_is_one() {
    let mut world = World::new();
    world.advance_policy();
    let many = (0..1_000).map(|n| Fault::Mode { path: format!("file-{n}") });
    verify(&mut world, found(many.chain([folder(), folder()]).collect()));
    assert_eq!(stages(&world).len(), FAULTS_MAX);
}

#[test]
fn a_memory_without_maintenance_is_written_as_before() {
    let mut memory = World::new().agent.memory;
    memory.maintenance = super::Maintenance::default();
    let written = serde_json::to_value(&memory).unwrap();
    assert_eq!(written.get("maintenance"), None);
    assert_eq!(serde_json::from_value::<crate::saved::Memory>(written).unwrap(), memory);
}
