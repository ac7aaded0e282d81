//! What programs printed, kept on the device after their run's folder is gone: for people who stand
//! before the machine, also without a site.
//!
//! ```text
//! DATA/output/RUN      the beginning and the end of what the run printed
//! ```
//!
//! A report carries the first and last few KiB to the site; here is more of it, for the newest runs.
//! Nothing is decided by it, so what cannot be kept is let go with a word in the log.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use muster_host::publish::{self, PublishError, ReadError};
use muster_model::message::RunId;

use crate::output::{FILE_HEAD_BYTES_MAX, FILE_TAIL_BYTES_MAX};

/// The folder in the data folder.
pub(crate) const OUTPUT_DIR: &str = "output";
/// Runs whose output is kept.
const OUTPUTS_MAX: usize = 100;
/// Bytes of output that are kept in all: six runs that printed without end, or a hundred that did not;
/// a small part of the smallest disk that an agent is of use on.
const OUTPUTS_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The most that one file holds: both ends and the line between them.
const OUTPUT_FILE_BYTES_MAX: u64 = (FILE_HEAD_BYTES_MAX + FILE_TAIL_BYTES_MAX + 1024) as u64;

/// Keeps the output in a run's folder, which is about to go, and lets go of the oldest ones. What is
/// not there, or kept already, is no error. Blocks.
pub(crate) fn keep(data: &Path, run: &str, folder: &Path) -> Result<(), PublishError> {
    let output = folder.join("output");
    if !fs::symlink_metadata(&output).is_ok_and(|seen| seen.is_file() && seen.len() > 0) {
        return Ok(());
    }
    let kept = data.join(OUTPUT_DIR);
    publish::create_private_dir(&kept)?;
    match publish::durable_move_new(&output, &kept.join(run)) {
        Ok(()) | Err(PublishError::Exists { .. }) => {}
        Err(error) => return Err(error),
    }
    if let Err(error) = let_go(&kept) {
        tracing::warn!(%error, "old output stays");
    }
    Ok(())
}

/// Removes the oldest files until the rest is within both limits.
fn let_go(kept: &Path) -> io::Result<()> {
    let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(kept)? {
        let entry = entry?;
        let seen = entry.metadata()?;
        files.push((seen.modified()?, seen.len(), entry.path()));
    }
    files.sort();
    let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    let mut left = files.len();
    for (_, size, path) in files {
        // The newest stays, whatever it takes.
        if left <= 1 || (left <= OUTPUTS_MAX && bytes <= OUTPUTS_BYTES_MAX) {
            return Ok(());
        }
        fs::remove_file(path)?;
        bytes -= size;
        left -= 1;
    }
    Ok(())
}

/// What a run has printed: from its folder while there is one, else what was kept. `None` if nothing
/// was printed, or it was let go.
pub(crate) fn read(data: &Path, run: RunId) -> Result<Option<String>, ReadError> {
    let of_run = data.join(crate::RUNS_DIR).join(run.to_string()).join("output");
    for path in [of_run, data.join(OUTPUT_DIR).join(run.to_string())] {
        if let Some(bytes) = publish::read_if_there(&path, OUTPUT_FILE_BYTES_MAX)? {
            return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_model::digest::Digest;

    fn run(n: u32) -> RunId {
        RunId(Digest::of(&n.to_le_bytes()))
    }

    /// A run's folder with an output of `bytes`.
    fn printed(data: &Path, n: u32, bytes: usize) -> PathBuf {
        let folder = data.join(crate::RUNS_DIR).join(run(n).to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("output"), "x".repeat(bytes)).unwrap();
        folder
    }

    fn kept(data: &Path) -> usize {
        fs::read_dir(data.join(OUTPUT_DIR)).unwrap().count()
    }

    #[test]
    fn output_is_read_from_the_run_and_from_what_was_kept_of_it() {
        let data = tempfile::tempdir().unwrap();
        let data = data.path();
        assert_eq!(read(data, run(1)).unwrap(), None);
        let folder = printed(data, 1, 3);
        assert_eq!(read(data, run(1)).unwrap().as_deref(), Some("xxx"));
        keep(data, &run(1).to_string(), &folder).unwrap();
        assert!(!folder.join("output").exists());
        assert_eq!(read(data, run(1)).unwrap().as_deref(), Some("xxx"));
        // Asked again after a crash.
        keep(data, &run(1).to_string(), &folder).unwrap();
    }

    #[test]
    fn nothing_printed_is_nothing_kept() {
        let data = tempfile::tempdir().unwrap();
        let folder = printed(data.path(), 1, 0);
        keep(data.path(), &run(1).to_string(), &folder).unwrap();
        assert!(!data.path().join(OUTPUT_DIR).exists());
    }

    #[test]
    fn the_newest_outputs_stay_within_the_limits() {
        let data = tempfile::tempdir().unwrap();
        let data = data.path();
        for n in 0..OUTPUTS_MAX as u32 + 5 {
            keep(data, &run(n).to_string(), &printed(data, n, 10)).unwrap();
        }
        assert_eq!(kept(data), OUTPUTS_MAX);
        let large = OUTPUTS_BYTES_MAX as usize + 1;
        keep(data, &run(1_000).to_string(), &printed(data, 1_000, large)).unwrap();
        assert_eq!(kept(data), 1, "the newest stays, whatever it takes");
    }
}
