//! What a program prints: its beginning and its end, with a limit on both and a line between them that
//! says how much was left out.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use muster_host::publish::PRIVATE_FILE;
use muster_model::message::{OUTPUT_HEAD_BYTES_MAX, OUTPUT_TAIL_BYTES_MAX};

/// What a file keeps of the beginning. More than a person reads, and a hundred runs of it fit on a
/// small disk.
pub(crate) const FILE_HEAD_BYTES_MAX: usize = 512 * 1024;
/// What a file keeps of the end. Held in memory while the program runs.
pub(crate) const FILE_TAIL_BYTES_MAX: usize = 64 * 1024;

/// Keeps the beginning of what a program prints in a file, and its end in memory until it is known to
/// be the end.
#[derive(Debug)]
pub(crate) struct Output {
    file: Option<File>,
    /// The beginning that a report carries.
    head: Vec<u8>,
    tail: Tail,
    /// Bytes that were printed in all.
    printed: usize,
}

/// The last bytes of a stream. Holds up to twice as many, so that making room is seldom.
#[derive(Debug)]
struct Tail {
    bytes: Vec<u8>,
    most: usize,
}

impl Tail {
    fn take(&mut self, printed: &[u8]) {
        self.bytes.extend_from_slice(printed);
        if self.bytes.len() > 2 * self.most {
            self.bytes.drain(..self.bytes.len() - self.most);
        }
    }

    fn last(&self, most: usize) -> &[u8] {
        &self.bytes[self.bytes.len().saturating_sub(most)..]
    }
}

impl Output {
    /// Output whose beginning and end are kept in `file`. One that cannot be created, or a full disk,
    /// costs the file and nothing else.
    pub(crate) fn new(file: &Path) -> Self {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(PRIVATE_FILE)
            .open(file)
            .ok();
        Self { file, ..Self::in_memory(FILE_TAIL_BYTES_MAX) }
    }

    /// Output of which only what a report carries, and the last `tail_max` bytes, are kept.
    pub(crate) fn in_memory(tail_max: usize) -> Self {
        let tail = Tail { bytes: Vec::new(), most: tail_max };
        Self { file: None, head: Vec::new(), tail, printed: 0 }
    }

    /// Takes what was printed next.
    pub(crate) fn take(&mut self, printed: &[u8]) {
        let room = FILE_HEAD_BYTES_MAX.saturating_sub(self.printed);
        self.write(&printed[..printed.len().min(room)]);
        let room = OUTPUT_HEAD_BYTES_MAX.saturating_sub(self.head.len());
        self.head.extend_from_slice(&printed[..printed.len().min(room)]);
        self.tail.take(printed);
        self.printed = self.printed.saturating_add(printed.len());
    }

    /// Nothing more is printed: the end goes into the file.
    pub(crate) fn finish(&mut self) {
        let rest = self.printed.saturating_sub(FILE_HEAD_BYTES_MAX);
        let end = self.tail.last(rest.min(FILE_TAIL_BYTES_MAX)).to_vec();
        if rest > end.len() {
            self.write(gap(rest - end.len()).as_bytes());
        }
        self.write(&end);
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.file.as_mut().is_some_and(|file| file.write_all(bytes).is_err()) {
            self.file = None;
        }
    }

    /// What a report carries: all of it, or its beginning and its end, as text of at most
    /// [`muster_model::message::OUTPUT_BYTES_MAX`] bytes, cut at characters.
    pub(crate) fn ends(&self) -> String {
        let rest = self.printed - self.head.len();
        let end = self.tail.last(rest.min(OUTPUT_TAIL_BYTES_MAX));
        if rest == end.len() {
            let whole = [&self.head, end].concat();
            return last(&whole, OUTPUT_HEAD_BYTES_MAX + OUTPUT_TAIL_BYTES_MAX);
        }
        let head = String::from_utf8_lossy(&self.head);
        let cut = head.floor_char_boundary(OUTPUT_HEAD_BYTES_MAX.min(head.len()));
        let between = gap(rest - end.len());
        format!("{}{between}{}", &head[..cut], last(end, OUTPUT_TAIL_BYTES_MAX))
    }

