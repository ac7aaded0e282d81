//! The state of an obligation: exactly one at any instant, each with a reason a person can read.
//!
//! ```text
//! targeted -> accepted -> waiting(why) <-> downloading -> running(k) -> restart-pending -> terminal
//!                      \-> available                       \_ waiting(retry) _/
//! terminal: succeeded | failed | timed-out | interrupted | expired | superseded | withdrawn
//!           | rolled-back | lost
//! ```
//!
//! The device's own account is authoritative for what it ran. What the *site* decides for a device
//! that said nothing (`withdrawn`, `expired`, `lost`) yields to a later word of the device; what the
//! device once ended stays ended (accounting invariant 7).

mod judge;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Wall;

pub use judge::{Author, Verdict, judge};

/// Where an obligation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// The site means the device; the device has said nothing yet.
    Targeted,
    /// The device holds the policy.
    Accepted,
    /// Nothing mandatory: a user may start it.
    Available,
    /// The machine is not of the kind the program is for.
    NotApplicable {
        /// Why.
        why: NotApplicable,
    },
    /// It will go on; this is what it waits for.
    Waiting {
        /// For what.
        why: Waiting,
        /// When it is looked at again at the latest, in trusted time, if that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Wall>,
    },
    /// Content is on its way.
    Downloading {
        /// Bytes that are here.
        have: u64,
        /// Bytes in all.
        of: u64,
    },
    /// The program has been started.
    Running {
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// The run can be judged only after a restart of the machine, which has not happened yet.
    RestartPending {
        /// Who restarts the machine, or what that waits for; absent in what release 0.1 said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<Restart>,
        /// What went wrong with the last try, for a person.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
    },
    /// The goal is reached.
    Succeeded {
        /// How that is known.
        evidence: Evidence,
    },
    /// The goal is not reached, and no attempt is left.
    Failed {
        /// What happened.
        code: Failure,
    },
    /// The program outran its time and was ended.
    TimedOut,
    /// The run was cut short and may not start again.
    Interrupted {
        /// By what.
        cause: Interruption,
    },
    /// The time to start is over.
    Expired {
        /// Which time.
        why: Expiry,
    },
    /// Another package took its place.
    Superseded {
        /// Which one.
        by: String,
    },
    /// The administrator no longer means the device.
    Withdrawn {
        /// How that came.
        why: Withdrawal,
    },
    /// A restore of the machine undid the success.
    RolledBack {
        /// How that is known.
        cause: String,
    },
    /// The device can never answer.
    Lost {
        /// Why.
        cause: Loss,
    },
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// Every one of them.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// The word that people see.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    )*};
}

