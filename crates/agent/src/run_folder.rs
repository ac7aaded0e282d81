//! A run's folder: the small frozen protocol between an agent and the supervisor of one run.
//!
//! ```text
//! DATA/runs/RUN/
//!   lock        held by the supervisor from its first action to its end; the agent takes it to arm
//!   launch      the newest launch number: a supervisor with a lower one exits
//!   intent.json what was armed, for an agent that lost its journal; no supervisor reads it
//!   spec.json   what to execute, written before the supervisor starts
//!   entered     durable right before exec
//!   exit        durable after the end; laid out in advance, so that a full disk cannot stop it
//!   output      the beginning and the end of what the program printed
//!   result      where the program may leave a result (MUSTER_RESULT)
//!   content/    its private copy of the package (MUSTER_CONTENT)
//!   tmp/        its TMPDIR
//!   own/        where the result lies, if the program runs as another user than the agent
//! ```
//!
//! Any version of the agent reads the folder of any other: fields are only ever added. The folder
//! decides nothing; it says what can be seen ([`RunFolder::look`]), in the order in which evidence
//! counts. A held lock is a live supervisor, whatever a pid says. Once the outcome is in the journal,
//! [`RunFolder::slim`] leaves the evidence; it goes when the site has the outcome.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use muster_agent_core::input::{Exit, FoundRun, RunEvidence};
use muster_agent_core::step::Launch;
use muster_host::publish::{self, Draft, PublishError, ReadError};
use muster_model::clock::{Elapsed, Wall};
use muster_model::id::BootId;
use muster_model::message::RunId;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::contents::remove_copy;

/// The most that any file of the protocol holds: 32 KiB of command line, as much environment again,
/// and the escapes of JSON.
pub const RECORD_BYTES_MAX: u64 = 256 * 1024;
/// The folder where a program of another user may leave its result.
pub const OWN_DIR: &str = "own";
/// What is laid out for the exit record: 6 KiB of output, which JSON may write six times as long, two
/// texts of the result file, and the rest.
pub const EXIT_BYTES_MAX: usize = 64 * 1024;

/// What the supervisor executes. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunSpec {
    /// The run.
    pub run: RunId,
    /// The file to execute and its arguments; never empty.
    pub command: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// The working directory.
    pub directory: PathBuf,
    /// After this long it is ended.
    pub max_run_time_ms: u64,
    /// Between TERM and KILL.
    pub grace_ms: u64,
    /// Where it may leave a result.
    pub result: PathBuf,
    /// Tells outsiders the supervisor's pid while it lives.
    pub run_file: PathBuf,
    /// On the boot clock: after this the program is not started any more. `None`: at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_by: Option<Elapsed>,
    /// Whom it runs as; absent: as the supervisor does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<RunUser>,
    /// The run's control group, made if it is missing; absent: it stays in the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_group: Option<PathBuf>,
    /// The package, which a status MIF must be about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<Product>,
}

/// Whom a program runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunUser {
    /// The user.
    pub uid: u32,
    /// The user's primary group.
    pub gid: u32,
    /// Every group that the user is in, the primary one or not.
    #[serde(default)]
    pub groups: Vec<u32>,
}

/// A package as its publisher calls it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Written right before exec: from here on the program may have run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entered {
    /// The supervisor, which leads the session of everything the program starts.
    pub supervisor_pid: i32,
    /// The boot.
    pub boot: BootId,
    /// The launch number it compared.
    pub launch: u32,
    /// When, on the wall clock.
    pub at: Wall,
}

/// Written after the program and all it started have ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitRecord {
    /// How it ended.
    #[serde(flatten)]
    pub exit: Exit,
    /// When, on the wall clock.
    pub at: Wall,
    /// Processes that outlived KILL.
    #[serde(default)]
    pub escaped: u32,
}

