//! Drafts: files on their way to be published, and what is left of those whose writers died.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::{PRIVATE_FILE, PublishError, durable_remove, folder_of, is_disk_full, sync_dir};
use crate::failpoint::{self, Point, When};

/// How many draft names are tried before giving up. More than one is needed only when a process
/// with the same pid died here before, and each such death leaves at most a few drafts.
const DRAFT_NAMES_MAX: u32 = 1024;
pub(super) const DRAFT_PREFIX: &str = ".muster-draft-";

/// A file on its way to be published: for bytes that do not fit in memory at once. Dropped without
/// being published, it is removed.
#[derive(Debug)]
pub struct Draft {
    file: File,
    temp: PathBuf,
    target: PathBuf,
}

pub(super) static DRAFTS: AtomicU64 = AtomicU64::new(0);

impl Draft {
    /// Opens a draft for `target` in the same folder, with exactly the permission bits `mode`.
    pub fn beside(target: &Path, mode: u32) -> Result<Self, PublishError> {
        let failed = |source| match is_disk_full(&source) {
            true => PublishError::DiskFull { path: target.to_owned() },
            false => PublishError::Draft { path: target.to_owned(), source },
        };
        let (file, temp) = open_draft(folder_of(target)).map_err(failed)?;
        let draft = Self { file, temp, target: target.to_owned() };
        draft.file.set_permissions(fs::Permissions::from_mode(mode)).map_err(failed)?;
        Ok(draft)
    }

    /// Writes the next bytes. After an error the draft is of no use any more.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), PublishError> {
        self.file.write_all(bytes).map_err(|source| match is_disk_full(&source) {
            true => PublishError::DiskFull { path: self.target.clone() },
            false => PublishError::Write { path: self.target.clone(), source },
        })
    }

    /// Lays out `room` bytes of blanks, durably: what [`Draft::fill`] then writes needs no free block
    /// on a file system that overwrites in place, so a full disk cannot stop it.
    pub fn reserve(&mut self, room: usize) -> Result<(), PublishError> {
        self.write(&vec![b' '; room])?;
        self.sync()
    }

    /// Writes `bytes` over the beginning of what was laid out; what follows stays blank.
    pub fn fill(&mut self, bytes: &[u8]) -> Result<(), PublishError> {
        self.file.write_all_at(bytes, 0).map_err(|source| match is_disk_full(&source) {
            true => PublishError::DiskFull { path: self.target.clone() },
            false => PublishError::Write { path: self.target.clone(), source },
        })
    }

    /// Whether the draft still has its name: somebody may have removed the folder under it.
    pub fn is_there(&self) -> bool {
        self.temp.exists()
    }

    /// Puts the draft in the target's place; durable on return.
    #[expect(clippy::disallowed_methods, reason = "this is the durable publish")]
    pub fn publish(self) -> Result<(), PublishError> {
        self.sync()?;
        failpoint::hit(Point::PublishRename, When::Before);
        fs::rename(&self.temp, &self.target).map_err(|source| self.refused(source))?;
        failpoint::hit(Point::PublishRename, When::After);
        sync_dir(folder_of(&self.target))
    }

    /// Puts the draft at the target if nothing is there; durable on return. Otherwise
    /// [`PublishError::Exists`].
    pub fn publish_new(self) -> Result<(), PublishError> {
        self.sync()?;
        failpoint::hit(Point::PublishLink, When::Before);
        // A hard link, unlike a rename, refuses a name that is taken.
        fs::hard_link(&self.temp, &self.target).map_err(|source| self.refused(source))?;
        failpoint::hit(Point::PublishLink, When::After);
        sync_dir(folder_of(&self.target))
    }

    fn sync(&self) -> Result<(), PublishError> {
        failpoint::hit(Point::PublishSync, When::Before);
        self.file.sync_all().map_err(|source| match is_disk_full(&source) {
            // File systems that allocate late find out here. The draft goes, so nothing is unknown.
            true => PublishError::DiskFull { path: self.target.clone() },
            false => PublishError::Fsync { path: self.target.clone(), source },
        })?;
        failpoint::hit(Point::PublishSync, When::After);
        Ok(())
    }

    fn refused(&self, source: io::Error) -> PublishError {
        let path = self.target.clone();
        match source.kind() {
            io::ErrorKind::AlreadyExists => PublishError::Exists { path },
            _ if is_disk_full(&source) => PublishError::DiskFull { path },
            _ => PublishError::Rename { path, source },
        }
    }
}

impl Drop for Draft {
    /// Removes the draft's own name; after a rename there is none. One that stays because this
    /// fails is found by [`remove_stale_drafts`].
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temp);
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Opens a new file of a name that nobody else uses. The name is the pid and a counter, not a
/// random number, so that two live writers never meet and a dead one's drafts can be told.
fn open_draft(folder: &Path) -> io::Result<(File, PathBuf)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(PRIVATE_FILE);
    for _ in 0..DRAFT_NAMES_MAX {
        let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
        let temp = folder.join(format!("{DRAFT_PREFIX}{}-{number}", std::process::id()));
        match options.open(&temp) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            opened => return opened.map(|file| (file, temp)),
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists))
}

/// The pid in a draft's name; `None` for any other name.
fn draft_writer(name: &str) -> Option<Pid> {
    let (pid, number) = name.strip_prefix(DRAFT_PREFIX)?.split_once('-')?;
    number.parse::<u64>().ok()?;
    pid.parse().ok().filter(|pid| *pid > 0).map(Pid::from_raw)
}

/// Removes the drafts in `dir` whose writers are dead, and tells how many.
///
/// To be called at start, before this process publishes anything there: a draft that bears its own
/// pid is then one of a namesake.
pub fn remove_stale_drafts(dir: &Path) -> Result<usize, PublishError> {
    let failed = |source| PublishError::List { path: dir.to_owned(), source };
    let mut removed = 0;
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(writer) = entry.file_name().to_str().and_then(draft_writer) else { continue };
        if writer == Pid::this() || kill(writer, None) == Err(Errno::ESRCH) {
            removed += usize::from(durable_remove(&entry.path())?);
        }
    }
    Ok(removed)
}
