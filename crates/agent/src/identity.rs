//! Who the device is: its key, its certificates, its incarnation. Kept outside the journal, so that a
//! lost memory is not a lost identity.
//!
//! `DATA/identity.json`, mode 0600, replaced durably at each change: before a key is shown to a site,
//! before an incarnation is spoken in, after each renewal. Used by enrolment, by the agent's start and
//! by its renewal; never by a program that the agent runs.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_host::failpoint::{self, Point, When};
use muster_host::pki::{ClientIdentity, PkiError, peer_identity, verify_signing_certificate};
use muster_host::publish::{self, PublishError, ReadError};
use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{DeviceId, EpochId, Incarnation};
use muster_model::name::Name;
use muster_model::sign::{PrivateKey, PublicKey};
use muster_model::token::TrustPin;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The file in the data folder.
pub const IDENTITY_FILE: &str = "identity.json";
/// The format of the file.
pub const IDENTITY_FORMAT: u32 = 1;
/// Three certificates of at most 16 KiB each, in base64, and the rest.
const IDENTITY_BYTES_MAX: u64 = 128 * 1024;

/// The identity could not be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file could not be read.
    #[error("failed to load the identity")]
    Read(#[from] ReadError),
    /// The file could not be written.
    #[error("failed to save the identity")]
    Save(#[from] PublishError),
    /// The file holds something else.
    #[error("failed to understand the identity")]
    Json(#[source] serde_json::Error),
    /// A newer version wrote it.
    #[error("failed to load the identity: its format is {0}, this version reads {IDENTITY_FORMAT}")]
    TooNew(u32),
    /// The key in it is none.
    #[error("failed to load the identity: its key is not 64 hex digits")]
    Key,
    /// The system gave no random bytes for a key.
    #[error("failed to make a key: the system gives no random bytes")]
    Random,
    /// A certificate in it cannot be used.
    #[error("failed to use a certificate of the identity")]
    Certificate(#[from] PkiError),
    /// There is no identity.
    #[error("this device is not enrolled; `muster agent enroll` gives it an identity")]
    NotEnrolled,
}

/// The identity as it is kept. Until [`Identity::enrolment`] is there, it is a key that waits for a
/// site's answer.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    format: u32,
    seed: String,
    /// The device's name.
    pub name: Name,
    /// The URL it was enrolled with.
    pub site_url: String,
    /// The pin of the site's CA, from the token.
    pub ca_pin: Digest,
    /// The pin of a trust document, from the token.
    #[serde(default, with = "pin_fields")]
    pub trust_pin: Option<TrustPin>,
    /// What the site answered.
    #[serde(default)]
    pub enrolment: Option<Enrolment>,
}

/// What the site gave the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrolment {
    /// The id, for ever.
    pub device: DeviceId,
    /// The certificate for TLS.
    pub certificate: Der,
    /// The site's CA.
    pub ca: Der,
    /// The certificate over the site's signing key.
    pub signing_certificate: Der,
    /// The site's code.
    pub site: String,
    /// The site's epoch when it last answered.
    pub epoch: EpochId,
    /// The incarnation in use.
    pub incarnation: Incarnation,
    /// The incarnation for the case that this memory is lost; `None` once it is in use and no renewal
    /// has brought another.
    pub next_incarnation: Option<Incarnation>,
    /// What to present at the next renewal.
    pub generation: u64,
    /// The memory of the incarnation before was lost, and the journal of this one is not there yet.
    #[serde(default)]
    pub lost: Option<LostMemory>,
    /// The device waited for approval when it was enrolled.
    #[serde(default)]
    pub held: bool,
}

/// A memory that was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LostMemory {
    /// What was found in its place.
    pub found: String,
    /// The name under which the journal is set aside.
    pub set_aside: String,
}

/// A certificate in DER, as base64 in JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Der(pub Vec<u8>);

impl Identity {
    /// A new key for a device called `name`, not saved yet.
    pub fn draw(
        name: Name,
        site_url: String,
        ca_pin: Digest,
        trust_pin: Option<TrustPin>,
    ) -> Result<Self, IdentityError> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| IdentityError::Random)?;
        let seed = PublicKey(seed).to_string();
        let format = IDENTITY_FORMAT;
        Ok(Self { format, seed, name, site_url, ca_pin, trust_pin, enrolment: None })
    }

    /// The identity in `data`; `None` if there is none. A file that others can read is refused.
    pub fn load(data: &Path) -> Result<Option<Self>, IdentityError> {
        let bytes = match publish::read_private(&data.join(IDENTITY_FILE), IDENTITY_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(ReadError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let identity: Self = serde_json::from_slice(&bytes).map_err(IdentityError::Json)?;
        if identity.format > IDENTITY_FORMAT {
            return Err(IdentityError::TooNew(identity.format));
        }
        identity.key()?;
        Ok(Some(identity))
    }

    /// The identity and enrolment in `data`.
    pub fn load_enrolled(data: &Path) -> Result<(Self, Enrolment), IdentityError> {
        let identity = Self::load(data)?.ok_or(IdentityError::NotEnrolled)?;
        let enrolment = identity.enrolment.clone().ok_or(IdentityError::NotEnrolled)?;
        Ok((identity, enrolment))
    }

    /// Replaces the identity in `data`; durable on return.
    pub fn save(&self, data: &Path) -> Result<(), IdentityError> {
        let json = serde_json::to_vec_pretty(self).map_err(IdentityError::Json)?;
        failpoint::hit(Point::IdentitySave, When::Before);
        publish::durable_publish(&data.join(IDENTITY_FILE), &json)?;
        failpoint::hit(Point::IdentitySave, When::After);
        Ok(())
    }

    /// The device's key.
    pub fn key(&self) -> Result<PrivateKey, IdentityError> {
        let seed: PublicKey = self.seed.parse().map_err(|_| IdentityError::Key)?;
        Ok(PrivateKey::from_seed(seed.0))
    }
}

impl fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = self.enrolment.as_ref().map(|enrolment| enrolment.device);
        f.debug_struct("Identity").field("name", &self.name).field("device", &device).finish()
    }
}

