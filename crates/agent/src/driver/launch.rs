//! From an armed run to its supervisor.
//!
//! ```text
//! Arm -> folder, lock, private copy, spec, launch number (a task) -> Prepared
//!     -> journal: the folder is whole -> supervisor with the lock -> followed
//! ```
//!
//! The lock is held from before the folder is prepared until the supervisor ends, without a gap. A
//! crash anywhere before the supervisor has started leaves a run that was never entered.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Stdio};
use std::sync::Arc;

use muster_agent_core::input::{ContentNews, Input, RunEvidence};
use muster_agent_core::step::Launch;
use muster_host::failpoint::{self, Point, When};
use muster_host::publish;
use muster_model::message::RunId;
use muster_model::state::Waiting;

use super::isolation::{Isolation, Supervisor};
use super::{Driver, Setup};
use crate::contents::{UnpackError, give_copy, let_through};
use crate::env::{self, Purpose, RunPurpose};
use crate::mailbox::{Mailbox, News};
use crate::run_folder::{OWN_DIR, Product, RunFolder, RunFolderError, RunLock, RunSpec, RunUser};
use crate::supervisor;
use crate::user::{self, Account};

/// Why a run cannot be started.
#[derive(Debug, thiserror::Error)]
enum Unprepared {
    /// Its folder shows that it was started before.
    #[error("it was started before")]
    Seen(RunEvidence),
    #[error("failed to prepare the run's folder")]
    Folder(#[from] RunFolderError),
    #[error("failed to clear the run's folder")]
    Clear(#[source] io::Error),
    #[error("failed to make a private copy of the content")]
    Unpack(#[from] UnpackError),
    #[error("the user {0}, whom it runs as, is not known, or the agent may not become that user")]
    NoUser(String),
    #[error("failed to hand its folders over to the user whom it runs as")]
    HandOver(#[source] io::Error),
}

impl Driver {
    /// Prepares a run's folder. The answer is `Prepared`, or an input that says why not.
    pub(super) fn prepare(&mut self, launch: Box<Launch>) {
        let (setup, mailbox) = (self.setup.clone(), self.mailbox.clone());
        self.tasks.spawn(async move {
            match setup.prepare(&launch).await {
                Ok(held) => mailbox.put_news(News::Prepared(launch, held)).await,
                Err(unprepared) => tell(&mailbox, &launch, unprepared).await,
            }
        });
    }

    /// Starts the supervisor of a prepared run and follows it.
    pub(super) fn start_supervisor(&mut self, launch: &Launch, held: RunLock) -> Option<Input> {
        let folder = self.setup.folder_of(launch.run);
        failpoint::hit(Point::RunLaunch, When::Before);
        let spawned = spawn(&self.setup, &folder, launch, held);
        failpoint::hit(Point::RunLaunch, When::After);
        let child = match spawned {
            Ok(child) => child,
            Err(error) => {
                let why = format!("failed to start its supervisor: {error}");
                return Some(Input::ArmFailed { run: launch.run, wait: None, why });
            }
        };
        tracing::info!(run = %launch.run, advertisement = %launch.advertisement_name,
            attempt = launch.attempt, child = child.id(), "started");
        if self.setup.isolation != Isolation::Unit {
            self.supervisors.insert(launch.run, child.id());
        }
        self.follow(launch.run, Some((child, launch.launch)));
        None
    }
}

impl Setup {
    /// The folder of a run.
    pub(super) fn folder_of(&self, run: RunId) -> RunFolder {
        RunFolder::of(&self.data.join(crate::RUNS_DIR), run)
    }

    async fn prepare(self: &Arc<Self>, launch: &Launch) -> Result<RunLock, Unprepared> {
        let folder = self.folder_of(launch.run);
        folder.create()?;
        let Some(held) = folder.lock()? else {
            return Err(Unprepared::Seen(RunEvidence::Alive));
        };
        // Nothing is ever started twice in one folder, whatever the journal says.
        if let Some(seen) = folder.begun(self.clock.boot_id())? {
            return Err(Unprepared::Seen(seen));
        }
        folder.slim().map_err(Unprepared::Clear)?;
        self.unpack(&launch.package, folder.join("content")).await?;
        publish::create_private_dir(&folder.join("tmp")).map_err(RunFolderError::from)?;
        let whom = whom(launch).await?;
        if let Some(another) = whom.as_ref().filter(|whom| whom.is_another()) {
            self.hand_over(&folder, another.account.clone()).await?;
        }
        folder.write_intent(launch)?;
        folder.write_spec(&self.spec(launch, &folder, whom.as_ref()))?;
        folder.raise_launch(&held, launch.launch)?;
        Ok(held)
    }

    /// Gives what the program works in to the user whom it runs as, and lets that user through to it.
    /// The rest of the agent's folder stays closed: only its names could be guessed.
    async fn hand_over(&self, folder: &RunFolder, account: Account) -> Result<(), Unprepared> {
        publish::create_private_dir(&folder.join(OWN_DIR)).map_err(RunFolderError::from)?;
        let runs = self.data.join(crate::RUNS_DIR);
        let through = [self.data.clone(), runs, folder.path().to_owned()];
        let own = ["content", "tmp", OWN_DIR].map(|name| folder.join(name));
        let given = tokio::task::spawn_blocking(move || {
            own.iter().try_for_each(|path| give_copy(path, account.uid, account.gid))?;
            through.iter().try_for_each(|path| let_through(path))
        });
        given.await.map_err(io::Error::other).flatten().map_err(Unprepared::HandOver)
    }

    fn spec(&self, launch: &Launch, folder: &RunFolder, whom: Option<&Whom>) -> RunSpec {
        let (content, tmp) = (folder.join("content"), folder.join("tmp"));
        let another = whom.filter(|whom| whom.is_another());
        let session = whom.filter(|_| launch.user.is_some());
        let session = session.map(|whom| self.sessions.session_of(&whom.name, whom.account.uid));
        let result = match another {
            Some(_) => folder.join(OWN_DIR).join("result"),
            None => folder.join("result"),
        };
        let (run, attempt) = (launch.run, launch.attempt);
        let purpose = Purpose {
            advertisement: launch.key.advertisement,
            advertisement_name: &launch.advertisement_name,
            content: &content,
            tmp: &tmp,
            run: Some(RunPurpose {
                run,
                attempt,
                result: &result,
                parameters: &launch.parameters,
                home: another.map(|whom| whom.account.home.as_path()),
                session: session.as_ref(),
            }),
        };
        let milliseconds =
            |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        RunSpec {
            run,
            command: env::command(&launch.program.words(), &content),
            environment: self.surroundings.variables(&purpose),
            directory: match &launch.program.start_in {
                Some(folder) => content.join(folder),
                None => content,
            },
            max_run_time_ms: milliseconds(launch.program.max_run_time.duration()),
            grace_ms: milliseconds(launch.grace),
            result,
            run_file: self.data.join("run").join(format!("run-{run}.json")),
            start_by: launch.start_by,
            control_group: self.isolation.control_group(run),
            user: another.map(Whom::run_user),
            product: Some(Product {
                name: launch.package.name.to_string(),
                version: launch.package.version.clone(),
            }),
        }
    }
}

/// Whom a program runs as.
struct Whom {
    name: String,
    account: Account,
    groups: Vec<u32>,
}

impl Whom {
    /// The user called `name`, if the machine knows one whom the agent may become. Blocks.
    fn find(name: String) -> Option<Self> {
        let account = user::find(&name).filter(user::may_become)?;
        let groups = user::groups(&name, &account);
        Some(Self { name, account, groups })
    }

    /// Whether it is another user than the agent's.
    fn is_another(&self) -> bool {
        user::is_another(&self.account)
    }

    fn run_user(&self) -> RunUser {
        RunUser { uid: self.account.uid, gid: self.account.gid, groups: self.groups.clone() }
    }
}

/// Whom the program runs as: the user whose turn it is, or the one that it names; `None`: as the agent
/// does.
async fn whom(launch: &Launch) -> Result<Option<Whom>, Unprepared> {
    let named = || launch.program.run_as.as_ref().and_then(|run_as| run_as.user());
    let Some(name) = launch.user.as_deref().or_else(named).map(str::to_owned) else {
        return Ok(None);
    };
    let wanted = name.clone();
    let known = tokio::task::spawn_blocking(move || Whom::find(wanted)).await.ok().flatten();
    known.ok_or(Unprepared::NoUser(name)).map(Some)
}

async fn tell(mailbox: &Mailbox, launch: &Launch, unprepared: Unprepared) {
    let (run, manifest) = (launch.run, launch.package.manifest);
    if let Unprepared::Folder(error) = &unprepared
        && error.is_fatal()
    {
        return mailbox.fatal(&unprepared).await;
    }
    let why = crate::chain_of(&unprepared);
    let wait = match unprepared {
        Unprepared::Seen(evidence) => return mailbox.put(Input::RunSeen { run, evidence }).await,
        Unprepared::Unpack(UnpackError::Refused { rule, why }) => {
            let news = ContentNews::Refused { rule, why };
            mailbox.put(Input::Content { manifest, news }).await;
            None
        }
        Unprepared::Folder(error) if error.is_disk_full() => Some(Waiting::Disk),
        Unprepared::Unpack(UnpackError::Disk { .. }) => Some(Waiting::Disk),
        Unprepared::Unpack(UnpackError::Unavailable { .. }) => Some(Waiting::Content),
        // Of several users one who is not there is no reason to wait for the others.
        Unprepared::NoUser(_) if launch.user.is_none() => Some(Waiting::RunAs),
        _ => None,
    };
    mailbox.put(Input::ArmFailed { run, wait, why }).await;
}

/// Starts a supervisor with the run's lock as its standard input. It inherits this process's
/// environment (its clock is the agent's) and nothing else; the program inherits neither.
fn spawn(setup: &Setup, folder: &RunFolder, launch: &Launch, held: RunLock) -> io::Result<Child> {
    let supervisor = Supervisor {
        program: &setup.supervisor,
        folder: folder.path(),
        run: launch.run,
        launch: launch.launch,
        grace: launch.grace,
        title: launch.advertisement_name.as_str(),
    };
    let mut command = setup.isolation.command(&supervisor);
    command
        .current_dir("/")
        .stdin(held.into_file())
        .stdout(Stdio::null())
        .stderr(log_of(folder)?)
        .spawn()
}

/// Where a supervisor says what went wrong.
fn log_of(folder: &RunFolder) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(publish::PRIVATE_FILE);
    options.open(folder.join(supervisor::LOG_FILE))
}
