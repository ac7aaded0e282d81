//! Starts the program and watches its whole process tree to the end: TERM at the end of its time or
//! on order, then KILL.
//!
//! ```text
//! running --time over--> terming(timed out) --grace over--> killing --10 s over--> escaped
//!    |----stop order---> terming(stopped) ------------------^
//!    '----no process left----------------------------------------------------------> ended
//! ```
//!
//! Waits in one place, on signals and output, with a deadline; sleeps nowhere.

use std::io::{self, PipeReader};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use muster_agent_core::input::Ending;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use rustix::time::{ClockId, clock_gettime};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use super::leaf::Leaf;
use super::{become_user, process_tree};
use crate::output::Output;
use crate::run_folder::{RunFolder, RunFolderError, RunSpec};

/// After KILL, how long the kernel has to end everything. What is left then hangs in the kernel.
const KILL_MOST: Duration = Duration::from_secs(10);

/// The longest wait for anything. The wait's own clock stands still while the machine sleeps, so the
/// boot clock is looked at now and then.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// A machine that goes down tells every process to end, the program and its supervisor each on its own
/// and in no order. So long the supervisor waits for its own word before it calls the program's end by
/// TERM the program's own.
const SHUTDOWN_SPREAD: Duration = Duration::from_millis(500);

/// How a program and everything it started came to an end.
pub(super) struct Ended {
    pub(super) ending: Ending,
    pub(super) output: String,
    pub(super) escaped: u32,
}

/// A program that can be started: the signals are caught, the pipe is laid.
pub(super) struct Program {
    command: Command,
    output: PipeReader,
    children: UnixStream,
    orders: UnixStream,
}

/// Where the watch stands.
#[derive(Clone, PartialEq)]
enum Phase {
    Running,
    Terming(Ending),
    Killing(Ending),
}

struct Watch {
    program: Pid,
    phase: Phase,
    until: Duration,
    grace: Duration,
    /// How the program itself ended.
    own: Option<Ending>,
    /// The first failure of what it left behind.
    heir: Option<Ending>,
    output: Output,
    leaf: Option<Leaf>,
}

impl Program {
    /// Catches signals and lays the output's pipe; starts nothing.
    pub(super) fn prepare(spec: &RunSpec) -> Result<Self, RunFolderError> {
        let (reader, writer) = io::pipe().map_err(RunFolderError::Prepare)?;
        rustix::io::ioctl_fionbio(&reader, true)
            .map_err(|errno| RunFolderError::Prepare(errno.into()))?;
        let [word, arguments @ ..] = spec.command.as_slice() else {
            return Err(RunFolderError::Prepare(io::ErrorKind::InvalidInput.into()));
        };
        let mut command = Command::new(word);
        command
            .args(arguments)
            .env_clear()
            .envs(spec.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&spec.directory)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(RunFolderError::Prepare)?)
            .stderr(writer);
        let children = caught(&[SIGCHLD]).map_err(RunFolderError::Prepare)?;
        let orders = caught(&[SIGTERM, SIGINT]).map_err(RunFolderError::Prepare)?;
        Ok(Self { command, output: reader, children, orders })
    }

    /// Starts the program and waits until nothing of it is left.
    pub(super) fn run(mut self, spec: &RunSpec, folder: &RunFolder, leaf: Option<&Leaf>) -> Ended {
        let mut spawn = || match &spec.user {
            Some(user) => become_user::spawn(&mut self.command, user),
            None => self.command.spawn(),
        };
        let spawned = match leaf {
            Some(leaf) => leaf.beside_program(spawn),
            None => spawn(),
        };
        let child = match spawned {
            Ok(child) => child,
            Err(error) => return not_started(spec, &error),
        };
        let Some(program) = Pid::from_raw(child.id() as i32) else {
            return not_started(spec, &io::ErrorKind::Other.into());
        };
        let Self { command, mut output, mut children, mut orders } = self;
        // The command holds the writing ends of the pipe.
        drop(command);
        let mut watch = Watch {
            program,
            phase: Phase::Running,
            until: boot_clock().saturating_add(Duration::from_millis(spec.max_run_time_ms)),
            grace: Duration::from_millis(spec.grace_ms),
            own: None,
            heir: None,
            output: Output::new(&folder.join("output")),
            leaf: leaf.cloned(),
        };
        let mut output_open = true;
        loop {
            drain(&mut children, |_| ());
            if watch.reap_all() {
                if watch.was_told_to_end() && comes_within(SHUTDOWN_SPREAD, &orders) {
                    watch.phase = Phase::Terming(Ending::Stopped);
                }
                break;
            }
            let now = boot_clock();
            if now >= watch.until && !watch.time_over(now) {
                break;
            }
            wait(
                watch.until - now.min(watch.until),
                &children,
                &orders,
                output_open.then_some(&output),
            );
            output_open = output_open && drain(&mut output, |printed| watch.output.take(printed));
            let mut ordered = false;
            drain(&mut orders, |_| ordered = true);
            if ordered && watch.phase == Phase::Running {
                watch.end(Ending::Stopped, boot_clock());
            }
        }
        drain(&mut output, |printed| watch.output.take(printed));
        watch.ended()
    }
}

