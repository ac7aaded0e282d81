//! The outbox: the stream of messages that are kept, and how far they have been sent.
//!
//! Every message is kept until the site's own receipt covers it, and `keepRelieved` longer, in case the
//! site is restored from a backup. What sends and what relieves is decided in `sending`.

use std::collections::VecDeque;
use std::time::Duration;

use muster_model::clock::{Elapsed, Wall};
use muster_model::digest::Digest;
use muster_model::id::Sequence;
use muster_model::wire::batch::{BATCH_BYTES_MAX, HEADER_BYTES_MAX};

use crate::backoff::{BACKOFF_LEAST, Backoff, Jitter};
use crate::saved::{Forgotten, Kept, Memory};
use crate::step::Unsigned;

/// Messages in one batch: a tenth of what a site takes, so that a receipt is never far away.
pub(crate) const SEND_MESSAGES_MAX: usize = 100;
/// Bytes in one batch, below the site's limit by more than its header and all length prefixes.
const SEND_BYTES_MAX: usize = BATCH_BYTES_MAX - 2 * HEADER_BYTES_MAX;
/// Unacknowledged bytes that an outbox holds if nothing else is said: years of an ordinary device, and
/// little of a small disk. From half of the limit on what is no outcome gives way, from three quarters
/// on no new run starts. Outcomes are never dropped, whatever it says.
pub const OUTBOX_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Acknowledged bytes that are kept at most, however young: they are a spare copy, held in memory.
const RELIEVED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Messages forgotten in one step, so that no write is large.
const FORGET_MESSAGES_MAX: usize = 1_000;
/// A batch without an answer for so long is taken as failed.
const SEND_ANSWER_MOST: Duration = Duration::from_secs(120);

/// The messages at hand and how far they have been sent.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    kept: VecDeque<Kept>,
    /// What stands before the first kept message.
    before: Forgotten,
    bytes: usize,
    pub(crate) bytes_max: usize,
    /// Everything up to here was handed over, or need not be.
    sent: Sequence,
    sending: Option<Sending>,
    backoff: Backoff,
    pub(crate) trouble: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Sending {
    through: Sequence,
    since: Elapsed,
}

impl Outbox {
    /// The outbox as it was saved: the messages that end at the memory's head without a hole.
    pub(crate) fn restore(memory: &Memory, messages: Vec<Kept>) -> Self {
        let mut before = memory.forgotten.unwrap_or(Forgotten::NOTHING);
        let mut kept: VecDeque<Kept> = VecDeque::new();
        let mut wanted = memory.head;
        for message in messages.into_iter().rev().skip_while(|m| m.sequence > memory.head) {
            if message.sequence != wanted || wanted <= before.through {
                break;
            }
            wanted = Sequence(wanted.0 - 1);
            kept.push_front(message);
        }
        if wanted != before.through {
            // Beyond a hole the chain is known only from the message after it on.
            let known = kept.pop_front().map(|oldest| (oldest.sequence, oldest.chain));
            let (through, chain) = known.unwrap_or((memory.head, memory.chain));
            before = Forgotten { through, chain };
        }
        let bytes = kept.iter().map(|message| message.bytes.len()).sum();
        Self {
            kept,
            before,
            bytes,
            bytes_max: OUTBOX_BYTES_MAX,
            sent: memory.relieved,
            sending: None,
            backoff: Backoff::default(),
            trouble: None,
        }
    }

    pub(crate) fn push(&mut self, message: Kept) {
        self.bytes += message.bytes.len();
        self.kept.push_back(message);
    }

    /// The message at `sequence`, if it is kept.
    pub(crate) fn get(&self, sequence: Sequence) -> Option<&Kept> {
        let at = sequence.0.checked_sub(self.before.through.0 + 1)?;
        self.kept.get(usize::try_from(at).ok()?)
    }

    /// The chain after `sequence`, if it is still known.
    pub(crate) fn chain_at(&self, sequence: Sequence) -> Option<Digest> {
        if sequence == self.before.through {
            return Some(self.before.chain);
        }
        self.get(sequence).map(|message| message.chain)
    }

    fn head(&self) -> Sequence {
        Sequence(self.before.through.0 + self.kept.len() as u64)
    }

