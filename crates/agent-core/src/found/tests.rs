use muster_model::state::{Evidence, EvidenceKind, Withdrawal};
use muster_model::wire::device::{Account, AccountEntry};
use serde_json::json;

use super::*;
use crate::agent::Identity;
use crate::input::{Found, Input};
use crate::saved::Saved;
use crate::world::*;
use muster_model::id::Incarnation;
use muster_model::policy::{Offer, PinnedProgram};

/// A device whose journal was lost, with the folder of attempt 1 for its one offer.
struct Lost {
    world: World,
    offer: Offer,
    found: FoundRun,
}

fn lost(more: serde_json::Value, detects: bool, evidence: RunEvidence) -> Lost {
    let because = Some("the journal was gone".into());
    let identity =
        Identity { incarnation: Incarnation(2), fresh_incarnation_because: because, ..identity() };
    let mut world = World::unstarted(identity, Saved::default());
    let offer = world.package(1, program(more), detects);
    let manifested = world.programs[&offer.package.manifest].clone();
    let found = found_run(&offer, &manifested, evidence);
    world.found = vec![found.clone()];
    Lost { world, offer, found }
}

impl Lost {
    /// Starts, is given the account, hears the policy; then the folder shows what it showed.
    fn live(mut self, account: Option<State>, offered: bool) -> World {
        self.world.start();
        self.give_account(account);
        self.world.offer(if offered { vec![self.offer.clone()] } else { Vec::new() });
        self.answer_inspections();
        self.world
    }

    fn give_account(&mut self, known: Option<State>) {
        let Key { advertisement, occurrence } = key(1);
        let attempt = u32::from(known.as_ref().is_some_and(|state| {
            !matches!(state.word(), Word::Withdrawn | Word::Expired | Word::Waiting)
        }));
        let entry = |state| AccountEntry { advertisement, occurrence, revision: 1, state, attempt };
        let account = Account {
            device: DEVICE,
            incarnation: Incarnation(2),
            epoch: EPOCH,
            obligations: known.map(entry).into_iter().collect(),
        };
        self.world.give(Input::AccountArrived(account));
        self.world.serve();
    }

    fn answer_inspections(&mut self) {
        let FoundRun { launch, evidence } = self.found.clone();
        if self.world.done.contains(&Effect::Inspect(launch.run)) {
            self.world.give(Input::RunSeen { run: launch.run, evidence });
            self.world.serve();
        }
    }
}

fn never() -> serde_json::Value {
    json!({"rerun": "never"})
}

#[track_caller]
fn check(lost: Lost, account: Option<State>, offered: bool, expected: &[&str]) {
    let run = lost.found.launch.run;
    let world = lost.live(account, offered);
    assert_eq!(world.story(&key(1)), expected);
    assert_eq!(world.armed(), [], "nothing that was started is started again");
    assert!(world.done.contains(&Effect::Discard(run)), "the site has it: the folder goes");
}

#[test]
fn a_run_that_the_site_never_heard_of_is_told_by_its_exit_record() {
    let exited = RunEvidence::Exited(exited(0));
    let told = ["running(attempt 1)", "succeeded(exit-code)"];
    check(lost(never(), false, exited.clone()), None, true, &told);
    check(lost(never(), false, exited), None, false, &told);
}

#[test]
fn a_run_that_was_cut_short_is_told_and_never_means_never() {
    let cut = RunEvidence::CutShort { same_boot: true };
    let told = ["running(attempt 1)", "interrupted(killed)"];
    check(lost(never(), false, cut.clone()), None, true, &told);
    let restarted = RunEvidence::CutShort { same_boot: false };
    let told = ["running(attempt 1)", "interrupted(restart)"];
    check(lost(never(), false, restarted), None, true, &told);
    let told = ["running(attempt 1)", "interrupted(memory-lost)"];
    check(lost(never(), false, RunEvidence::Missing), None, true, &told);
}

#[test]
fn detection_judges_a_found_run_even_if_nobody_offers_it_any_more() {
    let mut one = lost(never(), true, RunEvidence::CutShort { same_boot: true });
    one.world.answers.found.push_back(Found::Absent);
    check(one, None, false, &["running(attempt 1)", "interrupted(killed)"]);
    let mut one = lost(json!({}), true, RunEvidence::Exited(exited(0)));
    one.world.answers.found.push_back(Found::Present);
    check(one, None, false, &["running(attempt 1)", "succeeded(detected)"]);
}

