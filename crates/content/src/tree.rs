//! Makes the tree of a package out of files, and their objects along the way.
//!
//! The caller walks a folder, or has its entries in memory, and hands in each one; objects go out
//! through a callback as soon as they are cut, so that content of any size needs the memory of a
//! few chunks. The same entries give the same tree in whatever order they come. Never opens a file.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use muster_model::digest::{Digest, Hasher};

use crate::chunk::Chunker;
use crate::entry::{ENTRIES_MAX, Entry, FileNode, Mode, Node, NotAMode, NotATree, check_tree};
use crate::path::{NotATreePath, TreePath};

/// Builds one tree. `S` stores an object durably under its name; it is called once for each
/// distinct object, before the entry that needs it exists.
pub struct TreeBuilder<S> {
    nodes: BTreeMap<TreePath, Node>,
    objects: BTreeSet<Digest>,
    store: S,
}

/// Why an entry does not get into the tree, or the tree does not come about.
#[derive(Debug, thiserror::Error)]
pub enum TreeRefused {
    /// The path cannot stand in a tree.
    #[error("add a file or folder to the package")]
    Path(#[source] NotATreePath),
    /// The permissions cannot stand in a tree.
    #[error("add {path:?} to the package")]
    Mode {
        /// Where.
        path: TreePath,
        /// Why.
        #[source]
        source: NotAMode,
    },
    /// The same path a second time.
    #[error("add {0:?} to the package: it is there already")]
    Twice(TreePath),
    /// The content cannot be read.
    #[error("read the content of {path:?}")]
    Read {
        /// Of which file.
        path: TreePath,
        /// What the source said.
        #[source]
        source: io::Error,
    },
    /// An object cannot be stored.
    #[error("store an object of {path:?}")]
    Store {
        /// Of which file.
        path: TreePath,
        /// What the store said.
        #[source]
        source: io::Error,
    },
    /// The whole is not a tree.
    #[error("make a tree of the package's content")]
    Tree(#[source] NotATree),
}

impl<S: FnMut(Digest, &[u8]) -> io::Result<()>> TreeBuilder<S> {
    /// An empty tree, whose objects go to `store`.
    pub fn new(store: S) -> Self {
        Self { nodes: BTreeMap::new(), objects: BTreeSet::new(), store }
    }

    /// Adds a folder. Of `mode` (`st_mode`) the permissions count; setgid and sticky say how the
    /// publisher shares the folder, and are left out.
    pub fn add_folder(&mut self, path: &str, mode: u32) -> Result<(), TreeRefused> {
        let path = self.vacant(path)?;
        let mode = Mode::new(mode & 0o777)
            .map_err(|source| TreeRefused::Mode { path: path.clone(), source })?;
        self.nodes.insert(path, Node::Folder { mode });
        Ok(())
    }

    /// Adds a file with everything that `content` gives. `mode` is the permissions; setuid, setgid
    /// and sticky are refused.
    pub fn add_file(
        &mut self,
        path: &str,
        mode: u32,
        content: impl Read,
    ) -> Result<(), TreeRefused> {
        let path = self.vacant(path)?;
        let mode =
            Mode::new(mode).map_err(|source| TreeRefused::Mode { path: path.clone(), source })?;
        let file = self.cut(&path, mode, content)?;
        self.nodes.insert(path, Node::File(file));
        Ok(())
    }

    /// Adds a symbolic link. Whether its target stays inside is checked by [`Self::finish`].
    pub fn add_symlink(&mut self, path: &str, target: &str) -> Result<(), TreeRefused> {
        let path = self.vacant(path)?;
        self.nodes.insert(path, Node::Symlink { target: target.to_owned() });
        Ok(())
    }

    /// The tree, in order. Folders that nobody added get mode 0755.
    pub fn finish(mut self) -> Result<Vec<Entry>, TreeRefused> {
        for path in self.nodes.keys().cloned().collect::<Vec<_>>() {
            let mut above = path.parent();
            while let Some(folder) = above {
                above = folder.parent();
                self.nodes.entry(folder).or_insert(Node::Folder { mode: Mode::FOLDER });
            }
        }
        let nodes = self.nodes.into_iter();
        let tree: Vec<_> = nodes.map(|(path, node)| Entry { path, node }).collect();
        check_tree(&tree).map_err(TreeRefused::Tree)?;
        Ok(tree)
    }

    fn vacant(&self, path: &str) -> Result<TreePath, TreeRefused> {
        if self.nodes.len() >= ENTRIES_MAX {
            return Err(TreeRefused::Tree(NotATree::TooManyEntries(self.nodes.len() + 1)));
        }
        let path = TreePath::new(path).map_err(TreeRefused::Path)?;
        match self.nodes.contains_key(&path) {
            true => Err(TreeRefused::Twice(path)),
            false => Ok(path),
        }
    }

    fn cut(
        &mut self,
        path: &TreePath,
        mode: Mode,
        content: impl Read,
    ) -> Result<FileNode, TreeRefused> {
        let read = |source| TreeRefused::Read { path: path.clone(), source };
        let mut file = FileNode { mode, size: 0, digest: Digest::ZERO, chunks: Vec::new() };
        let mut whole = Hasher::new();
        for chunk in Chunker::new(content).map_err(read)? {
            let chunk = chunk.map_err(read)?;
            whole.update(chunk.plain());
            file.size += u64::from(chunk.reference.length);
            file.chunks.push(chunk.reference);
            if self.objects.insert(chunk.reference.object) {
                (self.store)(chunk.reference.object, chunk.stored())
                    .map_err(|source| TreeRefused::Store { path: path.clone(), source })?;
            }
        }
        file.digest = whole.finish();
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    fn nothing(_: Digest, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    #[track_caller]
    fn refused<T>(outcome: Result<T, TreeRefused>, said: &str) {
        let error = outcome.map(|_| ()).unwrap_err();
        let source = std::error::Error::source(&error).map(|s| s.to_string()).unwrap_or_default();
        let text = format!("{error}: {source}");
        assert!(text.contains(said), "{text}");
    }

    #[test]
    fn the_order_of_adding_does_not_matter() {
        let mut forward = TreeBuilder::new(nothing);
        forward.add_folder("b", 0o755).unwrap();
        forward.add_file("b/c", 0o644, &b"1"[..]).unwrap();
        forward.add_symlink("a", "b/c").unwrap();
        let mut backward = TreeBuilder::new(nothing);
        backward.add_symlink("a", "b/c").unwrap();
        backward.add_file("b/c", 0o644, &b"1"[..]).unwrap();
        assert_eq!(forward.finish().unwrap(), backward.finish().unwrap());
    }

    #[test]
    fn each_object_is_stored_once_under_its_digest() {
        let mut stored = Vec::new();
        let mut tree = TreeBuilder::new(|object, bytes: &[u8]| {
            assert_eq!(Digest::of(bytes), object);
            stored.push(object);
            Ok(())
        });
        let content = noise(3, 300_000);
        tree.add_file("one", 0o644, &content[..]).unwrap();
        tree.add_file("two", 0o755, &content[..]).unwrap();
        let entries = tree.finish().unwrap();
        let Node::File(file) = &entries[0].node else { panic!("not a file") };
        assert_eq!((file.size, file.digest), (300_000, Digest::of(&content)));
        assert!(file.chunks.len() > 1);
        assert_eq!(stored, file.chunks.iter().map(|chunk| chunk.object).collect::<Vec<_>>());
    }

    #[test]
    fn what_cannot_stand_in_a_tree_is_refused_by_name() {
        let mut tree = TreeBuilder::new(nothing);
        tree.add_file("a", 0o644, &b""[..]).unwrap();
        refused(tree.add_file("a", 0o644, &b""[..]), "\"a\" to the package: it is there already");
        refused(tree.add_file("su", 0o4755, &b""[..]), "neither setuid");
        refused(tree.add_file("../b", 0o644, &b""[..]), "`..`");
        tree.add_folder("shared", 0o42775).unwrap();
        tree.add_symlink("l", "/etc/passwd").unwrap();
        refused(tree.finish(), "may leave the tree");
    }

    #[test]
    fn a_file_cannot_be_a_folder_too() {
        let mut tree = TreeBuilder::new(nothing);
        tree.add_file("a", 0o644, &b""[..]).unwrap();
        tree.add_file("a/b", 0o644, &b""[..]).unwrap();
        refused(tree.finish(), "is not a folder");
    }

    #[test]
    fn a_store_that_fails_ends_the_tree() {
        let mut tree = TreeBuilder::new(|_, _: &[u8]| Err(io::Error::other("disk full")));
        refused(tree.add_file("a", 0o644, &b"x"[..]), "disk full");
    }

    #[test]
    fn entries_are_bounded_while_they_come() {
        let mut tree = TreeBuilder::new(nothing);
        for n in 0..ENTRIES_MAX {
            tree.add_folder(&n.to_string(), 0o755).unwrap();
        }
        refused(tree.add_folder("one more", 0o755), "100001 entries");
    }
}
