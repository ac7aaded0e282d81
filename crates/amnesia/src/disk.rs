//! The disk: files, folders and links, each with what is there now and what would be there after a
//! power cut. Synchronous, without a clock; time is the number of operations so far.

mod fate;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use fate::Fate;

/// The root folder's number, as FUSE wants it.
pub(crate) const ROOT: u64 = 1;
/// What a disk writes at once; a torn write is torn between two of them.
const PAGE_BYTES: usize = 4096;

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No such name or node.
    Missing,
    /// The name is taken.
    Exists,
    /// The folder has names in it.
    NotEmpty,
    /// It is a folder.
    IsFolder,
    /// It is no folder.
    NotFolder,
    /// The power is gone.
    PowerCut,
}

type Names = BTreeMap<OsString, u64>;

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes.
    File(Twice<Vec<u8>>),
    /// Names.
    Folder(Twice<Names>),
    /// Another path. Made whole or not at all.
    Link(PathBuf),
}

/// What is there now, and what was there at the last sync.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Twice<T> {
    pub(crate) now: T,
    synced: T,
}

impl<T: Clone> Twice<T> {
    fn sync(&mut self) {
        self.synced = self.now.clone();
    }
}

/// A file, a folder or a link.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// When it was changed, in operations.
    pub(crate) changed: u64,
}

/// Who makes a node, and with which permissions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) mode: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// The disk.
#[derive(Debug)]
pub(crate) struct Disk {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    operations: u64,
    cut_at: Option<u64>,
}

impl Disk {
    /// An empty one, whose root belongs to `owner`.
    pub(crate) fn new(owner: Owner) -> Self {
        let mut disk = Self { nodes: BTreeMap::new(), next: ROOT, operations: 0, cut_at: None };
        disk.add(Kind::Folder(Twice::default()), owner);
        disk
    }

    /// How many changes and syncs were asked for so far.
    pub(crate) fn operations(&self) -> u64 {
        self.operations
    }

    /// Cuts the power at the operation of that number: it and everything after it fails.
    pub(crate) fn cut_at(&mut self, operation: u64) {
        self.cut_at = Some(operation);
    }

