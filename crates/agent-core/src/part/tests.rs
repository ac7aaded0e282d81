use std::time::Duration;

use muster_model::facts::Fact;
use muster_model::policy::{Offer, PinnedProgram};
use serde_json::{Value, json};

use crate::input::{ContentNews, Found, Input, RunEvidence};
use crate::step::Effect;
use crate::world::*;

/// `base@1`, published under number `n`, whose program `install` has more fields.
fn base(world: &mut World, n: u128, more: Value, detects: bool) -> PinnedProgram {
    let mut offer = world.package(n, program(more), detects);
    offer.package.name = "base".parse().unwrap();
    PinnedProgram { package: offer.package, program: offer.program }
}

/// An offer of a program that depends on `base@1`.
fn dependent(world: &mut World, n: u128, base: &PinnedProgram, detects: bool) -> Offer {
    let on = json!({"dependsOn": {"package": "base@1", "program": "install"}});
    let mut offer = world.package(n, program(on), detects);
    offer.dependencies = vec![base.clone()];
    offer
}

fn dependencies(world: &World) -> Vec<Option<String>> {
    let reports = world.reports(&key(1));
    reports.iter().map(|report| report.dependency.as_ref().map(ToString::to_string)).collect()
}

#[test]
fn what_goes_before_runs_first_and_has_its_own_evidence() {
    let mut world = World::new();
    let base = base(&mut world, 9, json!({}), false);
    let offer = dependent(&mut world, 1, &base, false);
    world.offer(vec![offer]);
    let story = [
        "accepted",
        "running(attempt 1)",
        "[succeeded(exit-code)] accepted",
        "running(attempt 2)",
        "succeeded(exit-code)",
    ];
    assert_eq!(world.story(&key(1)), story);
    let base = Some("`install` of base@1".to_owned());
    assert_eq!(dependencies(&world), [None, base.clone(), base, None, None]);
    let manifests: Vec<_> = world.armed().iter().map(|(attempt, _)| *attempt).collect();
    assert_eq!(manifests, [1, 2]);
}

#[test]
fn what_goes_before_and_is_there_already_is_not_run() {
    let mut world = World::new();
    let base = base(&mut world, 9, json!({}), true);
    let offer = dependent(&mut world, 1, &base, false);
    world.answers.found.push_back(Found::Present);
    world.offer(vec![offer]);
    let story = [
        "accepted",
        "[succeeded(already-present)] accepted",
        "running(attempt 1)",
        "succeeded(exit-code)",
    ];
    assert_eq!(world.story(&key(1)), story);
}

#[test]
fn a_failed_dependency_blocks_with_its_name_after_its_own_attempts() {
    let mut world = World::new();
    let base = base(&mut world, 9, json!({"attempts": 2, "retryDelays": ["1m"]}), false);
    let offer = dependent(&mut world, 1, &base, false);
    world.answers.exits.extend([exited(7), exited(7)]);
    world.offer(vec![offer]);
    world.pass(Duration::from_secs(61));
    let failed =
        "failed(dependency (exit code 7): `install` of base@1: failed(exit-code (exit code 7)))";
    assert_eq!(world.state(&key(1)), failed);
    assert_eq!(world.armed(), [(1, 1), (2, 1)]);
}

#[test]
fn each_part_has_its_own_attempts() {
    let mut world = World::new();
    let base = base(&mut world, 9, json!({"attempts": 2, "retryDelays": ["1m"]}), false);
    let on = json!({"dependsOn": {"package": "base@1", "program": "install"}, "attempts": 2,
        "retryDelays": ["1m"]});
    let mut offer = world.package(1, program(on), false);
    offer.dependencies = vec![base];
    world.answers.exits.extend([exited(7), exited(0), exited(7), exited(0)]);
    world.offer(vec![offer]);
    world.pass(Duration::from_secs(125));
    assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
    assert_eq!(world.armed().len(), 4);
}

#[test]
fn a_restart_between_the_parts_repeats_nothing() {
    let mut world = World::new();
    let base = base(&mut world, 9, json!({}), false);
    let offer = dependent(&mut world, 1, &base, false);
    world.answers.endless = true;
    world.offer(vec![offer]);
    world.restart();
    world.see(RunEvidence::Exited(exited(0)));
    world.restart();
    world.serve();
    assert_eq!(world.armed(), [(1, 1), (2, 1)]);
    world.see(RunEvidence::Exited(exited(0)));
    assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
}

