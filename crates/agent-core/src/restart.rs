//! Restarts of the machine: one at a time, after the site was told, and only when nothing runs.
//!
//! A run that needs one rests in [`Stage::RestartPending`] until the boot is another one; nothing but
//! that proves a restart. Meanwhile nothing new starts, and the shell is asked to restart the machine
//! once every message that says so is received, or could not be sent for [`FLUSH_MOST`], and whoever is
//! logged on had the countdown that a notice of these runs gives. A command
//! that fails is tried again by back-off and lets other programs start meanwhile. A device whose agent
//! has no way to restart it leaves that to others and goes on with everything else.

use std::time::Duration;

use muster_model::clock::{Elapsed, Wall};
use muster_model::settings::Setting;
use muster_model::state::{Restart, State};
use muster_model::window::{Opening, Purpose};

use crate::agent::Agent;
use crate::backoff::Backoff;
use crate::draft::Draft;
use crate::input::{Exit, RestartTry};
use crate::obligation::policy_offer;
use crate::outcome::{self, RestartBy};
use crate::report::Told;
use crate::saved::{Key, RunRecord, Stage};
use crate::sometimes::Branch;
use crate::step::Effect;
use crate::window::RESTART_ROOM;

/// How long a restart waits for the site to hear of it (accounting 3.3). What was not sent by then is
/// in the journal and is sent after the restart.
const FLUSH_MOST: Duration = Duration::from_secs(10);
/// The most restarts for one obligation: installers in five stages are known, a machine that restarts
/// all night helps nobody.
pub(crate) const RESTARTS_MAX: u32 = 10;
/// The shell answers within a minute or two; after that the try counts as failed.
const ANSWER_MOST: Duration = Duration::from_secs(300);

/// What is known of a restart that the agent is to make. Nothing of it is saved: after a restart of the
/// agent alone it begins anew.
#[derive(Clone, Debug, Default)]
pub(crate) struct Restarting {
    /// Whether the shell has a way to restart the machine; `None` until it has said so.
    able: Option<bool>,
    /// Since when nothing but unsent messages stands in the way.
    flushing: Option<Elapsed>,
    attempt: Attempt,
    /// How the last try failed, until one goes well: a try under way is no news.
    trouble: Option<String>,
    tries: Backoff,
}

/// How far the newest try is.
#[derive(Clone, Debug, Default)]
enum Attempt {
    /// There is none, or it is over.
    #[default]
    None,
    /// The shell was asked.
    Asked { since: Elapsed },
    /// The command ended well: the machine is about to go down.
    Begun { since: Elapsed },
    /// It failed; the next one is due by back-off.
    Failed,
}

impl Agent {
    /// The shell says whether it has a way to restart the machine.
    pub(crate) fn restart_able(&mut self, able: bool) {
        self.restarting.able = Some(able);
    }

    /// A restart is near: nothing new starts.
    pub(crate) fn restart_near(&self, now: Elapsed, trusted: Wall) -> bool {
        let mut pending = self.pending().peekable();
        if pending.peek().is_none() {
            return false;
        }
        let rests = matches!(self.restarting.attempt, Attempt::Failed)
            && !self.restarting.tries.is_due(now);
        let able = self.restarting.able == Some(true) && !rests && self.window_is_open(trusted);
        pending.any(|(_, stage)| able || program_restart_until(stage).is_some())
    }

    /// Looks at the windows for a restart, if one is pending and the last look no longer holds.
    pub(crate) fn look_at_restart_windows(&mut self, trusted: Wall) {
        if self.pending().next().is_some() {
            self.judge_windows(Purpose::Restart, trusted, RESTART_ROOM);
        }
    }

    /// The program has ended and can be judged only after a restart.
    pub(crate) fn await_restart(
        &mut self,
        draft: &mut Draft,
        run: &RunRecord,
        exit: Exit,
        by: RestartBy,
    ) {
        self.fired.note(Branch::RestartPending);
        let wait = self.setting(Setting::RestartWait);
        let until = (by == RestartBy::Program).then(|| self.trusted(draft.now).plus(wait));
        let told = Told::of(run.run, Some(&exit));
        let boot = self.memory.boot.clone();
        let stage = Stage::RestartPending { run: run.run, exit, boot, until };
        self.set_stage(draft, &run.key, stage);
        let state = self.pending_state(&run.key, self.trusted(draft.now));
        self.report(draft, &run.key, state, told);
    }

