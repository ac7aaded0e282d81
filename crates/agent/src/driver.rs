//! The driver: waits, hands one input at a time to the machine, saves what it decided, and only then
//! acts (law 1).
//!
//! ```text
//! letters, deadline, stop -> Agent::handle -> Journal::commit -> effects -> letters
//!                                                 | fails
//!                                                 v
//!                              the machine is dropped and restored from disk
//! ```
//!
//! One task, one thread: nothing else touches the journal or the machine. Effects that take time run in
//! tasks and threads of their own and answer by letter. Decides nothing: every "when" and "whether" is
//! the machine's. Dropping it at any moment loses nothing; programs go on under their supervisors.

mod content;
mod effects;
mod follow;
mod isolation;
mod launch;
mod local;
mod maintenance;
mod packages;
mod restart;
mod upgrade;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use muster_agent_core::input::Input;
use muster_agent_core::saved::Saved;
use muster_agent_core::{Agent, Identity};
use muster_host::clock::Clock;
use muster_host::quota::Quota;
use muster_model::clock::Elapsed;
use muster_model::digest::Digest;
use muster_model::facts::Facts;
use muster_model::id::Incarnation;
use muster_model::message::RunId;
use muster_model::name::Name;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::conditions::Conditions;
use crate::config::Config;
use crate::contents::Contents;
use crate::env::Surroundings;
use crate::journal::{Journal, JournalError};
use crate::link;
use crate::mailbox::{Letter, Mailbox, News};
use crate::nearby;
use crate::requests;
use crate::sessions::Sessions;
use crate::shown::Shown;
use crate::transport::Transport;
use crate::trust_store::TrustStore;
use crate::versions;

pub(crate) use isolation::{BOOTED, Isolation};
pub(crate) use packages::Packages;

/// The longest sleep: the timer stands still while the machine sleeps, the deadlines do not.
const SLEEP_MOST: Duration = Duration::from_secs(60);
/// A timer that overslept by more than this was in a machine that slept: the network is likely another.
const OVERSLEPT: Duration = Duration::from_secs(20);
/// The waits before a journal that failed is tried again.
const RECOVER_LEAST: Duration = Duration::from_secs(1);
const RECOVER_MOST: Duration = Duration::from_secs(60);

/// What does not change while the agent runs.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The agent's folder, absolute.
    pub(crate) data: PathBuf,
    /// The program that is started as a supervisor.
    pub(crate) supervisor: PathBuf,
    /// How runs are kept apart from the agent.
    pub(crate) isolation: Isolation,
    /// The clocks.
    pub(crate) clock: Clock,
    /// The device's name.
    pub(crate) name: Name,
    /// How the device is set up.
    pub(crate) config: Config,
    /// The way to the site.
    pub(crate) transport: Transport,
    /// Whom the device believes.
    pub(crate) trust: TrustStore,
    /// Packages' content.
    pub(crate) contents: Contents,
    /// The packages that content is kept of.
    pub(crate) packages: Packages,
    /// What runs may lack.
    pub(crate) conditions: Conditions,
    /// Who is logged on.
    pub(crate) sessions: Sessions,
    /// The most that the folder may take.
    pub(crate) quota: Option<Arc<Quota>>,
    /// What runs see.
    pub(crate) surroundings: Surroundings,
}

/// Why the agent ended, other than being asked to.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// A sync of the journal failed: what is on disk is unknown until it is read again.
    #[error("failed to keep the journal")]
    Journal(#[from] JournalError),
    /// Something else that must not be gone on with.
    #[error("failed to go on: {0}")]
    Fatal(String),
}

/// Why the driver ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to.
    Stopped,
    /// A release of the agent is to be started in its place.
    TakenUp,
    /// The machine was put back to a snapshot, and goes on in this life of its memory.
    PutBack(Incarnation),
}

