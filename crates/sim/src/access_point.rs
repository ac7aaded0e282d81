//! The access point of a world: the real relay, its process and its disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_access_point::relay::{
    self, BatchKey, Effect, Input, PolicyAnswer, Relay, Request, Spooled, Step, Upstream, Write,
};
use muster_model::clock::{Elapsed, Now};
use muster_model::wire::batch::Batch;

use crate::core::{Core, Crash, Moment, Node};
use crate::disk::{Disk, Medium};
use crate::event::{Answer, Ask, Call, Event};
use crate::plant::Plant;
use crate::queue::Time;
use crate::sometimes::Rare;

/// How long the relay waits for the site beyond the time for which a poll may be held.
const SITE_MOST: u64 = 25_000;

/// The spool on disk.
#[derive(Clone, Default)]
struct Spool(BTreeMap<BatchKey, Arc<Batch>>);

impl Medium for Spool {
    type Write = Write;
    fn apply(&mut self, write: &Write) {
        match write {
            Write::Spooled(batch) => {
                self.0.insert(BatchKey::of(&batch.header), Arc::new((**batch).clone()));
            }
            Write::Dropped(key) => {
                self.0.remove(key);
            }
        }
    }
}

enum Upward {
    Forward(BatchKey),
    Poll(Request),
    /// Passed through without the relay's knowledge: the account.
    Pass(Call),
}

struct Process {
    number: u64,
    relay: Relay,
    requests: BTreeMap<Request, Call>,
    upward: BTreeMap<u64, Upward>,
    tick: Option<Time>,
}

/// The access point.
#[derive(Default)]
pub(crate) struct AccessPoint {
    spool: Disk<Spool>,
    process: Option<Process>,
    processes: u64,
    requests: Request,
}

struct Cut;

impl AccessPoint {
    /// Starts the process, if there is none.
    pub(crate) fn start(&mut self, core: &mut Core) {
        if self.process.is_some() {
            return;
        }
        self.spool.sync();
        self.processes += 1;
        let spooled = self.spool.read().0.iter().map(|(key, batch)| Spooled {
            key: *key,
            bytes: batch.messages.iter().map(|message| message.len() as u64 + 4).sum(),
        });
        let mut relay = Relay::restore(core.scenario.spool_bytes, spooled);
        relay.planted.own_receipt = core.is_planted(Plant::AccessPointReceiptRelieves);
        let number = self.processes;
        let (requests, upward) = (BTreeMap::new(), BTreeMap::new());
        self.process = Some(Process { number, relay, requests, upward, tick: None });
        core.note(Node::AccessPoint, format_args!("starts"));
        self.tell(core, Input::Started);
    }

    /// Ends the process; a power cut takes what was not synced.
    pub(crate) fn crash(&mut self, core: &mut Core, crash: Crash) {
        let Some(process) = self.process.take() else { return };
        core.note(Node::AccessPoint, format_args!("ends: {crash:?}"));
        self.remember_branches(core, &process.relay);
        if crash == Crash::PowerCut {
            self.spool.power_cut(&mut core.dice);
        }
        let delay = core.dice.spread(500, core.scenario.faults.outage_most.max(1_000));
        core.queue.after(delay, Event::RelayStarts);
    }

    /// Loses the disk.
    pub(crate) fn wipe(&mut self, core: &mut Core) {
        core.seen.world(Rare::Wiped);
        core.note(Node::AccessPoint, format_args!("loses its disk"));
        self.crash(core, Crash::PowerCut);
        self.spool.wipe();
    }

    /// Notes which rare branches the relay went through.
    pub(crate) fn remember(&self, core: &mut Core) {
        if let Some(process) = &self.process {
            self.remember_branches(core, &process.relay);
        }
    }

    fn remember_branches(&self, core: &mut Core, relay: &Relay) {
        for branch in relay.fired() {
            core.seen.mark("relay", &branch);
        }
    }

    /// A device calls.
    pub(crate) fn called(&mut self, core: &mut Core, call: Call) {
        if self.process.is_none() {
            core.answer(Node::AccessPoint, &call, Answer::Unavailable);
            return;
        }
        self.requests += 1;
        let request = self.requests;
        let input = match &call.ask {
            Ask::Post(batch) => Input::Offered { request, batch: Box::new((**batch).clone()) },
            Ask::Poll { device, tag, .. } => Input::Polled { request, device: *device, tag: *tag },
            Ask::Account { .. } => {
                self.ask_site(core, call.ask.clone(), Upward::Pass(call));
                return;
            }
        };
        if let Some(process) = &mut self.process {
            process.requests.insert(request, call);
        }
        self.tell(core, input);
    }

    /// The site has answered, or the wait is over.
    pub(crate) fn answered(&mut self, core: &mut Core, number: u64, call: u64, answer: Answer) {
        let process = self.process.as_mut().filter(|process| process.number == number);
        let Some(upward) = process.and_then(|process| process.upward.remove(&call)) else { return };
        match upward {
            Upward::Pass(call) => core.answer(Node::AccessPoint, &call, answer),
            Upward::Forward(key) => {
                let answer = upstream(answer);
                self.tell(core, Input::Forwarded { key, answer });
            }
            Upward::Poll(request) => {
                // What comes with a policy besides it is for the device as it is.
                let answer = match answer {
                    Answer::Policy { tag, sealed, time, .. } => {
                        PolicyAnswer::Policy { tag, sealed, time }
                    }
                    Answer::NothingNew { time, .. } => PolicyAnswer::NothingNew { time },
                    _ => PolicyAnswer::Failed,
                };
                self.tell(core, Input::PollAnswered { request, answer });
            }
        }
    }

