//! Every reason not to believe a trust document or a manifest, in words that reach the
//! administrator.

use muster_model::digest::Digest;

use super::CATCH_UP_STEPS_MAX;
use super::document::{NotATrustDocument, Publisher};
use super::signers::{NotBelieved, SIGNATURES_MAX};
use crate::manifest::NotAManifest;

/// Why an offered trust document is not believed.
#[derive(Debug, thiserror::Error)]
pub enum TrustRefused {
    /// Not the document whose digest the token carried.
    #[error("accept a trust document: its digest is {found}, the enrolment token pins {pinned}")]
    DigestMismatch {
        /// What the token carries.
        pinned: Digest,
        /// What was offered.
        found: Digest,
    },
    /// The digest fits, and yet the number is another: the token contradicts itself.
    #[error("accept trust document {offered}: the enrolment token pins number {pinned}")]
    NumberMismatch {
        /// What the token carries.
        pinned: u64,
        /// What was offered.
        offered: u64,
    },
    /// Nobody signed it.
    #[error("accept a trust document: nobody signed it")]
    Unsigned,
    /// Signed, but by nobody who is believed.
    #[error("accept a trust document: none of its signers is believed")]
    StrangerSigned,
    /// The signature of somebody who is believed does not fit the bytes.
    #[error("accept a trust document: it was altered after publisher {:?} signed it", .0.name)]
    AlteredPayload(Publisher),
    /// Too few distinct keys of the document before it.
    #[error("accept a trust document: {have} of {need} publishers signed it")]
    TooFewSignatures {
        /// Distinct believed keys that signed.
        have: usize,
        /// The threshold of the document that is held.
        need: usize,
    },
    /// More than [`SIGNATURES_MAX`].
    #[error("accept a trust document with {0} signatures: the most is {SIGNATURES_MAX}")]
    TooManySignatures(usize),
    /// Properly signed, but not the next number: an old one, or one that skips some.
    #[error(
        "accept trust document {offered}: number {have} is held, so only {} can follow",
        .have.saturating_add(1)
    )]
    NotNext {
        /// The number that is held; 0 is none.
        have: u64,
        /// The number that was offered.
        offered: u64,
    },
    /// The next number, but of another history.
    #[error("accept trust document {number}: it follows another document than the one held")]
    OtherHistory {
        /// Its number.
        number: u64,
    },
    /// Properly signed, but not a trust document.
    #[error("accept a trust document")]
    Malformed(#[source] NotATrustDocument),
    /// More than [`CATCH_UP_STEPS_MAX`] at once.
    #[error("catch up over {0} trust documents: the most at once is {CATCH_UP_STEPS_MAX}")]
    TooManySteps(usize),
}

/// Why a manifest is not believed. But for `Malformed`, nothing of it was parsed.
#[derive(Debug, thiserror::Error)]
pub enum ManifestRefused {
    /// No trust document is held yet, so nobody is believed.
    #[error("verify the manifest: no trust document is held yet")]
    NoTrustDocument,
    /// Not the manifest that was asked for.
    #[error("verify the manifest: its digest is {found} instead of {need}")]
    DigestMismatch {
        /// What was asked for.
        need: Digest,
        /// What is there.
        found: Digest,
    },
    /// Nobody signed it.
    #[error("verify the manifest: nobody signed it")]
    Unsigned,
    /// Signed, but by nobody whom trust document `number` names.
    #[error("verify the manifest: no publisher of trust document {number} signed it")]
    StrangerSigned {
        /// The document that is held.
        number: u64,
    },
    /// The signature of somebody who is believed does not fit the bytes.
    #[error("verify the manifest: it was altered after publisher {:?} signed it", .0.name)]
    AlteredPayload(Publisher),
    /// More than [`SIGNATURES_MAX`].
    #[error("verify a manifest with {0} signatures: the most is {SIGNATURES_MAX}")]
    TooManySignatures(usize),
    /// Properly signed, but not a manifest.
    #[error("verify the manifest")]
    Malformed(#[source] NotAManifest),
}

impl From<NotBelieved> for TrustRefused {
    fn from(why: NotBelieved) -> Self {
        match why {
            NotBelieved::Unsigned => Self::Unsigned,
            NotBelieved::TooMany(count) => Self::TooManySignatures(count),
            NotBelieved::StrangerSigned => Self::StrangerSigned,
            NotBelieved::Altered(publisher) => Self::AlteredPayload(publisher),
        }
    }
}

impl ManifestRefused {
    pub(super) fn because(why: NotBelieved, number: u64) -> Self {
        match why {
            NotBelieved::Unsigned => Self::Unsigned,
            NotBelieved::TooMany(count) => Self::TooManySignatures(count),
            NotBelieved::StrangerSigned => Self::StrangerSigned { number },
            NotBelieved::Altered(publisher) => Self::AlteredPayload(publisher),
        }
    }
}
