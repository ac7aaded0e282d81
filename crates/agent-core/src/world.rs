//! A small world around one machine, for tests: a journal that applies writes, clocks that tests move,
//! and answers to effects. After every step it holds the machine to the laws that every step obeys.

mod laws;
mod make;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::tz::TimeZone;
use muster_model::clock::{Elapsed, Now, Wall};
use muster_model::digest::Digest;
use muster_model::id::{BootId, DeviceId, EpochId, Sequence};
use muster_model::message::{Body, Report, RunId};
use muster_model::policy::{Offer, Policy};
use muster_model::state::{State, Waiting};
use muster_model::wire::batch::chain;
use muster_model::wire::device::Receipt;

use crate::agent::{Agent, Identity};
use crate::input::{
    ContentNews, Exit, Found, FoundRun, Input, Manifested, RestartTry, RunEvidence,
};
use crate::saved::{Key, ObligationRecord, Saved};
use crate::step::{Effect, Step, Unsigned, Write};
use crate::versions::Footing;

pub(crate) use make::*;

pub(crate) const DEVICE: DeviceId = DeviceId(uuid::Uuid::from_u128(0xd0));
pub(crate) const EPOCH: EpochId = EpochId(uuid::Uuid::from_u128(0xe0));
/// Noon of some day: where every world begins.
pub(crate) const NOON: Wall = Wall(1_800_000_000_000);

/// What effects are answered with. Queues that are empty answer with the ordinary case.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Detections, in order; then absent before and present after a run.
    pub(crate) found: VecDeque<Found>,
    /// Conditions, in order; then clear.
    pub(crate) conditions: VecDeque<Option<Waiting>>,
    /// Exits of programs, in order; then exit code 0.
    pub(crate) exits: VecDeque<Exit>,
    /// What becomes of restarts, in order; then no answer.
    pub(crate) restarts: VecDeque<RestartTry>,
    /// Conditions are not answered.
    pub(crate) mute: bool,
    /// Programs go on until a test ends them.
    pub(crate) endless: bool,
    /// No batch is answered.
    pub(crate) site_down: bool,
}

pub(crate) struct World {
    pub(crate) agent: Agent,
    pub(crate) identity: Identity,
    pub(crate) journal: Journal,
    pub(crate) now: Now,
    pub(crate) boot: u32,
    pub(crate) answers: Answers,
    /// Effects that were not answered yet.
    pub(crate) waiting: VecDeque<Effect>,
    /// All effects so far.
    pub(crate) done: Vec<Effect>,
    pub(crate) programs: BTreeMap<Digest, Manifested>,
    pub(crate) policy: Policy,
    /// What the run folders show at each start.
    pub(crate) found: Vec<FoundRun>,
    installed: bool,
    /// The laws are not looked at: for a journal so large that a look at each step takes minutes.
    pub(crate) lawless: bool,
}

/// The journal of a world: rows by key, as a real one keeps them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    pub(crate) saved: Saved,
}

impl Journal {
    fn apply(&mut self, write: Write) {
        let saved = &mut self.saved;
        match write {
            Write::Memory(memory) => saved.memory = Some(*memory),
            Write::Policy(policy) => saved.policy = Some(*policy),
            Write::Obligation(row) => {
                saved.obligations.retain(|other| other.key != row.key);
                saved.obligations.push(*row);
            }
            Write::ObligationForgotten(key) => saved.obligations.retain(|row| row.key != key),
            Write::Run(row) => {
                saved.runs.retain(|other| other.run != row.run);
                saved.runs.push(*row);
            }
            Write::RunForgotten(run) => saved.runs.retain(|other| other.run != run),
            Write::Content(row) => {
                let manifest = row.package.manifest;
                saved.contents.retain(|other| other.package.manifest != manifest);
                saved.contents.push(*row);
            }
            Write::ContentForgotten(manifest) => {
                saved.contents.retain(|other| other.package.manifest != manifest);
            }
            Write::Message(kept) => saved.messages.push(kept),
            Write::MessagesForgotten(through) => {
                saved.messages.retain(|kept| kept.sequence > through);
            }
        }
    }