#[test]
fn a_dependency_without_detection_runs_once_on_a_device() {
    let mut world = World::new();
    let base = base(&mut world, 9, json!({}), false);
    let (one, two) =
        (dependent(&mut world, 1, &base, false), dependent(&mut world, 2, &base, false));
    world.offer(vec![one, two]);
    world.pass(Duration::from_secs(600));
    let both = [world.story(&key(1)), world.story(&key(2))].concat();
    let skipped = both.iter().filter(|one| *one == "[succeeded(already-ran)] accepted").count();
    assert_eq!(skipped, 1, "{both:?}");
    assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
    assert_eq!(world.state(&key(2)), "succeeded(exit-code)");
    assert_eq!(world.armed().len(), 3);
}

#[test]
fn a_dependency_that_an_edit_makes_the_advertised_program_is_not_run_again() {
    let mut world = World::new();
    let base = base(&mut world, 9, json!({"rerun": "never"}), false);
    let mut offer = dependent(&mut world, 1, &base, false);
    world.answers.endless = true;
    world.offer(vec![offer.clone()]);
    world.see(RunEvidence::Exited(exited(0)));
    // The advertised program is under way by now, and fails; it would be tried again.
    offer.revision = 2;
    (offer.package, offer.program) = (base.package, base.program);
    offer.dependencies.clear();
    world.offer(vec![offer]);
    world.see(RunEvidence::Exited(exited(3)));
    world.pass(Duration::from_secs(3_600));
    assert_eq!(world.state(&key(1)), "succeeded(already-ran)");
    assert_eq!(world.armed().len(), 2);
}

#[test]
fn a_chain_that_the_site_left_out_or_changed_is_not_gone_along() {
    let mut world = World::new();
    let base = base(&mut world, 9, json!({}), false);
    let whole = dependent(&mut world, 1, &base, false);
    let mut without = whole.clone();
    without.dependencies.clear();
    world.offer(vec![without]);
    assert_eq!(world.state(&key(1)), "waiting(dependency)");
    let mut other = whole.clone();
    other.dependencies[0].package.version = "2".to_owned();
    world.offer(vec![other]);
    assert_eq!(world.state(&key(1)), "waiting(dependency)");
    let mut more = whole.clone();
    more.dependencies.insert(0, base.clone());
    world.offer(vec![more]);
    assert_eq!(world.state(&key(1)), "waiting(dependency)");
    assert_eq!(world.armed(), []);
    world.offer(vec![whole]);
    assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
}

#[test]
fn nothing_goes_before_a_program_that_is_not_for_this_machine() {
    let mut world = World::new();
    let base = base(&mut world, 9, json!({}), false);
    let on = json!({"platform": "windows",
        "dependsOn": {"package": "base@1", "program": "install"}});
    let mut offer = world.package(1, program(on), false);
    offer.dependencies = vec![base];
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "not-applicable(platform)");
    assert_eq!(world.armed(), []);
}

#[test]
fn refused_content_of_a_dependency_is_the_end_and_names_it() {
    let mut world = World::new();
    let base = base(&mut world, 9, json!({}), false);
    let manifest = base.package.manifest;
    world.programs.remove(&manifest);
    let offer = dependent(&mut world, 1, &base, false);
    world.offer(vec![offer]);
    let rule = muster_model::state::Rule::PublisherRefused;
    let news = ContentNews::Refused { rule, why: "signed by nobody".to_owned() };
    world.give(Input::Content { manifest, news });
    let state = world.state(&key(1));
    assert!(state.contains("`install` of base@1: failed(publisher-refused"), "{state}");
}

#[test]
fn a_stop_of_a_dependency_is_the_stop_of_what_it_goes_before() {
    let mut world = World::new();
    let base = base(&mut world, 9, json!({}), false);
    let offer = dependent(&mut world, 1, &base, false);
    world.answers.endless = true;
    world.offer(vec![offer.clone()]);
    let kill = order().map(|order| muster_model::policy::Order { kill: true, ..order });
    world.offer(vec![Offer { stopped: kill, ..offer }]);
    world.see(RunEvidence::Exited(ended(crate::input::Ending::Stopped)));
    assert_eq!(world.state(&key(1)), "interrupted(stopped)");
}

#[test]
fn why_names_what_goes_before() {
    let mut world = World::new();
    let base = base(&mut world, 9, json!({}), false);
    let offer = dependent(&mut world, 1, &base, false);
    world.answers.endless = true;
    world.offer(vec![offer]);
    let chain = world.agent.why(world.now, &key(1)).unwrap().chain;
    let link = chain.iter().find(|link| link.step == "dependency").unwrap();
    assert_eq!(
        (link.verdict.as_str(), link.because.as_str()),
        ("0 of 1 done", "next: `install` of base@1")
    );
}

