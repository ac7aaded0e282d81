//! Server-sent events as they come over one connection (the HTML standard, section 9.2): of their
//! fields only `id` and `data` are used here.

use muster_host::client::ClientError;

/// The longest event that is read: a message of 64 KiB, twice escaped, with room.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Where to go on after it.
    pub(crate) id: String,
    /// What it says.
    pub(crate) data: String,
}

/// An open stream of events.
pub(crate) struct Events {
    response: reqwest::Response,
    lines: Lines,
}

impl Events {
    /// The events of an answer.
    pub(crate) fn new(response: reqwest::Response) -> Self {
        Self { response, lines: Lines::default() }
    }

    /// The next event; `None` at the end of the stream. An event that was cut off is none.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(event) = self.lines.event() {
                return Ok(Some(event));
            }
            let url = || self.response.url().to_string();
            if self.lines.text.len() > EVENT_BYTES_MAX {
                return Err(ClientError::TooLarge { url: url(), limit: EVENT_BYTES_MAX });
            }
            let url = url();
            let chunk = self.response.chunk().await;
            match chunk.map_err(|source| ClientError::Read { url, source: source.without_url() })? {
                Some(chunk) => self.lines.text.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

/// Bytes that make no whole event yet.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
}

impl Lines {
    /// Takes the first whole event out. Comments, which keep the connection, are passed over.
    fn event(&mut self) -> Option<Event> {
        loop {
            let end = self.text.windows(2).position(|two| two == b"\n\n")?;
            let block: Vec<u8> = self.text.drain(..end + 2).collect();
            let block = String::from_utf8_lossy(&block);
            let mut event = Event::default();
            for line in block.lines() {
                let (field, value) = line.split_once(':').unwrap_or((line, ""));
                let value = value.strip_prefix(' ').unwrap_or(value);
                match field {
                    "id" => event.id = value.to_owned(),
                    "data" if event.data.is_empty() => event.data = value.to_owned(),
                    "data" => event.data = format!("{}\n{value}", event.data),
                    _ => {}
                }
            }
            if !event.data.is_empty() {
                return Some(event);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(chunks: &[&str], expected: &[(&str, &str)]) {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for chunk in chunks {
            lines.text.extend_from_slice(chunk.as_bytes());
            while let Some(event) = lines.event() {
                found.push((event.id, event.data));
            }
        }
        let expected: Vec<(String, String)> =
            expected.iter().map(|(id, data)| ((*id).to_owned(), (*data).to_owned())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn events_come_whole_however_they_are_cut() {
        check(&["id: 1\ndata: a\n\nid: 2\ndata: b\n\n"], &[("1", "a"), ("2", "b")]);
        check(&["id", ": 1\nda", "ta: a\n", "\n"], &[("1", "a")]);
        check(&["data: a\ndata: b\n\n"], &[("", "a\nb")]);
    }

    #[test]
    fn comments_and_cut_off_events_are_no_events() {
        check(&[":\n\n:\n\nid: 1\ndata: a\n\nid: 2\ndata: b\n"], &[("1", "a")]);
    }
}