impl Watch {
    /// Reaps what has ended; true if nothing is left.
    fn reap_all(&mut self) -> bool {
        // What ended before the program did, or together with it, was the program's to judge.
        let inherited = self.own.is_some();
        let empty = loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.program => {
                    self.own = ending_of(status);
                }
                Ok(Some((_, status))) => {
                    if inherited && self.heir.is_none() {
                        self.heir = ending_of(status).filter(is_failure);
                    }
                }
                Ok(None) => break false,
                Err(Errno::INTR) => {}
                Err(_) => break true,
            }
        };
        if !empty && matches!(self.phase, Phase::Killing(_)) {
            // Somebody died; what it had started meanwhile is ours now.
            self.signal(Signal::KILL);
        }
        empty
    }

    /// A deadline has passed; false if there is nothing more that could be done.
    fn time_over(&mut self, now: Duration) -> bool {
        match self.phase.clone() {
            Phase::Running => self.end(Ending::TimedOut, now),
            Phase::Terming(cause) => {
                self.phase = Phase::Killing(cause);
                self.until = now.saturating_add(KILL_MOST);
                self.signal(Signal::KILL);
            }
            Phase::Killing(_) => return false,
        }
        true
    }

    /// Whether the program ended because somebody told it to.
    fn was_told_to_end(&self) -> bool {
        let term = Ending::Signalled { signal: Signal::TERM.as_raw() };
        self.phase == Phase::Running && self.own == Some(term)
    }

    fn end(&mut self, cause: Ending, now: Duration) {
        self.phase = Phase::Terming(cause);
        self.until = now.saturating_add(self.grace);
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        if let (Some(leaf), Signal::KILL) = (&self.leaf, signal) {
            leaf.kill();
        }
        process_tree::signal_all(&self.left(), signal);
    }

    /// What is there of the program: below the supervisor, and whoever has another parent by now.
    fn left(&self) -> Vec<i32> {
        let mut left = process_tree::descendants(std::process::id() as i32);
        left.extend(self.leaf.iter().flat_map(Leaf::members));
        left.sort_unstable();
        left.dedup();
        left
    }

    fn ended(mut self) -> Ended {
        let left = self.left().len();
        self.output.finish();
        let ending = match self.phase {
            Phase::Running => settle(self.own, self.heir),
            Phase::Terming(cause) | Phase::Killing(cause) => cause,
        };
        Ended { ending, output: self.output.ends(), escaped: left as u32 }
    }
}

/// The program's own failure counts first; a launcher that ended well answers for the work that it
/// left behind.
fn settle(own: Option<Ending>, heir: Option<Ending>) -> Ending {
    match own {
        Some(ending) if is_failure(&ending) => ending,
        Some(ending) => heir.unwrap_or(ending),
        // The kernel always reports a child's end to its parent.
        None => Ending::NotStarted { why: "the kernel did not say how the program ended".into() },
    }
}

/// A process that ended badly by itself. One that was told to end (a script that ends its helper)
/// did what it was told.
fn is_failure(ending: &Ending) -> bool {
    match ending {
        Ending::Exited { code } => *code != 0,
        Ending::Signalled { signal } => {
            ![Signal::TERM, Signal::HUP, Signal::INT, Signal::PIPE, Signal::KILL]
                .iter()
                .any(|told| told.as_raw() == *signal)
        }
        _ => true,
    }
}

fn ending_of(status: WaitStatus) -> Option<Ending> {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(Ending::Exited { code }),
        (None, Some(signal)) => Some(Ending::Signalled { signal }),
        (None, None) => None,
    }
}

fn not_started(spec: &RunSpec, error: &io::Error) -> Ended {
    let word = spec.command.first().map_or("", String::as_str);
    let why = format!("failed to execute {word}: {error}");
    Ended { ending: Ending::NotStarted { why }, output: String::new(), escaped: 0 }
}

/// A stream that becomes readable when one of `signals` arrives. Handlers are not inherited through
/// exec, so the program starts with the system's defaults.
fn caught(signals: &[i32]) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for signal in signals {
        pipe::register(*signal, write.try_clone()?)?;
    }
    Ok(read)
}

/// Waits for a signal, for output, or for `at_most`.
fn wait(
    at_most: Duration,
    children: &UnixStream,
    orders: &UnixStream,
    output: Option<&PipeReader>,
) {
    let readable = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    let mut watched = vec![readable(children.as_fd()), readable(orders.as_fd())];
    watched.extend(output.map(|output| readable(output.as_fd())));
    let at_most = at_most.min(LOOK_AGAIN);
    let timeout =
        Timespec { tv_sec: at_most.as_secs() as i64, tv_nsec: at_most.subsec_nanos().into() };
    // A signal may interrupt it; the loop looks at everything again anyway.
    let _ = poll(&mut watched, Some(&timeout));
}

/// Whether a signal arrives within `at_most`.
fn comes_within(at_most: Duration, orders: &UnixStream) -> bool {
    let timeout =
        Timespec { tv_sec: at_most.as_secs() as i64, tv_nsec: at_most.subsec_nanos().into() };
    let mut watched = [PollFd::from_borrowed_fd(orders.as_fd(), PollFlags::IN)];
    let _ = poll(&mut watched, Some(&timeout));
    let mut came = false;
    drain(orders, |_| came = true);
    came
}

/// Reads what is there without waiting; false once the other end is closed.
fn drain(mut from: impl io::Read, mut take: impl FnMut(&[u8])) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return false,
            Ok(n) => take(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

/// The boot clock, which goes on while the machine sleeps: a program's time is not paused by a lid.
fn boot_clock() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
