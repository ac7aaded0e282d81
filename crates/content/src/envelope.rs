//! What stands beside a payload that somebody signed: the signature, and the key that is said to
//! have made it.
//!
//! Shared by manifests and trust documents. Says nothing about whom to believe; see
//! [`crate::trust`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use muster_model::sign::{Domain, PrivateKey, PublicKey, Signature};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One signature and the key that is said to have made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySignature {
    /// The signer's public key.
    pub key: PublicKey,
    /// Its signature over the payload.
    pub signature: Signature,
}

impl KeySignature {
    /// Signs `payload`.
    pub(crate) fn make(key: &PrivateKey, domain: Domain, payload: &[u8]) -> Self {
        Self { key: key.public(), signature: key.sign(domain, payload) }
    }
}

/// Bytes as base64 (RFC 4648, section 4) in JSON.
pub(crate) mod base64_bytes {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}
