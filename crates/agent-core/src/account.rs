//! The site's account: the memory that a device is given back when it lost its own.
//!
//! Nothing is made of the policy before it is here and written (DESIGN section 7): what it says has
//! ended stays ended, what it says was running or was undone is looked into, and only the rest may start.

use muster_model::clock::Wall;
use muster_model::id::Sequence;
use muster_model::state::{State, Waiting};
use muster_model::wire::device::{Account, AccountEntry};

use crate::agent::Agent;
use crate::draft::Draft;
use crate::newer::Making;
use crate::saved::{Key, ObligationRecord, Stage, Times, UserWord};
use crate::sometimes::Branch;

impl Agent {
    /// Takes the account, if it is awaited and for this life of the memory.
    pub(crate) fn account_arrived(&mut self, draft: &mut Draft, account: Account) {
        let ours = account.device == self.identity.device
            && account.incarnation == self.identity.incarnation;
        if !self.memory.awaits_account {
            return self.ignore("an account that is not awaited");
        }
        if !ours {
            // It is an answer all the same: the question is asked again.
            return self.poll_failed(draft, "the account is for another memory".to_owned());
        }
        self.fired.note(Branch::AccountTaken);
        let trusted = self.trusted(draft.now);
        for entry in account.obligations {
            self.take_entry(draft, entry, trusted);
        }
        self.take_found(draft);
        self.memory.awaits_account = false;
        self.memory.epoch.get_or_insert(account.epoch);
        draft.memory = true;
        self.account_answered(draft);
        self.match_offers(draft);
    }

    /// What was salvaged from the device's own journal is newer than what the site had heard.
    fn take_entry(&mut self, draft: &mut Draft, entry: AccountEntry, trusted: Wall) {
        let key = Key { advertisement: entry.advertisement, occurrence: entry.occurrence.clone() };
        if self.obligations.contains_key(&key) {
            return;
        }
        let record = ObligationRecord::told(
            key.clone(),
            entry.revision,
            entry.attempt,
            entry.state,
            trusted,
        );
        self.obligations.insert(key.clone(), record);
        draft.obligations.insert(key);
    }
}

impl ObligationRecord {
    /// An obligation from before the device lost its memory, as it was told. No message: who told it
    /// has it. What was between two attempts waits for the next one.
    pub(crate) fn told(
        key: Key,
        revision: u32,
        attempts: u32,
        reported: State,
        since: Wall,
    ) -> Self {
        let stage = match &reported {
            State::RolledBack { .. } => Stage::Undone,
            state if state.word().is_terminal() => Stage::Over,
            State::Waiting { why: Waiting::Retry, until } => {
                Stage::Holding { why: Waiting::Retry, until: until.unwrap_or(since) }
            }
            state if state.word().is_unstarted() => Stage::Idle,
            _ => Stage::Recalled,
        };
        Self {
            name: key.advertisement.to_string(),
            key,
            revision,
            package: None,
            program: String::new(),
            attempts,
            uncounted: 0,
            executed: None,
            launches: 0,
            restarts: 0,
            user: UserWord::default(),
            reported,
            since,
            reported_in: Sequence(0),
            untold: false,
            stage,
            disputed: None,
            times: Times::default(),
            dependencies: Vec::new(),
            done: Vec::new(),
            forgotten: attempts > 0,
            unmet: None,
            turns: Vec::new(),
            making: Making::default(),
            replaced_by: None,
        }
    }
}

#[cfg(test)]
mod tests;
