//! Content-defined chunks: a change inside a file changes the chunks around it and no others.
//!
//! [`Chunker`] cuts a stream into [`Chunk`]s, a [`ChunkRef`] is how a manifest names one, and
//! [`ChunkRef::open`] turns stored bytes back, checking before it decompresses. Publishers cut,
//! agents open; the bytes come from and go to the caller. Never opens a file.
//!
//! Cutting is deterministic: the same bytes give the same chunks on every machine. Compression is
//! so for one version of zstd only; another version may name the same chunk differently, which
//! costs some reuse between publishers and nothing else.

use std::borrow::Cow;
use std::io::{self, Read};

use fastcdc::v2020::StreamCDC;
use muster_model::digest::Digest;
use serde::{Deserialize, Serialize};

/// The shortest chunk, but for the last one of a file. A quarter of the average: shorter ones would
/// cost more in names (130 bytes each in the manifest) than they save by reuse.
pub const CHUNK_BYTES_MIN: usize = 16 * 1024;
/// The average chunk. A change re-sends about two of them, and 500 MB are 8,000 names or 1 MB of
/// manifest.
pub const CHUNK_BYTES_AVERAGE: usize = 64 * 1024;
/// The longest chunk, which bounds what an agent or relay ever holds of one object.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// zstd's own default: about 1 GB/s out and near the knee of size against time. Publishing happens
/// once and reading a million times, but higher levels gain some 5 % for five times the work.
const ZSTD_LEVEL: i32 = 3;

/// How the stored bytes of a chunk hold its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As they are.
    Raw,
    /// One zstd frame (RFC 8878), shorter than the content.
    Zstd,
}

/// One chunk as a manifest names it: where to find it, and what it becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkRef {
    /// The digest of the *stored* bytes, which is the object's name everywhere.
    pub object: Digest,
    /// Bytes stored and sent.
    pub stored: u32,
    /// Bytes of content, 1 to [`CHUNK_BYTES_MAX`].
    pub length: u32,
    /// How the one becomes the other.
    pub encoding: Encoding,
}

/// Stored bytes that are not the chunk they should be. Nothing of them was decompressed unless the
/// digest fitted.
#[derive(Debug, thiserror::Error)]
pub enum ChunkRefused {
    /// Another number of bytes than the manifest says.
    #[error("open object {object}: {have} bytes instead of {need}")]
    WrongSize {
        /// The object.
        object: Digest,
        /// Bytes at hand.
        have: u64,
        /// Bytes that the manifest names.
        need: u64,
    },
    /// Other bytes.
    #[error("open object {object}: its bytes have digest {found}")]
    DigestMismatch {
        /// The object.
        object: Digest,
        /// What the bytes at hand hash to.
        found: Digest,
    },
    /// The right object, but it is not zstd or becomes longer than it says.
    #[error("decompress object {object} to {length} bytes")]
    Undecodable {
        /// The object.
        object: Digest,
        /// What it should become, and the most it was allowed to.
        length: u32,
        /// What zstd says.
        #[source]
        source: io::Error,
    },
    /// The right object, but it becomes shorter than it says.
    #[error("decompress object {object}: {have} bytes instead of {need}")]
    WrongLength {
        /// The object.
        object: Digest,
        /// Bytes that came out.
        have: u64,
        /// Bytes that the manifest names.
        need: u64,
    },
}

impl ChunkRef {
    /// Whether the numbers can be true of any chunk.
    pub(crate) fn is_plausible(&self) -> bool {
        let sizes_fit = match self.encoding {
            Encoding::Raw => self.stored == self.length,
            Encoding::Zstd => self.stored < self.length,
        };
        sizes_fit && self.stored > 0 && self.length as usize <= CHUNK_BYTES_MAX
    }

