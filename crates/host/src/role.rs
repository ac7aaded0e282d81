//! How every role begins and ends: log, failpoints, limits, clock; and signals that ask it to stop.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::clock::{Clock, ClockError, from_env};
use crate::failpoint::{self, FailpointError, Role};

/// What is logged: a level or a filter such as `info,muster_agent=debug`.
pub const LOG_VARIABLE: &str = "MUSTER_LOG";
const LOG_DEFAULT: &str = "info";
/// A role opens a file per connection; more than this many it never needs.
const FILES_MAX: u64 = 65_536;

/// A role could not begin.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// `MUSTER_LOG` is not understood.
    #[error("failed to set up the log: {LOG_VARIABLE} is {value:?}")]
    Log {
        /// Its value.
        value: String,
        /// What does not fit.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// A failpoint is misspelt.
    #[error("failed to start")]
    Failpoint(#[from] FailpointError),
    /// The clock could not be set up.
    #[error("failed to start")]
    Clock(#[from] ClockError),
    /// Signals could not be listened to.
    #[error("failed to listen to signals")]
    Signals(#[source] std::io::Error),
}

/// Begins `role` in this process: the log goes to stderr, a failpoint that the environment names is
/// armed, the limit of open files is raised as far as allowed. Answers the clock to use.
pub fn begin(role: Role) -> Result<Clock, RoleError> {
    init_log()?;
    if let Some(point) = failpoint::arm_from_env(role)? {
        tracing::warn!(%point, "a failpoint is armed");
    }
    raise_file_limit();
    Ok(Clock::from_env()?)
}

/// Whether this process was asked to stop, by a signal since the first [`stop_on_signals`]. For who leaves
/// one runtime and enters another, or another program: what comes in between is not lost.
pub fn asked_to_stop() -> bool {
    ASKED.get().is_some_and(|asked| asked.load(Ordering::SeqCst))
}

/// Set by the signals' handler.
static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

fn remember_signals() -> Result<(), RoleError> {
    let asked = Arc::new(AtomicBool::new(false));
    if ASKED.set(asked.clone()).is_ok() {
        for signal in [SIGTERM, SIGINT] {
            flag::register(signal, asked.clone()).map_err(RoleError::Signals)?;
        }
    }
    Ok(())
}

/// A token that SIGTERM or SIGINT cancels. A second signal ends the process at once, as a crash
/// would: nothing depends on a clean end. Needs a runtime.
pub fn stop_on_signals() -> Result<CancellationToken, RoleError> {
    remember_signals()?;
    let mut terminate = signal(SignalKind::terminate()).map_err(RoleError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RoleError::Signals)?;
    let stop = CancellationToken::new();
    if asked_to_stop() {
        stop.cancel();
    }
    let stopping = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stopping.is_cancelled() {
                let _ = kill(Pid::this(), Signal::SIGKILL);
            }
            tracing::info!("asked to stop");
            stopping.cancel();
        }
    });
    Ok(stop)
}

fn init_log() -> Result<(), RoleError> {
    let value = from_env(LOG_VARIABLE).unwrap_or_else(|| LOG_DEFAULT.to_owned());
    let filter = EnvFilter::try_new(&value);
    let filter = filter.map_err(|source| RoleError::Log { value, source })?;
    // A log that is set up already, by another role in this process, stays.
    let _ = tracing_subscriber::fmt()
        .compact()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    Ok(())
}

/// Not raising it is no reason not to start: connections are bounded by what is allowed.
fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let wanted = soft.max(hard.min(FILES_MAX));
        if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
            tracing::debug!(%error, "the limit of open files stays at {soft}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    #[tokio::test]
    #[ignore = "is the child process of the next test"]
    async fn runs_and_does_not_stop() {
        let stop = stop_on_signals().unwrap();
        println!("\nruns");
        stop.cancelled().await;
        println!("\nstops");
        std::future::pending().await
    }

    #[test]
    fn a_second_signal_ends_a_role_that_does_not_stop() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "role::tests::runs_and_does_not_stop", "--ignored", "--nocapture"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        for said in ["runs", "stops"] {
            assert!(lines.any(|line| line == said), "{said}");
            kill(pid, Signal::SIGTERM).unwrap();
        }
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::SIGKILL as i32));
    }

    #[tokio::test]
    async fn a_signal_asks_the_role_to_stop() {
        let stop = stop_on_signals().unwrap();
        assert!(!stop.is_cancelled());
        kill(Pid::this(), Signal::SIGTERM).unwrap();
        stop.cancelled().await;
    }
}
