//! Repair: what a verification found and the agent can mend by itself. Never a run's folder.
//!
//! Each mend is whole or not at all, may be repeated, and leaves alone what is as it should be. A folder
//! is made anew beside what is there. Permissions are taken back in place: a copy of a file could put
//! back what the agent has just replaced. Damaged content is not mended here; it is fetched again.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use muster_agent_core::maintenance::Fault;
use muster_host::publish::{self, PRIVATE_DIR, PRIVATE_FILE, PublishError};

use crate::verify::{FOLDERS, own_files};

/// Something could not be mended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepairError {
    /// It is nothing that is mended here.
    #[error("it is not the agent's to mend")]
    NotOurs,
    /// The folder could not be made.
    #[error("failed to make the folder")]
    Folder(#[from] PublishError),
    /// The permissions could not be set.
    #[error("failed to set the permissions of {path}")]
    Mode {
        /// Whose.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Mends one fault in `data`; durable on return. What was mended already is left as it is.
pub(crate) fn mend(data: &Path, fault: &Fault) -> Result<(), RepairError> {
    match fault {
        Fault::FolderMissing { folder } if FOLDERS.contains(&folder.as_str()) => {
            Ok(publish::create_private_dir(&data.join(folder))?)
        }
        Fault::Mode { path } if own_files(data).contains(&PathBuf::from(path)) => {
            take_back(&data.join(path))
        }
        Fault::FolderMissing { .. } | Fault::Mode { .. } | Fault::Content { .. } => {
            Err(RepairError::NotOurs)
        }
    }
}

fn take_back(path: &Path) -> Result<(), RepairError> {
    let failed = |source| RepairError::Mode { path: path.to_owned(), source };
    let seen = fs::symlink_metadata(path).map_err(failed)?;
    // What a link leads to is somebody else's.
    if seen.is_symlink() {
        return Err(RepairError::NotOurs);
    }
    let mode = if seen.is_dir() { PRIVATE_DIR } else { PRIVATE_FILE };
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_missing_folder_is_made_anew_and_only_the_agents_own() {
        let data = tempfile::tempdir().unwrap();
        let missing = |folder: &str| Fault::FolderMissing { folder: folder.to_owned() };
        mend(data.path(), &missing("content/objects")).unwrap();
        mend(data.path(), &missing("content/objects")).unwrap();
        assert_eq!(mode_of(&data.path().join("content/objects")), 0o700);
        for stranger in ["runs/abcd", "../elsewhere", "/tmp/elsewhere", "facts.d"] {
            let refused = mend(data.path(), &missing(stranger));
            assert!(matches!(refused, Err(RepairError::NotOurs)), "{stranger}");
            assert!(!data.path().join(stranger).exists());
        }
    }

    #[test]
    fn permissions_are_taken_back_from_the_agents_own_files_alone() {
        let data = tempfile::tempdir().unwrap();
        let mode = |path: &str| Fault::Mode { path: path.to_owned() };
        let open = |name: &str| {
            fs::write(data.path().join(name), "x").unwrap();
            fs::set_permissions(data.path().join(name), Permissions::from_mode(0o666)).unwrap();
        };
        open("identity.json");
        open("mine");
        mend(data.path(), &mode("identity.json")).unwrap();
        assert_eq!(mode_of(&data.path().join("identity.json")), 0o600);
        assert!(matches!(mend(data.path(), &mode("mine")), Err(RepairError::NotOurs)));
        assert_eq!(mode_of(&data.path().join("mine")), 0o666);
        std::os::unix::fs::symlink("mine", data.path().join("settings.json")).unwrap();
        assert!(matches!(mend(data.path(), &mode("settings.json")), Err(RepairError::NotOurs)));
        assert_eq!(mode_of(&data.path().join("mine")), 0o666);
    }
}
