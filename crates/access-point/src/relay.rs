//! The relay as a machine: what it accepts is on its disk before it says so, and goes to the site in
//! the order of each stream. Losing its disk costs delay and nothing else.
//!
//! ```text
//! offered -> spooled -> forwarded -> receipt of the site -> dropped, receipt passed down
//!         \-> full (503)          \-> behind: kept, passed down, tried again later
//!                                 \-> refused: dropped, passed down (the device still holds it)
//!                                 \-> failed: kept, tried again by back-off
//! ```
//!
//! Called by the access point's shell and by the simulator, which save [`Step::writes`] and then carry
//! out [`Step::effects`]. It never signs, never answers with a word of its own that could relieve a
//! device, never opens a message, and draws nothing from a clock or a random source.

mod spool;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use muster_model::clock::{Elapsed, Now};
use muster_model::digest::Digest;
use muster_model::id::{DeviceId, EpochId, Sequence};
use muster_model::wire::batch::Batch;
use muster_model::wire::device::Receipt;
use muster_model::wire::seal::Sealed;

pub use spool::SPOOL_STREAM_BYTES_MAX;
use spool::Spool;
pub use step::{
    Answer, BatchKey, Effect, Input, PolicyAnswer, Request, Spooled, Step, Stream, Upstream, Write,
};

/// Bytes of the spool when the access point was given no quota.
pub const SPOOL_BYTES_DEFAULT: u64 = 1024 * 1024 * 1024;
/// Batches under way to the site at once: enough to fill a link, few enough to be fair.
pub const FORWARDS_MAX: usize = 64;
/// Device requests that wait for the site's answer; the next one is told `Spooled` at once.
pub const WAITING_MAX: usize = 10_000;
/// How long a device's request waits for the site's answer before it is told `Spooled`.
pub const HOLD_MOST: Duration = Duration::from_secs(20);
/// The longest wait between two tries to reach the site; the first is [`RETRY_LEAST`].
pub const RETRY_MOST: Duration = Duration::from_secs(60);
/// The shortest wait between two tries to reach the site.
pub const RETRY_LEAST: Duration = Duration::from_secs(1);
/// A batch that does not follow what the site has is tried again this often, in case what lies
/// before it went another way.
pub const BEHIND_RETRY: Duration = Duration::from_secs(15 * 60);
/// Policies and receipts kept for devices that have not fetched them; beyond it the first goes.
pub const CACHED_MAX: usize = 10_000;

/// Bugs that the simulator plants; all off is the product.
#[cfg(feature = "planted")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Planted {
    /// Answers a spooled batch as if the site had taken it.
    pub own_receipt: bool,
}

/// Rare branches, as a set of bits: the simulator demands that each was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is named like what happened")]
pub enum Branch {
    Full,
    SpooledBefore,
    ReceiptKept,
    ReceiptPassedWithPoll,
    PolicyFromCache,
    Behind,
    GaveWay,
    Refused,
    HeldTooLong,
    EpochChanged,
    ForwardedAfterRestart,
}

impl Branch {
    /// Every one of them.
    pub const ALL: &[Branch] = &[
        Branch::Full,
        Branch::SpooledBefore,
        Branch::ReceiptKept,
        Branch::ReceiptPassedWithPoll,
        Branch::PolicyFromCache,
        Branch::Behind,
        Branch::GaveWay,
        Branch::Refused,
        Branch::HeldTooLong,
        Branch::EpochChanged,
        Branch::ForwardedAfterRestart,
    ];
}

/// Counters for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Batches in the spool.
    pub batches: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Batches that found no room since the start.
    pub full: u64,
    /// Batches that the site refused since the start.
    pub refused: u64,
    /// Batches that do not follow what the site has.
    pub behind: usize,
}

#[derive(Clone, Copy)]
struct Held {
    key: BatchKey,
    until: Elapsed,
}

