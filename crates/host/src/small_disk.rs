//! For tests: a real file system that is soon full.

use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

/// A file system of 64 KiB, unmounted when dropped.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, with the reason printed, where mounting is not permitted.
    pub(crate) fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(dir.path())
            .output()
            .unwrap();
        match mount.status.success() {
            true => Some(Self(dir)),
            false => {
                let why = String::from_utf8_lossy(&mount.stderr).into_owned();
                writeln!(io::stderr(), "skipped: a small disk cannot be mounted: {why}").unwrap();
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg(self.0.path()).status().unwrap();
    }
}
