//! How the agent comes to run as another version, and back.
//!
//! ```text
//! agent run (installed) -- a release stands --> executed in its place, under the same pid
//!        |  a release is on trial, or is to be
//!        v
//!   keeps watch: starts the release as its child
//!        |  the site answers it          the child is ended, the release executed in this place
//!        \  it ends three times, or says nothing for `upgradeTrial` while the site can be reached:
//!           it is ended, and the version before executed in this place
//! ```
//!
//! Who keeps watch is the version before: what decides whether a release returns is nothing that came
//! with it. A release may crash, hang, or not execute at all. The pid stays, so any service manager,
//! and any shell, goes on with the process that it started. Runs have supervisors of their own and
//! notice none of this.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use muster_agent_core::versions::{Event, Phase, Release, STARTS_MAX, Versions};
use muster_host::lock::{FolderLock, LockError};
use muster_host::role::{self, RoleError};
use muster_model::clock::Elapsed;
use muster_model::digest::Digest;
use rustix::process::{
    Pid, Signal, WaitOptions, getppid, kill_process, set_parent_process_death_signal, waitpid,
};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::chain_of;
use crate::identity::Identity;
use crate::versions::{
    self, INSTALLED, RELEASE_VARIABLE, VERSIONS_DIR, VersionsError, own_release,
};

/// By this variable a release on trial is told the process that keeps watch over it.
const KEEPER_VARIABLE: &str = "MUSTER_KEEPER";
/// How often whoever keeps watch looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long an agent has to end when it is told to, before it is killed: it writes what it has and
/// goes; nothing depends on a clean end.
const END_MOST: Duration = Duration::from_secs(10);
/// The pause before a release that ended by itself is started again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long the site's address has to take a connection.
const CONNECT_MOST: Duration = Duration::from_secs(2);
/// How often it is asked.
const CONNECT_EVERY: Duration = Duration::from_secs(1);
/// The children of this thread, which is the only one yet (proc(5)).
const OWN_CHILDREN: &str = "/proc/thread-self/children";
/// Whoever waits for children does nothing else.
const HEIRS_STACK_BYTES: usize = 64 * 1024;
/// What one look adds to the time of a trial at most: a machine that slept was not reached meanwhile.
const COUNTED_MOST: Duration = Duration::from_secs(5);

