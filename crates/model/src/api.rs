//! What the REST API answers: the shapes that the command line, the console and outside scripts read.
//!
//! Paths are built from ids, never from names; a name is resolved first ([`Resolve`]). Times are RFC
//! 3339 in UTC. Lists are pages: `{"items": [...], "next": CURSOR}`.

mod component;
mod credential;
mod query;
mod signature;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Wall;
use crate::component::Component;
use crate::digest::Digest;
use crate::facts::Facts;
use crate::id::{DeviceId, EpochId, TokenId};
use crate::message::{Occurrence, Severity};
use crate::name::Name;
use crate::object::Kind;
use crate::period::Period;
use crate::policy::KeySignature;
use crate::state::Word;
use crate::verification::Verification;

pub use self::component::ComponentState;
pub use self::credential::{CredentialView, TokenView};
pub use self::query::{QueryAnswer, QueryRequest};
pub use self::signature::{SignAnswer, SignRequest};

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
}

/// Items on a page when nothing is said.
pub const PAGE_ITEMS_DEFAULT: u32 = 100;
/// The most items on a page.
pub const PAGE_ITEMS_MAX: u32 = 1_000;

/// `POST /api/v1/resolve`: which object bears a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resolve {
    /// `package`, `collection`, `advertisement` or `device`.
    pub kind: String,
    /// A name or an id.
    pub name: String,
}

/// The answer to [`Resolve`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// The id.
    pub id: uuid::Uuid,
    /// The name that it bears now.
    pub name: String,
}

/// `GET /api/v1/advertisements/{id}/accounting`: where each targeted device stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountingAnswer {
    /// The advertisement's name.
    pub advertisement: Name,
    /// The moment of the one snapshot that all figures are of.
    pub as_of: Wall,
    /// Devices that an occurrence has targeted.
    pub targeted: u64,
    /// Members of the collection now.
    pub members: u64,
    /// How many stand where; always sums to `targeted`.
    pub states: BTreeMap<Word, u64>,
    /// `silent`, `overdue`, `disputed`: counted apart from the sum.
    pub marks: BTreeMap<String, u64>,
    /// One page of devices.
    pub devices: Vec<DeviceStanding>,
    /// Where the next page of devices begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `GET /api/v1/advertisements/{id}/wait?for=CONDITION`: whether it holds now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitAnswer {
    /// Whether it holds.
    pub met: bool,
    /// Devices that an occurrence has targeted.
    pub targeted: u64,
    /// How many stand where.
    pub states: BTreeMap<Word, u64>,
}

impl WaitAnswer {
    /// `3 of 5 succeeded, 2 running` for people.
    pub fn sentence(&self) -> String {
        let counts: Vec<String> =
            self.states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        format!("{} targeted: {}", self.targeted, counts.join(", "))
    }
}

/// Where one device stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceStanding {
    /// The device's id.
    pub device: DeviceId,
    /// Its name.
    pub name: String,
    /// The bare word.
    pub state: Word,
    /// The rest of the state.
    pub reason: Option<String>,
    /// Since when.
    pub since: Option<Wall>,
    /// The occurrence shown: the newest due one unless all were asked for.
    pub occurrence: Occurrence,
    /// The revision that it follows.
    pub revision: Option<u32>,
    /// Runs so far.
    pub attempt: u32,
    /// The exit code of the newest run.
    pub exit_code: Option<i32>,
    /// The rule that decided.
    pub rule: Option<String>,
    /// The newest run.
    pub run_id: Option<String>,
    /// Marks over the state.
    #[serde(default)]
    pub marks: Vec<String>,
    /// When the device was last heard.
    pub last_contact: Option<Wall>,
}

/// `GET /api/v1/advertisements/{id}/why?device=ID`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyAnswer {
    /// The device's id.
    pub device: DeviceId,
    /// Its name.
    pub name: String,
    /// The advertisement's name.
    pub advertisement: Name,
    /// The bare word; `None` if the advertisement does not target the device.
    pub state: Option<Word>,
    /// The rest of the state.
    pub reason: Option<String>,
    /// The decisions, in order.
    pub chain: Vec<WhyStep>,
    /// What happens next.
    pub next: WhyNext,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyStep {
    /// What was asked.
    pub step: String,
    /// `yes`, `no`, `not yet`, or a state.
    pub verdict: String,
    /// On what grounds.
    pub because: String,
}

