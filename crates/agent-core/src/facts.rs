//! The device's facts: what is not for one platform may be for another.

use muster_model::facts::Facts;
use muster_model::message::Body;
use muster_model::state::{NotApplicable, State};

use crate::agent::Agent;
use crate::draft::Draft;
use crate::part::meets;
use crate::report::Told;
use crate::saved::{Key, ObligationRecord, Stage};

impl Agent {
    /// The facts changed: what is not for this platform is looked at again if the platform changed,
    /// what lacks a requirement once that holds.
    pub(crate) fn facts_changed(&mut self, draft: &mut Draft, facts: Facts) {
        if facts == self.memory.facts {
            return;
        }
        let told = self.say(draft, Body::FactsChanged { facts: facts.clone() });
        self.memory.gave_way.facts = !told;
        self.take_facts(draft, facts);
    }

    pub(crate) fn take_facts(&mut self, draft: &mut Draft, facts: Facts) {
        let platform = |facts: &Facts| (facts.os.clone(), facts.arch.clone());
        let moved = platform(&facts) != platform(&self.memory.facts);
        let upgraded = facts.agent_version != self.memory.facts.agent_version;
        self.memory.facts = facts;
        draft.memory = true;
        let facts = &self.memory.facts;
        let again = |record: &&ObligationRecord| match &record.reported {
            _ if record.stage == Stage::Over => false,
            State::NotApplicable { why: NotApplicable::Requirement } => {
                record.unmet.as_ref().is_none_or(|unmet| meets(unmet, facts))
            }
            State::NotApplicable { why: NotApplicable::NewerPresent } => moved || upgraded,
            State::NotApplicable { .. } => moved,
            _ => false,
        };
        let rest: Vec<Key> =
            self.obligations.values().filter(again).map(|record| record.key.clone()).collect();
        for key in rest {
            self.report(draft, &key, State::Accepted, Told::default());
        }
    }
}
