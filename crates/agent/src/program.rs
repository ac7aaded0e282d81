//! The program that the agent runs from, and what became of its file since it was started.
//!
//! A package manager replaces the file beneath a running agent. That hurts nothing (supervisors are
//! started from the process itself), but the new program is taken up only at the next start, and a
//! device that stays half upgraded has to say so.

use std::fs;
use std::path::{Path, PathBuf};

/// What the kernel writes behind the name of a file that was removed or replaced (proc(5)).
const REMOVED: &str = " (deleted)";

/// The file of a program that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProgramFile {
    /// The program runs from it.
    Current(PathBuf),
    /// Another file stands in its place.
    Replaced(PathBuf),
    /// Nothing stands in its place.
    Removed(PathBuf),
}

/// What became of the file that `process` (`self`, or a pid) runs from; `None` if that cannot be seen.
pub(crate) fn file_of(process: &str) -> Option<ProgramFile> {
    let seen = fs::read_link(Path::new("/proc").join(process).join("exe")).ok()?;
    let name = seen.to_string_lossy();
    Some(match name.strip_suffix(REMOVED).map(PathBuf::from) {
        None => ProgramFile::Current(seen),
        Some(path) if path.exists() => ProgramFile::Replaced(path),
        Some(path) => ProgramFile::Removed(path),
    })
}

/// Whether a newer program than the one that runs lies in its place.
pub(crate) fn is_replaced() -> bool {
    matches!(file_of("self"), Some(ProgramFile::Replaced(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_file_that_is_replaced_or_removed_beneath_its_program_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cat");
        fs::copy("/bin/cat", &path).unwrap();
        let mut cat = Command::new(&path).stdin(Stdio::piped()).spawn().unwrap();
        let pid = cat.id().to_string();
        let path = fs::canonicalize(&path).unwrap();
        assert_eq!(file_of(&pid), Some(ProgramFile::Current(path.clone())));
        fs::remove_file(&path).unwrap();
        fs::copy("/bin/cat", &path).unwrap();
        assert_eq!(file_of(&pid), Some(ProgramFile::Replaced(path.clone())));
        fs::remove_file(&path).unwrap();
        assert_eq!(file_of(&pid), Some(ProgramFile::Removed(path)));
        cat.kill().unwrap();
        cat.wait().unwrap();
        assert_eq!(file_of("0"), None);
        assert!(!is_replaced());
    }
}
