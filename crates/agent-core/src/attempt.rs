//! Attempts: arming one, taking back one that was never entered, ending one, following it by another.
//!
//! An attempt is counted when it is armed, in the write that precedes everything else. Its run id is a
//! function of what it is for, so it is the same after any restart; what was launched under an older
//! launch number stays stale for ever.

use std::time::Duration;

use muster_model::id::Incarnation;
use muster_model::message::RunId;
use muster_model::package::{Detection, Program};
use muster_model::parameter::Values;
use muster_model::settings::Setting;
use muster_model::state::{Interruption, Rule, State, Waiting};

use crate::agent::Agent;
use crate::draft::Draft;
use crate::input::Exit;
use crate::obligation::{forbidden, offered, over_before_start, policy_offer};
use crate::outcome::{Outcome, exit_code, failed};
use crate::report::Told;
use crate::saved::{ContentStanding, Key, ObligationRecord, RunRecord, Stage};
use crate::sometimes::Branch;
use crate::step::{Effect, Launch, Write};
use crate::user::fits;

impl ObligationRecord {
    /// What was attempted before counts no more: it was of another program, or of another time.
    pub(crate) fn attempts_anew(&mut self) {
        self.uncounted = self.attempts;
        self.restarts = 0;
        self.executed = None;
    }
}

impl Agent {
    fn run_id(&self, incarnation: Incarnation, key: &Key, attempt: u32) -> Option<RunId> {
        let record = self.obligations.get(key)?;
        let device = self.identity.device;
        let (advertisement, occurrence) = (key.advertisement, &key.occurrence);
        Some(RunId::of(device, incarnation, advertisement, record.revision, occurrence, attempt))
    }

    /// Arms the next attempt: the intent is saved before anything is prepared.
    pub(crate) fn arm(
        &mut self,
        draft: &mut Draft,
        key: &Key,
        program: Program,
        detection: Option<Detection>,
        user: Option<String>,
    ) {
        if let Some(record) = self.obligations.get_mut(key).filter(|_| user.is_some()) {
            record.draw_turns(self.sessions.as_deref());
        }
        let Some(record) = self.obligations.get(key) else { return };
        let (attempt, launch) = (record.attempts + 1, record.launches + 1);
        let Some(part) = record.part() else { return };
        let manifest = part.package.manifest;
        let parameters = self.values_of(key, &program);
        let Some(run) = self.run_id(self.identity.incarnation, key, attempt) else { return };
        let run = RunRecord {
            run,
            key: key.clone(),
            attempt,
            launch,
            boot: self.memory.boot.clone(),
            program,
            detection,
            manifest,
            stopped: false,
            told_in: None,
            parameters,
            user,
        };
        self.start_run(draft, run);
        self.report(draft, key, State::Running { attempt }, Told::of_run(self.run_of(key)));
    }

    fn start_run(&mut self, draft: &mut Draft, run: RunRecord) {
        let trusted = self.trusted(draft.now);
        let start_by = self.latest_start(&run.key, &run.program, trusted);
        let grace = match run.program.grace {
            Some(declared) => declared.duration(),
            None => self.setting(Setting::TermGrace),
        };
        let Some(record) = self.obligations.get_mut(&run.key) else { return };
        let Some(part) = record.part_of_run(&run) else { return };
        let (package, dependency) = (part.package.clone(), part.dependency.is_some());
        record.attempts = run.attempt;
        record.launches = 0;
        record.user.starts = None;
        draft.write(Write::Run(Box::new(run.clone())));
        let launch = Launch {
            run: run.run,
            launch: run.launch,
            key: run.key.clone(),
            advertisement_name: record.name.clone(),
            attempt: run.attempt,
            uncounted: record.uncounted,
            revision: record.revision,
            package,
            program: run.program.clone(),
            detection: run.detection.clone(),
            boot: run.boot.clone(),
            grace,
            start_by: start_by.map(|latest| draft.now.elapsed.plus(latest.since(trusted))),
            parameters: run.parameters.clone(),
            dependency,
            dependencies: record.dependencies.clone(),
            user: run.user.clone(),
            turns: record.turns.clone(),
        };
        draft.effect(Effect::Arm(Box::new(launch)));
        self.set_stage(draft, &run.key, Stage::Running { run: run.run });
        self.runs.insert(run.run, run);
    }

    /// Nothing was executed: the same attempt is armed again under a higher launch number, unless
    /// something forbids a start by now.
    pub(crate) fn never_entered(&mut self, draft: &mut Draft, mut run: RunRecord) {
        let fits = fits(run.program.run_when, self.somebody());
        let fits = fits && self.is_there(&run);
        if !(fits && self.may_start(draft, &run.key, &run.program)) {
            self.fired.note(Branch::Unarmed);
            return self.unarm(draft, &run);
        }
        self.fired.note(Branch::LaunchRaised);
        run.launch += 1;
        run.boot = self.memory.boot.clone();
        // An order to end it has been taken back, or the start would be forbidden.
        run.stopped = false;
        self.start_run(draft, run);
    }