reasons! {
    /// Why a machine is not one the program is for.
    NotApplicable {
        /// Its platform is another.
        Platform = "platform",
        /// A newer version was found.
        NewerPresent = "newer-present",
        /// A requirement of the program does not certainly hold for it.
        Requirement = "requirement",
    }

    /// What an obligation waits for.
    Waiting {
        /// The assignment's time.
        Time = "time",
        /// Content that no access point could give yet.
        Content = "content",
        /// Room on disk.
        Disk = "disk",
        /// Room for outcomes in the agent's outbox.
        Outbox = "outbox",
        /// The package manager's lock.
        PackageManager = "package-manager",
        /// Another run of this device.
        Turn = "turn",
        /// The next attempt.
        Retry = "retry",
        /// Word from the site, which has been silent for longer than `offlineFor`.
        StalePolicy = "stale-policy",
        /// The account that the site keeps of this device.
        Account = "account",
        /// A person who stopped the advertisement.
        Stopped = "stopped",
        /// A person who halted everything.
        Halted = "halted",
        /// A person who must admit the device or clear a suspicion.
        Held = "held",
        /// An advertisement that wants the opposite.
        Conflict = "conflict",
        /// A person who is, or is not, logged on.
        User = "user",
        /// The end of the countdown, or of the deferral, that whoever is logged on was given.
        Notice = "notice",
        /// The restart of the machine that an earlier run needs.
        Restart = "restart",
        /// A paused component.
        Paused = "paused",
        /// A component that the site has switched off.
        SwitchedOff = "switched-off",
        /// A maintenance window with room for the run.
        Window = "window",
        /// The end of a freeze.
        Freeze = "freeze",
        /// The next start of the machine.
        StartUp = "start-up",
        /// The end of the time after a start of the machine in which nothing is started (`bootGrace`).
        BootGrace = "boot-grace",
        /// Somebody to log on.
        LogOn = "log-on",
        /// Mains power.
        Power = "power",
        /// A network that costs nothing by the byte.
        Link = "link",
        /// The publisher, who holds the program back.
        Disabled = "disabled",
        /// The user as whom the program runs, or the right to become that user.
        RunAs = "run-as",
        /// The site, which has not pinned the programs that must run before.
        Dependency = "dependency",
    }

    /// Who restarts the machine, or what that waits for.
    Restart {
        /// The agent, as soon as the site was told or could not be reached for ten seconds.
        Agent = "agent",
        /// Other runs, which end first.
        Runs = "runs",
        /// The end of the countdown that whoever is logged on was given.
        Notice = "notice",
        /// A maintenance window that allows restarts, or the end of a freeze.
        Window = "window",
        /// The program, which was declared to do it itself.
        Program = "program",
        /// Somebody else: the agent has no command for it.
        Outside = "outside",
        /// The next try: the restart command failed.
        Command = "command-failed",
    }

    /// Why an attempt failed.
    Rule {
        /// The exit code is no success code.
        ExitCode = "exit-code",
        /// The program ended well but detection does not find its goal.
        NotDetected = "not-detected",
        /// Detection could not tell.
        DetectionError = "detection-error",
        /// The program could not be started.
        NotStarted = "not-started",
        /// A signal ended the program.
        Signal = "signal",
        /// The result file says so.
        ResultFile = "result-file",
        /// The content is not what its publisher signed.
        ContentRefused = "content-refused",
        /// The package is signed by nobody that the device trusts.
        PublisherRefused = "publisher-refused",
        /// The package was revoked.
        Revoked = "revoked",
        /// The program is not in the package.
        NoSuchProgram = "no-such-program",
        /// The machine restarted for it again and again, and the goal was never reached.
        RestartLoop = "restart-loop",
        /// The status MIF says so.
        StatusMif = "status-mif",
        /// A program that must succeed before did not.
        Dependency = "dependency",
        /// A parameter has a value that the program's publisher does not allow.
        Parameter = "parameter",
        /// The agent took the release up, and went back to the version before.
        Returned = "returned",
        /// The run for one of the users who were logged on did not end well.
        EachUser = "each-user",
    }

    /// How success is known.
    EvidenceKind {
        /// Detection found it before any run.
        AlreadyPresent = "already-present",
        /// Detection finds the goal reached.
        Detected = "detected",
        /// The result file says so.
        ResultFile = "result-file",
        /// The exit code alone; the package has no detection.
        ExitCode = "exit-code",
        /// Detection finds the goal reached after a restart.
        DetectedAfterRestart = "detected-after-restart",
        /// The status MIF says so.
        StatusMif = "status-mif",
        /// It ran for another advertisement, and succeeded.
        AlreadyRan = "already-ran",
        /// The agent runs as that release and has reached its site.
        ReachedSite = "reached-site",
        /// It ran well for each user who was logged on when it started.
        EachUser = "each-user",
        /// The same, but for users who logged off before their turn.
        UsersLeft = "users-left",
    }

    /// What cut a run short.
    Interruption {
        /// The machine restarted, or lost power.
        Restart = "restart",
        /// The supervisor was killed.
        Killed = "killed",
        /// A person stopped it.
        Stopped = "stopped",
        /// The agent's memory of the run is gone.
        MemoryLost = "memory-lost",
    }

    /// Which time is over.
    Expiry {
        /// The advertisement's.
        Advertisement = "advertisement",
        /// The next occurrence fell due first.
        Missed = "missed",
        /// Its time went by while the device was off, and its advertisement says `late: skip`.
        Late = "late",
    }

    /// How a device came to be no longer meant.
    Withdrawal {
        /// It left the collection.
        LeftCollection = "left-collection",
        /// The advertisement was deleted.
        Deleted = "deleted",
        /// The assignment was removed from the advertisement.
        AssignmentRemoved = "assignment-removed",
        /// Before its removal began the program was advertised to it again, or its package was.
        AdvertisedAgain = "advertised-again",
    }

    /// Why a device can never answer.
    Loss {
        /// It was retired.
        Retired = "retired",
        /// It was enrolled anew under another id.
        Reinstalled = "reinstalled",
        /// Its memory was destroyed.
        MemoryDestroyed = "memory-destroyed",
    }
}

/// How success is known, in a form that keeps the detail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// The rule that decided.
    pub rule: EvidenceKind,
    /// The exit code, if a program ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// What happened in an attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The rule that decided.
    pub rule: Rule,
    /// The exit code, or the number of the signal as `128 + n`, if a program ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What was found, for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// The bare word of a state: what is counted and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each word is documented at its state")]
pub enum Word {
    Targeted,
    Accepted,
    Available,
    NotApplicable,
    Waiting,
    Downloading,
    Running,
    RestartPending,
    Succeeded,
    Failed,
    TimedOut,
    Interrupted,
    Expired,
    Superseded,
    Withdrawn,
    RolledBack,
    Lost,
}

impl Word {
    /// Every word, in the order of an obligation's life.
    pub const ALL: [Word; 17] = [
        Word::Targeted,
        Word::Accepted,
        Word::Available,
        Word::NotApplicable,
        Word::Waiting,
        Word::Downloading,
        Word::Running,
        Word::RestartPending,
        Word::Succeeded,
        Word::Failed,
        Word::TimedOut,
        Word::Interrupted,
        Word::Expired,
        Word::Superseded,
        Word::Withdrawn,
        Word::RolledBack,
        Word::Lost,
    ];

