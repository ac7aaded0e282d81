//! Room on disk: what a role may use of it, and what there is.
//!
//! `--quota SIZE` bounds a role's folder. A [`Quota`] is shared by everything that writes there: it
//! is asked before a write and answers from memory; a role measures its folder anew now and then,
//! because databases grow by themselves. Room is counted as the disk counts it, in blocks.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};

/// What a file takes at least, and by which steps it grows, on common file systems.
const BLOCK_BYTES: u64 = 4096;
/// How deep a role's folder may be: programs' private copies are the deepest, and no path is longer
/// than 4096 bytes.
const DEPTH_MAX: usize = 2048;

/// A number of bytes as people write it: `500M`, `2GiB`, `65536`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ByteSize(pub u64);

/// Text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a size is a number with K, M, G, T (thousands) or KiB, MiB, GiB, TiB, such as 500M or 2GiB, not {0:?}"
)]
pub struct NotASize(pub String);

const UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("B", 1),
    ("K", 1000),
    ("KB", 1000),
    ("KiB", 1 << 10),
    ("M", 1_000_000),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("G", 1_000_000_000),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("T", 1_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

impl FromStr for ByteSize {
    type Err = NotASize;
    fn from_str(text: &str) -> Result<Self, NotASize> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| factor);
        let size = number.parse::<u64>().ok().zip(factor);
        let size = size.and_then(|(number, factor)| number.checked_mul(*factor));
        size.map(Self).ok_or_else(|| NotASize(text.chars().take(80).collect()))
    }
}

impl fmt::Display for ByteSize {
    /// In the largest binary unit that leaves no rest, so that it can be read back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |factor: u64| self.0 >= factor && self.0.is_multiple_of(factor);
        match UNITS.iter().rev().find(|(name, factor)| name.ends_with("iB") && fits(*factor)) {
            Some((name, factor)) => write!(f, "{}{name}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A write that would exceed the quota. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("failed to take {asked} bytes of a quota of {limit}: {used} are in use")]
pub struct QuotaExceeded {
    /// How much was asked for.
    pub asked: u64,
    /// The quota.
    pub limit: u64,
    /// How much of it is in use.
    pub used: u64,
}

/// A folder or file system could not be measured.
#[derive(Debug, thiserror::Error)]
#[error("failed to measure {path}")]
pub struct MeasureError {
    /// What was to be measured.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// A bound on what a role keeps on disk, shared by all that writes there.
#[derive(Debug)]
pub struct Quota {
    limit: u64,
    used: AtomicU64,
}

impl Quota {
    /// A quota of which `used` bytes are in use already.
    pub fn new(limit: ByteSize, used: u64) -> Self {
        Self { limit: limit.0, used: AtomicU64::new(used) }
    }

    /// Takes room for a file of `bytes`, before it is written. Of several who ask at once for the
    /// last room, one gets it.
    pub fn take(&self, bytes: u64) -> Result<(), QuotaExceeded> {
        let asked = on_disk(bytes);
        let add = |used: u64| used.checked_add(asked).filter(|sum| *sum <= self.limit);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        taken.map(|_| ()).map_err(|used| QuotaExceeded { asked, limit: self.limit, used })
    }

    /// Gives back the room of a file of `bytes` that was removed, or not written after all.
    pub fn give_back(&self, bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(on_disk(bytes)));
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Corrects what is in use by what was measured.
    pub fn measured(&self, used: u64) {
        self.used.store(used, Ordering::Relaxed);
    }

    /// How many bytes are in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// How many bytes are left.
    pub fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used())
    }
}

/// What a file of `bytes` takes on disk.
fn on_disk(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES).max(1).saturating_mul(BLOCK_BYTES)
}

/// How many bytes the folder `dir` takes on disk, all below it included. Links are not followed;
/// what disappears meanwhile is not counted.
pub fn folder_bytes(dir: &Path) -> Result<u64, MeasureError> {
    let mut sum = 0_u64;
    let mut open = vec![(dir.to_owned(), 0)];
    while let Some((folder, depth)) = open.pop() {
        let failed = |source| MeasureError { path: folder.clone(), source };
        let entries = match fs::read_dir(&folder) {
            Err(error) if depth > 0 && error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let Some(seen) = there(entry.metadata()).map_err(failed)? else { continue };
            sum = sum.saturating_add(seen.blocks().saturating_mul(512));
            if seen.is_dir() && depth < DEPTH_MAX {
                open.push((entry.path(), depth + 1));
            }
        }
    }
    Ok(sum)
}

fn there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// How many bytes the file system below `path` has left for this user.
pub fn disk_free(path: &Path) -> Result<u64, MeasureError> {
    let failed = |errno| MeasureError { path: path.to_owned(), source: io::Error::from(errno) };
    let disk = statvfs(path).map_err(failed)?;
    Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_back() {
        for (text, bytes, back) in [
            ("500M", 500_000_000, "500000000"),
            ("2GiB", 2 << 30, "2GiB"),
            ("1536KiB", 1536 << 10, "1536KiB"),
            ("65536", 65_536, "64KiB"),
            ("0", 0, "0"),
            ("3B", 3, "3"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, back), "{text}");
            assert_eq!(back.parse::<ByteSize>().unwrap(), size);
        }
        for bad in
            ["", "M", "-1M", "1.5G", "5 M", "5m", "5MIB", "99999999999999999999", "99999999T"]
        {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_last_room_is_taken_once() {
        let quota = Quota::new(ByteSize(3 * BLOCK_BYTES), BLOCK_BYTES);
        quota.take(1).unwrap();
        let refused = quota.take(BLOCK_BYTES + 1).unwrap_err();
        assert_eq!((refused.asked, refused.used), (2 * BLOCK_BYTES, 2 * BLOCK_BYTES));
        quota.take(BLOCK_BYTES).unwrap();
        assert_eq!(quota.left(), 0);
        quota.give_back(10);
        assert_eq!(quota.left(), BLOCK_BYTES);
    }

    #[test]
    fn a_folder_is_measured_as_the_disk_counts() {
        let dir = tempfile::tempdir().unwrap();
        let empty = folder_bytes(dir.path()).unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        fs::write(dir.path().join("below/file"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("link")).unwrap();
        let grown = folder_bytes(dir.path()).unwrap() - empty;
        assert!((100_000..200_000).contains(&grown), "{grown}");
        assert!(folder_bytes(&dir.path().join("none")).is_err());
    }

    #[test]
    fn a_disk_has_some_room() {
        assert!(disk_free(Path::new("/")).unwrap() > 0);
    }
}
