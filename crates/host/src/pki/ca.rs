//! The site's CA: made once at `init`, kept in two files, the only source of certificates.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::sign::PublicKey;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber,
    SubjectPublicKeyInfo,
};
use rustls::pki_types::{CertificateDer, DnsName, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use uuid::Uuid;

use super::identity::spki_of;
use super::peer::PeerKind;
use super::{
    BACKDATE, CA_LIFETIME, CERTIFICATE_BYTES_MAX, CLIENT_LIFETIME, PkiError, SERVER_LIFETIME,
    SIGNING_LIFETIME, Serial, ServerIdentity, renew_at, spki_pin,
};
use crate::publish::{durable_publish, read_limited, read_private};

/// What the subject of a signing certificate says of itself.
pub(super) const SIGNING_UNIT: &str = "site-signing";

const KEY_FILE: &str = "ca.key";
const CERTIFICATE_FILE: &str = "ca.crt";

/// A site's CA, with its private key.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pin: Digest,
}

/// A certificate as it was issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its serial number.
    pub serial: Serial,
    /// The first instant of its life.
    pub not_before: Wall,
    /// The last instant of its life.
    pub not_after: Wall,
}

impl Issued {
    /// When to ask for the next one.
    pub fn renew_at(&self) -> Wall {
        renew_at(self.not_before, self.not_after)
    }
}

impl Ca {
    /// A new CA for the site with this code. Not saved yet.
    pub fn create(site_code: &str, now: Wall) -> Result<Self, PkiError> {
        let key = generate("CA")?;
        let mut plan =
            Plan::new("CA", &format!("Muster site {site_code}"), "ca", CA_LIFETIME, now)?;
        plan.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        plan.params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let made = plan.params.self_signed(&key);
        let made = made.map_err(|source| PkiError::Make { what: "CA", source })?;
        Self::new(key, made.der().clone())
    }

    fn new(key: KeyPair, certificate: CertificateDer<'static>) -> Result<Self, PkiError> {
        let pin = spki_pin(&certificate)?;
        if pin != Digest::of(&key.subject_public_key_info()) {
            return Err(PkiError::Certificate("the CA's key is not the one in its certificate"));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key);
        let issuer = issuer.map_err(|source| PkiError::Key { what: "CA", source })?;
        Ok(Self { issuer, certificate, pin })
    }

    /// Saves the CA in `dir`: `ca.key` (PKCS #8, mode 0600) and `ca.crt`, both DER; durable on
    /// return. The key goes first, so a certificate is never there without it.
    pub fn save(&self, dir: &Path) -> Result<(), PkiError> {
        durable_publish(&dir.join(KEY_FILE), self.issuer.key().serialized_der())?;
        Ok(durable_publish(&dir.join(CERTIFICATE_FILE), &self.certificate)?)
    }

    /// Loads what [`save`](Self::save) wrote. Refuses a key that others can read, and a key that
    /// does not fit the certificate.
    pub fn load(dir: &Path) -> Result<Self, PkiError> {
        let max = CERTIFICATE_BYTES_MAX as u64;
        let key = PrivatePkcs8KeyDer::from(read_private(&dir.join(KEY_FILE), max)?);
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256);
        let key = key.map_err(|source| PkiError::Key { what: "CA", source })?;
        Self::new(key, read_limited(&dir.join(CERTIFICATE_FILE), max)?.into())
    }

    /// The CA's own certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What tokens carry: see [`spki_pin`].
    pub fn pin(&self) -> Digest {
        self.pin
    }

    /// A new key and certificate for a server under these names (DNS names or addresses).
    pub fn issue_server(&self, names: &[String], now: Wall) -> Result<ServerIdentity, PkiError> {
        let key = generate("server")?;
        let common = names.first().map_or("muster", String::as_str);
        let mut plan = Plan::new("server", common, "server", SERVER_LIFETIME, now)?;
        plan.names(names)?;
        plan.usage(&[ExtendedKeyUsagePurpose::ServerAuth]);
        let issued = self.sign(plan, &key)?;
        Ok(ServerIdentity {
            renew_at: issued.renew_at(),
            chain: vec![issued.certificate, self.certificate.clone()],
            key: PrivatePkcs8KeyDer::from(key).into(),
        })
    }

    /// A client certificate over `key` for the holder of `id`. Everything in it but the key is ours.
    pub fn issue_client(
        &self,
        kind: PeerKind,
        id: Uuid,
        key: &PublicKey,
        now: Wall,
    ) -> Result<Issued, PkiError> {
        let mut plan = Plan::new(kind.unit(), &id.to_string(), kind.unit(), CLIENT_LIFETIME, now)?;
        plan.usage(&[ExtendedKeyUsagePurpose::ClientAuth]);
        self.sign(plan, &ed25519(key)?)
    }

    /// A certificate for an access point, which is a client of its site and a server, under these
    /// names, to its devices.
    pub fn issue_access_point(
        &self,
        id: Uuid,
        names: &[String],
        key: &PublicKey,
        now: Wall,
    ) -> Result<Issued, PkiError> {
        let unit = PeerKind::AccessPoint.unit();
        let mut plan = Plan::new(unit, &id.to_string(), unit, CLIENT_LIFETIME, now)?;
        plan.names(names)?;
        plan.usage(&[ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth]);
        self.sign(plan, &ed25519(key)?)
    }

    /// The certificate by which agents know `key` as the one that signs for this site; see
    /// [`verify_signing_certificate`](super::verify_signing_certificate).
    pub fn issue_signing(
        &self,
        site_code: &str,
        key: &PublicKey,
        now: Wall,
    ) -> Result<Issued, PkiError> {
        let mut plan = Plan::new("signing", site_code, SIGNING_UNIT, SIGNING_LIFETIME, now)?;
        plan.usage(&[ExtendedKeyUsagePurpose::CodeSigning]);
        self.sign(plan, &ed25519(key)?)
    }

    fn sign(&self, plan: Plan, key: &impl PublicKeyData) -> Result<Issued, PkiError> {
        let made = plan.params.signed_by(key, &self.issuer);
        let made = made.map_err(|source| PkiError::Make { what: plan.what, source })?;
        Ok(Issued {
            certificate: made.into(),
            serial: plan.serial,
            not_before: plan.not_before,
            not_after: plan.not_after,
        })
    }
}