    /// The end of it as text of at most as many bytes as are kept, cut at a character.
    pub(crate) fn tail(&self) -> String {
        last(self.tail.last(self.tail.most), self.tail.most)
    }
}

/// The line that stands for what was left out.
fn gap(bytes: usize) -> String {
    format!("\n[... {bytes} bytes left out ...]\n")
}

/// The last `most` bytes as text, cut at a character.
fn last(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    text[text.ceil_char_boundary(text.len().saturating_sub(most))..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_model::message::OUTPUT_BYTES_MAX;

    /// Prints `pieces`; answers what a report carries and what the file holds.
    fn printed(pieces: &[&[u8]]) -> (String, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("output");
        let mut output = Output::new(&file);
        pieces.iter().for_each(|piece| output.take(piece));
        output.finish();
        (output.ends(), std::fs::read(&file).unwrap())
    }

    #[test]
    fn little_output_is_kept_whole() {
        for length in [0, 1, OUTPUT_HEAD_BYTES_MAX, OUTPUT_HEAD_BYTES_MAX + OUTPUT_TAIL_BYTES_MAX] {
            let text = "abcdefg".repeat(length)[..length].to_owned();
            let (ends, file) =
                printed(&[&text.as_bytes()[..length / 2], &text.as_bytes()[length / 2..]]);
            assert_eq!((ends, file), (text.clone(), text.into_bytes()), "{length}");
        }
    }

    #[test]
    fn of_much_output_the_beginning_and_the_end_are_kept_and_the_rest_is_counted() {
        let middle = vec![b'x'; 3_000_000];
        let (ends, file) = printed(&[b"begin ", &middle, b" end"]);
        let left_out = 3_000_010 - OUTPUT_HEAD_BYTES_MAX - OUTPUT_TAIL_BYTES_MAX;
        assert!(ends.starts_with("begin x") && ends.ends_with("x end"));
        assert!(ends.contains(&gap(left_out)) && ends.len() <= OUTPUT_BYTES_MAX, "{}", ends.len());
        assert!(file.starts_with(b"begin x") && file.ends_with(b"x end"));
        let said = gap(3_000_010 - FILE_HEAD_BYTES_MAX - FILE_TAIL_BYTES_MAX);
        assert_eq!(file.len(), FILE_HEAD_BYTES_MAX + FILE_TAIL_BYTES_MAX + said.len());
    }

    #[test]
    fn the_file_has_no_gap_as_long_as_the_end_reaches_back_to_the_beginning() {
        let text = vec![b'x'; FILE_HEAD_BYTES_MAX + FILE_TAIL_BYTES_MAX];
        assert_eq!(printed(&[&text]).1.len(), text.len());
        let (_, file) = printed(&[&text, b"y"]);
        assert!(file.ends_with(b"xy") && file.windows(5).any(|window| window == b"[... "));
    }

    #[test]
    fn whatever_is_printed_what_a_report_carries_is_text_within_its_limit() {
        let bytes: Vec<u8> = (0..20_000_u32).map(|n| (n * 7) as u8).collect();
        for length in [10, 2_047, 2_049, 6_143, 6_144, 6_145, 20_000] {
            let (ends, _) = printed(&[&bytes[..length]]);
            assert!(ends.len() <= OUTPUT_BYTES_MAX, "{length}: {}", ends.len());
        }
        let (ends, _) = printed(&["ü".repeat(9_000).as_bytes()]);
        assert!(ends.starts_with('ü') && ends.ends_with('ü'));
    }

    #[test]
    fn a_tail_is_text_and_never_longer_than_its_limit() {
        let mut output = Output::in_memory(4);
        output.take("aüü".as_bytes());
        assert_eq!(output.tail(), "üü");
        output.take(b"x");
        // Half a character would become a sign of three bytes: it is cut to fit.
        assert!(output.tail().len() <= 4 && output.tail().ends_with("üx"), "{}", output.tail());
        output.take(&[0xff; 4]);
        assert!(output.tail().len() <= 4, "{}", output.tail());
    }

    #[test]
    fn a_file_that_cannot_be_written_costs_only_the_file() {
        let mut output = Output::new(Path::new("/nowhere/output"));
        output.take(b"said");
        output.finish();
        assert_eq!(output.ends(), "said");
    }
}
