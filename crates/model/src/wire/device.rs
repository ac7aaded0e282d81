//! The documents that a device and its site exchange beside messages.

use serde::{Deserialize, Serialize};

use crate::clock::Wall;
use crate::digest::Digest;
use crate::facts::Facts;
use crate::id::{AdvertisementId, DeviceId, EpochId, Incarnation, Sequence};
use crate::message::Occurrence;
use crate::name::Name;
use crate::sign::PublicKey;
use crate::state::State;

/// The site's word that it has durably taken a contiguous prefix of a stream. Sealed under
/// [`crate::sign::Domain::Receipt`]; the only thing that relieves an agent (law 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The site's epoch.
    pub epoch: EpochId,
    /// The stream's device.
    pub device: DeviceId,
    /// The stream's incarnation.
    pub incarnation: Incarnation,
    /// Everything up to here is committed.
    pub through: Sequence,
    /// The chain at `through`.
    pub head: Digest,
}

/// The answer to a batch that does not follow what the site has: send from `through` + 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Behind {
    /// The site's epoch.
    pub epoch: EpochId,
    /// The end of the prefix that the site has.
    pub through: Sequence,
}

/// The site's time. Sealed under [`crate::sign::Domain::SiteTime`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SiteTime {
    /// Now, at the site.
    pub time: Wall,
    /// The site's epoch.
    pub epoch: EpochId,
}

/// What a device shows with its polls and fetches, instead of a signature each time. Sealed by the
/// device under [`crate::sign::Domain::Ticket`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ticket {
    /// Whose.
    pub device: DeviceId,
    /// Which life of its memory.
    pub incarnation: Incarnation,
    /// The site it is for.
    pub epoch: EpochId,
    /// Not good after this, in the device's trusted time.
    pub expires: Wall,
}

/// A request for an identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnrollRequest {
    /// The token's id and secret, without its pins.
    pub token: String,
    /// The key made on the device.
    pub key: PublicKey,
    /// A PKCS #10 request for the TLS certificate over the same key, DER, base64.
    pub certificate_request: String,
    /// The name that the device asks for.
    pub name: Name,
    /// What it says of itself.
    pub facts: Facts,
    /// A digest of what binds the identity to the machine (machine-id and the like).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Digest>,
}

/// An identity. The certificates chain to the CA that the token pins, so a relay cannot forge it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrollAnswer {
    /// The device's id, for ever.
    pub device: DeviceId,
    /// The device's TLS certificate, DER, base64.
    pub certificate: String,
    /// The site's CA certificate, DER, base64.
    pub ca: String,
    /// The certificate over the site's signing key, DER, base64.
    pub signing_certificate: String,
    /// The site's three-character code.
    pub site: String,
    /// The site's epoch.
    pub epoch: EpochId,
    /// The incarnation to start with.
    pub incarnation: Incarnation,
    /// The incarnation for the case that this memory is lost.
    pub next_incarnation: Incarnation,
    /// The newest trust document, sealed form as stored; `None` while there is no publisher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<serde_json::Value>,
    /// The device waits for `muster device approve`.
    #[serde(default)]
    pub held: bool,
}

/// A request for a new certificate over the same key. Sealed by the device under
/// [`crate::sign::Domain::Renewal`], so that it works when the certificate has expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenewRequest {
    /// Whose.
    pub device: DeviceId,
    /// The incarnation in use.
    pub incarnation: Incarnation,
    /// A PKCS #10 request, DER, base64.
    pub certificate_request: String,
    /// Counts renewals: a lower one than the site has seen is a copy of the machine.
    pub generation: u64,
}

/// A new certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewAnswer {
    /// The device's TLS certificate, DER, base64.
    pub certificate: String,
    /// The certificate over the site's signing key, DER, base64.
    pub signing_certificate: String,
    /// The site's epoch.
    pub epoch: EpochId,
    /// The incarnation for the case that this memory is lost.
    pub next_incarnation: Incarnation,
    /// The generation to present next.
    pub generation: u64,
}

/// What the site knows of a device's obligations: the memory it is given back when it lost its own.
/// Sealed by the site under [`crate::sign::Domain::Account`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Whose.
    pub device: DeviceId,
    /// The incarnation that asked.
    pub incarnation: Incarnation,
    /// The site's epoch.
    pub epoch: EpochId,
    /// Terminal and running obligations.
    pub obligations: Vec<AccountEntry>,
}

/// One obligation of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountEntry {
    /// The advertisement.
    pub advertisement: AdvertisementId,
    /// The occurrence.
    pub occurrence: Occurrence,
    /// The revision it was done under.
    pub revision: u32,
    /// Where it stands.
    pub state: State,
    /// Runs so far.
    pub attempt: u32,
}