/// A version could not be started, or not be watched.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The versions.
    #[error("failed to learn or change which version stands")]
    Versions(#[from] VersionsError),
    /// Another process keeps watch.
    #[error("failed to keep watch over a release on trial")]
    Lock(#[from] LockError),
    /// Signals, or the clock.
    #[error("failed to keep watch over a release on trial")]
    Role(#[from] RoleError),
    /// The runtime.
    #[error("failed to start the runtime")]
    Runtime(#[source] io::Error),
    /// The program could not be executed.
    #[error("failed to execute version {version} of the agent")]
    Execute {
        /// Which.
        version: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Whoever started this release to keep watch over it has gone.
    #[error("the process {0} that keeps watch over this release is not there any more")]
    Abandoned(i32),
}

/// How a watch ended.
enum Watched {
    /// Somebody told the agent to stop: the trial goes on at the next start.
    Stopped,
    /// The trial is over, one way or the other.
    Over,
}

/// What the process that was started as `agent run` is to be. Answers if it is to be the agent itself;
/// executes another version in its place if that one stands, and then does not return. `Ok(false)`: it
/// kept watch over a trial until it was told to stop.
pub(crate) fn begin(data: &Path) -> Result<bool, TrialError> {
    wait_for_heirs();
    if own_release().is_some() {
        follow_keeper()?;
        return Ok(true);
    }
    let versions = versions::load(data)?;
    if matches!(versions.phase, Phase::OnTrial { .. }) {
        return keep(data);
    }
    let Some(current) = versions.current else { return Ok(true) };
    if current.over != INSTALLED {
        tracing::info!(left = %current.version, "the installed program is another one by now");
    } else if !versions::is_sound(data, &current) {
        tracing::error!(version = %current.version, "its program is damaged; the installed one goes on");
    } else {
        let failed = execute(data, Some(&current));
        tracing::error!(why = %chain_of(&failed), "the installed program goes on");
    }
    versions::change(data, Event::Dropped)?;
    Ok(true)
}

/// Keeps watch over the release on trial until that is over, then executes what stands in this place.
/// Returns only if told to stop (`false`), or on an error. The agent of this process must have ended.
pub(crate) fn keep(data: &Path) -> Result<bool, TrialError> {
    let lock = FolderLock::take(&data.join(VERSIONS_DIR), "agent run, on trial")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(TrialError::Runtime)?;
    let watched = runtime.block_on(watch(data));
    drop(runtime);
    drop(lock);
    let current = versions::load(data)?.current;
    match watched? {
        // Whoever asked in the last moment would be heard by nobody: the program that is executed begins
        // without it.
        Watched::Over if !role::asked_to_stop() => Err(execute(data, current.as_ref())),
        Watched::Over | Watched::Stopped => Ok(false),
    }
}

/// Executes a release in the place of this process, or, with `None`, this very program as the one that
/// was installed. Returns only what went wrong.
fn execute(data: &Path, release: Option<&Release>) -> TrialError {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_else(|| "muster".into());
    let program = match release {
        Some(release) => versions::program(data, release.manifest),
        None => crate::run::OWN_PROGRAM.into(),
    };
    let mut command = std::process::Command::new(program);
    command.arg0(name).args(words).env_remove(KEEPER_VARIABLE);
    match release {
        Some(release) => command.env(RELEASE_VARIABLE, release.manifest.to_string()),
        None => command.env_remove(RELEASE_VARIABLE),
    };
    let version = release.map_or(INSTALLED, |release| &release.version).to_owned();
    tracing::info!(%version, "executed in this place");
    TrialError::Execute { version, source: command.exec() }
}

/// Supervisors that the program before this one started in this process are its children still: somebody
/// has to wait for them, or they stay in the table of processes. A thread does, if there are any.
fn wait_for_heirs() {
    let listed = std::fs::read_to_string(OWN_CHILDREN).unwrap_or_default();
    let heirs: Vec<Pid> =
        listed.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect();
    if heirs.is_empty() {
        return;
    }
    let waiter = std::thread::Builder::new().name("heirs".to_owned()).stack_size(HEIRS_STACK_BYTES);
    let waits = waiter.spawn(move || {
        for heir in heirs {
            let _ = waitpid(Some(heir), WaitOptions::empty());
        }
    });
    if let Err(error) = waits {
        tracing::debug!(%error, "nobody waits for the supervisors of before");
    }
}

/// A release on trial ends with whoever keeps watch over it: two agents would fight for the folder.
fn follow_keeper() -> Result<(), TrialError> {
    let keeper = std::env::var(KEEPER_VARIABLE).ok().and_then(|pid| pid.parse::<i32>().ok());
    let Some(keeper) = keeper else { return Ok(()) };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        tracing::warn!(%error, "this release may outlive whoever keeps watch over it");
    }
    match getppid().map(Pid::as_raw_pid) == Some(keeper) {
        true => Ok(()),
        false => Err(TrialError::Abandoned(keeper)),
    }
}

async fn watch(data: &Path) -> Result<Watched, TrialError> {
    let stop = role::stop_on_signals()?;
    let clock = muster_host::clock::Clock::from_env().map_err(RoleError::from)?;
    let mut reach = Reach::of(data);
    loop {
        let versions = versions::change(data, Event::Start)?;
        let Phase::OnTrial { release, trial, starts } = versions.phase else {
            return Ok(Watched::Over);
        };
        tracing::info!(version = %release.version, starts, "a release is on trial");
        if !versions::is_sound(data, &release) {
            return give_up(data, "its program is damaged".to_owned());
        }
        let mut child = match spawn(data, &release) {
            Ok(child) => child,
            Err(error) => return give_up(data, format!("it cannot be executed: {error}")),
        };
        let ended = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    end(&mut child).await;
                    return Ok(Watched::Stopped);
                }
                ended = child.wait() => break ended,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if is_over(data, release.manifest)? {
                end(&mut child).await;
                return Ok(Watched::Over);
            }
            if reach.counted(clock.elapsed()).await >= trial.duration() {
                end(&mut child).await;
                return give_up(data, format!("it did not reach the site within {trial}"));
            }
        };
        if let Some(over) = ended_by_itself(data, ended, starts)? {
            return Ok(over);
        }
        if pause(&stop).await {
            return Ok(Watched::Stopped);
        }
    }
}

/// The release has ended without being told to.
fn ended_by_itself(
    data: &Path,
    ended: io::Result<ExitStatus>,
    starts: u32,
) -> Result<Option<Watched>, TrialError> {
    let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
    tracing::warn!(%how, "the release on trial has ended");
    match starts < STARTS_MAX {
        true => Ok(None),
        false => {
            give_up(data, format!("it ended by itself {starts} times, last with {how}")).map(Some)
        }
    }
}

/// Waits a little; true if somebody told the agent to stop meanwhile.
async fn pause(stop: &CancellationToken) -> bool {
    tokio::time::timeout(AGAIN_AFTER, stop.cancelled()).await.is_ok()
}

/// The release has had its chance, unless it passed in the last moment: it does not live any more, so
/// nobody else changes the file.
fn give_up(data: &Path, why: String) -> Result<Watched, TrialError> {
    tracing::warn!(%why, "the version before returns");
    versions::change(data, Event::GaveUp { why })?;
    Ok(Watched::Over)
}

fn is_over(data: &Path, manifest: Digest) -> Result<bool, VersionsError> {
    let Versions { phase, .. } = versions::load(data)?;
    Ok(!matches!(phase, Phase::OnTrial { release, .. } if release.manifest == manifest))
}

fn spawn(data: &Path, release: &Release) -> io::Result<Child> {
    let program = versions::program(data, release.manifest);
    let mut command = Command::new(program);
    command
        .args(std::env::args_os().skip(1))
        .env(RELEASE_VARIABLE, release.manifest.to_string())
        .env(KEEPER_VARIABLE, std::process::id().to_string())
        .kill_on_drop(true);
    command.spawn()
}

/// Tells the release to end, and sees to it that it does.
async fn end(child: &mut Child) {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(END_MOST, child.wait()).await.is_err() {
        tracing::warn!("the release on trial does not end; it is killed");
        let _ = child.kill().await;
    }
}

/// How long the site could be reached: without a network the version before would not reach it either.
struct Reach {
    /// Host and port of the address that the device was enrolled with; `None` if that cannot be told,
    /// and then all time counts.
    address: Option<(String, u16)>,
    asked: Option<Elapsed>,
    reached: bool,
    counted: Duration,
}

impl Reach {
    fn of(data: &Path) -> Self {
        let url = Identity::load(data).ok().flatten().map(|identity| identity.site_url);
        let address = url.and_then(|url| {
            let url = reqwest::Url::parse(&url).ok()?;
            Some((url.host_str()?.to_owned(), url.port_or_known_default()?))
        });
        Self { address, asked: None, reached: false, counted: Duration::ZERO }
    }

    /// What counts by `now`: the time between two looks at which the site's address took a connection.
    async fn counted(&mut self, now: Elapsed) -> Duration {
        let since = self.asked.map(|asked| now.since(asked));
        if since.is_some_and(|since| since < CONNECT_EVERY) {
            return self.counted;
        }
        let reached = self.is_reached().await;
        let before = std::mem::replace(&mut self.reached, reached);
        self.asked = Some(now);
        if before && self.reached {
            self.counted += since.unwrap_or_default().min(COUNTED_MOST);
        }
        self.counted
    }

    async fn is_reached(&self) -> bool {
        let Some((host, port)) = self.address.clone() else { return true };
        let connect = tokio::net::TcpStream::connect((host, port));
        matches!(tokio::time::timeout(CONNECT_MOST, connect).await, Ok(Ok(_)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::{Ipv4Addr, SocketAddr, TcpListener};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    /// A loopback address of this test's own: nobody takes the port while the site is away.
    const OWN: Ipv4Addr = Ipv4Addr::new(127, 0, 49, 1);

    /// Looks once a second of the boot clock, from `from` on; answers what counts after the last.
    async fn look(reach: &mut Reach, from: u32, times: u32) -> u64 {
        let mut counted = Duration::ZERO;
        for second in from..from + times {
            counted = reach.counted(Elapsed::default().plus(SECOND * second)).await;
        }
        counted.as_secs()
    }

    #[tokio::test]
    async fn only_time_in_which_the_site_took_connections_counts_against_a_release() {
        let site = TcpListener::bind((OWN, 0)).unwrap();
        let SocketAddr::V4(at) = site.local_addr().unwrap() else { panic!("it is IPv4") };
        let address = Some((at.ip().to_string(), at.port()));
        let mut reach = Reach { address, asked: None, reached: false, counted: Duration::ZERO };
        assert_eq!(look(&mut reach, 0, 4).await, 3);
        drop(site);
        assert_eq!(look(&mut reach, 4, 100).await, 3, "nobody could reach it");
        let _site = TcpListener::bind(at).unwrap();
        assert_eq!(look(&mut reach, 104, 3).await, 5, "from the first connection on");
    }

    #[tokio::test]
    async fn a_machine_that_slept_loses_little_of_its_trial() {
        let mut reach =
            Reach { address: None, asked: None, reached: false, counted: Duration::ZERO };
        look(&mut reach, 0, 1).await;
        assert_eq!(look(&mut reach, 3_600, 1).await, COUNTED_MOST.as_secs());
    }
}
