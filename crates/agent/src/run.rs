//! `agent run`: opens what the device keeps, connects it, and lets the driver run until it is told to
//! stop. Listens on no network.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use muster_agent_core as core;
use muster_host::clock::Clock;
use muster_host::failpoint::Role;
use muster_host::lock::{FolderLock, LockError};
use muster_host::publish::{self, PublishError};
use muster_host::quota::{MeasureError, Quota, folder_bytes};
use muster_host::role::{self, RoleError};
use muster_host::run_file::RunFileError;
use muster_model::clock::TrustedTime;
use muster_model::digest::Digest;
use muster_model::id::DeviceId;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::conditions::Conditions;
use crate::config::{Config, ConfigError};
use crate::contents::Contents;
use crate::driver::{Driver, DriverError, Ended, Isolation, Packages, Setup};
use crate::env::Surroundings;
use crate::first_boot::{self, FirstBootError};
use crate::identity::{Enrolment, Identity, IdentityError};
use crate::memory::{self, Memory, MemoryError};
use crate::renewal;
use crate::sessions::Sessions;
use crate::shown::Shown;
use crate::transport::{Transport, TransportError, TrustedClock};
use crate::trial::{self, TrialError};
use crate::trust_store::{TrustError, TrustStore};
use crate::versions;

/// Threads for what blocks: unpacking, detection, looks at the disk. Two packages are never unpacked at
/// once but for a detection beside a run.
const BLOCKING_THREADS_MAX: usize = 4;
/// How long the end waits for what blocks. It is taken up again at the next start.
const END_MOST: Duration = Duration::from_secs(1);
/// What is told of a memory that the site has more of than the device.
const PUT_BACK: &str = "the machine was put back to a snapshot: the site has another history of it";
/// What a supervisor is started from: this program, also after its file has been replaced.
pub(crate) const OWN_PROGRAM: &str = "/proc/self/exe";

/// What `agent run` is told.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The agent's folder.
    pub data: PathBuf,
    /// The program to start as a supervisor; `None` is this one.
    pub supervisor: Option<PathBuf>,
    /// A file that says who is logged on, for this time; `None` is what the device was enrolled with.
    pub session_source: Option<PathBuf>,
}

/// `DATA/run/agent.json`, while the agent runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentFile {
    /// The agent's process.
    pub pid: u32,
    /// Who it is.
    pub device: DeviceId,
    /// The name it was enrolled under.
    pub name: String,
    /// What last went wrong with the site, if it still does.
    #[serde(default)]
    pub trouble: Vec<String>,
    /// The file that says who is logged on, if the system does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_source: Option<PathBuf>,
    /// Software distribution is held still: nothing new starts.
    #[serde(default)]
    pub paused: bool,
    /// The version of the agent that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The release that it is; absent if it is the program that was installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Digest>,
}

