//! What each end of a connection holds: keys with their certificates, and the request for one.

use muster_model::clock::Wall;
use muster_model::sign::{PrivateKey, PublicKey};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, KeyPair,
    PKCS_ED25519, PublicKeyData,
};
use rustls::pki_types::{
    CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer,
};

use super::{PkiError, REQUEST_BYTES_MAX};

/// What precedes the 32 bytes of a seed in PKCS #8 (RFC 8410, section 7).
const PKCS8_ED25519: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// What precedes the 32 bytes of a public key in a SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI_ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// A server's private key and its chain: its own certificate, then the CA's, so that a client that
/// holds only the pin can check both.
#[derive(Debug)]
pub struct ServerIdentity {
    /// The server's certificate, then the CA's.
    pub chain: Vec<CertificateDer<'static>>,
    /// The server's private key.
    pub key: PrivateKeyDer<'static>,
    /// When to make the next one.
    pub renew_at: Wall,
}

/// The key and certificate by which a device, access point or site process shows who it is.
#[derive(Debug)]
pub struct ClientIdentity {
    /// The certificate alone: servers know the CA.
    pub certificate: CertificateDer<'static>,
    /// The private key it is over.
    pub key: PrivateKeyDer<'static>,
}

impl ClientIdentity {
    /// The identity made of a key and the certificate that the site issued over it.
    pub fn new(key: &PrivateKey, certificate: CertificateDer<'static>) -> Self {
        Self { certificate, key: pkcs8_of(key).into() }
    }
}

impl ServerIdentity {
    /// An access point's identity as a server: its own key, the certificate the site issued over
    /// it, and the site's CA.
    pub fn of_access_point(
        key: &PrivateKey,
        certificate: CertificateDer<'static>,
        ca: CertificateDer<'static>,
        renew_at: Wall,
    ) -> Self {
        Self { chain: vec![certificate, ca], key: pkcs8_of(key).into(), renew_at }
    }
}

impl Clone for ClientIdentity {
    fn clone(&self) -> Self {
        Self { certificate: self.certificate.clone(), key: self.key.clone_key() }
    }
}

/// A certificate request (PKCS #10, DER) for `key`, signed by it. Says nothing else: who the holder
/// is, the site decides.
pub fn certificate_request(key: &PrivateKey) -> Result<Vec<u8>, PkiError> {
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8_of(key), &PKCS_ED25519);
    let key = key.map_err(|source| PkiError::Key { what: "device", source })?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "muster");
    let request = params.serialize_request(&key);
    let request = request.map_err(|source| PkiError::Make { what: "requested", source })?;
    Ok(request.der().to_vec())
}

/// The public key of a request, once its signature shows that the sender holds the private one.
/// Subject, names and extensions of the request are not looked at. Only Ed25519 is taken.
pub fn requested_key(request: &[u8]) -> Result<PublicKey, PkiError> {
    if request.len() > REQUEST_BYTES_MAX {
        return Err(PkiError::Request("it is larger than 16 KiB"));
    }
    let request =
        CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
            .map_err(|_| PkiError::Request("it is malformed or not signed by its own key"))?;
    let key = request.public_key;
    match <[u8; 32]>::try_from(key.der_bytes()) {
        Ok(bytes) if PublicKeyData::algorithm(&key) == &PKCS_ED25519 => Ok(PublicKey(bytes)),
        _ => Err(PkiError::Request("its key is not Ed25519")),
    }
}

/// The private key as TLS and X.509 libraries take it (RFC 8410).
pub(super) fn pkcs8_of(key: &PrivateKey) -> PrivatePkcs8KeyDer<'static> {
    [PKCS8_ED25519.as_slice(), &key.seed()].concat().into()
}

/// The public key as a SubjectPublicKeyInfo (RFC 8410).
pub(super) fn spki_of(key: &PublicKey) -> Vec<u8> {
    [SPKI_ED25519.as_slice(), &key.0].concat()
}

/// The Ed25519 key in a SubjectPublicKeyInfo; `None` for any other kind of key.
pub(super) fn key_of(spki: &[u8]) -> Option<PublicKey> {
    spki.strip_prefix(&SPKI_ED25519)?.try_into().ok().map(PublicKey)
}