    /// The program was to restart the machine itself and has not done so in time. If the run asked for
    /// a restart all the same, the agent sees to it; otherwise the run is judged as it stands.
    pub(crate) fn program_restart_over(&mut self, draft: &mut Draft, key: &Key) {
        let Some(run) = self.run_of(key).cloned() else { return self.lose_run(draft, key) };
        let Some(Stage::RestartPending { run: id, exit, boot, .. }) =
            self.obligations.get(key).map(|record| record.stage.clone())
        else {
            return;
        };
        match outcome::asks_for_restart(&run.program, &exit) {
            true => {
                let stage = Stage::RestartPending { run: id, exit, boot, until: None };
                self.set_stage(draft, key, stage);
            }
            false => {
                self.judge_exit(draft, &run, exit, false);
                self.detect_if_due(draft, key);
            }
        }
    }

    /// One more restart of the machine was for this obligation.
    pub(crate) fn count_restart(&mut self, draft: &mut Draft, key: &Key) {
        if let Some(record) = self.obligations.get_mut(key) {
            record.restarts = record.restarts.saturating_add(1);
            draft.obligations.insert(key.clone());
        }
    }

    /// Whether the machine has restarted for this obligation so often that it must not do so again.
    pub(crate) fn restarts_spent(&self, key: &Key) -> bool {
        self.obligations.get(key).is_some_and(|record| record.restarts >= RESTARTS_MAX)
    }

    /// Says what pending restarts wait for, and asks the shell for one that nothing stands in the way
    /// of.
    pub(crate) fn pump_restart(&mut self, draft: &mut Draft) {
        self.restart_overdue(draft);
        if self.restarting.able.is_none() {
            return;
        }
        let pending: Vec<(Key, Told)> = self.pending().map(told).collect();
        let now = draft.now.elapsed;
        let trusted = self.trusted(draft.now);
        match self.restart_is_open(trusted) {
            true if self.restarting.flushing.is_none() => {
                self.restarting.flushing = Some(now);
                self.tell_restart(draft, self.countdown());
            }
            true => {}
            false => self.restarting.flushing = None,
        }
        for (key, told) in pending {
            let state = self.pending_state(&key, trusted);
            self.report(draft, &key, state, told);
        }
        if self.restarting.flushing.is_none() {
            return;
        }
        let idle = matches!(self.restarting.attempt, Attempt::None | Attempt::Failed);
        if idle && self.restart_due().is_some_and(|due| due <= now) {
            self.fired.note(Branch::RestartAsked);
            self.restarting.attempt = Attempt::Asked { since: now };
            draft.effect(Effect::Restart);
        }
    }

    /// Takes what became of a try.
    pub(crate) fn restart_tried(&mut self, draft: &mut Draft, tried: RestartTry) {
        let Attempt::Asked { since } = self.restarting.attempt else {
            return self.ignore("a restart that nobody asked for");
        };
        match tried {
            RestartTry::Begun => {
                self.restarting.attempt = Attempt::Begun { since: draft.now.elapsed };
                self.restarting.trouble = None;
            }
            RestartTry::Failed { why } => self.restart_failed(draft, since, why),
        }
    }

    fn restart_failed(&mut self, draft: &Draft, since: Elapsed, why: String) {
        self.fired.note(Branch::RestartFailed);
        let most = self.setting(Setting::BackoffMost);
        self.restarting.tries.failed(since, draft.now.elapsed, most, &mut self.jitter);
        self.restarting.attempt = Attempt::Failed;
        self.restarting.trouble = Some(why);
    }

    /// A try without an answer, or without a restart after it, has failed.
    fn restart_overdue(&mut self, draft: &Draft) {
        let now = draft.now.elapsed;
        let wait = self.setting(Setting::RestartWait);
        match self.restarting.attempt {
            Attempt::Asked { since } if now.since(since) >= ANSWER_MOST => {
                self.restart_failed(draft, since, "the restart command did not end".to_owned());
            }
            Attempt::Begun { since } if now.since(since) >= wait => {
                let why = "the restart command ended well, but the machine is still up";
                self.restart_failed(draft, since, why.to_owned());
            }
            _ => {}
        }
    }

    /// When time alone changes something about the restart.
    pub(crate) fn restart_deadline(&self, now: Elapsed, trusted: Wall) -> Option<Elapsed> {
        match &self.restarting.attempt {
            Attempt::Asked { since } => Some(since.plus(ANSWER_MOST)),
            Attempt::Begun { since } => Some(since.plus(self.setting(Setting::RestartWait))),
            _ if !self.is_ours_to_make() => None,
            _ => match self.restart_opening(trusted) {
                Opening::Now { .. } => self.restart_due(),
                Opening::Later { at, .. } => Some(now.plus(at.since(trusted))),
                Opening::Never { .. } => None,
            },
        }
    }

    /// When the shell is to be asked: the site was told or had its time, so had whoever is logged on,
    /// and the try before is long enough ago.
    fn restart_due(&self) -> Option<Elapsed> {
        let told = self.memory.relieved >= self.memory.head;
        let flush = if told { Duration::ZERO } else { FLUSH_MOST };
        let since = self.restarting.flushing?;
        Some(since.plus(flush.max(self.countdown())).max(self.restarting.tries.due()))
    }

