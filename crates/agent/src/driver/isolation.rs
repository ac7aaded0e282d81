//! Which process holds a run together, so that what becomes of the agent's service never touches it.
//!
//! A ladder, shown in `agent status` and in the device's facts:
//!
//! ```text
//! unit     systemd started the machine: each supervisor is a transient service of its own, outside
//!          of the agent's control group, name spaces and resource limits
//! cgroup   root, where control groups of version 2 can be made: each supervisor moves into one of its own,
//!          outside of the agent's, and its program into one below
//! session  otherwise: each supervisor leads a session, and is the agent's child until the agent goes
//! ```
//!
//! The lock goes along as standard input on all rungs. With a unit, `systemd-run` hands it to systemd
//! and stays as its agent-side end: its exit code is the supervisor's. Its death, or the agent's, is nothing to
//! the unit.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use muster_model::message::RunId;

use crate::supervisor::{self, Leaf};

/// What systemd(1) makes when it is the machine's service manager (sd_booted(3)).
pub(crate) const BOOTED: &str = "/run/systemd/system";
/// `session` keeps this process on the lowest rung, for tests.
const LOWEST_VARIABLE: &str = "MUSTER_ISOLATION";
/// Where systemd-run(1) lies.
const SYSTEMD_RUN: &str = "/usr/bin/systemd-run";
/// The slice that runs are gathered in, for people: `systemctl status muster.slice`.
const SLICE: &str = "muster.slice";
/// What the supervisor inherits of the agent's environment: its clocks, failpoints and log.
const INHERITED: [&str; 6] = [
    "MUSTER_CLOCK",
    "MUSTER_ELAPSED",
    "MUSTER_BOOT_ID",
    "MUSTER_FAILPOINT",
    "MUSTER_FAILPOINT_TRACE",
    "MUSTER_LOG",
];
/// What a unit that is told to stop is given beyond the program's grace: the supervisor's own KILL,
/// and a slow disk's word that the exit record is there.
const STOP_MARGIN: Duration = Duration::from_secs(30);

/// How runs are kept apart from the agent on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// A transient unit of systemd for each.
    Unit,
    /// A control group for each, and a session.
    Cgroup,
    /// A session for each.
    Session,
}

/// What is to be started.
pub(crate) struct Supervisor<'a> {
    /// The program that has the supervisor's verb.
    pub(crate) program: &'a Path,
    /// The run's folder.
    pub(crate) folder: &'a Path,
    /// The run.
    pub(crate) run: RunId,
    /// The launch number.
    pub(crate) launch: u32,
    /// Between TERM and KILL of the program.
    pub(crate) grace: Duration,
    /// For people: whose run it is.
    pub(crate) title: &'a str,
}

impl Isolation {
    /// The highest rung that this process can reach. A unit is systemd's to make, and only for root.
    pub(crate) fn of_this_machine() -> Self {
        if std::env::var_os(LOWEST_VARIABLE).is_some_and(|word| word == Isolation::Session.word()) {
            return Isolation::Session;
        }
        let can = rustix::process::geteuid().is_root()
            && Path::new(BOOTED).is_dir()
            && Path::new(SYSTEMD_RUN).exists();
        match can {
            true => Isolation::Unit,
            false if supervisor::base().is_some() => Isolation::Cgroup,
            false => Isolation::Session,
        }
    }

    /// As people see it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Isolation::Unit => "unit",
            Isolation::Cgroup => "cgroup",
            Isolation::Session => "session",
        }
    }

    /// The control group that a run's supervisor makes.
    pub(crate) fn control_group(self, run: RunId) -> Option<PathBuf> {
        let leaf = Leaf::of_run(run).filter(|_| self == Isolation::Cgroup)?;
        Some(leaf.path().to_owned())
    }

    /// The command that starts a supervisor; the caller adds the lock and where complaints go.
    pub(crate) fn command(self, what: &Supervisor<'_>) -> Command {
        match self {
            Isolation::Session | Isolation::Cgroup => {
                let mut command = Command::new(what.program);
                command.arg0("muster").args(what.arguments());
                command
            }
            Isolation::Unit => {
                let mut command = Command::new(SYSTEMD_RUN);
                command.args(what.unit()).arg("--").arg(unexpanded(what.outside()));
                command.args(what.arguments().map(unexpanded));
                command
            }
        }
    }
}

