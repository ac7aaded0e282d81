//! Runs: from arming to a verdict, by evidence alone.
//!
//! After any restart five kinds of evidence decide, in this order: an exit record; a live supervisor;
//! no `entered`, so nothing was executed; `entered` without exit in this boot; the same in an earlier
//! one. What an interrupted run may do then is its author's declared rule, never a guess.

use muster_model::message::RunId;
#[cfg(feature = "planted")]
use muster_model::package::Rerun;
use muster_model::settings::Setting;
use muster_model::state::{Interruption, Rule, State, Waiting};

use crate::agent::Agent;
use crate::draft::Draft;
use crate::input::{Ending, Exit, Found, RunEvidence};
use crate::outcome::{self, CutShort, detects, failed};
use crate::report::Told;
use crate::restart::RESTARTS_MAX;
use crate::saved::{Key, RunRecord, Stage};
use crate::sometimes::Branch;
use crate::step::Effect;

impl Agent {
    /// One run at a time: nobody has said that two installations get along.
    pub(crate) fn turn_free(&self) -> bool {
        #[cfg(feature = "planted")]
        if self.planted.two_at_once {
            return true;
        }
        !self.runs.values().any(|run| match self.stage_of(&run.key) {
            Some(Stage::Running { .. }) => true,
            // A run that was found again may wait for content that never comes.
            Some(Stage::DetectingAfter { .. }) => !self.is_on_its_way(&run.manifest),
            _ => false,
        })
    }

    pub(crate) fn run_of(&self, key: &Key) -> Option<&RunRecord> {
        match &self.obligations.get(key)?.stage {
            Stage::Running { run }
            | Stage::DetectingAfter { run, .. }
            | Stage::RestartPending { run, .. } => self.runs.get(run),
            _ => None,
        }
    }

    /// Takes what a run's folder shows.
    pub(crate) fn run_seen(&mut self, draft: &mut Draft, run: RunId, evidence: RunEvidence) {
        let Some(record) = self.followed(run) else {
            return self.ignore("evidence of a run that is not followed");
        };
        // Whether another attempt may follow stands in the policy; with the first one it is looked
        // again.
        if self.policy.is_none() {
            return self.ignore("evidence before the first policy");
        }
        #[cfg(feature = "planted")]
        if self.plant_early_clean(draft, run, &evidence) {
            return;
        }
        #[cfg(feature = "planted")]
        let evidence = self.plant_guess(evidence);
        match evidence {
            RunEvidence::Exited(exit) => self.exited(draft, &record, exit),
            RunEvidence::Alive if record.stopped => draft.effect(Effect::Stop(run)),
            RunEvidence::Alive => {}
            RunEvidence::NeverEntered => self.never_entered(draft, record),
            RunEvidence::CutShort { same_boot: true } => {
                self.cut_short(draft, &record, Interruption::Killed);
            }
            RunEvidence::CutShort { same_boot: false } => {
                self.cut_short(draft, &record, Interruption::Restart);
            }
            RunEvidence::Missing => self.cut_short(draft, &record, Interruption::MemoryLost),
        }
    }

    /// Notes whether a program was executed for this attempt.
    pub(crate) fn note_executed(&mut self, draft: &mut Draft, key: &Key, has: bool) {
        let Some(record) = self.obligations.get_mut(key) else { return };
        let known = record.executed.unwrap_or(false);
        record.executed = Some(known || has);
        draft.obligations.insert(key.clone());
    }

    /// The record of a run whose end is awaited.
    pub(crate) fn followed(&self, run: RunId) -> Option<RunRecord> {
        let record = self.runs.get(&run)?;
        let stage = &self.obligations.get(&record.key)?.stage;
        (*stage == Stage::Running { run }).then(|| record.clone())
    }

    fn exited(&mut self, draft: &mut Draft, run: &RunRecord, exit: Exit) {
        let restarted = run.boot != self.memory.boot;
        if exit.ending == Ending::Stopped && !run.stopped {
            // Nobody ordered it: the machine went down, which tells every process to end, or somebody
            // ended the supervisor.
            let cause = if restarted { Interruption::Restart } else { Interruption::Killed };
            return self.cut_short(draft, run, cause);
        }
        match outcome::wants_restart(&run.program, &exit) {
            Some(by) if !restarted => return self.await_restart(draft, run, exit, by),
            Some(_) => self.count_restart(draft, &run.key),
            None => {}
        }
        if outcome::lost_the_lock(&run.program, &exit) {
            return self.wait_for_lock(draft, run, &exit);
        }
        self.judge_exit(draft, run, exit, restarted);
    }

