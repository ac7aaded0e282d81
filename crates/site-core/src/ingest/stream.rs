//! What the site has of one stream.

use muster_model::digest::Digest;
use muster_model::id::{DeviceId, EpochId, Incarnation, Sequence};
use muster_model::wire::device::Receipt;
use serde::{Deserialize, Serialize};

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
    /// The chain that the site has there.
    pub ours: Digest,
    /// The chain that the batch has there.
    pub theirs: Digest,
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
