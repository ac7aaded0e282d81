//! Taking turns: what follows when the run for one of several users has ended.

use std::time::Duration;

use muster_model::package::Rerun;
use muster_model::state::{Interruption, Rule, State};

use super::{Turn, Whose};
use crate::agent::Agent;
use crate::draft::Draft;
use crate::input::{Ending, Exit, RunEvidence};
use crate::outcome::{self, Outcome};
use crate::report::Told;
use crate::saved::{Key, RunRecord, Stage};
use crate::sometimes::Branch;
use crate::step::{Launch, Write};

/// Whether what ended the run for one user is the end for all of them.
fn is_for_all(state: &State) -> bool {
    match state {
        State::Interrupted { cause } => *cause == Interruption::Stopped,
        State::Failed { code } => {
            matches!(code.rule, Rule::ContentRefused | Rule::PublisherRefused)
        }
        _ => false,
    }
}

impl Agent {
    /// The run for a user has ended: the next user's follows, another one for an earlier user after a
    /// while, or all is summed up. `again`: after how long another run for the same user may follow, if
    /// its outcome lets one.
    pub(crate) fn turn_ended(
        &mut self,
        draft: &mut Draft,
        run: &RunRecord,
        outcome: Outcome,
        exit: Option<&Exit>,
        again: Option<Duration>,
    ) {
        let Some(user) = run.user.as_deref().filter(|_| !is_for_all(&outcome.state)) else {
            return self.attempt_ends(draft, run, outcome, exit);
        };
        let again = again.filter(|_| self.may_follow(draft, run));
        let (sessions, spent) = (self.sessions.clone(), self.spent(run));
        let Some(record) = self.obligations.get_mut(&run.key) else { return };
        record.take_turn(user, &outcome.state, again.is_some());
        if let Some(why) = &outcome.disputed {
            record.disputed = Some(format!("for {user}: {why}"));
        }
        let whose = record.whose_turn(&run.program, sessions.as_deref());
        // Who had as many runs as the user whose run has just ended waits as between two attempts.
        let waits = match &whose {
            Whose::User(next) => Some(record.turns_of(next)).filter(|runs| *runs >= spent),
            _ => record.turns.iter().filter(|turn| turn.is_owed()).map(Turn::runs).min(),
        };
        let told = Told { attempt_ended: Some(outcome.state.clone()), ..Told::of(run.run, exit) };
        match (whose, waits) {
            (Whose::Over, _) => {
                self.sum_up(draft, &run.key, told);
                self.conclude(draft, run);
            }
            (_, Some(runs)) => {
                let delay = again.unwrap_or_else(|| run.program.retry_delay(runs).duration());
                self.retry(draft, run, outcome.state, exit, delay);
            }
            (_, None) => {
                self.fired.note(Branch::NextUser);
                self.set_stage(draft, &run.key, Stage::Idle);
                self.report(draft, &run.key, State::Accepted, told);
                self.conclude(draft, run);
                self.catch_up(draft, &run.key);
            }
        }
    }

    /// Every turn is over.
    pub(crate) fn sum_up(&mut self, draft: &mut Draft, key: &Key, told: Told) {
        let Some(record) = self.obligations.get(key) else { return };
        let (state, disputed) = (record.summed_up(), record.disputed.clone());
        let passed_over = match &state {
            State::Succeeded { .. } => record.passed_over(),
            _ => String::new(),
        };
        if !passed_over.is_empty() {
            self.fired.note(Branch::PassedOver);
        }
        let told = Told { passed_over, ..told };
        let outcome = Outcome { state, disputed };
        match &outcome.state {
            State::Succeeded { .. } => self.part_succeeded(draft, key, outcome, told),
            _ => self.part_ended(draft, key, outcome, told),
        }
    }

    /// Whether the user whom a run is for is still logged on, as far as the shell has said.
    pub(crate) fn is_there(&self, run: &RunRecord) -> bool {
        match (&run.user, &self.sessions) {
            (Some(user), Some(here)) => here.contains(user),
            _ => true,
        }
    }

    /// Whether the folder of a run may be all that tells a device without a journal whose turn it is.
    pub(crate) fn tells_turns(&self, run: &RunRecord) -> bool {
        run.user.is_some()
            && self.obligations.get(&run.key).is_some_and(|record| {
                let is_known =
                    record.stage == Stage::Over && record.reported_in <= self.memory.relieved;
                !record.turns.is_empty() && !is_known
            })
    }

    /// The account says of an obligation that it stands between two runs, and this is the folder of the
    /// newest: whose turn it was, and how the run ended, is taken over without a word, because the site
    /// has heard it.
    pub(crate) fn take_turns(&mut self, draft: &mut Draft, launch: Launch, evidence: &RunEvidence) {
        self.fired.note(Branch::FoundAgain);
        let Some(record) = self.obligations.get_mut(&launch.key) else { return };
        let Some(user) = launch.user.clone() else { return };
        record.turns.clone_from(&launch.turns);
        let program = &launch.program;
        let (ended, again) = match evidence {
            RunEvidence::Exited(exit) if exit.ending != Ending::Stopped => {
                let ended = outcome::judge(program, exit, None, false).state;
                let again = matches!(ended, State::TimedOut | State::Failed { .. });
                (ended, again)
            }
            _ => {
                let cause = Interruption::MemoryLost;
                (State::Interrupted { cause }, program.rerun == Rerun::Always)
            }
        };
        let left = record.turns_of(&user).saturating_add(1) < program.attempts();
        record.take_turn(&user, &ended, again && left);
        draft.obligations.insert(launch.key.clone());
        let run = RunRecord { told_in: Some(record.reported_in), ..RunRecord::of(launch) };
        draft.write(Write::Run(Box::new(run.clone())));
        self.runs.insert(run.run, run);
    }
}
