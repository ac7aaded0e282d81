//! The one door to disk: what is published is whole and durable, or was never there.
//!
//! Every role writes its files through here: identity and keys, content, run files, records of
//! supervisors. A publication is a draft in the same folder, written, synced, renamed over the
//! target, and the folder synced; a reader sees the old bytes or the new ones, never a mix.
//!
//! Never retries a failed sync: the kernel may have dropped the pages and marked them clean, so a
//! second success would prove nothing. [`PublishError::is_fatal`] tells the role to end and to
//! recover from what is on disk.

mod draft;
mod read;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

pub use draft::{Draft, remove_stale_drafts};
pub use read::{ReadError, read_if_there, read_limited, read_private};

use crate::failpoint::{self, Point, When};

/// The mode of a file that only its owner reads: the default of everything published.
pub const PRIVATE_FILE: u32 = 0o600;
/// The mode of a folder that only its owner enters.
pub const PRIVATE_DIR: u32 = 0o700;

/// Something could not be made durable. The path is the one the caller named.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No room, or no quota of the file system left. Nothing was published.
    #[error("failed to write {path}: the disk is full")]
    DiskFull {
        /// The file or folder that was to be written.
        path: PathBuf,
    },
    /// The target was to be new and is there already. It is untouched.
    #[error("failed to create {path}: it exists already")]
    Exists {
        /// The file that is there.
        path: PathBuf,
    },
    /// A draft could not be opened beside the target.
    #[error("failed to open a draft beside {path}")]
    Draft {
        /// The file that was to be published.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The draft could not be written.
    #[error("failed to write the draft of {path}")]
    Write {
        /// The file that was to be published.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A sync failed. Fatal: what is on disk is unknown, and asking again would not tell.
    #[error("failed to sync {path} to disk")]
    Fsync {
        /// The file or folder that was to be synced.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The draft could not take the target's place. The target is untouched.
    #[error("failed to move the draft into place at {path}")]
    Rename {
        /// The file that was to be published.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file could not be removed.
    #[error("failed to remove {path}")]
    Remove {
        /// The file that is still there.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A folder could not be made.
    #[error("failed to create the folder {path}")]
    CreateDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A folder could not be listed.
    #[error("failed to list the folder {path}")]
    List {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl PublishError {
    /// Whether the process has to end: after a failed sync it must not go on from what it believes
    /// to be on disk.
    pub fn is_fatal(&self) -> bool {
        matches!(self, PublishError::Fsync { .. })
    }

    /// Whether the disk, or the file system's quota, is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, PublishError::DiskFull { .. })
    }
}

/// Publishes `bytes` at `path` with mode 0600, in place of what was there.
///
/// On return the bytes and the name are durable. On an error that is not fatal the old file, if
/// any, is untouched. The folder must exist.
pub fn durable_publish(path: &Path, bytes: &[u8]) -> Result<(), PublishError> {
    durable_publish_mode(path, bytes, PRIVATE_FILE)
}

/// As [`durable_publish`], with exactly the permission bits `mode`, whatever the umask is.
pub fn durable_publish_mode(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PublishError> {
    let mut draft = Draft::beside(path, mode)?;
    draft.write(bytes)?;
    draft.publish()
}

/// Publishes `bytes` at `path` with mode 0600 unless something is there already, which is
/// [`PublishError::Exists`] and leaves it untouched. Of several who try at once, one succeeds.
pub fn durable_create_new(path: &Path, bytes: &[u8]) -> Result<(), PublishError> {
    let mut draft = Draft::beside(path, PRIVATE_FILE)?;
    draft.write(bytes)?;
    draft.publish_new()
}

/// Gives the file at `from` the name `to`, in the same folder, durably. A name that is taken by
/// another file is [`PublishError::Exists`] and changes nothing. After a crash in between the file
/// has both names, and asking again takes the old one away.
pub fn durable_move_new(from: &Path, to: &Path) -> Result<(), PublishError> {
    failpoint::hit(Point::PublishLink, When::Before);
    // A hard link, unlike a rename, refuses a name that is taken.
    match fs::hard_link(from, to) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_same(from, to) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(PublishError::Exists { path: to.to_owned() });
        }
        Err(error) if is_disk_full(&error) => {
            return Err(PublishError::DiskFull { path: to.to_owned() });
        }
        Err(source) => return Err(PublishError::Rename { path: to.to_owned(), source }),
    }
    sync_dir(folder_of(to))?;
    failpoint::hit(Point::PublishLink, When::After);
    durable_remove(from).map(|_| ())
}

/// Removes the file at `path` and makes that durable; tells whether it was there.
pub fn durable_remove(path: &Path) -> Result<bool, PublishError> {
    failpoint::hit(Point::PublishRemove, When::Before);
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(PublishError::Remove { path: path.to_owned(), source }),
    }
    sync_dir(folder_of(path))?;
    failpoint::hit(Point::PublishRemove, When::After);
    Ok(true)
}

/// Makes the folder at `path` and those above it that are missing, each with mode 0700, durably.
/// A folder that is there already is left as it is.
pub fn create_private_dir(path: &Path) -> Result<(), PublishError> {
    if path.is_dir() {
        return Ok(());
    }
    let above = folder_of(path);
    create_private_dir(above)?;
    match DirBuilder::new().mode(PRIVATE_DIR).create(path) {
        Ok(()) => sync_dir(above),
        Err(_) if path.is_dir() => Ok(()),
        Err(source) if is_disk_full(&source) => {
            Err(PublishError::DiskFull { path: path.to_owned() })
        }
        Err(source) => Err(PublishError::CreateDir { path: path.to_owned(), source }),
    }
}

/// Makes the names in the folder `dir` durable.
pub fn sync_dir(dir: &Path) -> Result<(), PublishError> {
    let failed = |source| PublishError::Fsync { path: dir.to_owned(), source };
    let folder = File::open(dir).map_err(failed)?;
    failpoint::hit(Point::PublishFolder, When::Before);
    match folder.sync_all() {
        // File systems that cannot sync a folder say EINVAL; they have nothing better to offer.
        Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => {}
        synced => synced.map_err(failed)?,
    }
    failpoint::hit(Point::PublishFolder, When::After);
    Ok(())
}

/// Whether both names are names of one file.
fn is_same(one: &Path, other: &Path) -> bool {
    let file = |path| fs::symlink_metadata(path).map(|seen| (seen.dev(), seen.ino()));
    matches!((file(one), file(other)), (Ok(one), Ok(other)) if one == other)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Whether `error` says that there is no room left.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests;