    /// The deadline has come.
    pub(crate) fn tick(&mut self, core: &mut Core, number: u64, due: Time) {
        let process = self.process.as_mut().filter(|process| process.number == number);
        let Some(process) = process.filter(|process| process.tick == Some(due)) else { return };
        process.tick = None;
        self.tell(core, Input::Tick);
    }

    /// Reads a spooled batch back and posts it to the site.
    pub(crate) fn forward(&mut self, core: &mut Core, number: u64, key: BatchKey) {
        if self.process.as_ref().is_none_or(|process| process.number != number) {
            return;
        }
        match self.spool.read().0.get(&key).cloned() {
            Some(batch) => self.ask_site(core, Ask::Post(batch), Upward::Forward(key)),
            None => self.tell(core, Input::Unreadable { key }),
        }
    }

    fn tell(&mut self, core: &mut Core, input: Input) {
        let Some(process) = &mut self.process else { return };
        let now = Now { wall: core.wall(), elapsed: Elapsed(core.now()) };
        let step = process.relay.handle(now, input);
        if self.carry_out(core, step).is_ok() {
            self.await_deadline(core);
        }
    }

    fn carry_out(&mut self, core: &mut Core, step: Step) -> Result<(), Cut> {
        self.save(core, step.writes)?;
        for effect in step.effects {
            if let Some(crash) = core.crash() {
                self.crash(core, crash);
                return Err(Cut);
            }
            self.perform(core, effect);
        }
        Ok(())
    }

    fn save(&mut self, core: &mut Core, writes: Vec<Write>) -> Result<(), Cut> {
        for write in writes {
            let crash = core.crash_at_write();
            if !matches!(crash, Some((_, Moment::Before))) {
                self.spool.write(write);
            }
            if !matches!(crash, Some((_, Moment::Unsynced))) {
                self.spool.sync();
            }
            if let Some((crash, _)) = crash {
                self.crash(core, crash);
                return Err(Cut);
            }
        }
        Ok(())
    }

    fn perform(&mut self, core: &mut Core, effect: Effect) {
        match effect {
            Effect::Answer { request, answer } => {
                let answer = match answer {
                    relay::Answer::Receipt(sealed) => Answer::Receipt(sealed),
                    relay::Answer::Behind(behind) => Answer::Behind(behind),
                    relay::Answer::Spooled => Answer::Kept("spooled by the access point"),
                    relay::Answer::Full { limit } => Answer::Kept(limit),
                    relay::Answer::Refused { .. } => Answer::Kept("refused by the site"),
                };
                self.answer(core, request, answer);
            }
            Effect::AnswerPoll { request, answer, receipt } => {
                let answer = match answer {
                    PolicyAnswer::Policy { tag, sealed, time } => {
                        Answer::Policy { tag, sealed, time, receipt, next_incarnation: None }
                    }
                    PolicyAnswer::NothingNew { time } => Answer::NothingNew { time, receipt },
                    PolicyAnswer::Failed => Answer::Unavailable,
                };
                self.answer(core, request, answer);
            }
            Effect::Forward(key) => {
                let Some(process) = &self.process else { return };
                let event = Event::RelayForwards { process: process.number, key };
                core.queue.after(1, event);
            }
            Effect::Poll { request, .. } => {
                let call = self.process.as_ref().and_then(|one| one.requests.get(&request));
                let Some(ask) = call.map(|call| call.ask.clone()) else { return };
                self.ask_site(core, ask, Upward::Poll(request));
            }
        }
    }

    fn answer(&mut self, core: &mut Core, request: Request, answer: Answer) {
        let call = self.process.as_mut().and_then(|process| process.requests.remove(&request));
        if let Some(call) = call {
            core.answer(Node::AccessPoint, &call, answer);
        }
    }

    fn ask_site(&mut self, core: &mut Core, ask: Ask, upward: Upward) {
        let Some(process) = &mut self.process else { return };
        let wait = match &ask {
            Ask::Poll { wait, .. } => *wait,
            _ => 0,
        };
        let (id, number) = (core.next_call(), process.number);
        process.upward.insert(id, upward);
        let from = Node::AccessPoint;
        core.call(from, Node::Site, Call { id, from, process: number, ask });
        let overdue = Event::CallOverdue { to: from, process: number, call: id };
        core.queue.after(wait.saturating_add(SITE_MOST), overdue);
    }

    fn await_deadline(&mut self, core: &mut Core) {
        let Some(process) = &mut self.process else { return };
        let Some(Elapsed(due)) = process.relay.next_deadline() else { return };
        let due = due.max(core.now() + 1);
        if process.tick.is_some_and(|queued| queued <= due && queued > core.now()) {
            return;
        }
        process.tick = Some(due);
        let event = Event::RelayTick { process: process.number, due };
        core.queue.after(due - core.now(), event);
    }
}

fn upstream(answer: Answer) -> Upstream {
    match answer {
        Answer::Receipt(sealed) => {
            let receipt: Result<muster_model::wire::device::Receipt, _> = sealed.peek();
            match receipt {
                Ok(receipt) => Upstream::Receipt { through: receipt.through, sealed },
                Err(_) => Upstream::Failed,
            }
        }
        Answer::Behind(behind) => Upstream::Behind(behind),
        Answer::Kept(why) => Upstream::Refused { why: why.to_owned() },
        _ => Upstream::Failed,
    }
}
