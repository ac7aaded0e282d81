//! Questions about an obligation (conditions, detection) and their answers.
//!
//! One question of a kind at a time; an answer that belongs to another manifest, or comes when nobody
//! waits for it any more, is dropped, and what still matters is asked again.

use muster_model::digest::Digest;
use muster_model::package::{Detection, Program};
use muster_model::state::{Evidence, EvidenceKind, State, Waiting};

use crate::agent::Agent;
use crate::draft::Draft;
use crate::input::Found;
use crate::outcome::{cannot_tell, met};
use crate::report::Told;
use crate::saved::{ContentStanding, Key, Stage};
use crate::sometimes::Branch;
use crate::step::Effect;

impl Agent {
    pub(crate) fn ask_conditions(
        &mut self,
        draft: &mut Draft,
        key: &Key,
        program: Box<Program>,
        size: u64,
    ) {
        let manifest = self.manifest_of(key);
        let asked = self.asked.entry(key.clone()).or_default();
        // One look at a time: the answer to an older one is dropped when it comes.
        if asked.check.is_none() {
            asked.check = manifest;
            draft.effect(Effect::CheckConditions { key: key.clone(), program, size });
        }
    }

    pub(crate) fn ask_detection(&mut self, draft: &mut Draft, key: &Key, detection: Detection) {
        let Some(manifest) = self.manifest_of(key) else { return };
        let asked = self.asked.entry(key.clone()).or_default();
        if asked.detect.is_none() {
            asked.detect = Some(manifest);
            let detection = Box::new(detection);
            draft.effect(Effect::Detect { key: key.clone(), manifest, detection });
        }
    }

    fn manifest_of(&self, key: &Key) -> Option<Digest> {
        let record = self.obligations.get(key)?;
        let of_run = self.run_of(key).map(|run| run.manifest);
        of_run.or(record.part().map(|part| part.package.manifest))
    }

    /// Takes what stands in the way of a start, or that nothing does.
    pub(crate) fn conditions(&mut self, draft: &mut Draft, key: &Key, blocked: Option<Waiting>) {
        let manifest = self.manifest_of(key);
        let Some(asked) = self.asked.get_mut(key) else {
            return self.ignore("conditions that nobody asked for");
        };
        let current = asked.check.take().is_some_and(|of| Some(of) == manifest);
        let checking = self.obligations.get(key).is_some_and(|r| r.stage == Stage::Checking);
        match blocked {
            _ if !(current && checking) => self.ignore("conditions of a start that is off"),
            Some(why) => self.hold(draft, key, why),
            None => {
                if let Some(asked) = self.asked.get_mut(key) {
                    asked.cleared = true;
                }
            }
        }
    }

    /// Takes what a detection found.
    pub(crate) fn detected(&mut self, draft: &mut Draft, key: &Key, found: Found) {
        let manifest = self.manifest_of(key);
        let Some(asked) = self.asked.get_mut(key) else {
            return self.ignore("a detection that nobody asked for");
        };
        let current = asked.detect.take().is_some_and(|of| Some(of) == manifest);
        if let (Found::ContentRefused(why), Some(manifest), true) = (&found, manifest, current) {
            self.content_altered(draft, manifest, why.clone());
        }
        match self.obligations.get(key).map(|record| &record.stage) {
            Some(Stage::DetectingBefore) if current => self.detected_before(draft, key, &found),
            Some(Stage::DetectingAfter { .. }) if current => {
                self.detected_after(draft, key, &found);
            }
            Some(Stage::Undone) if current => self.detected_undone(draft, key, &found),
            _ => self.ignore("a detection of a start that is off"),
        }
    }

    fn detected_before(&mut self, draft: &mut Draft, key: &Key, found: &Found) {
        let Some(record) = self.obligations.get(key) else { return };
        let content = self.manifest_of(key).and_then(|manifest| self.contents.get(&manifest));
        let name = record.part().map_or("", |part| part.program);
        let program = content.and_then(|content| match &content.record.standing {
            ContentStanding::Ready { manifested } => manifested.program(name),
            _ => None,
        });
        let ran = record.executed.unwrap_or(record.attempts > record.uncounted);
        let met = match program {
            Some(program) => met(program, found),
            None => None,
        };
        match met {
            None => self.part_ended(draft, key, cannot_tell(found, None).into(), Told::default()),
            Some(true) => {
                self.fired.note(Branch::AlreadyPresent);
                let rule = if ran { EvidenceKind::Detected } else { EvidenceKind::AlreadyPresent };
                let evidence = Evidence { rule, exit_code: None };
                let succeeded = State::Succeeded { evidence };
                self.part_succeeded(draft, key, succeeded.into(), Told::default());
            }
            Some(false) => self.set_stage(draft, key, Stage::Checking),
        }
    }
}
