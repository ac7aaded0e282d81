//! The disk as a mounted file system: FUSE's requests to operations of [`Disk`], and the power switch.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyStatfs, ReplyWrite,
    Request, TimeOrNow, WriteFlags,
};

use crate::disk::{Disk, Kind, Node, Owner, ROOT, Refusal};

/// The kernel asks anew each time: after a power cut nothing it remembers is true.
const TTL: Duration = Duration::ZERO;
const BLOCK_BYTES: u32 = 4096;
/// What `statfs` tells: 4 GiB, all of them free.
const BLOCKS: u64 = 1024 * 1024;

/// The file system could not be mounted.
#[derive(Debug, thiserror::Error)]
#[error(
    "failed to mount a FUSE file system at {path}: it takes /dev/fuse, and root or fusermount3"
)]
pub struct MountError {
    /// Where.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: std::io::Error,
}

/// A mounted disk. Unmounted when dropped; its data are gone then.
#[derive(Debug)]
pub struct Amnesia {
    at: PathBuf,
    disk: Arc<Mutex<Disk>>,
    session: Option<BackgroundSession>,
}

impl Amnesia {
    /// Mounts an empty disk over the folder `at`, which must be there and keeps its owner.
    pub fn mount(at: &Path) -> Result<Self, MountError> {
        let failed = |source| MountError { path: at.to_owned(), source };
        let owner = owner_of(&std::fs::metadata(at).map_err(failed)?);
        let disk = Arc::new(Mutex::new(Disk::new(owner)));
        let mut mounted = Self { at: at.to_owned(), disk, session: None };
        mounted.attach()?;
        Ok(mounted)
    }

    fn attach(&mut self) -> Result<(), MountError> {
        let mut config = Config::default();
        config.mount_options =
            vec![MountOption::FSName("amnesia".to_owned()), MountOption::DefaultPermissions];
        let mounted = fuser::spawn_mount(Mounted(self.disk.clone()), &self.at, &config);
        let failed = |source| MountError { path: self.at.clone(), source };
        self.session = Some(mounted.map_err(failed)?);
        Ok(())
    }

    /// How many changes and syncs were asked for so far.
    pub fn operations(&self) -> u64 {
        self.disk().operations()
    }

    /// Cuts the power once `more` further changes and syncs have been asked for: from then on every
    /// request fails with EIO.
    pub fn cut_after(&self, more: u64) {
        let mut disk = self.disk();
        let at = disk.operations() + more;
        disk.cut_at(at);
    }

    /// Whether the power is gone.
    pub fn is_cut(&self) -> bool {
        self.disk().is_cut()
    }

    /// The power is back. What was synced is there; of the rest, each page and each name survived or
    /// not, as `seed` has it, and with the seed 0 nothing of it did. Everything that had a file open
    /// here must have ended.
    pub fn boot(&mut self, seed: u64) -> Result<(), MountError> {
        self.detach();
        self.disk().boot(seed);
        self.attach()
    }