    fn may_start(&self, draft: &Draft, key: &Key, program: &Program) -> bool {
        let trusted = self.trusted(draft.now);
        let Some(standing) = self.standing(key, trusted) else { return false };
        offered(&standing).is_ok_and(|(offer, _)| {
            over_before_start(offer, trusted).is_none()
                && forbidden(&standing, offer).is_none()
                && standing.shut(offer, program).is_none()
        })
    }

    /// Takes back an attempt whose program was never entered. Its launch number is kept: whatever was
    /// launched under it must stay stale.
    fn unarm(&mut self, draft: &mut Draft, run: &RunRecord) {
        self.runs.remove(&run.run);
        draft.write(Write::RunForgotten(run.run));
        if let Some(record) = self.obligations.get_mut(&run.key) {
            record.attempts = run.attempt.saturating_sub(1);
            record.launches = run.launch;
            draft.obligations.insert(run.key.clone());
        }
        self.set_stage(draft, &run.key, Stage::Idle);
        self.catch_up(draft, &run.key);
    }

    /// An attempt that was taken back is given up, with its folder. Its number is spent, so that nothing
    /// is ever launched again under its run id; it does not count.
    pub(crate) fn clean_unentered(&mut self, draft: &mut Draft, key: &Key) {
        let Some(record) = self.obligations.get(key).filter(|record| record.launches > 0) else {
            return;
        };
        let attempt = record.attempts + 1;
        if let Some(run) = self.run_id(self.identity.incarnation, key, attempt) {
            draft.effect(Effect::Discard(run));
        }
        if let Some(record) = self.obligations.get_mut(key) {
            record.launches = 0;
            record.attempts = attempt;
            record.uncounted += 1;
            draft.obligations.insert(key.clone());
        }
    }

    /// A run could not be armed: that is a condition to wait for, or the end of an attempt.
    pub(crate) fn arm_failed(
        &mut self,
        draft: &mut Draft,
        run: RunId,
        wait: Option<Waiting>,
        why: String,
    ) {
        let Some(record) = self.followed(run) else {
            return self.ignore("a failed arming of a run that is not followed");
        };
        if let Some(wait) = wait {
            self.fired.note(Branch::Unarmed);
            self.unarm(draft, &record);
            return self.hold(draft, &record.key, wait);
        }
        let refused = self.contents.get(&record.manifest).and_then(|content| {
            match &content.record.standing {
                ContentStanding::Refused { rule, why } => Some(failed(*rule, None, why.clone())),
                _ => None,
            }
        });
        self.note_executed(draft, &record.key, false);
        let state = refused.unwrap_or_else(|| failed(Rule::NotStarted, None, why));
        self.attempt_over(draft, &record, state.into(), None);
    }

    /// An attempt has ended: the obligation ends with it, or another attempt follows.
    pub(crate) fn attempt_over(
        &mut self,
        draft: &mut Draft,
        run: &RunRecord,
        outcome: Outcome,
        exit: Option<&Exit>,
    ) {
        let again = match &outcome.state {
            State::TimedOut => true,
            State::Failed { code } => {
                !matches!(code.rule, Rule::ContentRefused | Rule::PublisherRefused)
            }
            _ => false,
        };
        let delay = run.program.retry_delay(self.spent(run)).duration();
        if run.user.is_some() {
            return self.turn_ended(draft, run, outcome, exit, again.then_some(delay));
        }
        if again && self.restarts_spent(&run.key) {
            let state = self.restart_loop(exit.and_then(exit_code));
            return self.attempt_ends(draft, run, state.into(), exit);
        }
        if again && self.may_follow(draft, run) {
            return self.retry(draft, run, outcome.state, exit, delay);
        }
        self.attempt_ends(draft, run, outcome, exit);
    }

    /// Whether another attempt may follow: one is left, and the device is still meant.
    pub(crate) fn may_follow(&self, draft: &Draft, run: &RunRecord) -> bool {
        let trusted = self.trusted(draft.now);
        let Some(standing) = self.standing(&run.key, trusted) else { return false };
        let asked = standing.record.user.asked;
        self.spent(run) < run.program.attempts()
            && offered(&standing).is_ok_and(|(offer, due)| {
                (due.at.is_some() || asked) && over_before_start(offer, trusted).is_none()
            })
    }