impl Enrolment {
    /// What the device shows in TLS.
    pub fn client_identity(&self, key: &PrivateKey) -> ClientIdentity {
        ClientIdentity::new(key, self.certificate.certificate())
    }

    /// The key that signs for the site, once its certificate is checked against the CA.
    pub fn signing_key(&self, at: Wall) -> Result<PublicKey, IdentityError> {
        let (ca, signing) = (self.ca.certificate(), self.signing_certificate.certificate());
        Ok(verify_signing_certificate(&ca, &signing, at)?)
    }

    /// When the certificate is to be renewed.
    pub fn renew_at(&self) -> Result<Wall, IdentityError> {
        Ok(peer_identity(&self.certificate.certificate())?.renew_at())
    }

    /// Moves to the incarnation that was handed out in advance; `false` if there is none.
    pub fn begin_next_incarnation(&mut self, lost: LostMemory) -> bool {
        let Some(next) = self.next_incarnation.take() else { return false };
        self.incarnation = next;
        self.lost = Some(lost);
        true
    }
}

impl Der {
    /// As the libraries take it.
    pub fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.0.clone())
    }

    /// Reads base64.
    pub fn from_base64(text: &str) -> Result<Self, base64::DecodeError> {
        STANDARD.decode(text).map(Self)
    }
}

impl fmt::Debug for Der {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Der({} bytes)", self.0.len())
    }
}

impl Serialize for Der {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Der {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_base64(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A pin as two fields.
mod pin_fields {
    use super::{Deserialize, Deserializer, Digest, Serialize, Serializer, TrustPin};

    #[derive(Serialize, Deserialize)]
    struct Fields {
        number: u64,
        digest: Digest,
    }

    pub(super) fn serialize<S: Serializer>(
        pin: &Option<TrustPin>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        let fields = pin.map(|pin| Fields { number: pin.number, digest: pin.digest });
        fields.serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<TrustPin>, D::Error> {
        let fields = Option::<Fields>::deserialize(d)?;
        Ok(fields.map(|fields| TrustPin { number: fields.number, digest: fields.digest }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn identity() -> Identity {
        let pin = TrustPin { number: 2, digest: Digest::of(b"trust") };
        let name = Name::new("d1").unwrap();
        Identity::draw(name, "https://s".into(), Digest::of(b"ca"), Some(pin)).unwrap()
    }

    #[test]
    fn the_key_is_the_same_after_loading_and_printed_nowhere() {
        let data = tempfile::tempdir().unwrap();
        let identity = identity();
        identity.save(data.path()).unwrap();
        let loaded = Identity::load(data.path()).unwrap().unwrap();
        assert_eq!(loaded.key().unwrap().public(), identity.key().unwrap().public());
        assert_eq!(loaded.trust_pin, identity.trust_pin);
        assert!(!format!("{loaded:?}").contains(&identity.seed));
    }

    #[test]
    fn two_keys_differ() {
        assert_ne!(identity().key().unwrap().public(), identity().key().unwrap().public());
    }

    #[test]
    fn an_identity_that_others_can_read_is_refused() {
        let data = tempfile::tempdir().unwrap();
        identity().save(data.path()).unwrap();
        let path = data.path().join(IDENTITY_FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Identity::load(data.path()), Err(IdentityError::Read(_))));
    }

    #[test]
    fn none_and_half_enrolled_are_told_as_such() {
        let data = tempfile::tempdir().unwrap();
        assert!(Identity::load(data.path()).unwrap().is_none());
        identity().save(data.path()).unwrap();
        let error = Identity::load_enrolled(data.path()).unwrap_err();
        assert!(matches!(error, IdentityError::NotEnrolled));
    }

    #[test]
    fn an_incarnation_is_used_once() {
        let mut enrolment = Enrolment {
            device: DeviceId(uuid::Uuid::nil()),
            certificate: Der(Vec::new()),
            ca: Der(Vec::new()),
            signing_certificate: Der(Vec::new()),
            site: "ABC".into(),
            epoch: EpochId(uuid::Uuid::nil()),
            incarnation: Incarnation(1),
            next_incarnation: Some(Incarnation(2)),
            generation: 0,
            lost: None,
            held: false,
        };
        let lost = LostMemory { found: "gone".into(), set_aside: "journal.damaged-1.db".into() };
        assert!(enrolment.begin_next_incarnation(lost.clone()));
        assert_eq!((enrolment.incarnation, enrolment.next_incarnation), (Incarnation(2), None));
        assert!(!enrolment.begin_next_incarnation(lost));
        assert_eq!(enrolment.incarnation, Incarnation(2));
    }
}
