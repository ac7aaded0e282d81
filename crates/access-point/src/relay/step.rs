//! What happens to a relay and what it does about it: values only.

use muster_model::digest::Digest;
use muster_model::id::{DeviceId, Incarnation, Sequence};
use muster_model::wire::batch::{Batch, BatchHeader};
use muster_model::wire::device::Behind;
use muster_model::wire::seal::Sealed;

/// A request of a device that waits for its answer; the shell numbers them, one process long.
pub type Request = u64;

/// A device's stream of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stream {
    /// Who speaks.
    pub device: DeviceId,
    /// Which life of its memory.
    pub incarnation: Incarnation,
}

/// A spooled batch, named by what it is: its place in its stream and the chain it ends in. Two
/// batches with one key are the same bytes up to the header's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchKey {
    /// The stream.
    pub stream: Stream,
    /// The first message.
    pub first: Sequence,
    /// The last message.
    pub last: Sequence,
    /// The chain after the last message.
    pub head: Digest,
}

impl BatchKey {
    /// The key of the batch with this header.
    pub fn of(header: &BatchHeader) -> Self {
        let stream = Stream { device: header.device, incarnation: header.incarnation };
        Self { stream, first: header.first, last: header.last, head: header.head }
    }
}

/// A spooled batch as the relay remembers it; its bytes stay on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spooled {
    /// Which one.
    pub key: BatchKey,
    /// Its bytes on disk.
    pub bytes: u64,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The shell has started and restored the machine. Always the first input.
    Started,
    /// A device posted a batch, well-formed and with a chain that leads to its head.
    Offered {
        /// The waiting request.
        request: Request,
        /// The batch.
        batch: Box<Batch>,
    },
    /// A device polled for its policy.
    Polled {
        /// The waiting request.
        request: Request,
        /// The device, as its ticket says.
        device: DeviceId,
        /// The tag of the policy that it has.
        tag: Option<Digest>,
    },
    /// The site answered a forwarded batch, or could not be reached.
    Forwarded {
        /// The batch.
        key: BatchKey,
        /// The answer.
        answer: Upstream,
    },
    /// The site answered a poll that was passed on, or could not be reached.
    PollAnswered {
        /// The waiting request.
        request: Request,
        /// The answer.
        answer: PolicyAnswer,
    },
    /// A spooled batch cannot be read back from disk.
    Unreadable {
        /// The batch.
        key: BatchKey,
    },
    /// The deadline that the machine asked for has passed.
    Tick,
}

/// What the site says to a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// Everything up to `through` is committed at the site.
    Receipt {
        /// The end of the prefix that the site has.
        through: Sequence,
        /// The receipt under the site's signature, passed on as it is.
        sealed: Sealed,
    },
    /// The site lacks what lies before the batch.
    Behind(Behind),
    /// The site will never take it.
    Refused {
        /// Why.
        why: String,
    },
    /// No usable answer.
    Failed,
}

/// What a device is told about its policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyAnswer {
    /// This policy, under the site's signature.
    Policy {
        /// Its tag.
        tag: Digest,
        /// The document.
        sealed: Sealed,
        /// The site's time, if the answer is fresh.
        time: Option<Sealed>,
    },
    /// Nothing new.
    NothingNew {
        /// The site's time.
        time: Sealed,
    },
    /// The site could not be reached and nothing newer is at hand.
    Failed,
}

/// What a device is told about its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The site's receipt: the only thing that relieves the device.
    Receipt(Sealed),
    /// The site lacks what lies before: send from there.
    Behind(Behind),
    /// Durably here, not yet at the site: relieves nobody (law 2).
    Spooled,
    /// No room: status 503, to be tried again later or elsewhere.
    Full {
        /// Which limit was reached.
        limit: &'static str,
    },
    /// The site will never take it.
    Refused {
        /// Why.
        why: String,
    },
}

/// The outcome of one input.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// To be made durable before any effect.
    pub writes: Vec<Write>,
    /// To be carried out after that, in order.
    pub effects: Vec<Effect>,
}

/// One change of the spool on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Keep this batch.
    Spooled(Box<Batch>),
    /// The site answered for it. Need not be durable: forwarding it again changes nothing.
    Dropped(BatchKey),
}

/// Something to do.
#[expect(clippy::large_enum_variant, reason = "an effect lives for one step; a box buys nothing")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer a device's batch.
    Answer {
        /// The waiting request.
        request: Request,
        /// The answer.
        answer: Answer,
    },
    /// Answer a device's poll.
    AnswerPoll {
        /// The waiting request.
        request: Request,
        /// The policy's part of the answer.
        answer: PolicyAnswer,
        /// A receipt that came for the device's stream since it last asked.
        receipt: Option<Sealed>,
    },
    /// Read this batch from the spool and post it to the site; answered by [`Input::Forwarded`] or
    /// [`Input::Unreadable`].
    Forward(BatchKey),
    /// Pass the poll on to the site, as it came; answered by [`Input::PollAnswered`].
    Poll {
        /// The waiting request.
        request: Request,
        /// The device.
        device: DeviceId,
        /// The tag of the policy that it has.
        tag: Option<Digest>,
    },
}
