//! Walks a tar inside a deb, in the one dialect that dpkg reads, and lists the data archive.
//!
//! dpkg knows GNU long names and nothing else, so nothing else is read here: a pax header or a
//! sparse file could make this list and dpkg's unpacking differ.

use std::collections::BTreeMap;
use std::io::{self, Read};

use muster_model::digest::Hasher;
use tar::EntryType;

use super::{DebFile, DebKind, DebRefused};

/// Entries in one archive. The largest packages of Debian have some 130,000.
pub const DEB_ENTRIES_MAX: usize = 400_000;
/// Bytes of one path or link target: `PATH_MAX` of Linux.
pub const DEB_PATH_BYTES_MAX: usize = 4096;
const COMPONENT_BYTES_MAX: usize = 255;

/// An entry before its content was read.
pub(super) struct RawEntry {
    pub(super) path: String,
    mode: u32,
    size: u64,
    kind: RawKind,
}

enum RawKind {
    Folder,
    File,
    Symlink(String),
    HardLink(String),
}

fn fault<T>(
    archive: &'static str,
    path: &[u8],
    detail: impl Into<String>,
) -> Result<T, DebRefused> {
    let path = String::from_utf8_lossy(path).chars().take(200).collect();
    Err(DebRefused::Entry { archive, path, detail: detail.into() })
}

/// A path of a tar without `./` in front or `/` behind; empty for the top folder.
pub(super) fn clean_path(archive: &'static str, raw: &[u8]) -> Result<String, DebRefused> {
    let Ok(path) = std::str::from_utf8(raw) else {
        return fault(archive, raw, "the path is not UTF-8");
    };
    if path.len() > DEB_PATH_BYTES_MAX {
        return fault(archive, raw, format!("the path is longer than {DEB_PATH_BYTES_MAX} bytes"));
    }
    if path.chars().any(char::is_control) {
        return fault(archive, raw, "the path has a control character");
    }
    let path = path.strip_prefix("./").unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() || path == "." {
        return Ok(String::new());
    }
    for component in path.split('/') {
        if matches!(component, "" | "." | "..") {
            return fault(archive, raw, "the path is absolute or contains `.`, `..` or `//`");
        }
        if component.len() > COMPONENT_BYTES_MAX {
            let most = format!("a component is longer than {COMPONENT_BYTES_MAX} bytes");
            return fault(archive, raw, most);
        }
    }
    Ok(path.to_owned())
}

/// Hands each entry of a tar, with a reader over its content, to `take`.
pub(super) fn entries(
    archive: &'static str,
    source: impl Read,
    mut take: impl FnMut(&RawEntry, &mut dyn Read) -> Result<(), DebRefused>,
) -> Result<(), DebRefused> {
    let mut tar = tar::Archive::new(source);
    let all = tar.entries().map_err(DebRefused::read(archive))?.raw(true);
    let (mut long_name, mut long_link) = (None, None);
    for (count, entry) in all.enumerate() {
        if count >= DEB_ENTRIES_MAX {
            return Err(DebRefused::TooManyEntries(archive));
        }
        let mut entry = entry.map_err(DebRefused::read(format!("the {archive} archive")))?;
        match entry.header().entry_type() {
            EntryType::GNULongName => long_name = Some(long_text(archive, &mut entry)?),
            EntryType::GNULongLink => long_link = Some(long_text(archive, &mut entry)?),
            _ => {
                let raw = raw_entry(archive, &entry, long_name.take(), long_link.take())?;
                take(&raw, &mut entry)?;
            }
        }
    }
    if long_name.is_some() || long_link.is_some() {
        return fault(archive, b"", "a long name stands at the end and names nothing");
    }
    check_end(archive, tar.into_inner())
}

/// Reads on to the end of the stream, where the checksum of gzip, xz and zstd stands: the tar ends
/// before. Only its padding may follow, which is zeros.
fn check_end(archive: &'static str, mut rest: impl Read) -> Result<(), DebRefused> {
    let mut buffer = [0; 32 * 1024];
    loop {
        match rest.read(&mut buffer).map_err(DebRefused::read(format!("the {archive} archive")))? {
            0 => return Ok(()),
            read if buffer[..read].iter().all(|byte| *byte == 0) => {}
            _ => return fault(archive, b"", "something follows the end of the archive"),
        }
    }
}

/// The content of a GNU long name: text ended by NUL.
fn long_text(archive: &'static str, entry: &mut impl Read) -> Result<Vec<u8>, DebRefused> {
    let mut text = Vec::new();
    let most = DEB_PATH_BYTES_MAX as u64 + 1;
    entry.take(most).read_to_end(&mut text).map_err(DebRefused::read("a long name"))?;
    match text.iter().position(|byte| *byte == 0) {
        Some(end) => text.truncate(end),
        None => return fault(archive, &text, "a long name is longer than a path may be"),
    }
    Ok(text)
}

