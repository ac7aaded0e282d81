//! One process per folder: a role locks its folder for as long as it runs.
//!
//! The lock is the kernel's (`flock`) and dies with its holder, so none is ever left over; the pid in
//! the file is only there to be told to people, and is never believed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::publish::PRIVATE_FILE;

const LOCK_FILE: &str = "lock";
/// A pid and a word.
const OWNER_BYTES_MAX: u64 = 1024;

/// Who holds a lock, as it wrote itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Owner {
    /// Its process.
    pub pid: u32,
    /// What it does there: `site run`.
    pub role: String,
}

/// The folder could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process uses the folder.
    #[error("failed to lock {path}: {} uses it", named(.owner))]
    Held {
        /// The folder.
        path: PathBuf,
        /// Who; `None` if it has not said yet.
        owner: Option<Owner>,
    },
    /// The lock file could not be opened, locked or written.
    #[error("failed to lock {path}")]
    Lock {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn named(owner: &Option<Owner>) -> String {
    match owner {
        Some(Owner { pid, role }) => format!("process {pid} ({role})"),
        None => "another process".to_owned(),
    }
}

/// An exclusive lock on a folder, held until dropped. Not inherited by programs that are started.
#[derive(Debug)]
pub struct FolderLock {
    _file: Flock<File>,
}

impl FolderLock {
    /// Locks the folder `dir`, which must exist, for `role`. Does not wait.
    pub fn take(dir: &Path, role: &str) -> Result<Self, LockError> {
        let failed = |source| LockError::Lock { path: dir.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(PRIVATE_FILE);
        let file = options.open(dir.join(LOCK_FILE)).map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                write_owner(&mut file, role).map_err(failed)?;
                Ok(Self { _file: file })
            }
            Err((file, Errno::EWOULDBLOCK)) => {
                Err(LockError::Held { path: dir.to_owned(), owner: read_owner(file) })
            }
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }
}

/// Written in place: a file that took its place would be another lock.
fn write_owner(file: &mut File, role: &str) -> io::Result<()> {
    let owner = Owner { pid: std::process::id(), role: role.to_owned() };
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&serde_json::to_vec(&owner)?)
}

fn read_owner(file: File) -> Option<Owner> {
    let mut bytes = Vec::new();
    file.take(OWNER_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_was_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = FolderLock::take(dir.path(), "site run").unwrap();
        let refused = FolderLock::take(dir.path(), "site backup").unwrap_err();
        let (path, pid) = (dir.path().display(), std::process::id());
        assert_eq!(
            refused.to_string(),
            format!("failed to lock {path}: process {pid} (site run) uses it")
        );
        drop(first);
        FolderLock::take(dir.path(), "site backup").unwrap();
    }

    #[test]
    fn what_a_dead_holder_wrote_stops_nobody() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(LOCK_FILE), br#"{"pid":1,"role":"a longer role"}"#).unwrap();
        let _held = FolderLock::take(dir.path(), "agent").unwrap();
        let refused = FolderLock::take(dir.path(), "agent").unwrap_err();
        let LockError::Held { owner: Some(owner), .. } = refused else { panic!("{refused}") };
        assert_eq!((owner.pid, owner.role.as_str()), (std::process::id(), "agent"));
    }
}
