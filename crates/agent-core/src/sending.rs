//! Sending the outbox: batches, receipts, and what a site that lost something gets again.
//!
//! Only a receipt for this device, this incarnation, this epoch and this chain relieves. Whatever else a
//! relay says makes the device send again, never forget.

use muster_model::clock::Wall;
use muster_model::id::{EpochId, Sequence};
use muster_model::message::Body;
use muster_model::settings::Setting;
use muster_model::wire::device::Receipt;

use crate::agent::Agent;
use crate::draft::Draft;
use crate::sometimes::Branch;
use crate::step::{Effect, Write};

impl Agent {
    /// Unacknowledged messages, and when the oldest of them was written.
    pub(crate) fn outbox_waiting(&self) -> (u64, Option<Wall>) {
        let oldest = self.outbox.oldest_after(self.memory.relieved);
        let length = self.memory.head.0.saturating_sub(self.memory.relieved.0);
        (length, oldest.map(|message| message.written))
    }

    /// Sends what is unsent and due, at most one batch at a time.
    pub(crate) fn pump_outbox(&mut self, draft: &mut Draft) {
        let now = draft.now.elapsed;
        if self.outbox.is_overdue(now) {
            self.fired.note(Branch::AnswerOverdue);
            self.send_failed(draft, "no answer in time".to_owned());
        }
        #[cfg(feature = "planted")]
        self.plant_outcome_time_limit(draft);
        if let Some(batch) = self.outbox.next_batch(&self.memory, now) {
            draft.effect(Effect::Send(batch));
        }
    }

    /// Takes the site's receipt, if it is for this stream.
    pub(crate) fn receipt_arrived(&mut self, draft: &mut Draft, receipt: &Receipt) {
        if let Some(refused) = self.receipt_refused(receipt) {
            self.fired.note(Branch::ReceiptRefused);
            if self.is_ahead(receipt) {
                self.speak_up(draft);
            }
            if self.is_other_epoch(receipt.epoch) {
                // The policy tells which epoch is the newer one.
                self.contact.hasten_poll();
            }
            let shown = self.outbox.sending().filter(|_| self.is_of_this_stream(receipt));
            self.send_failed(draft, refused.to_owned());
            if let Some(through) = shown {
                self.outbox.go_on_after(through);
            }
            return;
        }
        if self.memory.epoch.is_none() {
            self.memory.epoch = Some(receipt.epoch);
            draft.memory = true;
        }
        if receipt.through > self.memory.relieved {
            self.memory.relieved = receipt.through;
            draft.memory = true;
        } else if self.outbox.sending().is_some_and(|through| through > receipt.through) {
            // If an old receipt is the answer to a batch, the batch did not get further.
            return self.send_failed(draft, "the site's receipt covers nothing new".to_owned());
        }
        self.outbox.answered(self.memory.relieved, draft.now.elapsed);
        self.forget(draft);
    }

    /// Whether the site has messages of this very stream that this memory does not know of: the machine
    /// was put back to a snapshot.
    fn is_ahead(&self, receipt: &Receipt) -> bool {
        self.is_of_this_stream(receipt) && receipt.through > self.memory.head
    }

    fn is_of_this_stream(&self, receipt: &Receipt) -> bool {
        receipt.device == self.identity.device
            && receipt.incarnation == self.identity.incarnation
            && !self.is_other_epoch(receipt.epoch)
    }

    /// Says anything: a message at a place that the site knows shows it that there are two histories.
    fn speak_up(&mut self, draft: &mut Draft) {
        self.fired.note(Branch::SiteAhead);
        let facts = self.memory.facts.clone();
        self.say(draft, Body::AgentStarted { facts });
    }

    fn is_other_epoch(&self, epoch: EpochId) -> bool {
        self.memory.epoch.is_some_and(|ours| ours != epoch)
    }

    fn receipt_refused(&self, receipt: &Receipt) -> Option<&'static str> {
        #[cfg(feature = "planted")]
        if self.planted.receipt_of_anyone_relieves {
            return None;
        }
        if receipt.device != self.identity.device {
            return Some("the receipt is for another device");
        }
        if receipt.incarnation != self.identity.incarnation {
            return Some("the receipt is for another incarnation");
        }
        if self.is_other_epoch(receipt.epoch) {
            return Some("the receipt is of another epoch of the site");
        }
        if receipt.through > self.memory.head {
            return Some("the receipt covers more than was ever written");
        }
        // What is older than all that is kept is relieved already.
        let ours = self.outbox.chain_at(receipt.through);
        ours.is_some_and(|chain| chain != receipt.head)
            .then_some("the receipt covers another chain than this device's")
    }

    /// The site has less than was sent. What it lacks is not relieved any more, and is sent again.
    pub(crate) fn site_behind(&mut self, draft: &mut Draft, epoch: EpochId, through: Sequence) {
        if self.outbox.sending().is_none() {
            return self.ignore("an answer to a batch that nobody waits for");
        }
        if through > self.memory.head {
            self.fired.note(Branch::SiteAhead);
            let why = "the site has more of this stream than was ever written here";
            return self.send_failed(draft, why.to_owned());
        }
        if self.is_other_epoch(epoch) {
            self.contact.hasten_poll();
        }
        if through < self.memory.relieved {
            self.fired.note(Branch::Rewound);
            self.memory.relieved = through;
            draft.memory = true;
        }
        self.outbox.rewind(through, draft.now.elapsed);
    }

    /// The batch under way had no usable answer.
    pub(crate) fn send_failed(&mut self, draft: &Draft, why: String) {
        let most = self.setting(Setting::BackoffMost);
        let (relieved, now) = (self.memory.relieved, draft.now.elapsed);
        self.outbox.trouble = Some(why);
        if !self.outbox.failed(relieved, now, most, &mut self.jitter) {
            self.ignore("an answer to a batch that nobody waits for");
        }
        #[cfg(feature = "planted")]
        if self.planted.send_cycle_of_a_day {
            self.outbox.put_off(now.plus(crate::planted::SEND_CYCLE));
        }
    }

    /// The site has another epoch: no receipt counts any more. If the restored site lacks what comes
    /// before the newest message, it says from where.
    pub(crate) fn outbox_enters_epoch(&mut self, draft: &mut Draft) {
        self.memory.relieved = self.outbox.before().through;
        draft.memory = true;
        self.outbox.probe();
    }

    /// Forgets what was acknowledged long ago.
    pub(crate) fn forget(&mut self, draft: &mut Draft) {
        let keep = self.setting(Setting::KeepRelieved);
        let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        let horizon = Wall(self.trusted(draft.now).0.saturating_sub(keep));
        let Some(through) = self.outbox.forget(self.memory.relieved, horizon) else { return };
        self.fired.note(Branch::Forgotten);
        self.memory.forgotten = Some(self.outbox.before());
        draft.memory = true;
        draft.write(Write::MessagesForgotten(through));
    }
}

#[cfg(feature = "planted")]
impl Agent {
    /// Calls what has waited too long relieved, and so never sends it.
    fn plant_outcome_time_limit(&mut self, draft: &mut Draft) {
        let trusted = self.trusted(draft.now);
        let oldest = self.outbox.oldest_after(self.memory.relieved);
        let too_old = oldest
            .filter(|message| trusted.since(message.written) > crate::planted::OUTCOME_TIME_LIMIT);
        if let Some(sequence) = too_old.map(|message| message.sequence)
            && self.planted.outcome_time_limit
        {
            self.memory.relieved = sequence;
            self.outbox.skip_to(sequence);
            draft.memory = true;
        }
    }
}

#[cfg(test)]
mod tests;
