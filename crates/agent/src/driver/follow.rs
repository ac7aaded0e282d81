//! What becomes of runs: followed to their end, looked at after a restart, stopped, cleaned up.

use std::io;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use muster_agent_core::input::{Input, RunEvidence};
use muster_host::failpoint::{self, Point, When};
use muster_host::publish;
use muster_model::message::RunId;
use muster_model::state::Waiting;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::{Driver, Setup};
use crate::contents::remove_copy;
use crate::mailbox::{Mailbox, News};
use crate::outputs;
use crate::run_folder::{Entered, RunFolder};
use crate::supervisor::{self, Leaf, Refusal};

/// A follower waits for a lock and reads a few small files.
const FOLLOWER_STACK_BYTES: usize = 256 * 1024;
/// Supervisors of one attempt that ended before they started the program. After that many something is
/// wrong with this machine, and trying on would be a loop.
const LAUNCHES_MAX: u32 = 10;
/// How often what a killed supervisor left behind is looked for and killed, and how long each time the
/// kernel has to end it.
const LEFTOVER_ROUNDS: u32 = 10;
const LEFTOVER_MOST: Duration = Duration::from_secs(2);
/// How often, and how long in all, a supervisor that has not said its pid yet is asked to stop.
const STOP_AGAIN: Duration = Duration::from_millis(200);
const STOP_TRIES: u32 = 50;
/// What is told of a supervisor's own complaint.
const COMPLAINT_BYTES_MAX: u64 = 2_000;

impl Driver {
    /// Follows a supervisor in a thread of its own: the kernel says when it ends, by the lock.
    pub(super) fn follow(&mut self, run: RunId, child: Option<(Child, u32)>) {
        let (setup, mailbox) = (self.setup.clone(), self.mailbox.clone());
        let follower = std::thread::Builder::new()
            .name("follower".to_owned())
            .stack_size(FOLLOWER_STACK_BYTES)
            .spawn(move || follow(&setup, &mailbox, run, child));
        if let Err(error) = follower {
            // The next look at the machine's deadline finds it; nothing is lost but promptness.
            tracing::error!(%run, %error, "failed to follow a run");
        }
    }

    /// Looks at a run's folder, and follows its supervisor if there is one.
    pub(super) fn inspect(&mut self, run: RunId) {
        let folder = self.setup.folder_of(run);
        // A folder that never came to be shows that nothing was executed; one that vanished does not.
        let never_made =
            !folder.path().exists() && self.journal.launch_unmade(run).unwrap_or(false);
        if never_made {
            let evidence = RunEvidence::NeverEntered;
            return self.answer(async move { Input::RunSeen { run, evidence } });
        }
        let evidence = folder.look(self.setup.clock.boot_id());
        let alive = evidence == RunEvidence::Alive;
        if let RunEvidence::CutShort { same_boot: true } = evidence {
            // What it left behind is ended before anybody is told; the follower does that.
            return self.follow(run, None);
        }
        self.answer(async move { Input::RunSeen { run, evidence } });
        if alive {
            self.follow(run, None);
        }
    }

    /// Tells the supervisor of a run to end its program.
    pub(super) fn stop(&mut self, run: RunId) {
        let (setup, child) = (self.setup.clone(), self.supervisors.get(&run).copied());
        self.tasks.spawn(async move {
            let folder = setup.folder_of(run);
            for _ in 0..STOP_TRIES {
                if !stop(&folder, child) {
                    return;
                }
                // It is about to enter, and has not said its pid yet.
                tokio::time::sleep(STOP_AGAIN).await;
            }
        });
    }

    /// Removes what is large of a run's folder; its outcome is saved.
    pub(super) fn clean(&mut self, run: RunId) {
        self.supervisors.remove(&run);
        let setup = self.setup.clone();
        self.tasks.spawn_blocking(move || setup.slim_run(run));
    }

    /// Removes a run's folder; the site has its outcome. The folder is the second witness that the run
    /// was started, so it stays, until the next start sweeps it, while the first one lies in the log.
    pub(super) fn discard(&mut self, run: RunId) {
        self.supervisors.remove(&run);
        if !self.journal.settle() {
            tracing::debug!(%run, "the run's folder stays until the journal is settled");
            return;
        }
        let setup = self.setup.clone();
        self.tasks.spawn_blocking(move || setup.remove_run(run));
    }
}

impl Setup {
    /// Leaves the evidence in a run's folder, and keeps its output elsewhere.
    fn slim_run(&self, run: RunId) {
        let folder = self.folder_of(run);
        if let Err(error) = outputs::keep(&self.data, &run.to_string(), folder.path()) {
            tracing::warn!(%run, why = %crate::chain_of(&error), "its output is let go");
        }
        if let Err(error) = folder.slim() {
            tracing::warn!(%run, %error, "the run's folder keeps what it need not");
        }
    }

