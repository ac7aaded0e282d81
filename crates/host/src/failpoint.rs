//! Failpoints: a process dies at exactly the durable point that an outside test names.
//!
//! `MUSTER_FAILPOINT=name[:before|after][:nth]` arms one point of one process, e.g.
//! `journal.commit:after:3`; when the point is reached the n-th time the process kills itself with
//! SIGKILL, as a power cut would. Compiled into every build, inert unless armed (one load), so what
//! is tested is what is shipped. Each role calls [`arm_from_env`] first thing.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clock::from_env;

/// The environment variable that arms a failpoint.
pub const FAILPOINT_VARIABLE: &str = "MUSTER_FAILPOINT";

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal;)*) => {
        /// A durable point: where a state becomes durable, or an effect that must not be lost or
        /// doubled takes place. One line here per point; [`Point::ALL`] and the tests follow.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum Point {
            $($(#[$doc])* $point,)*
        }

        impl Point {
            /// Every durable point of every role.
            pub const ALL: &'static [Point] = &[$(Point::$point,)*];

            /// The name that arms it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Point::$point => $name,)*
                }
            }
        }
    };
}

points! {
    /// Any role: a draft takes its target's place.
    PublishRename = "publish.rename";
    /// Any role: a draft or a file takes a name that must be new.
    PublishLink = "publish.link";
    /// Any role: a file is removed.
    PublishRemove = "publish.remove";
    /// Agent: a state change and its message are committed to the journal.
    JournalCommit = "journal.commit";
    /// Agent: a supervisor is started for an armed run.
    RunLaunch = "run.launch";
    /// Supervisor: `entered` is saved, right before exec.
    SupervisorEntered = "supervisor.entered";
    /// Supervisor: `exit` is saved, right after the program's end.
    SupervisorExit = "supervisor.exit";
    /// Agent: what enrolment or renewal returned is saved.
    IdentitySave = "identity.save";
    /// Site: a batch of messages, its effects and its receipt are committed.
    MessagesCommit = "messages.commit";
    /// Site: a change and its revision are committed.
    RevisionCommit = "revision.commit";
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FailpointError {
    /// No point has this name.
    #[error(
        "failed to arm a failpoint: {FAILPOINT_VARIABLE} names {0:?}, which is no durable point"
    )]
    UnknownPoint(String),
    /// What follows the name is not understood.
    #[error(
        "failed to arm a failpoint: {FAILPOINT_VARIABLE} is written name[:before|after][:nth], not {0:?}"
    )]
    Malformed(String),
}

/// An armed failpoint and how often it was reached.
#[derive(Debug)]
pub struct Armed {
    point: Point,
    when: When,
    nth: u64,
    reached: AtomicU64,
}

impl FromStr for Armed {
    type Err = FailpointError;
    fn from_str(text: &str) -> Result<Self, FailpointError> {
        let malformed = || FailpointError::Malformed(text.to_owned());
        let mut parts = text.split(':').peekable();
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

static ARMED: OnceLock<Armed> = OnceLock::new();

/// Arms the failpoint that the environment names, if any; tells which. A second call keeps the
/// first one's.
pub fn arm_from_env() -> Result<Option<Point>, FailpointError> {
    let Some(text) = from_env(FAILPOINT_VARIABLE).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let armed: Armed = text.parse()?;
    Ok(Some(ARMED.get_or_init(|| armed).point))
}

/// To be called on both sides of a durable point. Returns, unless this visit is the armed one.
#[inline]
pub fn hit(point: Point, when: When) {
    if let Some(armed) = ARMED.get()
        && armed.fires(point, when)
    {
        die();
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
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "failpoint::tests::visits_a_point_thrice", "--ignored"]);
        child.env(FAILPOINT_VARIABLE, failpoint).output().unwrap().status
    }

    #[test]
    #[ignore = "is the child process of the other tests"]
    fn visits_a_point_thrice() {
        arm_from_env().unwrap();
        for _ in 0..3 {
            hit(Point::JournalCommit, When::Before);
            hit(Point::JournalCommit, When::After);
        }
    }

    #[test]
    fn the_armed_visit_kills_the_process() {
        for fatal in ["journal.commit", "journal.commit:after", "journal.commit:after:3"] {
            assert_eq!(child(fatal).signal(), Some(Signal::SIGKILL as i32), "{fatal}");
        }
    }

    #[test]
    fn other_points_and_later_visits_do_not() {
        for harmless in ["", "journal.commit:after:4", "run.launch"] {
            assert_eq!(child(harmless).code(), Some(0), "{harmless}");
        }
    }

    #[test]
    fn a_misspelt_failpoint_is_an_error() {
        let refused = |text: &str| text.parse::<Armed>().unwrap_err();
        assert_eq!(refused("jounal.commit"), FailpointError::UnknownPoint("jounal.commit".into()));
        for text in ["run.launch:never", "run.launch:after:0", "run.launch:after:1:2"] {
            assert_eq!(refused(text), FailpointError::Malformed(text.into()));
        }
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = Point::ALL.iter().map(|p| p.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
    }
}
