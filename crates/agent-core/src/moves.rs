//! Carrying out the moves of obligations, and the answers that they wait for.

use muster_model::advertisement::At;
use muster_model::clock::Wall;
use muster_model::policy::PinnedPackage;
use muster_model::settings::Setting;
use muster_model::state::{Expiry, NotApplicable, State, Waiting};

use crate::agent::Agent;
use crate::draft::Draft;
use crate::obligation::{Move, Standing, next, offered};
use crate::part::already_ran;
use crate::report::Told;
use crate::saved::{Key, ObligationRecord, Stage};
use crate::schedule::noted;
use crate::sometimes::Branch;
use crate::step::Effect;

impl Stage {
    /// Whether nothing of it runs or is judged, and it has not ended.
    pub(crate) fn is_before_start(&self) -> bool {
        matches!(
            self,
            Stage::Idle
                | Stage::Fetching
                | Stage::DetectingBefore
                | Stage::Checking
                | Stage::Holding { .. }
        )
    }

    /// Whether the stage is worth a write: the others are entered again after a restart.
    fn is_durable(&self) -> bool {
        match self {
            Stage::Idle | Stage::Fetching | Stage::DetectingBefore | Stage::Checking => false,
            Stage::Holding { why, .. } => *why == Waiting::Retry,
            _ => true,
        }
    }
}

/// What is looked at again after detection has had its say.
fn is_condition(why: Waiting) -> bool {
    matches!(
        why,
        Waiting::Disk
            | Waiting::PackageManager
            | Waiting::User
            | Waiting::Notice
            | Waiting::Restart
            | Waiting::Power
            | Waiting::Link
            | Waiting::RunAs
            | Waiting::Turn
            | Waiting::Outbox
    )
}

impl ObligationRecord {
    /// The record as it goes on after a restart: what was asked is asked again.
    pub(crate) fn rested(mut self) -> Self {
        if !self.stage.is_durable() {
            self.stage = match self.reported {
                State::Waiting { why, .. } if is_condition(why) => {
                    Stage::Holding { why, until: self.since }
                }
                _ => Stage::Idle,
            };
        }
        self
    }
}

impl Agent {
    /// Lets every obligation make its next move.
    pub(crate) fn look(&mut self, draft: &mut Draft) {
        self.open_occurrences(draft);
        let open: Vec<Key> = self
            .obligations
            .values()
            .filter(|record| record.stage != Stage::Over)
            .map(|record| record.key.clone())
            .collect();
        let trusted = self.trusted(draft.now);
        self.look_at_restart_windows(trusted);
        for key in open {
            self.note_times(draft, &key);
            self.look_at_windows(&key, trusted);
            let Some(standing) = self.standing(&key, trusted) else { continue };
            let next = next(&standing);
            self.carry_out(draft, &key, next);
            // Nothing is known without a state that people can read.
            if self.obligations.get(&key).is_some_and(|r| r.reported == State::Targeted) {
                self.report(draft, &key, State::Accepted, Told::default());
            }
        }
        self.asked.values_mut().for_each(|asked| asked.cleared = false);
    }

    fn note_times(&mut self, draft: &mut Draft, key: &Key) {
        let Some(standing) = self.standing(key, self.trusted(draft.now)) else { return };
        let Ok((offer, due)) = offered(&standing) else { return };
        let Some(times) = due.at.and_then(|at| noted(&standing, offer, at)) else { return };
        if let Some(record) = self.obligations.get_mut(key) {
            record.times = times;
            draft.obligations.insert(key.clone());
        }
    }

    /// What waits for a log-on falls due if there was one. Who is found logged on by an agent that has
    /// just started logged on at an unknown time: after what was learnt in an earlier boot.
    pub(crate) fn logged_on(
        &mut self,
        draft: &mut Draft,
        before: Option<&[String]>,
        users: &[String],
    ) {
        let is_new = |user: &String| before.is_none_or(|before| !before.contains(user));
        if !users.iter().any(is_new) {
            return;
        }
        let trusted = self.trusted(draft.now);
        let boot = &self.memory.boot;
        let waiting = |record: &&ObligationRecord| {
            let standing = self.standing(&record.key, trusted);
            let due = standing.and_then(|standing| Some(offered(&standing).ok()?.1.at));
            let learnt = record.times.learnt_in.as_ref();
            let after = before.is_some() || learnt.is_some_and(|learnt| learnt != boot);
            record.stage.is_before_start() && due == Some(Some(At::LogOn)) && after
        };
        let due: Vec<Key> =
            self.obligations.values().filter(waiting).map(|record| record.key.clone()).collect();
        for key in due {
            if let Some(record) = self.obligations.get_mut(&key) {
                record.times.fell_due.get_or_insert(trusted);
                draft.obligations.insert(key);
            }
        }
    }

