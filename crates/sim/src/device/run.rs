//! Runs: their folders, their supervisors, and the programs that really execute.
//!
//! The protocol is the product's: the agent takes the run's lock, raises the launch number durably and
//! hands the lock to the supervisor; the supervisor compares its launch number, records `entered`,
//! executes, records `exit`, and holds the lock until it ends.

use muster_agent_core::input::{Ending, Exit, FoundRun, Input, RunEvidence, RunResult};
use muster_agent_core::saved::Key;
use muster_agent_core::step::Launch;
use muster_model::clock::Elapsed;
use muster_model::message::RunId;
use muster_model::package::{Achieves, Program};
use muster_model::state::Waiting;

use super::Device;
use super::shell::Cut;
use crate::core::{Core, Crash, Moment};
use crate::dice::Dice;
use crate::disk::File;
use crate::event::{Act, Event};
use crate::hours::Watch;
use crate::plant::Plant;
use crate::scenario::{Deed, HOUR, MINUTE};
use crate::sometimes::Rare;
use crate::truth::Execution;

/// What a program exits with that found the package manager's lock held (`EX_TEMPFAIL`).
const LOCK_HELD: i32 = 75;

/// The exclusive lock of a run's folder. It ends with the process that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    Free,
    Agent(u64),
    Supervisor(u64),
}

/// A run's folder.
pub(super) struct RunFolder {
    lock: Lock,
    intent: File<Launch>,
    launch: File<u32>,
    entered: File<u64>,
    exit: File<Exit>,
}

/// A supervisor process.
pub(super) struct Supervisor {
    run: RunId,
    key: Key,
    launch: u32,
    attempt: u32,
    user: Option<String>,
    program: Program,
    manifest: muster_model::digest::Digest,
    /// The program that runs, and how it will end.
    running: Option<(Deed, Ending)>,
    execution: Option<usize>,
    /// The last moment at which it may enter, on the boot clock.
    start_by: Option<Elapsed>,
    /// What the run has to keep to.
    watch: Option<Watch>,
}

impl Supervisor {
    /// The run that it is for.
    pub(super) fn run(&self) -> RunId {
        self.run
    }

    /// Whether its program runs.
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

impl RunFolder {
    fn new() -> Self {
        Self {
            lock: Lock::Free,
            intent: File::missing(),
            launch: File::missing(),
            entered: File::missing(),
            exit: File::missing(),
        }
    }

    /// What a power cut would leave of it at least.
    pub(super) fn copy(&self) -> Self {
        Self {
            lock: Lock::Free,
            intent: self.intent.copy(),
            launch: self.launch.copy(),
            entered: self.entered.copy(),
            exit: self.exit.copy(),
        }
    }

    pub(super) fn set_lock(&mut self, lock: Lock) {
        self.lock = lock;
    }

    pub(super) fn power_cut(&mut self, dice: &mut Dice) {
        self.lock = Lock::Free;
        self.intent.power_cut(dice);
        self.launch.power_cut(dice);
        self.entered.power_cut(dice);
        self.exit.power_cut(dice);
    }
}

impl Device {
    /// Prepares the run's folder and starts its supervisor.
    pub(super) fn arm(&mut self, core: &mut Core, launch: Launch) -> Result<(), Cut> {
        self.check_armed(core, &launch);
        self.check_run_when(core, &launch);
        self.check_allowed(core, &launch);
        if self.is_full() {
            let (wait, why) = (Some(Waiting::Disk), "the disk is full".to_owned());
            self.later(core, Input::ArmFailed { run: launch.run, wait, why });
            return Ok(());
        }
        if core.hindered() && core.dice.per_mille(200) {
            let wait = core.dice.per_mille(900).then_some(Waiting::Disk);
            let why = "the run's folder cannot be written".to_owned();
            self.later(core, Input::ArmFailed { run: launch.run, wait, why });
            return Ok(());
        }
        let unlocked = core.is_planted(Plant::SecondLaunchWithoutLock);
        let number = self.processes;
        let folder = self.folders.entry(launch.run).or_insert_with(RunFolder::new);
        if matches!(folder.lock, Lock::Supervisor(_)) && !unlocked {
            self.inspect(core, launch.run);
            return Ok(());
        }
        folder.lock = Lock::Agent(number);
        self.write_launch(core, &launch)?;
        let watch = self.watch(core, &launch);
        self.supervisors_made += 1;
        let supervisor = self.supervisors_made;
        if let Some(folder) = self.folders.get_mut(&launch.run) {
            folder.lock = Lock::Supervisor(supervisor);
        }
        if let Some(process) = &mut self.process {
            process.followed.insert(launch.run);
        }
        core.note(
            self.node(),
            format_args!(
                "supervisor {supervisor} starts for run {} launch {}",
                launch.run, launch.launch
            ),
        );
        self.supervisors.insert(
            supervisor,
            Supervisor {
                run: launch.run,
                key: launch.key,
                launch: launch.launch,
                attempt: launch.attempt,
                user: launch.user,
                program: launch.program,
                manifest: launch.package.manifest,
                running: None,
                execution: None,
                start_by: launch.start_by,
                watch,
            },
        );
        self.supervisor_later(core, supervisor, Act::Compare);
        Ok(())
    }