/// The relay machine.
pub struct Relay {
    bytes_max: u64,
    spool: Spool,
    forwarding: BTreeMap<Stream, BatchKey>,
    /// Streams that may have something to forward, and the one that was served last: in turn.
    ready: BTreeSet<Stream>,
    served: Option<Stream>,
    held: BTreeMap<Request, Held>,
    polls: BTreeMap<Request, (DeviceId, Option<Digest>)>,
    receipts: BTreeMap<Stream, Sealed>,
    policies: BTreeMap<DeviceId, (Digest, Sealed)>,
    /// Batches that do not follow what the site has: where it stands, and when they are tried again.
    behind: BTreeMap<BatchKey, (Sequence, Elapsed)>,
    epoch: Option<EpochId>,
    /// Since when the site does not answer, and when it is tried again.
    outage: Option<(Elapsed, Elapsed)>,
    full: u64,
    refused: u64,
    fired: u32,
    /// Planted bugs.
    #[cfg(feature = "planted")]
    pub planted: Planted,
}

impl Relay {
    /// The machine over what its disk holds; `bytes_max` is the quota of the spool.
    pub fn restore(bytes_max: u64, spooled: impl IntoIterator<Item = Spooled>) -> Self {
        let mut spool = Spool::default();
        spooled.into_iter().for_each(|batch| spool.insert(batch));
        Self {
            bytes_max,
            spool,
            forwarding: BTreeMap::new(),
            ready: BTreeSet::new(),
            served: None,
            held: BTreeMap::new(),
            polls: BTreeMap::new(),
            receipts: BTreeMap::new(),
            policies: BTreeMap::new(),
            behind: BTreeMap::new(),
            epoch: None,
            outage: None,
            full: 0,
            refused: 0,
            fired: 0,
            #[cfg(feature = "planted")]
            planted: Planted::default(),
        }
    }

    /// Takes one input. The writes are to be durable before any effect is carried out.
    pub fn handle(&mut self, now: Now, input: Input) -> Step {
        let mut step = Step::default();
        let now = now.elapsed;
        match input {
            Input::Started => self.start(),
            Input::Offered { request, batch } => self.offered(now, request, batch, &mut step),
            Input::Polled { request, device, tag } => self.polled(request, device, tag, &mut step),
            Input::Forwarded { key, answer } => self.forwarded(now, key, answer, &mut step),
            Input::PollAnswered { request, answer } => {
                self.poll_answered(request, answer, &mut step);
            }
            Input::Unreadable { key } => self.drop_batch(&key, &mut step),
            Input::Tick => self.answer_overdue(now, &mut step),
        }
        self.pump(now, &mut step);
        step
    }