/// Offers a program with `requirements` to a device with a fact `memoryMiB`, if it has one.
fn required(memory: Option<i64>) -> World {
    let mut world = World::new();
    with_memory(&mut world, memory);
    let program = program(json!({"requirements": "device.memoryMiB >= 2048"}));
    let offer = world.package(1, program, false);
    world.offer(vec![offer]);
    world
}

fn with_memory(world: &mut World, memory: Option<i64>) {
    let mut facts = facts();
    facts.extra.extend(memory.map(|mib| ("memoryMiB".to_owned(), Fact::Number(mib))));
    world.give(Input::FactsChanged(facts));
    world.serve();
}

#[test]
fn a_requirement_holds_certainly_or_the_program_is_not_applicable() {
    assert_eq!(required(Some(4096)).state(&key(1)), "succeeded(exit-code)");
    assert_eq!(required(Some(1024)).state(&key(1)), "not-applicable(requirement)");
    assert_eq!(required(None).state(&key(1)), "not-applicable(requirement)");
}

#[test]
fn a_requirement_is_looked_at_again_when_the_facts_change() {
    let mut world = required(Some(1024));
    let fetched = |world: &World| {
        world.done.iter().filter(|effect| matches!(effect, Effect::Fetch(_))).count()
    };
    let before = fetched(&world);
    with_memory(&mut world, Some(2000));
    world.restart();
    assert_eq!(world.state(&key(1)), "not-applicable(requirement)");
    assert_eq!(fetched(&world), before, "facts that change nothing fetch nothing");
    let chain = world.agent.why(world.now, &key(1)).unwrap().chain;
    let link = chain.iter().find(|link| link.step == "requirement").unwrap();
    assert!(link.because.contains("device.memoryMiB >= 2048"), "{link:?}");
    with_memory(&mut world, Some(2048));
    assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
}

#[test]
fn a_disabled_program_waits_for_its_publisher() {
    let mut world = World::new();
    let disabled = world.package(1, program(json!({"disabled": true})), false);
    world.offer(vec![disabled]);
    assert_eq!(world.state(&key(1)), "waiting(disabled)");
    let mut enabled = world.package(2, program(json!({})), false);
    enabled.advertisement = key(1).advertisement;
    enabled.revision = 2;
    world.offer(vec![enabled]);
    assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
}

#[test]
fn power_link_and_user_are_conditions_and_spend_no_attempt() {
    use muster_model::state::Waiting;
    for why in [Waiting::Power, Waiting::Link, Waiting::RunAs] {
        let mut world = World::new();
        let offer = world.package(1, program(json!({"rerun": "never"})), false);
        world.answers.conditions.push_back(Some(why));
        world.offer(vec![offer]);
        assert_eq!(world.state(&key(1)), format!("waiting({why})"));
        world.pass(Duration::from_secs(3_600));
        assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
        assert_eq!(world.armed(), [(1, 1)]);
    }
}

#[test]
fn values_reach_the_run_and_one_that_is_not_allowed_starts_nothing() {
    let offered = |world: &mut World, values: Value| {
        let declared = json!({"parameters": {"mode": {"type": "choice", "choices": ["a", "b"],
            "default": "a"}, "n": {"type": "number"}}});
        let mut offer = world.package(1, program(declared), false);
        offer.parameters = serde_json::from_value(values).unwrap();
        world.offer(vec![offer]);
    };
    let mut world = World::new();
    offered(&mut world, json!({"n": 3}));
    let launched = world.done.iter().find_map(|effect| match effect {
        Effect::Arm(launch) => Some(serde_json::to_value(&launch.parameters).unwrap()),
        _ => None,
    });
    assert_eq!(launched, Some(json!({"mode": "a", "n": 3})));
    let mut world = World::new();
    offered(&mut world, json!({"mode": "c"}));
    let state = world.state(&key(1));
    assert!(state.starts_with("failed(parameter: parameters.mode: takes one of a, b"), "{state}");
    assert_eq!(world.armed(), []);
}

#[test]
fn a_grace_of_the_program_goes_before_that_of_the_device() {
    let mut world = World::new();
    let offer = world.package(1, program(json!({"grace": "7s"})), false);
    world.offer(vec![offer]);
    let grace = world.done.iter().find_map(|effect| match effect {
        Effect::Arm(launch) => Some(launch.grace),
        _ => None,
    });
    assert_eq!(grace, Some(Duration::from_secs(7)));
}
