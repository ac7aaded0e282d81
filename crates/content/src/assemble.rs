//! The steps that rebuild a tree from its objects, in an order that cannot be turned against it.
//!
//! The agent's shell walks [`steps`] and writes; [`FileCheck`] turns each file's objects into its
//! bytes and verifies every one, and the whole. Folders come first and links last, so that no file
//! is ever written through a link; a folder gets its own permissions after its content stands.
//! Touches no disk itself.

use std::borrow::Cow;

use muster_model::digest::{Digest, Hasher};

use crate::chunk::{ChunkRef, ChunkRefused};
use crate::entry::{Entry, FileNode, Mode, Node};
use crate::path::TreePath;

/// One thing to do below the folder where the tree is rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Make a folder that only its owner can enter (0700). It does not exist yet.
    Folder {
        /// Where.
        path: &'a TreePath,
    },
    /// Write a file, never through a link and never over something; see [`FileCheck`].
    File {
        /// Where.
        path: &'a TreePath,
        /// Mode, size, digest and chunks.
        file: &'a FileNode,
    },
    /// Make a symbolic link.
    Symlink {
        /// Where.
        path: &'a TreePath,
        /// Where it leads, as written in the link.
        target: &'a str,
    },
    /// Give a folder the permissions it should have. Inner folders come before outer ones.
    Permissions {
        /// Which folder.
        path: &'a TreePath,
        /// Its permissions.
        mode: Mode,
    },
}

/// The steps for a manifest's tree, in order.
pub fn steps(tree: &[Entry]) -> impl Iterator<Item = Step<'_>> {
    let folders = tree.iter().filter_map(|Entry { path, node }| match node {
        Node::Folder { .. } => Some(Step::Folder { path }),
        _ => None,
    });
    let files = tree.iter().filter_map(|Entry { path, node }| match node {
        Node::File(file) => Some(Step::File { path, file }),
        _ => None,
    });
    let links = tree.iter().filter_map(|Entry { path, node }| match node {
        Node::Symlink { target } => Some(Step::Symlink { path, target }),
        _ => None,
    });
    let permissions = tree.iter().rev().filter_map(|Entry { path, node }| match node {
        Node::Folder { mode } => Some(Step::Permissions { path, mode: *mode }),
        _ => None,
    });
    folders.chain(files).chain(links).chain(permissions)
}

/// Why a file is not what the manifest says.
#[derive(Debug, thiserror::Error)]
pub enum FileRefused {
    /// One of its objects is not what it should be.
    #[error("rebuild a file")]
    Chunk(#[source] ChunkRefused),
    /// More objects than it has.
    #[error("rebuild a file: it has only {0} chunks")]
    TooManyChunks(usize),
    /// Fewer objects than it has.
    #[error("rebuild a file: {have} of its {need} chunks came")]
    Incomplete {
        /// Taken so far.
        have: usize,
        /// In all.
        need: usize,
    },
    /// Every object was right and yet the whole is not: the manifest contradicts itself.
    #[error("rebuild a file: its digest is {found} instead of {need}")]
    DigestMismatch {
        /// What the manifest says.
        need: Digest,
        /// What the chunks make.
        found: Digest,
    },
}

/// Rebuilds one file from its objects, in order. What [`FileCheck::take`] gives may be written at
/// once to a file that nobody uses before [`FileCheck::finish`] has approved of it.
pub struct FileCheck<'a> {
    file: &'a FileNode,
    taken: usize,
    whole: Hasher,
}

impl<'a> FileCheck<'a> {
    /// A check that has taken nothing.
    pub fn new(file: &'a FileNode) -> Self {
        Self { file, taken: 0, whole: Hasher::new() }
    }

