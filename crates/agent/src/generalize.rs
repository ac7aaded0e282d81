//! `agent generalize`: a golden image keeps how a device is set up, and nothing of who it is.
//!
//! Whatever names the device, or is known of it alone, goes: key, certificates, trust, journal, what was
//! set aside, run folders, content, outputs. What an administrator laid down stays: settings, facts,
//! paused components. Each copy of the image then enrols by itself at its first boot, if the image was
//! given a token, and is a device of its own. Nothing is told to the site: the device that the image was
//! made of is retired there.

use std::io;
use std::path::{Path, PathBuf};

use muster_agent_core::saved::Saved;
use muster_host::failpoint::Role;
use muster_host::lock::{FolderLock, LockError};
use muster_host::publish::{self, PublishError};
use muster_host::role::{self, RoleError};
use muster_model::id::{DeviceId, Sequence};
use muster_model::message::{Body, Message};
use muster_model::plural::counted;
use serde::Serialize;

use crate::first_boot::{FIRST_BOOT_FILE, FirstBoot, FirstBootError};
use crate::identity::{IDENTITY_FILE, Identity, IdentityError};
use crate::journal::{self, JOURNAL_FILE, JournalError};
use crate::{RUNS_DIR, contents, outputs, requests, run_folder, trust_store};

/// Journals that were set aside begin with this.
const SET_ASIDE: &str = "journal.damaged-";
/// What is of one process, and copies that detections left when the agent was killed.
const SHORT_LIVED: [&str; 2] = ["run", "detect"];

