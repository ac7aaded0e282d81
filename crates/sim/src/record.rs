//! The record of a world: one line of text per thing that happened. Two runs of one seed write the
//! same record to the letter; a seed that fails is read here.

use crate::queue::Time;

/// The record, kept only if somebody will read it.
pub(crate) struct Record {
    lines: Option<Vec<String>>,
}

impl Record {
    /// A record that is kept if `keep` says so.
    pub(crate) fn new(keep: bool) -> Self {
        Self { lines: keep.then(Vec::new) }
    }

    /// Whether lines are kept: whoever builds a costly line asks first.
    pub(crate) fn is_kept(&self) -> bool {
        self.lines.is_some()
    }

    /// Writes down what happened to `who` at `time`.
    pub(crate) fn note(
        &mut self,
        time: Time,
        who: &dyn std::fmt::Display,
        what: std::fmt::Arguments<'_>,
    ) {
        if let Some(lines) = &mut self.lines {
            let (seconds, millis) = (time / 1_000, time % 1_000);
            lines.push(format!("{seconds:>9}.{millis:03}  {who:<12} {what}"));
        }
    }

    /// The whole text.
    pub(crate) fn text(&self) -> String {
        let mut text = self.lines.as_deref().unwrap_or_default().join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }
}
