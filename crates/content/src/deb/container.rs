//! The outer `ar` container of a Debian package.
//!
//! Read here and not by a library: a deb uses so little of `ar` that a strict reader is shorter
//! than the checks a lenient one would need (long names, symbol tables, sizes that allocate).

use std::io::{Read, Seek, SeekFrom};

use super::DebRefused;
use super::decompress::Compression;

/// Bytes of one .deb file. The field in `ar` holds ten digits; nothing in Debian is a tenth of it.
pub const DEB_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Members of one container: three, and a few that deb(5) lets us pass over.
const MEMBERS_MAX: usize = 16;
const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER_BYTES: usize = 60;

/// Where one of the two archives lies.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) compression: Compression,
}

/// The control and the data archive. deb(5) fixes the order: `debian-binary`, members whose name
/// starts with `_`, `control.tar*`, again such members, `data.tar*`.
pub(super) fn members<R: Read + Seek>(source: &mut R) -> Result<[Member; 2], DebRefused> {
    let length = source.seek(SeekFrom::End(0)).map_err(DebRefused::read("the length"))?;
    if length > DEB_BYTES_MAX {
        return refuse(format!("it has {length} bytes; the most is {DEB_BYTES_MAX}"));
    }
    source.rewind().map_err(DebRefused::read("the first bytes"))?;
    let mut magic = [0; MAGIC.len()];
    source.read_exact(&mut magic).map_err(DebRefused::read("the first bytes"))?;
    if magic != *MAGIC {
        return refuse("it does not start like one");
    }
    let (version, bytes) = header(source, length)?;
    if version != "debian-binary" {
        return refuse(format!("its first part is {version:?} instead of debian-binary"));
    }
    check_format(source, bytes)?;
    let control = find(source, length, "control.tar")?;
    let data = find(source, length, "data.tar")?;
    Ok([control, data])
}

fn refuse<T>(why: impl Into<String>) -> Result<T, DebRefused> {
    Err(DebRefused::NotADeb(why.into()))
}

/// Reads the header of the next member: its name and length. Leaves the source at its content.
fn header<R: Read + Seek>(source: &mut R, length: u64) -> Result<(String, u64), DebRefused> {
    let mut header = [0; HEADER_BYTES];
    source.read_exact(&mut header).map_err(DebRefused::read("a member's header"))?;
    let text = |range: std::ops::Range<usize>| {
        std::str::from_utf8(&header[range]).map(|text| text.trim_end_matches(' ')).ok()
    };
    let (Some(name), Some(size), b"`\n") = (text(0..16), text(48..58), &header[58..]) else {
        return refuse("the header of a part is not one");
    };
    // Some tools end names with a slash, as GNU ar does.
    let name = name.strip_suffix('/').unwrap_or(name);
    let offset = source.stream_position().map_err(DebRefused::read(name))?;
    let digits = !size.is_empty() && size.bytes().all(|b| b.is_ascii_digit());
    match size.parse() {
        Ok(bytes) if digits && bytes <= length.saturating_sub(offset) => {
            Ok((name.to_owned(), bytes))
        }
        _ => refuse(format!("part {name:?} claims {size:?} bytes, which the file does not have")),
    }
}

fn check_format<R: Read + Seek>(source: &mut R, bytes: u64) -> Result<(), DebRefused> {
    let mut version = String::new();
    let mut content = source.by_ref().take(bytes.min(16));
    content.read_to_string(&mut version).map_err(DebRefused::read("debian-binary"))?;
    if bytes > 16 || !version.starts_with("2.") {
        return refuse(format!("its format is {:?} instead of 2.0", version.trim_end()));
    }
    skip(source, bytes % 2)
}

/// The next member, which must be the archive `stem`, after members that may be passed over.
fn find<R: Read + Seek>(source: &mut R, length: u64, stem: &str) -> Result<Member, DebRefused> {
    for _ in 0..MEMBERS_MAX {
        let (name, bytes) = header(source, length)?;
        let offset = source.stream_position().map_err(DebRefused::read(&name))?;
        skip(source, bytes + bytes % 2)?;
        if name.starts_with('_') {
            continue;
        }
        let Some(suffix) = name.strip_prefix(stem) else {
            return refuse(format!("part {name:?} stands where {stem} should"));
        };
        let Some(compression) = Compression::of_suffix(suffix) else {
            return refuse(format!("part {name:?} is packed in a way that is not read here"));
        };
        return Ok(Member { name, offset, bytes, compression });
    }
    refuse(format!("{stem} is not among its first {MEMBERS_MAX} parts"))
}

fn skip<R: Seek>(source: &mut R, bytes: u64) -> Result<(), DebRefused> {
    // At most DEB_BYTES_MAX.
    source.seek_relative(bytes as i64).map_err(DebRefused::read("the next part"))
}
