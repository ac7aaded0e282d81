//! Whom a verifier believes: the chain of trust documents, and manifests signed under it.
//!
//! [`Trust`] is what an agent (outside its journal) and a site hold. It moves only forward, one
//! number at a time, each document signed by enough keys of the one before; the first is believed
//! because an enrolment token carried the digest of one ([`TrustPin`]), or, without a pin, because
//! it is number 1 signed by its own publisher. A site can withhold documents; it cannot invent one.
//! Decides only: the caller saves the new [`Trust`] durably and then uses it.

mod document;
mod refused;
mod signers;

use muster_model::digest::Digest;
use muster_model::sign::Domain;
use serde::{Deserialize, Serialize};

pub use self::document::{
    NotATrustDocument, PUBLISHERS_MAX, Publisher, SignedTrust, TRUST_BYTES_MAX, TRUST_FORMAT,
    TrustChange, TrustDocument,
};
pub use self::refused::{ManifestRefused, TrustRefused};
pub use self::signers::SIGNATURES_MAX;
use self::signers::believed_signers;
use crate::envelope::base64_bytes;
use crate::manifest::{Manifest, SignedManifest};

/// Documents taken in one catch-up; after more the caller saves and asks for the rest. As in The
/// Update Framework: at one change a week it is twenty years.
pub const CATCH_UP_STEPS_MAX: usize = 1_024;

/// What an enrolment token says about trust: the newest document when the token was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustPin {
    /// The document's number.
    pub number: u64,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// What a verifier believes. Serialises to a record that is checked when it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Record", into = "Record")]
pub struct Trust(Standing);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    Unpinned,
    Pinned(TrustPin),
    Holds { document: TrustDocument, pinned: bool },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Record {
    Unpinned,
    Pinned(TrustPin),
    Holds {
        #[serde(with = "base64_bytes")]
        document: Vec<u8>,
        digest: Digest,
        pinned: bool,
    },
}

/// What became of an offered document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is the one that is held.
    Same,
    /// Save this, then use it.
    Newer(Trust),
}

/// A manifest that somebody believed has signed. Only [`Trust::verify_manifest`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedManifest {
    manifest: Manifest,
    digest: Digest,
    publisher: Publisher,
}

impl VerifiedManifest {
    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
    /// The digest of its encoding.
    pub fn digest(&self) -> Digest {
        self.digest
    }
    /// Who signed it; with several, the one whose key sorts first.
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }
}

impl Trust {
    /// Believes the document with this digest, and then what follows it.
    pub fn pinned(pin: TrustPin) -> Self {
        Self(Standing::Pinned(pin))
    }

    /// Believes the first document number 1 that its own publisher signed.
    pub fn unpinned() -> Self {
        Self(Standing::Unpinned)
    }

    /// The document that is held.
    pub fn document(&self) -> Option<&TrustDocument> {
        match &self.0 {
            Standing::Holds { document, .. } => Some(document),
            Standing::Unpinned | Standing::Pinned(_) => None,
        }
    }

    /// The number of the document that is held; 0 is none. A policy tag and a question for newer
    /// documents carry it.
    pub fn number(&self) -> u64 {
        self.document().map_or(0, TrustDocument::number)
    }

    /// What a new enrolment token carries: the document that is held.
    pub fn pin(&self) -> Option<TrustPin> {
        self.document().map(|held| TrustPin { number: held.number(), digest: held.digest() })
    }

    /// Whether the chain starts at a digest that came with the token. Without it the first document
    /// was believed because nobody contradicted it, which `agent status` shows.
    pub fn is_pinned(&self) -> bool {
        matches!(self.0, Standing::Pinned(_) | Standing::Holds { pinned: true, .. })
    }

    /// Decides about one offered document. The one that is held is `Same`, whatever its signatures.
    pub fn accept(&self, offered: &SignedTrust) -> Result<Accepted, TrustRefused> {
        let document = match &self.0 {
            Standing::Pinned(pin) => pinned_document(*pin, offered)?,
            Standing::Unpinned => first_document(offered)?,
            Standing::Holds { document: held, .. } => {
                if held.payload() == offered.payload {
                    return Ok(Accepted::Same);
                }
                next_document(held, offered)?
            }
        };
        Ok(Accepted::Newer(Self(Standing::Holds { document, pinned: self.is_pinned() })))
    }

    /// Decides about a chain, oldest first. Either all of it is believed or the first fault is told
    /// and nothing changes.
    pub fn catch_up(&self, chain: &[SignedTrust]) -> Result<Accepted, TrustRefused> {
        if chain.len() > CATCH_UP_STEPS_MAX {
            return Err(TrustRefused::TooManySteps(chain.len()));
        }
        let mut reached = Accepted::Same;
        for offered in chain {
            let from = if let Accepted::Newer(trust) = &reached { trust } else { self };
            if let newer @ Accepted::Newer(_) = from.accept(offered)? {
                reached = newer;
            }
        }
        Ok(reached)
    }

