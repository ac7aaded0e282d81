//! The site's public key infrastructure: one CA, and certificates that say only what the site says.
//!
//! The site makes its [`Ca`] at `init` and issues from it: server certificates, client certificates
//! of devices, access points and further site processes, and the signing certificate that lets an
//! agent check the site's signing key through an untrusted relay. Devices make their own keys and
//! hand in a request, of which nothing but the public key is taken. Tokens carry the CA's [pin](spki_pin).
//!
//! CA and server keys are P-256, because browsers take no Ed25519 certificates; the keys of devices,
//! access points and of the site's signatures are Ed25519.

mod ca;
mod identity;
mod peer;
mod signing;

use std::fmt;
use std::time::Duration;

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;

pub use ca::{Ca, Issued, server_names};
pub use identity::{ClientIdentity, ServerIdentity, certificate_request, requested_key};
pub use peer::{Peer, PeerKind, Validity, peer_identity};
pub use signing::verify_signing_certificate;

use crate::publish::{PublishError, ReadError};

/// How long a CA lives: longer than the machines that trust it.
pub const CA_LIFETIME: Duration = Duration::from_secs(20 * 365 * 86_400);
/// How long a server certificate lives. Made anew at each start and at two thirds of its life.
pub const SERVER_LIFETIME: Duration = Duration::from_secs(90 * 86_400);
/// How long a client certificate lives. Renewed at two thirds of its life, and also when expired.
pub const CLIENT_LIFETIME: Duration = Duration::from_secs(30 * 86_400);
/// How long a signing certificate lives.
pub const SIGNING_LIFETIME: Duration = Duration::from_secs(2 * 365 * 86_400);
/// How far before its making a certificate's life begins: clocks of one site's processes, and of
/// browsers, differ a little.
pub const BACKDATE: Duration = Duration::from_secs(3_600);
/// A request with an Ed25519 key has about 200 bytes.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// A certificate of ours has about 600 bytes.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// Something about a key or a certificate failed.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The system gave no random bytes.
    #[error("failed to draw random bytes")]
    Random,
    /// A key could not be made or read.
    #[error("failed to take the {what} key")]
    Key {
        /// Whose key.
        what: &'static str,
        /// What the library said.
        #[source]
        source: rcgen::Error,
    },
    /// A certificate or request could not be made.
    #[error("failed to make the {what} certificate")]
    Make {
        /// Which one.
        what: &'static str,
        /// What the library said.
        #[source]
        source: rcgen::Error,
    },
    /// A server name that cannot stand in a certificate.
    #[error("failed to put {name:?} into a certificate: it is neither a DNS name nor an address")]
    Name {
        /// The name.
        name: String,
    },
    /// A time that no certificate can bear.
    #[error("failed to date a certificate at {0}")]
    Date(Wall),
    /// A request that is too large, malformed, or not signed by its own key.
    #[error("failed to take a certificate request: {0}")]
    Request(&'static str),
    /// Bytes that are no X.509 certificate.
    #[error("failed to read a certificate: {0}")]
    Certificate(&'static str),
    /// A certificate that does not lead to the site's CA, or not for this use.
    #[error("failed to verify the {what} certificate against the site's CA")]
    Verify {
        /// Which one.
        what: &'static str,
        /// What the library said.
        #[source]
        source: webpki::Error,
    },
    /// A CA certificate other than the one that was pinned.
    #[error("failed to match the CA: its pin is {found}, expected {expected}")]
    Pin {
        /// The pin that the token or the identity holds.
        expected: Digest,
        /// The pin of the certificate that was shown.
        found: Digest,
    },
    /// A file of the CA could not be read.
    #[error("failed to load the CA")]
    Load(#[from] ReadError),
    /// A file of the CA could not be written.
    #[error("failed to save the CA")]
    Save(#[from] PublishError),
}

/// The serial number of a certificate: 126 random bits in 16 bytes, so that it is positive and of
/// one length. Never reused; the site keeps it beside the device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(pub [u8; 16]);

impl Serial {
    fn draw() -> Result<Self, PkiError> {
        let mut bytes = [0; 16];
        SystemRandom::new().fill(&mut bytes).map_err(|_| PkiError::Random)?;
        bytes[0] = bytes[0] & 0x3f | 0x40;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

/// When a certificate of this life is to be renewed: at two thirds of it.
pub fn renew_at(not_before: Wall, not_after: Wall) -> Wall {
    not_before.plus(not_after.since(not_before) * 2 / 3)
}

/// The pin of a CA: the digest of its certificate's SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7).
pub fn spki_pin(certificate: &CertificateDer<'_>) -> Result<Digest, PkiError> {
    Ok(Digest::of(parse(certificate)?.public_key().raw))
}

/// Checks that `ca` is the CA that `pin` stands for.
pub fn check_pin(ca: &CertificateDer<'_>, pin: Digest) -> Result<(), PkiError> {
    match spki_pin(ca)? {
        found if found == pin => Ok(()),
        found => Err(PkiError::Pin { expected: pin, found }),
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, PkiError> {
    if certificate.len() > CERTIFICATE_BYTES_MAX {
        return Err(PkiError::Certificate("it is larger than 16 KiB"));
    }
    match x509_parser::parse_x509_certificate(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err(PkiError::Certificate("bytes follow its end")),
        Err(_) => Err(PkiError::Certificate("it is not X.509 in DER")),
    }
}

/// The first and the last instant of a certificate's life.
pub(crate) fn life_of(certificate: &CertificateDer<'_>) -> Result<(Wall, Wall), PkiError> {
    let parsed = parse(certificate)?;
    let wall = |time: &x509_parser::time::ASN1Time| Wall(time.timestamp().saturating_mul(1000));
    Ok((wall(&parsed.validity().not_before), wall(&parsed.validity().not_after)))
}

#[cfg(test)]
mod tests;
