//! What can happen to a device: everything the machine is told.

use jiff::tz::TimeZone;
use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::facts::Facts;
use muster_model::id::{BootId, EpochId, Sequence};
use muster_model::message::RunId;
use muster_model::package::{Detection, Program};
use muster_model::policy::Policy;
use muster_model::release::AgentRelease;
use muster_model::state::{Rule, Waiting};
use muster_model::wire::device::{Account, Receipt};

use crate::maintenance::{Fault, Findings};
use crate::saved::Key;
use crate::step::Launch;
use crate::upgrade::ReleaseNews;
use crate::user::Request;

/// One thing that happened. Signatures were checked by the shell before a document gets here.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The shell has started (or started again) and restored the machine. Always the first input.
    Started {
        /// The boot it runs in.
        boot: BootId,
        /// What the device says of itself.
        facts: Facts,
        /// The device's time zone, for times written without an offset.
        zone: TimeZone,
        /// Entropy for jitter only; nothing is keyed by it.
        seed: u64,
        /// What the run folders show. Needed while [`crate::Agent::awaits_account`]; else it says
        /// nothing new and is ignored.
        found: Vec<FoundRun>,
    },
    /// The deadline that the machine asked for has passed.
    Tick,
    /// The answer to a poll: a policy of this site for this device, signature checked.
    PolicyArrived {
        /// The policy.
        policy: Policy,
        /// The site's signed time that came with it.
        site_time: Option<Wall>,
    },
    /// The answer to a poll: nothing new.
    NothingNew {
        /// The site's signed time that came with it.
        site_time: Option<Wall>,
    },
    /// A poll had no usable answer.
    PollFailed {
        /// Why, for `agent status`.
        why: String,
    },
    /// A poll brought a document that was refused.
    PolicyRefused {
        /// Why.
        why: String,
    },
    /// The network came up, or changed.
    LinkUp,
    /// The site's signed receipt.
    ReceiptArrived(Receipt),
    /// The site has less than was sent: send from there.
    SiteBehind {
        /// The site's epoch.
        epoch: EpochId,
        /// The end of the prefix that the site has.
        through: Sequence,
    },
    /// A batch had no usable answer.
    SendFailed {
        /// Why, for `agent status`.
        why: String,
    },
    /// The account that the site keeps of this device.
    AccountArrived(Account),
    /// News of a package's content.
    Content {
        /// The manifest's digest.
        manifest: Digest,
        /// The news.
        news: ContentNews,
    },
    /// What was found when conditions were looked at.
    Conditions {
        /// The obligation.
        key: Key,
        /// What stands in the way, if anything.
        blocked: Option<Waiting>,
    },
    /// A detection has ended.
    Detected {
        /// The obligation.
        key: Key,
        /// What it found.
        found: Found,
    },
    /// What is known of a run that has been armed.
    RunSeen {
        /// The run.
        run: RunId,
        /// What its folder shows.
        evidence: RunEvidence,
    },
    /// A run's folder could not be prepared, or its supervisor not be started.
    ArmFailed {
        /// The run.
        run: RunId,
        /// The reason to wait (disk), or `None` if it can never work.
        wait: Option<Waiting>,
        /// What happened, for people.
        why: String,
    },
    /// Who is logged on, by name: all of them. Until the shell says so, nobody is known to be, and
    /// the shell's own look at the conditions decides.
    Sessions(Vec<String>),
    /// A user of the device asks for something.
    Asked(Request),
    /// Whether the shell has a way to restart the machine. Until it says so, it has none.
    RestartAble(bool),
    /// What became of [`Effect::Restart`](crate::step::Effect::Restart).
    RestartTried(RestartTry),
    /// The device's facts changed.
    FactsChanged(Facts),
    /// The device's time zone changed.
    ZoneChanged(TimeZone),
    /// A component was paused or resumed on the device itself.
    Paused {
        /// Nothing new starts while this holds.
        paused: bool,
    },
    /// Whether a newer program than the agent that runs lies on the disk.
    UpgradeWaits(bool),
    /// What became of [`Effect::TakeUp`](crate::step::Effect::TakeUp) or
    /// [`Effect::TrialPassed`](crate::step::Effect::TrialPassed).
    Release {
        /// The release.
        manifest: Digest,
        /// The news.
        news: ReleaseNews,
    },
    /// The agent was looked at.
    Verified(Findings),
    /// What became of [`Effect::Repair`](crate::step::Effect::Repair).
    Repaired {
        /// What was to be mended.
        fault: Fault,
        /// Why it is not; `None`: it is.
        failed: Option<String>,
    },
}

