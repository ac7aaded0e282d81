//! Saying things: the one place that writes messages, and the one place that changes what is reported.
//!
//! A change of an obligation's reported state and its message are marked in the same draft, so they are
//! one write (law 3). Texts from outside are clipped here, so that no message can outgrow its limit.

use std::collections::BTreeMap;

use muster_model::advertisement::PackageRef;
use muster_model::digest::Digest;
use muster_model::facts::{Fact, Facts};
use muster_model::message::{
    Body, Message, OUTPUT_BYTES_MAX, OUTPUT_HEAD_BYTES_MAX, OUTPUT_TAIL_BYTES_MAX, Report, RunId,
};
use muster_model::program::Dependency;
use muster_model::state::{NotApplicable, State};
use muster_model::verification::{CHECK_TEXT_BYTES_MAX, Check, Repair, RepairState, Verification};
use muster_model::wire::batch::chain;

use crate::agent::Agent;
use crate::draft::Draft;
use crate::input::Exit;
use crate::outcome::exit_code;
use crate::saved::{Kept, Key};
use crate::sometimes::Branch;
use crate::step::Write;

/// A text for people inside a message, in bytes. JSON writes a control character as six bytes; with three
/// such texts and an output a report stays below 60 KiB of its 64.
const TEXT_BYTES_MAX: usize = 1024;
/// Facts inside a message, in bytes of their JSON; extra facts beyond it are left out.
const FACTS_BYTES_MAX: usize = 16 * 1024;

/// What a report carries beside the state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// The run.
    pub(crate) run: Option<RunId>,
    /// How the newest attempt ended, when the obligation goes on.
    pub(crate) attempt_ended: Option<State>,
    /// The newest attempt's exit code.
    pub(crate) exit_code: Option<i32>,
    /// The beginning and the end of its output.
    pub(crate) output: String,
    /// The users who had logged off before their turn.
    pub(crate) passed_over: String,
}

impl Told {
    /// Of a run and how it ended.
    pub(crate) fn of(run: RunId, exit: Option<&Exit>) -> Self {
        Self {
            run: Some(run),
            attempt_ended: None,
            exit_code: exit.and_then(exit_code),
            output: exit.map(|exit| exit.output.clone()).unwrap_or_default(),
            passed_over: String::new(),
        }
    }
}

impl Agent {
    /// Writes the next message of the stream, or counts it if it has to give way: what is no outcome
    /// does once the outbox is half full. Answers whether it was written.
    pub(crate) fn say(&mut self, draft: &mut Draft, body: Body) -> bool {
        let gives_way = Self::gives_way(&body);
        #[cfg(feature = "planted")]
        let gives_way =
            gives_way || self.planted.outcomes_give_way && matches!(body, Body::Obligation(_));
        if gives_way && !self.has_room_to_spare() {
            self.fired.note(Branch::GaveWay);
            #[cfg(feature = "planted")]
            if self.planted.tombstones_uncounted {
                return false;
            }
            self.memory.gave_way.dropped += 1;
            draft.memory = true;
            return false;
        }
        self.tell_count(draft);
        self.write_message(draft, body);
        true
    }

    /// What may give way to outcomes.
    fn gives_way(body: &Body) -> bool {
        match body {
            Body::AgentStarted { .. }
            | Body::FactsChanged { .. }
            | Body::PolicyRefused { .. }
            | Body::Verified(_) => true,
            Body::Obligation(report) => {
                !report.state.word().is_terminal() && report.attempt_ended.is_none()
            }
            // Few by their nature, and nobody would say them again.
            Body::MemoryLost { .. }
            | Body::Dropped { .. }
            | Body::Repair(_)
            | Body::Components { .. } => false,
        }
    }

    /// A tombstone for what gave way since the one before: the count, in the place of the messages.
    fn tell_count(&mut self, draft: &mut Draft) {
        let gave_way = &mut self.memory.gave_way;
        let count = gave_way.dropped - gave_way.told;
        if count > 0 {
            gave_way.told = gave_way.dropped;
            self.write_message(draft, Body::Dropped { count });
        }
    }

    /// The outbox has room again: tells how many messages gave way, and then what they would have said by
    /// now. A few at a time, because each takes room.
    pub(crate) fn tell_what_gave_way(&mut self, draft: &mut Draft) {
        if self.memory.gave_way.dropped == 0 || !self.has_room_to_spare() {
            return;
        }
        self.tell_count(draft);
        if self.memory.gave_way.facts && self.has_room_to_spare() {
            let facts = self.memory.facts.clone();
            self.memory.gave_way.facts = !self.say(draft, Body::FactsChanged { facts });
        }
        let untold = self.obligations.values().filter(|record| record.untold);
        for key in untold.map(|record| record.key.clone()).collect::<Vec<_>>() {
            if !self.has_room_to_spare() {
                return;
            }
            self.fired.note(Branch::ToldLater);
            self.tell_again(draft, &key);
        }
    }