    pub(crate) fn state(&self, key: &Key) -> Option<&State> {
        self.record(key).map(|record| &record.reported)
    }

    pub(crate) fn record(&self, key: &Key) -> Option<&ObligationRecord> {
        self.saved.obligations.iter().find(|record| record.key == *key)
    }
}

impl World {
    /// A device that has just been enrolled and started.
    pub(crate) fn new() -> Self {
        let mut world = Self::unstarted(identity(), Saved::default());
        world.start();
        world
    }

    pub(crate) fn unstarted(identity: Identity, saved: Saved) -> Self {
        Self {
            agent: Agent::restore(&identity, saved.clone()),
            identity,
            journal: Journal { saved },
            now: Now { wall: NOON, elapsed: Elapsed(1_000_000) },
            boot: 1,
            answers: Answers::default(),
            waiting: VecDeque::new(),
            done: Vec::new(),
            programs: BTreeMap::new(),
            policy: policy(),
            found: Vec::new(),
            installed: false,
            lawless: false,
        }
    }

    pub(crate) fn start(&mut self) {
        let boot = BootId(format!("boot-{}", self.boot));
        let found = self.found.clone();
        self.give(Input::Started { boot, facts: facts(), zone: TimeZone::UTC, seed: 7, found });
    }

    /// The agent dies and is started again; what was not saved is gone.
    pub(crate) fn restart(&mut self) {
        self.agent = Agent::restore(&self.identity, self.journal.saved.clone());
        self.waiting.clear();
        self.start();
    }

    /// The same, as the version of the agent that `footing` says.
    pub(crate) fn restart_on(&mut self, footing: Footing) {
        let agent = Agent::restore(&self.identity, self.journal.saved.clone());
        self.agent = agent.standing_on(footing);
        self.waiting.clear();
        self.start();
    }

    /// The machine starts anew.
    pub(crate) fn reboot(&mut self) {
        self.boot += 1;
        self.now.elapsed = Elapsed(1_000);
        self.restart();
    }

    /// Hands in one input, saves, and keeps the effects for [`World::serve`].
    pub(crate) fn give(&mut self, input: Input) -> Step {
        let before = (!self.lawless).then(|| self.journal.clone());
        // What an account told is the site's own word: there is nothing to tell it.
        let told = matches!(input, Input::AccountArrived(_));
        let step = self.agent.handle(self.now, input);
        step.writes.iter().for_each(|write| self.journal.apply(write.clone()));
        if let Some(before) = before {
            self.hold_to_the_laws(&before, &step, told);
        }
        self.done.extend(step.effects.iter().cloned());
        self.waiting.extend(step.effects.iter().cloned());
        step
    }

    /// Answers effects until none is left that has an answer now. Polls stay open.
    pub(crate) fn serve(&mut self) {
        let mut polls = VecDeque::new();
        for _ in 0..10_000 {
            let Some(effect) = self.waiting.pop_front() else { break };
            match self.answer(&effect) {
                Some(input) => drop(self.give(input)),
                None if matches!(effect, Effect::Poll { .. }) => polls.push_back(effect),
                None => {}
            }
        }
        assert!(self.waiting.is_empty(), "the machine goes round and round: {:?}", self.waiting);
        self.waiting = polls;
    }

    pub(crate) fn answer(&mut self, effect: &Effect) -> Option<Input> {
        Some(match effect {
            Effect::Send(_) if self.answers.site_down => {
                Input::SendFailed { why: "down".to_owned() }
            }
            Effect::Send(batch) => Input::ReceiptArrived(self.receipt(batch)),
            Effect::Fetch(package) => {
                let manifested = self.programs.get(&package.manifest).cloned()?;
                let news = ContentNews::Ready(Box::new(manifested));
                Input::Content { manifest: package.manifest, news }
            }
            Effect::CheckConditions { .. } if self.answers.mute => return None,
            Effect::CheckConditions { key, .. } => {
                let blocked = self.answers.conditions.pop_front().flatten();
                Input::Conditions { key: key.clone(), blocked }
            }
            Effect::Detect { key, .. } => {
                let usual = if self.installed { Found::Present } else { Found::Absent };
                let found = self.answers.found.pop_front().unwrap_or(usual);
                Input::Detected { key: key.clone(), found }
            }
            Effect::Restart => Input::RestartTried(self.answers.restarts.pop_front()?),
            Effect::Arm(_) if self.answers.endless => return None,
            Effect::Arm(launch) => {
                self.installed = true;
                let exit = self.answers.exits.pop_front().unwrap_or(exited(0));
                Input::RunSeen { run: launch.run, evidence: RunEvidence::Exited(exit) }
            }
            _ => return None,
        })
    }