    fn write_launch(&mut self, core: &mut Core, launch: &Launch) -> Result<(), Cut> {
        let crash = core.crash_at_write();
        if let Some((crash, Moment::Before)) = crash {
            self.crash(core, crash);
            return Err(Cut);
        }
        if let Some(folder) = self.folders.get_mut(&launch.run) {
            folder.intent.write(launch.clone());
            folder.intent.sync();
            folder.launch.write(launch.launch);
            if !matches!(crash, Some((_, Moment::Unsynced))) {
                folder.launch.sync();
            }
        }
        match crash {
            Some((crash, _)) => {
                self.crash(core, crash);
                Err(Cut)
            }
            None => Ok(()),
        }
    }

    /// A run may be armed only when the intent is durable.
    fn check_armed(&self, core: &mut Core, launch: &Launch) {
        let known = self.journal.durable().runs.get(&launch.run);
        if known.is_none_or(|record| record.launch < launch.launch) {
            let found = format!("{}: run {} is armed but not durable", self.name, launch.run);
            core.violated("durable before effect", found);
        }
    }

    /// Looks at a run's folder and follows a supervisor that is alive.
    pub(super) fn inspect(&mut self, core: &mut Core, run: RunId) {
        let evidence = self.evidence(core, run);
        if evidence == RunEvidence::Alive {
            core.seen.world(Rare::Reattached);
            if let Some(process) = &mut self.process {
                process.followed.insert(run);
            }
        }
        self.later(core, Input::RunSeen { run, evidence });
    }

    /// The supervisor that the process `number` follows has ended.
    pub(crate) fn supervisor_ended(&mut self, core: &mut Core, number: u64, run: RunId) {
        if !self.is_process(number) {
            return;
        }
        let evidence = self.evidence(core, run);
        if evidence != RunEvidence::Alive {
            self.tell(core, number, Input::RunSeen { run, evidence });
        }
    }

    /// What the folder shows. Takes the lock if it is free, so that what is answered stays true.
    fn evidence(&mut self, core: &mut Core, run: RunId) -> RunEvidence {
        let unlocked = core.is_planted(Plant::SecondLaunchWithoutLock);
        let (number, boots) = (self.processes, self.machine.boots);
        let Some(folder) = self.folders.get_mut(&run) else { return RunEvidence::Missing };
        if let Some(exit) = folder.exit.read() {
            return RunEvidence::Exited(exit.clone());
        }
        if matches!(folder.lock, Lock::Supervisor(_))
            && (!unlocked || folder.entered.read().is_some())
        {
            return RunEvidence::Alive;
        }
        if !unlocked {
            folder.lock = Lock::Agent(number);
        }
        match folder.entered.read() {
            None => RunEvidence::NeverEntered,
            Some(boot) => {
                core.seen.world(Rare::CutShort);
                RunEvidence::CutShort { same_boot: *boot == boots }
            }
        }
    }

    /// A run whose supervisor is alive.
    pub(super) fn supervised(&self) -> Option<RunId> {
        self.supervisors.values().map(|one| one.run).next()
    }

    pub(super) fn stop(&mut self, core: &mut Core, run: RunId) {
        let alive: Vec<u64> =
            self.supervisors.iter().filter(|(_, one)| one.run == run).map(|(id, _)| *id).collect();
        for supervisor in alive {
            self.supervisor_later(core, supervisor, Act::Stop);
        }
    }

    /// What the run folders show to an agent without a journal.
    pub(super) fn found_runs(&mut self, core: &mut Core) -> Vec<FoundRun> {
        if !self.awaits_account() || core.is_planted(Plant::RunFoldersNotRead) {
            return Vec::new();
        }
        let intents: Vec<Launch> =
            self.folders.values().filter_map(|folder| folder.intent.read().cloned()).collect();
        let found = intents.into_iter().map(|launch| {
            let evidence = self.evidence(core, launch.run);
            FoundRun { launch, evidence }
        });
        found.collect()
    }