/// What became of a try to restart the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartTry {
    /// The command ended well. Only another boot proves the restart.
    Begun,
    /// It failed.
    Failed {
        /// How, for people.
        why: String,
    },
}

/// News of a package's content.
#[derive(Clone, Debug, PartialEq)]
pub enum ContentNews {
    /// So many bytes are here.
    Progress {
        /// Bytes that are here.
        have: u64,
        /// Bytes in all.
        of: u64,
    },
    /// The manifest is here and signed by a trusted publisher; the rest is on its way. Lets a device
    /// that the program is not for say so without fetching it.
    Manifest(Box<Manifested>),
    /// Everything is here, and the manifest is signed by a trusted publisher.
    Ready(Box<Manifested>),
    /// It will never be used: `ContentRefused` or `PublisherRefused`.
    Refused {
        /// Which.
        rule: Rule,
        /// What was found, for people.
        why: String,
    },
    /// It could not be fetched now.
    Unavailable {
        /// What to wait for: content or disk.
        wait: Waiting,
        /// What was found, for people.
        why: String,
    },
}

/// What the machine needs from a verified manifest.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifested {
    /// The programs, as their publisher signed them.
    pub programs: Vec<Program>,
    /// The detection, as the publisher signed it.
    pub detection: Option<Detection>,
    /// Bytes of the unpacked tree.
    pub size: u64,
    /// Its content is the agent's own program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<AgentRelease>,
}

/// What a detection found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Exit 0.
    Present,
    /// Exit 1.
    Absent,
    /// Anything else.
    Error(String),
    /// The content is no longer what the manifest says.
    ContentRefused(String),
}

/// What a run's folder shows. The order of the variants is the order in which evidence counts
/// (accounting 3.3).
#[derive(Clone, Debug, PartialEq)]
pub enum RunEvidence {
    /// An exit record.
    Exited(Exit),
    /// The supervisor holds its lock: it runs.
    Alive,
    /// No `entered`, and the run's lock was free and is now ours: nothing was executed.
    NeverEntered,
    /// `entered` but no exit record and no supervisor.
    CutShort {
        /// In the boot that is now running.
        same_boot: bool,
    },
    /// The folder is gone or cannot be read.
    Missing,
}

/// A run folder that a device without a journal found.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundRun {
    /// What was armed there.
    pub launch: Launch,
    /// What came of it.
    pub evidence: RunEvidence,
}

/// How a program ended, from the supervisor's exit record.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// How.
    pub ending: Ending,
    /// The beginning and the end of its output.
    #[serde(default)]
    pub output: String,
    /// What its result file says, if it left one.
    #[serde(default)]
    pub result: Option<RunResult>,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum Ending {
    /// It exited by itself.
    Exited {
        /// With this code.
        code: i32,
    },
    /// A signal ended it.
    Signalled {
        /// Which one.
        signal: i32,
    },
    /// It outran its time; the supervisor ended it.
    TimedOut,
    /// The supervisor was told to end it.
    Stopped,
    /// It could not be started at all.
    NotStarted {
        /// Why.
        why: String,
    },
}

/// What a program said of itself in its result file.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunResult {
    /// Success or failure, if it said.
    #[serde(default)]
    pub succeeded: Option<bool>,
    /// It wants the machine restarted.
    #[serde(default)]
    pub restart: bool,
    /// A line for people.
    #[serde(default)]
    pub description: String,
    /// The form of the file.
    #[serde(default, skip_serializing_if = "ResultForm::is_json")]
    pub form: ResultForm,
    /// The file could not be read, or is about something else: what was wrong with it. It says nothing
    /// about the run then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignored: Option<String>,
}

/// The form of a result file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResultForm {
    /// A JSON document.
    #[default]
    Json,
    /// A status MIF.
    StatusMif,
}

impl ResultForm {
    fn is_json(&self) -> bool {
        *self == ResultForm::Json
    }
}
