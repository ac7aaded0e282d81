//! A device's journal as its disk keeps it: one row per key, replaced by whole transactions.

use std::collections::BTreeMap;

use muster_agent_core::saved::{
    ContentRecord, Kept, Key, Memory, ObligationRecord, RunRecord, Saved,
};
use muster_agent_core::step::Write;
use muster_model::digest::Digest;
use muster_model::id::Sequence;
use muster_model::message::RunId;
use muster_model::policy::Policy;

use crate::disk::Medium;

/// The rows of a journal.
#[derive(Clone, Default)]
pub(crate) struct Journal {
    /// The device's memory of itself.
    pub memory: Option<Memory>,
    /// The policy acted on.
    pub policy: Option<Policy>,
    /// Obligations.
    pub obligations: BTreeMap<Key, ObligationRecord>,
    /// Runs that are followed.
    pub runs: BTreeMap<RunId, RunRecord>,
    /// Content.
    pub contents: BTreeMap<Digest, ContentRecord>,
    /// Messages.
    pub messages: BTreeMap<Sequence, Kept>,
}

impl Journal {
    /// What a restored agent is given.
    pub(crate) fn saved(&self) -> Saved {
        Saved {
            memory: self.memory.clone(),
            policy: self.policy.clone(),
            obligations: self.obligations.values().cloned().collect(),
            runs: self.runs.values().cloned().collect(),
            contents: self.contents.values().cloned().collect(),
            messages: self.messages.values().cloned().collect(),
        }
    }

    fn apply_one(&mut self, write: &Write) {
        match write {
            Write::Memory(memory) => self.memory = Some((**memory).clone()),
            Write::Policy(policy) => self.policy = Some((**policy).clone()),
            Write::Obligation(record) => {
                self.obligations.insert(record.key.clone(), (**record).clone());
            }
            Write::ObligationForgotten(key) => {
                self.obligations.remove(key);
            }
            Write::Run(record) => {
                self.runs.insert(record.run, (**record).clone());
            }
            Write::RunForgotten(run) => {
                self.runs.remove(run);
            }
            Write::Content(record) => {
                self.contents.insert(record.package.manifest, (**record).clone());
            }
            Write::ContentForgotten(manifest) => {
                self.contents.remove(manifest);
            }
            Write::Message(kept) => {
                self.messages.insert(kept.sequence, kept.clone());
            }
            Write::MessagesForgotten(through) => {
                self.messages = self.messages.split_off(&through.next());
            }
        }
    }
}

impl Medium for Journal {
    /// A whole transaction: all of it or nothing.
    type Write = Vec<Write>;

    fn apply(&mut self, writes: &Vec<Write>) {
        writes.iter().for_each(|write| self.apply_one(write));
    }
}