/// The names a server on this machine is known by: `url_host`, the machine's own name, and loopback.
pub fn server_names(url_host: &str) -> Vec<String> {
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut names = vec![url_host.trim_matches(['[', ']']).to_owned()];
    for name in [own.trim(), "localhost", "127.0.0.1", "::1"] {
        if !names.iter().any(|known| known == name) && is_name(name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn is_name(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok() || DnsName::try_from(name).is_ok()
}

fn generate(what: &'static str) -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|source| PkiError::Key { what, source })
}

fn ed25519(key: &PublicKey) -> Result<SubjectPublicKeyInfo, PkiError> {
    SubjectPublicKeyInfo::from_der(&spki_of(key))
        .map_err(|source| PkiError::Key { what: "subject's", source })
}

/// A certificate about to be made, with what the library does not give back.
struct Plan {
    what: &'static str,
    params: CertificateParams,
    serial: Serial,
    not_before: Wall,
    not_after: Wall,
}

impl Plan {
    fn new(
        what: &'static str,
        common_name: &str,
        unit: &str,
        lifetime: Duration,
        now: Wall,
    ) -> Result<Self, PkiError> {
        // Certificates count whole seconds.
        let now = Wall(now.0.div_euclid(1000) * 1000);
        let not_before = Wall(now.0.saturating_sub(BACKDATE.as_millis() as i64));
        let not_after = now.plus(lifetime);
        let serial = Serial::draw()?;
        let mut params = CertificateParams::default();
        params.not_before = date(not_before)?;
        params.not_after = date(not_after)?;
        params.serial_number = Some(SerialNumber::from_slice(&serial.0));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Muster");
        params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
        params.distinguished_name.push(DnType::CommonName, common_name);
        Ok(Self { what, params, serial, not_before, not_after })
    }

    fn names(&mut self, names: &[String]) -> Result<(), PkiError> {
        if let Some(name) = names.iter().find(|name| !is_name(name)) {
            return Err(PkiError::Name { name: name.clone() });
        }
        let named = CertificateParams::new(names.to_vec());
        let named = named.map_err(|source| PkiError::Make { what: self.what, source })?;
        self.params.subject_alt_names = named.subject_alt_names;
        Ok(())
    }

    fn usage(&mut self, purposes: &[ExtendedKeyUsagePurpose]) {
        self.params.is_ca = IsCa::ExplicitNoCa;
        self.params.use_authority_key_identifier_extension = true;
        self.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        self.params.extended_key_usages = purposes.to_vec();
    }
}

/// Years 1970 to 9999, which is what a certificate can say (RFC 5280, section 4.1.2.5).
fn date(wall: Wall) -> Result<OffsetDateTime, PkiError> {
    match OffsetDateTime::from_unix_timestamp(wall.0.div_euclid(1000)) {
        Ok(date) if (1970..=9999).contains(&date.year()) => Ok(date),
        _ => Err(PkiError::Date(wall)),
    }
}
