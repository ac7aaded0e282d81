//! TLS as a server: version 1.3 only, client certificates optional, expired ones marked.
//!
//! Used by a site and by an access point, together with [`serve`](crate::serve). A client that shows
//! no certificate is let in, anonymous; one that shows a certificate must have it from the site's CA.
//! When that certificate's life has ended the connection still stands, because renewal accepts an
//! expired certificate; [`Peer`](crate::pki::Peer) as an extractor refuses it everywhere else.

use std::sync::{Arc, RwLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};

use crate::clock::{Clock, unix_time};
use crate::pki::{ServerIdentity, life_of};

/// HTTP/2 by its name in the handshake (RFC 7301).
pub(crate) const ALPN_HTTP2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A key or certificate that TLS cannot use.
    #[error("failed to use the {what} for TLS")]
    Identity {
        /// Which one.
        what: &'static str,
        /// What the library said.
        #[source]
        source: rustls::Error,
    },
    /// A CA certificate that cannot be a root of trust.
    #[error("failed to trust the CA's certificate")]
    Ca(#[source] rustls::Error),
    /// The verifier of client certificates could not be made.
    #[error("failed to set up the check of client certificates")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    /// The library refused the protocol version or the session keys.
    #[error("failed to set up TLS 1.3")]
    Protocol(#[source] rustls::Error),
}

/// The one provider of cryptography for TLS.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The server's certificate, which may be replaced while connections stand. Clones share it.
#[derive(Clone, Debug)]
pub struct ServerCertificate(Arc<RwLock<Arc<CertifiedKey>>>);

impl ServerCertificate {
    /// The first certificate to serve with.
    pub fn new(identity: ServerIdentity) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(RwLock::new(certified(identity)?))))
    }

    /// Serves new connections with `identity` from now on; those that stand keep theirs.
    pub fn replace(&self, identity: ServerIdentity) -> Result<(), TlsError> {
        let next = certified(identity)?;
        *self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = next;
        Ok(())
    }

    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

fn certified(identity: ServerIdentity) -> Result<Arc<CertifiedKey>, TlsError> {
    let failed = |source| TlsError::Identity { what: "server's key", source };
    let key = rustls::crypto::ring::sign::any_supported_type(&identity.key).map_err(failed)?;
    let certified = CertifiedKey::new(identity.chain, key);
    certified.keys_match().map_err(failed)?;
    Ok(Arc::new(certified))
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

/// The configuration of a server that shows `certificate` and knows its clients by `ca`.
///
/// Sessions are resumed by tickets that this process alone can open and that live for some hours, so
/// a million clients cost no memory. No early data.
pub fn server_config(
    certificate: &ServerCertificate,
    ca: &CertificateDer<'static>,
    clock: &Clock,
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca)?.into(), provider())
        .allow_unauthenticated()
        .build()
        .map_err(TlsError::Verifier)?;
    let time = Arc::new(ClockTime(clock.clone()));
    let mut config = ServerConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Protocol)?
        .with_client_cert_verifier(Arc::new(Undated(verifier)))
        .with_cert_resolver(Arc::new(certificate.clone()));
    config.alpn_protocols = http_protocols();
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(TlsError::Protocol)?;
    Ok(Arc::new(config))
}

/// The protocols that both ends offer, the better one first.
pub(crate) fn http_protocols() -> Vec<Vec<u8>> {
    vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()]
}

/// The store that holds exactly this CA.
pub(crate) fn roots(ca: &CertificateDer<'static>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).map_err(TlsError::Ca)?;
    Ok(roots)
}

/// The role's clock as TLS reads it.
#[derive(Debug)]
struct ClockTime(Clock);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0.wall()))
    }
}

/// Checks a client's certificate in everything but its dates. Those are judged at each request,
/// which a connection may outlive, and differently by the route that renews.
#[derive(Debug)]
struct Undated(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Undated {
    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let life = life_of(end_entity);
        let (not_before, _) = life.map_err(|_| rustls::CertificateError::BadEncoding)?;
        self.0.verify_client_cert(end_entity, intermediates, unix_time(not_before))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
