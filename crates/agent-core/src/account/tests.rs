use std::time::Duration;

use muster_model::id::Incarnation;
use muster_model::message::{Body, RunId};
use muster_model::policy::PinnedProgram;
use muster_model::state::{Evidence, EvidenceKind, State, Waiting};
use muster_model::wire::device::{Account, AccountEntry};
use serde_json::json;

use crate::input::{Found, Input, RunEvidence};
use crate::saved::Saved;
use crate::sometimes::Branch;
use crate::step::Effect;
use crate::world::*;

/// A device whose memory was lost, in its second incarnation.
fn forgetful() -> World {
    let mut identity = identity();
    identity.incarnation = Incarnation(2);
    identity.fresh_incarnation_because = Some("the journal was damaged".into());
    let mut world = World::unstarted(identity, Saved::default());
    world.start();
    world
}

fn entry(n: u128, state: State, attempt: u32) -> AccountEntry {
    let key = key(n);
    let (advertisement, occurrence) = (key.advertisement, key.occurrence);
    AccountEntry { advertisement, occurrence, revision: 1, state, attempt }
}

fn succeeded() -> State {
    State::Succeeded { evidence: Evidence { rule: EvidenceKind::Detected, exit_code: Some(0) } }
}

impl World {
    fn account(&mut self, obligations: Vec<AccountEntry>) {
        let (device, incarnation, epoch) = (self.identity.device, self.identity.incarnation, EPOCH);
        let account = Account { device, incarnation, epoch, obligations };
        self.give(Input::AccountArrived(account));
        self.serve();
    }
}

#[test]
fn the_first_message_says_that_the_memory_was_lost() {
    let world = forgetful();
    let Some(Body::MemoryLost { found, .. }) = world.bodies().first().cloned() else {
        panic!("{:?}", world.bodies())
    };
    assert_eq!(found, "the journal was damaged");
    assert_eq!(world.waiting.iter().filter(|e| **e == Effect::FetchAccount).count(), 1);
}

#[test]
fn an_account_for_another_memory_is_an_answer_and_the_question_comes_again() {
    let mut world = forgetful();
    let asked = |world: &World| world.done.iter().filter(|e| **e == Effect::FetchAccount).count();
    let (device, incarnation) = (world.identity.device, Incarnation(1));
    let account = Account { device, incarnation, epoch: EPOCH, obligations: Vec::new() };
    world.give(Input::AccountArrived(account));
    assert_eq!(asked(&world), 1);
    world.serve();
    // The poll that was asked meanwhile is answered before the next question is due.
    world.give(Input::NothingNew { site_time: None });
    world.pass(Duration::from_secs(3));
    assert_eq!(asked(&world), 2);
}

