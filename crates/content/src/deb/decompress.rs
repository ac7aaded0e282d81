//! Unpacks a stream of bounded length in bounded memory.

use std::fmt;
use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

/// Bytes of an unpacked control archive: the largest in Debian, of packages with 100,000 files,
/// stay below 16 MiB.
pub const CONTROL_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Bytes of an unpacked data archive. The largest packages (games, debug symbols) have some 5 GB.
pub const DATA_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Memory for a decompressor: `xz -9` needs 65 MiB; twice that for long-distance zstd.
const MEMORY_BYTES_MAX: u64 = 128 * 1024 * 1024;
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// How an archive inside a deb is packed. bzip2 and lzma, which deb(5) calls obsolete, are not
/// read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// zstd.
    Zstd,
}

impl Compression {
    pub(super) fn of_suffix(suffix: &str) -> Option<Self> {
        match suffix {
            "" => Some(Self::None),
            ".gz" => Some(Self::Gzip),
            ".xz" => Some(Self::Xz),
            ".zst" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The command that unpacks it from standard input to standard output.
    pub fn command(self) -> &'static str {
        match self {
            Self::None => "cat",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }
}

/// The unpacked stream; reading more than `limit` bytes from it is an error.
pub(super) fn decompress<'a, R: Read + 'a>(
    packed: R,
    compression: Compression,
    limit: u64,
) -> io::Result<impl Read + use<'a, R>> {
    let stream: Box<dyn Read + 'a> = match compression {
        Compression::None => Box::new(packed),
        Compression::Gzip => Box::new(MultiGzDecoder::new(packed)),
        Compression::Xz => {
            let stream = Stream::new_stream_decoder(MEMORY_BYTES_MAX, CONCATENATED)?;
            Box::new(XzDecoder::new_stream(packed, stream))
        }
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::new(packed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    };
    Ok(Limited { stream, left: limit, limit })
}

struct Limited<R> {
    stream: R,
    left: u64,
    limit: u64,
}

/// What reading beyond a limit says.
#[derive(Debug)]
struct LimitReached(u64);

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it unpacks to more than {} bytes", self.0)
    }
}

impl std::error::Error for LimitReached {}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(LimitReached(self.limit))),
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn pack(bytes: &[u8], compression: Compression) -> Vec<u8> {
        match compression {
            Compression::None => bytes.to_vec(),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Xz => liblzma::encode_all(bytes, 6).unwrap(),
            Compression::Zstd => zstd::encode_all(bytes, 3).unwrap(),
        }
    }

    fn unpack(packed: &[u8], compression: Compression, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        decompress(packed, compression, limit)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    const ALL: [Compression; 4] =
        [Compression::None, Compression::Gzip, Compression::Xz, Compression::Zstd];

    #[test]
    fn every_packing_comes_back() {
        for compression in ALL {
            let packed = pack(&[7; 100_000], compression);
            assert_eq!(unpack(&packed, compression, 100_000).unwrap(), [7; 100_000]);
        }
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        for compression in ALL {
            let packed = pack(&vec![0; 10 << 20], compression);
            let error = unpack(&packed, compression, 1 << 20).unwrap_err();
            assert_eq!(error.to_string(), "it unpacks to more than 1048576 bytes");
        }
    }

    #[test]
    fn a_stream_cut_short_is_an_error() {
        for compression in [Compression::Gzip, Compression::Xz, Compression::Zstd] {
            let packed = pack(&crate::testing::noise(8, 50_000), compression);
            assert!(unpack(&packed[..packed.len() / 2], compression, 1 << 20).is_err());
            assert!(unpack(b"<html>404 not found</html>", compression, 1 << 20).is_err());
        }
    }
}
