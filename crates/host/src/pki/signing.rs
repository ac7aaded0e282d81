//! The signing certificate: how an agent that trusts only the CA learns the key that signs for the
//! site, from whoever happens to bring it.

use muster_model::clock::Wall;
use muster_model::sign::PublicKey;
use rustls::pki_types::CertificateDer;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring};

use super::ca::SIGNING_UNIT;
use super::identity::key_of;
use super::peer::unit_of;
use super::{PkiError, life_of, parse};
use crate::clock::unix_time;

/// id-kp-codeSigning (RFC 5280, section 4.2.1.12), which no certificate for TLS bears here: so the
/// key of a server, device or access point never passes for the site's signing key.
const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];

/// The site's signing key, if `certificate` is a signing certificate that `ca` issued and that has
/// not expired at `at`.
///
/// A certificate whose life has not begun is taken: trusted time is a lower bound of the true time
/// (a device that was off for a week knows last week), and only an old certificate can be replayed.
pub fn verify_signing_certificate(
    ca: &CertificateDer<'_>,
    certificate: &CertificateDer<'_>,
    at: Wall,
) -> Result<PublicKey, PkiError> {
    let failed = |source| PkiError::Verify { what: "signing", source };
    let (not_before, _) = life_of(certificate)?;
    let anchor = anchor_from_trusted_cert(ca).map_err(failed)?;
    let end = EndEntityCert::try_from(certificate).map_err(failed)?;
    end.verify_for_usage(
        &[ring::ECDSA_P256_SHA256],
        &[anchor],
        &[],
        unix_time(at.max(not_before)),
        KeyUsage::required(CODE_SIGNING),
        None,
        None,
    )
    .map_err(failed)?;
    let parsed = parse(certificate)?;
    if unit_of(parsed.subject()) != Some(SIGNING_UNIT) {
        return Err(PkiError::Certificate("its unit is not the one of a signing certificate"));
    }
    key_of(parsed.public_key().raw).ok_or(PkiError::Certificate("its key is not Ed25519"))
}
