//! Removal when no longer advertised: which program takes off again what an advertisement installed,
//! and how long after.
//!
//! Off unless an advertisement says it. The site opens a removal for a device on which the program
//! succeeded because Muster ran it, once the device is really not meant any more, no other live
//! advertisement wants the package there, and the grace time is over. A removal is an occurrence of its
//! own, with an outcome of its own; the device never removes anything because it was not told of it.

use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::period::Period;
use crate::problem::Checks;

/// The grace time when nothing is said: a device that left by mistake has a week to come back.
pub const AFTER_DEFAULT: Period = Period::days(7);
/// The longest grace time: beyond a year nobody remembers why something is removed.
pub const AFTER_MAX: Period = Period::days(365);

/// `spec.removal` of an advertisement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Removal {
    /// The program of the same package that takes it off; it `achieves: absent`.
    pub program: Name,
    /// How long a device has not been meant before.
    #[serde(default = "after_default")]
    pub after: Period,
}

fn after_default() -> Period {
    AFTER_DEFAULT
}

impl Removal {
    pub(crate) fn check(&self, advertised: &Name, checks: &mut Checks) {
        checks.period("spec.removal.after", self.after, Period::default(), AFTER_MAX);
        checks.that(
            self.program != *advertised,
            "spec.removal.program",
            &format!("`{}` is what is advertised: it cannot take itself off", self.program),
        );
    }
}