    fn after(&self, sequence: Sequence) -> impl Iterator<Item = &Kept> {
        let skip = sequence.0.saturating_sub(self.before.through.0);
        self.kept.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX))
    }

    /// Sets the limit.
    pub(crate) fn limit(&mut self, bytes: usize) {
        self.bytes_max = bytes;
    }

    /// Whether what follows `relieved` leaves room for the outcome of one more run: three quarters of
    /// the limit at most.
    pub(crate) fn has_room(&self, relieved: Sequence) -> bool {
        self.is_below(relieved, self.bytes_max / 4 * 3)
    }

    /// Whether what follows `relieved` leaves room for more than outcomes: half of the limit at most.
    pub(crate) fn has_room_to_spare(&self, relieved: Sequence) -> bool {
        self.is_below(relieved, self.bytes_max / 2)
    }

    fn is_below(&self, relieved: Sequence, bytes: usize) -> bool {
        // Nearly always even all bytes are few, and nobody needs to count.
        self.bytes < bytes || self.waiting_bytes(relieved) < bytes
    }

    /// Bytes of what follows `relieved`.
    pub(crate) fn waiting_bytes(&self, relieved: Sequence) -> usize {
        self.after(relieved).map(|message| message.bytes.len()).sum()
    }

    /// The oldest message after `sequence`.
    pub(crate) fn oldest_after(&self, sequence: Sequence) -> Option<&Kept> {
        self.after(sequence).next()
    }

    /// The end of what is no longer kept.
    pub(crate) fn before(&self) -> Forgotten {
        self.before
    }

    /// When the outbox must be looked at again.
    pub(crate) fn deadline(&self) -> Option<Elapsed> {
        match self.sending {
            Some(sending) => Some(sending.since.plus(SEND_ANSWER_MOST)),
            None => (self.sent < self.head()).then(|| self.backoff.due()),
        }
    }

    /// The link came up: send now, whatever was planned.
    pub(crate) fn hasten(&mut self) {
        self.backoff.hasten();
    }

    /// Whether the batch under way should have been answered by now.
    pub(crate) fn is_overdue(&self, now: Elapsed) -> bool {
        self.sending.is_some_and(|sending| now.since(sending.since) >= SEND_ANSWER_MOST)
    }

    /// The end of the batch that is under way.
    pub(crate) fn sending(&self) -> Option<Sequence> {
        self.sending.map(|sending| sending.through)
    }

    /// The next batch, if one is due and none is under way; it is under way then.
    pub(crate) fn next_batch(&mut self, memory: &Memory, now: Elapsed) -> Option<Unsigned> {
        if self.sending.is_some() || !self.backoff.is_due(now) {
            return None;
        }
        let batch = self.batch(memory)?;
        let through = Sequence(batch.first.0 + batch.messages.len() as u64 - 1);
        self.sending = Some(Sending { through, since: now });
        self.sent = through;
        Some(batch)
    }

    fn batch(&self, memory: &Memory) -> Option<Unsigned> {
        let from = self.sent.max(self.before.through);
        let mut bytes = 0;
        let messages: Vec<Vec<u8>> = self
            .after(from)
            .take(SEND_MESSAGES_MAX)
            .take_while(|message| {
                bytes += message.bytes.len() + 4;
                bytes <= SEND_BYTES_MAX
            })
            .map(|message| message.bytes.clone())
            .collect();
        if messages.is_empty() {
            return None;
        }
        Some(Unsigned {
            first: from.next(),
            before: self.chain_at(from)?,
            kept_from: self.before.through.next(),
            waiting: memory.head.0.saturating_sub(memory.relieved.0),
            messages,
        })
    }

    /// The site has everything up to `relieved`; the rest may follow at once.
    pub(crate) fn answered(&mut self, relieved: Sequence, now: Elapsed) {
        self.sending = None;
        self.sent = relieved;
        self.trouble = None;
        self.backoff.succeeded(now);
    }

    /// The batch under way came to nothing: what is not relieved is sent again, by back-off. Answers
    /// whether there was one.
    pub(crate) fn failed(
        &mut self,
        relieved: Sequence,
        now: Elapsed,
        most: Duration,
        jitter: &mut Jitter,
    ) -> bool {
        let Some(sending) = self.sending.take() else { return false };
        self.sent = relieved;
        self.backoff.failed(sending.since, now, most, jitter);
        true
    }

    /// The site asks for what follows `through`. At least the newest message is sent again, because
    /// only a receipt relieves; and not at once, so that two relays that disagree about the prefix make
    /// no loop without a pause.
    pub(crate) fn rewind(&mut self, through: Sequence, now: Elapsed) {
        self.sending = None;
        self.sent = self.all_but_newest().min(through).max(self.before.through);
        self.backoff.succeeded(now.plus(BACKOFF_LEAST));
    }

    /// Sends the newest message again, to learn what the site has.
    pub(crate) fn probe(&mut self) {
        self.sending = None;
        self.sent = self.all_but_newest().max(self.before.through);
        self.backoff.hasten();
    }

    /// The site has another history of the stream, and what was sent up to `through` is in both: what
    /// follows is sent next, until it shows where they part.
    pub(crate) fn go_on_after(&mut self, through: Sequence) {
        if through < self.head() {
            self.sent = through;
        }
    }

    fn all_but_newest(&self) -> Sequence {
        Sequence(self.head().0.saturating_sub(1))
    }

    /// Forgets the oldest messages up to `relieved` that were written before `horizon`, or that are more
    /// than a spare copy may take. Answers the last one that is gone, if any is.
    pub(crate) fn forget(&mut self, relieved: Sequence, horizon: Wall) -> Option<Sequence> {
        let mut gone = None;
        // The newest one stays: with it a site of another epoch is asked what it has, and learns what
        // it lacks.
        for _ in 0..FORGET_MESSAGES_MAX.min(self.kept.len().saturating_sub(1)) {
            let spare = self.bytes > RELIEVED_BYTES_MAX.min(self.bytes_max / 2);
            let goes = |oldest: &mut Kept| {
                oldest.sequence <= relieved && (spare || oldest.written < horizon)
            };
            let Some(oldest) = self.kept.pop_front_if(goes) else { break };
            self.bytes -= oldest.bytes.len();
            self.before = Forgotten { through: oldest.sequence, chain: oldest.chain };
            gone = Some(oldest.sequence);
        }
        gone
    }
}

impl Forgotten {
    /// Nothing has been forgotten: what stands before the first message of a stream.
    pub const NOTHING: Forgotten = Forgotten { through: Sequence(0), chain: Digest::ZERO };
}

#[cfg(feature = "planted")]
impl Outbox {
    /// Takes back the newest message; answers where the stream ends then.
    pub(crate) fn unwrite_newest(&mut self) -> Option<(Sequence, Digest)> {
        self.kept.pop_back()?;
        let end = self.kept.back().map(|newest| (newest.sequence, newest.chain));
        Some(end.unwrap_or((self.before.through, self.before.chain)))
    }

    /// Sends nothing before `until`.
    pub(crate) fn put_off(&mut self, until: Elapsed) {
        self.backoff.succeeded(until);
    }

    /// Sends nothing up to `sequence` any more.
    pub(crate) fn skip_to(&mut self, sequence: Sequence) {
        self.sent = self.sent.max(sequence);
    }
}
