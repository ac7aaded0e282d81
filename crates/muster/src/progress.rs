//! A progress bar on a terminal; nothing where nobody watches.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of known length.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar for `steps` steps of `what`.
    pub(crate) fn new(what: &str, steps: u64) -> Self {
        let bar = match crate::print::watched() {
            true => ProgressBar::new(steps),
            false => ProgressBar::hidden(),
        };
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:32} {pos}/{len}") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self(bar)
    }

    /// So many steps further.
    pub(crate) fn advance(&self, steps: u64) {
        self.0.inc(steps);
    }

    /// Takes the bar away.
    pub(crate) fn done(self) {
        self.0.finish_and_clear();
    }
}
