//! Starting: the first input after a restore, and the tick.
//!
//! Nothing of what was under way is believed: each run that is followed is looked at, content and
//! detection are asked for again, and the outbox sends at once.

use jiff::tz::TimeZone;
use muster_model::facts::Facts;
use muster_model::id::{BootId, Sequence};
use muster_model::message::{Body, Message, Report};
use muster_model::state::Word;

use crate::agent::Agent;
use crate::backoff::Jitter;
use crate::draft::Draft;
use crate::input::FoundRun;
use crate::saved::{Key, ObligationRecord};
use crate::sometimes::Branch;

impl Agent {
    /// Takes up work in `boot`.
    pub(crate) fn start(
        &mut self,
        draft: &mut Draft,
        boot: BootId,
        facts: Facts,
        zone: TimeZone,
        seed: u64,
        found: Vec<FoundRun>,
    ) {
        self.started = true;
        self.zone = zone;
        self.calendar_changed();
        self.jitter = Jitter::new(seed);
        #[cfg(feature = "planted")]
        self.plant_sequence_reuse();
        #[cfg(feature = "planted")]
        self.plant_forgotten_turns();
        let lives_on = self.memory.boot == boot;
        if !lives_on {
            self.fired.note(Branch::Rebooted);
            self.memory.time.rebooted(self.memory.last_known, draft.now);
            self.memory.boot = boot;
            draft.memory = true;
        }
        if self.memory.head == Sequence(0) {
            self.open_incarnation(draft);
        }
        if !(lives_on && self.has_just_said(&facts)) {
            let told = self.say(draft, Body::AgentStarted { facts: facts.clone() });
            self.memory.gave_way.facts = !told;
        }
        if !lives_on {
            self.first_word_said(draft.now.elapsed);
        }
        if facts != self.memory.facts {
            self.take_facts(draft, facts);
        }
        if self.memory.awaits_account {
            self.found = found;
        }
        if self.policy.is_some() {
            self.inspect_runs(draft);
            self.go_on_if_put_back(draft);
        }
    }

    /// Time has passed. What follows from that is seen by the moves that come after every input.
    pub(crate) fn tick(&mut self, draft: &mut Draft) {
        self.forget(draft);
        #[cfg(feature = "planted")]
        self.take_held_back(draft);
    }

    /// Says why this incarnation began, and what could be saved of the one before.
    fn open_incarnation(&mut self, draft: &mut Draft) {
        let Some(found) = self.identity.fresh_incarnation_because.clone() else { return };
        self.fired.note(Branch::MemoryLost);
        let salvaged: Vec<Report> = self
            .identity
            .salvaged
            .iter()
            .filter(|report| {
                let word = report.state.word();
                word.is_terminal() || matches!(word, Word::Running | Word::RestartPending)
            })
            .cloned()
            .collect();
        self.write_message(draft, Body::MemoryLost { found, salvaged: salvaged.len() as u64 });
        for report in salvaged {
            self.remember(draft, &report, self.memory.head.next());
            self.write_message(draft, Body::Obligation(report));
        }
    }

    fn remember(&mut self, draft: &mut Draft, report: &Report, said_in: Sequence) {
        let key =
            Key { advertisement: report.advertisement, occurrence: report.occurrence.clone() };
        let mut record = ObligationRecord::told(
            key.clone(),
            report.revision,
            report.attempt,
            report.state.clone(),
            self.trusted(draft.now),
        );
        record.disputed = report.disputed.clone();
        record.reported_in = said_in;
        self.obligations.insert(key.clone(), record);
        draft.obligations.insert(key);
    }

    /// Whether the newest message says this already: an agent that is restarted again and again by its
    /// service manager must not fill its outbox with it.
    fn has_just_said(&self, facts: &Facts) -> bool {
        let newest = self.outbox.get(self.memory.head);
        let message = newest.and_then(|kept| serde_json::from_slice::<Message>(&kept.bytes).ok());
        message.is_some_and(
            |message| matches!(&message.body, Body::AgentStarted { facts: said } if said == facts),
        )
    }
}

#[cfg(feature = "planted")]
impl Agent {
    fn plant_forgotten_turns(&mut self) {
        let forgets = self.planted.turns_forgotten;
        self.obligations.values_mut().filter(|_| forgets).for_each(|record| record.turns.clear());
    }

    fn plant_sequence_reuse(&mut self) {
        if self.planted.sequence_reused_after_restart
            && let Some((head, chain)) = self.outbox.unwrite_newest()
        {
            self.memory.head = head;
            self.memory.chain = chain;
            self.memory.relieved = self.memory.relieved.min(head);
        }
    }
}

#[cfg(test)]
mod tests;