    /// How long whoever is logged on has before a restart: the longest countdown among the runs that
    /// need it. Nothing of it is saved, so that after a restart of the agent it is given again.
    fn countdown(&self) -> Duration {
        if self.somebody() != Some(true) {
            return Duration::ZERO;
        }
        let ours = self.pending().filter(|(_, stage)| program_restart_until(stage).is_none());
        let notice = |run: &RunRecord| {
            let policy = self.policy.as_ref();
            let offer = policy.and_then(|policy| policy_offer(policy, run.key.advertisement));
            offer.and_then(|offer| offer.notice).or(run.program.notice)
        };
        let countdowns = ours.filter_map(|(run, _)| Some(notice(run)?.countdown.duration()));
        countdowns.max().unwrap_or_default()
    }

    fn counts_down(&self) -> bool {
        let countdown = self.countdown();
        let since = self.restarting.flushing.unwrap_or(self.elapsed);
        !countdown.is_zero() && since.plus(countdown) > self.elapsed
    }

    /// The runs that wait for a restart of this boot, and their stages.
    fn pending<'a>(&'a self) -> impl Iterator<Item = (&'a RunRecord, &'a Stage)> {
        let staged = |run: &'a RunRecord| Some((run, &self.obligations.get(&run.key)?.stage));
        self.runs.values().filter_map(staged).filter(|(_, stage)| {
            matches!(stage, Stage::RestartPending { boot, .. } if *boot == self.memory.boot)
        })
    }

    /// Whether nothing but the site's ear and a countdown stands in the way of a restart.
    fn restart_is_open(&self, trusted: Wall) -> bool {
        self.is_ours_to_make() && self.window_is_open(trusted)
    }

    fn window_is_open(&self, trusted: Wall) -> bool {
        matches!(self.restart_opening(trusted), Opening::Now { .. })
    }

    /// When windows and freezes allow a restart. What stands above them for a run, an emergency or
    /// somebody's own click, stands above them for its restart.
    fn restart_opening(&self, trusted: Wall) -> Opening {
        let overrides = |run: &RunRecord| {
            let policy = self.policy.as_ref();
            let offer = policy.and_then(|policy| policy_offer(policy, run.key.advertisement));
            let asked = self.obligations.get(&run.key).is_some_and(|record| record.user.asked);
            asked || offer.is_some_and(|offer| offer.emergency)
        };
        match self.pending().any(|(run, _)| overrides(run)) {
            true => Opening::Now { latest: None },
            false => self.opening_of(Purpose::Restart, trusted, RESTART_ROOM),
        }
    }

    /// Whether some restart is the agent's to make, and no run would be cut short by it.
    fn is_ours_to_make(&self) -> bool {
        self.restarting.able == Some(true)
            && !self.is_busy()
            && self.pending().any(|(_, stage)| program_restart_until(stage).is_none())
    }

    /// Whether a restart would cut something short. A run that the site's account named may still be
    /// alive; its folder has not been looked at yet.
    fn is_busy(&self) -> bool {
        let recalled = || self.obligations.values().any(|record| record.stage == Stage::Recalled);
        !self.turn_free() || recalled()
    }

    fn pending_state(&self, key: &Key, trusted: Wall) -> State {
        let by_program = self.obligations.get(key).is_some_and(|record| {
            matches!(record.stage, Stage::RestartPending { until: Some(_), .. })
        });
        let (why, detail) = match (self.restarting.able, &self.restarting.trouble) {
            _ if by_program => (Some(Restart::Program), ""),
            (None, _) => (None, ""),
            (Some(false), _) => (Some(Restart::Outside), ""),
            (_, Some(why)) => (Some(Restart::Command), why.as_str()),
            _ if self.is_busy() => (Some(Restart::Runs), ""),
            _ if !self.window_is_open(trusted) => (Some(Restart::Window), ""),
            _ if self.counts_down() => (Some(Restart::Notice), ""),
            _ => (Some(Restart::Agent), ""),
        };
        State::RestartPending { why, detail: detail.to_owned() }
    }
}

/// A run and how it ended, without its output, which was told when it ended.
fn told((run, stage): (&RunRecord, &Stage)) -> (Key, Told) {
    let exit = match stage {
        Stage::RestartPending { exit, .. } => Some(exit),
        _ => None,
    };
    (run.key.clone(), Told { output: String::new(), ..Told::of(run.run, exit) })
}

/// Until when a program has to restart the machine itself.
pub(crate) fn program_restart_until(stage: &Stage) -> Option<Wall> {
    match stage {
        Stage::RestartPending { until, .. } => *until,
        _ => None,
    }
}

#[cfg(test)]
mod tests;