/// Why a run's folder could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RunFolderError {
    /// A file could not be written durably.
    #[error("failed to write to the run's folder")]
    Write(#[from] PublishError),
    /// A file could not be read.
    #[error("failed to read from the run's folder")]
    Read(#[from] ReadError),
    /// A file is not what it should be.
    #[error("failed to understand {path}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The lock could not be tried.
    #[error("failed to lock {path}")]
    Lock {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Signals or the output's pipe could not be set up.
    #[error("failed to prepare for the program")]
    Prepare(#[source] io::Error),
}

impl RunFolderError {
    /// Whether the process has to end; see [`PublishError::is_fatal`].
    pub fn is_fatal(&self) -> bool {
        matches!(self, RunFolderError::Write(error) if error.is_fatal())
    }

    /// Whether there was no room.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, RunFolderError::Write(error) if error.is_disk_full())
    }
}

/// The folder of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

/// The run's lock, held by this process for as long as the value lives, or by whoever is handed the
/// open file.
#[derive(Debug)]
pub struct RunLock(File);

impl RunLock {
    /// The open file, to be handed to a supervisor as its standard input: the lock belongs to the
    /// open file description and goes with it, without a gap.
    pub fn into_file(self) -> File {
        self.0
    }
}

impl RunFolder {
    /// The folder of `run` below `runs`.
    pub fn of(runs: &Path, run: RunId) -> Self {
        Self { path: runs.join(run.to_string()) }
    }

    /// A folder that somebody names.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Creates the folder if it is missing. Durable on return: the agent notes that a run was
    /// launched only once its folder can no longer vanish.
    pub fn create(&self) -> Result<(), RunFolderError> {
        Ok(publish::create_private_dir(&self.path)?)
    }

    /// Tries to take the lock; `None` if a supervisor holds it. Creates the lock's file if missing.
    pub fn lock(&self) -> Result<Option<RunLock>, RunFolderError> {
        let file = self.open_lock(true)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(RunLock(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(self.lock_failed(errno.into())),
        }
    }

    /// Waits for the supervisor to end, and then holds the lock. Blocks for as long as the program
    /// runs: for a thread of its own.
    pub fn wait(&self) -> Result<RunLock, RunFolderError> {
        let file = self.open_lock(false)?;
        rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))
            .map_err(|errno| self.lock_failed(errno.into()))?;
        Ok(RunLock(file))
    }

    /// Takes over `handed`, the lock that an agent handed to this process. Refuses a file that is
    /// not this folder's lock, or a lock that somebody else holds.
    pub fn take_over(&self, handed: File) -> Result<Option<RunLock>, RunFolderError> {
        let ours = self.open_lock(false)?;
        let id = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino()));
        let same = id(&ours)
            .and_then(|ours| Ok(ours == id(&handed)?))
            .map_err(|source| self.lock_failed(source))?;
        if !same {
            return Ok(None);
        }
        match flock(&handed, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(RunLock(handed))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(self.lock_failed(errno.into())),
        }
    }

    fn open_lock(&self, create: bool) -> Result<File, RunFolderError> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .mode(0o600)
            .open(self.join("lock"))
            .map_err(|source| self.lock_failed(source))
    }

    fn lock_failed(&self, source: io::Error) -> RunFolderError {
        RunFolderError::Lock { path: self.join("lock"), source }
    }

    /// Raises the launch number; durable on return. Only the holder of the lock may.
    pub fn raise_launch(&self, _held: &RunLock, launch: u32) -> Result<(), RunFolderError> {
        self.publish("launch", &launch)
    }

    /// The newest launch number; `None` before the first.
    pub fn launch(&self) -> Result<Option<u32>, RunFolderError> {
        self.read("launch")
    }

    /// Says what is armed here; durable on return. Written before the launch number is raised, so
    /// whatever was entered has it.
    pub fn write_intent(&self, launch: &Launch) -> Result<(), RunFolderError> {
        self.publish("intent.json", launch)
    }

    /// What was armed here; `None` if it never came to that.
    pub fn intent(&self) -> Result<Option<Launch>, RunFolderError> {
        self.read("intent.json")
    }

    /// Removes what is large and no evidence: the private copy of the content, scratch files, output.
    pub fn slim(&self) -> io::Result<()> {
        ["content", "tmp", "result", "output", OWN_DIR]
            .iter()
            .try_for_each(|large| remove_copy(&self.join(large)))
    }

    /// Writes what to execute; durable on return.
    pub fn write_spec(&self, spec: &RunSpec) -> Result<(), RunFolderError> {
        self.publish("spec.json", spec)
    }

    /// What to execute.
    pub fn spec(&self) -> Result<Option<RunSpec>, RunFolderError> {
        self.read("spec.json")
    }

    /// Says that the program is about to start; durable on return.
    pub fn enter(&self, entered: &Entered) -> Result<(), RunFolderError> {
        self.publish("entered", entered)
    }

    /// What was said before the program started.
    pub fn entered(&self) -> Result<Option<Entered>, RunFolderError> {
        self.read("entered")
    }

    /// How it ended, if that is known.
    pub fn exit(&self) -> Result<Option<ExitRecord>, RunFolderError> {
        self.read("exit")
    }

    /// Lays out the room for the exit record; durable on return.
    pub fn reserve_exit(&self) -> Result<ReservedExit, RunFolderError> {
        let mut draft = Draft::beside(&self.join("exit"), publish::PRIVATE_FILE)?;
        draft.reserve(EXIT_BYTES_MAX)?;
        Ok(ReservedExit { folder: self.clone(), draft })
    }

    /// What the folder shows, in the order in which evidence counts: an exit record beats a held
    /// lock, a held lock beats everything else. `boot` is the boot now running.
    ///
    /// The lock is taken for the look and let go again; the agent, of which there is one, is the only
    /// one that starts supervisors, so what it saw stays true until it starts one.
    pub fn look(&self, boot: &BootId) -> RunEvidence {
        self.try_look(boot).unwrap_or(RunEvidence::Missing)
    }

    /// Evidence that the run was begun, for the holder of its lock; `None` if nothing was executed.
    pub fn begun(&self, boot: &BootId) -> Result<Option<RunEvidence>, RunFolderError> {
        if let Some(record) = self.exit()? {
            return Ok(Some(RunEvidence::Exited(record.exit)));
        }
        let entered = self.entered()?;
        Ok(entered.map(|entered| RunEvidence::CutShort { same_boot: entered.boot == *boot }))
    }

    fn try_look(&self, boot: &BootId) -> Result<RunEvidence, RunFolderError> {
        if let Some(record) = self.exit()? {
            return Ok(RunEvidence::Exited(record.exit));
        }
        let Some(_held) = self.lock()? else { return Ok(RunEvidence::Alive) };
        // The supervisor may have written its exit record between the two looks.
        Ok(self.begun(boot)?.unwrap_or(RunEvidence::NeverEntered))
    }

    fn publish<T: Serialize>(&self, name: &str, record: &T) -> Result<(), RunFolderError> {
        Ok(publish::durable_publish(&self.join(name), &self.encode(name, record)?)?)
    }

    fn encode<T: Serialize>(&self, name: &str, record: &T) -> Result<Vec<u8>, RunFolderError> {
        serde_json::to_vec(record)
            .map_err(|source| RunFolderError::Json { path: self.join(name), source })
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, RunFolderError> {
        let path = self.join(name);
        let Some(bytes) = publish::read_if_there(&path, RECORD_BYTES_MAX)? else { return Ok(None) };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| RunFolderError::Json { path, source })
    }
}

