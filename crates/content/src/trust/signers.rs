//! Who of a trust document really signed these exact bytes.
//!
//! Signers are counted by distinct public key, whatever names or ids surround them; a payload is
//! checked as it came and never re-serialised.

use std::collections::BTreeMap;

use muster_model::sign::Domain;

use super::document::{Publisher, TrustDocument};
use crate::envelope::KeySignature;

/// Signatures on one payload. A committee of ten needs no more even while it rotates, and checking
/// all of them takes about a millisecond.
pub const SIGNATURES_MAX: usize = 16;

/// Why no signature on a payload counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotBelieved {
    /// There is none.
    Unsigned,
    /// More than [`SIGNATURES_MAX`].
    TooMany(usize),
    /// None by a publisher of the document.
    StrangerSigned,
    /// A publisher's signature does not fit: it or the payload was altered.
    Altered(Publisher),
}

/// The publishers of `document` who signed `payload`, each once and at least one. Signatures of
/// strangers are passed over; one bad signature of a publisher spoils the whole.
pub(super) fn believed_signers<'a>(
    document: &'a TrustDocument,
    domain: Domain,
    payload: &[u8],
    signatures: &[KeySignature],
) -> Result<Vec<&'a Publisher>, NotBelieved> {
    match signatures.len() {
        0 => return Err(NotBelieved::Unsigned),
        1..=SIGNATURES_MAX => {}
        many => return Err(NotBelieved::TooMany(many)),
    }
    let mut signers = BTreeMap::new();
    for KeySignature { key, signature } in signatures {
        let Some(publisher) = document.publisher(key) else { continue };
        key.verify(domain, payload, signature)
            .map_err(|_| NotBelieved::Altered(publisher.clone()))?;
        signers.insert(key, publisher);
    }
    match signers.is_empty() {
        true => Err(NotBelieved::StrangerSigned),
        false => Ok(signers.into_values().collect()),
    }
}
