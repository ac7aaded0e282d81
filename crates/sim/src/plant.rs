//! Planted bugs: the proof that the invariants can see. Each is a mistake that such a system has made
//! in the field; `sim --plant NAME` switches it on, and a fleet with it on must be found broken.
//!
//! What is planted in an engine is a switch of that engine ([`plant_agent`] and its like turn it);
//! what is planted in a shell is asked for where the world plays that shell ([`Core::is_planted`]).

use muster_agent_core::agent::Agent;
use muster_site_core::obligation::Planted as SitePlanted;

use crate::core::Core;
use crate::kind::Kind;

macro_rules! plants {
    ($($(#[$doc:meta])* $plant:ident => $name:literal,)*) => {
        /// A bug that can be switched on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Plant {
            $($(#[$doc])* $plant,)*
        }

        impl Plant {
            /// Every one of them.
            pub const ALL: &[Plant] = &[$(Plant::$plant),*];

            /// The name on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Plant::$plant => $name,)* }
            }
        }
    };
}

plants! {
    /// The site answers with a receipt before it commits.
    AcknowledgedBeforeCommit => "acknowledged-before-commit",
    /// The site stores messages under short random names; one that is taken counts as delivered.
    RandomNameAsKey => "random-name-as-key",
    /// An access point's own word relieves the agent.
    AccessPointReceiptRelieves => "access-point-receipt-relieves",
    /// An outcome that waited too long is not sent any more.
    OutcomeTimeLimit => "outcome-time-limit",
    /// After a restart the agent gives a sequence number away a second time.
    SequenceReusedAfterRestart => "sequence-reused-after-restart",
    /// A late word moves an obligation that had ended.
    TerminalMovedBack => "terminal-moved-back",
    /// A run's exit record is cleaned away before its outcome is saved.
    ExitRecordCleanedBeforeReported => "exit-record-cleaned-before-reported",
    /// The agent launches a run again without having taken its lock.
    SecondLaunchWithoutLock => "second-launch-without-lock",
    /// The agent carries out effects before the journal is synced.
    ActedBeforeSynced => "acted-before-synced",
    /// The supervisor starts the program before it has recorded that it does.
    ExecutedBeforeEntered => "executed-before-entered",
    /// An agent that lost its journal does not read the run folders.
    RunFoldersNotRead => "run-folders-not-read",
    /// A window is asked whether it is open, not whether it has room for the run.
    WindowWithoutRoom => "window-without-room",
    /// A supervisor that comes too late for its window enters all the same.
    LateSupervisorEnters => "late-supervisor-enters",
    /// A verify cycle ends a running program, and nobody is told (Q283130).
    VerifyKillsRun => "verify-kills-run",
    /// What cannot be sent right after a restart waits for the next day's cycle (Q292030).
    SendCycleOfADay => "send-cycle-of-a-day",
    /// A changed state and the message that tells it are saved one after the other.
    MessageInSecondWrite => "message-in-second-write",
    /// A run that was cut short is followed by another one, whatever its author declared.
    NeverRunsAgain => "never-runs-again",
    /// A run that was cut short is taken for one that ended well.
    CutShortGuessed => "cut-short-guessed",
    /// Orders to hold still are not asked before a start.
    OrdersIgnored => "orders-ignored",
    /// A device that has not heard from its site for too long starts all the same.
    StalePolicyIgnored => "stale-policy-ignored",
    /// A run does not wait until the one before it has ended.
    TwoAtOnce => "two-at-once",
    /// Trusted time is what the wall clock says.
    WallClockTrusted => "wall-clock-trusted",
    /// A device without its journal goes on under the incarnation that it had.
    IncarnationKeptAfterLoss => "incarnation-kept-after-loss",
    /// A full disk is not noticed: the agent acts on what it could not save.
    FullDiskUnnoticed => "full-disk-unnoticed",
    /// What gives way in a full outbox is not counted.
    TombstonesUncounted => "tombstones-uncounted",
    /// In a full outbox outcomes give way like everything else, and are told when there is room again.
    OutcomesGiveWay => "outcomes-give-way",
    /// Whom a program has run for already is forgotten when the agent starts again.
    TurnsForgotten => "turns-forgotten",
    /// The site takes what does not follow what it has.
    HolesTaken => "holes-taken",
    /// The site takes once more what it has already.
    DuplicatesTaken => "duplicates-taken",
    /// The site does not compare the two histories of a copied device.
    ForksUnseen => "forks-unseen",
    /// What a machine did before it was put back to a snapshot still counts.
    PutBackCounts => "put-back-counts",
    /// The site's own decisions move rows and not the counters.
    DecisionsUncounted => "decisions-uncounted",
    /// A site that was restored goes on under the epoch that it had.
    EpochKeptByRestore => "epoch-kept-by-restore",
    /// An upgrade waits for what is in use for as long as it is in use (Q322967).
    UpgradeWaitsForEver => "upgrade-waits-for-ever",
    /// Who leaves a collection was never in it.
    LeaversForgotten => "leavers-forgotten",
}

impl Plant {
    /// The kind of world in which it must be found.
    pub fn kind(self) -> Kind {
        match self {
            Plant::SendCycleOfADay => Kind::Nightly,
            Plant::UpgradeWaitsForEver => Kind::Upgrades,
            Plant::TombstonesUncounted | Plant::OutcomesGiveWay => Kind::Offline,
            _ => Kind::Chaos,
        }
    }
}

/// Turns the agent's switches.
pub(crate) fn plant_agent(core: &Core, agent: &mut Agent) {
    let planted = &mut agent.planted;
    let is = |plant| core.is_planted(plant);
    planted.outcome_time_limit = is(Plant::OutcomeTimeLimit);
    planted.sequence_reused_after_restart = is(Plant::SequenceReusedAfterRestart);
    planted.exit_record_cleaned_before_reported = is(Plant::ExitRecordCleanedBeforeReported);
    planted.receipt_of_anyone_relieves = is(Plant::AccessPointReceiptRelieves);
    planted.window_without_room = is(Plant::WindowWithoutRoom);
    planted.never_runs_again = is(Plant::NeverRunsAgain);
    planted.cut_short_guessed = is(Plant::CutShortGuessed);
    planted.orders_ignored = is(Plant::OrdersIgnored);
    planted.stale_policy_ignored = is(Plant::StalePolicyIgnored);
    planted.two_at_once = is(Plant::TwoAtOnce);
    planted.wall_clock_trusted = is(Plant::WallClockTrusted);
    planted.tombstones_uncounted = is(Plant::TombstonesUncounted);
    planted.outcomes_give_way = is(Plant::OutcomesGiveWay);
    planted.turns_forgotten = is(Plant::TurnsForgotten);
    planted.send_cycle_of_a_day = is(Plant::SendCycleOfADay);
    planted.upgrade_waits_for_ever = is(Plant::UpgradeWaitsForEver);
}

/// The site's switches.
pub(crate) fn plant_site(core: &Core) -> SitePlanted {
    SitePlanted {
        terminal_moved_back: core.is_planted(Plant::TerminalMovedBack),
        short_names: core.is_planted(Plant::RandomNameAsKey).then(Default::default),
        holes_taken: core.is_planted(Plant::HolesTaken),
        duplicates_taken: core.is_planted(Plant::DuplicatesTaken),
        forks_unseen: core.is_planted(Plant::ForksUnseen),
        put_back_counts: core.is_planted(Plant::PutBackCounts),
    }
}

impl std::str::FromStr for Plant {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let names = Plant::ALL.iter().map(|plant| plant.name());
        let known = || names.collect::<Vec<_>>().join(", ");
        Plant::ALL
            .iter()
            .copied()
            .find(|plant| plant.name() == text)
            .ok_or_else(|| format!("no planted bug is called `{text}`; known are {}", known()))
    }
}
