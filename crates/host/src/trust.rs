//! TLS as a client: version 1.3 only, no root of trust but the site's CA, dates judged by trusted
//! time.
//!
//! Used by agents, access points, site processes and the command line, mostly through
//! [`client`](crate::client). The machine's own certificate store is never asked.

use std::fmt;
use std::sync::Arc;

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::clock::unix_time;
use crate::pki::{ClientIdentity, life_of, spki_pin};
use crate::tls::{TlsError, provider, roots};

/// What a client knows of its site.
#[derive(Clone, Debug)]
pub enum Trust {
    /// The CA itself: after enrolment or log-on.
    Ca(CertificateDer<'static>),
    /// The CA's [pin](crate::pki::spki_pin), from a token: the server shows the CA's certificate.
    Pin(Digest),
}

/// Trusted time, asked at each handshake.
///
/// `None` says that there is none yet: then no date is judged, so that a machine whose clock is
/// years wrong can enrol. Otherwise an expired server is refused; one whose certificate's life has
/// not begun is taken, because trusted time is a lower bound (a device that was off for a week knows
/// last week) and only an old certificate can be replayed.
#[derive(Clone)]
pub struct TrustedNow(Arc<dyn Fn() -> Option<Wall> + Send + Sync>);

impl TrustedNow {
    /// Trusted time as `read` tells it.
    pub fn new(read: impl Fn() -> Option<Wall> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// No trusted time: no date is judged.
    pub fn unknown() -> Self {
        Self::new(|| None)
    }
}

impl fmt::Debug for TrustedNow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustedNow({:?})", (self.0)())
    }
}

/// The configuration of a client that trusts `trust` alone, and shows `identity` if it has one.
/// Sessions are resumed; a new identity needs a new configuration.
pub fn client_config(
    trust: Trust,
    now: TrustedNow,
    identity: Option<ClientIdentity>,
) -> Result<ClientConfig, TlsError> {
    let anchor = match trust {
        Trust::Ca(ca) => Anchor::Roots(Arc::new(roots(&ca)?)),
        Trust::Pin(pin) => Anchor::Pin(pin),
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Protocol)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(SiteVerifier { anchor, now }));
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(ClientIdentity { certificate, key }) => builder
            .with_client_auth_cert(vec![certificate], key)
            .map_err(|source| TlsError::Identity { what: "client's key", source }),
    }
}

#[derive(Debug)]
enum Anchor {
    Roots(Arc<RootCertStore>),
    Pin(Digest),
}

/// Accepts the servers of one site.
#[derive(Debug)]
struct SiteVerifier {
    anchor: Anchor,
    now: TrustedNow,
}

impl SiteVerifier {
    /// The roots to check a chain against. With a pin that is the certificate in the chain that the
    /// pin stands for: whoever shows it still has to own a certificate that it signed.
    fn roots(&self, shown: &[CertificateDer<'_>]) -> Result<Arc<RootCertStore>, rustls::Error> {
        let pin = match &self.anchor {
            Anchor::Roots(roots) => return Ok(Arc::clone(roots)),
            Anchor::Pin(pin) => *pin,
        };
        let pinned = shown.iter().find(|shown| spki_pin(shown).is_ok_and(|found| found == pin));
        let pinned = pinned.ok_or(CertificateError::UnknownIssuer)?;
        let roots = roots(&pinned.clone().into_owned());
        roots.map(Arc::new).map_err(|_| CertificateError::BadEncoding.into())
    }
}

impl ServerCertVerifier for SiteVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (not_before, _) = life_of(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        let at = (self.now.0)().map_or(not_before, |trusted| trusted.max(not_before));
        let roots = self.roots(intermediates)?;
        WebPkiServerVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                unix_time(at),
            )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