impl Supervisor<'_> {
    fn arguments(&self) -> [OsString; 3] {
        [supervisor::VERB.into(), self.folder.into(), self.launch.to_string().into()]
    }

    /// The unit: gone when it has ended, told to end through its supervisor alone, and not given up
    /// because one of its processes wanted too much memory.
    fn unit(&self) -> Vec<OsString> {
        let stop = self.grace.saturating_add(STOP_MARGIN).as_secs();
        let mut words: Vec<OsString> =
            ["--quiet", "--no-ask-password", "--collect", "--wait", "--pipe"]
                .map(Into::into)
                .into();
        words.push(format!("--unit=muster-run-{}-{}", self.run, self.launch).into());
        words.push(format!("--description=Muster run of {}", self.title).into());
        words.push(format!("--slice={SLICE}").into());
        for property in ["KillMode=mixed", "OOMPolicy=continue", "TasksMax=infinity"] {
            words.push(format!("--property={property}").into());
        }
        words.push(format!("--property=TimeoutStopSec={stop}").into());
        let set = INHERITED.iter().filter(|name| std::env::var_os(name).is_some());
        words.extend(set.map(|name| format!("--setenv={name}").into()));
        words
    }

    /// The supervisor's program as systemd finds it, whose own `/proc/self` is another. The agent's
    /// program stays reachable through the agent's process when its file was replaced.
    fn outside(&self) -> PathBuf {
        match self.program.strip_prefix("/proc/self") {
            Ok(below) => Path::new("/proc").join(std::process::id().to_string()).join(below),
            Err(_) => self.program.to_owned(),
        }
    }
}

/// A word that systemd takes as it stands: `$` begins a variable in a unit's command.
fn unexpanded(word: impl Into<OsString>) -> OsString {
    let bytes = word.into().into_vec();
    OsString::from_vec(
        bytes.iter().flat_map(|byte| [*byte].repeat(1 + usize::from(*byte == b'$'))).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_model::digest::Digest;

    const FOLDER: &str = "/data/$runs/r";

    fn words(isolation: Isolation, program: &str) -> Vec<String> {
        let run = RunId(Digest::of(b"a run"));
        let folder = Path::new(FOLDER);
        let (launch, grace) = (3, Duration::from_secs(20));
        let program = Path::new(program);
        let command =
            isolation.command(&Supervisor { program, folder, run, launch, grace, title: "ad 1" });
        let all = std::iter::once(command.get_program()).chain(command.get_args());
        all.map(|word| word.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_session_is_the_program_itself() {
        let expected = ["/proc/self/exe", "supervise", FOLDER, "3"];
        assert_eq!(words(Isolation::Session, "/proc/self/exe"), expected);
    }

    #[test]
    fn a_unit_hands_the_lock_over_and_tells_its_supervisor_alone_to_end() {
        let words = words(Isolation::Unit, "/proc/self/exe");
        assert_eq!(words[0], SYSTEMD_RUN);
        for needed in ["--pipe", "--wait", "--collect", "--property=KillMode=mixed"] {
            assert!(words.iter().any(|word| word == needed), "{needed} in {words:?}");
        }
        // Grace and margin: systemd's KILL comes after the supervisor's own.
        assert!(words.contains(&"--property=TimeoutStopSec=50".to_owned()), "{words:?}");
        let unit = format!("--unit=muster-run-{}-3", RunId(Digest::of(b"a run")));
        assert!(words.contains(&unit), "{unit} in {words:?}");
    }

    #[test]
    fn systemd_finds_the_agents_own_program_through_the_agent() {
        let named = words(Isolation::Unit, "/opt/muster");
        assert_eq!(named[named.len() - 4], "/opt/muster");
        let words = words(Isolation::Unit, "/proc/self/exe");
        let own = format!("/proc/{}/exe", std::process::id());
        assert_eq!(words[words.len() - 4..], [&own, "supervise", "/data/$$runs/r", "3"]);
    }
}