    /// Removes a run's folder and what told outsiders of it.
    pub(super) fn remove_run(&self, run: RunId) {
        self.slim_run(run);
        let folder = self.folder_of(run);
        let shown = self.data.join("run").join(format!("run-{run}.json"));
        let _ = publish::durable_remove(&shown);
        if let Some(leaf) = Leaf::of_run(run) {
            leaf.remove();
        }
        failpoint::hit(Point::RunRemove, When::Before);
        if let Err(error) = remove_copy(folder.path()) {
            tracing::warn!(%run, %error, "the run's folder stays");
        }
        failpoint::hit(Point::RunRemove, When::After);
    }
}

/// Waits for the end of a supervisor and tells what its folder shows then.
fn follow(setup: &Setup, mailbox: &Mailbox, run: RunId, child: Option<(Child, u32)>) {
    let folder = setup.folder_of(run);
    let held = folder.wait();
    let status = child.map(|(mut child, launch)| (child.wait(), launch));
    // The lock is let go before looking, which takes it itself; nobody else starts a supervisor.
    let unlocked = held.is_ok();
    drop(held);
    let evidence = match unlocked {
        true => folder.look(setup.clock.boot_id()),
        false => RunEvidence::Missing,
    };
    if let RunEvidence::CutShort { same_boot: true } = evidence {
        end_leftovers(&folder, run);
    }
    let input = match (evidence, status) {
        (RunEvidence::NeverEntered, Some((status, launch))) => {
            never_entered(&folder, run, status, launch)
        }
        (evidence, _) => Input::RunSeen { run, evidence },
    };
    mailbox.put_blocking(News::Input(Box::new(input)));
}

/// A supervisor ended before it started the program: a condition, a fault of this machine, or a kill.
fn never_entered(
    folder: &RunFolder,
    run: RunId,
    status: io::Result<ExitStatus>,
    launch: u32,
) -> Input {
    let code = status.ok().and_then(|status| status.code());
    let is = |refusal: Refusal| code == Some(i32::from(refusal as u8));
    let why = || format!("its supervisor did not start it: {}", complaint(folder));
    if is(Refusal::DiskFull) {
        return Input::ArmFailed { run, wait: Some(Waiting::Disk), why: why() };
    }
    if is(Refusal::TooLate) {
        // However often its window was missed: the next one may do.
        return Input::RunSeen { run, evidence: RunEvidence::NeverEntered };
    }
    if is(Refusal::Failed) || is(Refusal::Usage) || launch >= LAUNCHES_MAX {
        return Input::ArmFailed { run, wait: None, why: why() };
    }
    Input::RunSeen { run, evidence: RunEvidence::NeverEntered }
}

fn complaint(folder: &RunFolder) -> String {
    let bytes = publish::read_limited(&folder.join(supervisor::LOG_FILE), COMPLAINT_BYTES_MAX);
    let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "it did not say why".to_owned())
}

/// Ends what a killed supervisor left behind, so that the next attempt does not run beside it.
fn end_leftovers(folder: &RunFolder, run: RunId) {
    let Ok(Some(Entered { supervisor_pid, .. })) = folder.entered() else { return };
    let mark = format!("MUSTER_RUN_ID={run}");
    let leaf = Leaf::of_run(run);
    for _ in 0..LEFTOVER_ROUNDS {
        let mut left = supervisor::leftovers(supervisor_pid, &mark);
        if let Some(leaf) = &leaf {
            left.extend(leaf.members());
            leaf.kill();
        }
        if left.is_empty() {
            return;
        }
        supervisor::signal_all(&left, Signal::KILL);
        left.iter().for_each(|pid| await_end(*pid));
    }
    tracing::error!(%run, "something of a run that was cut short could not be ended");
}

/// Waits until a process is gone, at most [`LEFTOVER_MOST`].
fn await_end(pid: i32) {
    let handle = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    if let Some(Ok(handle)) = handle {
        let most = Timespec { tv_sec: LEFTOVER_MOST.as_secs() as i64, tv_nsec: 0 };
        let _ = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&most));
    }
}

/// Asks a supervisor to end its program; true if it must be asked again. Its lock shows that it lives,
/// so its pid is its own.
fn stop(folder: &RunFolder, child: Option<u32>) -> bool {
    if !matches!(folder.lock(), Ok(None)) {
        return false;
    }
    let entered = folder.entered().ok().flatten().map(|entered| entered.supervisor_pid);
    let pid = entered.or(child.and_then(|pid| i32::try_from(pid).ok()));
    match pid.and_then(Pid::from_raw) {
        Some(pid) => kill_process(pid, Signal::TERM).is_err(),
        None => true,
    }
}
