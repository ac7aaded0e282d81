//! What the journal holds: enough to go on after any crash.

use muster_model::advertisement::At;
use muster_model::clock::{TrustedTime, Wall};
use muster_model::digest::Digest;
use muster_model::facts::Facts;
use muster_model::id::{AdvertisementId, BootId, DeviceId, EpochId, Incarnation, Sequence};
use muster_model::message::{Occurrence, RunId};
use muster_model::name::Name;
use muster_model::package::{Detection, Program};
use muster_model::parameter::Values;
use muster_model::policy::{PinnedPackage, PinnedProgram, Policy};
use muster_model::state::{Interruption, Rule, State, Waiting};
use muster_model::wire::batch::chain;
use serde::{Deserialize, Serialize};

use crate::input::{Exit, Manifested};
use crate::maintenance::Maintenance;
use crate::newer::Making;
use crate::turn::Turn;

/// Which obligation of this device.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The advertisement.
    pub advertisement: AdvertisementId,
    /// The occurrence.
    pub occurrence: Occurrence,
}

/// Everything that was saved, as the journal returns it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Saved {
    /// The device's memory of itself; `None` in a journal that is new.
    pub memory: Option<Memory>,
    /// The policy acted on; apart from the memory, because it may be large and changes seldom.
    pub policy: Option<Policy>,
    /// All obligations.
    pub obligations: Vec<ObligationRecord>,
    /// Runs that are followed, or whose outcome the site may not have yet.
    pub runs: Vec<RunRecord>,
    /// Content at hand or on its way.
    pub contents: Vec<ContentRecord>,
    /// Messages, by sequence, without a hole.
    pub messages: Vec<Kept>,
}

/// The device's memory of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Who it is.
    pub device: DeviceId,
    /// Which life of its memory.
    pub incarnation: Incarnation,
    /// The last message written.
    pub head: Sequence,
    /// The chain at `head`.
    pub chain: Digest,
    /// The site's receipt covers everything up to here.
    pub relieved: Sequence,
    /// The epoch that the receipt is of.
    pub epoch: Option<EpochId>,
    /// Epochs that the site has left: a policy of one of them is a replay.
    #[serde(default)]
    pub epochs_left: Vec<EpochId>,
    /// Where the kept messages begin; `None` while nothing has been forgotten.
    #[serde(default)]
    pub forgotten: Option<Forgotten>,
    /// Trusted time.
    pub time: TrustedTime,
    /// The last trusted time known, as the floor after a boot.
    pub last_known: Wall,
    /// When the site was last heard, in trusted time.
    pub last_heard: Option<Wall>,
    /// The boot that the boot clock belongs to.
    pub boot: BootId,
    /// The facts last reported.
    pub facts: Facts,
    /// This incarnation began because memory was lost, and the account has not come yet.
    pub awaits_account: bool,
    /// Verifications, repairs and components.
    #[serde(default, skip_serializing_if = "Maintenance::is_default")]
    pub maintenance: Maintenance,
    /// What was not written to make room in the outbox.
    #[serde(default, skip_serializing_if = "GaveWay::is_default")]
    pub gave_way: GaveWay,
    /// Occurrences of rules that were let go of. `None` in a memory of the first release, which did not
    /// note it: what is older than one that is known was let go of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub let_go: Option<Vec<LetGo>>,
}

/// Old occurrences of a rule that the device keeps no record of: they have ended, and the site knows how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LetGo {
    /// Of which advertisement.
    pub advertisement: AdvertisementId,
    /// Of which of its assignments.
    pub assignment: Name,
    /// All up to this number that have no record.
    pub through: u32,
}

/// Messages that gave way to outcomes in an outbox that is half full. Each is counted in the write that
/// would have held it, and told by the count of a tombstone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GaveWay {
    /// Messages that were not written, in this incarnation.
    pub dropped: u64,
    /// How many of them stand in tombstones of the stream.
    pub told: u64,
    /// The newest facts are among them.
    pub facts: bool,
}

impl GaveWay {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The end of what the outbox no longer keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// The last message that is gone.
    pub through: Sequence,
    /// The chain at it, which the first kept message follows.
    pub chain: Digest,
}