/// What happens next, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyNext {
    /// What.
    pub what: String,
    /// When, if that is known.
    pub at: Option<Wall>,
}

/// A device in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceView {
    /// The id.
    pub id: DeviceId,
    /// The name.
    pub name: String,
    /// `admitted`, `pending` (waits for `device approve`), `held` (under suspicion) or `retired`.
    pub standing: String,
    /// Why it is pending or held, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_because: Option<String>,
    /// What it says of itself.
    pub facts: Facts,
    /// When it enrolled.
    pub enrolled: Wall,
    /// When it was last heard.
    pub last_contact: Option<Wall>,
    /// Messages that wait on it, as it last said.
    pub waiting: u64,
    /// Streams: incarnation and how far the site has it.
    pub streams: Vec<StreamView>,
    /// Where the parts of its agent stand, as it last said; of one device only, not in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<Component>,
    /// What its agent last found when it looked at itself; of one device only, not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<VerifiedView>,
}

/// What a device's agent found when it looked at itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedView {
    /// When, in the device's trusted time.
    pub at: Wall,
    /// Everything was as it should be.
    pub ok: bool,
    /// What it was made for, and every check.
    #[serde(flatten)]
    pub found: Verification,
}

/// One stream of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamView {
    /// Which life of the device's memory.
    pub incarnation: u32,
    /// The site has everything up to here.
    pub through: u64,
    /// Holes that nobody can fill any more.
    pub gaps: Vec<GapView>,
}

/// A hole in a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GapView {
    /// The first message missing.
    pub from: u64,
    /// The last message missing.
    pub through: u64,
    /// Since when that is known.
    pub since: Wall,
}

/// A message in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageView {
    /// The place in the list, for `--follow`.
    pub cursor: String,
    /// Who spoke; `None` for the site itself.
    pub device: Option<DeviceId>,
    /// The name of the device, or `site`.
    pub name: String,
    /// Which life of its memory.
    pub incarnation: Option<u32>,
    /// Its place in the stream.
    pub sequence: Option<u64>,
    /// The number, stable for ever.
    pub code: u16,
    /// How much it matters.
    pub severity: Severity,
    /// The component that speaks.
    pub component: String,
    /// The advertisement, by name.
    pub advertisement: Option<String>,
    /// The device's wall clock.
    pub wall: Wall,
    /// The device's trusted time.
    pub trusted: Wall,
    /// When the site committed it.
    pub received: Wall,
    /// The sentence for people.
    pub text: String,
    /// The body as it came.
    pub body: serde_json::Value,
}

/// `POST /api/v1/apply`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplyRequest {
    /// The documents, in the order of the files.
    pub documents: Vec<serde_json::Value>,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
    /// The set that these documents are; `prune` looks only at what the same set applied before.
    #[serde(default)]
    pub set: Option<String>,
    /// Delete what the set applied before and does not name now.
    #[serde(default)]
    pub prune: bool,
}

/// Documents in one `apply`.
pub const APPLY_DOCUMENTS_MAX: usize = 1_000;

/// What `apply` did, or would do, with one document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// The kind.
    pub kind: Kind,
    /// The name.
    pub name: Name,
    /// The id; `None` when it would be created.
    pub id: Option<uuid::Uuid>,
    /// `created`, `updated`, `unchanged` or `deleted`.
    pub change: String,
    /// Fields that differ: `spec.query: "a" -> "b"`.
    #[serde(default)]
    pub differences: Vec<String>,
    /// What it means for devices, and counts of each clause, as sentences.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What a person should look at.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The answer to `apply`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplyAnswer {
    /// Document by document.
    pub items: Vec<Applied>,
    /// The site revision that holds them; `None` when nothing was written.
    pub revision: Option<u64>,
}

/// `POST /api/v1/packages`: a signed manifest whose objects the site has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublishRequest {
    /// The Package document.
    pub document: serde_json::Value,
    /// The manifest's digest; the manifest itself was uploaded as an object.
    pub manifest: Digest,
    /// The publishers' signatures over it.
    pub signatures: Vec<KeySignature>,
}