    /// The run did nothing: it is waited for the lock, and the attempt does not count. The next one is
    /// a run of its own all the same, because a run id is spent once.
    fn wait_for_lock(&mut self, draft: &mut Draft, run: &RunRecord, exit: &Exit) {
        self.fired.note(Branch::Condition);
        let why = Waiting::PackageManager;
        let until = self.trusted(draft.now).plus(self.setting(Setting::ConditionEvery));
        let ended = outcome::judge(&run.program, exit, None, false).state;
        let told = Told { attempt_ended: Some(ended), ..Told::of(run.run, Some(exit)) };
        if let Some(record) = self.obligations.get_mut(&run.key) {
            record.uncounted += 1;
        }
        self.set_stage(draft, &run.key, Stage::Holding { why, until });
        self.report(draft, &run.key, State::Waiting { why, until: None }, told);
        self.conclude(draft, run);
        self.catch_up(draft, &run.key);
    }

    pub(crate) fn judge_exit(
        &mut self,
        draft: &mut Draft,
        run: &RunRecord,
        exit: Exit,
        restarted: bool,
    ) {
        self.note_executed(draft, &run.key, outcome::has_run(&exit));
        if detects(&run.program, run.detection.as_ref()) && outcome::has_run(&exit) {
            let stage =
                Stage::DetectingAfter { run: run.run, exit: Some(exit), restarted, cause: None };
            return self.set_stage(draft, &run.key, stage);
        }
        let outcome = outcome::judge(&run.program, &exit, None, restarted);
        self.attempt_over(draft, run, outcome, Some(&exit));
    }

    /// The machine has restarted as the run asked.
    pub(crate) fn restarted(&mut self, draft: &mut Draft, key: &Key) {
        let Some(run) = self.run_of(key).cloned() else { return self.lose_run(draft, key) };
        let Some(Stage::RestartPending { exit, .. }) =
            self.obligations.get(key).map(|record| record.stage.clone())
        else {
            return;
        };
        self.count_restart(draft, key);
        self.judge_exit(draft, &run, exit, true);
        self.detect_if_due(draft, key);
    }

    /// A move that ended in another stage is followed by that stage's own move at once.
    pub(crate) fn detect_if_due(&mut self, draft: &mut Draft, key: &Key) {
        let due = self
            .obligations
            .get(key)
            .is_some_and(|record| matches!(record.stage, Stage::DetectingAfter { .. }));
        if due {
            self.detect_after(draft, key);
        }
    }

    /// Asks detection about a run that has ended.
    pub(crate) fn detect_after(&mut self, draft: &mut Draft, key: &Key) {
        let Some(run) = self.run_of(key) else { return self.lose_run(draft, key) };
        match run.detection.clone() {
            Some(detection) => self.ask_detection(draft, key, detection),
            None => self.detected_after(draft, key, &Found::Error("there is none".to_owned())),
        }
    }

    /// Takes what detection found after a run.
    pub(crate) fn detected_after(&mut self, draft: &mut Draft, key: &Key, found: &Found) {
        let Some(run) = self.run_of(key).cloned() else { return self.lose_run(draft, key) };
        let Some(Stage::DetectingAfter { exit, restarted, cause, .. }) =
            self.obligations.get(key).map(|record| record.stage.clone())
        else {
            return;
        };
        match exit {
            Some(exit) => {
                let outcome = outcome::judge(&run.program, &exit, Some(found), restarted);
                self.attempt_over(draft, &run, outcome, Some(&exit));
            }
            None => {
                let cause = cause.unwrap_or(Interruption::Killed);
                self.after_cut_short(draft, &run, Some(found), cause);
            }
        }
    }

