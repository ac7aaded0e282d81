//! A real file system that is soon full.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// A mounted file system; unmounted when dropped.
pub(super) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(super) fn mount(folder: &str, size: &str) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let options = format!("size={size}");
        let args = ["-t", "tmpfs", "-o", &options, "tmpfs", folder];
        let mount = Command::new("mount").args(args).output().unwrap();
        if mount.status.success() {
            return Some(Self(folder.into()));
        }
        let why = String::from_utf8_lossy(&mount.stderr).into_owned();
        eprintln!("SKIPPED: a small disk cannot be mounted: {why}");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A process that was just killed may hold it a moment longer.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Fills the file system of `folder` to its last byte; answers the file to remove.
pub(crate) fn fill(folder: &str) -> PathBuf {
    let path = PathBuf::from(folder).join("filler");
    let mut file = std::fs::File::create(&path).unwrap();
    for size in [1 << 20, 4096, 1] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
    path
}
