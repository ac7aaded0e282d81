//! Files named by the digest of their bytes: `DIR/ab/abcd...`.
//!
//! Written in place and not synced: half of one is a damaged object, which no reader takes, because
//! every reader compares the digest. So there are no drafts to clear away after a crash, and storing
//! costs no wait for the disk; [`Store::sync`] does that once for all of them.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use muster_host::failpoint::{self, Point, When};
use muster_host::publish::{self, PublishError, ReadError, read_if_there};
use muster_host::quota::{Quota, QuotaExceeded};
use muster_model::digest::Digest;

/// An object could not be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no room on the disk.
    #[error("failed to store {path}: the disk is full")]
    DiskFull {
        /// The object's file.
        path: PathBuf,
    },
    /// There is no room in the agent's quota.
    #[error("failed to store {path}")]
    Quota {
        /// The object's file.
        path: PathBuf,
        /// How far.
        #[source]
        source: QuotaExceeded,
    },
    /// The object could not be written.
    #[error("failed to store {path}")]
    Write {
        /// The object's file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The object could not be read.
    #[error("failed to read content")]
    Read(#[source] ReadError),
    /// The object could not be removed.
    #[error("failed to remove {path}")]
    Remove {
        /// The object's file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A folder could not be listed.
    #[error("failed to list {path}")]
    List {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file system could not be synced.
    #[error("failed to sync {path} to disk")]
    Sync {
        /// The store's folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    /// Whether there is no room: the disk's or the quota's.
    pub fn is_full(&self) -> bool {
        matches!(self, StoreError::DiskFull { .. } | StoreError::Quota { .. })
    }
}

/// Objects in files below one folder, used by one process.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
    quota: Option<Arc<Quota>>,
    /// Held by whoever writes: two who store the same object at once must not truncate each other's
    /// file after the first of them was told that it stands.
    writing: Mutex<()>,
}

impl Store {
    pub(super) fn open(dir: PathBuf, quota: Option<Arc<Quota>>) -> Result<Self, PublishError> {
        publish::create_private_dir(&dir)?;
        Ok(Self { dir, quota, writing: Mutex::new(()) })
    }

    /// The store in a folder that may be missing, to look at.
    pub(super) fn at(dir: PathBuf) -> Self {
        Self { dir, quota: None, writing: Mutex::new(()) }
    }

    /// What is in the object's file, `None` if there is none or it has more than `max` bytes. The
    /// caller compares the digest.
    pub(super) fn read(&self, object: Digest, max: u64) -> Result<Option<Vec<u8>>, StoreError> {
        match read_if_there(&self.file(object), max) {
            Err(ReadError::TooLarge { .. }) => Ok(None),
            read => read.map_err(StoreError::Read),
        }
    }

    /// Whether the object is here with all its bytes. Reads it.
    pub(super) fn holds(&self, object: Digest, max: u64) -> bool {
        let bytes = self.read(object, max).ok().flatten();
        bytes.is_some_and(|bytes| Digest::of(&bytes) == object)
    }

    /// Stores `bytes`, whose digest is `object`, unless they are here already. A damaged file is
    /// replaced. Not durable before [`Store::sync`].
    pub(super) fn put(&self, object: Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.holds(object, bytes.len() as u64) {
            return Ok(());
        }
        self.remove(object)?;
        let (path, size) = (self.file(object), bytes.len() as u64);
        if let Some(quota) = &self.quota {
            let taken = quota.take(size);
            taken.map_err(|source| StoreError::Quota { path: path.clone(), source })?;
        }
        write_new(&path, bytes).map_err(|source| {
            // Half a file is of no use, and the disk may need the room.
            let _ = fs::remove_file(&path);
            if let Some(quota) = &self.quota {
                quota.give_back(size);
            }
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    StoreError::DiskFull { path }
                }
                _ => StoreError::Write { path, source },
            }
        })
    }

    /// Removes the object if it is there.
    pub(super) fn remove(&self, object: Digest) -> Result<(), StoreError> {
        let path = self.file(object);
        let removed = fs::metadata(&path).and_then(|seen| {
            fs::remove_file(&path)?;
            Ok(seen.len())
        });
        match removed {
            Ok(size) => {
                self.quota.iter().for_each(|quota| quota.give_back(size));
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(StoreError::Remove { path, source }),
        }
    }

    /// The names of all objects, whole or damaged.
    pub(super) fn list(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let mut names = BTreeSet::new();
        for shard in entries(&self.dir)? {
            if shard.is_dir() {
                let name = |path: PathBuf| path.file_name()?.to_str()?.parse::<Digest>().ok();
                names.extend(entries(&shard)?.into_iter().filter_map(name));
            }
        }
        Ok(names)
    }

    /// Makes everything stored so far durable, with one sync of the file system.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        failpoint::hit(Point::ContentSync, When::Before);
        File::open(&self.dir)
            .and_then(|folder| Ok(rustix::fs::syncfs(&folder)?))
            .map_err(|source| StoreError::Sync { path: self.dir.clone(), source })?;
        failpoint::hit(Point::ContentSync, When::After);
        Ok(())
    }

    /// 256 folders keep each small enough for any file system.
    fn file(&self, object: Digest) -> PathBuf {
        let name = object.to_string();
        self.dir.join(&name[..2]).join(name)
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(publish::PRIVATE_FILE);
    let mut file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let shard = path.parent().unwrap_or(path);
            DirBuilder::new().recursive(true).mode(publish::PRIVATE_DIR).create(shard)?;
            options.open(path)?
        }
        opened => opened?,
    };
    file.write_all(bytes)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |source| StoreError::List { path: folder.to_owned(), source };
    let paths = fs::read_dir(folder).map_err(failed)?.map(|entry| Ok(entry?.path()));
    paths.collect::<io::Result<_>>().map_err(failed)
}