    /// A run ended without an exit record.
    fn cut_short(&mut self, draft: &mut Draft, run: &RunRecord, cause: Interruption) {
        self.fired.note(Branch::CutShort);
        self.note_executed(draft, &run.key, true);
        if detects(&run.program, run.detection.as_ref()) {
            let restarted = cause == Interruption::Restart;
            let stage =
                Stage::DetectingAfter { run: run.run, exit: None, restarted, cause: Some(cause) };
            return self.set_stage(draft, &run.key, stage);
        }
        self.after_cut_short(draft, run, None, cause);
    }

    fn after_cut_short(
        &mut self,
        draft: &mut Draft,
        run: &RunRecord,
        found: Option<&Found>,
        cause: Interruption,
    ) {
        let interrupted = State::Interrupted { cause };
        #[cfg(feature = "planted")]
        if self.planted.never_runs_again && run.program.rerun == Rerun::Never {
            return self.retry(draft, run, interrupted, None, std::time::Duration::ZERO);
        }
        let cut_short = outcome::cut_short(&run.program, found, cause);
        if run.user.is_some() {
            let (outcome, again) = match cut_short {
                CutShort::Ended(outcome) => (outcome, None),
                CutShort::Again => (interrupted.into(), Some(std::time::Duration::ZERO)),
            };
            return self.turn_ended(draft, run, outcome, None, again);
        }
        match cut_short {
            CutShort::Ended(outcome) => self.attempt_ends(draft, run, outcome, None),
            CutShort::Again if outcome::is_step(&run.program, cause) => {
                self.next_step(draft, run, interrupted);
            }
            CutShort::Again if self.may_follow(draft, run) => {
                // The program is not to blame: there is no delay to wait for.
                self.retry(draft, run, interrupted, None, std::time::Duration::ZERO);
            }
            CutShort::Again => self.attempt_ends(draft, run, interrupted.into(), None),
        }
    }

    /// A program that restarts the machine itself did so and has not reached its goal: it goes on with
    /// a run that is no spent attempt, but not for ever.
    fn next_step(&mut self, draft: &mut Draft, run: &RunRecord, interrupted: State) {
        self.count_restart(draft, &run.key);
        if self.restarts_spent(&run.key) {
            let state = self.restart_loop(None);
            return self.attempt_ends(draft, run, state.into(), None);
        }
        if let Some(record) = self.obligations.get_mut(&run.key) {
            record.uncounted += 1;
        }
        match self.may_follow(draft, run) {
            true => self.retry(draft, run, interrupted, None, std::time::Duration::ZERO),
            false => self.attempt_ends(draft, run, interrupted.into(), None),
        }
    }

    /// The end of an obligation that the machine restarted for too often.
    pub(crate) fn restart_loop(&mut self, exit_code: Option<i32>) -> State {
        self.fired.note(Branch::RestartLoop);
        let detail = format!("the machine restarted {RESTARTS_MAX} times for it");
        failed(Rule::RestartLoop, exit_code, detail)
    }
}

#[cfg(feature = "planted")]
impl Agent {
    /// Cleans the folder before the outcome is saved; the outcome follows with the next input.
    fn plant_early_clean(&mut self, draft: &mut Draft, run: RunId, seen: &RunEvidence) -> bool {
        let early = self.planted.exit_record_cleaned_before_reported
            && matches!(seen, RunEvidence::Exited(_))
            && !self.held_back.iter().any(|(held, _)| *held == run);
        if early {
            draft.effect(Effect::Discard(run));
            self.held_back.push((run, seen.clone()));
        }
        early
    }

    /// Takes a run that was cut short for one that exited well.
    fn plant_guess(&self, evidence: RunEvidence) -> RunEvidence {
        match evidence {
            RunEvidence::CutShort { .. } if self.planted.cut_short_guessed => {
                let ending = Ending::Exited { code: 0 };
                RunEvidence::Exited(Exit { ending, output: String::new(), result: None })
            }
            other => other,
        }
    }

    /// Takes the evidence that the planted bug held back.
    pub(crate) fn take_held_back(&mut self, draft: &mut Draft) {
        for (run, evidence) in self.held_back.clone() {
            self.run_seen(draft, run, evidence);
        }
        self.held_back.clear();
    }
}

#[cfg(test)]
mod tests;
