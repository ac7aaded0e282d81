//! What the site has of one stream.

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{DeviceId, EpochId, Incarnation, Sequence};
use muster_model::wire::device::Receipt;
use serde::{Deserialize, Serialize};

use crate::put_back::{Claim, Mended, Suspicion};

/// What the site has of one stream `(device, incarnation)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamRow {
    /// Whose.
    pub device: DeviceId,
    /// Which life of its memory.
    pub incarnation: Incarnation,
    /// Everything up to here is taken, or named in a gap.
    pub through: Sequence,
    /// The chain at `through`.
    pub head: Digest,
    /// Messages that waited on the device when it last sent, those taken excluded.
    pub waiting: u64,
    /// Two histories were seen under this stream.
    pub fork: Option<Fork>,
}

/// Two histories under one stream: a copied, restored or forged memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fork {
    /// Where they were compared.
    pub at: Sequence,
    /// The chain that the site has there; zero if it has none, and a newer life has followed.
    pub ours: Digest,
    /// The chain that the batch has there.
    pub theirs: Digest,
    /// Whether the device is under suspicion for it.
    #[serde(default)]
    pub suspicion: Suspicion,
    /// The history that says to be that of a machine which was put back to a snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// Put-backs of this stream, by the message that they go back to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mended: Vec<Mended>,
    /// Lives that were handed out for claims that gave way to others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Incarnation>,
    /// When a person said that there is one machine, in the site's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vouched: Option<Wall>,
}

impl Fork {
    /// A contradiction that is new.
    pub fn at(at: Sequence, ours: Digest, theirs: Digest) -> Self {
        Self {
            at,
            ours,
            theirs,
            suspicion: Suspicion::Open,
            claim: None,
            mended: Vec::new(),
            refused: Vec::new(),
            vouched: None,
        }
    }

    /// Whether the device is held for it.
    pub fn is_suspect(&self) -> bool {
        self.suspicion != Suspicion::Settled
    }
}

impl StreamRow {
    /// A stream of which nothing was taken yet.
    pub fn new(device: DeviceId, incarnation: Incarnation) -> Self {
        Self {
            device,
            incarnation,
            through: Sequence(0),
            head: Digest::ZERO,
            waiting: 0,
            fork: None,
        }
    }

    /// The receipt for what this row says. To be signed only when the row is committed.
    pub fn receipt(&self, epoch: EpochId) -> Receipt {
        Receipt {
            epoch,
            device: self.device,
            incarnation: self.incarnation,
            through: self.through,
            head: self.head,
        }
    }
}

/// Messages `first` to `last` that the device no longer holds and the site never had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// The first one missing.
    pub first: Sequence,
    /// The last one missing.
    pub last: Sequence,
}