/// The driver.
#[derive(Debug)]
pub(crate) struct Driver {
    setup: Arc<Setup>,
    identity: Identity,
    journal: Journal,
    agent: Agent,
    mailbox: Mailbox,
    letters: mpsc::Receiver<Letter>,
    tasks: JoinSet<()>,
    fetches: BTreeMap<Digest, AbortHandle>,
    /// Supervisors that are this process's own children.
    supervisors: BTreeMap<RunId, u32>,
    facts: Facts,
    zone: TimeZone,
    paused: bool,
    /// A newer program lies where this one was started from.
    upgrade_waits: bool,
    /// What is to follow instead of this life of the agent, if anything is.
    follows: Option<Ended>,
    shown: Shown,
    /// Who is logged on, as the machine was last told.
    users: Vec<String>,
    /// When the device was last looked at.
    looked: Elapsed,
    /// The request that is being taken.
    taking: Option<PathBuf>,
    /// A request that was taken and whose file could not be removed.
    stuck: Option<PathBuf>,
}

impl Driver {
    /// A driver over what the journal holds.
    pub(crate) fn new(
        setup: Setup,
        identity: Identity,
        journal: Journal,
        saved: Saved,
        shown: Shown,
    ) -> Self {
        let (mailbox, letters) = Mailbox::new();
        let facts = crate::facts::gather(&setup.data, &setup.name, &setup.config);
        setup.packages.restore(&saved);
        Self {
            agent: Agent::restore(&identity, saved)
                .standing_on(versions::footing(&setup.data))
                .with_outbox(setup.config.outbox_bytes()),
            identity,
            setup: Arc::new(setup),
            journal,
            mailbox,
            letters,
            tasks: JoinSet::new(),
            fetches: BTreeMap::new(),
            supervisors: BTreeMap::new(),
            facts,
            zone: TimeZone::system(),
            paused: false,
            upgrade_waits: false,
            follows: None,
            shown,
            users: Vec::new(),
            looked: Elapsed::default(),
            taking: None,
            stuck: None,
        }
    }