#[test]
fn nothing_starts_or_is_said_of_obligations_before_the_account_has_come() {
    let mut world = forgetful();
    let offer = world.hello(1);
    world.give(Input::PollFailed { why: "not now".into() });
    world.offer(vec![offer]);
    assert_eq!(world.story(&key(1)), Vec::<String>::new());
    let view = world.agent.view(world.now);
    let shown = &view.obligations[0];
    assert_eq!((shown.state.as_str(), shown.reason.as_deref()), ("waiting", Some("account")));
    world.account(Vec::new());
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn what_the_account_says_has_ended_stays_ended() {
    let mut world = forgetful();
    let offer = world.hello(1);
    world.account(vec![entry(1, succeeded(), 1)]);
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
    assert_eq!(world.armed(), []);
    assert!(world.agent.fired().has(Branch::AccountTaken));
}

/// The account says that attempt 1 was running; its folder shows `evidence`.
#[track_caller]
fn check_recalled(
    more: serde_json::Value,
    found: &[Found],
    evidence: RunEvidence,
    expected: &[&str],
) {
    let mut world = forgetful();
    let offer = world.package(1, program(more), true);
    world.answers.endless = true;
    world.answers.found.extend(found.iter().cloned());
    world.account(vec![entry(1, State::Running { attempt: 1 }, 1)]);
    world.offer(vec![offer]);
    let run = RunId::of(DEVICE, Incarnation(1), advertisement(1), 1, &key(1).occurrence, 1);
    assert!(world.done.contains(&Effect::Inspect(run)));
    world.give(Input::RunSeen { run, evidence });
    world.serve();
    assert_eq!(world.story(&key(1)), expected);
}

#[test]
fn a_run_from_before_the_loss_is_still_judged_by_its_own_exit_record() {
    let exited = RunEvidence::Exited(exited(0));
    check_recalled(json!({}), &[Found::Present], exited, &["succeeded(detected)"]);
}

#[test]
fn a_run_whose_folder_is_lost_too_follows_the_rule_of_its_author() {
    let missing = RunEvidence::Missing;
    let never = json!({"rerun": "never"});
    check_recalled(never, &[Found::Absent], missing.clone(), &["interrupted(memory-lost)"]);
    let again = format!("[interrupted(memory-lost)] waiting(retry until {NOON})");
    let absent = [Found::Absent, Found::Absent];
    check_recalled(json!({}), &absent, missing, &[&again, "running(attempt 2)"]);
}

#[test]
fn a_run_that_outlived_the_memory_goes_on() {
    check_recalled(json!({}), &[], RunEvidence::Alive, &[]);
}

#[test]
fn a_lost_run_that_nobody_offers_any_more_ends_interrupted() {
    let mut world = forgetful();
    world.account(vec![entry(1, State::Running { attempt: 1 }, 1)]);
    world.offer(Vec::new());
    assert_eq!(world.story(&key(1)), ["interrupted(memory-lost)"]);
}

#[test]
fn salvaged_reports_follow_in_the_new_stream_and_count_before_the_account() {
    let mut past = World::new();
    let offer = past.hello(1);
    past.offer(vec![offer.clone()]);
    let mut identity = forgetful().identity;
    identity.salvaged = past.reports(&key(1));
    let mut world = World::unstarted(identity, Saved::default());
    world.programs = past.programs.clone();
    world.start();
    assert!(matches!(world.bodies()[0], Body::MemoryLost { salvaged: 2, .. }));
    world.account(vec![entry(1, State::Running { attempt: 1 }, 1)]);
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
    assert_eq!(world.armed(), []);
}

#[test]
fn the_account_is_asked_for_until_it_comes_even_after_a_restart() {
    let mut world = forgetful();
    for _ in 0..5 {
        world.give(Input::PollFailed { why: "no route".into() });
        world.pass(Duration::from_secs(30));
    }
    world.restart();
    let asked = world.done.iter().filter(|effect| **effect == Effect::FetchAccount).count();
    assert!(asked >= 3, "{asked}");
}

#[test]
fn an_account_for_another_life_is_ignored() {
    let mut world = forgetful();
    let offer = world.hello(1);
    let (device, incarnation, obligations) = (DEVICE, Incarnation(1), Vec::new());
    let account = Account { device, incarnation, epoch: EPOCH, obligations };
    world.give(Input::AccountArrived(account));
    world.offer(vec![offer]);
    assert_eq!(world.armed(), []);
}

#[test]
fn attempts_from_before_the_loss_count_and_the_wait_for_the_next_goes_on() {
    let mut world = forgetful();
    let offer = world.package(1, program(json!({"attempts": 2})), false);
    let until = Some(NOON.plus(Duration::from_secs(600)));
    let retrying = State::Waiting { why: muster_model::state::Waiting::Retry, until };
    world.account(vec![entry(1, retrying, 1)]);
    world.answers.exits.push_back(exited(3));
    world.offer(vec![offer]);
    assert_eq!(world.armed(), []);
    world.pass(Duration::from_secs(601));
    assert_eq!(world.armed(), [(2, 1)]);
    assert_eq!(world.state(&key(1)), "failed(exit-code (exit code 3))");
}

/// The account says that the obligation had one run; it is of two programs, of which the first may run but
/// once.
#[track_caller]
fn check_of_several(detects: bool, found: &[Found], expected: &[&str]) {
    let mut world = forgetful();
    let mut base = world.package(9, program(json!({"rerun": "never"})), detects);
    base.package.name = "base".parse().unwrap();
    let base = PinnedProgram { package: base.package, program: base.program };
    let on = json!({"dependsOn": {"package": "base@1", "program": "install"}});
    let mut offer = world.package(1, program(on), false);
    offer.dependencies = vec![base];
    let waiting = State::Waiting { why: Waiting::PackageManager, until: None };
    world.account(vec![entry(1, waiting, 1)]);
    world.answers.found.extend(found.iter().cloned());
    world.offer(vec![offer]);
    assert_eq!(world.story(&key(1)), expected);
}

#[test]
fn which_of_several_programs_ran_is_not_guessed() {
    let lost = "interrupted(memory-lost)";
    check_of_several(false, &[], &["accepted", lost]);
    check_of_several(true, &[Found::Absent], &["accepted", lost]);
    let there = ["accepted", "[succeeded(detected)] accepted", "running(attempt 2)"];
    let there = [&there[..], &["succeeded(exit-code)"]].concat();
    check_of_several(true, &[Found::Present], &there);
}
