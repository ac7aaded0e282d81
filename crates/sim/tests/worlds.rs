//! Worlds without a planted bug: no invariant breaks, every rare branch fires, and a seed is one
//! history.

use muster_sim::campaign::{Report, campaign};
use muster_sim::kind::Kind;
use muster_sim::sometimes::Seen;
use muster_sim::world::{Options, run};

/// Runs the seeds and demands that no invariant broke.
#[track_caller]
fn check(kind: Kind, from: u64, to: u64) -> Report {
    let options = Options { kind: Some(kind), ..Options::default() };
    let report = campaign(from, to, &options, 1, false);
    let broken: Vec<String> = report
        .broken
        .iter()
        .filter_map(|ended| Some(format!("seed {}: {}", ended.seed, ended.violation.as_ref()?)))
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    report
}

/// Fire in a few worlds of a thousand: `make sim` demands ten of them.
const SELDOM: [&str; 2] = ["world InstalledAgain", "world RemovalUndeclared"];

/// Worlds that are spent, in steps, on branches that are rarer than the worlds before are many.
const MORE: std::ops::Range<u64> = 10_000..12_000;
const STEP: u64 = 20;

/// Worlds in which a rare branch never fired prove nothing about it. Runs as many more worlds as it takes.
#[track_caller]
fn every_branch_fires(mut seen: Seen, kind: Kind) {
    let mut more = MORE.step_by(STEP as usize);
    loop {
        let never = seen.short_of(1, kind).into_iter().map(|(name, _)| name);
        let never: Vec<String> = never.filter(|name| !SELDOM.contains(&name.as_str())).collect();
        if never.is_empty() {
            return;
        }
        let Some(from) = more.next() else {
            panic!("never fired in worlds of {}: {never:?}", kind.name());
        };
        seen.add(&check(kind, from, from + STEP).seen);
    }
}

#[test]
fn worlds_0_to_250_break_nothing() {
    let report = check(Kind::Chaos, 0, 250);
    assert!(report.executions > 1_000, "worlds in which little runs prove little");
}

#[test]
fn worlds_250_to_500_break_nothing() {
    check(Kind::Chaos, 250, 500);
}

#[test]
fn worlds_500_to_750_break_nothing() {
    check(Kind::Chaos, 500, 750);
}

#[test]
fn worlds_750_to_1000_break_nothing() {
    check(Kind::Chaos, 750, 1_000);
}

#[test]
fn every_rare_branch_fires_in_some_world() {
    every_branch_fires(Seen::default(), Kind::Chaos);
}

/// Journals lost and machines put back, again and again: nothing runs on what nobody knows any more.
#[test]
fn memories_that_are_lost_and_put_back_are_mended() {
    let report = check(Kind::Losses, 0, 200);
    assert!(report.executions > 1_000, "worlds in which little runs prove little");
    every_branch_fires(report.seen, Kind::Losses);
}

/// Q322967: programs that run for hours, releases that do not work, power cuts at any point; every upgrade
/// has its end, and none waits for ever.
#[test]
fn upgrades_of_agents_end_one_way_or_the_other() {
    every_branch_fires(check(Kind::Upgrades, 0, 60).seen, Kind::Upgrades);
}

/// Q292030: each night the power is switched off, and the network is dead when it comes back.
#[test]
fn outcomes_of_thirty_nights_arrive_within_two_days_and_half_of_them_within_one() {
    let report = check(Kind::Nightly, 0, 60);
    assert!(report.executions > 500, "nights in which little runs prove little");
    every_branch_fires(report.seen, Kind::Nightly);
}

/// The site is gone, and the policy is all that there is.
#[test]
fn outcomes_of_sixty_days_without_a_site_arrive_and_what_gave_way_is_counted() {
    let report = check(Kind::Offline, 0, 12);
    assert!(report.executions > 500, "days in which little runs prove little");
    every_branch_fires(report.seen, Kind::Offline);
}

#[test]
fn a_seed_replays_to_the_letter() {
    for seed in [0, 1, 2, 3, 499] {
        let options = Options { record: true, ..Options::default() };
        let (one, other) = (run(seed, &options), run(seed, &options));
        assert!(one.record.len() > 1_000, "seed {seed} has a record");
        assert_eq!(one.steps, other.steps, "seed {seed}");
        assert!(one.record == other.record, "seed {seed} has two histories");
        let without = run(seed, &Options::default());
        assert_eq!(one.steps, without.steps, "seed {seed}: keeping the record changes the world");
    }
}
