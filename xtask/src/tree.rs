//! The work tree as a value: every path with its text, read once, so that each rule of `tidy` is a
//! function from a tree to findings and its test plants a violation in a tree of three lines.
//!
//! Never follows a symbolic link, never looks into build output.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Folders that hold what was built or fetched, not what was written.
const SKIPPED_FOLDERS: [&str; 4] = [".git", "target", "node_modules", ".demo"];

/// Nothing that a person wrote is larger; such a file counts as present, its text is not read.
const TEXT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Paths relative to the root, with `/` between names. `None` for what is not text.
#[derive(Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, Option<String>>,
}

/// What kept the work tree from being read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    #[error("list folder {path}")]
    List { path: PathBuf, source: io::Error },
    #[error("read file {path}")]
    Read { path: PathBuf, source: io::Error },
}

impl Tree {
    /// Reads every file below `root`.
    pub(crate) fn load(root: &Path) -> Result<Tree, TreeError> {
        let mut tree = Tree::default();
        tree.add_folder(root, "")?;
        Ok(tree)
    }

    fn add_folder(&mut self, folder: &Path, prefix: &str) -> Result<(), TreeError> {
        let failed = |source| TreeError::List { path: folder.to_owned(), source };
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if kind.is_dir() && !SKIPPED_FOLDERS.contains(&name.as_str()) {
                self.add_folder(&entry.path(), &format!("{prefix}{name}/"))?;
            } else if kind.is_file() {
                self.files.insert(format!("{prefix}{name}"), text_of(&entry.path())?);
            }
        }
        Ok(())
    }

    /// Files with text, in the order of their paths.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// Files whose path ends in `ending`, with their text.
    pub(crate) fn ending(&self, ending: &str) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(move |(path, _)| path.ends_with(ending))
    }

    /// The text of one file, if it is there and is text.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// Whether a file or a folder with something in it has this path.
    pub(crate) fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        path.is_empty()
            || self.files.contains_key(path)
            || self
                .files
                .range(folder.clone()..)
                .next()
                .is_some_and(|(p, _)| p.starts_with(&folder))
    }

    /// Names of the folders right below `crates/` that hold a manifest.
    pub(crate) fn crates(&self) -> impl Iterator<Item = &str> {
        self.ending("/Cargo.toml").filter_map(|(path, _)| {
            let name = path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?;
            (!name.contains('/')).then_some(name)
        })
    }
}

fn text_of(path: &Path) -> Result<Option<String>, TreeError> {
    let failed = |source| TreeError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > TEXT_BYTES_MAX {
        return Ok(None);
    }
    Ok(String::from_utf8(fs::read(path).map_err(failed)?).ok())
}

#[cfg(test)]
impl Tree {
    /// A tree of the given files, for the tests of the rules.
    pub(crate) fn of(files: &[(&str, &str)]) -> Tree {
        let keep = |(path, text): &(&str, &str)| ((*path).to_owned(), Some((*text).to_owned()));
        Tree { files: files.iter().map(keep).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_output_is_not_part_of_the_tree() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["crates/model/Cargo.toml", "target/debug/x", "crates/model/logo.png"] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, [0xff]).unwrap();
        }
        fs::write(folder.path().join("crates/model/Cargo.toml"), "[package]").unwrap();
        let tree = Tree::load(folder.path()).unwrap();
        assert_eq!(tree.texts().collect::<Vec<_>>(), [("crates/model/Cargo.toml", "[package]")]);
        assert_eq!(tree.crates().collect::<Vec<_>>(), ["model"]);
        assert!(tree.has("crates/model/logo.png") && tree.has("crates/model"));
        assert!(!tree.has("target") && !tree.has("crates/mod"));
    }
}
