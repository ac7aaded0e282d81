//! Policy: the signed document that tells one device all it must know.
//!
//! Compiled by the site for one device, signed, cached by (device, tag), passed on by access points
//! that cannot change it. It names programs by the digest of their manifest; what executes stands in
//! the manifest, under a publisher's signature, not here.

use serde::{Deserialize, Serialize};

use crate::advertisement::{At, Late, OfflineFor};
use crate::clock::Wall;
use crate::digest::Digest;
use crate::id::{AdvertisementId, DeviceId, EpochId, Incarnation, Sequence};
use crate::message::Occurrence;
use crate::name::Name;
use crate::notice::Notice;
use crate::package::Achieves;
use crate::parameter::Values;
use crate::period::Period;
use crate::program::Dependency;
use crate::recurrence::Every;
use crate::settings::Settings;
use crate::sign::{PublicKey, Signature};
use crate::window::Window;

/// The newest version of the document that this program acts on.
pub const POLICY_FORMAT: u32 = 2;
/// The version of a document with windows or freezes. An agent that does not know them would start
/// things at forbidden times; it refuses this version instead and says so.
const FORMAT_WITH_WINDOWS: u32 = 2;
/// The version of a document that the first release can act on.
const FORMAT_PLAIN: u32 = 1;
/// The largest policy, in bytes.
pub const POLICY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What one device must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// The least that an agent must know to act on it ([`Policy::least_format`]), at most
    /// [`POLICY_FORMAT`].
    pub format: u32,
    /// The device that it is for; another refuses it.
    pub device: DeviceId,
    /// The site's epoch.
    pub epoch: EpochId,
    /// The site revision that it was compiled at. Within an epoch a device refuses a lower one.
    pub revision: u64,
    /// What the device presents to be told "nothing new".
    pub tag: Digest,
    /// When it was compiled, by the site.
    pub issued: Wall,
    /// The number of the newest trust document; the device fetches what it lacks.
    pub trust: u64,
    /// Intervals and limits that differ from their defaults.
    #[serde(default)]
    pub settings: Settings,
    /// A person must admit the device or clear a suspicion: it starts nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Order>,
    /// A machine that was put back to a snapshot is told how it goes on. Agents of the first release
    /// pass over it, and are held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put_back: Option<PutBack>,
    /// Everything is halted: nothing starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted: Option<Order>,
    /// What is advertised to the device, in the order of their ids.
    pub advertisements: Vec<Offer>,
    /// The windows and freezes of all its collections, by name. None: any time will do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
}

impl Policy {
    /// The least format for a document with these windows: what is not needed is not asked for, so that
    /// agents of earlier releases go on.
    pub fn least_format(windows: &[Window]) -> u32 {
        if windows.is_empty() { FORMAT_PLAIN } else { FORMAT_WITH_WINDOWS }
    }
}

/// How a machine goes on that was put back to a snapshot. It names the machine by what only that one has
/// said, so neither its original nor another copy takes it for its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PutBack {
    /// The life of the memory in which the histories part.
    pub incarnation: Incarnation,
    /// The first message that only the history of this machine has.
    pub sequence: Sequence,
    /// The chain after it.
    pub chain: Digest,
    /// The life in which the machine goes on.
    pub life: Incarnation,
}

/// Somebody's word that holds something back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Who.
    pub by: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// End what runs, too.
    #[serde(default)]
    pub kill: bool,
}

/// One advertisement for one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// The advertisement.
    pub advertisement: AdvertisementId,
    /// Its name, for people.
    pub name: Name,
    /// Its revision.
    pub revision: u32,
    /// The package, pinned.
    pub package: PinnedPackage,
    /// The program of it.
    pub program: Name,
    /// The occurrences that are open for this device.
    pub occurrences: Vec<Due>,
    /// The rules of recurring assignments: from the last occurrence above on, the device opens the next
    /// ones by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recurrences: Vec<Recurrence>,
    /// What becomes of an occurrence whose time went by while the device was off.
    #[serde(default, skip_serializing_if = "Late::is_default")]
    pub late: Late,
    /// The device starts later than an occurrence falls due by a length of its own, at most this.
    #[serde(default, skip_serializing_if = "Period::is_zero")]
    pub splay: Period,
    /// From then on nothing starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Wall>,
    /// How long the device may act on it without hearing from the site.
    #[serde(default)]
    pub offline_for: OfflineFor,
    /// It overrides windows and freezes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub emergency: bool,
    /// Somebody stopped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Order>,
    /// The package was revoked: nothing of it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Order>,
    /// Another live advertisement wants the opposite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<Name>,
    /// A package that replaces this one is advertised to the device: what was not started is not needed
    /// any more. `NAME@VERSION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded: Option<String>,
    /// What the program achieves.
    #[serde(default, skip_serializing_if = "Achieves::is_present")]
    pub achieves: Achieves,
    /// The names of the packages that this one replaces: where it was installed, they are not any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supersedes: Vec<Name>,
    /// What whoever is logged on is given before a mandatory start, instead of what the program says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Notice>,
    /// What must have succeeded before the program, pinned, in the order in which it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<PinnedProgram>,
    /// Values of the program's parameters.
    #[serde(default, skip_serializing_if = "Values::is_empty")]
    pub parameters: Values,
}

/// A program of a package version, by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PinnedProgram {
    /// The package.
    pub package: PinnedPackage,
    /// The program of it.
    pub program: Name,
}

impl PinnedProgram {
    /// Whether this is what `dependency` names.
    pub fn is(&self, dependency: &Dependency) -> bool {
        self.program == dependency.program
            && self.package.name == dependency.package.name
            && dependency.package.version.as_ref() == Some(&self.package.version)
    }
}

impl std::fmt::Display for PinnedProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` of {}@{}", self.program, self.package.name, self.package.version)
    }
}

/// A package version, by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PinnedPackage {
    /// Its name.
    pub name: Name,
    /// Its version.
    pub version: String,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The publishers' signatures over the manifest.
    pub signatures: Vec<KeySignature>,
}

/// A signature and the key that it is said to be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySignature {
    /// The key.
    pub key: PublicKey,
    /// The signature.
    pub signature: Signature,
}

/// The rule of a recurring assignment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recurrence {
    /// The assignment.
    pub assignment: Name,
    /// Its rule.
    pub every: Every,
}

/// An open occurrence and when it falls due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WrittenDue", into = "WrittenDue")]
pub struct Due {
    /// The occurrence.
    pub occurrence: Occurrence,
    /// When; `None`: never by itself, a user may start it.
    pub at: Option<At>,
}

/// A [`Due`] as it is written. Release 0.1 knows times only and reads an event as `available`, where an
/// unknown word in `at` would have made it refuse the whole policy.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenDue {
    occurrence: Occurrence,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<At>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on: Option<At>,
}

impl From<WrittenDue> for Due {
    fn from(written: WrittenDue) -> Self {
        Self { occurrence: written.occurrence, at: written.on.or(written.at) }
    }
}

impl From<Due> for WrittenDue {
    fn from(due: Due) -> Self {
        let event = due.at.filter(|at| matches!(at, At::StartUp | At::LogOn));
        let at = due.at.filter(|_| event.is_none());
        Self { occurrence: due.occurrence, at, on: event }
    }
}