    /// Runs until `stop` is cancelled, until a release takes over, or until something happens that must not be gone on with.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<Ended, DriverError> {
        self.start().await?;
        let mut link = link::watch();
        let mut nearby = nearby::watch(&self.places());
        loop {
            if let Some(ended) = self.follows {
                return Ok(ended);
            }
            let due = self.sleep_until();
            let before = self.setup.clock.elapsed();
            let input = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(Ended::Stopped),
                Some(letter) = self.letters.recv() => self.open(letter).await?,
                Some(_) = self.tasks.join_next() => None,
                Some(()) = link.recv() => Some(Input::LinkUp),
                Some(()) = nearby.recv() => self.look_around(),
                () = tokio::time::sleep(due) => Some(self.wake(before, due)),
            };
            let mut next = input;
            while let Some(input) = next {
                let looked = is_seen_nearby(&input);
                self.apply(input).await?;
                // Of several things that changed on the device each look finds one.
                next = if looked { self.look_around() } else { None };
            }
        }
    }

    /// What a letter says to the machine.
    async fn open(&mut self, letter: Letter) -> Result<Option<Input>, DriverError> {
        if letter.life != self.mailbox.life() {
            return Ok(None);
        }
        match letter.news {
            News::Input(input) => Ok(Some(*input)),
            News::TakenUp => {
                self.follows = Some(Ended::TakenUp);
                Ok(None)
            }
            News::Fatal(why) => Err(DriverError::Fatal(why)),
            News::Prepared(launch, held) => match self.journal.launch_made(launch.run) {
                Ok(()) => Ok(self.start_supervisor(&launch, held)),
                Err(error) => {
                    // Letting the lock go: the run was never entered, and is armed again.
                    drop(held);
                    self.recover(error).await?;
                    Ok(None)
                }
            },
        }
    }

    fn sleep_until(&self) -> Duration {
        let now = self.setup.clock.elapsed();
        let local = self.looked.plus(local::LOOK_EVERY);
        let next = self.agent.next_deadline().map_or(local, |due: Elapsed| due.min(local));
        next.since(now).min(SLEEP_MOST)
    }

    /// The timer has run down. The boot clock says whether the machine slept meanwhile.
    fn wake(&mut self, before: Elapsed, due: Duration) -> Input {
        let slept = self.setup.clock.elapsed().since(before);
        if slept > due + OVERSLEPT {
            return Input::LinkUp;
        }
        self.look_around().unwrap_or(Input::Tick)
    }

    /// Hands an input to the machine, saves, acts.
    async fn apply(&mut self, input: Input) -> Result<(), DriverError> {
        let paused = match &input {
            Input::Paused { paused } => Some(*paused),
            _ => None,
        };
        let step = self.agent.handle(self.setup.clock.now(), input);
        if let Err(error) = self.journal.commit(&step) {
            return self.recover(error).await;
        }
        self.setup.packages.keep(&step.writes);
        if let Some(taken) = self.taking.take() {
            self.stuck = (!requests::taken(&taken)).then_some(taken);
        }
        self.act(step.effects);
        self.shown.tell(self.agent.trouble(), paused);
        Ok(())
    }

    async fn start(&mut self) -> Result<(), DriverError> {
        self.sweep().await;
        for input in self.opening() {
            self.apply(input).await?;
        }
        Ok(())
    }

    /// What each life of the machine is told first.
    fn opening(&mut self) -> Vec<Input> {
        let able = self.setup.config.restart_command().is_some();
        let started = self.started();
        self.users = self.setup.sessions.users();
        vec![
            started,
            Input::Paused { paused: self.paused },
            Input::UpgradeWaits(self.upgrade_waits),
            Input::RestartAble(able),
            Input::Sessions(self.users.clone()),
        ]
    }

    fn started(&mut self) -> Input {
        self.paused = self.is_paused();
        let mut seed = [0; 8];
        // Without entropy the jitter is that of the pid: it only spreads waits.
        if SystemRandom::new().fill(&mut seed).is_err() {
            seed = u64::from(std::process::id()).to_le_bytes();
        }
        Input::Started {
            boot: self.setup.clock.boot_id().clone(),
            facts: self.facts.clone(),
            zone: self.zone.clone(),
            seed: u64::from_le_bytes(seed),
            found: self.found_runs(),
        }
    }

    /// What the machine decided could not be saved: it is dropped with all that it asked for, and
    /// restored from what is on disk, after a wait. A failed sync ends the process instead.
    async fn recover(&mut self, mut error: JournalError) -> Result<(), DriverError> {
        let mut wait = RECOVER_LEAST;
        loop {
            if error.is_fatal() {
                return Err(error.into());
            }
            tracing::error!(why = %crate::chain_of(&error), "the journal failed; trying again");
            self.tasks.abort_all();
            self.taking = None;
            self.fetches.clear();
            self.mailbox = self.mailbox.next_life();
            // Letters are drained meanwhile: a thread that waits to send one may hold a lock.
            let drained = async { while self.letters.recv().await.is_some() {} };
            let _ = tokio::time::timeout(wait, drained).await;
            wait = (wait * 2).min(RECOVER_MOST);
            error = match self.restore() {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
        }
    }

    fn restore(&mut self) -> Result<(), JournalError> {
        let saved = self.journal.load()?;
        self.setup.packages.restore(&saved);
        let footing = versions::footing(&self.setup.data);
        let outbox = self.setup.config.outbox_bytes();
        let agent = Agent::restore(&self.identity, saved);
        self.agent = agent.standing_on(footing).with_outbox(outbox);
        let mut effects = Vec::new();
        for input in self.opening() {
            let step = self.agent.handle(self.setup.clock.now(), input);
            self.journal.commit(&step)?;
            self.setup.packages.keep(&step.writes);
            effects.extend(step.effects);
        }
        self.act(effects);
        Ok(())
    }
}

/// Whether an input came from a look at the device: then the next look may find another one.
fn is_seen_nearby(input: &Input) -> bool {
    matches!(
        input,
        Input::Paused { .. }
            | Input::UpgradeWaits(_)
            | Input::ZoneChanged(_)
            | Input::FactsChanged(_)
            | Input::Sessions(_)
            | Input::Asked(_)
    )
}