    /// The text.
    pub fn as_str(self) -> &'static str {
        match self {
            Word::Targeted => "targeted",
            Word::Accepted => "accepted",
            Word::Available => "available",
            Word::NotApplicable => "not-applicable",
            Word::Waiting => "waiting",
            Word::Downloading => "downloading",
            Word::Running => "running",
            Word::RestartPending => "restart-pending",
            Word::Succeeded => "succeeded",
            Word::Failed => "failed",
            Word::TimedOut => "timed-out",
            Word::Interrupted => "interrupted",
            Word::Expired => "expired",
            Word::Superseded => "superseded",
            Word::Withdrawn => "withdrawn",
            Word::RolledBack => "rolled-back",
            Word::Lost => "lost",
        }
    }

    /// Nothing more will happen by itself.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Word::Succeeded
                | Word::Failed
                | Word::TimedOut
                | Word::Interrupted
                | Word::Expired
                | Word::Superseded
                | Word::Withdrawn
                | Word::RolledBack
                | Word::Lost
        )
    }

    /// Counts for `wait --for complete`: terminal or not applicable.
    pub fn is_complete(self) -> bool {
        self.is_terminal() || self == Word::NotApplicable
    }

    /// No program of this obligation has been started, so it may still be withdrawn.
    pub fn is_unstarted(self) -> bool {
        matches!(
            self,
            Word::Targeted
                | Word::Accepted
                | Word::Available
                | Word::NotApplicable
                | Word::Waiting
                | Word::Downloading
        )
    }
}

impl std::str::FromStr for Word {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|word| word.as_str() == text)
            .ok_or_else(|| format!("no state is called {text:?}"))
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl State {
    /// The bare word.
    pub fn word(&self) -> Word {
        match self {
            State::Targeted => Word::Targeted,
            State::Accepted => Word::Accepted,
            State::Available => Word::Available,
            State::NotApplicable { .. } => Word::NotApplicable,
            State::Waiting { .. } => Word::Waiting,
            State::Downloading { .. } => Word::Downloading,
            State::Running { .. } => Word::Running,
            State::RestartPending { .. } => Word::RestartPending,
            State::Succeeded { .. } => Word::Succeeded,
            State::Failed { .. } => Word::Failed,
            State::TimedOut => Word::TimedOut,
            State::Interrupted { .. } => Word::Interrupted,
            State::Expired { .. } => Word::Expired,
            State::Superseded { .. } => Word::Superseded,
            State::Withdrawn { .. } => Word::Withdrawn,
            State::RolledBack { .. } => Word::RolledBack,
            State::Lost { .. } => Word::Lost,
        }
    }

    /// The rest of the state, for the `reason` of an answer. `None` where the word says it all.
    pub fn reason(&self) -> Option<String> {
        match self {
            State::Targeted | State::Accepted | State::Available => None,
            State::TimedOut | State::RestartPending { why: None, .. } => None,
            State::RestartPending { why: Some(why), detail } if detail.is_empty() => {
                Some(why.to_string())
            }
            State::RestartPending { why: Some(why), detail } => Some(format!("{why}: {detail}")),
            State::NotApplicable { why } => Some(why.to_string()),
            State::Waiting { why, until: None } => Some(why.to_string()),
            State::Waiting { why, until: Some(until) } => Some(format!("{why} until {until}")),
            // A package without content, or one whose size is not known yet.
            State::Downloading { of: 0, .. } => None,
            State::Downloading { have, of } => Some(format!("{have} of {of} bytes")),
            State::Running { attempt } => Some(format!("attempt {attempt}")),
            State::Succeeded { evidence } => Some(evidence.rule.to_string()),
            State::Failed { code } => Some(code.to_string()),
            State::Interrupted { cause } => Some(cause.to_string()),
            State::Expired { why } => Some(why.to_string()),
            State::Superseded { by } => Some(by.clone()),
            State::Withdrawn { why } => Some(why.to_string()),
            State::RolledBack { cause } => Some(cause.clone()),
            State::Lost { cause } => Some(cause.to_string()),
        }
    }

    /// The exit code that the state carries.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            State::Succeeded { evidence } => evidence.exit_code,
            State::Failed { code } => code.exit_code,
            _ => None,
        }
    }

    /// The rule that decided, where one did.
    pub fn rule(&self) -> Option<&'static str> {
        match self {
            State::Succeeded { evidence } => Some(evidence.rule.word()),
            State::Failed { code } => Some(code.rule.word()),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rule.fmt(f)?;
        if let Some(code) = self.exit_code {
            write!(f, " (exit code {code})")?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            Some(reason) => write!(f, "{}({reason})", self.word()),
            None => self.word().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