    /// The content of this chunk, from its stored bytes. Checks size and digest first; what is
    /// decompressed is bounded by `length`.
    pub fn open<'a>(&self, stored: &'a [u8]) -> Result<Cow<'a, [u8]>, ChunkRefused> {
        check_object(self.object, self.stored.into(), stored)?;
        let (object, need) = (self.object, u64::from(self.length));
        let plain = match self.encoding {
            Encoding::Raw => Cow::Borrowed(stored),
            Encoding::Zstd => {
                zstd::bulk::decompress(stored, self.length as usize).map(Cow::Owned).map_err(
                    |source| ChunkRefused::Undecodable { object, length: self.length, source },
                )?
            }
        };
        match plain.len() as u64 {
            have if have == need => Ok(plain),
            have => Err(ChunkRefused::WrongLength { object, have, need }),
        }
    }
}

/// Checks that `bytes` are the object of that name and size.
pub(crate) fn check_object(object: Digest, need: u64, bytes: &[u8]) -> Result<(), ChunkRefused> {
    let have = bytes.len() as u64;
    if have != need {
        return Err(ChunkRefused::WrongSize { object, have, need });
    }
    match Digest::of(bytes) {
        found if found == object => Ok(()),
        found => Err(ChunkRefused::DigestMismatch { object, found }),
    }
}

/// One chunk as it was cut.
#[derive(Debug)]
pub struct Chunk {
    /// Its name.
    pub reference: ChunkRef,
    plain: Vec<u8>,
    compressed: Option<Vec<u8>>,
}

impl Chunk {
    /// The content.
    pub fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// The object: what is stored and sent.
    pub fn stored(&self) -> &[u8] {
        self.compressed.as_deref().unwrap_or(&self.plain)
    }
}

/// Cuts a stream into chunks, in order. Ends after the first error.
///
/// Holds one buffer of [`CHUNK_BYTES_MAX`] and one chunk at a time.
pub struct Chunker<R: Read> {
    cuts: StreamCDC<R>,
    compressor: zstd::bulk::Compressor<'static>,
    failed: bool,
}

impl<R: Read> Chunker<R> {
    /// A chunker over everything that `source` gives. Fails when zstd gets no memory.
    pub fn new(source: R) -> io::Result<Self> {
        let cuts = StreamCDC::new(source, CHUNK_BYTES_MIN, CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MAX);
        Ok(Self { cuts, compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL)?, failed: false })
    }

    fn pack(&mut self, plain: Vec<u8>) -> io::Result<Chunk> {
        let compressed = Some(self.compressor.compress(&plain)?).filter(|c| c.len() < plain.len());
        let encoding = if compressed.is_some() { Encoding::Zstd } else { Encoding::Raw };
        let stored = compressed.as_deref().unwrap_or(&plain);
        let reference = ChunkRef {
            object: Digest::of(stored),
            // Both are at most CHUNK_BYTES_MAX.
            stored: stored.len() as u32,
            length: plain.len() as u32,
            encoding,
        };
        Ok(Chunk { reference, plain, compressed })
    }
}

impl<R: Read> Iterator for Chunker<R> {
    type Item = io::Result<Chunk>;

