//! The tree of a package: files, folders and links, with their permissions.
//!
//! [`Entry`] and [`Mode`] are values of a manifest; [`check_tree`] says whether a list
//! of entries is a tree. Publishers and agents use the same check, so that what can be signed can
//! be unpacked. Never looks at a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use muster_model::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::chunk::ChunkRef;
use crate::path::{TreePath, link_stays_inside};

/// Entries in one tree. The largest source trees have some 90,000 files.
pub const ENTRIES_MAX: usize = 100_000;

/// Permission bits, `0000` to `0777`, written as four octal digits. There is no way to say setuid,
/// setgid or sticky: a program that needs them sets them itself, where it can be read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(u16);

/// Bits that are not permissions of owner, group and others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("take {0} as a mode: allowed are 0000 to 0777, so neither setuid, setgid nor sticky")]
pub struct NotAMode(String);

impl Mode {
    /// What a folder has when nobody says: `0755`.
    pub const FOLDER: Mode = Mode(0o755);
    /// What a file has when nobody says: `0644`.
    pub const FILE: Mode = Mode(0o644);

    /// Checks the bits. Strip the file type (`st_mode & 0o7777`) before.
    pub fn new(bits: u32) -> Result<Self, NotAMode> {
        match u16::try_from(bits) {
            Ok(bits) if bits <= 0o777 => Ok(Self(bits)),
            _ => Err(NotAMode(format!("{bits:04o}"))),
        }
    }

    /// The bits.
    pub fn bits(self) -> u32 {
        self.0.into()
    }
}

impl TryFrom<String> for Mode {
    type Error = NotAMode;
    fn try_from(text: String) -> Result<Self, NotAMode> {
        let octal = text.len() == 4 && text.bytes().all(|b| b.is_ascii_digit());
        match u32::from_str_radix(&text, 8) {
            Ok(bits) if octal => Self::new(bits),
            _ => Err(NotAMode(format!("{text:?}"))),
        }
    }
}

impl FromStr for Mode {
    type Err = NotAMode;
    fn from_str(text: &str) -> Result<Self, NotAMode> {
        text.to_owned().try_into()
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        mode.to_string()
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One thing in a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Where.
    pub path: TreePath,
    /// What.
    pub node: Node,
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Node {
    /// A folder.
    Folder {
        /// Its permissions once everything inside stands.
        mode: Mode,
    },
    /// A file.
    File(FileNode),
    /// A symbolic link that leads to somewhere inside the tree.
    Symlink {
        /// Relative to the folder that holds the link: any number of `..` first, none later.
        target: String,
    },
}

/// A file: every byte of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileNode {
    /// Its permissions.
    pub mode: Mode,
    /// Its length in bytes, the sum over its chunks.
    pub size: u64,
    /// The digest of the whole content.
    pub digest: Digest,
    /// The content in order; none for an empty file.
    pub chunks: Vec<ChunkRef>,
}

/// Why a list of entries is not a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotATree {
    /// More than [`ENTRIES_MAX`].
    #[error("take {0} entries: the most is {ENTRIES_MAX}")]
    TooManyEntries(usize),
    /// Not in rising order of bytes, or the same path twice.
    #[error("take {0:?} into the tree: it stands twice or out of order")]
    OutOfOrder(TreePath),
    /// The folder that should hold it is missing, a file or a link.
    #[error("take {0:?} into the tree: the path above it is not a folder of the tree")]
    NoFolder(TreePath),
    /// Chunks that cannot be, or whose lengths do not add up to the file's.
    #[error("take {0:?} into the tree: its chunks do not make up a file of its size")]
    Chunks(TreePath),
    /// One object with two sizes: one of them would never verify.
    #[error("take {path:?} into the tree: object {object} has another size elsewhere")]
    Contradiction {
        /// The later file.
        path: TreePath,
        /// The object.
        object: Digest,
    },
    /// A link out of the tree, an absolute one, or one that comes back up after going down.
    #[error("take the link {path:?} into the tree: its target {target:?} may leave the tree")]
    LinkLeaves {
        /// The link.
        path: TreePath,
        /// Its target.
        target: String,
    },
}

