//! A batch of messages: length-prefixed frames, one signature over the head of the chain.
//!
//! ```text
//! frame := length (u32, little endian) bytes
//! batch := frame(header as JSON) frame(message)*
//! chain: h(n) = SHA-256(tag, h(n-1), bytes of message n);  h(0) = 32 zero bytes
//! ```
//!
//! Frames keep a poisoned message apart from its neighbours: whatever its bytes are, the next frame
//! starts where its length says. The chain covers the exact bytes, so a relay can neither alter, drop
//! nor insert one unseen.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::{DeviceId, Incarnation, Sequence};
use crate::sign::{BadSignature, Domain, PrivateKey, PublicKey, Signature};

/// Messages in one batch.
pub const BATCH_MESSAGES_MAX: usize = 1_000;
/// Bytes in one batch: 64 of the largest messages, or a thousand of 4 KiB.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes in the header frame.
pub const HEADER_BYTES_MAX: usize = 4 * 1024;

/// What stands in front of the messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchHeader {
    /// Who speaks.
    pub device: DeviceId,
    /// Which life of its memory.
    pub incarnation: Incarnation,
    /// The sequence of the first message.
    pub first: Sequence,
    /// The chain before the first message.
    pub before: Digest,
    /// The sequence of the last message.
    pub last: Sequence,
    /// The chain after the last message.
    pub head: Digest,
    /// The oldest message that the device still holds; what is older and unknown to the site is gone.
    pub kept_from: Sequence,
    /// Messages that wait on the device, this batch included.
    pub waiting: u64,
    /// Over everything above.
    pub signature: Signature,
}

/// A batch, split and checked for form; the signature is checked by [`Batch::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The header.
    pub header: BatchHeader,
    /// The messages' exact bytes, in order.
    pub messages: Vec<Vec<u8>>,
}

/// Why bytes are not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchRefused {
    /// More than [`BATCH_BYTES_MAX`].
    #[error("a batch has at most {BATCH_BYTES_MAX} bytes (BATCH_BYTES_MAX), this one has {0}")]
    TooManyBytes(usize),
    /// More than [`BATCH_MESSAGES_MAX`].
    #[error("a batch has at most {BATCH_MESSAGES_MAX} messages (BATCH_MESSAGES_MAX)")]
    TooManyMessages,
    /// A frame says it is longer than what follows.
    #[error("the batch is cut short at byte {0}")]
    CutShort(usize),
    /// The header is not what it should be.
    #[error("the header of the batch cannot be read: {0}")]
    Header(String),
    /// Header and messages disagree.
    #[error("the header says messages {first} to {last}, the batch holds {count}")]
    Count {
        /// First sequence.
        first: u64,
        /// Last sequence.
        last: u64,
        /// Messages found.
        count: usize,
    },
    /// The messages do not lead from `before` to `head`.
    #[error("the messages do not lead to the head that the header names")]
    Chain,
    /// The signature is not the device's.
    #[error("the head of the chain is not signed by the device")]
    Signature,
}

/// The chain one message on.
pub fn chain(before: Digest, message: &[u8]) -> Digest {
    Digest::of_parts("muster/chain/v1", &[before.as_bytes(), message])
}

impl BatchHeader {
    fn signed_bytes(&self) -> Vec<u8> {
        Digest::of_parts(
            "muster/batch/v1",
            &[
                self.device.0.as_bytes(),
                &self.incarnation.0.to_le_bytes(),
                &self.first.0.to_le_bytes(),
                self.before.as_bytes(),
                &self.last.0.to_le_bytes(),
                self.head.as_bytes(),
                &self.kept_from.0.to_le_bytes(),
                &self.waiting.to_le_bytes(),
            ],
        )
        .as_bytes()
        .to_vec()
    }
}