    /// Decides whether to believe a manifest: one publisher of the held document must have signed
    /// exactly these bytes. Call it before anything is unpacked and again right before a run.
    pub fn verify_manifest(
        &self,
        signed: &SignedManifest,
    ) -> Result<VerifiedManifest, ManifestRefused> {
        let held = self.document().ok_or(ManifestRefused::NoTrustDocument)?;
        let SignedManifest { payload, signatures } = signed;
        let publisher = believed_signers(held, Domain::Manifest, payload, signatures)
            .map_err(|why| ManifestRefused::because(why, held.number()))?[0]
            .clone();
        let manifest = Manifest::parse(payload).map_err(ManifestRefused::Malformed)?;
        Ok(VerifiedManifest { manifest, digest: signed.digest(), publisher })
    }

    /// [`Trust::verify_manifest`] for a manifest that was named by digest, as advertisements do.
    pub fn verify_named_manifest(
        &self,
        need: Digest,
        signed: &SignedManifest,
    ) -> Result<VerifiedManifest, ManifestRefused> {
        match signed.digest() {
            found if found == need => self.verify_manifest(signed),
            found => Err(ManifestRefused::DigestMismatch { need, found }),
        }
    }
}

fn pinned_document(pin: TrustPin, offered: &SignedTrust) -> Result<TrustDocument, TrustRefused> {
    let found = Digest::of(&offered.payload);
    if found != pin.digest {
        return Err(TrustRefused::DigestMismatch { pinned: pin.digest, found });
    }
    let document = TrustDocument::parse(&offered.payload).map_err(TrustRefused::Malformed)?;
    match document.number() {
        number if number == pin.number => Ok(document),
        offered => Err(TrustRefused::NumberMismatch { pinned: pin.number, offered }),
    }
}

/// The only document that must be parsed before its signature can be checked: it names its signer.
fn first_document(offered: &SignedTrust) -> Result<TrustDocument, TrustRefused> {
    let document = TrustDocument::parse(&offered.payload).map_err(TrustRefused::Malformed)?;
    match document.number() {
        1 => check_signers(&document, offered).map(|()| document),
        offered => Err(TrustRefused::NotNext { have: 0, offered }),
    }
}

fn next_document(
    held: &TrustDocument,
    offered: &SignedTrust,
) -> Result<TrustDocument, TrustRefused> {
    check_signers(held, offered)?;
    let document = TrustDocument::parse(&offered.payload).map_err(TrustRefused::Malformed)?;
    let number = document.number();
    if held.number().checked_add(1) != Some(number) {
        return Err(TrustRefused::NotNext { have: held.number(), offered: number });
    }
    match document.previous() {
        Some(previous) if previous == held.digest() => Ok(document),
        _ => Err(TrustRefused::OtherHistory { number }),
    }
}

/// Whether enough publishers of `judges` signed what is offered.
fn check_signers(judges: &TrustDocument, offered: &SignedTrust) -> Result<(), TrustRefused> {
    let SignedTrust { payload, signatures } = offered;
    let have = believed_signers(judges, Domain::Trust, payload, signatures)?.len();
    match judges.threshold() {
        need if have < need => Err(TrustRefused::TooFewSignatures { have, need }),
        _ => Ok(()),
    }
}

impl From<Trust> for Record {
    fn from(trust: Trust) -> Self {
        match trust.0 {
            Standing::Unpinned => Record::Unpinned,
            Standing::Pinned(pin) => Record::Pinned(pin),
            Standing::Holds { document, pinned } => Record::Holds {
                digest: document.digest(),
                document: document.payload().to_vec(),
                pinned,
            },
        }
    }
}

impl TryFrom<Record> for Trust {
    type Error = TrustRefused;

    fn try_from(record: Record) -> Result<Self, TrustRefused> {
        Ok(Self(match record {
            Record::Unpinned => Standing::Unpinned,
            Record::Pinned(pin) => Standing::Pinned(pin),
            Record::Holds { document, digest, pinned } => {
                let found = Digest::of(&document);
                if found != digest {
                    return Err(TrustRefused::DigestMismatch { pinned: digest, found });
                }
                let document = TrustDocument::parse(&document).map_err(TrustRefused::Malformed)?;
                Standing::Holds { document, pinned }
            }
        }))
    }
}

#[cfg(test)]
pub(crate) mod tests;