    /// The content of a folder may go only when the outcome is saved; what tells it stays.
    pub(super) fn clean(&mut self, core: &mut Core, run: RunId) {
        let record = self.journal.durable().runs.get(&run);
        if record.is_some_and(|record| record.told_in.is_none()) {
            let found =
                format!("{}: the content of run {run} goes before its outcome is saved", self.name);
            core.violated("durable before effect", found);
        }
    }

    /// The folder may go only when nobody needs it to tell how the run ended.
    pub(super) fn discard(&mut self, core: &mut Core, run: RunId) {
        if self.journal.durable().runs.contains_key(&run) {
            let found =
                format!("{}: the folder of run {run} goes before its outcome is told", self.name);
            core.violated("durable before effect", found);
        }
        let alive = self.folders.get(&run).is_some_and(|f| matches!(f.lock, Lock::Supervisor(_)));
        if alive {
            let found = format!("{}: the folder of run {run} goes under its supervisor", self.name);
            core.violated("a running program outlives the agent", found);
        }
        self.folders.remove(&run);
    }

    fn supervisor_later(&mut self, core: &mut Core, supervisor: u64, act: Act) {
        let delay = match act {
            // A machine that sleeps between the order and the start.
            Act::Compare if core.chaos && core.scenario.windows && core.dice.per_mille(150) => {
                core.dice.between(MINUTE, 2 * HOUR)
            }
            _ => core.slowly(),
        };
        core.queue.after(delay, Event::Supervisor { device: self.index, supervisor, act });
    }

    /// A supervisor takes its next step.
    pub(crate) fn supervise(&mut self, core: &mut Core, supervisor: u64, act: Act) {
        let Some(one) = self.supervisors.get(&supervisor) else { return };
        match act {
            Act::Compare => {
                let folder = self.folders.get(&one.run);
                let launch = folder.and_then(|folder| folder.launch.read().copied());
                if launch == Some(one.launch) {
                    let early = core.is_planted(Plant::ExecutedBeforeEntered);
                    self.supervisor_later(
                        core,
                        supervisor,
                        if early { Act::Execute } else { Act::Enter },
                    );
                } else {
                    self.end_supervisor(core, supervisor);
                }
            }
            Act::Enter if self.is_too_late(core, supervisor) => {
                core.seen.world(Rare::TooLate);
                self.end_supervisor(core, supervisor);
            }
            Act::Enter => {
                self.check_windows(core, supervisor);
                if self.record_entered(core, supervisor).is_ok() {
                    self.supervisor_later(core, supervisor, Act::Execute);
                }
            }
            Act::Execute => self.execute(core, supervisor),
            Act::End => self.end_program(core, supervisor),
            Act::Stop => {
                if let Some(one) = self.supervisors.get_mut(&supervisor) {
                    one.running = one.running.take().map(|(_, _)| (Deed::Hangs, Ending::Stopped));
                    if one.running.is_some() {
                        self.end_program(core, supervisor);
                    }
                }
            }
        }
    }

    /// What a run that is armed now has to keep to, told from the policy that it was armed under: nothing
    /// if a user asked for it.
    fn watch(&self, core: &Core, launch: &Launch) -> Option<Watch> {
        let (saved, agent) = (self.journal.read(), self.agent()?);
        let policy = saved.policy.as_ref()?;
        if saved.obligations.get(&launch.key).is_some_and(|one| one.user.asked) {
            return None;
        }
        let mut offers = policy.advertisements.iter();
        let offer = offers.find(|offer| offer.advertisement == launch.key.advertisement)?;
        let now = self.clocks(core);
        let trusted = (agent.view(now).trusted_time, now.elapsed);
        let room = launch.program.max_run_time.duration() + launch.grace;
        let mut watch = Watch::new(&core.truth.hours, &policy.windows, trusted, room, self.index);
        watch.emergency = offer.emergency;
        Some(watch)
    }

    /// Whether the supervisor sees that the program would outlast its window.
    fn is_too_late(&self, core: &Core, supervisor: u64) -> bool {
        let start_by = self.supervisors.get(&supervisor).and_then(|one| one.start_by);
        let now = self.clocks(core).elapsed;
        start_by.is_some_and(|latest| now > latest) && !core.is_planted(Plant::LateSupervisorEnters)
    }