    fn detach(&mut self) {
        if let Some(session) = self.session.take()
            && session.umount_and_join().is_err()
        {
            // A process that was just killed may hold it a moment longer.
            let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Amnesia {
    fn drop(&mut self) {
        self.detach();
    }
}

fn owner_of(seen: &Metadata) -> Owner {
    Owner { mode: seen.mode() & 0o7777, user: seen.uid(), group: seen.gid() }
}

impl From<Refusal> for Errno {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Missing => Errno::ENOENT,
            Refusal::Exists => Errno::EEXIST,
            Refusal::NotEmpty => Errno::ENOTEMPTY,
            Refusal::IsFolder => Errno::EISDIR,
            Refusal::NotFolder => Errno::ENOTDIR,
            Refusal::PowerCut => Errno::EIO,
        }
    }
}

/// What the session answers from.
#[derive(Debug)]
struct Mounted(Arc<Mutex<Disk>>);

impl Mounted {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn attributes(disk: &Disk, number: u64) -> Result<FileAttr, Refusal> {
    let Node { kind, mode, user, group, changed } = disk.node(number)?;
    let size = match kind {
        Kind::File(bytes) => bytes.now.len() as u64,
        Kind::Folder(_) => u64::from(BLOCK_BYTES),
        Kind::Link(to) => to.as_os_str().len() as u64,
    };
    let links = if number == ROOT { 2 } else { disk.links(number) };
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(*changed);
    Ok(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: SystemTime::UNIX_EPOCH,
        kind: kind_of(kind),
        perm: *mode as u16,
        nlink: u32::try_from(links).unwrap_or(u32::MAX),
        uid: *user,
        gid: *group,
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    })
}

fn kind_of(kind: &Kind) -> FileType {
    match kind {
        Kind::File(_) => FileType::RegularFile,
        Kind::Folder(_) => FileType::Directory,
        Kind::Link(_) => FileType::Symlink,
    }
}

fn made_by(request: &Request, mode: u32, umask: u32) -> Owner {
    Owner { mode: mode & 0o7777 & !umask, user: request.uid(), group: request.gid() }
}

fn entry(disk: &Disk, found: Result<u64, Refusal>, reply: ReplyEntry) {
    match found.and_then(|number| attributes(disk, number)) {
        Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
        Err(refusal) => reply.error(refusal.into()),
    }
}

fn done(result: Result<(), Refusal>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(refusal) => reply.error(refusal.into()),
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let disk = self.disk();
        entry(&disk, disk.lookup(parent.0, name), reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match attributes(&self.disk(), ino.0) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut disk = self.disk();
        let resized = size.map_or(Ok(()), |bytes| disk.resize(ino.0, bytes));
        let owned = resized.and_then(|()| disk.own(ino.0, mode, uid, gid));
        match owned.and_then(|()| attributes(&disk, ino.0)) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.disk().node(ino.0).map(|node| &node.kind) {
            Ok(Kind::Link(to)) => reply.data(to.as_os_str().as_bytes()),
            Ok(_) => reply.error(Errno::EINVAL),
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let mut disk = self.disk();
        let made = disk.make_folder(parent.0, name, made_by(request, mode, umask));
        entry(&disk, made, reply);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let mut disk = self.disk();
        let made = disk.make_link(parent.0, name, target, made_by(request, 0o777, 0));
        entry(&disk, made, reply);
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut disk = self.disk();
        let linked = disk.link(ino.0, parent.0, name).map(|()| ino.0);
        entry(&disk, linked, reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.disk().remove_file(parent.0, name), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.disk().remove_folder(parent.0, name), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        into: INodeNo,
        new: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        match flags.is_empty() {
            true => done(self.disk().rename((parent.0, name), (into.0, new)), reply),
            false => reply.error(Errno::EINVAL),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let mut disk = self.disk();
        let made = disk.make_file(parent.0, name, made_by(request, mode, umask));
        match made.and_then(|number| attributes(&disk, number)) {
            Ok(attr) => {
                reply.created(&TTL, &attr, Generation(0), FileHandle(0), FopenFlags::empty());
            }
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.disk().read(ino.0, offset, size as usize) {
            Ok(bytes) => reply.data(bytes),
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.disk().write(ino.0, offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(self.disk().sync(ino.0), reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(self.disk().sync(ino.0), reply);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let disk = self.disk();
        let names = match disk.names(ino.0) {
            Ok(names) => names,
            Err(refusal) => return reply.error(refusal.into()),
        };
        let dots = [(OsStr::new("."), ino.0), (OsStr::new(".."), ino.0)];
        let names = names.iter().map(|(name, number)| (name.as_os_str(), *number));
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, (name, number)) in dots.into_iter().chain(names).enumerate().skip(from) {
            let Ok(node) = disk.node(number) else { continue };
            if reply.add(INodeNo(number), index as u64 + 1, kind_of(&node.kind), name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCK_BYTES, 255, BLOCK_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::Write as _;

    #[test]
    fn a_mounted_disk_forgets_what_was_not_synced() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = Amnesia::mount(dir.path()).unwrap();
        let at = |name: &str| dir.path().join(name);
        let mut kept = File::create(at("kept")).unwrap();
        kept.write_all(b"kept").unwrap();
        kept.sync_all().unwrap();
        fs::create_dir(at("folder")).unwrap();
        File::open(dir.path()).unwrap().sync_all().unwrap();
        fs::write(at("folder/lost"), "lost").unwrap();
        kept.write_all(b" and more").unwrap();
        drop(kept);
        disk.cut_after(1);
        assert!(fs::write(at("late"), "late").is_err() && disk.is_cut());
        assert!(fs::read(at("kept")).is_err());
        disk.boot(0).unwrap();
        assert_eq!(fs::read_to_string(at("kept")).unwrap(), "kept");
        assert_eq!(fs::read_dir(at("folder")).unwrap().count(), 0);
        assert!(!at("late").exists());
        assert!(disk.operations() > 0);
    }
}