/// The answer to a publication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishAnswer {
    /// The package's id.
    pub id: uuid::Uuid,
    /// `created` (a new package), `published` (a new version) or `unchanged`.
    pub change: String,
}

/// `POST /api/v1/objects/missing`: which of these objects does the site lack?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MissingRequest {
    /// At most [`PAGE_ITEMS_MAX`].
    pub digests: Vec<Digest>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingAnswer {
    /// Those that it lacks, in the order asked.
    pub missing: Vec<Digest>,
}

/// `POST /api/v1/packages/{id}/revoke`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RevokeRequest {
    /// The version.
    pub version: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// End what runs of it, too.
    #[serde(default)]
    pub kill: bool,
}

/// `POST /api/v1/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenRequest {
    /// `agent`, `access-point`, `site`, `admin`, `auditor`, `help-desk`, `pipeline`, `child-site`.
    pub role: String,
    /// The name that a device enrolled with it must bear.
    #[serde(default)]
    pub name: Option<Name>,
    /// The collection that its devices join.
    #[serde(default)]
    pub collection: Option<Name>,
    /// How often it lets somebody in.
    pub uses: u32,
    /// How long.
    pub ttl: Period,
    /// Its devices wait for `muster device approve`.
    #[serde(default)]
    pub hold: bool,
}

/// The answer: the only time that the token is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenAnswer {
    /// The id, for lists.
    pub id: TokenId,
    /// The whole token.
    pub token: String,
    /// Not good after this.
    pub expires: Wall,
    /// What a person should look at.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// `POST /api/v1/login`: a token for a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoginRequest {
    /// The token's id and secret.
    pub token: String,
}

/// The answer to a log-on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginAnswer {
    /// Sent as `Authorization: Bearer`.
    pub credential: String,
    /// Who that is.
    pub principal: String,
    /// What it may do.
    pub role: String,
}

/// `GET /api/v1/site`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SiteView {
    /// The three-character code.
    pub code: String,
    /// The address in certificates and tokens.
    pub url: String,
    /// The epoch.
    pub epoch: EpochId,
    /// The newest revision.
    pub revision: u64,
    /// The version of the program.
    pub version: String,
    /// `sqlite` or `postgresql`.
    pub database: String,
    /// The newest trust document's number; 0 if there is none.
    pub trust: u64,
    /// Devices by standing.
    pub devices: BTreeMap<String, u64>,
    /// Everything is halted, by whom and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted: Option<String>,
    /// Items set aside.
    pub set_aside: u64,
}

/// `stop`, `resume`, `halt`, `package revoke`: how far the word has gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderAnswer {
    /// The revision that holds the order.
    pub revision: u64,
    /// Devices that it concerns.
    pub concerned: u64,
    /// Of these, devices that have taken a policy of that revision or a later one.
    pub known: u64,
    /// Devices that have not, and may still start a program.
    pub may_still_start: u64,
}

/// `POST .../stop`, `/halt`, `/revoke`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrderRequest {
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// End what runs, too.
    #[serde(default)]
    pub kill: bool,
}

/// `POST /api/v1/advertisements/{id}/rerun`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RerunRequest {
    /// Only devices that stand there.
    #[serde(default)]
    pub state: Option<Word>,
    /// Only these devices.
    #[serde(default)]
    pub devices: Vec<DeviceId>,
    /// Why. Required.
    pub reason: String,
}

/// The answer to `rerun`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RerunAnswer {
    /// The occurrence that was opened.
    pub occurrence: Occurrence,
    /// For so many devices.
    pub devices: u64,
}

/// `POST .../rename`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenameRequest {
    /// The name from now on.
    pub name: Name,
}

/// An item that was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetAsideView {
    /// Its id.
    pub id: String,
    /// Why.
    pub reason: String,
    /// Who sent it.
    pub sender: String,
    /// When.
    pub at: Wall,
    /// How long it is.
    pub length: u64,
    /// The bytes, base64; only when one item is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
}

/// One finding of `accounting verify`, `doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What was checked.
    pub check: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was found.
    pub detail: String,
}

/// The answer to a revocation list or trust request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustView {
    /// The number of the newest document; 0 if there is none.
    pub number: u64,
    /// The signed document as stored.
    pub document: Option<serde_json::Value>,
}