/// What the folders below `runs` show, for an agent that lost its journal. A folder that does not say
/// what was armed in it is passed over: nothing was entered there, or it is not a run's.
pub fn find_all(runs: &Path, boot: &BootId) -> Vec<FoundRun> {
    let entries = std::fs::read_dir(runs).into_iter().flatten().filter_map(Result::ok);
    entries
        .filter_map(|entry| {
            let folder = RunFolder::at(entry.path());
            let launch = match folder.intent() {
                Ok(launch) => launch?,
                Err(error) => {
                    let why = crate::chain_of(&error);
                    tracing::warn!(folder = %folder.path().display(), %why, "not understood");
                    return None;
                }
            };
            let own = entry.file_name().to_str() == Some(launch.run.to_string().as_str());
            own.then(|| FoundRun { launch, evidence: folder.look(boot) })
        })
        .collect()
}

/// A run below `runs` that a supervisor is at, by the name of its folder.
pub fn first_alive(runs: &Path) -> Option<String> {
    let entries = std::fs::read_dir(runs).ok()?;
    entries.filter_map(Result::ok).find_map(|entry| {
        let alive = matches!(RunFolder::at(entry.path()).lock(), Ok(None));
        alive.then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

/// Room for an exit record that is already on disk.
#[derive(Debug)]
pub struct ReservedExit {
    folder: RunFolder,
    draft: Draft,
}

impl ReservedExit {
    /// Writes the record into the room that was laid out, and publishes it. Durable on return. A
    /// folder that the program has removed is made again for it.
    pub fn write(mut self, record: &ExitRecord) -> Result<(), RunFolderError> {
        let bytes = self.folder.encode("exit", record)?;
        if bytes.len() > EXIT_BYTES_MAX || !self.draft.is_there() {
            self.folder.create()?;
            return self.folder.publish("exit", record);
        }
        // JSON allows blanks after a document, so the file keeps its length.
        self.draft.fill(&bytes)?;
        Ok(self.draft.publish()?)
    }
}
