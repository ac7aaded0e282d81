//! How a command fails: a sentence, hints, and an exit code that scripts can rely on.

use std::fmt;

/// Exit codes of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did not work.
    Failed = 1,
    /// The command line or a manifest is wrong.
    Usage = 2,
    /// `diff` found differences.
    Differences = 3,
    /// `wait` ran out of time.
    TimedOut = 4,
}

/// A failure for a person: what was tried, on what, why not, and what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: String,
    causes: Vec<String>,
    hints: Vec<String>,
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with this sentence: lower case, fits "failed to ...".
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, message: message.into(), causes: Vec::new(), hints: Vec::new() }
    }

    /// A failure of the command line or an input.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::new(message) }
    }

    /// With another exit code.
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// With what lies beneath it.
    pub(crate) fn because(mut self, cause: &dyn std::error::Error) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            let text = error.to_string();
            if self.causes.last() != Some(&text) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// With what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

/// Turns any error into a failure with a sentence of what was tried.
pub(crate) trait Tried<T> {
    /// The sentence is made only when it is needed.
    fn tried(self, what: impl FnOnce() -> String) -> Outcome<T>;
}

impl<T, E: std::error::Error> Tried<T> for Result<T, E> {
    fn tried(self, what: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|error| Failure::new(format!("failed to {}", what())).because(&error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        for cause in &self.causes {
            write!(f, "\n  because: {cause}")?;
        }
        for hint in &self.hints {
            write!(f, "\n\nhint: {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_next() {
        let failed = std::fs::read("/nonexistent/file")
            .tried(|| "read the manifest /nonexistent/file".to_owned())
            .unwrap_err()
            .hint("give a file with `-f`");
        assert_eq!(
            failed.to_string(),
            "error: failed to read the manifest /nonexistent/file\n  because: No such file or \
             directory (os error 2)\n\nhint: give a file with `-f`"
        );
    }
}