    /// How many of the program's attempts are spent, `run` included: each user has them all.
    pub(crate) fn spent(&self, run: &RunRecord) -> u32 {
        let record = self.obligations.get(&run.key);
        match &run.user {
            Some(user) => record.map_or(0, |record| record.turns_of(user)).saturating_add(1),
            None => run.attempt.saturating_sub(record.map_or(0, |record| record.uncounted)),
        }
    }

    pub(crate) fn retry(
        &mut self,
        draft: &mut Draft,
        run: &RunRecord,
        ended: State,
        exit: Option<&Exit>,
        delay: Duration,
    ) {
        self.fired.note(Branch::Retried);
        let until = self.trusted(draft.now).plus(delay);
        let why = Waiting::Retry;
        let told = Told { attempt_ended: Some(ended), ..Told::of(run.run, exit) };
        self.set_stage(draft, &run.key, Stage::Holding { why, until });
        self.report(draft, &run.key, State::Waiting { why, until: Some(until) }, told);
        self.conclude(draft, run);
        self.catch_up(draft, &run.key);
    }

    pub(crate) fn attempt_ends(
        &mut self,
        draft: &mut Draft,
        run: &RunRecord,
        outcome: Outcome,
        exit: Option<&Exit>,
    ) {
        let told = Told::of(run.run, exit);
        match &outcome.state {
            State::Succeeded { .. } => self.part_succeeded(draft, &run.key, outcome, told),
            _ => self.part_ended(draft, &run.key, outcome, told),
        }
        self.conclude(draft, run);
    }

    /// How the run ended has just been told. Its folder stays as evidence until the site has heard it:
    /// a journal that is lost before takes the message with it.
    pub(crate) fn conclude(&mut self, draft: &mut Draft, run: &RunRecord) {
        let told_in = self.obligations.get(&run.key).map(|record| record.reported_in);
        let concluded = RunRecord { told_in, ..run.clone() };
        draft.write(Write::Run(Box::new(concluded.clone())));
        draft.effect(Effect::Clean(run.run));
        self.runs.insert(run.run, concluded);
    }

    /// Forgets the runs whose outcome the site has.
    pub(crate) fn discard_told(&mut self, draft: &mut Draft) {
        let relieved = self.memory.relieved;
        let told = |run: &&RunRecord| run.told_in.is_some_and(|told_in| told_in <= relieved);
        let told = self.runs.values().filter(told).filter(|run| !self.tells_turns(run));
        for run in told.map(|run| run.run).collect::<Vec<RunId>>() {
            draft.write(Write::RunForgotten(run));
            draft.effect(Effect::Discard(run));
            self.runs.remove(&run);
        }
    }

    /// After an attempt an obligation moves to the revision that is offered by now.
    pub(crate) fn catch_up(&mut self, draft: &mut Draft, key: &Key) {
        let Some(policy) = &self.policy else { return };
        let offer = policy_offer(policy, key.advertisement).cloned();
        let revision = self.obligations.get(key).map(|record| record.revision);
        if let Some(offer) = offer.filter(|offer| Some(offer.revision) != revision) {
            self.fired.note(Branch::Moved);
            self.follow(draft, key, &offer);
        }
    }

    /// A stage that names a run without a record: the record is lost, and nothing is guessed.
    pub(crate) fn lose_run(&mut self, draft: &mut Draft, key: &Key) {
        let state = State::Interrupted { cause: Interruption::MemoryLost };
        self.end(draft, key, state, Told::default());
    }

    /// The account named a run of the incarnation before this one: its folder may still tell.
    pub(crate) fn recall(
        &mut self,
        draft: &mut Draft,
        key: &Key,
        program: Program,
        detection: Option<Detection>,
    ) {
        self.fired.note(Branch::Recalled);
        let before = Incarnation(self.identity.incarnation.0.saturating_sub(1));
        let Some(record) = self.obligations.get(key) else { return };
        let attempt = record.attempts.max(1);
        let Some(manifest) = record.package.as_ref().map(|package| package.manifest) else {
            return;
        };
        let Some(run) = self.run_id(before, key, attempt) else { return };
        let (boot, launch, stopped, told_in) = (self.memory.boot.clone(), 0, false, None);
        let key = key.clone();
        let (parameters, user) = (Values::new(), None);
        let record = RunRecord {
            run,
            key,
            attempt,
            launch,
            boot,
            program,
            detection,
            manifest,
            stopped,
            told_in,
            parameters,
            user,
        };
        draft.write(Write::Run(Box::new(record.clone())));
        draft.effect(Effect::Inspect(run));
        self.set_stage(draft, &record.key, Stage::Running { run });
        self.runs.insert(run, record);
    }
}

impl Told {
    fn of_run(run: Option<&RunRecord>) -> Self {
        Self { run: run.map(|run| run.run), ..Self::default() }
    }
}