    /// Nothing but an emergency begins outside a window, in a freeze, or where it may outlast either.
    fn check_windows(&self, core: &mut Core, supervisor: u64) {
        let Some(one) = self.supervisors.get(&supervisor) else { return };
        let now = self.clocks(core).elapsed;
        let Some(watch) = &one.watch else { return };
        match watch.broken(now) {
            Some(_) if watch.emergency => core.seen.world(Rare::Emergency),
            Some(at) => {
                let found = format!("{}: run {} may be under way at {at}", self.name, one.run);
                core.violated("windows are kept", found);
            }
            None if watch.is_bound() => core.seen.world(Rare::RanInWindow),
            None => {}
        }
    }

    fn record_entered(&mut self, core: &mut Core, supervisor: u64) -> Result<(), Cut> {
        let boots = self.machine.boots;
        self.supervisor_writes(core, supervisor, |folder| &mut folder.entered, boots)
    }

    /// A durable write of a supervisor; a crash around it ends the supervisor or the machine.
    fn supervisor_writes<T: Clone>(
        &mut self,
        core: &mut Core,
        supervisor: u64,
        file: impl Fn(&mut RunFolder) -> &mut File<T>,
        content: T,
    ) -> Result<(), Cut> {
        let crash = core.crash_at_write();
        let run = self.supervisors.get(&supervisor).map(|one| one.run);
        let folder = run.and_then(|run| self.folders.get_mut(&run));
        if let Some(folder) = folder
            && !matches!(crash, Some((_, Moment::Before)))
        {
            file(folder).write(content);
            if !matches!(crash, Some((_, Moment::Unsynced))) {
                file(folder).sync();
            }
        }
        match crash {
            Some((Crash::PowerCut, _)) => self.cut_power(core),
            Some((Crash::Kill, _)) => self.kill_supervisor(core, supervisor),
            None => return Ok(()),
        }
        Err(Cut)
    }

    fn execute(&mut self, core: &mut Core, supervisor: u64) {
        let Some(one) = self.supervisors.get_mut(&supervisor) else { return };
        let manifest = one.manifest;
        let endings = core
            .scenario
            .software
            .iter()
            .find(|software| software.package.manifest == manifest)
            .map(|software| software.endings.clone())
            .unwrap_or_default();
        let deed = core.dice.pick(&endings).copied().unwrap_or(Deed::Works);
        if deed == Deed::CannotStart {
            one.running = Some((deed, Ending::NotStarted { why: "no such file".to_owned() }));
            self.end_program(core, supervisor);
            return;
        }
        let time_most =
            u64::try_from(one.program.max_run_time.duration().as_millis()).unwrap_or(u64::MAX);
        let needs = match deed {
            Deed::Hangs => u64::MAX,
            _ => core.dice.spread(20, time_most.saturating_add(time_most / 8)),
        };
        let ending = match deed {
            _ if needs > time_most => Ending::TimedOut,
            Deed::Works | Deed::Pretends => Ending::Exited { code: 0 },
            Deed::WantsRestart => Ending::Exited { code: 102 },
            Deed::FindsLockHeld => Ending::Exited { code: LOCK_HELD },
            Deed::Crashes => Ending::Signalled { signal: 9 },
            _ => Ending::Exited { code: 3 },
        };
        let (key, run, attempt, rerun) = (one.key.clone(), one.run, one.attempt, one.program.rerun);
        let user = one.user.clone();
        let program = one.program.clone();
        one.running = Some((deed, ending));
        one.execution = Some(core.truth.executions.len());
        if core.truth.of_obligation(self.index, &key).next().is_some() {
            core.seen.world(Rare::ExecutedAgain);
        }
        core.note(self.node(), format_args!("EXECUTES run {run} attempt {attempt}: {deed:?}"));
        let device = self.index;
        let ended = None;
        let idle = deed == Deed::FindsLockHeld;
        let (cut, at) = (false, core.now());
        let execution =
            Execution { device, key, run, attempt, user, rerun, manifest, idle, cut, ended, at };
        core.truth.executions.push(execution);
        self.check_execution(core);
        self.check_removal(core);
        self.check_turn(core, supervisor);
        self.check_dependencies(core, &program, manifest);
        let event = Event::Supervisor { device, supervisor, act: Act::End };
        core.queue.after(needs.min(time_most), event);
    }

