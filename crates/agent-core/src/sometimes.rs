//! Which rare branches have fired, so that a test can demand that every one of them did.
//!
//! Costs one `or` where it is said. The simulator fails a campaign in which a branch never fired: such
//! a campaign proves nothing about it.

/// A branch that is seldom taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Branch {
    /// An input that fits nothing was ignored.
    Ignored,
    /// The site had less than it had acknowledged: messages are sent again.
    Rewound,
    /// A policy of another epoch was taken: the site was restored.
    EpochEntered,
    /// A policy was refused.
    PolicyRefused,
    /// A receipt that does not fit this stream was refused.
    ReceiptRefused,
    /// A site claims more of the stream than was ever written: this memory is an older copy.
    SiteAhead,
    /// Nothing had been executed: the launch number was raised and the run armed again.
    LaunchRaised,
    /// A run was armed, never entered, and may not start now.
    Unarmed,
    /// A run was cut short.
    CutShort,
    /// Evidence contradicted itself.
    Disputed,
    /// An attempt failed and another one follows.
    Retried,
    /// An obligation is no longer offered.
    Withdrawn,
    /// A withdrawn one was offered again.
    Reopened,
    /// An unstarted one moved to a newer revision.
    Moved,
    /// It was too late to start.
    Expired,
    /// The site was silent for longer than `offlineFor`.
    StalePolicy,
    /// Another run had the turn.
    Turn,
    /// A condition stood in the way.
    Condition,
    /// Content could not be fetched.
    ContentUnavailable,
    /// Content was refused.
    ContentRefused,
    /// A running program was ordered to end.
    StopOrdered,
    /// The goal was found reached before a run.
    AlreadyPresent,
    /// A restart is needed before anything is judged.
    RestartPending,
    /// The shell was asked to restart the machine.
    RestartAsked,
    /// A try to restart the machine failed.
    RestartFailed,
    /// The machine restarted for one obligation too often.
    RestartLoop,
    /// Notice of a start was given.
    NoticeGiven,
    /// A user's request was taken.
    UserAsked,
    /// The machine has started anew.
    Rebooted,
    /// The memory was lost.
    MemoryLost,
    /// The site's account was taken.
    AccountTaken,
    /// The account named a run whose record was lost.
    Recalled,
    /// The site said that the machine was put back to a snapshot.
    PutBack,
    /// What a snapshot undid was opened again.
    DoneAgain,
    /// Detection was asked about what a snapshot undid.
    DetectedUndone,
    /// A run folder told of a run that the account did not know, or no longer.
    FoundAgain,
    /// The outbox had no room for the outcome of a new run.
    OutboxFull,
    /// A message gave way to outcomes.
    GaveWay,
    /// What gave way was told once there was room again.
    ToldLater,
    /// What stood in messages that are no longer kept was said again to a restored site.
    Restated,
    /// Where an obligation stands was said again, because a site that was restored means it anew.
    OfferedAnew,
    /// Old acknowledged messages were forgotten.
    Forgotten,
    /// An answer did not come in time.
    AnswerOverdue,
    /// No window was open that had room.
    WindowShut,
    /// A freeze held, or began too soon.
    Frozen,
    /// The machine had only just started.
    BootGrace,
    /// An occurrence was not started before the next one fell due.
    Missed,
    /// Many occurrences of a rule fell due while the device was off.
    ManyMissed,
    /// An occurrence was first seen due too late for its late rule.
    Late,
    /// A requirement did not hold.
    Unmet,
    /// What goes before a program succeeded.
    DependencyDone,
    /// What goes before a program did not succeed.
    DependencyFailed,
    /// What replaces a package was there before it.
    NewerPresent,
    /// The turn went from one user to the next.
    NextUser,
    /// A user had logged off before their turn.
    PassedOver,
    /// A verification found something that is not as it should be.
    CheckFailed,
    /// A repair waited for a run.
    RepairWaits,
    /// Something was mended.
    Mended,
    /// An upgrade of the agent waited for a run or a restart.
    UpgradeWaits,
    /// A release was taken up.
    Upgraded,
    /// A release reached the site.
    ReachedSite,
    /// The version before a release returned.
    Returned,
}

impl Branch {
    /// Every one of them.
    pub const ALL: [Branch; 62] = [
        Branch::Ignored,
        Branch::Rewound,
        Branch::EpochEntered,
        Branch::PolicyRefused,
        Branch::ReceiptRefused,
        Branch::SiteAhead,
        Branch::LaunchRaised,
        Branch::Unarmed,
        Branch::CutShort,
        Branch::Disputed,
        Branch::Retried,
        Branch::Withdrawn,
        Branch::Reopened,
        Branch::Moved,
        Branch::Expired,
        Branch::StalePolicy,
        Branch::Turn,
        Branch::Condition,
        Branch::ContentUnavailable,
        Branch::ContentRefused,
        Branch::StopOrdered,
        Branch::AlreadyPresent,
        Branch::RestartPending,
        Branch::RestartAsked,
        Branch::RestartFailed,
        Branch::RestartLoop,
        Branch::NoticeGiven,
        Branch::UserAsked,
        Branch::Rebooted,
        Branch::MemoryLost,
        Branch::AccountTaken,
        Branch::Recalled,
        Branch::PutBack,
        Branch::DoneAgain,
        Branch::DetectedUndone,
        Branch::FoundAgain,
        Branch::OutboxFull,
        Branch::GaveWay,
        Branch::ToldLater,
        Branch::Restated,
        Branch::OfferedAnew,
        Branch::Forgotten,
        Branch::AnswerOverdue,
        Branch::WindowShut,
        Branch::Frozen,
        Branch::BootGrace,
        Branch::Missed,
        Branch::ManyMissed,
        Branch::Late,
        Branch::Unmet,
        Branch::DependencyDone,
        Branch::DependencyFailed,
        Branch::NewerPresent,
        Branch::NextUser,
        Branch::PassedOver,
        Branch::CheckFailed,
        Branch::RepairWaits,
        Branch::Mended,
        Branch::UpgradeWaits,
        Branch::Upgraded,
        Branch::ReachedSite,
        Branch::Returned,
    ];
}

/// The branches that have fired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fired(u64);

impl Fired {
    /// Notes one.
    pub(crate) fn note(&mut self, branch: Branch) {
        self.0 |= 1 << branch as u8;
    }

    /// Whether it has fired.
    pub fn has(self, branch: Branch) -> bool {
        self.0 & (1 << branch as u8) != 0
    }

    /// What fired in either.
    #[must_use]
    pub fn and(self, other: Fired) -> Fired {
        Fired(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_branch_has_a_bit_of_its_own() {
        let mut fired = Fired::default();
        for branch in Branch::ALL {
            assert!(!fired.has(branch), "{branch:?}");
            fired.note(branch);
        }
        assert_eq!(fired.0.count_ones() as usize, Branch::ALL.len());
    }
}
