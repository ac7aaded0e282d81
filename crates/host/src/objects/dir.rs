//! A content store in a folder: `DIR/ab/abcdef...`, one file per object, named by its digest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use muster_model::digest::Digest;

use super::{OBJECT_BYTES_MAX, ObjectError, ObjectStore, Stored};
use crate::publish::{
    create_private_dir, durable_publish, durable_remove, read_if_there, remove_stale_drafts,
};
use crate::quota::{Quota, disk_free};

/// Objects in files below one folder. Any number of processes may use the same folder.
#[derive(Clone, Debug)]
pub struct DirStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    quota: Option<Arc<Quota>>,
}

impl DirStore {
    /// Opens the store in `dir`, which is made if it is missing, and clears away what a crash left
    /// half written.
    pub fn open(dir: &Path, quota: Option<Arc<Quota>>) -> Result<Self, ObjectError> {
        let failed = |source| ObjectError::Open { path: dir.to_owned(), source };
        create_private_dir(dir).map_err(failed)?;
        let store = Inner { dir: dir.to_owned(), quota };
        for shard in store.shards()? {
            remove_stale_drafts(&store.dir.join(shard)).map_err(failed)?;
        }
        Ok(Self(Arc::new(store)))
    }

    /// Runs `work` where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, ObjectError> + Send + 'static,
    ) -> Result<T, ObjectError> {
        let store = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        done.unwrap_or(Err(ObjectError::Ending))
    }
}

#[async_trait]
impl ObjectStore for DirStore {
    async fn put(&self, digest: Digest, bytes: Bytes) -> Result<(), ObjectError> {
        self.blocking(move |store| store.put(digest, &bytes)).await
    }

    async fn get(&self, digest: Digest) -> Result<Bytes, ObjectError> {
        self.blocking(move |store| store.get(digest)).await
    }

    async fn size(&self, digest: Digest) -> Result<Option<u64>, ObjectError> {
        self.blocking(move |store| store.size(digest)).await
    }

    async fn delete(&self, digest: Digest) -> Result<bool, ObjectError> {
        self.blocking(move |store| store.delete(digest)).await
    }

    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<Stored>, ObjectError> {
        self.blocking(move |store| store.list(after, limit)).await
    }

    async fn free_bytes(&self) -> Result<u64, ObjectError> {
        self.blocking(move |store| {
            let disk = disk_free(&store.dir)?;
            Ok(store.quota.as_ref().map_or(disk, |quota| quota.left().min(disk)))
        })
        .await
    }
}

impl Inner {
    fn put(&self, digest: Digest, bytes: &[u8]) -> Result<(), ObjectError> {
        let size = bytes.len() as u64;
        if size > OBJECT_BYTES_MAX {
            return Err(ObjectError::TooLarge { digest, bytes: size });
        }
        let found = Digest::of(bytes);
        if found != digest {
            return Err(ObjectError::Mismatch { digest, found });
        }
        match self.get(digest) {
            Ok(_) => Ok(()),
            Err(ObjectError::Missing(_)) => self.store_new(digest, bytes),
            // Its room was taken when it was stored first.
            Err(ObjectError::Damaged { .. }) => self.write(digest, bytes),
            Err(error) => Err(error),
        }
    }

    fn store_new(&self, digest: Digest, bytes: &[u8]) -> Result<(), ObjectError> {
        let Some(quota) = &self.quota else { return self.write(digest, bytes) };
        let size = bytes.len() as u64;
        quota.take(size).map_err(|source| ObjectError::Quota { digest, source })?;
        self.write(digest, bytes).inspect_err(|_| quota.give_back(size))
    }

    fn write(&self, digest: Digest, bytes: &[u8]) -> Result<(), ObjectError> {
        let failed = |source| ObjectError::Write { digest, source };
        create_private_dir(&self.shard(digest)).map_err(failed)?;
        durable_publish(&self.file(digest), bytes).map_err(failed)
    }

    fn get(&self, digest: Digest) -> Result<Bytes, ObjectError> {
        let read = read_if_there(&self.file(digest), OBJECT_BYTES_MAX);
        let read = read.map_err(|source| ObjectError::Read { digest, source })?;
        let bytes = read.ok_or(ObjectError::Missing(digest))?;
        match Digest::of(&bytes) {
            found if found == digest => Ok(bytes.into()),
            found => Err(ObjectError::Damaged { digest, found }),
        }
    }

    fn size(&self, digest: Digest) -> Result<Option<u64>, ObjectError> {
        match fs::metadata(self.file(digest)) {
            Ok(seen) => Ok(Some(seen.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.unlisted(source)),
        }
    }

    fn delete(&self, digest: Digest) -> Result<bool, ObjectError> {
        let Some(size) = self.size(digest)? else { return Ok(false) };
        let removed = durable_remove(&self.file(digest));
        let removed = removed.map_err(|source| ObjectError::Delete { digest, source })?;
        if let (true, Some(quota)) = (removed, &self.quota) {
            quota.give_back(size);
        }
        Ok(removed)
    }

    fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<Stored>, ObjectError> {
        let first = after.map(shard_name).unwrap_or_default();
        let mut listed = Vec::new();
        for shard in self.shards()?.into_iter().filter(|shard| *shard >= first) {
            let mut names =
                self.names(&self.dir.join(shard), |name| name.parse::<Digest>().ok())?;
            names.retain(|digest| after.is_none_or(|after| *digest > after));
            for digest in names {
                if listed.len() >= limit {
                    return Ok(listed);
                }
                let size = self.size(digest)?;
                listed.extend(size.map(|bytes| Stored { digest, bytes }));
            }
        }
        Ok(listed)
    }

    /// The names of the folders that objects lie in, sorted.
    fn shards(&self) -> Result<Vec<String>, ObjectError> {
        let is_shard = |name: &str| name.len() == 2 && name.bytes().all(|b| b.is_ascii_hexdigit());
        self.names(&self.dir, |name| is_shard(name).then(|| name.to_owned()))
    }

    fn names<T: Ord>(
        &self,
        folder: &Path,
        take: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, ObjectError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).map_err(|source| self.unlisted(source))? {
            let entry = entry.map_err(|source| self.unlisted(source))?;
            names.extend(entry.file_name().to_str().and_then(&take));
        }
        names.sort();
        Ok(names)
    }

    fn unlisted(&self, source: io::Error) -> ObjectError {
        ObjectError::List { path: self.dir.clone(), source }
    }

    fn shard(&self, digest: Digest) -> PathBuf {
        self.dir.join(shard_name(digest))
    }

    fn file(&self, digest: Digest) -> PathBuf {
        self.shard(digest).join(digest.to_string())
    }
}

/// The first two digits of the name: 256 folders keep each small enough for any file system.
fn shard_name(digest: Digest) -> String {
    digest.to_string()[..2].to_owned()
}
