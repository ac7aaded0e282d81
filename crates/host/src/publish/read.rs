//! Reading what was published: whole, within a limit, and a secret only if it is one.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A file could not be read whole.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such file.
    #[error("failed to read {path}: there is no such file")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is larger than anything Muster writes there.
    #[error("failed to read {path}: it is larger than {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// A secret that others can read.
    #[error("failed to read {path}: its mode {mode:04o} lets others in, it must be 0600")]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The system refused.
    #[error("failed to read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The bytes of the file at `path`, at most `max` of them; a larger file is refused, not cut.
pub fn read_limited(path: &Path, max: u64) -> Result<Vec<u8>, ReadError> {
    read_open(path, open(path)?, max)
}

/// As [`read_limited`], and `None` for a file that is not there.
pub fn read_if_there(path: &Path, max: u64) -> Result<Option<Vec<u8>>, ReadError> {
    match read_limited(path, max) {
        Err(ReadError::Missing { .. }) => Ok(None),
        read => read.map(Some),
    }
}

/// As [`read_limited`], for a key or another secret: refuses a file that group or others can reach.
pub fn read_private(path: &Path, max: u64) -> Result<Vec<u8>, ReadError> {
    let file = open(path)?;
    let seen = file.metadata();
    let seen = seen.map_err(|source| ReadError::Read { path: path.to_owned(), source })?;
    match seen.permissions().mode() & 0o7777 {
        mode if mode & 0o077 != 0 => Err(ReadError::TooOpen { path: path.to_owned(), mode }),
        _ => read_open(path, file, max),
    }
}

fn open(path: &Path) -> Result<File, ReadError> {
    File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ReadError::Missing { path: path.to_owned() },
        _ => ReadError::Read { path: path.to_owned(), source },
    })
}

fn read_open(path: &Path, file: File, max: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    let read = file.take(max.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|source| ReadError::Read { path: path.to_owned(), source })?;
    match bytes.len() as u64 > max {
        true => Err(ReadError::TooLarge { path: path.to_owned(), limit: max }),
        false => Ok(bytes),
    }
}
