//! What follows from an input: writes first, then effects.

use muster_model::digest::Digest;
use muster_model::id::{BootId, Incarnation, Sequence};
use muster_model::message::RunId;
use muster_model::package::{Detection, Program};
use muster_model::parameter::Values;
use muster_model::policy::{PinnedPackage, PinnedProgram, Policy};
use muster_model::wire::batch::Batch;
use serde::{Deserialize, Serialize};

use crate::maintenance::Fault;
use crate::saved::{ContentRecord, Kept, Key, Memory, ObligationRecord, RunRecord};
use crate::telling::Telling;
use crate::turn::Turn;

/// The outcome of one input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// To be saved in one transaction, durably, before any effect. Empty: nothing to save.
    pub writes: Vec<Write>,
    /// To be carried out after that, in order. Lost if the process dies: the machine asks again for
    /// what still matters when it is restored.
    pub effects: Vec<Effect>,
}

/// One row of the journal. Each replaces what the same key had.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// The device's memory of itself.
    Memory(Box<Memory>),
    /// The policy acted on.
    Policy(Box<Policy>),
    /// An obligation.
    Obligation(Box<ObligationRecord>),
    /// An old occurrence of a rule that has ended, and that the site knows of.
    ObligationForgotten(Key),
    /// A run.
    Run(Box<RunRecord>),
    /// A run of which nothing more needs to be known: the site has its outcome, or it never began.
    RunForgotten(RunId),
    /// Content that is here, or on its way.
    Content(Box<ContentRecord>),
    /// Content that nothing needs any more.
    ContentForgotten(Digest),
    /// A message of the stream, under its sequence.
    Message(Kept),
    /// Messages up to and including this one are older than anything that must be kept.
    MessagesForgotten(Sequence),
}

/// Something to do. The shell answers each effect that says so, in bounded time, however it ends: the
/// machine waits for nothing else.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask for the policy; answered by `PolicyArrived`, `NothingNew`, `PollFailed` or
    /// `PolicyRefused`. At most one is under way.
    Poll {
        /// The tag of the policy at hand.
        tag: Option<Digest>,
        /// How long the site may hold the poll.
        wait: std::time::Duration,
    },
    /// Post a batch; answered by `ReceiptArrived`, `SiteBehind` or `SendFailed`. At most one is under
    /// way. The shell signs: the batch comes as its parts.
    Send(Unsigned),
    /// Ask for the account; answered by `AccountArrived` or `PollFailed`.
    FetchAccount,
    /// Fetch what is missing of a package and verify it; answered by `Content`.
    Fetch(PinnedPackage),
    /// Stop fetching, remove what is here.
    DropContent(Digest),
    /// Look at disk, package manager and the like; answered by `Conditions`.
    CheckConditions {
        /// The obligation.
        key: Key,
        /// The program that would run.
        program: Box<Program>,
        /// Bytes of content to unpack.
        size: u64,
    },
    /// Unpack (checking every digest again) and run a detection; answered by `Detected`.
    Detect {
        /// The obligation.
        key: Key,
        /// The package's manifest.
        manifest: Digest,
        /// The detection.
        detection: Box<Detection>,
    },
    /// Prepare the run's folder (checking every digest again), raise the launch number durably, start
    /// the supervisor with the folder's lock; then follow it. If content was altered, `Content` with
    /// `Refused` comes before `ArmFailed`. Answered by `RunSeen` when the
    /// supervisor has ended, or `ArmFailed`.
    Arm(Box<Launch>),
    /// Look at a run's folder, and follow the supervisor if there is one; answered by `RunSeen`, once
    /// for `Alive`, and again when the supervisor has ended.
    Inspect(RunId),
    /// Tell the supervisor to end the program.
    Stop(RunId),
    /// Show something to users. Not answered: nothing depends on whether they see it.
    Tell(Telling),
    /// The machine was put back to a snapshot: set this memory aside, and go on in that life. Not
    /// answered: this machine ends.
    GoOnAs(Incarnation),
    /// Restart the machine; answered by `RestartTried`. No run is under way, and what may be sent has
    /// been sent.
    Restart,
    /// Lay the release out (checking every digest again), give it a trial of that length, and end: another
    /// version is started. Answered by `Release` only if it was not taken up.
    TakeUp {
        /// Its package.
        package: PinnedPackage,
        /// How long it has to reach the site while the site can be reached.
        trial: muster_model::period::Period,
    },
    /// The release with this manifest, which runs, has reached the site: durably, it stands from now on.
    /// Answered by `Release`.
    TrialPassed(Digest),
    /// That the version before is back, in place of this release, has been said.
    ReturnTold(Digest),
    /// Look at the agent's own files, without changing, stopping or locking anything; answered by
    /// `Verified`. At most one is under way.
    Verify,
    /// Mend this, by a new copy in the place of the old one; answered by `Repaired`. Never of content,
    /// which is fetched again, and never a run's folder.
    Repair(Fault),
    /// The outcome is saved: of the run's folder only what tells how it ended must stay, until
    /// `Discard`.
    Clean(RunId),
    /// The site has the outcome, or nothing was started: the run's folder may go. A folder that no
    /// [`RunRecord`] names is left from a `Discard` that was lost and may go too, but only while no
    /// account is awaited.
    Discard(RunId),
    /// The obligation is over: its private copy of the content for detection may go.
    Release(Key),
}