    fn end_program(&mut self, core: &mut Core, supervisor: u64) {
        if core.is_planted(Plant::ExecutedBeforeEntered) {
            let _ = self.record_entered(core, supervisor);
        }
        let Some(one) = self.supervisors.get_mut(&supervisor) else { return };
        let Some((deed, ending)) = one.running.take() else { return };
        let (manifest, execution) = (one.manifest, one.execution);
        let achieves = one.program.achieves;
        if matches!(deed, Deed::Restarts | Deed::WorksAndRestarts) && ending != Ending::TimedOut {
            if deed == Deed::WorksAndRestarts {
                self.reach(manifest, achieves);
            }
            core.seen.world(Rare::ProgramRestarted);
            return self.cut_power(core);
        }
        let timed_out = ending == Ending::TimedOut;
        if matches!(ending, Ending::Exited { code: 0 | 102 }) {
            self.reached.insert(manifest);
        }
        if reaches_goal(deed) && !timed_out {
            self.reach(manifest, achieves);
        }
        let result = core.dice.per_mille(50).then(|| RunResult {
            succeeded: None,
            restart: false,
            description: "said so".to_owned(),
            ..RunResult::default()
        });
        let output = format!("{:.<width$}", "done", width = core.scenario.output_bytes);
        let (exit, now) = (Exit { ending: ending.clone(), output, result }, core.now());
        if let Some(execution) = execution.and_then(|at| core.truth.executions.get_mut(at)) {
            execution.ended = Some(ending);
            execution.at = now;
        }
        if self.supervisor_writes(core, supervisor, |folder| &mut folder.exit, exit).is_ok() {
            self.end_supervisor(core, supervisor);
        } else if let Some(execution) = execution.and_then(|at| core.truth.executions.get_mut(at)) {
            // Whether the record survived is drawn: the world cannot say what must be reported.
            execution.ended = None;
        }
    }

    /// The goal of a program is reached: the software is there, or is gone.
    fn reach(&mut self, manifest: muster_model::digest::Digest, achieves: Achieves) {
        self.software.insert(manifest, achieves != Achieves::Absent);
        self.reached.insert(manifest);
    }

    /// The supervisor's process is gone, and its lock with it.
    fn end_supervisor(&mut self, core: &mut Core, supervisor: u64) {
        let Some(one) = self.supervisors.remove(&supervisor) else { return };
        if let Some(folder) = self.folders.get_mut(&one.run)
            && folder.lock == Lock::Supervisor(supervisor)
        {
            folder.lock = Lock::Free;
        }
        let Some(process) = &mut self.process else { return };
        if process.followed.remove(&one.run) {
            let (device, process, run) = (self.index, process.number, one.run);
            core.queue.after(1, Event::SupervisorEnded { device, process, run });
        }
    }

    /// Kills a supervisor, and the program with it; the program may have reached its goal.
    pub(super) fn kill_supervisor(&mut self, core: &mut Core, supervisor: u64) {
        let Some(one) = self.supervisors.get(&supervisor) else { return };
        core.note(self.node(), format_args!("supervisor {supervisor} is killed"));
        let (manifest, running, execution) = (one.manifest, one.running.clone(), one.execution);
        let achieves = one.program.achieves;
        if let Some(at) = execution.filter(|_| running.is_some()) {
            core.truth.executions[at].cut = true;
        }
        if running.is_some_and(|(deed, _)| reaches_goal(deed)) && core.dice.per_mille(400) {
            self.reach(manifest, achieves);
        }
        self.end_supervisor(core, supervisor);
    }

    /// Kills one supervisor, if there is any.
    pub(crate) fn kill_some_supervisor(&mut self, core: &mut Core) {
        let alive: Vec<u64> = self.supervisors.keys().copied().collect();
        if let Some(supervisor) = core.dice.pick(&alive).copied() {
            self.kill_supervisor(core, supervisor);
        }
    }

    pub(super) fn end_all_supervisors(&mut self, core: &mut Core) {
        let alive: Vec<u64> = self.supervisors.keys().copied().collect();
        for supervisor in alive {
            self.kill_supervisor(core, supervisor);
        }
    }

    pub(super) fn free_locks_of(&mut self, process: u64) {
        for folder in self.folders.values_mut() {
            if folder.lock == Lock::Agent(process) {
                folder.lock = Lock::Free;
            }
        }
    }
}

fn reaches_goal(deed: Deed) -> bool {
    matches!(deed, Deed::Works | Deed::FailsButWorks | Deed::WantsRestart | Deed::WorksAndRestarts)
}
