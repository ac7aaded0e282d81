//! Failpoints: a process dies at exactly the durable point that an outside test names.
//!
//! `MUSTER_FAILPOINT=[role/]name[:before|after][:nth]` arms one point, of whatever process inherits it
//! or only of one that plays the role, e.g. `agent/journal.commit:after:3`; when the point is reached
//! the n-th time the process kills itself with SIGKILL, as a power cut would. `MUSTER_FAILPOINT_TRACE`
//! names a file to which every visit is appended, so that a test can find out how often each point
//! comes by in a scenario and then kill at every visit. Compiled into every build, inert unless one of
//! them is set (one load), so what is tested is what is shipped. Each role calls [`arm_from_env`]
//! first thing.

mod point;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub use point::Point;

use crate::clock::from_env;
use crate::publish::PRIVATE_FILE;

/// The environment variable that arms a failpoint.
pub const FAILPOINT_VARIABLE: &str = "MUSTER_FAILPOINT";
/// The environment variable that names the file of visits: a line `ROLE PID NAME SIDE TIME` each,
/// the time in microseconds since the process was armed.
pub const TRACE_VARIABLE: &str = "MUSTER_FAILPOINT_TRACE";

/// What the process is that visits durable points.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// `agent run`, `agent enroll` and `agent leave`.
    Agent,
    /// The supervisor of one run.
    Supervisor,
    /// `site run`.
    Site,
}

impl Role {
    const ALL: [Role; 3] = [Role::Agent, Role::Supervisor, Role::Site];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Agent => "agent",
            Role::Supervisor => "supervisor",
            Role::Site => "site",
        })
    }
}

/// The side of a durable point.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum When {
    /// Nothing of it has happened.
    Before,
    /// It has happened, and nobody has been told.
    After,
}