    /// When [`Input::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Elapsed> {
        let held = self.held.values().map(|held| held.until).min();
        let retry = self.outage.map(|(_, again)| again).filter(|_| !self.ready.is_empty());
        let blocked = self.behind.values().map(|(_, again)| *again).min();
        [held, retry, blocked].into_iter().flatten().min()
    }

    /// Counters for people.
    pub fn view(&self) -> View {
        View {
            batches: self.spool.len(),
            bytes: self.spool.bytes(),
            full: self.full,
            refused: self.refused,
            behind: self.behind.len(),
        }
    }

    /// Which rare branches were taken since the machine was restored.
    pub fn fired(&self) -> impl Iterator<Item = Branch> {
        Branch::ALL.iter().copied().filter(|branch| self.fired & (1 << *branch as u32) != 0)
    }

    fn fire(&mut self, branch: Branch) {
        self.fired |= 1 << branch as u32;
    }

    fn start(&mut self) {
        self.ready = self.spool.streams().collect();
        if !self.ready.is_empty() {
            self.fire(Branch::ForwardedAfterRestart);
        }
    }

    fn offered(&mut self, now: Elapsed, request: Request, batch: Box<Batch>, step: &mut Step) {
        let key = BatchKey::of(&batch.header);
        // A batch that did not follow may come again with less kept before it: then it does.
        let again = self.behind.remove(&key).is_some();
        if self.spool.contains(&key) && !again {
            self.fire(Branch::SpooledBefore);
        } else {
            let bytes = batch.messages.iter().map(|m| m.len() as u64 + 4).sum();
            let limit = self.make_room(key.stream, bytes, step);
            if let Some(limit) = limit.filter(|_| !again) {
                self.full += 1;
                self.fire(Branch::Full);
                step.effects.push(Effect::Answer { request, answer: Answer::Full { limit } });
                return;
            }
            self.spool.insert(Spooled { key, bytes });
            step.writes.push(Write::Spooled(batch));
        }
        self.ready.insert(key.stream);
        #[cfg(feature = "planted")]
        if self.planted.own_receipt {
            let answer = Answer::Receipt(own_receipt(&key, self.epoch));
            step.effects.push(Effect::Answer { request, answer });
            return;
        }
        if self.held.len() >= WAITING_MAX || self.is_out(now) {
            step.effects.push(Effect::Answer { request, answer: Answer::Spooled });
        } else {
            self.held.insert(request, Held { key, until: now.plus(HOLD_MOST) });
        }
    }

    /// Answers the limit that leaves no room. Batches that do not follow what the site has give way
    /// first: they cannot be taken before others, and the others must not wait behind them.
    fn make_room(&mut self, stream: Stream, bytes: u64, step: &mut Step) -> Option<&'static str> {
        loop {
            let limit = self.spool.refuses(stream, bytes, self.bytes_max)?;
            let mut blocked = self.behind.keys();
            let own = blocked.clone().find(|key| key.stream == stream);
            let Some(gives_way) = own.or_else(|| blocked.next()).copied() else {
                return Some(limit);
            };
            self.fire(Branch::GaveWay);
            self.drop_batch(&gives_way, step);
        }
    }

    fn polled(&mut self, request: Request, device: DeviceId, tag: Option<Digest>, step: &mut Step) {
        self.polls.insert(request, (device, tag));
        step.effects.push(Effect::Poll { request, device, tag });
    }

    fn poll_answered(&mut self, request: Request, answer: PolicyAnswer, step: &mut Step) {
        let Some((device, tag)) = self.polls.remove(&request) else { return };
        let answer = match answer {
            PolicyAnswer::Policy { tag, sealed, time } => {
                bounded_insert(&mut self.policies, device, (tag, sealed.clone()));
                PolicyAnswer::Policy { tag, sealed, time }
            }
            PolicyAnswer::NothingNew { time } => {
                self.policies.remove(&device);
                PolicyAnswer::NothingNew { time }
            }
            // Given out once: the device may have a newer one by another way, and says so next time.
            PolicyAnswer::Failed => match self.policies.remove(&device) {
                Some((cached, sealed)) if Some(cached) != tag => {
                    self.fire(Branch::PolicyFromCache);
                    PolicyAnswer::Policy { tag: cached, sealed, time: None }
                }
                _ => PolicyAnswer::Failed,
            },
        };
        let receipt = self.take_receipt(device);
        step.effects.push(Effect::AnswerPoll { request, answer, receipt });
    }

    /// A receipt is given out once: if the answer is lost, the device sends again and the site is
    /// asked again, so a receipt of a site since restored cannot be repeated for ever.
    fn take_receipt(&mut self, device: DeviceId) -> Option<Sealed> {
        let stream = self.receipts.keys().rev().find(|stream| stream.device == device).copied()?;
        self.fire(Branch::ReceiptPassedWithPoll);
        self.receipts.remove(&stream)
    }

    fn forwarded(&mut self, now: Elapsed, key: BatchKey, answer: Upstream, step: &mut Step) {
        if self.forwarding.get(&key.stream) == Some(&key) {
            self.forwarding.remove(&key.stream);
        }
        if answer != Upstream::Failed {
            self.outage = None;
        }
        match answer {
            Upstream::Receipt { through, sealed } => {
                self.learn_epoch(sealed.peek::<Receipt>().ok().map(|receipt| receipt.epoch));
                self.drop_batch(&key, step);
                self.behind
                    .retain(|other, _| other.stream != key.stream || other.first > through.next());
                if through >= key.last {
                    let told = self.answer_held(&key, &Answer::Receipt(sealed.clone()), step);
                    if !told {
                        self.fire(Branch::ReceiptKept);
                        bounded_insert(&mut self.receipts, key.stream, sealed);
                    }
                }
            }
            Upstream::Behind(behind) => {
                self.fire(Branch::Behind);
                self.learn_epoch(Some(behind.epoch));
                self.behind.insert(key, (behind.through, now.plus(BEHIND_RETRY)));
                self.answer_held(&key, &Answer::Behind(behind), step);
            }
            Upstream::Refused { why } => {
                self.refused += 1;
                self.fire(Branch::Refused);
                self.drop_batch(&key, step);
                self.answer_held(&key, &Answer::Refused { why }, step);
            }
            Upstream::Failed => {
                let since = self.outage.map_or(now, |(since, _)| since);
                let wait = (now.since(since) / 2).clamp(RETRY_LEAST, RETRY_MOST);
                self.outage = Some((since, now.plus(wait)));
                let held: Vec<Request> = self.held.keys().copied().collect();
                self.answer_spooled(held, step);
            }
        }
        self.ready.insert(key.stream);
    }

    /// Another epoch is another life of the site: what the one before said holds no more.
    fn learn_epoch(&mut self, epoch: Option<EpochId>) {
        let Some(epoch) = epoch else { return };
        if self.epoch.replace(epoch).is_some_and(|known| known != epoch) {
            self.fire(Branch::EpochChanged);
            self.receipts.clear();
            self.policies.clear();
        }
    }

    fn drop_batch(&mut self, key: &BatchKey, step: &mut Step) {
        self.behind.remove(key);
        if self.spool.remove(key) {
            step.writes.push(Write::Dropped(*key));
        }
    }

    /// Answers everybody who waits for this batch; says whether anybody did.
    fn answer_held(&mut self, key: &BatchKey, answer: &Answer, step: &mut Step) -> bool {
        let told: Vec<Request> =
            self.held.iter().filter(|(_, held)| held.key == *key).map(|(r, _)| *r).collect();
        for request in &told {
            self.held.remove(request);
            step.effects.push(Effect::Answer { request: *request, answer: answer.clone() });
        }
        !told.is_empty()
    }

    fn answer_overdue(&mut self, now: Elapsed, step: &mut Step) {
        let overdue: Vec<Request> =
            self.held.iter().filter(|(_, held)| held.until <= now).map(|(r, _)| *r).collect();
        if !overdue.is_empty() {
            self.fire(Branch::HeldTooLong);
        }
        self.answer_spooled(overdue, step);
        let due: Vec<BatchKey> = self
            .behind
            .iter()
            .filter(|(_, (_, again))| *again <= now)
            .map(|(key, _)| *key)
            .collect();
        for key in due {
            self.behind.remove(&key);
            self.ready.insert(key.stream);
        }
    }

    fn answer_spooled(&mut self, requests: Vec<Request>, step: &mut Step) {
        for request in requests {
            self.held.remove(&request);
            step.effects.push(Effect::Answer { request, answer: Answer::Spooled });
        }
    }

    fn is_out(&self, now: Elapsed) -> bool {
        self.outage.is_some_and(|(_, again)| now < again)
    }

    fn next_ready(&mut self) -> Option<Stream> {
        let after = self.served.map_or(Unbounded, Excluded);
        let next = self.ready.range((after, Unbounded)).next().or_else(|| self.ready.first());
        let next = next.copied()?;
        self.ready.remove(&next);
        self.served = Some(next);
        Some(next)
    }

    /// Starts what can be started: one batch per stream, the first one, while the site answers.
    fn pump(&mut self, now: Elapsed, step: &mut Step) {
        if self.is_out(now) {
            return;
        }
        for _ in 0..self.ready.len() {
            if self.forwarding.len() >= FORWARDS_MAX {
                return;
            }
            let Some(stream) = self.next_ready() else { return };
            if self.forwarding.contains_key(&stream) {
                continue; // its answer puts the stream in line again
            }
            let next = self.spool.of(stream).find(|key| !self.behind.contains_key(key));
            if let Some(key) = next {
                self.forwarding.insert(stream, key);
                step.effects.push(Effect::Forward(key));
            }
        }
    }
}

fn bounded_insert<K: Ord + Copy, V>(cache: &mut BTreeMap<K, V>, key: K, value: V) {
    cache.insert(key, value);
    if cache.len() > CACHED_MAX {
        cache.pop_first();
    }
}

/// A receipt that nobody signed: what an access point would say if it could relieve a device.
#[cfg(feature = "planted")]
fn own_receipt(key: &BatchKey, epoch: Option<EpochId>) -> Sealed {
    let receipt = Receipt {
        epoch: epoch.unwrap_or(EpochId(key.stream.device.0)),
        device: key.stream.device,
        incarnation: key.stream.incarnation,
        through: key.last,
        head: key.head,
    };
    let unsigned = muster_model::sign::PrivateKey::from_seed([0; 32]);
    Sealed::seal(&unsigned, muster_model::sign::Domain::Receipt, &receipt).unwrap_or_else(|_| {
        Sealed { payload: String::new(), signature: muster_model::sign::Signature([0; 64]) }
    })
}

#[cfg(test)]
mod tests;