/// What `agent generalize` is told.
#[derive(Clone)]
pub struct GeneralizeOptions {
    /// The agent's folder.
    pub data: PathBuf,
    /// How each copy enrols by itself; `None` leaves that to `agent enroll`.
    pub first_boot: Option<FirstBoot>,
    /// Outcomes that the site does not have are given up.
    pub discard: bool,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Generalized {
    /// The device that this was; `None` if it had no identity.
    pub device: Option<DeviceId>,
    /// Outcomes that were given up.
    pub discarded: u64,
    /// What was removed, by name in the folder.
    pub removed: Vec<String>,
    /// Where each copy enrols by itself; `None` if it does not.
    pub enrols_at: Option<String>,
}

/// The folder stays as it is; or, if something could not be removed, in part: then the command is
/// given again.
#[derive(Debug, thiserror::Error)]
pub enum GeneralizeError {
    /// The role could not begin.
    #[error("failed to begin")]
    Role(#[from] RoleError),
    /// An agent runs on the folder.
    #[error("failed to use the agent's folder; stop the agent first")]
    Lock(#[from] LockError),
    /// Not a folder of an agent.
    #[error("{0} is no folder of an agent: there is neither an identity nor a journal in it")]
    NoAgent(PathBuf),
    /// The identity.
    #[error("failed to tell who this device is")]
    Identity(#[from] IdentityError),
    /// A program of this device still runs.
    #[error("run {0} still goes on; stop its advertisement, or wait")]
    Running(String),
    /// The site lacks outcomes.
    #[error(
        "the site lacks {}; start the agent until `muster agent status` shows an empty outbox, or give \
         up what it lacks with --discard",
        counted(*.0, "outcome")
    )]
    Unsent(u64),
    /// Nobody can tell what the site lacks.
    #[error("failed to tell which outcomes the site lacks; --discard gives them up")]
    Unreadable(#[source] JournalError),
    /// Something could not be removed.
    #[error("failed to remove {path}")]
    Remove {
        /// What is still there.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something could not be removed, or not for good.
    #[error("failed to remove a file")]
    Publish(#[from] PublishError),
    /// The first boot.
    #[error("failed to prepare the first boot of copies")]
    FirstBoot(#[from] FirstBootError),
}

/// Makes the agent's folder one for a golden image. Durable on return; may be repeated. Blocks.
pub fn generalize(options: &GeneralizeOptions) -> Result<Generalized, GeneralizeError> {
    role::begin(Role::Agent)?;
    let data = &options.data;
    let known = [IDENTITY_FILE, JOURNAL_FILE, FIRST_BOOT_FILE, crate::config::CONFIG_FILE];
    if !known.iter().any(|name| data.join(name).exists()) {
        return Err(GeneralizeError::NoAgent(data.clone()));
    }
    let _lock = FolderLock::take(data, "agent generalize")?;
    let identity = Identity::load(data)?;
    if let Some(run) = run_folder::first_alive(&data.join(RUNS_DIR)) {
        return Err(GeneralizeError::Running(run));
    }
    let unsent = match unsent(data) {
        Ok(unsent) => unsent,
        Err(_) if options.discard => 0,
        Err(error) => return Err(GeneralizeError::Unreadable(error)),
    };
    if unsent > 0 && !options.discard {
        return Err(GeneralizeError::Unsent(unsent));
    }
    let removed = strip(data)?;
    match &options.first_boot {
        Some(first_boot) => first_boot.save(data)?,
        None => drop(publish::durable_remove(&data.join(FIRST_BOOT_FILE))?),
    }
    Ok(Generalized {
        device: identity.and_then(|identity| Some(identity.enrolment?.device)),
        discarded: unsent,
        removed,
        enrols_at: options.first_boot.as_ref().map(|told| told.site.clone()),
    })
}

/// Outcomes that the site has not acknowledged, and runs whose outcome is not even a message yet.
fn unsent(data: &Path) -> Result<u64, JournalError> {
    let saved = match journal::look(data) {
        Ok(looked) => looked.saved,
        Err(JournalError::Missing { .. }) => Saved::default(),
        Err(error) => return Err(error),
    };
    let relieved = saved.memory.as_ref().map_or(Sequence(0), |memory| memory.relieved);
    let waiting = saved.messages.iter().filter(|kept| kept.sequence > relieved);
    let outcomes = waiting
        .filter_map(|kept| serde_json::from_slice::<Message>(&kept.bytes).ok())
        .filter(|message| {
            matches!(&message.body, Body::Obligation(report)
                if report.state.word().is_terminal() || report.attempt_ended.is_some())
        });
    let untold = saved.runs.iter().filter(|run| run.told_in.is_none());
    Ok((outcomes.count() + untold.count()) as u64)
}

/// Removes what is of this device alone. The identity goes last: until then an agent that is started on
/// what is left is the same device, which has lost its memory.
fn strip(data: &Path) -> Result<Vec<String>, GeneralizeError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| GeneralizeError::Remove { path, source }
    };
    let mut names: Vec<String> =
        ["", "-wal", "-shm"].iter().map(|part| format!("{JOURNAL_FILE}{part}")).collect();
    for entry in std::fs::read_dir(data).map_err(failed(data))? {
        let name = entry.map_err(failed(data))?.file_name().to_string_lossy().into_owned();
        if name.starts_with(SET_ASIDE) {
            names.push(name);
        }
    }
    names.extend(SHORT_LIVED.map(str::to_owned));
    let folders = [
        RUNS_DIR,
        contents::CONTENT_DIR,
        outputs::OUTPUT_DIR,
        requests::REQUESTS_DIR,
        trust_store::TRUST_DIR,
    ];
    names.extend(folders.map(str::to_owned));
    names.push(IDENTITY_FILE.to_owned());
    let mut removed = Vec::new();
    for name in names {
        let path = data.join(&name);
        if path.symlink_metadata().is_err() {
            continue;
        }
        contents::remove_copy(&path).map_err(failed(&path))?;
        publish::sync_dir(data)?;
        removed.push(name);
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_no_agents_is_left_alone() {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("mine"), "x").unwrap();
        let options =
            GeneralizeOptions { data: data.path().to_owned(), first_boot: None, discard: true };
        assert!(matches!(generalize(&options), Err(GeneralizeError::NoAgent(_))));
        assert!(data.path().join("mine").exists());
    }
}
