//! Unpacking: a tree comes back from its objects, every byte checked again, strictly below one folder.
//!
//! Each entry is made through an open folder, step by step from the top, with links refused on the
//! way and nothing ever written over: whatever a manifest says, and whoever meddles with the copy
//! meanwhile, nothing is written outside it.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use muster_agent_core::input::Manifested;
use muster_content::assemble::{FileCheck, FileRefused, Step, steps};
use muster_content::chunk::ChunkRefused;
use muster_content::entry::FileNode;
use muster_content::path::TreePath;
use muster_content::trust::Trust;
use muster_host::publish::PRIVATE_DIR;
use muster_model::digest::Digest;
use muster_model::policy::KeySignature;
use muster_model::state::Rule;
use rustix::fs::{Mode, OFlags, fchmod, mkdirat, openat, symlinkat};

use super::store::{Store, StoreError};
use super::{Inner, NotBelieved, believe, manifested, remove_copy};
use crate::chain_of;

/// Why there is no private copy.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It will never be used: `ContentRefused` or `PublisherRefused`.
    #[error("failed to unpack: {why}")]
    Refused {
        /// Which.
        rule: Rule,
        /// What was found, for people.
        why: String,
    },
    /// Some of it is missing or damaged on this disk, or nobody is believed yet. Fetching again heals.
    #[error("failed to unpack: {why}")]
    Unavailable {
        /// What was found, for people.
        why: String,
    },
    /// There is no room.
    #[error("failed to unpack to {path}: the disk is full")]
    Disk {
        /// What was to be written.
        path: PathBuf,
    },
    /// The system refused.
    #[error("failed to unpack to {path}")]
    Io {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What is stored could not be read.
    #[error("failed to unpack")]
    Store(#[source] StoreError),
}

const ONLY_THIS: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(ONLY_THIS);
const NEW_FILE: OFlags = OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(ONLY_THIS);

pub(super) fn unpack(
    inner: &Inner,
    need: Digest,
    signatures: &[KeySignature],
    trust: &Trust,
    into: &Path,
) -> Result<Manifested, UnpackError> {
    let payload = inner.manifest_bytes(need).map_err(UnpackError::Store)?;
    let payload = payload.ok_or_else(|| UnpackError::Unavailable {
        why: format!("manifest {need} is missing or damaged"),
    })?;
    let verified = believe(trust, need, payload, signatures)?;
    let manifest = verified.manifest();
    let copy = Copy::begin(into)?;
    let written = steps(manifest.tree()).try_for_each(|step| copy.take(step, &inner.objects));
    if written.is_err() {
        // The error tells more than what stands in the way of clearing up; the next try clears again.
        let _ = remove_copy(into);
    }
    written.map(|()| manifested(manifest))
}

/// A copy that is being made.
struct Copy<'a> {
    path: &'a Path,
    top: OwnedFd,
}

impl<'a> Copy<'a> {
    fn begin(path: &'a Path) -> Result<Self, UnpackError> {
        let failed = |source| failed(path.to_owned(), source);
        remove_copy(path).map_err(failed)?;
        DirBuilder::new().mode(PRIVATE_DIR).create(path).map_err(failed)?;
        let top = rustix::fs::open(path, FOLDER, Mode::empty());
        Ok(Self { path, top: top.map_err(|errno| failed(errno.into()))? })
    }

    fn take(&self, step: Step<'_>, objects: &Store) -> Result<(), UnpackError> {
        match step {
            Step::Folder { path } => {
                self.at(path, |above, name| Ok(mkdirat(above, name, Mode::RWXU)?))
            }
            Step::File { path, file } => self.file(path, file, objects),
            Step::Symlink { path, target } => {
                self.at(path, |above, name| Ok(symlinkat(target, above, name)?))
            }
            Step::Permissions { path, mode } => self.at(path, |above, name| {
                let folder = openat(above, name, FOLDER, Mode::empty())?;
                Ok(fchmod(&folder, Mode::from_raw_mode(mode.bits()))?)
            }),
        }
    }

