//! What can go wrong with the journal, told apart by what has to follow.

use std::path::PathBuf;

use rusqlite::ffi;

/// The journal could not be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It is not there although the device has an identity.
    #[error("failed to open the journal {path}: it is missing")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be believed.
    #[error("failed to read the journal {path}: {found}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// A newer version wrote it and lets this one not.
    #[error(
        "failed to open the journal {path}: its format {format} allows versions from format {oldest} on, this one has {ours}"
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
        /// The oldest that it allows.
        oldest: u32,
        /// Ours.
        ours: u32,
    },
    /// There is no room, and the reserve is spent.
    #[error("failed to write to the journal {path}: the disk is full")]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// A sync failed. Fatal: what is on disk is unknown, and asking again would not tell.
    #[error("failed to sync the journal {path} to disk")]
    Fsync {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// A value could not be written as JSON.
    #[error("failed to encode for the journal")]
    Encode(#[source] serde_json::Error),
    /// Anything else that SQLite or the system refused.
    #[error("failed to use the journal {path}")]
    Sql {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// It could not be set aside.
    #[error("failed to set the journal {path} aside")]
    SetAside {
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: muster_host::publish::PublishError,
    },
    /// It was damaged again and again.
    #[error("failed to set the journal in {path} aside: too many are set aside there already")]
    TooManySetAside {
        /// The folder.
        path: PathBuf,
    },
    /// It could not be created.
    #[error("failed to lay out the journal {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl JournalError {
    /// Sorts what SQLite said by what has to follow.
    pub(super) fn of(path: &std::path::Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error().map(|error| (error.code, error.extended_code)) {
            Some((rusqlite::ErrorCode::DiskFull, _)) => Self::DiskFull { path },
            Some((rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase, _)) => {
                Self::Damaged { path, found: source.to_string() }
            }
            Some((_, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)) => {
                Self::Fsync { path, source }
            }
            // Every statement is this program's own: one that makes no sense meets altered tables, and
            // a header that no version writes is "unsupported".
            Some((_, ffi::SQLITE_ERROR)) => Self::Damaged { path, found: source.to_string() },
            None if is_misread(&source) => Self::Damaged { path, found: source.to_string() },
            _ => Self::Sql { path, source },
        }
    }

    /// Whether the process has to end and start again from what is on disk.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Fsync { .. })
    }
}

/// A column holds what was never written to it.
fn is_misread(source: &rusqlite::Error) -> bool {
    use rusqlite::Error::{
        FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error,
    };
    matches!(
        source,
        FromSqlConversionFailure(..)
            | IntegralValueOutOfRange(..)
            | InvalidColumnType(..)
            | Utf8Error(..)
    )
}