    /// Everything that decides what an obligation does next.
    pub(crate) fn standing(&self, key: &Key, trusted: Wall) -> Option<Standing<'_>> {
        let record = self.obligations.get(key)?;
        let asked = self.asked.get(key);
        let manifest = record.part().map(|part| part.package.manifest);
        Some(Standing {
            device: self.identity.device,
            late_after: self.setting(Setting::LateAfter),
            is_passed: self.is_passed(record, trusted),
            record,
            policy: self.policy.as_ref(),
            content: manifest.and_then(|manifest| self.contents.get(&manifest)),
            contents: &self.contents,
            others: &self.obligations,
            facts: &self.memory.facts,
            boot: &self.memory.boot,
            zone: &self.zone,
            calendar: &self.calendar,
            grace: self.setting(Setting::TermGrace),
            trusted,
            settles: self.settles(trusted),
            heard: self.memory.last_heard,
            awaits_account: self.memory.awaits_account,
            awaits_first_answer: self.first_answer_until().is_some(),
            paused: self.paused,
            turn_free: self.turn_free(),
            somebody: self.somebody(),
            sessions: self.sessions.as_deref(),
            restart_near: self.restart_near(self.elapsed, trusted),
            outbox_room: self.outbox.has_room(self.memory.relieved),
            footing: &self.upgrading.footing,
            upgrade_wait: self.upgrade_wait(),
            detecting: asked.is_some_and(|asked| asked.detect.is_some()),
            checking: asked.is_some_and(|asked| asked.check.is_some()),
            cleared: asked.is_some_and(|asked| asked.cleared),
            #[cfg(feature = "planted")]
            planted: self.planted,
        })
    }

    pub(crate) fn carry_out(&mut self, draft: &mut Draft, key: &Key, next: Move) {
        match next {
            Move::Stay => {}
            Move::Close => self.set_stage(draft, key, Stage::Over),
            Move::End(state) => {
                self.note_end(&state);
                self.end(draft, key, state, Told::default());
            }
            Move::Rest(state) => {
                self.set_stage(draft, key, Stage::Idle);
                self.report(draft, key, state, Told::default());
            }
            Move::Unmet(requirement) => {
                self.fired.note(Branch::Unmet);
                if let Some(record) = self.obligations.get_mut(key) {
                    record.unmet = Some(requirement);
                }
                self.set_stage(draft, key, Stage::Idle);
                let state = State::NotApplicable { why: NotApplicable::Requirement };
                self.report(draft, key, state, Told::default());
            }
            Move::Replaced(by) => self.replaced(draft, key, by),
            Move::Readmit => self.readmit(draft, key),
            Move::Skip => self.part_succeeded(draft, key, already_ran().into(), Told::default()),
            Move::Wait { why, until } => self.wait(draft, key, why, until),
            Move::Fetch { wait } => self.fetch(draft, key, wait),
            Move::Detect(detection) => {
                self.leave_waiting(draft, key);
                self.set_stage(draft, key, Stage::DetectingBefore);
                self.ask_detection(draft, key, *detection);
            }
            Move::Check { program, size } => {
                self.leave_waiting(draft, key);
                self.set_stage(draft, key, Stage::Checking);
                self.ask_conditions(draft, key, program, size);
            }
            Move::Hold(why) => self.hold(draft, key, why),
            Move::Notify { starts } => self.give_notice(draft, key, starts),
            Move::Arm { program, detection, user } => {
                self.arm(draft, key, *program, detection.map(|detection| *detection), user);
            }
            Move::SumUp => self.sum_up(draft, key, Told::default()),
            Move::InUse { why, until } => self.wait_in_use(draft, key, why, until),
            Move::Upgrade => self.upgrade(draft, key),
            Move::DetectAfter => self.detect_after(draft, key),
            Move::Restarted => self.restarted(draft, key),
            Move::ProgramRestartOver => self.program_restart_over(draft, key),
            Move::Reopen => self.do_again(draft, key),
            Move::DetectUndone(detection) => self.ask_detection(draft, key, *detection),
            Move::Recall { program, detection } => {
                self.recall(draft, key, *program, detection.map(|detection| *detection));
            }
        }
    }

    fn note_end(&mut self, state: &State) {
        match state {
            State::Withdrawn { .. } => self.fired.note(Branch::Withdrawn),
            State::Expired { why: Expiry::Missed } => self.fired.note(Branch::Missed),
            State::Expired { why: Expiry::Late } => self.fired.note(Branch::Late),
            State::Expired { .. } => self.fired.note(Branch::Expired),
            _ => {}
        }
    }

    /// Ends an obligation, with its message.
    pub(crate) fn end(&mut self, draft: &mut Draft, key: &Key, state: State, told: Told) {
        self.clean_unentered(draft, key);
        self.set_stage(draft, key, Stage::Over);
        self.report(draft, key, state, told);
        self.asked.remove(key);
        draft.effect(Effect::Release(key.clone()));
    }

    pub(crate) fn set_stage(&mut self, draft: &mut Draft, key: &Key, stage: Stage) {
        let Some(record) = self.obligations.get_mut(key) else { return };
        if record.stage == stage {
            return;
        }
        if record.stage.is_durable() || stage.is_durable() {
            draft.obligations.insert(key.clone());
        }
        record.stage = stage;
    }

    fn wait(&mut self, draft: &mut Draft, key: &Key, why: Waiting, until: Option<Wall>) {
        match why {
            Waiting::StalePolicy => self.fired.note(Branch::StalePolicy),
            Waiting::Window => self.fired.note(Branch::WindowShut),
            Waiting::Freeze => self.fired.note(Branch::Frozen),
            Waiting::BootGrace => self.fired.note(Branch::BootGrace),
            _ => {}
        }
        // What failed before may try again when its time has come, whatever forbids it meanwhile.
        let retries = self.obligations.get(key).is_some_and(|record| {
            matches!(record.stage, Stage::Holding { why: Waiting::Retry, .. })
        });
        if !retries {
            self.set_stage(draft, key, Stage::Idle);
        }
        self.report(draft, key, State::Waiting { why, until }, Told::default());
    }

    fn fetch(&mut self, draft: &mut Draft, key: &Key, wait: Option<Waiting>) {
        let trusted = self.trusted(draft.now);
        let Some(record) = self.obligations.get(key) else { return };
        let recalled = matches!(record.stage, Stage::Recalled | Stage::Undone);
        let retry = match &record.stage {
            Stage::Holding { why: Waiting::Retry, until } if *until > trusted => Some(*until),
            _ => None,
        };
        let rested = match record.reported {
            State::Waiting { why, .. } => !matches!(why, Waiting::Content | Waiting::Disk),
            State::Available => true,
            _ => false,
        };
        let entered = record.stage != Stage::Fetching;
        let packages: Vec<PinnedPackage> = record.packages().cloned().collect();
        packages.iter().for_each(|package| self.want_content(draft, package));
        if recalled {
            return;
        }
        if retry.is_some() {
            return self.wait(draft, key, Waiting::Retry, retry);
        }
        self.set_stage(draft, key, Stage::Fetching);
        match wait {
            Some(why) => {
                self.report(draft, key, State::Waiting { why, until: None }, Told::default());
            }
            None if entered && rested => {
                self.report(draft, key, State::Accepted, Told::default());
            }
            None => {}
        }
    }

    /// Says that what was waited for is over, unless the same wait is only looked at again.
    fn leave_waiting(&mut self, draft: &mut Draft, key: &Key) {
        let Some(record) = self.obligations.get(key) else { return };
        let rested = matches!(record.reported, State::Waiting { .. } | State::Available);
        if rested && matches!(record.stage, Stage::Idle | Stage::Fetching) {
            self.report(draft, key, State::Accepted, Told::default());
        }
    }

    pub(crate) fn hold(&mut self, draft: &mut Draft, key: &Key, why: Waiting) {
        self.fired.note(match why {
            Waiting::Turn | Waiting::Restart => Branch::Turn,
            Waiting::Outbox => Branch::OutboxFull,
            _ => Branch::Condition,
        });
        let holding = self.obligations.get(key).is_some_and(
            |record| matches!(&record.stage, Stage::Holding { why: held, .. } if *held == why),
        );
        let seen_from_here = matches!(why, Waiting::Restart | Waiting::Turn | Waiting::Outbox);
        if !(holding && seen_from_here) {
            let every = self.setting(Setting::ConditionEvery);
            let until = self.trusted(draft.now).plus(every);
            self.set_stage(draft, key, Stage::Holding { why, until });
        }
        self.report(draft, key, State::Waiting { why, until: None }, Told::default());
    }
}