impl Batch {
    /// A signed batch of `messages`, the first of which follows the chain value `before`.
    ///
    /// # Panics
    /// If `messages` is empty: nothing is sent then.
    #[expect(clippy::too_many_arguments, reason = "each is a field of the header")]
    pub fn signed(
        key: &PrivateKey,
        device: DeviceId,
        incarnation: Incarnation,
        first: Sequence,
        before: Digest,
        kept_from: Sequence,
        waiting: u64,
        messages: Vec<Vec<u8>>,
    ) -> Self {
        assert!(!messages.is_empty(), "a batch has at least one message");
        let head = messages.iter().fold(before, |head, message| chain(head, message));
        let last = Sequence(first.0 + messages.len() as u64 - 1);
        let unsigned = Signature([0; 64]);
        let mut header = BatchHeader {
            device,
            incarnation,
            first,
            before,
            last,
            head,
            kept_from,
            waiting,
            signature: unsigned,
        };
        header.signature = key.sign(Domain::ChainHead, &header.signed_bytes());
        Self { header, messages }
    }

    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        let header = serde_json::to_vec(&self.header).unwrap_or_default();
        let size = self.messages.iter().map(|m| m.len() + 4).sum::<usize>() + header.len() + 4;
        let mut bytes = Vec::with_capacity(size);
        for frame in std::iter::once(&header).chain(&self.messages) {
            bytes.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            bytes.extend_from_slice(frame);
        }
        bytes
    }

    /// Splits bytes into header and messages. Bounded by the limits above; looks at no message.
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchRefused> {
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(BatchRefused::TooManyBytes(bytes.len()));
        }
        let mut at = 0;
        let header = next_frame(bytes, &mut at)?;
        if header.len() > HEADER_BYTES_MAX {
            return Err(BatchRefused::Header(format!("more than {HEADER_BYTES_MAX} bytes")));
        }
        let header: BatchHeader =
            serde_json::from_slice(header).map_err(|why| BatchRefused::Header(why.to_string()))?;
        let mut messages = Vec::new();
        while at < bytes.len() {
            if messages.len() == BATCH_MESSAGES_MAX {
                return Err(BatchRefused::TooManyMessages);
            }
            messages.push(next_frame(bytes, &mut at)?.to_vec());
        }
        let count = messages.len();
        let (first, last) = (header.first.0, header.last.0);
        if count == 0 || first == 0 || last.checked_sub(first) != Some(count as u64 - 1) {
            return Err(BatchRefused::Count { first, last, count });
        }
        Ok(Self { header, messages })
    }

    /// Checks that the messages lead to the signed head, and that `key` signed it. Answers the chain
    /// value after each message.
    pub fn verify(&self, key: &PublicKey) -> Result<Vec<Digest>, BatchRefused> {
        let mut head = self.header.before;
        let chains: Vec<Digest> = self
            .messages
            .iter()
            .map(|message| {
                head = chain(head, message);
                head
            })
            .collect();
        if head != self.header.head {
            return Err(BatchRefused::Chain);
        }
        key.verify(Domain::ChainHead, &self.header.signed_bytes(), &self.header.signature)
            .map_err(|BadSignature| BatchRefused::Signature)?;
        Ok(chains)
    }
}

fn next_frame<'a>(bytes: &'a [u8], at: &mut usize) -> Result<&'a [u8], BatchRefused> {
    let cut = || BatchRefused::CutShort(bytes.len());
    let length = bytes.get(*at..*at + 4).ok_or_else(cut)?;
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
    let start = *at + 4;
    let frame = bytes.get(start..start.saturating_add(length)).ok_or_else(cut)?;
    *at = start + length;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> (PrivateKey, Batch) {
        let key = PrivateKey::from_seed([3; 32]);
        let messages = vec![b"one".to_vec(), Vec::new(), vec![0xff, 0]];
        let device = DeviceId(uuid::Uuid::from_u128(7));
        let batch = Batch::signed(
            &key,
            device,
            Incarnation(1),
            Sequence(5),
            Digest::of(b"4"),
            Sequence(2),
            9,
            messages,
        );
        (key, batch)
    }

    #[test]
    fn a_batch_reads_back_and_verifies() {
        let (key, batch) = batch();
        let read = Batch::decode(&batch.encode()).unwrap();
        assert_eq!(read, batch);
        let chains = read.verify(&key.public()).unwrap();
        assert_eq!((chains.len(), chains[2]), (3, batch.header.head));
    }

    #[test]
    fn bytes_cut_anywhere_are_refused_and_never_panic() {
        let (key, batch) = batch();
        let bytes = batch.encode();
        for cut in 0..bytes.len() {
            let refused = match Batch::decode(&bytes[..cut]) {
                Err(_) => true,
                Ok(read) => read.verify(&key.public()).is_err(),
            };
            assert!(refused, "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused() {
        let (key, batch) = batch();
        let bytes = batch.encode();
        for at in 0..bytes.len() {
            let mut bent = bytes.clone();
            bent[at] ^= 1;
            let refused = match Batch::decode(&bent) {
                Err(_) => true,
                // A flipped bit may turn a header field's name into one that is ignored, but then
                // the field is missing and decoding failed above.
                Ok(read) => read.verify(&key.public()).is_err(),
            };
            assert!(refused, "bit at {at}");
        }
    }

    #[test]
    fn limits_are_named() {
        let refused = Batch::decode(&vec![0; BATCH_BYTES_MAX + 1]).unwrap_err().to_string();
        assert!(refused.contains("BATCH_BYTES_MAX"), "{refused}");
    }
}