/// An obligation as the device keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObligationRecord {
    /// Which one.
    pub key: Key,
    /// The advertisement's name.
    pub name: String,
    /// The revision followed.
    pub revision: u32,
    /// The package, pinned; `None` only for what the site's account told and no policy has offered
    /// since.
    pub package: Option<PinnedPackage>,
    /// The program's name.
    pub program: String,
    /// Runs so far.
    pub attempts: u32,
    /// Those of them that do not count against the program's attempts: spent by another package or
    /// program before an edit, before a rejoining, or on nothing but a held lock.
    #[serde(default)]
    pub uncounted: u32,
    /// Whether a program was executed for one of the attempts that count: what detection finds after a run
    /// that could not start is not of it. `None`: there was no run, or a release wrote this that did not
    /// note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executed: Option<bool>,
    /// The launch number already used for the next attempt, whose program was never entered.
    #[serde(default)]
    pub launches: u32,
    /// Restarts of the machine that were for this obligation.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// What users of the device were told and have said.
    #[serde(default, skip_serializing_if = "UserWord::is_default")]
    pub user: UserWord,
    /// What was last reported: the state that people see.
    pub reported: State,
    /// Since when, in trusted time.
    pub since: Wall,
    /// The message that said so; zero if it was told by the site's account.
    #[serde(default)]
    pub reported_in: Sequence,
    /// What was last reported gave way to outcomes: the site does not know it yet.
    #[serde(default, skip_serializing_if = "is_false")]
    pub untold: bool,
    /// Where it really is.
    pub stage: Stage,
    /// Exit code and detection contradicted each other.
    #[serde(default)]
    pub disputed: Option<String>,
    /// What the device noted of its times.
    #[serde(default, skip_serializing_if = "Times::is_nothing")]
    pub times: Times,
    /// What must succeed before, pinned, in the order in which it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<PinnedProgram>,
    /// What has succeeded for this obligation as one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<Done>,
    /// Its runs were told by the site's account: of several programs, which of them ran is not known.
    #[serde(default, skip_serializing_if = "is_false")]
    pub forgotten: bool,
    /// The requirement that did not hold when the program was found not applicable: a change of facts
    /// is held against it, without the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmet: Option<String>,
    /// The users whom the program at work runs for, if it runs for each who is logged on: who was when
    /// the first run began, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<Turn>,
    /// What its program makes of its package.
    #[serde(default, skip_serializing_if = "Making::is_default")]
    pub making: Making,
    /// What is on the device and replaces its package, `NAME@VERSION`, where it is not applicable because
    /// of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<String>,
}

/// What a device notes of the times of an obligation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Times {
    /// When it falls due, if a rule says so: the device opens occurrences that no policy lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<At>,
    /// The boot in which the device learnt of it, if it is due at the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learnt_in: Option<BootId>,
    /// When the device first saw it due, in trusted time, where something follows from that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fell_due: Option<Wall>,
    /// Since when the agent's upgrade has waited for runs and restarts, in trusted time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_use_since: Option<Wall>,
}

impl Times {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What users of the device were told about an obligation and have said. Times are trusted times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UserWord {
    /// Somebody asked for the program: it starts as soon as nothing forbids it.
    pub asked: bool,
    /// When notice of a mandatory start was first given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noticed: Option<Wall>,
    /// The start that was announced, or put off to, and has not been made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts: Option<Wall>,
}

impl UserWord {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A dependency that has succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The manifest of its package.
    pub manifest: Digest,
    /// The program of it.
    pub program: Name,
}

/// Where an obligation is on its way: finer than the state that people see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "kebab-case")]
pub enum Stage {
    /// Nothing has been done; what it waits for is decided anew at each look.
    Idle,
    /// Content is being fetched.
    Fetching,
    /// Detection before the run is under way.
    DetectingBefore,
    /// Conditions are being looked at.
    Checking,
    /// It waits for a condition, until the boot clock or trusted time says otherwise.
    Holding {
        /// For what.
        why: Waiting,
        /// Looked at again then, in trusted time.
        until: Wall,
    },
    /// A run is armed or under way.
    Running {
        /// Which one.
        run: RunId,
    },
    /// The run has ended; detection after it is under way.
    DetectingAfter {
        /// The run.
        run: RunId,
        /// How it ended; `None` if it was cut short.
        exit: Option<Exit>,
        /// The machine has restarted since the program was started.
        restarted: bool,
        /// What cut the run short, if it has no exit record.
        #[serde(default)]
        cause: Option<Interruption>,
    },
    /// The machine must restart before anything is judged.
    RestartPending {
        /// The run.
        run: RunId,
        /// How it ended.
        exit: Exit,
        /// The boot in which it ended.
        boot: BootId,
        /// Until then, in trusted time, the program itself has to restart the machine; `None` if that
        /// is the agent's part.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Wall>,
    },
    /// The site's account says that it was running when this device lost its memory. Its program is
    /// learned from the content again; then the run's folder is looked at.
    Recalled,
    /// The site's account says that it had ended, or was running, when the machine was put back to a
    /// snapshot. Once its program is known again, detection and the author's re-run rule decide.
    Undone,
    /// It is an agent release that is being taken up: what the versions on the device say decides.
    Upgrading,
    /// It has ended.
    Over,
}

/// A run as the device keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    /// The run.
    pub run: RunId,
    /// What it is for.
    pub key: Key,
    /// Which attempt.
    pub attempt: u32,
    /// The newest launch number.
    pub launch: u32,
    /// The boot in which it was armed.
    pub boot: BootId,
    /// The program, as signed.
    pub program: Program,
    /// The detection, as signed, so that the run can be judged whatever becomes of the content.
    #[serde(default)]
    pub detection: Option<Detection>,
    /// The manifest.
    pub manifest: Digest,
    /// Somebody ordered its end.
    #[serde(default)]
    pub stopped: bool,
    /// The message that told how it ended, once it has: it is followed no more, and its folder stays
    /// until the site has that message.
    #[serde(default)]
    pub told_in: Option<Sequence>,
    /// The values of its parameters.
    #[serde(default, skip_serializing_if = "Values::is_empty")]
    pub parameters: Values,
    /// The user whose turn it is, if the program runs for each who is logged on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// A package's content as the device keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContentRecord {
    /// Which package.
    pub package: PinnedPackage,
    /// What is known.
    pub standing: ContentStanding,
}

