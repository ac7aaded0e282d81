//! What the tests of several modules share.

use std::collections::BTreeMap;

use muster_model::digest::Digest;

use crate::chunk::Chunker;
use crate::entry::{Entry, FileNode, Mode, Node};
use crate::path::TreePath;
use crate::tree::TreeBuilder;

/// A folder of mode 0755.
pub(crate) fn folder(path: &str) -> Entry {
    Entry { path: TreePath::new(path).unwrap(), node: Node::Folder { mode: Mode::FOLDER } }
}

/// A file of mode 0644.
pub(crate) fn file(path: &str, content: &[u8]) -> Entry {
    let chunks = Chunker::new(content).unwrap().map(|chunk| chunk.unwrap().reference).collect();
    let (size, digest) = (content.len() as u64, Digest::of(content));
    let node = Node::File(FileNode { mode: Mode::FILE, size, digest, chunks });
    Entry { path: TreePath::new(path).unwrap(), node }
}

/// A symbolic link.
pub(crate) fn link(path: &str, target: &str) -> Entry {
    let target = target.to_owned();
    Entry { path: TreePath::new(path).unwrap(), node: Node::Symlink { target } }
}

/// `bytes` bytes that do not compress and are the same every time (splitmix64 over `seed`).
pub(crate) fn noise(seed: u8, bytes: usize) -> Vec<u8> {
    let mut state = u64::from(seed);
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    std::iter::repeat_with(move || next().to_le_bytes()).flatten().take(bytes).collect()
}

/// Objects by name.
pub(crate) type Objects = BTreeMap<Digest, Vec<u8>>;

/// A tree of these files, and its objects.
pub(crate) fn tree_of(files: &[(&str, &[u8])]) -> (Vec<Entry>, Objects) {
    let mut objects = Objects::new();
    let mut tree = TreeBuilder::new(|object, bytes: &[u8]| {
        objects.insert(object, bytes.to_vec());
        Ok(())
    });
    for (path, content) in files {
        tree.add_file(path, 0o644, *content).unwrap();
    }
    let entries = tree.finish().unwrap();
    (entries, objects)
}

pub(crate) mod debs;
