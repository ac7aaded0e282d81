//! Backup and restore of a whole site: rows, content and, apart, the keys.
//!
//! [`write()`] works while the site runs: rows are read at one instant, and content never changes under
//! its name. [`restore()`] makes a site with the same code, address and keys and a **new epoch**, by
//! which devices notice that the site may know less than it did, and send again what they still hold.
//!
//! ```text
//! FILE        zstd of a tar: backup.json, site.json, rows/TABLE.jsonl ..., content/DIGEST ...
//! FILE.keys   0600: the key files, sealed if a passphrase was given
//! ```

mod keys;
mod read;
mod write;

use std::path::PathBuf;

use muster_host::objects::ObjectError;
use muster_host::publish::{PublishError, ReadError};
use muster_model::clock::Wall;
use muster_model::id::EpochId;
use serde::{Deserialize, Serialize};

pub use keys::PASSPHRASE_CHARS_MIN;
pub use read::{Restore, restore};
pub use write::write;

use crate::folder::FolderError;
use crate::store::StoreError;

/// The format of the archive.
pub const BACKUP_FORMAT: u32 = 1;
/// The largest row, as JSON: a message of 64 KiB with everything escaped, several times over.
const ROW_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a backup says of itself; the first entry of the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// [`BACKUP_FORMAT`].
    pub format: u32,
    /// The program that wrote it.
    pub version: String,
    /// The site's code.
    pub code: String,
    /// The site's epoch at that time.
    pub epoch: EpochId,
    /// When.
    pub created: Wall,
}

/// What was written or restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The site's code.
    pub code: String,
    /// Rows of all tables.
    pub rows: u64,
    /// Objects of content.
    pub objects: u64,
    /// Whether the keys are sealed.
    pub keys_sealed: bool,
}

/// Why a backup was not written or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file of that name is there.
    #[error("failed to write the backup {0}: it exists; a backup never overwrites")]
    Exists(PathBuf),
    /// A file could not be written or read.
    #[error("failed to {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file is no backup, or a damaged one.
    #[error("failed to read the backup {path}: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// The keys lie apart, and are not there.
    #[error("failed to restore: the keys are missing; they lie beside the backup in {0}")]
    NoKeys(PathBuf),
    /// The keys are sealed.
    #[error("failed to open the keys {0}: they are sealed; give --passphrase-file")]
    Sealed(PathBuf),
    /// Another passphrase sealed them.
    #[error("failed to open the keys {0}: another passphrase sealed them, or the file is damaged")]
    WrongPassphrase(PathBuf),
    /// A passphrase that protects nothing.
    #[error("a passphrase has at least {PASSPHRASE_CHARS_MIN} characters")]
    WeakPassphrase,
    /// The system has no randomness.
    #[error("failed to draw random bytes")]
    Random,
    /// The backup is of a PostgreSQL site, and no database was named.
    #[error(
        "failed to restore: the site kept its state in PostgreSQL; name an empty database with --database URL"
    )]
    NoDatabase,
    /// The database holds a site.
    #[error("failed to restore: the database already holds a site; name an empty one")]
    DatabaseTaken,
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The rows.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The content.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// Writing a file.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Reading a file.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Where the keys of a backup lie.
fn keys_path(file: &std::path::Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".keys");
    PathBuf::from(name)
}
