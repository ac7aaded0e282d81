//! What the journal holds: enough to go on after any crash.

use muster_model::clock::{TrustedTime, Wall};
use muster_model::digest::Digest;
use muster_model::facts::Facts;
use muster_model::id::{AdvertisementId, BootId, DeviceId, EpochId, Incarnation, Sequence};
use muster_model::message::{Occurrence, RunId};
use muster_model::package::Program;
use muster_model::policy::{PinnedPackage, Policy};
use muster_model::state::{Rule, State, Waiting};
use serde::{Deserialize, Serialize};

use crate::input::{Exit, Manifested};

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
    /// All obligations.
    pub obligations: Vec<ObligationRecord>,
    /// Runs that are still followed.
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
    /// The policy acted on.
    pub policy: Option<Policy>,
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
    /// The package, pinned.
    pub package: PinnedPackage,
    /// The program's name.
    pub program: String,
    /// Runs so far.
    pub attempts: u32,
    /// What was last reported: the state that people see.
    pub reported: State,
    /// Since when, in trusted time.
    pub since: Wall,
    /// Where it really is.
    pub stage: Stage,
    /// Exit code and detection contradicted each other.
    #[serde(default)]
    pub disputed: Option<String>,
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
        /// Cut short by a restart of the machine.
        restarted: bool,
    },
    /// The machine must restart before anything is judged.
    RestartPending {
        /// The run.
        run: RunId,
        /// How it ended.
        exit: Exit,
        /// The boot in which it ended.
        boot: BootId,
    },
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
    /// The manifest.
    pub manifest: Digest,
    /// Somebody ordered its end.
    #[serde(default)]
    pub stopped: bool,
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
