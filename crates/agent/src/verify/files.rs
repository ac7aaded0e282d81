//! The agent's own folders and files: that they are there, and nobody else's to read.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use muster_agent_core::maintenance::Fault;

use super::{Look, Seen, bad, few, good};
use crate::config::CONFIG_FILE;
use crate::contents::LET_THROUGH;
use crate::{chain_of, components};

/// The folders that a running agent keeps in its own, parents first.
pub(crate) const FOLDERS: [&str; 6] =
    ["run", "runs", "requests", "content", "content/manifests", "content/objects"];
/// Files beside which others lie that are the administrator's: `facts.d`, sources of sessions.
const PRIVATE_FILES: [&str; 8] = [
    "identity.json",
    "settings.json",
    "components.json",
    "journal.db",
    "journal.db-wal",
    "journal.db-shm",
    "run/agent.json",
    "trust/standing.json",
];
/// The bits by which others than the owner may do anything.
const OTHERS: u32 = 0o077;

/// Every folder and file that only the agent may read or write, relative to its folder; `.` is the
/// folder itself. Those that are there.
pub(crate) fn own_files(data: &Path) -> Vec<PathBuf> {
    let folders = [".", "trust", "versions"].into_iter().chain(FOLDERS);
    let all = folders.chain(PRIVATE_FILES).map(PathBuf::from);
    all.filter(|path| data.join(path).symlink_metadata().is_ok()).collect()
}

pub(super) fn settings(look: &Look<'_>) -> Seen {
    let read = match (&look.config, components::paused(look.data)) {
        (Err(error), _) => Err(chain_of(error)),
        (_, Err(error)) => Err(chain_of(&error)),
        (Ok(_), Ok(_)) => Ok(()),
    };
    let check = match read {
        Ok(()) => good("settings", format!("{CONFIG_FILE} and paused components can be read")),
        Err(why) => bad("settings", why, "remove or mend the file; without it the defaults hold"),
    };
    (check, Vec::new())
}

pub(super) fn folders(look: &Look<'_>) -> Seen {
    if !look.has_run() {
        return (good("folders", "they are made when the agent first runs"), Vec::new());
    }
    let missing: Vec<String> = FOLDERS
        .into_iter()
        .filter(|folder| !look.data.join(folder).is_dir())
        .map(str::to_owned)
        .collect();
    if missing.is_empty() {
        return (good("folders", format!("all {} are there", FOLDERS.len())), Vec::new());
    }
    let detail = format!("missing: {}", few(&missing));
    let check = bad("folders", detail, "nothing: a running agent makes them anew, others at start");
    let faults = missing.into_iter().map(|folder| Fault::FolderMissing { folder });
    (check, faults.collect())
}

pub(super) fn permissions(look: &Look<'_>) -> Seen {
    let open: Vec<String> = own_files(look.data)
        .into_iter()
        .filter(|path| is_open(look.data, path).unwrap_or(false))
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    if open.is_empty() {
        return (good("permissions", "only the owner may read and write"), Vec::new());
    }
    let detail = format!("others than the owner may use {}", few(&open));
    let remedy = "nothing: a running agent takes them back; if somebody read the key, enrol anew";
    let faults = open.into_iter().map(|path| Fault::Mode { path });
    (bad("permissions", detail, remedy), faults.collect())
}

fn is_open(data: &Path, path: &Path) -> io::Result<bool> {
    // A program that runs as another user is let through to its run's folder, and sees no names.
    let through = [Path::new("."), Path::new(crate::RUNS_DIR)].contains(&path);
    let may = if through { LET_THROUGH } else { 0 };
    Ok(fs::metadata(data.join(path))?.permissions().mode() & OTHERS & !may != 0)
}