    fn next(&mut self) -> Option<io::Result<Chunk>> {
        if self.failed {
            return None;
        }
        let cut = self.cuts.next()?.map_err(io::Error::from);
        let chunk = cut.and_then(|cut| self.pack(cut.data));
        self.failed = chunk.is_err();
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::noise;

    fn cut(bytes: &[u8]) -> Vec<Chunk> {
        Chunker::new(bytes).unwrap().collect::<io::Result<_>>().unwrap()
    }

    fn text(bytes: usize) -> Vec<u8> {
        (0u32..).flat_map(|n| format!("line {n}\n").into_bytes()).take(bytes).collect()
    }

    #[test]
    fn cuts_and_names_never_change() {
        let chunks = cut(&noise(1, 400_000));
        let lengths: Vec<u32> = chunks.iter().map(|c| c.reference.length).collect();
        assert_eq!(lengths, [28_128, 87_550, 64_925, 67_788, 30_364, 38_273, 50_371, 32_601]);
        assert_eq!(chunks[0].reference.encoding, Encoding::Raw);
        assert_eq!(chunks[0].reference.object, Digest::of(chunks[0].plain()));
    }

    #[test]
    fn what_compresses_is_stored_compressed() {
        let chunks = cut(&text(100_000));
        let chunk = &chunks[0];
        assert_eq!(chunk.reference.encoding, Encoding::Zstd);
        assert!(chunk.reference.stored < chunk.reference.length / 2);
        assert_eq!(Digest::of(chunk.stored()), chunk.reference.object);
    }

    #[test]
    fn an_empty_stream_has_no_chunks() {
        assert!(cut(b"").is_empty());
    }

    #[test]
    fn a_source_that_fails_ends_the_chunks() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("bad sector"))
            }
        }
        let mut chunks = Chunker::new(Broken).unwrap();
        assert_eq!(chunks.next().unwrap().unwrap_err().to_string(), "bad sector");
        assert!(chunks.next().is_none());
    }

    #[test]
    fn five_bytes_inserted_leave_most_chunks_as_they_were() {
        let mut bytes = noise(2, 4 << 20);
        let before: BTreeSet<_> = cut(&bytes).iter().map(|c| c.reference.object).collect();
        bytes.splice(1_000_000..1_000_000, *b"inset");
        let after = cut(&bytes);
        let fresh = after.iter().filter(|c| !before.contains(&c.reference.object)).count();
        assert!(fresh <= 3 && after.len() > 40, "{fresh} of {} are new", after.len());
    }

    #[track_caller]
    fn refused(reference: ChunkRef, stored: &[u8], said: &str) {
        let error = reference.open(stored).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }

    #[test]
    fn a_bomb_is_refused_at_its_declared_length() {
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], ZSTD_LEVEL).unwrap();
        let stored = bomb.len() as u32;
        let object = Digest::of(&bomb);
        let declared = ChunkRef { object, stored, length: 256 << 10, encoding: Encoding::Zstd };
        refused(declared, &bomb, "to 262144 bytes");
    }

    #[test]
    fn a_chunk_shorter_than_declared_is_refused() {
        let bytes = zstd::bulk::compress(&[7; 1000], ZSTD_LEVEL).unwrap();
        let (object, stored) = (Digest::of(&bytes), bytes.len() as u32);
        let declared = ChunkRef { object, stored, length: 1001, encoding: Encoding::Zstd };
        refused(declared, &bytes, "1000 bytes instead of 1001");
    }

    #[test]
    fn other_bytes_are_refused_before_they_are_decompressed() {
        let chunk = cut(&text(50_000)).remove(0);
        let mut other = chunk.stored().to_vec();
        refused(chunk.reference, &other[1..], "bytes instead of");
        other[4] ^= 1;
        refused(chunk.reference, &other, "its bytes have digest");
    }

    #[test]
    fn numbers_that_fit_no_chunk_are_implausible() {
        let good = cut(&text(50_000))[0].reference;
        assert!(good.is_plausible());
        for bad in [
            ChunkRef { stored: 0, ..good },
            ChunkRef { stored: good.length, ..good },
            ChunkRef { encoding: Encoding::Raw, ..good },
            ChunkRef { length: CHUNK_BYTES_MAX as u32 + 1, ..good },
        ] {
            assert!(!bad.is_plausible(), "{bad:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn chunks_put_together_are_the_stream(seed: u8, kilobytes in 0usize..700, dull: bool) {
            let bytes = if dull { text(kilobytes * 1021) } else { noise(seed, kilobytes * 1021) };
            let chunks = cut(&bytes);
            let mut whole = Vec::new();
            for chunk in &chunks {
                prop_assert!(chunk.reference.is_plausible());
                whole.extend_from_slice(&chunk.reference.open(chunk.stored()).unwrap());
            }
            prop_assert_eq!(whole, bytes);
            for chunk in chunks.iter().rev().skip(1) {
                prop_assert!(chunk.reference.length as usize >= CHUNK_BYTES_MIN);
            }
        }

        #[test]
        fn one_flipped_bit_is_always_refused(at: prop::sample::Index, bit in 0u8..8) {
            let chunk = cut(&text(40_000)).remove(0);
            let mut stored = chunk.stored().to_vec();
            stored[at.index(chunk.stored().len())] ^= 1 << bit;
            prop_assert!(chunk.reference.open(&stored).is_err());
        }
    }
}