fn raw_entry<R: Read>(
    archive: &'static str,
    entry: &tar::Entry<'_, R>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
) -> Result<RawEntry, DebRefused> {
    let header = entry.header();
    let name = long_name.unwrap_or_else(|| header.path_bytes().into_owned());
    let path = clean_path(archive, &name)?;
    let link = long_link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
    let link = link.unwrap_or_default();
    let kind = match header.entry_type() {
        EntryType::Directory => RawKind::Folder,
        // Old tars mean a folder by a file with a slash behind; dpkg and others differ about it.
        EntryType::Regular if name.ends_with(b"/") => {
            return fault(archive, &name, "a file's name ends with a slash");
        }
        EntryType::Regular => RawKind::File,
        EntryType::Symlink => RawKind::Symlink(link_target(archive, &name, &link)?),
        EntryType::Link => RawKind::HardLink(clean_path(archive, &link)?),
        other => {
            let kind = char::from(other.as_byte()).escape_default();
            let detail = format!("type {kind:?} is no file, folder or link");
            return fault(archive, &name, detail.replace('"', "'"));
        }
    };
    if path.is_empty() && !matches!(kind, RawKind::Folder) {
        return fault(archive, &name, "the top is not a folder");
    }
    if entry.size() > 0 && !matches!(kind, RawKind::File) {
        return fault(archive, &name, "it has content, but is not a file");
    }
    let mode = header.mode().map_err(DebRefused::read(&path))? & 0o7777;
    Ok(RawEntry { path, mode, size: entry.size(), kind })
}

fn link_target(archive: &'static str, name: &[u8], raw: &[u8]) -> Result<String, DebRefused> {
    match std::str::from_utf8(raw) {
        Ok(target)
            if (1..=DEB_PATH_BYTES_MAX).contains(&target.len())
                && !target.chars().any(char::is_control) =>
        {
            Ok(target.to_owned())
        }
        _ => fault(archive, name, "its target is empty, too long or not plain text"),
    }
}

/// Everything the data archive would put somewhere, each file hashed. Refuses what would write
/// through a link or over something of another kind.
pub(super) fn list(source: impl Read) -> Result<Vec<DebFile>, DebRefused> {
    let mut listing = Listing::default();
    entries("data", source, |raw, content| listing.take(raw, content))?;
    Ok(listing.files)
}

#[derive(Default)]
struct Listing {
    files: Vec<DebFile>,
    /// Every path so far, with its place in `files`; folders that only stand above something have
    /// none.
    places: BTreeMap<String, Option<usize>>,
}

impl Listing {
    fn take(&mut self, raw: &RawEntry, content: &mut dyn Read) -> Result<(), DebRefused> {
        let RawEntry { path, mode, size, kind } = raw;
        if path.is_empty() {
            return Ok(());
        }
        for folder in path.match_indices('/').map(|(end, _)| &path[..end]) {
            if self.kind(folder).is_some_and(|kind| *kind != DebKind::Folder) {
                return fault("data", path.as_bytes(), "a path above it is a file or a link");
            }
            self.places.entry(folder.to_owned()).or_insert(None);
        }
        let kind = match kind {
            RawKind::Folder => DebKind::Folder,
            RawKind::Symlink(target) => DebKind::Symlink { target: target.clone() },
            RawKind::File => hash(path, *size, content)?,
            RawKind::HardLink(target) => match self.kind(target) {
                Some(file @ DebKind::File { .. }) => file.clone(),
                _ => {
                    let detail = "it is a hard link to something that is no file before it";
                    return fault("data", path.as_bytes(), detail);
                }
            },
        };
        match self.kind(path) {
            // Some tools list a folder again for each part of a package.
            Some(DebKind::Folder) if kind == DebKind::Folder => return Ok(()),
            Some(_) => return fault("data", path.as_bytes(), "it stands twice"),
            None if self.places.contains_key(path) && kind != DebKind::Folder => {
                return fault("data", path.as_bytes(), "other paths need it to be a folder");
            }
            None => {}
        }
        self.places.insert(path.clone(), Some(self.files.len()));
        self.files.push(DebFile { path: path.clone(), mode: *mode, kind });
        Ok(())
    }

    fn kind(&self, path: &str) -> Option<&DebKind> {
        self.places.get(path).copied().flatten().map(|place| &self.files[place].kind)
    }
}

fn hash(path: &str, size: u64, content: &mut dyn Read) -> Result<DebKind, DebRefused> {
    let mut hasher = Hasher::new();
    let mut buffer = [0; 64 * 1024];
    let mut have = 0;
    loop {
        let read = content.read(&mut buffer).map_err(DebRefused::read(path))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        have += read as u64;
    }
    // A tar reader that meets the end early just stops.
    if have != size {
        return Err(DebRefused::read(path)(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(DebKind::File { size, digest: hasher.finish() })
}
