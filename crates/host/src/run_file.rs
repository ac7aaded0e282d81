//! `DIR/run/NAME.json`: how others on the machine find a running role.
//!
//! Published whole when the role is ready, removed when it ends cleanly. After a crash it stays, so a
//! reader checks the pid in it; the next start replaces it.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::publish::{
    PublishError, ReadError, create_private_dir, durable_publish, durable_remove, read_if_there,
    remove_stale_drafts,
};

const RUN_DIR: &str = "run";
/// A run file holds an address or two, a pid and a pin.
const RUN_FILE_BYTES_MAX: u64 = 64 * 1024;

/// A run file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RunFileError {
    /// The role's facts could not be written as JSON.
    #[error("failed to write {path} as JSON")]
    Encode {
        /// The run file.
        path: PathBuf,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
    /// The file holds something else.
    #[error("failed to understand {path}")]
    Decode {
        /// The run file.
        path: PathBuf,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
    /// The file could not be published.
    #[error("failed to publish the run file")]
    Publish(#[from] PublishError),
    /// The file could not be read.
    #[error("failed to read the run file")]
    Read(#[from] ReadError),
}

impl RunFileError {
    /// Whether there is no room for it.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Publish(error) if error.is_disk_full())
    }
}

/// A published run file; removed when dropped.
#[derive(Debug)]
pub struct RunFile {
    path: PathBuf,
}

impl RunFile {
    /// Publishes `facts` as `DATA/run/NAME.json`, in place of one that a crash left.
    pub fn publish(data: &Path, name: &str, facts: &impl Serialize) -> Result<Self, RunFileError> {
        let path = run_file(data, name);
        let dir = data.join(RUN_DIR);
        create_private_dir(&dir)?;
        remove_stale_drafts(&dir)?;
        let file = Self { path };
        file.update(facts)?;
        Ok(file)
    }

    /// Replaces what the file says.
    pub fn update(&self, facts: &impl Serialize) -> Result<(), RunFileError> {
        let json = serde_json::to_vec(facts);
        let encode = |source| RunFileError::Encode { path: self.path.clone(), source };
        durable_publish(&self.path, &json.map_err(encode)?)?;
        Ok(())
    }
}

impl Drop for RunFile {
    fn drop(&mut self) {
        if let Err(error) = durable_remove(&self.path) {
            tracing::warn!(%error, "the run file stays");
        }
    }
}

/// What the role called `name` published in `data`; `None` if it never ran or ended cleanly.
pub fn read_run_file<T: DeserializeOwned>(
    data: &Path,
    name: &str,
) -> Result<Option<T>, RunFileError> {
    let path = run_file(data, name);
    let Some(bytes) = read_if_there(&path, RUN_FILE_BYTES_MAX)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|source| RunFileError::Decode { path, source })
}

fn run_file(data: &Path, name: &str) -> PathBuf {
    data.join(RUN_DIR).join(format!("{name}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_found_while_it_runs() {
        let dir = tempfile::tempdir().unwrap();
        let read = || read_run_file::<u32>(dir.path(), "site").unwrap();
        assert_eq!(read(), None);
        let running = RunFile::publish(dir.path(), "site", &17).unwrap();
        assert_eq!(read(), Some(17));
        running.update(&18).unwrap();
        assert_eq!(read(), Some(18));
        drop(running);
        assert_eq!(read(), None);
    }

    #[test]
    fn other_text_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let _running = RunFile::publish(dir.path(), "site", &"text").unwrap();
        let refused = read_run_file::<u32>(dir.path(), "site").unwrap_err().to_string();
        assert!(refused.ends_with("run/site.json"), "{refused}");
    }
}
