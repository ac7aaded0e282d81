//! A batch read once, each message on its own: a poisoned one never hides its neighbours.

use std::collections::BTreeSet;

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::facts::Facts;
use muster_model::id::{DeviceId, Sequence};
use muster_model::message::{Body, MESSAGE_BYTES_MAX, Message, Report};
use muster_model::wire::batch::{Batch, BatchHeader};

use crate::obligation::{Key, Place};

/// A batch whose signature and chain were checked, with its messages read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What the device signed.
    pub header: BatchHeader,
    pub(super) messages: Vec<ReadMessage>,
}

#[derive(Clone, Debug)]
pub(super) struct ReadMessage {
    pub(super) sequence: Sequence,
    pub(super) chain: Digest,
    pub(super) bytes: Vec<u8>,
    pub(super) read: Result<Message, Unfit>,
}

/// Why a message is set aside instead of taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Larger than a message may be.
    #[error("too large: {0} bytes, a message has at most {MESSAGE_BYTES_MAX} (MESSAGE_BYTES_MAX)")]
    TooLarge(usize),
    /// Not a message that this version reads.
    #[error("unreadable: {0}")]
    Unreadable(String),
    /// It says that it is of another device, incarnation or place than its stream.
    #[error("misplaced: it says that it is {said}, its stream says {stream}")]
    Misplaced {
        /// What stands in the message.
        said: String,
        /// Where it was found.
        stream: String,
    },
    /// A report about an occurrence that never targeted the device.
    #[error("stray: {0} never targeted the device")]
    Stray(String),
}

impl Unfit {
    /// One word for filters and counters.
    pub fn word(&self) -> &'static str {
        match self {
            Unfit::TooLarge(_) => "too-large",
            Unfit::Unreadable(_) => "unreadable",
            Unfit::Misplaced { .. } => "misplaced",
            Unfit::Stray(_) => "stray",
        }
    }
}

impl Reading {
    /// Reads `batch`, which [`Batch::verify`] has accepted with `chains`: the chain value after each
    /// message.
    pub fn new(batch: Batch, chains: Vec<Digest>) -> Self {
        let header = batch.header;
        let messages = batch
            .messages
            .into_iter()
            .zip(chains)
            .zip(header.first.0..)
            .map(|((bytes, chain), sequence)| {
                let place = Place { incarnation: header.incarnation, sequence: Sequence(sequence) };
                let read = read_message(&bytes, header.device, place);
                ReadMessage { sequence: place.sequence, chain, bytes, read }
            })
            .collect();
        Self { header, messages }
    }

    /// The obligations that the batch speaks of: what the shell loads rows and targeting of. Always
    /// of the device that signed the batch.
    pub fn touched(&self) -> BTreeSet<Key> {
        let device = self.header.device;
        let reports = self.messages.iter().filter_map(|message| message.report());
        reports.map(|report| key_of(device, report)).collect()
    }

    /// When the newest of its messages that can be read was written, in the device's trusted time.
    pub fn written(&self) -> Option<Wall> {
        self.readable().map(|message| message.trusted).max()
    }

    /// The newest facts in the batch.
    pub fn facts(&self) -> Option<&Facts> {
        self.readable().filter_map(|message| message.body.facts()).last()
    }

    fn readable(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter_map(|message| message.read.as_ref().ok())
    }

    /// The chain at `sequence`, if it is the place right before, or of, one of the messages.
    pub(crate) fn chain_at(&self, sequence: Sequence) -> Option<Digest> {
        if sequence.next() == self.header.first {
            return Some(self.header.before);
        }
        let index = sequence.0.checked_sub(self.header.first.0)?;
        self.messages.get(usize::try_from(index).ok()?).map(|message| message.chain)
    }
}

impl ReadMessage {
    fn report(&self) -> Option<&Report> {
        match &self.read.as_ref().ok()?.body {
            Body::Obligation(report) => Some(report),
            _ => None,
        }
    }
}

/// The obligation that `report` of `device` is about.
pub(super) fn key_of(device: DeviceId, report: &Report) -> Key {
    Key { advertisement: report.advertisement, occurrence: report.occurrence.clone(), device }
}

/// Reads the bytes of one message and holds them against the place where they were found.
pub fn read_message(bytes: &[u8], device: DeviceId, place: Place) -> Result<Message, Unfit> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(Unfit::TooLarge(bytes.len()));
    }
    let message: Message =
        serde_json::from_slice(bytes).map_err(|why| Unfit::Unreadable(why.to_string()))?;
    let said = (message.device, message.incarnation, message.sequence);
    if said != (device, place.incarnation, place.sequence) {
        let name = |(device, incarnation, sequence)| format!("{device}/{incarnation}/{sequence}");
        return Err(Unfit::Misplaced {
            said: name(said),
            stream: name((device, place.incarnation, place.sequence)),
        });
    }
    Ok(message)
}
