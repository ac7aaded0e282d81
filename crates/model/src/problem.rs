//! What is wrong with an input: the field, and what is allowed there.

use serde::{Deserialize, Serialize};

use crate::period::Period;

/// One fault of an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The field as a path from the top of the document: `spec.programs[0].attempts`.
    pub field: String,
    /// What is wrong, and what is allowed.
    pub detail: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.detail)
    }
}

/// Collects faults, so that a person sees all of them at once.
#[derive(Default)]
pub struct Checks(Vec<Problem>);

impl Checks {
    /// No fault yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Unless `holds`, a fault of `field`.
    pub fn that(&mut self, holds: bool, field: &str, detail: &str) {
        if !holds {
            self.0.push(Problem { field: field.to_owned(), detail: detail.to_owned() });
        }
    }

    /// A count or length within limits.
    pub fn range(&mut self, field: &str, unit: &str, value: usize, least: usize, most: usize) {
        self.that(
            (least..=most).contains(&value),
            field,
            &format!("{value} {unit}; allowed are {least} to {most}"),
        );
    }

    /// A length of time within limits.
    pub fn period(&mut self, field: &str, value: Period, least: Period, most: Period) {
        self.that(
            (least..=most).contains(&value),
            field,
            &format!("{value}; allowed are at least {least} and at most {most}"),
        );
    }

    /// All faults, in the order found.
    pub fn finish(self) -> Vec<Problem> {
        self.0
    }
}
