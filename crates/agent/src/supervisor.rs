//! The supervisor of one run: records the start right before exec and the end after it, whatever
//! happens to the agent meanwhile (law 6).
//!
//! The binary dispatches `muster supervise RUN_DIR LAUNCH` here before anything else. The process is
//! small and single-threaded: no runtime, no log, no network. It leads a session of its own, in a control group
//! of its own where it can, and is
//! the subreaper of everything the program starts, so the end of a launcher is not taken for the end
//! of the work it launched. It decides nothing about the obligation; it never touches the journal.
//!
//! ```text
//! take the lock -> compare launch -> lay out `exit` -> `entered` -> exec -> wait for the whole tree
//!      |                 |                                              -> `exit` -> let the lock go
//!   not ours: 4       stale: 3
//! ```

mod become_user;
mod leaf;
mod process_tree;
mod watch;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;

use muster_agent_core::input::{Ending, Exit};
use muster_host::clock::Clock;
use muster_host::failpoint::{self, Point, Role, When};
use muster_host::publish;
use nix::sys::signal::SigSet;
use serde::Serialize;

use crate::result;
use crate::run_folder::{Entered, ExitRecord, RunFolder, RunFolderError, RunLock, RunSpec};
pub use leaf::{Leaf, base};
pub use process_tree::{leftovers, signal_all};
use watch::{Ended, Program};

/// The word after `muster` that starts a supervisor.
pub const VERB: &str = "supervise";
/// The file in a run's folder where a supervisor says what went wrong with itself.
pub const LOG_FILE: &str = "supervisor.log";

/// How a supervisor ends when it did not see a run through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// Something could not be read or written.
    Failed = 1,
    /// The arguments are not RUN_DIR and LAUNCH.
    Usage = 2,
    /// A newer launch of the run has been ordered.
    Stale = 3,
    /// The lock is not held by this process.
    NotOurs = 4,
    /// There is no room for the records of the run; nothing was started.
    DiskFull = 5,
    /// It comes too late: the program would outlast its window. Nothing was started.
    TooLate = 6,
}

/// Runs the supervisor with what follows [`VERB`] on the command line. Returns when the program and
/// all it started have ended and the exit record is durable.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match supervise(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err((refusal, why)) => {
            // Standard error is a file in the run's folder, for people.
            let _ = writeln!(io::stderr(), "{why}");
            ExitCode::from(refusal as u8)
        }
    }
}

/// What outsiders may know of a live supervisor.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RunFile<'a> {
    supervisor_pid: u32,
    run: muster_model::message::RunId,
    folder: &'a std::path::Path,
}

fn supervise(args: impl IntoIterator<Item = OsString>) -> Result<(), (Refusal, String)> {
    // Whoever started the agent may have blocked signals, and both orders and the end of the program
    // come as signals.
    let unblocked = SigSet::empty().thread_set_mask();
    unblocked.map_err(|why| (Refusal::Failed, format!("failed to unblock signals: {why}")))?;
    failpoint::arm_from_env(Role::Supervisor)
        .map_err(|error| (Refusal::Usage, error.to_string()))?;
    let (folder, launch) = parse(args).ok_or((Refusal::Usage, "usage: RUN_DIR LAUNCH".into()))?;
    // Held until this process ends; the program is started with another standard input.
    let _held = take_lock(&folder)?;
    let newest = folder.launch().map_err(failed)?;
    if newest != Some(launch) {
        return Err((Refusal::Stale, format!("launch {launch} is stale, {newest:?} is ordered")));
    }
    let spec = folder.spec().map_err(failed)?;
    let spec = spec.ok_or((Refusal::Failed, "failed to find spec.json".to_owned()))?;
    let clock = Clock::from_env().map_err(|error| (Refusal::Failed, error.to_string()))?;
    lead_session();
    let leaf = enter_leaf(&spec);
    let program = Program::prepare(&spec).map_err(failed)?;
    let reserved = folder.reserve_exit().map_err(failed)?;
    show(&spec, &folder);
    let entered = Entered {
        supervisor_pid: std::process::id() as i32,
        boot: clock.boot_id().clone(),
        launch,
        at: clock.now().wall,
    };
    if spec.start_by.is_some_and(|latest| clock.now().elapsed > latest) {
        return Err((Refusal::TooLate, "the window has no room for the program any more".into()));
    }
    failpoint::hit(Point::SupervisorEntered, When::Before);
    folder.enter(&entered).map_err(failed)?;
    failpoint::hit(Point::SupervisorEntered, When::After);
    let ended = program.run(&spec, &folder, leaf.as_ref());
    let record =
        ExitRecord { escaped: ended.escaped, at: clock.now().wall, exit: exit_of(ended, &spec) };
    failpoint::hit(Point::SupervisorExit, When::Before);
    let written = reserved.write(&record).map_err(failed);
    failpoint::hit(Point::SupervisorExit, When::After);
    let _ = std::fs::remove_file(&spec.run_file);
    if let Some(leaf) = leaf {
        leaf.leave();
    }
    written
}

/// The run's control group, with this process in it. Without one a session holds the run together.
fn enter_leaf(spec: &RunSpec) -> Option<Leaf> {
    let leaf = Leaf::at(spec.control_group.clone()?);
    match leaf.enter() {
        Ok(()) => Some(leaf),
        Err(error) => {
            let path = leaf.path().display();
            let _ = writeln!(io::stderr(), "goes on without the control group {path}: {error}");
            None
        }
    }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Option<(RunFolder, u32)> {
    let mut args = args.into_iter();
    let folder = RunFolder::at(PathBuf::from(args.next()?));
    let launch = args.next()?.to_str()?.parse().ok()?;
    args.next().is_none().then_some((folder, launch))
}

/// The agent hands the lock over as standard input. Started by hand there is none, and the lock is
/// refused rather than taken: only an agent knows that nothing else runs.
fn take_lock(folder: &RunFolder) -> Result<RunLock, (Refusal, String)> {
    let handed = io::stdin().as_fd().try_clone_to_owned().map(File::from);
    let handed = handed.map_err(|error| (Refusal::Failed, error.to_string()))?;
    let held = folder.take_over(handed).map_err(failed)?;
    held.ok_or((Refusal::NotOurs, "standard input is not the run's lock".to_owned()))
}

/// Session and subreaper of its own. Neither can fail where it matters: a process that leads its
/// session already is what is wanted, and Linux knows subreapers since 3.4.
fn lead_session() {
    let _ = rustix::process::setsid();
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    // What the agent was started with is not the program's concern.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
}

/// Tells outsiders the pid. Nothing depends on it, so failing is no reason not to run.
fn show(spec: &RunSpec, folder: &RunFolder) {
    let shown =
        RunFile { supervisor_pid: std::process::id(), run: spec.run, folder: folder.path() };
    if let Ok(bytes) = serde_json::to_vec(&shown) {
        let _ = publish::durable_publish(&spec.run_file, &bytes);
    }
}

fn exit_of(ended: Ended, spec: &RunSpec) -> Exit {
    let result = match ended.ending {
        Ending::NotStarted { .. } => None,
        _ => result::read(&spec.result, spec.product.as_ref()),
    };
    Exit { ending: ended.ending, output: ended.output, result }
}

fn failed(error: impl Into<RunFolderError>) -> (Refusal, String) {
    let error = error.into();
    let refusal = if error.is_disk_full() { Refusal::DiskFull } else { Refusal::Failed };
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    (refusal, text)
}
