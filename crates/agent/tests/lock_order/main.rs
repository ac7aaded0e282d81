//! The order of the agent's locks, model-checked: run, verify, repair, upgrade and restart beside each
//! other never wait for each other in a circle, never run a program twice, and never cut one short.
//!
//! A model, because the real locks are the kernel's and the real steps wait for disks: `device.rs` has
//! the locks, and the steps that take them under the names they have in the code. Shuttle runs it
//! through random schedules and priorities, tells a deadlock by itself, and repeats a schedule that
//! failed. Each mistake that is planted must be found; SCHEDULES=N sets how many schedules are tried.
#![allow(clippy::unwrap_used, clippy::panic)]

mod device;
mod flock;

use std::panic::catch_unwind;

use device::{Device, Planted};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner, thread};

/// Schedules of each kind, unless SCHEDULES says otherwise.
const SCHEDULES: usize = 1_000;
/// A planted mistake must be found within so many of each kind.
const SCHEDULES_TO_FIND: usize = 20_000;
/// A schedule of more steps goes in a circle, or one agent hangs while the next asks for its folder for
/// ever: those that end take a few hundred.
const STEPS_MAX: usize = 20_000;
/// Preemptions that a schedule by priorities tries: three suffice for most bugs (Burckhardt et al.,
/// "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", 2010).
const PREEMPTIONS: usize = 3;

/// The same schedules each time.
const SEED: u64 = 1;

fn world(planted: Planted) {
    let device = Device::new(planted);
    let agent = device.clone();
    let agent = thread::spawn(move || agent.lives());
    // An upgrade starts the new agent while the old one may still be there.
    let upgrade = device.clone();
    let upgrade = thread::spawn(move || upgrade.lives());
    let person = device.clone();
    let person = thread::spawn(move || _ = person.first_alive());
    [agent, upgrade, person].into_iter().for_each(|thread| thread.join().unwrap());
    device.check();
}

fn run(scheduler: impl Scheduler + 'static, planted: Planted) {
    let mut config = Config::new();
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    Runner::new(scheduler, config).run(move || world(planted));
}

fn check(planted: Planted, schedules: usize) {
    run(RandomScheduler::new_from_seed(SEED, schedules), planted);
    run(PctScheduler::new_from_seed(SEED, PREEMPTIONS, schedules), planted);
}

#[test]
fn no_schedule_deadlocks_doubles_or_kills_a_run() {
    let asked = std::env::var("SCHEDULES").ok().and_then(|text| text.parse().ok());
    check(Planted::None, asked.unwrap_or(SCHEDULES));
}

#[track_caller]
fn is_found(planted: Planted) {
    let found = catch_unwind(|| check(planted, SCHEDULES_TO_FIND));
    assert!(found.is_err(), "{planted:?} is not found");
}

#[test]
fn a_follower_that_looks_under_its_own_lock_is_found() {
    is_found(Planted::FollowerLooksUnderItsLock);
}

#[test]
fn a_supervisor_without_its_lock_is_found() {
    is_found(Planted::SupervisorWithoutLock);
}

#[test]
fn an_inverted_order_of_two_locks_is_found() {
    is_found(Planted::SweepTakesTheStoreFirst);
}

#[test]
fn tasks_that_are_waited_for_with_a_full_mailbox_are_found() {
    is_found(Planted::RecoverWithoutDraining);
}

#[test]
fn a_repair_that_kills_a_run_is_found() {
    is_found(Planted::RepairKillsTheRun);
}

#[test]
fn two_agents_on_one_folder_are_found() {
    is_found(Planted::UpgradeBesideTheOld);
}
