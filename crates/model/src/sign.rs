//! Signatures: Ed25519 (RFC 8032) over a domain tag and the exact bytes sent.
//!
//! Nothing is re-serialised before a check. Every kind of signed thing has a [`Domain`] of its own,
//! so that a signature over one thing never passes for another.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// What a signature is for; its tag stands in front of the signed bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Domain {
    /// A package manifest, signed by a publisher.
    Manifest,
    /// A trust document, signed by publishers.
    Trust,
    /// A policy document, signed by a site.
    Policy,
    /// The site's time, signed by a site.
    SiteTime,
    /// A receipt for messages, signed by the owning site.
    Receipt,
    /// The head of a message chain, signed by a device.
    ChainHead,
    /// A session ticket, signed by a device.
    Ticket,
    /// A request to renew a certificate, signed by a device.
    Renewal,
    /// A device's account as its site knows it, signed by the site.
    Account,
    /// An enrolment answer, signed by a site.
    Enrolment,
}

impl Domain {
    fn tag(self) -> &'static str {
        match self {
            Domain::Manifest => "muster/manifest/v1",
            Domain::Trust => "muster/trust/v1",
            Domain::Policy => "muster/policy/v1",
            Domain::SiteTime => "muster/site-time/v1",
            Domain::Receipt => "muster/receipt/v1",
            Domain::ChainHead => "muster/chain-head/v1",
            Domain::Ticket => "muster/ticket/v1",
            Domain::Renewal => "muster/renewal/v1",
            Domain::Account => "muster/account/v1",
            Domain::Enrolment => "muster/enrolment/v1",
        }
    }

    fn frame(self, bytes: &[u8]) -> Vec<u8> {
        let tag = self.tag().as_bytes();
        let mut framed = Vec::with_capacity(tag.len() + 1 + bytes.len());
        framed.extend_from_slice(tag);
        framed.push(0);
        framed.extend_from_slice(bytes);
        framed
    }
}

macro_rules! hex_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), hex::encode(&self.0[..6]))
            }
        }

        impl FromStr for $name {
            type Err = NotAKey;
            fn from_str(text: &str) -> Result<Self, NotAKey> {
                let mut bytes = [0; $len];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| NotAKey($what))?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Text that is not the hex form of a key or signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct NotAKey(&'static str);

hex_bytes!(
    /// A public key.
    PublicKey, 32, "a public key of 64 hex digits");
hex_bytes!(
    /// A signature.
    Signature, 64, "a signature of 128 hex digits");

/// A signature that does not fit: other bytes, another key, another domain, or a malformed key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not fit the bytes and the key")]
pub struct BadSignature;

impl PublicKey {
    /// The key's id: the first sixteen hex digits of its digest. For people and look-ups, never for
    /// trust.
    pub fn id(&self) -> String {
        Digest::of(&self.0).to_string()[..16].to_owned()
    }

    /// Checks `signature` over `bytes` in `domain`, strictly (RFC 8032 with small-order keys
    /// refused).
    pub fn verify(
        &self,
        domain: Domain,
        bytes: &[u8],
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| BadSignature)?;
        key.verify_strict(&domain.frame(bytes), &ed25519_dalek::Signature::from_bytes(&signature.0))
            .map_err(|_| BadSignature)
    }
}

/// A private key. Has no `Display`, no serialisation, and a `Debug` that shows nothing.
#[derive(Clone)]
pub struct PrivateKey(SigningKey);

impl PrivateKey {
    /// The key with this seed; the shell draws the seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// The seed, to be written to a key file of mode 0600 and nowhere else.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `bytes` in `domain`.
    pub fn sign(&self, domain: Domain, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(&domain.frame(bytes)).to_bytes())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_fits_only_its_bytes_key_and_domain() {
        let key = PrivateKey::from_seed([7; 32]);
        let other = PrivateKey::from_seed([8; 32]);
        let signature = key.sign(Domain::Policy, b"run it");
        let public = key.public();
        assert_eq!(public.verify(Domain::Policy, b"run it", &signature), Ok(()));
        for refused in [
            public.verify(Domain::Receipt, b"run it", &signature),
            public.verify(Domain::Policy, b"run at", &signature),
            other.public().verify(Domain::Policy, b"run it", &signature),
            PublicKey([0; 32]).verify(Domain::Policy, b"run it", &signature),
        ] {
            assert_eq!(refused, Err(BadSignature));
        }
    }

    #[test]
    fn a_private_key_does_not_print_itself() {
        assert_eq!(format!("{:?}", PrivateKey::from_seed([7; 32])), "PrivateKey(..)");
    }
}