    /// The chunk whose object is needed next; none when all were taken.
    pub fn needs(&self) -> Option<&'a ChunkRef> {
        self.file.chunks.get(self.taken)
    }

    /// The content of the next chunk, from its object's bytes.
    pub fn take<'b>(&mut self, stored: &'b [u8]) -> Result<Cow<'b, [u8]>, FileRefused> {
        let chunk = self.needs().ok_or(FileRefused::TooManyChunks(self.taken))?;
        let plain = chunk.open(stored).map_err(FileRefused::Chunk)?;
        self.whole.update(&plain);
        self.taken += 1;
        Ok(plain)
    }

    /// Whether all of it was taken and makes up the file.
    pub fn finish(self) -> Result<(), FileRefused> {
        let (have, need) = (self.taken, self.file.chunks.len());
        if have != need {
            return Err(FileRefused::Incomplete { have, need });
        }
        match self.whole.finish() {
            found if found == self.file.digest => Ok(()),
            found => Err(FileRefused::DigestMismatch { need: self.file.digest, found }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Objects, file, folder, link, noise, tree_of};

    fn rebuild(file: &FileNode, objects: &Objects) -> Result<Vec<u8>, FileRefused> {
        let mut check = FileCheck::new(file);
        let mut content = Vec::new();
        while let Some(chunk) = check.needs() {
            content.extend_from_slice(&check.take(&objects[&chunk.object])?);
        }
        check.finish().map(|()| content)
    }

    #[test]
    fn folders_come_first_links_last_and_permissions_from_the_inside() {
        let tree =
            [folder("a"), link("a/b", "../c"), folder("a/d"), file("a/d/e", b"1"), file("c", b"2")];
        let text: Vec<_> = steps(&tree)
            .map(|step| match step {
                Step::Folder { path } => format!("folder {path}"),
                Step::File { path, file } => format!("file {path} {} {}", file.mode, file.size),
                Step::Symlink { path, target } => format!("link {path} {target}"),
                Step::Permissions { path, mode } => format!("permissions {path} {mode}"),
            })
            .collect();
        let expected = [
            "folder a",
            "folder a/d",
            "file a/d/e 0644 1",
            "file c 0644 1",
            "link a/b ../c",
            "permissions a/d 0755",
            "permissions a 0755",
        ];
        assert_eq!(text, expected);
    }

    #[test]
    fn a_file_is_whole_only_with_all_its_chunks_and_no_more() {
        let content = noise(5, 300_000);
        let (tree, objects) = tree_of(&[("a", &content)]);
        let Node::File(file) = &tree[0].node else { panic!("not a file") };
        assert_eq!(rebuild(file, &objects).unwrap(), content);

        let mut short = FileCheck::new(file);
        short.take(&objects[&file.chunks[0].object]).unwrap();
        assert!(matches!(short.finish(), Err(FileRefused::Incomplete { have: 1, .. })));

        let empty = FileNode { size: 0, chunks: vec![], digest: Digest::of(b""), ..file.clone() };
        assert!(matches!(FileCheck::new(&empty).take(b"x"), Err(FileRefused::TooManyChunks(0))));
        FileCheck::new(&empty).finish().unwrap();
    }

    #[test]
    fn right_chunks_in_another_order_are_refused() {
        let (tree, objects) = tree_of(&[("a", &noise(6, 300_000))]);
        let Node::File(file) = &tree[0].node else { panic!("not a file") };
        let mut swapped = file.clone();
        swapped.chunks.swap(0, 1);
        assert!(matches!(rebuild(&swapped, &objects), Err(FileRefused::DigestMismatch { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_tree_comes_back_as_it_was(files in prop::collection::btree_map(
            "[a-z]{1,6}",
            (any::<u8>(), 0usize..400_000, any::<bool>()),
            0..5,
        )) {
            let contents: BTreeMap<_, _> = files
                .into_iter()
                .map(|(path, (seed, length, dull))| {
                    (path, if dull { vec![seed; length] } else { noise(seed, length) })
                })
                .collect();
            let list: Vec<_> = contents.iter().map(|(p, c)| (p.as_str(), c.as_slice())).collect();
            let (tree, objects) = tree_of(&list);
            let mut back = BTreeMap::new();
            for step in steps(&tree) {
                let Step::File { path, file } = step else { continue };
                back.insert(path.to_string(), rebuild(file, &objects).unwrap());
            }
            prop_assert_eq!(back, contents);
        }

        #[test]
        fn one_flipped_bit_anywhere_is_refused(
            which: prop::sample::Index,
            at: prop::sample::Index,
        ) {
            let (tree, mut objects) = tree_of(&[("a", &noise(7, 200_000)), ("b", &[9; 50_000])]);
            let object = *objects.keys().nth(which.index(objects.len())).unwrap();
            let bytes = objects.get_mut(&object).unwrap();
            let length = bytes.len();
            bytes[at.index(length)] ^= 1;
            let outcome: Result<Vec<_>, _> = steps(&tree)
                .filter_map(|step| match step {
                    Step::File { file, .. } => Some(rebuild(file, &objects)),
                    _ => None,
                })
                .collect();
            prop_assert!(matches!(outcome, Err(FileRefused::Chunk(_))));
        }
    }
}
