//! The laws that every step of every machine obeys.

use muster_model::id::Sequence;
use muster_model::message::{Body, Message};
use muster_model::state::{Author, Verdict, judge};

use super::{Journal, World, read};
use crate::agent::Agent;
use crate::saved::ObligationRecord;
use crate::step::{Effect, Step, Write};

impl World {
    /// What holds after every step of every machine.
    #[track_caller]
    pub(super) fn hold_to_the_laws(&self, before: &Journal, step: &Step, told: bool) {
        let messages: Vec<Message> = step
            .writes
            .iter()
            .filter_map(|write| match write {
                Write::Message(kept) => Some(read(kept)),
                _ => None,
            })
            .collect();
        for write in &step.writes {
            let Write::Obligation(row) = write else { continue };
            let decided = match before.record(&row.key) {
                // What the account told may be the site's own decision.
                Some(old) if old.reported_in == Sequence(0) => Author::Site,
                _ => Author::Device,
            };
            let old = before.state(&row.key);
            if old != Some(&row.reported) && !(told && old.is_none()) {
                let said = messages.iter().any(|message| reports(message, row));
                // What gives way to outcomes is counted, and is never an outcome itself.
                let gave_way = row.untold && !row.reported.word().is_terminal();
                assert!(said || gave_way && counts(before, &self.journal), "silent: {row:?}");
            }
            if let Some(old) = old.filter(|old| **old != row.reported) {
                let verdict = judge(old, decided, &row.reported, Author::Device);
                assert_eq!(verdict, Verdict::Applied, "{old} -> {}", row.reported);
            }
        }
        self.hold_to_the_order_of_effects(step);
        self.journal.saved.check().expect("the journal fits together");
        let restored = Agent::restore(&self.identity, self.journal.saved.clone());
        let rested = |agent: &Agent| {
            let records = agent.obligations.values().cloned();
            records.map(|record| record.rested()).collect::<Vec<_>>()
        };
        assert_eq!(rested(&restored), rested(&self.agent), "obligations after a restart");
        assert_eq!(restored.runs, self.agent.runs, "runs after a restart");
        assert_eq!(restored.policy, self.agent.policy, "policy after a restart");
        let ends = |agent: &Agent| {
            (agent.memory.head, agent.memory.chain, agent.memory.relieved, agent.memory.epoch)
        };
        assert_eq!(ends(&restored), ends(&self.agent), "stream after a restart");
    }

    /// Intent before exec, outcome before clean-up, and no launch number twice.
    #[track_caller]
    fn hold_to_the_order_of_effects(&self, step: &Step) {
        let saved = |run| self.journal.saved.runs.iter().find(|record| record.run == run);
        for effect in &step.effects {
            match effect {
                Effect::Arm(launch) => {
                    let intent = saved(launch.run).expect("armed without a saved intent");
                    assert_eq!(intent.launch, launch.launch);
                    let same = |other: &&Effect| {
                        matches!(other, Effect::Arm(earlier)
                            if (earlier.run, earlier.launch) == (launch.run, launch.launch))
                    };
                    assert_eq!(self.done.iter().find(same), None, "launched twice");
                }
                Effect::Clean(run) => {
                    let told = saved(*run).and_then(|record| record.told_in);
                    assert!(told.is_some(), "cleaned before it was told");
                }
                Effect::Discard(run) => {
                    assert_eq!(saved(*run), None, "discarded and not forgotten")
                }
                Effect::Fetch(package) => {
                    let held = |row: &&crate::saved::ContentRecord| row.package == *package;
                    assert!(self.journal.saved.contents.iter().any(|row| held(&row)), "not saved");
                }
                _ => {}
            }
        }
    }
}

/// Whether more has given way by now.
fn counts(before: &Journal, after: &Journal) -> bool {
    let dropped = |journal: &Journal| {
        journal.saved.memory.as_ref().map_or(0, |memory| memory.gave_way.dropped)
    };
    dropped(after) > dropped(before)
}

fn reports(message: &Message, row: &ObligationRecord) -> bool {
    matches!(&message.body, Body::Obligation(report)
        if report.advertisement == row.key.advertisement
            && report.occurrence == row.key.occurrence
            && report.state == row.reported)
}
