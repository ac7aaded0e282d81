//! Private copies, and getting rid of them whatever a program made of their permissions.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::path::Path;

use muster_host::publish::PRIVATE_DIR;

/// Removes `path` with everything below it, links not followed. Folders that shut their owner out,
/// as a package or its program may have left them, are opened first. What is not there is no error.
/// Blocks.
pub fn remove_copy(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(seen) if !seen.is_dir() => return fs::remove_file(path),
        seen => seen.map(|_| ())?,
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_folders(path)?;
            fs::remove_dir_all(path)
        }
        removed => removed,
    }
}

/// Makes a user the owner of `path` and everything below it, links themselves and not what they point
/// at. Blocks.
pub(crate) fn give_copy(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let mut paths = vec![path.to_owned()];
    while let Some(path) = paths.pop() {
        if fs::symlink_metadata(&path)?.is_dir() {
            for entry in fs::read_dir(&path)? {
                paths.push(entry?.path());
            }
        }
        lchown(&path, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// What [`let_through`] adds to a folder's permissions.
pub(crate) const LET_THROUGH: u32 = 0o011;

/// Lets everybody through a folder, who could then open what they know the name of and may read.
pub(crate) fn let_through(folder: &Path) -> io::Result<()> {
    let mode = fs::metadata(folder)?.permissions().mode();
    fs::set_permissions(folder, Permissions::from_mode(mode | LET_THROUGH))
}

/// Gives every folder from `top` down back to its owner.
fn open_folders(top: &Path) -> io::Result<()> {
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, Permissions::from_mode(PRIVATE_DIR))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            // The type of the entry itself: a link to a folder is none.
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_shuts_its_owner_out_is_removed_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (copy, outside) = (dir.path().join("copy"), dir.path().join("outside"));
        fs::create_dir_all(copy.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        fs::write(copy.join("a/b/file"), "").unwrap();
        std::os::unix::fs::symlink(&outside, copy.join("a/link")).unwrap();
        fs::set_permissions(copy.join("a/b"), Permissions::from_mode(0o500)).unwrap();
        fs::set_permissions(copy.join("a"), Permissions::from_mode(0o000)).unwrap();
        remove_copy(&copy).unwrap();
        assert!(!copy.exists() && outside.join("kept").exists());
        remove_copy(&copy).unwrap();
    }
}
