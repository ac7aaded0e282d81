//! Taking a batch of messages: exactly a contiguous prefix, each message once, every gap named.
//!
//! ```text
//! batch --first > through+1--------------------> behind      nothing written
//!       --chain differs from ours--------------> fork        nothing overwritten, batch set aside
//!       --of a life that is watched------------> watched     nothing written
//!       --older messages lost on the device----> gap, then
//!       --rest---------------------------------> taken       what we had: `exists`; what cannot be
//!                                                            read: set aside; the rest: accepted
//! ```
//!
//! The shell checks the signature ([`muster_model::wire::batch::Batch::verify`]), reads the batch
//! ([`Reading::new`]), loads what [`Reading::touched`] names, calls [`plan`] and writes the plan in
//! one transaction with the device's row locked: two lives of one device's memory are two streams, but
//! they speak of the same obligations. Only after the commit does it sign the receipt
//! ([`StreamRow::receipt`]): a receipt is a function of committed state.

mod plan;
mod reading;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::facts::Facts;
use muster_model::id::{DeviceId, Incarnation, Sequence};
use muster_model::message::{Body, Message, Status};

use crate::branch::{Branch, Fired};
#[cfg(feature = "planted")]
use crate::obligation::Planted;
use crate::obligation::{CounterDelta, Key, ObligationRow, Place};
use crate::put_back::Lives;

pub use plan::{plan, retry};
pub use reading::{Reading, Unfit, read_message};
pub use stream::{Fork, Gap, StreamRow};

/// What the shell loads for [`plan`], in the transaction that will write the plan.
#[derive(Clone, Debug)]
pub struct Lookups {
    /// The rows of the touched obligations that have one.
    pub rows: BTreeMap<Key, ObligationRow>,
    /// The touched obligations that exist by membership. Those with a row need not be here.
    pub targeted: BTreeSet<Key>,
    /// The chain stored with the message at the batch's `last`, if the site has that message: proof
    /// for a batch that is wholly old.
    pub chain_at_last: Option<Digest>,
    /// The highest incarnation handed out to the device.
    pub granted: Incarnation,
    /// The highest incarnation that the site has heard of it.
    pub newest: Incarnation,
    /// Of a batch of an older life: when the site took the first message of the newest one, in its own time.
    pub newest_since: Option<Wall>,
    /// Those lives of its memory that were doubted.
    pub lives: Lives,
    /// The site's time.
    pub now: Wall,
    /// Planted bugs.
    #[cfg(feature = "planted")]
    pub planted: Planted,
}

impl Lookups {
    /// Lookups that found nothing: for a device whose incarnations are known, at the site's time.
    pub fn new(granted: Incarnation, newest: Incarnation, now: Wall) -> Self {
        Self {
            rows: BTreeMap::new(),
            targeted: BTreeSet::new(),
            chain_at_last: None,
            granted,
            newest,
            newest_since: None,
            lives: Lives::default(),
            now,
            #[cfg(feature = "planted")]
            planted: Planted::default(),
        }
    }
}

/// What is to be done with a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Ingest {
    /// Write it; after the commit, answer with the receipt.
    Taken(Box<Taken>),
    /// Write nothing; tell the device where to go on.
    Behind {
        /// The end of the prefix that the site has.
        through: Sequence,
    },
    /// Keep the batch as set aside under its head, mark the stream, hold the device. No receipt.
    Forked {
        /// The stream with the mark; nothing else of it changed.
        stream: Box<StreamRow>,
    },
    /// Write nothing: whether this life of the memory may speak is not known yet
    /// ([`crate::put_back`]).
    Watched,
    /// Write nothing: the batch speaks for a life of the memory that the site has not handed out, or has
    /// refused since.
    UnknownIncarnation {
        /// What the batch says.
        said: Incarnation,
        /// The highest handed out.
        granted: Incarnation,
    },
}

impl Ingest {
    /// Rare branches gone through.
    pub fn fired(&self) -> Fired {
        let mut fired = Fired::default();
        match self {
            Ingest::Taken(taken) => fired = taken.fired,
            Ingest::Behind { .. } => fired.mark(Branch::Behind),
            Ingest::Forked { .. } => fired.mark(Branch::Equivocation),
            Ingest::Watched | Ingest::UnknownIncarnation { .. } => {}
        }
        fired
    }
}

/// What to write for a batch that is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// The stream as it is after the commit.
    pub stream: StreamRow,
    /// New messages, in order.
    pub accepted: Vec<Accepted>,
    /// New messages that are kept apart, in order; counted and consumed.
    pub set_aside: Vec<SetAside>,
    /// Messages that are gone for good.
    pub gap: Option<Gap>,
    /// Rows of obligations, as they are from now on.
    pub obligations: Vec<ObligationRow>,
    /// What the counters gain and lose; no two for one occurrence and word, none of zero.
    pub deltas: Vec<CounterDelta>,
    /// The device's facts, if it sent newer ones.
    pub facts: Option<Facts>,
    /// Messages that the site had already.
    pub exists: u64,
    /// Rare branches gone through.
    pub fired: Fired,
    /// Planted: the short names under which the accepted messages were stored.
    #[cfg(feature = "planted")]
    pub short_names: Vec<u8>,
}

/// A message to be stored under `(device, incarnation, sequence)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// Its place.
    pub sequence: Sequence,
    /// The chain after it.
    pub chain: Digest,
    /// What it says.
    pub message: Message,
    /// Number, severity, component and sentence.
    pub status: Status,
    /// Its exact bytes.
    pub bytes: Vec<u8>,
    /// It speaks of an obligation that had ended: kept, counted nowhere.
    pub late: bool,
}

/// A message kept apart, with its bytes, reason and sender.
#[derive(Clone, Debug, PartialEq)]
pub struct SetAside {
    /// The device whose stream carried it.
    pub sender: DeviceId,
    /// Where it was found.
    pub place: Place,
    /// The chain after it.
    pub chain: Digest,
    /// Why.
    pub reason: Unfit,
    /// Its exact bytes.
    pub bytes: Vec<u8>,
}

impl SetAside {
    /// The obligation that the message speaks of, if it can be read: what the shell loads the row and
    /// targeting of before [`retry`].
    pub fn touched(&self) -> Option<Key> {
        let message = read_message(&self.bytes, self.sender, self.place).ok()?;
        match &message.body {
            Body::Obligation(report) => Some(reading::key_of(self.sender, report)),
            _ => None,
        }
    }
}
