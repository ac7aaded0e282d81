//! Reads a Debian package: what it calls itself, what it would put where.
//!
//! The publisher's `package import` reads each FILE.deb once with [`Deb::read`], and
//! [`crate::import`] makes a package of it. A deb may come from anywhere, so every size is bounded
//! and everything is refused that two programs could read differently. Nothing is unpacked; the
//! content is hashed as it streams by.
//!
//! The format is deb(5), version 2.0: an `ar` container of `debian-binary`, `control.tar*` and
//! `data.tar*`, the tars in GNU's format as dpkg demands.

mod container;
mod control;
mod decompress;
mod listing;

use std::io::{self, Read, Seek, SeekFrom};

use muster_model::digest::Digest;

pub use self::container::DEB_BYTES_MAX;
use self::container::{Member, members};
pub use self::control::FIELD_BYTES_MAX;
use self::control::read_control;
use self::decompress::decompress;
pub use self::decompress::{CONTROL_BYTES_MAX, Compression, DATA_BYTES_MAX};
use self::listing::list;
pub use self::listing::{DEB_ENTRIES_MAX, DEB_PATH_BYTES_MAX};

/// A Debian package, as far as it concerns installing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deb {
    /// Its name: lower-case letters, digits, `+`, `-`, `.`.
    pub package: String,
    /// Its version: letters, digits, `.`, `+`, `~`, `-`, `:`.
    pub version: String,
    /// `all`, or the machines it is for in Debian's words: `amd64`, `arm64`.
    pub architecture: String,
    /// What must be configured with it, as written; empty for nothing.
    pub depends: String,
    /// What must be configured before it is unpacked, as written; empty for nothing.
    pub pre_depends: String,
    /// The first line of its description.
    pub description: String,
    /// Who maintains it.
    pub maintainer: String,
    /// Bytes on disk as the package estimates them; 0 if it does not.
    pub installed_bytes: u64,
    /// Configuration files that belong to the administrator once they are there: paths as in
    /// `files`.
    pub conffiles: Vec<String>,
    /// Whether it brings scripts that dpkg runs, which unpacking alone does not.
    pub has_maintainer_scripts: bool,
    /// Everything it puts somewhere, in the order of the archive.
    pub files: Vec<DebFile>,
    /// Where in the file the data archive lies, for unpacking without dpkg.
    pub data: DataArchive,
}

/// One thing that a Debian package puts somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebFile {
    /// Where, without a leading `/` or `./`. UTF-8 without control characters and without `..`.
    pub path: String,
    /// Permissions, setuid and the like included.
    pub mode: u32,
    /// What.
    pub kind: DebKind,
}

/// What a Debian package puts somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DebKind {
    /// A folder.
    Folder,
    /// A file, or a hard link to one, which has the same content.
    File {
        /// Bytes.
        size: u64,
        /// The digest of its content.
        digest: Digest,
    },
    /// A symbolic link, which may lead anywhere.
    Symlink {
        /// Where it leads.
        target: String,
    },
}

/// Where the data archive lies in a deb, and how it is packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataArchive {
    /// Bytes before it.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u64,
    /// How it is packed.
    pub compression: Compression,
}

/// Why a file is not taken for a Debian package.
#[derive(Debug, thiserror::Error)]
pub enum DebRefused {
    /// The source cannot be read, is cut short, or does not unpack.
    #[error("read {part} of the Debian package")]
    Read {
        /// Which part.
        part: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not the container of a Debian package of format 2.
    #[error("read a Debian package: {0}")]
    NotADeb(String),
    /// A field of `control` that is missing or not what it must be.
    #[error("read the control file: field {field}: {detail}")]
    Control {
        /// Which field.
        field: String,
        /// What is wrong.
        detail: String,
    },
    /// A path that could lead elsewhere, or that cannot be written down in a line.
    #[error("take {path:?} from the {archive} archive: {detail}")]
    Entry {
        /// `control` or `data`.
        archive: &'static str,
        /// The path, as far as it can be shown.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// More entries than [`DEB_ENTRIES_MAX`].
    #[error("take more than {DEB_ENTRIES_MAX} entries from the {0} archive")]
    TooManyEntries(&'static str),
}

impl DebRefused {
    fn read(part: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let part = part.into();
        move |source| Self::Read { part, source }
    }
}

impl Deb {
    /// Reads and checks a whole Debian package. Needs the memory of its list of files and, while it
    /// unpacks, up to 128 MiB for the decompressor.
    pub fn read<R: Read + Seek>(source: &mut R) -> Result<Self, DebRefused> {
        let [control, data] = members(source)?;
        let fields = read_control(open(source, &control, CONTROL_BYTES_MAX)?)?;
        let files = list(open(source, &data, DATA_BYTES_MAX)?)?;
        let Member { offset, bytes, compression, .. } = data;
        let data = DataArchive { offset, bytes, compression };
        let depends = fields.optional("Depends");
        Ok(Self {
            package: fields.package()?,
            version: fields.version()?,
            architecture: fields.architecture()?,
            depends,
            pre_depends: fields.optional("Pre-Depends"),
            description: fields.optional("Description"),
            maintainer: fields.optional("Maintainer"),
            installed_bytes: fields.installed_bytes()?,
            conffiles: fields.conffiles,
            has_maintainer_scripts: fields.has_maintainer_scripts,
            files,
            data,
        })
    }

    /// The file name under which a package carries it: as apt names it, and safe in any shell.
    pub fn file_name(&self) -> String {
        let version = self.version.replace(':', "%3a");
        format!("{}_{version}_{}.deb", self.package, self.architecture)
    }
}

fn open<'a, R: Read + Seek>(
    source: &'a mut R,
    member: &Member,
    limit: u64,
) -> Result<impl Read + use<'a, R>, DebRefused> {
    let at = SeekFrom::Start(member.offset);
    source.seek(at).map_err(DebRefused::read(&member.name))?;
    decompress(source.take(member.bytes), member.compression, limit)
        .map_err(DebRefused::read(&member.name))
}

#[cfg(test)]
pub(crate) mod tests;