    fn has_room_to_spare(&self) -> bool {
        self.outbox.has_room_to_spare(self.memory.relieved)
    }

    /// Writes the next message of the stream, whatever room there is.
    pub(crate) fn write_message(&mut self, draft: &mut Draft, body: Body) {
        let sequence = self.memory.head.next();
        let trusted = self.trusted(draft.now);
        let message = Message {
            device: self.identity.device,
            incarnation: self.identity.incarnation,
            sequence,
            wall: draft.now.wall,
            elapsed: draft.now.elapsed,
            boot: self.memory.boot.clone(),
            trusted,
            body: clipped(body),
        };
        // Cannot fail: no map of a message has a key that is not text.
        let bytes = serde_json::to_vec(&message).unwrap_or_default();
        let chain: Digest = chain(self.memory.chain, &bytes);
        let kept = Kept { sequence, bytes, chain, written: trusted };
        self.memory.head = sequence;
        self.memory.chain = chain;
        draft.memory = true;
        draft.write(Write::Message(kept.clone()));
        self.outbox.push(kept);
    }

    /// Moves the reported state of an obligation, and says so. Nothing happens if it stands there
    /// already and no attempt has ended.
    pub(crate) fn report(&mut self, draft: &mut Draft, key: &Key, state: State, told: Told) {
        let trusted = self.trusted(draft.now);
        let Some(record) = self.obligations.get_mut(key) else { return };
        let state = clipped_state(state);
        if record.reported == state && told.attempt_ended.is_none() {
            return;
        }
        if !matches!(state, State::NotApplicable { why: NotApplicable::Requirement }) {
            record.unmet = None;
        }
        record.replaced_by = None;
        record.reported = state;
        record.since = trusted;
        self.tell(draft, key, told);
    }

    /// Says again where each obligation stands whose own report is no longer kept. A site that was
    /// restored from a backup older than `keepRelieved` may lack it, and cannot ask for it.
    pub(crate) fn restate(&mut self, draft: &mut Draft) {
        let through = self.outbox.before().through;
        let untold: Vec<Key> = self
            .obligations
            .values()
            .filter(|record| record.reported_in <= through && record.reported != State::Targeted)
            .map(|record| record.key.clone())
            .collect();
        for key in untold {
            self.fired.note(Branch::Restated);
            self.tell_again(draft, &key);
        }
    }

    /// Says once more where an obligation stands.
    pub(crate) fn tell_again(&mut self, draft: &mut Draft, key: &Key) {
        let record = self.obligations.get(key);
        let exit_code = record.and_then(|record| record.reported.exit_code());
        self.tell(draft, key, Told { exit_code, ..Told::default() });
    }

    fn tell(&mut self, draft: &mut Draft, key: &Key, told: Told) {
        let Some(record) = self.obligations.get_mut(key) else { return };
        let of_part = told.run.is_some() || told.attempt_ended.is_some();
        let report = Report {
            advertisement: key.advertisement,
            occurrence: key.occurrence.clone(),
            revision: record.revision,
            state: record.reported.clone(),
            attempt: record.attempts,
            run: told.run,
            exit_code: told.exit_code,
            attempt_ended: told.attempt_ended,
            disputed: record.disputed.clone(),
            output: told.output,
            dependency: of_part.then(|| record.part()?.dependency).flatten().map(|one| {
                Dependency {
                    package: PackageRef {
                        name: one.package.name.clone(),
                        version: Some(one.package.version.clone()),
                    },
                    program: one.program.clone(),
                }
            }),
            user: told.run.and_then(|run| self.runs.get(&run)?.user.clone()),
            passed_over: told.passed_over,
        };
        if report.disputed.is_some() {
            self.fired.note(Branch::Disputed);
        }
        draft.obligations.insert(key.clone());
        let told = self.say(draft, Body::Obligation(report));
        let head = self.memory.head;
        if let Some(record) = self.obligations.get_mut(key) {
            record.untold = !told;
            record.reported_in = if told { head } else { record.reported_in };
        }
    }
}

/// `body` with every text from outside within its limit.
fn clipped(body: Body) -> Body {
    match body {
        Body::AgentStarted { facts } => Body::AgentStarted { facts: clipped_facts(facts) },
        Body::FactsChanged { facts } => Body::FactsChanged { facts: clipped_facts(facts) },
        Body::PolicyRefused { why } => Body::PolicyRefused { why: head(why) },
        Body::MemoryLost { found, salvaged } => Body::MemoryLost { found: head(found), salvaged },
        Body::Obligation(report) => Body::Obligation(Report {
            state: clipped_state(report.state),
            attempt_ended: report.attempt_ended.map(clipped_state),
            disputed: report.disputed.map(head),
            output: ends(report.output),
            ..report
        }),
        Body::Verified(Verification { by, checks }) => Body::Verified(Verification {
            by,
            checks: checks.into_iter().map(clipped_check).collect(),
        }),
        Body::Repair(Repair { what, state: RepairState::Failed { why } }) => {
            Body::Repair(Repair { what: head(what), state: RepairState::Failed { why: head(why) } })
        }
        Body::Repair(Repair { what, state }) => Body::Repair(Repair { what: head(what), state }),
        // Their words are the machine's own.
        said @ (Body::Dropped { .. } | Body::Components { .. }) => said,
    }
}

