//! What a device asks of its site, directly or through the access point, and what it hears.

use std::sync::Arc;
use std::time::Duration;

use muster_agent_core::input::Input;
use muster_agent_core::step::Unsigned;
use muster_model::digest::Digest;
use muster_model::policy::Policy;
use muster_model::wire::device::{Account, Receipt, SiteTime};
use muster_model::wire::seal::Sealed;

use super::Device;
use crate::core::{Core, Node};
use crate::event::{Answer, Ask, Call, Event};
use crate::plant::Plant;

/// How long a device waits for an answer beyond the time for which a poll may be held.
const ANSWER_MOST: u64 = 30_000;

/// How long a shell that hangs waits: longer than the agent does.
const HANGS: u64 = 600_000;

/// What a call that is not answered yet was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    Poll,
    Send,
    Account,
}

impl Device {
    pub(super) fn poll(&mut self, core: &mut Core, tag: Option<Digest>, wait: Duration) {
        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let (device, incarnation) = (self.id, self.incarnation);
        self.call(core, Pending::Poll, Ask::Poll { device, incarnation, tag, wait }, wait);
    }

    pub(super) fn send(&mut self, core: &mut Core, unsigned: Unsigned) {
        self.check_sent(core, &unsigned);
        let batch = unsigned.sign(&self.key, self.id, self.incarnation);
        self.call(core, Pending::Send, Ask::Post(Arc::new(batch)), 0);
    }

    pub(super) fn fetch_account(&mut self, core: &mut Core) {
        let (device, incarnation) = (self.id, self.incarnation);
        self.call(core, Pending::Account, Ask::Account { device, incarnation }, 0);
    }

    fn call(&mut self, core: &mut Core, pending: Pending, ask: Ask, wait: u64) {
        let node = self.node();
        let Some(process) = &mut self.process else { return };
        let id = core.next_call();
        process.pending.insert(id, pending);
        let direct = core.scenario.direct_per_mille;
        // The account is asked of the site: an access point only passes it on.
        let to = match pending == Pending::Account || core.dice.per_mille(direct) {
            true => Node::Site,
            false => Node::AccessPoint,
        };
        let number = process.number;
        if !self.is_deaf(core) {
            core.call(node, to, Call { id, from: node, process: number, ask });
        }
        // A shell that hangs forgets its own limit: the agent has one, too.
        let hangs = core.chaos && core.dice.per_mille(3);
        let most = if hangs { HANGS } else { ANSWER_MOST };
        let overdue = Event::CallOverdue { to: node, process: number, call: id };
        core.queue.after(wait.saturating_add(most), overdue);
    }

    /// Nothing may be sent that a power cut could still take back.
    fn check_sent(&self, core: &mut Core, unsigned: &Unsigned) {
        let durable = &self.journal.durable().messages;
        for (sequence, bytes) in (unsigned.first.0..).zip(&unsigned.messages) {
            let sequence = muster_model::id::Sequence(sequence);
            if durable.get(&sequence).is_none_or(|kept| kept.bytes != *bytes) {
                let found = format!("{}: message {sequence} is sent but not durable", self.name);
                core.violated("durable before effect", found);
                return;
            }
        }
    }

    /// An answer has come for the process `number`.
    pub(crate) fn answered(&mut self, core: &mut Core, number: u64, call: u64, answer: Answer) {
        let Some(pending) = self.take_pending(number, call) else { return };
        for input in self.inputs(core, pending, answer) {
            self.tell(core, number, input);
        }
    }

    /// An answer has not come in time.
    pub(crate) fn overdue(&mut self, core: &mut Core, number: u64, call: u64) {
        self.answered(core, number, call, Answer::Unavailable);
    }

    fn take_pending(&mut self, number: u64, call: u64) -> Option<Pending> {
        let process = self.process.as_mut().filter(|process| process.number == number)?;
        process.pending.remove(&call)
    }

    fn inputs(&mut self, core: &Core, pending: Pending, answer: Answer) -> Vec<Input> {
        let failed = |why: &str| match pending {
            Pending::Send => Input::SendFailed { why: why.to_owned() },
            Pending::Poll | Pending::Account => Input::PollFailed { why: why.to_owned() },
        };
        match (pending, answer) {
            (Pending::Poll, Answer::Policy { sealed, time, receipt, next_incarnation, .. }) => {
                if next_incarnation.is_some() {
                    self.next_incarnation = next_incarnation;
                }
                let policy: Option<Policy> = self.site_key.open(&sealed);
                let site_time = time.and_then(|time| self.site_key.open::<SiteTime>(&time));
                let site_time = site_time.map(|site| site.time);
                self.heard = site_time.map(|_| core.now()).or(self.heard);
                let news = match policy {
                    Some(policy) => Input::PolicyArrived { policy, site_time },
                    None => Input::PolicyRefused { why: "not sealed by the site".to_owned() },
                };
                self.receipt(core, receipt).into_iter().chain([news]).collect()
            }
            (Pending::Poll, Answer::NothingNew { time, receipt }) => {
                let site_time = self.site_key.open::<SiteTime>(&time).map(|site| site.time);
                self.heard = site_time.map(|_| core.now()).or(self.heard);
                let news = Input::NothingNew { site_time };
                self.receipt(core, receipt).into_iter().chain([news]).collect()
            }
            (Pending::Send, Answer::Receipt(sealed)) => match self.receipt(core, Some(sealed)) {
                Some(input) => vec![input],
                None => vec![failed("a receipt that the site did not seal")],
            },
            (Pending::Send, Answer::Behind(behind)) => {
                vec![Input::SiteBehind { epoch: behind.epoch, through: behind.through }]
            }
            (Pending::Account, Answer::Account(sealed)) => {
                match self.site_key.open::<Account>(&sealed) {
                    Some(account) => vec![Input::AccountArrived(account)],
                    None => vec![failed("an account that the site did not seal")],
                }
            }
            (_, Answer::Kept(why)) => vec![failed(why)],
            _ => vec![failed("no usable answer")],
        }
    }

    /// A receipt counts only under the site's seal: the access point's word relieves nobody.
    fn receipt(&self, core: &Core, sealed: Option<Sealed>) -> Option<Input> {
        let sealed = sealed?;
        let receipt: Option<Receipt> = match core.is_planted(Plant::AccessPointReceiptRelieves) {
            true => sealed.peek().ok(),
            false => self.site_key.open(&sealed),
        };
        receipt.map(Input::ReceiptArrived)
    }
}
