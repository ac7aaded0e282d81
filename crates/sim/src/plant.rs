//! Planted bugs: the proof that the invariants can see. Each is a mistake that such a system has made
//! in the field; `sim --plant NAME` switches it on, and a fleet with it on must be found broken.

/// A bug that can be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plant {
    /// The site answers with a receipt before it commits.
    AcknowledgedBeforeCommit,
    /// The site stores messages under short random names; one that is taken counts as delivered.
    RandomNameAsKey,
    /// An access point's own word relieves the agent.
    AccessPointReceiptRelieves,
    /// An outcome that waited too long is not sent any more.
    OutcomeTimeLimit,
    /// After a restart the agent gives a sequence number away a second time.
    SequenceReusedAfterRestart,
    /// A late word moves an obligation that had ended.
    TerminalMovedBack,
    /// A run's exit record is cleaned away before its outcome is saved.
    ExitRecordCleanedBeforeReported,
    /// The agent launches a run again without having taken its lock.
    SecondLaunchWithoutLock,
    /// The agent carries out effects before the journal is synced.
    ActedBeforeSynced,
    /// The supervisor starts the program before it has recorded that it does.
    ExecutedBeforeEntered,
    /// An agent that lost its journal does not read the run folders.
    RunFoldersNotRead,
    /// A window is asked whether it is open, not whether it has room for the run.
    WindowWithoutRoom,
    /// A supervisor that comes too late for its window enters all the same.
    LateSupervisorEnters,
}

impl Plant {
    /// Every one of them.
    pub const ALL: [Plant; 13] = [
        Plant::AcknowledgedBeforeCommit,
        Plant::RandomNameAsKey,
        Plant::AccessPointReceiptRelieves,
        Plant::OutcomeTimeLimit,
        Plant::SequenceReusedAfterRestart,
        Plant::TerminalMovedBack,
        Plant::ExitRecordCleanedBeforeReported,
        Plant::SecondLaunchWithoutLock,
        Plant::ActedBeforeSynced,
        Plant::ExecutedBeforeEntered,
        Plant::RunFoldersNotRead,
        Plant::WindowWithoutRoom,
        Plant::LateSupervisorEnters,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Plant::AcknowledgedBeforeCommit => "acknowledged-before-commit",
            Plant::RandomNameAsKey => "random-name-as-key",
            Plant::AccessPointReceiptRelieves => "access-point-receipt-relieves",
            Plant::OutcomeTimeLimit => "outcome-time-limit",
            Plant::SequenceReusedAfterRestart => "sequence-reused-after-restart",
            Plant::TerminalMovedBack => "terminal-moved-back",
            Plant::ExitRecordCleanedBeforeReported => "exit-record-cleaned-before-reported",
            Plant::SecondLaunchWithoutLock => "second-launch-without-lock",
            Plant::ActedBeforeSynced => "acted-before-synced",
            Plant::ExecutedBeforeEntered => "executed-before-entered",
            Plant::RunFoldersNotRead => "run-folders-not-read",
            Plant::WindowWithoutRoom => "window-without-room",
            Plant::LateSupervisorEnters => "late-supervisor-enters",
        }
    }
}

impl std::str::FromStr for Plant {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Plant::ALL.map(Plant::name).join(", ");
        Plant::ALL
            .into_iter()
            .find(|plant| plant.name() == text)
            .ok_or_else(|| format!("no planted bug is called `{text}`; known are {}", known()))
    }
}