#[test]
fn a_found_run_waits_for_its_package_and_lets_others_run_meanwhile() {
    let mut one = lost(never(), true, RunEvidence::Exited(exited(0)));
    let programs = std::mem::take(&mut one.world.programs);
    let mut world = one.live(None, true);
    assert_eq!(world.state(&key(1)), "running(attempt 1)");
    assert!(world.agent.turn_free());
    world.programs = programs;
    world.answers.found.push_back(Found::Present);
    world.restart();
    world.serve();
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

/// A device whose journal was lost as `base@1` ran, which goes before the program that is offered.
fn lost_before(more: serde_json::Value, evidence: RunEvidence) -> Lost {
    lost_before_which(more, false, evidence)
}

fn lost_before_which(more: serde_json::Value, detects: bool, evidence: RunEvidence) -> Lost {
    let mut one =
        lost(json!({"dependsOn": {"package": "base@1", "program": "install"}}), false, evidence);
    let mut base = one.world.package(9, program(more), detects);
    base.package.name = "base".parse().unwrap();
    let manifested = one.world.programs[&base.package.manifest].clone();
    let launch = &mut one.found.launch;
    (launch.package, launch.dependency) = (base.package.clone(), true);
    launch.program = manifested.programs[0].clone();
    launch.detection = manifested.detection.clone();
    let base = PinnedProgram { package: base.package, program: base.program };
    (launch.dependencies, one.offer.dependencies) = (vec![base.clone()], vec![base]);
    one.world.found = vec![one.found.clone()];
    one
}

#[test]
fn a_run_of_a_dependency_is_judged_and_what_comes_after_it_runs() {
    let done = ["[succeeded(exit-code)] accepted", "running(attempt 2)", "succeeded(exit-code)"];
    let exited = RunEvidence::Exited(exited(0));
    let world = lost_before(never(), exited.clone()).live(None, true);
    assert_eq!(world.story(&key(1)), [&["running(attempt 1)"][..], &done].concat());
    assert_eq!(world.armed(), [(2, 1)]);
    // The account knows of the run already.
    let running = State::Running { attempt: 1 };
    let world = lost_before(never(), exited.clone()).live(Some(running), true);
    assert_eq!(world.story(&key(1)), done);
    let cut = RunEvidence::CutShort { same_boot: false };
    let world = lost_before(never(), cut).live(None, true);
    assert_eq!((world.state(&key(1)).as_str(), world.armed().len()), ("interrupted(restart)", 0));
    let world = lost_before(never(), exited).live(None, false);
    assert_eq!(
        (world.state(&key(1)).as_str(), world.armed().len()),
        ("withdrawn(left-collection)", 0)
    );
}

#[test]
fn a_run_of_a_dependency_is_judged_without_the_package_that_comes_after_it() {
    let mut one = lost_before_which(never(), true, RunEvidence::Exited(exited(0)));
    let manifest = one.offer.package.manifest;
    let advertised = one.world.programs.remove(&manifest).unwrap();
    one.world.answers.found.push_back(Found::Present);
    let mut world = one.live(None, true);
    let judged = ["running(attempt 1)", "[succeeded(detected)] accepted"];
    assert_eq!(world.story(&key(1)), judged);
    world.programs.insert(manifest, advertised);
    world.restart();
    world.serve();
    assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
}

#[test]
fn beside_a_dependency_that_goes_on_nothing_else_runs() {
    let mut one = lost_before(never(), RunEvidence::Alive);
    let run = one.found.launch.run;
    let other = one.world.hello(2);
    one.world.start();
    one.give_account(None);
    one.world.offer(vec![one.offer.clone(), other]);
    one.answer_inspections();
    assert_eq!(
        (one.world.state(&key(1)), one.world.armed()),
        ("running(attempt 1)".into(), vec![])
    );
    assert_eq!(one.world.state(&key(2)), "waiting(turn)");
    one.world.give(Input::RunSeen { run, evidence: RunEvidence::Exited(exited(0)) });
    one.world.serve();
    assert_eq!(one.world.armed().len(), 2);
}

#[test]
fn a_dependency_that_its_launch_does_not_name_is_not_judged_as_another() {
    let mut one = lost_before(never(), RunEvidence::Exited(exited(0)));
    one.found.launch.dependencies.clear();
    one.world.found = vec![one.found.clone()];
    let world = one.live(Some(State::Running { attempt: 1 }), true);
    assert_eq!(world.state(&key(1)), "interrupted(memory-lost)");
}

#[test]
fn a_live_supervisor_is_followed_again_to_its_end() {
    let mut one = lost(never(), false, RunEvidence::Alive);
    let run = one.found.launch.run;
    one.world.start();
    one.give_account(None);
    one.world.offer(vec![one.offer.clone()]);
    one.answer_inspections();
    assert_eq!(one.world.story(&key(1)), ["running(attempt 1)"]);
    let evidence = RunEvidence::Exited(exited(3));
    one.world.give(Input::RunSeen { run, evidence });
    one.world.serve();
    assert_eq!(one.world.state(&key(1)), "failed(exit-code (exit code 3))");
    assert_eq!(one.world.armed(), []);
}

#[test]
fn another_attempt_follows_only_where_one_is_left() {
    let failed = RunEvidence::Exited(exited(3));
    let world = lost(json!({"attempts": 2}), false, failed.clone()).live(None, true);
    assert!(world.state(&key(1)).starts_with("waiting(retry"), "{}", world.state(&key(1)));
    let world = lost(json!({"attempts": 1}), false, failed).live(None, true);
    assert_eq!(world.state(&key(1)), "failed(exit-code (exit code 3))");
}

#[test]
fn what_was_never_entered_counts_only_if_the_account_says_so() {
    let mut world = lost(never(), false, RunEvidence::NeverEntered).live(None, true);
    assert_eq!(world.armed(), [(1, 1)]);
    assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
    let running = Some(State::Running { attempt: 1 });
    world = lost(never(), false, RunEvidence::NeverEntered).live(running, true);
    assert_eq!(world.armed(), [(1, 2)], "the same attempt, under a higher launch number");
}

#[test]
fn what_the_account_says_has_ended_stays_ended_and_its_folder_goes() {
    let evidence = Evidence { rule: EvidenceKind::ExitCode, exit_code: Some(0) };
    let succeeded = State::Succeeded { evidence };
    let one = lost(json!({"rerun": "always"}), false, RunEvidence::Exited(exited(3)));
    check(one, Some(succeeded), true, &[]);
}

#[test]
fn what_the_site_withdrew_in_ignorance_is_told_all_the_same() {
    let withdrawn = State::Withdrawn { why: Withdrawal::Deleted };
    let one = lost(never(), false, RunEvidence::Exited(exited(0)));
    check(one, Some(withdrawn), false, &["running(attempt 1)", "succeeded(exit-code)"]);
}

#[test]
fn what_was_found_is_weighed_after_a_restart_too() {
    let mut one = lost(never(), false, RunEvidence::Exited(exited(0)));
    one.world.start();
    one.world.restart();
    check(one, None, true, &["running(attempt 1)", "succeeded(exit-code)"]);
}

#[test]
fn what_was_salvaged_is_not_judged_before_the_folders_are() {
    let mut past = World::new();
    let offer = past.hello(1);
    past.offer(vec![offer]);
    let mut one = lost(never(), false, RunEvidence::Exited(exited(0)));
    (one.found.launch.attempt, one.world.found[0].launch.attempt) = (2, 2);
    one.world.identity.salvaged = past.reports(&key(1));
    one.world.identity.salvaged.retain(|report| report.state.word() == Word::Running);
    one.world.agent = Agent::restore(&one.world.identity, Saved::default());
    one.world.start();
    one.world.offer(vec![one.offer.clone()]);
    assert_eq!(one.world.story(&key(1)), ["running(attempt 1)"]);
    one.give_account(Some(State::Running { attempt: 1 }));
    one.answer_inspections();
    let told = ["running(attempt 1)", "running(attempt 2)", "succeeded(exit-code)"];
    assert_eq!(one.world.story(&key(1)), told);
}

#[test]
fn an_agent_with_its_journal_makes_nothing_of_folders() {
    let mut one = lost(never(), false, RunEvidence::Exited(exited(0)));
    one.world.identity = identity();
    one.world.agent = Agent::restore(&one.world.identity, Saved::default());
    one.world.start();
    one.world.serve();
    one.world.offer(Vec::new());
    assert_eq!(one.world.story(&key(1)), Vec::<String>::new());
}

#[test]
fn a_folder_stays_until_the_site_has_the_outcome() {
    let mut world = World::new();
    let offer = world.hello(1);
    world.serve();
    world.answers.site_down = true;
    world.offer(vec![offer]);
    let run = world.run();
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
    assert!(world.done.contains(&Effect::Clean(run)));
    assert!(!world.done.contains(&Effect::Discard(run)));
    world.restart();
    assert!(!world.done.contains(&Effect::Discard(run)));
    world.answers.site_down = false;
    world.give(Input::LinkUp);
    world.serve();
    assert!(world.done.contains(&Effect::Discard(run)));
    assert_eq!(world.journal.saved.runs, []);
}
