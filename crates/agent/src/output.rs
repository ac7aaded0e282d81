//! What a program prints: its beginning in a file, its end in memory, neither without a limit.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use muster_host::publish::PRIVATE_FILE;

/// Keeps the beginning of what a program prints in a file and its end in memory.
#[derive(Debug)]
pub(crate) struct Output {
    file: Option<File>,
    room: u64,
    tail: Vec<u8>,
    tail_max: usize,
}

impl Output {
    /// Output that keeps up to `room` bytes in `file`, and the last `tail_max` in memory. A file that
    /// cannot be created, or a full disk, costs the file and nothing else.
    pub(crate) fn new(file: &Path, room: u64, tail_max: usize) -> Self {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(PRIVATE_FILE)
            .open(file)
            .ok();
        Self { file, room, tail: Vec::new(), tail_max }
    }

    /// Output of which only the last `tail_max` bytes are kept, in memory.
    pub(crate) fn in_memory(tail_max: usize) -> Self {
        Self { file: None, room: 0, tail: Vec::new(), tail_max }
    }

    /// Takes what was printed next.
    pub(crate) fn take(&mut self, printed: &[u8]) {
        let fits = printed.len().min(usize::try_from(self.room).unwrap_or(usize::MAX));
        if let Some(file) = &mut self.file {
            self.room -= fits as u64;
            if file.write_all(&printed[..fits]).is_err() {
                self.file = None;
            }
        }
        self.tail.extend_from_slice(printed);
        let excess = self.tail.len().saturating_sub(self.tail_max);
        self.tail.drain(..excess);
    }

    /// The end of it as text of at most `tail_max` bytes, cut at a character.
    pub(crate) fn tail(&self) -> String {
        let text = String::from_utf8_lossy(&self.tail);
        let mut from = text.len().saturating_sub(self.tail_max);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        text[from..].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_is_in_the_file_and_the_end_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("output");
        let mut output = Output::new(&file, 6, 4);
        output.take(b"abcd");
        output.take(b"efgh");
        assert_eq!(std::fs::read(&file).unwrap(), b"abcdef");
        assert_eq!(output.tail(), "efgh");
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
        let mut output = Output::new(Path::new("/nowhere/output"), 10, 10);
        output.take(b"said");
        assert_eq!(output.tail(), "said");
    }
}