    /// Whether the power is gone.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut_at.is_some_and(|at| self.operations >= at)
    }

    /// The power is back: of what was not synced, `seed` says what survived.
    pub(crate) fn boot(&mut self, seed: u64) {
        let mut fate = Fate::new(seed);
        for node in self.nodes.values_mut() {
            match &mut node.kind {
                Kind::File(bytes) if bytes.now != bytes.synced => fate.of_bytes(bytes),
                Kind::Folder(names) if names.now != names.synced => fate.of_names(names),
                _ => {}
            }
        }
        self.forget_unnamed();
        self.cut_at = None;
    }

    fn forget_unnamed(&mut self) {
        let mut named = BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(number) = open.pop() {
            if let Some(Kind::Folder(names)) = self.nodes.get(&number).map(|node| &node.kind) {
                open.extend(names.now.values().filter(|below| named.insert(**below)));
            }
        }
        self.nodes.retain(|number, _| named.contains(number));
    }

    pub(crate) fn node(&self, number: u64) -> Result<&Node, Refusal> {
        if self.is_cut() {
            return Err(Refusal::PowerCut);
        }
        self.nodes.get(&number).ok_or(Refusal::Missing)
    }

    pub(crate) fn lookup(&self, folder: u64, name: &OsStr) -> Result<u64, Refusal> {
        self.names(folder)?.get(name).copied().ok_or(Refusal::Missing)
    }

    /// The names in a folder.
    pub(crate) fn names(&self, folder: u64) -> Result<&Names, Refusal> {
        match &self.node(folder)?.kind {
            Kind::Folder(names) => Ok(&names.now),
            _ => Err(Refusal::NotFolder),
        }
    }

    /// Names of a node that are there now.
    pub(crate) fn links(&self, number: u64) -> usize {
        let names = self.nodes.values().filter_map(|node| match &node.kind {
            Kind::Folder(names) => Some(names.now.values()),
            _ => None,
        });
        names.flatten().filter(|named| **named == number).count()
    }

    pub(crate) fn read(&self, number: u64, from: u64, most: usize) -> Result<&[u8], Refusal> {
        match &self.node(number)?.kind {
            Kind::File(bytes) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.now.len());
                Ok(&bytes.now[from..bytes.now.len().min(from.saturating_add(most))])
            }
            _ => Err(Refusal::IsFolder),
        }
    }

    pub(crate) fn make_file(&mut self, folder: u64, name: &OsStr, owner: Owner) -> Made {
        self.make(folder, name, Kind::File(Twice::default()), owner)
    }

    pub(crate) fn make_folder(&mut self, folder: u64, name: &OsStr, owner: Owner) -> Made {
        self.make(folder, name, Kind::Folder(Twice::default()), owner)
    }

    pub(crate) fn make_link(&mut self, folder: u64, name: &OsStr, to: &Path, owner: Owner) -> Made {
        self.make(folder, name, Kind::Link(to.to_owned()), owner)
    }

    fn make(&mut self, folder: u64, name: &OsStr, kind: Kind, owner: Owner) -> Made {
        self.change()?;
        if self.names(folder)?.contains_key(name) {
            return Err(Refusal::Exists);
        }
        let number = self.add(kind, owner);
        self.name(folder, name, number)?;
        Ok(number)
    }

    fn add(&mut self, kind: Kind, owner: Owner) -> u64 {
        let number = self.next;
        self.next += 1;
        let Owner { mode, user, group } = owner;
        self.nodes.insert(number, Node { kind, mode, user, group, changed: self.operations });
        number
    }

    /// Gives a node one name more.
    pub(crate) fn link(&mut self, number: u64, folder: u64, name: &OsStr) -> Result<(), Refusal> {
        self.change()?;
        match self.names(folder)?.contains_key(name) {
            true => Err(Refusal::Exists),
            false => self.name(folder, name, number),
        }
    }

    pub(crate) fn remove_file(&mut self, folder: u64, name: &OsStr) -> Result<(), Refusal> {
        self.change()?;
        let number = self.lookup(folder, name)?;
        if matches!(self.node(number)?.kind, Kind::Folder(_)) {
            return Err(Refusal::IsFolder);
        }
        self.unname(folder, name)
    }

    pub(crate) fn remove_folder(&mut self, folder: u64, name: &OsStr) -> Result<(), Refusal> {
        self.change()?;
        let number = self.lookup(folder, name)?;
        match self.names(number)?.is_empty() {
            true => self.unname(folder, name),
            false => Err(Refusal::NotEmpty),
        }
    }

    /// Moves a name, over what bears the new one.
    pub(crate) fn rename(
        &mut self,
        (folder, name): (u64, &OsStr),
        (into, new): (u64, &OsStr),
    ) -> Result<(), Refusal> {
        self.change()?;
        let number = self.lookup(folder, name)?;
        if let Ok(there) = self.lookup(into, new) {
            if there == number {
                return Ok(());
            }
            if self.names(there).is_ok_and(|names| !names.is_empty()) {
                return Err(Refusal::NotEmpty);
            }
        }
        self.name(into, new, number)?;
        self.unname(folder, name)
    }

    pub(crate) fn write(&mut self, number: u64, at: u64, bytes: &[u8]) -> Result<(), Refusal> {
        let changed = self.change()?;
        let at = usize::try_from(at).map_err(|_| Refusal::Missing)?;
        let node = self.node_mut(number)?;
        let Kind::File(file) = &mut node.kind else { return Err(Refusal::IsFolder) };
        if file.now.len() < at + bytes.len() {
            file.now.resize(at + bytes.len(), 0);
        }
        file.now[at..at + bytes.len()].copy_from_slice(bytes);
        node.changed = changed;
        Ok(())
    }

    pub(crate) fn resize(&mut self, number: u64, bytes: u64) -> Result<(), Refusal> {
        let changed = self.change()?;
        let bytes = usize::try_from(bytes).map_err(|_| Refusal::Missing)?;
        let node = self.node_mut(number)?;
        let Kind::File(file) = &mut node.kind else { return Err(Refusal::IsFolder) };
        file.now.resize(bytes, 0);
        node.changed = changed;
        Ok(())
    }

    /// Changes permissions and owners, as far as they are given. These are never forgotten.
    pub(crate) fn own(
        &mut self,
        number: u64,
        mode: Option<u32>,
        user: Option<u32>,
        group: Option<u32>,
    ) -> Result<(), Refusal> {
        let node = self.node_mut(number)?;
        node.mode = mode.map_or(node.mode, |mode| mode & 0o7777);
        node.user = user.unwrap_or(node.user);
        node.group = group.unwrap_or(node.group);
        Ok(())
    }

    /// Makes the bytes of a file, or the names in a folder, those that a power cut leaves.
    pub(crate) fn sync(&mut self, number: u64) -> Result<(), Refusal> {
        self.change()?;
        match &mut self.node_mut(number)?.kind {
            Kind::File(bytes) => bytes.sync(),
            Kind::Folder(names) => names.sync(),
            Kind::Link(_) => {}
        }
        Ok(())
    }

    /// Counts an operation, which may be the one at which the power goes.
    fn change(&mut self) -> Result<u64, Refusal> {
        self.operations += 1;
        match self.is_cut() {
            true => Err(Refusal::PowerCut),
            false => Ok(self.operations),
        }
    }

    fn node_mut(&mut self, number: u64) -> Result<&mut Node, Refusal> {
        self.node(number)?;
        self.nodes.get_mut(&number).ok_or(Refusal::Missing)
    }

    fn name(&mut self, folder: u64, name: &OsStr, number: u64) -> Result<(), Refusal> {
        self.names_mut(folder)?.insert(name.to_owned(), number);
        Ok(())
    }

    fn unname(&mut self, folder: u64, name: &OsStr) -> Result<(), Refusal> {
        self.names_mut(folder)?.remove(name);
        Ok(())
    }

    fn names_mut(&mut self, folder: u64) -> Result<&mut Names, Refusal> {
        let changed = self.operations;
        let node = self.node_mut(folder)?;
        node.changed = changed;
        match &mut node.kind {
            Kind::Folder(names) => Ok(&mut names.now),
            _ => Err(Refusal::NotFolder),
        }
    }
}

/// The number of what was made.
type Made = Result<u64, Refusal>;