fn clipped_check(check: Check) -> Check {
    let clip = |text| head_of(text, CHECK_TEXT_BYTES_MAX);
    Check {
        name: clip(check.name),
        detail: clip(check.detail),
        remedy: clip(check.remedy),
        ..check
    }
}

fn clipped_state(state: State) -> State {
    match state {
        State::Failed { mut code } => {
            code.detail = head(code.detail);
            State::Failed { code }
        }
        State::Superseded { by } => State::Superseded { by: head(by) },
        State::RolledBack { cause } => State::RolledBack { cause: head(cause) },
        other => other,
    }
}

/// Extra facts are left out from the end of their order until the rest fits.
fn clipped_facts(mut facts: Facts) -> Facts {
    for text in [
        &mut facts.os,
        &mut facts.arch,
        &mut facts.name,
        &mut facts.agent_version,
        &mut facts.isolation,
        &mut facts.root,
    ] {
        *text = head(std::mem::take(text));
    }
    let mut bytes = 0;
    let fits = |(name, fact): &(String, Fact)| {
        bytes += serde_json::to_vec(&(name, fact)).map_or(FACTS_BYTES_MAX, |json| json.len());
        bytes <= FACTS_BYTES_MAX
    };
    let extra = std::mem::take(&mut facts.extra);
    facts.extra = extra.into_iter().take_while(fits).collect::<BTreeMap<_, _>>();
    facts
}

/// The first bytes of a text, cut between two characters.
fn head(text: String) -> String {
    head_of(text, TEXT_BYTES_MAX)
}

pub(crate) fn head_of(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
    }
    text
}

/// The first and the last bytes of an output that is too long, cut between two characters.
fn ends(text: String) -> String {
    if text.len() <= OUTPUT_BYTES_MAX {
        return text;
    }
    let head = &text[..text.floor_char_boundary(OUTPUT_HEAD_BYTES_MAX)];
    let tail = &text[text.ceil_char_boundary(text.len() - OUTPUT_TAIL_BYTES_MAX)..];
    format!("{head}\n[...]\n{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_model::message::MESSAGE_BYTES_MAX;
    use muster_model::state::{Failure, Rule};
    use muster_model::verification::{CHECKS_MAX, VerifiedBy};

    #[test]
    fn the_worst_texts_stay_below_the_limit_of_a_message() {
        let worst = || "\u{1}".repeat(1 << 20);
        let failed = || State::Failed {
            code: Failure { rule: Rule::ExitCode, exit_code: Some(-1), detail: worst() },
        };
        let report = Report {
            advertisement: muster_model::id::AdvertisementId(uuid::Uuid::max()),
            occurrence: "a1#1".parse().unwrap(),
            revision: u32::MAX,
            state: failed(),
            attempt: u32::MAX,
            run: Some(RunId(Digest::ZERO)),
            exit_code: Some(i32::MIN),
            attempt_ended: Some(failed()),
            disputed: Some(worst()),
            output: worst(),
            dependency: None,
            user: None,
            passed_over: String::new(),
        };
        let facts = Facts {
            os: worst(),
            arch: worst(),
            name: worst(),
            agent_version: worst(),
            isolation: worst(),
            root: worst(),
            machine: Some(Digest::ZERO),
            extra: (0..256).map(|n| (format!("{n}"), Fact::Text("\u{1}".repeat(999)))).collect(),
        };
        let check = || Check { name: "x".into(), ok: false, detail: worst(), remedy: worst() };
        let checks = std::iter::repeat_with(check).take(CHECKS_MAX).collect();
        let verified = Body::Verified(Verification { by: VerifiedBy::Person, checks });
        for body in [Body::Obligation(report), Body::AgentStarted { facts }, verified] {
            let bytes = serde_json::to_vec(&clipped(body)).unwrap().len();
            assert!(bytes < MESSAGE_BYTES_MAX - 4096, "{bytes}");
        }
    }

    #[test]
    fn an_output_keeps_its_ends_and_is_cut_between_characters() {
        let output = format!("start{}end", "ü".repeat(OUTPUT_BYTES_MAX));
        let kept = ends(output);
        assert!(kept.starts_with("startü") && kept.ends_with("üend"), "{kept}");
        assert!(kept.len() <= OUTPUT_BYTES_MAX, "{}", kept.len());
        assert_eq!(ends("whole".to_owned()), "whole");
    }
}
