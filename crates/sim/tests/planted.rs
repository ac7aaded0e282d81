//! The proof that the invariants see: each planted bug is found within a bounded number of seeds.

use muster_sim::campaign::campaign;
use muster_sim::plant::Plant;
use muster_sim::world::{Options, run};

/// A planted bug that survives this many worlds is one that the simulator cannot see.
const SEEDS_MAX: u64 = 2_000;

#[track_caller]
fn check(plant: Plant) {
    let options = Options { plant: Some(plant), ..Options::default() };
    let report = campaign(0, SEEDS_MAX, &options, 1, true);
    let Some(found) = report.broken.first() else {
        panic!("`{}` survived {SEEDS_MAX} worlds", plant.name());
    };
    let kind = Some(plant.kind());
    let healthy = run(found.seed, &Options { kind, ..Options::default() });
    assert_eq!(healthy.violation, None, "seed {} is broken without the bug", found.seed);
}

macro_rules! planted {
    ($($name:ident => $plant:ident,)*) => {
        $(#[test] fn $name() { check(Plant::$plant); })*

        #[test]
        fn every_planted_bug_has_a_test() {
            let tested = [$(Plant::$plant),*];
            assert!(Plant::ALL.len() >= 25, "{}", Plant::ALL.len());
            for plant in Plant::ALL {
                assert!(tested.contains(plant), "`{}` has no test", plant.name());
            }
        }
    };
}

planted! {
    acknowledged_before_commit_is_found => AcknowledgedBeforeCommit,
    random_name_as_key_is_found => RandomNameAsKey,
    access_point_receipt_relieves_is_found => AccessPointReceiptRelieves,
    outcome_time_limit_is_found => OutcomeTimeLimit,
    sequence_reused_after_restart_is_found => SequenceReusedAfterRestart,
    terminal_moved_back_is_found => TerminalMovedBack,
    exit_record_cleaned_before_reported_is_found => ExitRecordCleanedBeforeReported,
    second_launch_without_lock_is_found => SecondLaunchWithoutLock,
    acted_before_synced_is_found => ActedBeforeSynced,
    executed_before_entered_is_found => ExecutedBeforeEntered,
    run_folders_not_read_is_found => RunFoldersNotRead,
    window_without_room_is_found => WindowWithoutRoom,
    late_supervisor_enters_is_found => LateSupervisorEnters,
    verify_kills_run_is_found => VerifyKillsRun,
    send_cycle_of_a_day_is_found => SendCycleOfADay,
    message_in_second_write_is_found => MessageInSecondWrite,
    never_runs_again_is_found => NeverRunsAgain,
    cut_short_guessed_is_found => CutShortGuessed,
    orders_ignored_is_found => OrdersIgnored,
    stale_policy_ignored_is_found => StalePolicyIgnored,
    two_at_once_is_found => TwoAtOnce,
    wall_clock_trusted_is_found => WallClockTrusted,
    incarnation_kept_after_loss_is_found => IncarnationKeptAfterLoss,
    full_disk_unnoticed_is_found => FullDiskUnnoticed,
    tombstones_uncounted_is_found => TombstonesUncounted,
    outcomes_give_way_is_found => OutcomesGiveWay,
    turns_forgotten_is_found => TurnsForgotten,
    holes_taken_is_found => HolesTaken,
    duplicates_taken_is_found => DuplicatesTaken,
    forks_unseen_is_found => ForksUnseen,
    put_back_counts_is_found => PutBackCounts,
    decisions_uncounted_is_found => DecisionsUncounted,
    epoch_kept_by_restore_is_found => EpochKeptByRestore,
    leavers_forgotten_is_found => LeaversForgotten,
    upgrade_waits_for_ever_is_found => UpgradeWaitsForEver,
}
