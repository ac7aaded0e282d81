//! Content at rest: immutable objects named by their digest.
//!
//! Sites and access points keep packages' chunks and manifests here. [`ObjectStore`] is what they
//! program against; [`DirStore`] keeps each object in a file below a folder. Whatever is read is
//! hashed again: a store hands out the bytes that were named, or says that they are damaged.

mod dir;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use muster_model::digest::Digest;

pub use dir::DirStore;

use crate::publish::{PublishError, ReadError};
use crate::quota::{MeasureError, Quota, QuotaExceeded};

/// The largest object. Content is cut into chunks far smaller; this bounds what a read can cost.
pub const OBJECT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// An object could not be stored or had.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The store has no object of this name.
    #[error("failed to find object {0}")]
    Missing(Digest),
    /// The stored bytes are no longer those that were named. Storing the right ones heals it.
    #[error("failed to read object {digest}: its bytes are damaged, they hash to {found}")]
    Damaged {
        /// The object.
        digest: Digest,
        /// What its bytes hash to now.
        found: Digest,
    },
    /// The bytes handed in are not those that were named.
    #[error("failed to store object {digest}: the bytes hash to {found}")]
    Mismatch {
        /// The name.
        digest: Digest,
        /// What the bytes hash to.
        found: Digest,
    },
    /// The object is larger than any may be.
    #[error(
        "failed to store object {digest}: it has {bytes} bytes, the limit is {OBJECT_BYTES_MAX}"
    )]
    TooLarge {
        /// The name.
        digest: Digest,
        /// Its size.
        bytes: u64,
    },
    /// The role's quota is used up.
    #[error("failed to store object {digest}")]
    Quota {
        /// The name.
        digest: Digest,
        /// How far.
        #[source]
        source: QuotaExceeded,
    },
    /// The object could not be written; see [`PublishError::is_disk_full`] and
    /// [`PublishError::is_fatal`].
    #[error("failed to store object {digest}")]
    Write {
        /// The name.
        digest: Digest,
        /// What failed.
        #[source]
        source: PublishError,
    },
    /// The object could not be read.
    #[error("failed to read object {digest}")]
    Read {
        /// The name.
        digest: Digest,
        /// What failed.
        #[source]
        source: ReadError,
    },
    /// The object could not be removed.
    #[error("failed to delete object {digest}")]
    Delete {
        /// The name.
        digest: Digest,
        /// What failed.
        #[source]
        source: PublishError,
    },
    /// The store could not be opened.
    #[error("failed to open the content store at {path}")]
    Open {
        /// Its folder.
        path: PathBuf,
        /// What failed.
        #[source]
        source: PublishError,
    },
    /// The store could not be listed.
    #[error("failed to list the content store at {path}")]
    List {
        /// Its folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The store's room could not be measured.
    #[error("failed to measure the content store")]
    Measure(#[from] MeasureError),
    /// A URL of a kind of store that this build does not have.
    #[error("failed to open the content store {0:?}: expected file:///DIR")]
    Url(String),
    /// The process is ending.
    #[error("failed to use the content store: the process is ending")]
    Ending,
}

impl ObjectError {
    /// Whether there is no room: the disk's or the quota's.
    pub fn is_full(&self) -> bool {
        match self {
            ObjectError::Quota { .. } => true,
            ObjectError::Write { source, .. } => source.is_disk_full(),
            _ => false,
        }
    }

    /// Whether the process has to end; see [`PublishError::is_fatal`].
    pub fn is_fatal(&self) -> bool {
        match self {
            ObjectError::Write { source, .. } | ObjectError::Delete { source, .. } => {
                source.is_fatal()
            }
            _ => false,
        }
    }
}

/// An object and its size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Its name.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
}

/// A place for immutable objects. Every method may be called from many tasks at once.
#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// Stores `bytes` as `digest`, durable on return. Storing what is there already does nothing;
    /// storing over a damaged object heals it.
    async fn put(&self, digest: Digest, bytes: Bytes) -> Result<(), ObjectError>;

    /// The bytes that `digest` names, hashed again.
    async fn get(&self, digest: Digest) -> Result<Bytes, ObjectError>;

    /// The size of the object, or `None` if there is none. Does not look at its bytes.
    async fn size(&self, digest: Digest) -> Result<Option<u64>, ObjectError>;

    /// Deletes the object; tells whether it was there. Nobody may need it any more.
    async fn delete(&self, digest: Digest) -> Result<bool, ObjectError>;

    /// The objects in the order of their names, from the one after `after`, at most `limit`.
    /// What is stored or deleted meanwhile may be missing or listed.
    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<Stored>, ObjectError>;

    /// How many more bytes fit: the quota's rest or the disk's, whichever is less.
    async fn free_bytes(&self) -> Result<u64, ObjectError>;
}

/// Opens the store that `url` names: `file:///DIR`. What is stored counts against `quota`, which
/// knows what is there already.
pub fn open_store(
    url: &str,
    quota: Option<Arc<Quota>>,
) -> Result<Arc<dyn ObjectStore>, ObjectError> {
    match url.strip_prefix("file://") {
        Some(path) if path.starts_with('/') => Ok(Arc::new(DirStore::open(path.as_ref(), quota)?)),
        _ => Err(ObjectError::Url(url.to_owned())),
    }
}

#[cfg(test)]
mod tests;
