//! A scratch folder for objects on their way to the site: content of any size needs little memory.

use std::io;
use std::path::PathBuf;

use muster_content::entry::Entry;
use muster_model::digest::Digest;

use crate::error::{Outcome, Tried};

/// Objects by digest, and the tree that they make. Gone when dropped.
pub(crate) struct Spool {
    folder: tempfile::TempDir,
    pub(crate) entries: Vec<Entry>,
    /// Bytes of the files that were cut.
    pub(crate) bytes: u64,
}

impl Spool {
    /// An empty spool below the system's folder for scratch files.
    pub(crate) fn new() -> Outcome<Self> {
        let folder = tempfile::Builder::new()
            .prefix("muster-publish-")
            .tempdir()
            .tried(|| "make a scratch folder".into())?;
        Ok(Self { folder, entries: Vec::new(), bytes: 0 })
    }

    /// Stores one object; lost with the process, which is all right: publishing starts again.
    pub(crate) fn put(&self, digest: Digest, bytes: &[u8]) -> io::Result<()> {
        std::fs::write(self.path(digest), bytes)
    }

    /// Reads one object back.
    pub(crate) fn get(&self, digest: Digest) -> io::Result<Vec<u8>> {
        std::fs::read(self.path(digest))
    }

    /// A function that stores, for [`muster_content::tree::TreeBuilder`].
    pub(crate) fn writer(&self) -> impl FnMut(Digest, &[u8]) -> io::Result<()> + use<> {
        let folder = self.folder.path().to_path_buf();
        move |digest, bytes| std::fs::write(folder.join(digest.to_string()), bytes)
    }

    /// Every object, in the order of names.
    pub(crate) fn objects(&self) -> Vec<Digest> {
        let mut found: Vec<Digest> = std::fs::read_dir(self.folder.path())
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        found.sort();
        found
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.path().join(digest.to_string())
    }
}