/// What is known of a package's content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "standing", rename_all = "kebab-case")]
pub enum ContentStanding {
    /// On its way.
    Fetching,
    /// Here and verified.
    Ready {
        /// What its manifest says.
        manifested: Manifested,
    },
    /// Never to be used.
    Refused {
        /// Which rule.
        rule: Rule,
        /// What was found.
        why: String,
    },
}

/// A message kept until the site has it, and some time longer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Its sequence.
    pub sequence: Sequence,
    /// Its exact bytes.
    pub bytes: Vec<u8>,
    /// The chain after it.
    pub chain: Digest,
    /// When it was written, in trusted time: the age for `keepRelieved`.
    pub written: Wall,
}

/// What does not fit together in what a journal returned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// A message is missing between what was forgotten and the head.
    #[error("message {missing} is not in the journal, whose stream goes from {first} to {head}")]
    Hole {
        /// The first message that is missing.
        missing: Sequence,
        /// Where the kept messages begin.
        first: Sequence,
        /// Where they end.
        head: Sequence,
    },
    /// A message is not the one that the chain says.
    #[error("message {0} in the journal does not fit the chain of its stream")]
    Chain(Sequence),
    /// There are rows, but not the memory that they belong to.
    #[error("the journal holds {rows} rows but not the device's memory")]
    MemoryMissing {
        /// Rows without it.
        rows: usize,
    },
    /// An obligation names a run that is not there.
    #[error("the run {run} of obligation {key:?} is not in the journal")]
    RunMissing {
        /// The run.
        run: RunId,
        /// The obligation.
        key: Key,
    },
}

impl Saved {
    /// Whether the rows fit together. A journal for which this fails is set aside, and the next
    /// incarnation begins; [`crate::Agent::restore`] itself never fails.
    pub fn check(&self) -> Result<(), Damaged> {
        let Some(memory) = &self.memory else {
            let rows = self.obligations.len() + self.runs.len() + self.messages.len();
            return if rows == 0 { Ok(()) } else { Err(Damaged::MemoryMissing { rows }) };
        };
        let before = memory.forgotten.unwrap_or(Forgotten::NOTHING);
        let (first, head) = (before.through.next(), memory.head);
        let mut end = before;
        for message in self.messages.iter().filter(|message| message.sequence > before.through) {
            if message.sequence != end.through.next() {
                return Err(Damaged::Hole { missing: end.through.next(), first, head });
            }
            if message.chain != chain(end.chain, &message.bytes) {
                return Err(Damaged::Chain(message.sequence));
            }
            end = Forgotten { through: message.sequence, chain: message.chain };
        }
        if end.through < head {
            return Err(Damaged::Hole { missing: end.through.next(), first, head });
        }
        if end.through != head || end.chain != memory.chain {
            return Err(Damaged::Chain(head));
        }
        self.obligations.iter().try_for_each(|record| self.check_run(record))
    }

    fn check_run(&self, record: &ObligationRecord) -> Result<(), Damaged> {
        let (Stage::Running { run }
        | Stage::DetectingAfter { run, .. }
        | Stage::RestartPending { run, .. }) = &record.stage
        else {
            return Ok(());
        };
        if self.runs.iter().any(|known| known.run == *run) {
            return Ok(());
        }
        Err(Damaged::RunMissing { run: *run, key: record.key.clone() })
    }
}

#[cfg(test)]
mod tests;