/// What a run needs, and all that must be known to judge it: it lies in the run's folder, where a
/// device that lost its journal finds it again ([`crate::input::FoundRun`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Launch {
    /// The run.
    pub run: RunId,
    /// The launch number: a supervisor with a lower one exits.
    pub launch: u32,
    /// The obligation.
    pub key: Key,
    /// The advertisement's name, for the program's environment.
    pub advertisement_name: String,
    /// Which attempt.
    pub attempt: u32,
    /// How many attempts so far do not count ([`ObligationRecord::uncounted`]).
    pub uncounted: u32,
    /// The revision followed.
    pub revision: u32,
    /// The package.
    pub package: PinnedPackage,
    /// The program, as signed.
    pub program: Program,
    /// The detection, as signed.
    pub detection: Option<Detection>,
    /// The boot in which it is armed.
    pub boot: BootId,
    /// How long it has between TERM and KILL.
    pub grace: std::time::Duration,
    /// On the boot clock of this boot: a supervisor that has not entered by then does not enter at all,
    /// because the program would outlast its window. `None`: at any time.
    pub start_by: Option<muster_model::clock::Elapsed>,
    /// The values of its parameters.
    #[serde(default, skip_serializing_if = "Values::is_empty")]
    pub parameters: Values,
    /// It goes before the program that is advertised.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dependency: bool,
    /// What goes before the program that is advertised, pinned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<PinnedProgram>,
    /// The user whose turn it is, of a program that runs for each who is logged on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// All turns, as they stand before this run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<Turn>,
}

/// The parts of a batch; the shell signs and encodes them ([`Batch::signed`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned {
    /// The first message's sequence.
    pub first: Sequence,
    /// The chain before it.
    pub before: Digest,
    /// The oldest message still held.
    pub kept_from: Sequence,
    /// Messages waiting in all.
    pub waiting: u64,
    /// The messages.
    pub messages: Vec<Vec<u8>>,
}

impl Unsigned {
    /// Signs the batch with the device's key.
    pub fn sign(
        self,
        key: &muster_model::sign::PrivateKey,
        device: muster_model::id::DeviceId,
        incarnation: muster_model::id::Incarnation,
    ) -> Batch {
        Batch::signed(
            key,
            device,
            incarnation,
            self.first,
            self.before,
            self.kept_from,
            self.waiting,
            self.messages,
        )
    }
}