/// A value of `MUSTER_FAILPOINT` that names no failpoint.
#[derive(Debug, thiserror::Error)]
pub enum FailpointError {
    /// No point has this name.
    #[error(
        "failed to arm a failpoint: {FAILPOINT_VARIABLE} names {0:?}, which is no durable point"
    )]
    UnknownPoint(String),
    /// No process plays this role.
    #[error(
        "failed to arm a failpoint: {FAILPOINT_VARIABLE} names the role {0:?}, which nobody plays"
    )]
    UnknownRole(String),
    /// What follows the name is not understood.
    #[error(
        "failed to arm a failpoint: {FAILPOINT_VARIABLE} is written [role/]name[:before|after][:nth], not {0:?}"
    )]
    Malformed(String),
    /// The file of visits cannot be written to.
    #[error("failed to open {path:?}, which {TRACE_VARIABLE} names")]
    Trace {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// An armed failpoint and how often it was reached.
#[derive(Debug)]
pub struct Armed {
    role: Option<Role>,
    point: Point,
    when: When,
    nth: u64,
    reached: AtomicU64,
}

impl FromStr for Armed {
    type Err = FailpointError;
    fn from_str(text: &str) -> Result<Self, FailpointError> {
        let malformed = || FailpointError::Malformed(text.to_owned());
        let (role, rest) = match text.split_once('/') {
            Some((role, rest)) => {
                let known = Role::ALL.into_iter().find(|known| known.to_string() == role);
                (Some(known.ok_or_else(|| FailpointError::UnknownRole(role.to_owned()))?), rest)
            }
            None => (None, text),
        };
        let mut parts = rest.split(':').peekable();
        let name = parts.next().unwrap_or_default();
        let point = Point::ALL.iter().copied().find(|point| point.name() == name);
        let point = point.ok_or_else(|| FailpointError::UnknownPoint(name.to_owned()))?;
        let when = match parts.peek() {
            Some(&"before") => parts.next().map(|_| When::Before),
            Some(&"after") => parts.next().map(|_| When::After),
            _ => None,
        };
        let nth = match parts.next() {
            Some(nth) => nth.parse().ok().filter(|nth| *nth > 0).ok_or_else(malformed)?,
            None => 1,
        };
        match parts.next() {
            Some(_) => Err(malformed()),
            None => Ok(Self {
                role,
                point,
                when: when.unwrap_or(When::Before),
                nth,
                reached: AtomicU64::new(0),
            }),
        }
    }
}

impl Armed {
    /// Counts this visit; tells whether it is the one to die at.
    fn fires(&self, point: Point, when: When) -> bool {
        (self.point, self.when) == (point, when)
            && self.reached.fetch_add(1, Ordering::Relaxed) + 1 == self.nth
    }
}

/// What this process does at its durable points, if anything.
#[derive(Debug)]
struct Watch {
    role: Role,
    armed: Option<Armed>,
    trace: Option<File>,
    since: Instant,
}

impl Watch {
    fn visit(&self, point: Point, when: When) {
        if let Some(mut trace) = self.trace.as_ref() {
            let side = if when == When::Before { "before" } else { "after" };
            let (role, pid, time) =
                (self.role, std::process::id(), self.since.elapsed().as_micros());
            let line = format!("{role} {pid} {point} {side} {time}\n");
            // One write, so that lines of several processes never mix. A test misses what is missing.
            let _ = trace.write_all(line.as_bytes());
        }
        if let Some(armed) = &self.armed
            && armed.fires(point, when)
        {
            die();
        }
    }
}

static WATCH: OnceLock<Watch> = OnceLock::new();

/// Arms the failpoint that the environment names, if any, for this process, which plays `role`; tells
/// which. A second call keeps the first one's.
pub fn arm_from_env(role: Role) -> Result<Option<Point>, FailpointError> {
    let set = |name| from_env(name).filter(|text| !text.is_empty());
    let armed = set(FAILPOINT_VARIABLE).map(|text| text.parse::<Armed>()).transpose()?;
    let armed = armed.filter(|armed| armed.role.is_none_or(|only| only == role));
    let trace = set(TRACE_VARIABLE).map(open_trace).transpose()?;
    if armed.is_none() && trace.is_none() {
        return Ok(None);
    }
    let watch = WATCH.get_or_init(|| Watch { role, armed, trace, since: Instant::now() });
    Ok(watch.armed.as_ref().map(|armed| armed.point))
}

fn open_trace(path: String) -> Result<File, FailpointError> {
    let opened = OpenOptions::new().create(true).append(true).mode(PRIVATE_FILE).open(&path);
    opened.map_err(|source| FailpointError::Trace { path, source })
}

/// To be called on both sides of a durable point. Returns, unless this visit is the armed one.
#[inline]
pub fn hit(point: Point, when: When) {
    if let Some(watch) = WATCH.get() {
        watch.visit(point, when);
    }
}

/// Ends the process as a power cut would: no destructor, no flush, no handler.
#[cold]
fn die() -> ! {
    let _ = kill(Pid::this(), Signal::SIGKILL);
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, ExitStatus};

    fn child(failpoint: &str) -> ExitStatus {
        child_with(&[(FAILPOINT_VARIABLE, failpoint)])
    }

    fn child_with(variables: &[(&str, &str)]) -> ExitStatus {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "failpoint::tests::visits_a_point_thrice", "--ignored"]);
        child.envs(variables.iter().copied()).output().unwrap().status
    }

    #[test]
    #[ignore = "is the child process of the other tests"]
    fn visits_a_point_thrice() {
        arm_from_env(Role::Agent).unwrap();
        for _ in 0..3 {
            hit(Point::JournalCommit, When::Before);
            hit(Point::JournalCommit, When::After);
        }
    }

    #[test]
    fn the_armed_visit_kills_the_process() {
        for fatal in [
            "journal.commit",
            "journal.commit:after",
            "journal.commit:after:3",
            "agent/journal.commit",
        ] {
            assert_eq!(child(fatal).signal(), Some(Signal::SIGKILL as i32), "{fatal}");
        }
    }

    #[test]
    fn other_points_and_later_visits_do_not() {
        for harmless in ["", "journal.commit:after:4", "run.launch", "supervisor/journal.commit"] {
            assert_eq!(child(harmless).code(), Some(0), "{harmless}");
        }
    }

    #[test]
    fn every_visit_is_traced_to_the_one_that_kills() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("visits");
        let named = path.to_str().unwrap();
        let fatal = (FAILPOINT_VARIABLE, "journal.commit:after:2");
        assert!(child_with(&[fatal, (TRACE_VARIABLE, named)]).signal().is_some());
        let text = std::fs::read_to_string(&path).unwrap();
        let sides: Vec<_> = text.lines().map(|line| line.split(' ').collect::<Vec<_>>()).collect();
        assert!(sides.iter().all(|line| line[0] == "agent" && line[2] == "journal.commit"));
        let sides: Vec<_> = sides.iter().map(|line| line[3]).collect();
        assert_eq!(sides, ["before", "after", "before", "after"]);
    }

    #[test]
    fn a_misspelt_failpoint_is_an_error() {
        let refused = |text: &str| text.parse::<Armed>().unwrap_err();
        assert!(matches!(refused("jounal.commit"), FailpointError::UnknownPoint(_)));
        assert!(matches!(refused("baker/journal.commit"), FailpointError::UnknownRole(_)));
        for text in ["run.launch:never", "run.launch:after:0", "run.launch:after:1:2"] {
            assert!(matches!(refused(text), FailpointError::Malformed(_)), "{text}");
        }
    }
}
