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

/// Fires in one world of a thousand: `make sim` demands ten of them.
const SELDOM: &str = "world InstalledAgain";

/// The branches that such worlds must show and that never fired.
fn never_fired(seen: &Seen, kind: Kind) -> Vec<String> {
    let never = seen.short_of(1, kind).into_iter().map(|(name, _)| name);
    never.filter(|name| name != SELDOM).collect()
}

/// Worlds in which a rare branch never fired prove nothing about it.
#[track_caller]
fn every_branch_fired(seen: &Seen, kind: Kind) {
    let never = never_fired(seen, kind);
    assert!(never.is_empty(), "never fired in these worlds of {}: {never:?}", kind.name());
}

/// Worlds beyond the thousand that are spent, in steps, on branches that are rarer than one in 300. The
/// rarest, a lost disk whose account names a run, fires in one world of 140.
const MORE: std::ops::Range<u64> = 10_000..12_000;
const STEP: u64 = 20;

/// Rare branches are demanded of the first worlds and of as many more as it takes, so that the rest can
/// run beside them.
#[test]
fn the_first_300_worlds_break_nothing_and_every_rare_branch_fires() {
    let report = check(Kind::Chaos, 0, 300);
    assert!(report.executions > 1_000, "worlds in which little runs prove little");
    let mut seen = report.seen;
    for from in MORE.step_by(STEP as usize) {
        if never_fired(&seen, Kind::Chaos).is_empty() {
            return;
        }
        seen.add(&check(Kind::Chaos, from, from + STEP).seen);
    }
    every_branch_fired(&seen, Kind::Chaos);
}

#[test]
fn worlds_300_to_550_break_nothing() {
    check(Kind::Chaos, 300, 550);
}

#[test]
fn worlds_550_to_775_break_nothing() {
    check(Kind::Chaos, 550, 775);
}

#[test]
fn worlds_775_to_1000_break_nothing() {
    check(Kind::Chaos, 775, 1_000);
}

/// Q322967: programs that run for hours, releases that do not work, power cuts at any point; every upgrade
/// has its end, and none waits for ever.
#[test]
fn upgrades_of_agents_end_one_way_or_the_other() {
    every_branch_fired(&check(Kind::Upgrades, 0, 60).seen, Kind::Upgrades);
}

/// Q292030: each night the power is switched off, and the network is dead when it comes back.
#[test]
fn outcomes_of_thirty_nights_arrive_within_two_days_and_half_of_them_within_one() {
    let report = check(Kind::Nightly, 0, 60);
    assert!(report.executions > 500, "nights in which little runs prove little");
    every_branch_fired(&report.seen, Kind::Nightly);
}

/// The site is gone, and the policy is all that there is.
#[test]
fn outcomes_of_sixty_days_without_a_site_arrive_and_what_gave_way_is_counted() {
    let report = check(Kind::Offline, 0, 12);
    assert!(report.executions > 500, "days in which little runs prove little");
    every_branch_fired(&report.seen, Kind::Offline);
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
