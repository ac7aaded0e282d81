//! The list of durable points. A place in the code where something becomes durable, or an effect takes
//! place that must not be lost or doubled, has its line here.
//!
//! What follows from a line: its name can be armed, `muster failpoints` prints it, `xtask tidy` asks for
//! both of its sides in the code, and the tests kill a process at every visit of it. The other way
//! round, `xtask tidy` finds code that syncs, renames, links or commits and names no point.

use std::fmt;

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal;)*) => {
        /// A durable point: where a state becomes durable, or an effect that must not be lost or
        /// doubled takes place. One line here per point; [`Point::ALL`] and the tests follow.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum Point {
            $($(#[$doc])* $point,)*
        }

        impl Point {
            /// Every durable point of every role.
            pub const ALL: &'static [Point] = &[$(Point::$point,)*];

            /// The name that arms it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Point::$point => $name,)*
                }
            }
        }
    };
}

points! {
    /// Any role: the bytes of a draft are synced.
    PublishSync = "publish.sync";
    /// Any role: a draft takes its target's place.
    PublishRename = "publish.rename";
    /// Any role: a draft or a file takes a name that must be new.
    PublishLink = "publish.link";
    /// Any role: a file is removed.
    PublishRemove = "publish.remove";
    /// Any role: the names in a folder are synced.
    PublishFolder = "publish.folder";
    /// Agent: the objects that were fetched are synced.
    ContentSync = "content.sync";
    /// Agent: a state change and its message are committed to the journal, or its tables are.
    JournalCommit = "journal.commit";
    /// Agent: a supervisor is started for an armed run.
    RunLaunch = "run.launch";
    /// Agent: the folder of a run goes, because the site has its outcome.
    RunRemove = "run.remove";
    /// Agent: the machine is told to restart.
    RestartCommand = "restart.command";
    /// Supervisor: `entered` is saved, right before exec.
    SupervisorEntered = "supervisor.entered";
    /// Supervisor: `exit` is saved, right after the program's end.
    SupervisorExit = "supervisor.exit";
    /// Agent: what enrolment or renewal returned is saved.
    IdentitySave = "identity.save";
    /// Agent: another version of it stands, is on trial, or has returned.
    VersionsSwap = "versions.swap";
    /// Site: a batch of messages, its effects and its receipt are committed.
    MessagesCommit = "messages.commit";
    /// Site: a change and its revision are committed.
    RevisionCommit = "revision.commit";
    /// Site: anything without a revision of its own is committed.
    StoreCommit = "store.commit";
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