/// The agent could not run, or not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The role could not begin.
    #[error("failed to begin")]
    Role(#[from] RoleError),
    /// The folder could not be used.
    #[error("failed to open the agent's folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another agent runs on the folder.
    #[error("failed to use the agent's folder")]
    Lock(#[from] LockError),
    /// The settings.
    #[error("failed to learn how the device is set up")]
    Config(#[from] ConfigError),
    /// The identity.
    #[error("failed to learn who the device is")]
    Identity(#[from] IdentityError),
    /// The first boot.
    #[error("failed to come to an identity")]
    FirstBoot(#[from] FirstBootError),
    /// The memory.
    #[error("failed to remember")]
    Memory(#[from] MemoryError),
    /// The trust.
    #[error("failed to learn whom the device trusts")]
    Trust(#[from] TrustError),
    /// The way to the site.
    #[error("failed to prepare the way to the site")]
    Transport(#[from] TransportError),
    /// The content.
    #[error("failed to open the content")]
    Contents(#[from] PublishError),
    /// The quota.
    #[error("failed to learn how much of the quota is in use")]
    Quota(#[from] MeasureError),
    /// The run file.
    #[error("failed to show that the agent runs")]
    RunFile(#[from] RunFileError),
    /// The runtime.
    #[error("failed to start the runtime")]
    Runtime(#[source] io::Error),
    /// Another version of the agent.
    #[error("failed to go on as another version of the agent")]
    Trial(#[from] TrialError),
    /// The driver.
    #[error("the agent ended")]
    Driver(#[from] DriverError),
}

/// Runs the agent of `options.data` until SIGTERM or SIGINT, as the version that stands there: this
/// process may become another program. Blocks, and must not be called from within an asynchronous
/// runtime: the agent's is of one thread.
pub fn run(options: RunOptions) -> Result<(), RunError> {
    let clock = role::begin(Role::Agent)?;
    let data = std::fs::canonicalize(&options.data)
        .map_err(|source| RunError::Folder { path: options.data, source })?;
    if !trial::begin(&data)? {
        return Ok(());
    }
    let lock = FolderLock::take(&data, "agent run")?;
    let requests = data.join(crate::requests::REQUESTS_DIR);
    for folder in [data.clone(), data.join("run"), data.join(crate::RUNS_DIR), requests] {
        publish::create_private_dir(&folder)?;
        publish::remove_stale_drafts(&folder)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(RunError::Runtime)?;
    let supervisor = options.supervisor.unwrap_or_else(|| OWN_PROGRAM.into());
    let sessions = options.session_source;
    let ended = runtime.block_on(run_in(data.clone(), supervisor, sessions, clock));
    runtime.shutdown_timeout(END_MOST);
    drop(lock);
    match ended? {
        Ended::Stopped | Ended::PutBack(_) => Ok(()),
        Ended::TakenUp => Ok(trial::keep(&data).map(drop)?),
    }
}

/// Runs one life of the device's memory after the other: a machine that was put back begins the next.
async fn run_in(
    data: PathBuf,
    supervisor: PathBuf,
    session_source: Option<PathBuf>,
    clock: Clock,
) -> Result<Ended, RunError> {
    let stop = role::stop_on_signals()?;
    loop {
        let (data, supervisor, clock) = (data.clone(), supervisor.clone(), clock.clone());
        let ended = live(data, supervisor, session_source.clone(), clock, stop.clone()).await?;
        let Ended::PutBack(_) = ended else { return Ok(ended) };
    }
}

async fn live(
    data: PathBuf,
    supervisor: PathBuf,
    session_source: Option<PathBuf>,
    clock: Clock,
    stop: CancellationToken,
) -> Result<Ended, RunError> {
    if !first_boot::enrol(&data, &clock, &stop).await? {
        return Ok(Ended::Stopped);
    }
    let (identity, enrolment) = Identity::load_enrolled(&data)?;
    let mut config = Config::load(&data)?;
    config.session_source = session_source.or(config.session_source);
    let shown = AgentFile {
        pid: std::process::id(),
        device: enrolment.device,
        name: identity.name.to_string(),
        trouble: Vec::new(),
        session_source: config.session_source.clone(),
        paused: false,
        version: Some(versions::running(&data)),
        release: versions::own_release(),
    };
    let shown = Shown::publish(&data, shown)?;
    let trust = TrustStore::load(&data, identity.trust_pin)?;
    let time = TrustedClock::new(clock.clone(), TrustedTime::default());
    let connect = |enrolment: &Enrolment| {
        let (trust, time) = (trust.clone(), time.clone());
        Transport::new(&identity, enrolment, trust, time, config.settings.clone())
    };
    let Some(memory) = remember(&data, &connect(&enrolment)?, &stop).await? else {
        return Ok(Ended::Stopped);
    };
    resume_time(&time, &clock, &memory);
    // The incarnation may be another one by now.
    let (identity, enrolment) = Identity::load_enrolled(&data)?;
    let transport =
        Transport::new(&identity, &enrolment, trust.clone(), time, config.settings.clone())?;
    transport.expect_trust(memory.saved.policy.as_ref().map_or(0, |policy| policy.trust));
    let setup =
        set_up(data.clone(), supervisor, clock, identity, &enrolment, config, trust, transport)?;
    let core = core::Identity {
        device: memory.owner.device,
        incarnation: memory.owner.incarnation,
        fresh_incarnation_because: memory.owner.because.clone(),
        salvaged: memory.owner.salvaged.clone(),
    };
    let renewing = setup.transport.clone();
    let driver = Driver::new(setup, core, memory.journal, memory.saved, shown);
    let ended = tokio::select! {
        ended = driver.run(stop.clone()) => ended?,
        error = renewal::keep(&data, &renewing) => return Err(error.into()),
    };
    if let Ended::PutBack(life) = ended {
        tracing::warn!("{PUT_BACK}");
        memory::give_up(&data, life, PUT_BACK)?;
    }
    Ok(ended)
}

/// Opens the memory. If it was lost and no incarnation is left, the site is asked for one first: until
/// then the device starts nothing, and says nothing.
async fn remember(
    data: &Path,
    transport: &Transport,
    stop: &CancellationToken,
) -> Result<Option<Memory>, RunError> {
    loop {
        match memory::open(data) {
            Ok(memory) => return Ok(Some(memory)),
            Err(error @ MemoryError::NoIncarnation { .. }) => {
                tracing::error!(why = %crate::chain_of(&error), "asking the site");
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            renewed = renewal::once(data, transport) => renewed?,
        }
    }
}

/// Goes on with the trusted time that the memory holds.
fn resume_time(time: &TrustedClock, clock: &Clock, memory: &Memory) {
    let Some(saved) = &memory.saved.memory else { return };
    let mut resumed = saved.time;
    if saved.boot != *clock.boot_id() {
        resumed.rebooted(saved.last_known, clock.now());
    }
    time.resume(resumed);
}

#[expect(clippy::too_many_arguments, reason = "each is opened on its own before")]
fn set_up(
    data: PathBuf,
    supervisor: PathBuf,
    clock: Clock,
    identity: Identity,
    enrolment: &Enrolment,
    config: Config,
    trust: TrustStore,
    transport: Transport,
) -> Result<Setup, RunError> {
    let quota = match config.quota {
        Some(limit) => Some(Arc::new(Quota::new(limit, folder_bytes(&data)?))),
        None => None,
    };
    let (root, sessions) = (config.root.clone(), Sessions::of(config.session_source.clone()));
    Ok(Setup {
        contents: Contents::open(&data, quota.clone())?,
        packages: Packages::default(),
        conditions: Conditions::new(data.clone(), root.clone(), quota.clone(), sessions.clone()),
        sessions,
        quota,
        surroundings: Surroundings::of(enrolment.device, identity.name.clone(), root),
        name: identity.name,
        data,
        supervisor,
        isolation: Isolation::of_this_machine(),
        clock,
        config,
        transport,
        trust,
    })
}