/// Whether `entries` are a tree: sorted, unique, each in a folder that stands there, each file made
/// up of its chunks, each link leading inside.
pub fn check_tree(entries: &[Entry]) -> Result<(), NotATree> {
    if entries.len() > ENTRIES_MAX {
        return Err(NotATree::TooManyEntries(entries.len()));
    }
    let mut folders = BTreeSet::new();
    let mut objects = BTreeMap::new();
    let mut before: Option<&TreePath> = None;
    for Entry { path, node } in entries {
        if before.is_some_and(|before| before >= path) {
            return Err(NotATree::OutOfOrder(path.clone()));
        }
        before = Some(path);
        // In byte order a folder stands before everything below it.
        if let Some((parent, _)) = path.as_str().rsplit_once('/')
            && !folders.contains(parent)
        {
            return Err(NotATree::NoFolder(path.clone()));
        }
        match node {
            Node::Folder { .. } => {
                folders.insert(path.as_str());
            }
            Node::File(file) => check_chunks(path, file, &mut objects)?,
            Node::Symlink { target } if link_stays_inside(path, target) => {}
            Node::Symlink { target } => {
                let (path, target) = (path.clone(), target.clone());
                return Err(NotATree::LinkLeaves { path, target });
            }
        }
    }
    Ok(())
}

fn check_chunks(
    path: &TreePath,
    file: &FileNode,
    objects: &mut BTreeMap<Digest, u32>,
) -> Result<(), NotATree> {
    let mut size = 0;
    for chunk in &file.chunks {
        if !chunk.is_plausible() {
            return Err(NotATree::Chunks(path.clone()));
        }
        size += u64::from(chunk.length);
        if *objects.entry(chunk.object).or_insert(chunk.stored) != chunk.stored {
            return Err(NotATree::Contradiction { path: path.clone(), object: chunk.object });
        }
    }
    if size == file.size { Ok(()) } else { Err(NotATree::Chunks(path.clone())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{file, folder, link};

    #[test]
    fn a_mode_has_no_setuid_setgid_or_sticky() {
        assert_eq!("0755".parse::<Mode>(), Ok(Mode::FOLDER));
        for bad in ["4755", "2755", "1777", "755", "07555", "0788", "+755", ""] {
            assert!(bad.parse::<Mode>().is_err(), "{bad}");
        }
        assert!(Mode::new(0o100644).is_err());
    }

    #[track_caller]
    fn refused(entries: &[Entry], said: &str) {
        let error = check_tree(entries).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }

    #[test]
    fn a_tree_is_sorted_unique_and_has_its_folders() {
        check_tree(&[folder("a"), file("a-b", b"1"), file("a/c", b"2"), link("l", "a/c")]).unwrap();
        refused(&[file("b", b""), file("a", b"")], "out of order");
        refused(&[file("a", b""), file("a", b"")], "twice");
        refused(&[file("a/c", b"")], "not a folder");
        refused(&[file("a", b""), file("a/c", b"")], "not a folder");
        refused(&[link("a", "."), file("a/c", b"")], "not a folder");
        refused(&[link("l", "../x")], "may leave");
    }

    #[test]
    fn a_file_is_the_sum_of_its_chunks() {
        let with = |change: fn(&mut FileNode)| {
            let mut entry = file("a", b"some content");
            if let Node::File(node) = &mut entry.node {
                change(node);
            }
            [entry]
        };
        refused(&with(|node| node.size += 1), "do not make up");
        refused(&with(|node| node.chunks[0].length += 1), "do not make up");
        let mut twice = with(|node| node.chunks[0].stored += 1);
        refused(&twice, "do not make up");
        if let Node::File(node) = &mut twice[0].node {
            node.size += 1;
            node.chunks[0].length += 1;
            node.chunks.insert(0, node.chunks[0]);
            node.chunks[0].stored -= 1;
            node.chunks[0].length -= 1;
            node.size += u64::from(node.chunks[0].length);
        }
        refused(&twice, "another size elsewhere");
    }

    #[test]
    fn too_many_entries_are_refused() {
        let entries: Vec<_> = (0..=ENTRIES_MAX).map(|n| folder(&format!("{n:06}"))).collect();
        refused(&entries, "100001 entries");
        check_tree(&entries[1..]).unwrap();
    }
}