    fn file(&self, path: &TreePath, file: &FileNode, objects: &Store) -> Result<(), UnpackError> {
        let failed = |source| failed(self.path.join(path.as_str()), source);
        let owner_only = Mode::RUSR.union(Mode::WUSR);
        let target = self.at(path, |above, name| Ok(openat(above, name, NEW_FILE, owner_only)?))?;
        let mut target = File::from(target);
        let mut check = FileCheck::new(file);
        while let Some(chunk) = check.needs() {
            let stored = objects.read(chunk.object, chunk.stored.into());
            let stored = stored.map_err(UnpackError::Store)?;
            let stored = stored.ok_or_else(|| UnpackError::Unavailable {
                why: format!("object {} is missing or damaged", chunk.object),
            })?;
            target.write_all(&check.take(&stored).map_err(refused)?).map_err(failed)?;
        }
        check.finish().map_err(refused)?;
        let mode = Mode::from_raw_mode(file.mode.bits());
        fchmod(&target, mode).map_err(|errno| failed(errno.into()))
    }

    /// Does something to the last name of `path`, in its folder, reached without following a link.
    fn at<T>(
        &self,
        path: &TreePath,
        act: impl FnOnce(&OwnedFd, &str) -> io::Result<T>,
    ) -> Result<T, UnpackError> {
        let reach = || {
            let mut names = path.as_str().split('/');
            let last = names.next_back().unwrap_or_default();
            let mut below: Option<OwnedFd> = None;
            for name in names {
                let above = below.as_ref().unwrap_or(&self.top);
                below = Some(openat(above, name, FOLDER, Mode::empty())?);
            }
            act(below.as_ref().unwrap_or(&self.top), last)
        };
        reach().map_err(|source| failed(self.path.join(path.as_str()), source))
    }
}

fn failed(path: PathBuf, source: io::Error) -> UnpackError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => UnpackError::Disk { path },
        _ => UnpackError::Io { path, source },
    }
}

/// Bytes that are not the object are this disk's fault; an object that is right and yet does not fit
/// is the publisher's.
fn refused(why: FileRefused) -> UnpackError {
    let text = chain_of(&why);
    match why {
        FileRefused::Chunk(
            ChunkRefused::WrongSize { .. } | ChunkRefused::DigestMismatch { .. },
        ) => UnpackError::Unavailable { why: text },
        _ => UnpackError::Refused { rule: Rule::ContentRefused, why: text },
    }
}

impl From<NotBelieved> for UnpackError {
    fn from(not_believed: NotBelieved) -> Self {
        match not_believed {
            NotBelieved::Refused { rule, why } => UnpackError::Refused { rule, why },
            NotBelieved::NotYet { why } => UnpackError::Unavailable { why },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_content::entry;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_that_somebody_slips_in_is_not_followed_and_nothing_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let (into, outside) = (dir.path().join("copy"), dir.path().join("outside"));
        let objects = Store::open(dir.path().join("objects"), None).unwrap();
        let path = |text| TreePath::new(text).unwrap();
        let (folder, below, file) = (path("a"), path("a/file"), path("file"));
        let mode = entry::Mode::FILE;
        let empty = FileNode { mode, size: 0, digest: Digest::of(b""), chunks: Vec::new() };
        fs::create_dir(&outside).unwrap();
        let copy = Copy::begin(&into).unwrap();
        symlink(&outside, into.join("a")).unwrap();
        symlink(outside.join("file"), into.join("file")).unwrap();
        for step in [
            Step::File { path: &below, file: &empty },
            Step::File { path: &file, file: &empty },
            Step::Folder { path: &folder },
            Step::Symlink { path: &file, target: "a" },
            Step::Permissions { path: &folder, mode },
        ] {
            let refused = copy.take(step, &objects).unwrap_err();
            assert!(matches!(refused, UnpackError::Io { .. }), "{step:?}: {refused:?}");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
}