    /// What the site answers to `batch`.
    pub(crate) fn receipt(&self, batch: &Unsigned) -> Receipt {
        Receipt {
            epoch: self.policy.epoch,
            device: self.identity.device,
            incarnation: self.identity.incarnation,
            through: Sequence(batch.first.0 + batch.messages.len() as u64 - 1),
            head: batch.messages.iter().fold(batch.before, |head, bytes| chain(head, bytes)),
        }
    }

    /// The site offers this from now on; polls bring it, and everything that follows is answered.
    pub(crate) fn offer(&mut self, offers: Vec<Offer>) {
        self.policy.advertisements = offers;
        self.advance_policy();
        self.serve();
    }

    /// The policy at hand, one revision on, arrives with the site's time.
    pub(crate) fn advance_policy(&mut self) {
        self.policy.revision += 1;
        self.policy.tag = Digest::of(&self.policy.revision.to_le_bytes());
        let site_time = Some(self.agent.trusted(self.now));
        self.give(Input::PolicyArrived { policy: self.policy.clone(), site_time });
    }

    /// Time passes, with a tick whenever the machine asked for one; each poll is answered in time.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now.elapsed.plus(time);
        for _ in 0..100_000 {
            let due = self.agent.next_deadline().unwrap_or(end).max(self.now.elapsed);
            if due > end {
                break;
            }
            self.move_to(due.max(self.now.elapsed.plus(Duration::from_millis(1))).min(end));
            self.give(Input::Tick);
            self.serve();
            if self.now.elapsed >= end {
                break;
            }
        }
        self.move_to(end);
    }

    pub(crate) fn move_to(&mut self, elapsed: Elapsed) {
        let step = elapsed.since(self.now.elapsed);
        self.now = Now { wall: self.now.wall.plus(step), elapsed };
    }

    pub(crate) fn state(&self, key: &Key) -> String {
        self.journal.state(key).map_or("(none)".to_owned(), ToString::to_string)
    }

    /// Every reported state of an obligation so far, attempts that ended in brackets before it.
    pub(crate) fn story(&self, key: &Key) -> Vec<String> {
        self.reports(key)
            .iter()
            .map(|report| match &report.attempt_ended {
                Some(ended) => format!("[{ended}] {}", report.state),
                None => report.state.to_string(),
            })
            .collect()
    }

    pub(crate) fn reports(&self, key: &Key) -> Vec<Report> {
        self.bodies()
            .into_iter()
            .filter_map(|body| match body {
                Body::Obligation(report) => Some(report),
                _ => None,
            })
            .filter(|report| {
                report.advertisement == key.advertisement && report.occurrence == key.occurrence
            })
            .collect()
    }

    pub(crate) fn bodies(&self) -> Vec<Body> {
        self.journal.saved.messages.iter().map(|kept| read(kept).body).collect()
    }

    pub(crate) fn armed(&self) -> Vec<(u32, u32)> {
        self.done
            .iter()
            .filter_map(|effect| match effect {
                Effect::Arm(launch) => Some((launch.attempt, launch.launch)),
                _ => None,
            })
            .collect()
    }

    /// The run that was armed last.
    pub(crate) fn run(&self) -> RunId {
        let armed = self.done.iter().rev().find_map(|effect| match effect {
            Effect::Arm(launch) => Some(launch.run),
            _ => None,
        });
        armed.expect("nothing was armed")
    }

    /// The one run that the journal knows.
    pub(crate) fn run_in_journal(&self) -> RunId {
        self.journal.saved.runs.first().expect("a run").run
    }

    pub(crate) fn see(&mut self, evidence: RunEvidence) {
        let run = self.run();
        self.give(Input::RunSeen { run, evidence });
        self.serve();
    }
}
