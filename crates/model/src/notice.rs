//! Notice: what whoever is logged on is told, and given, before a mandatory program starts.
//!
//! Stands in a program, signed by its publisher, or in an advertisement, which then counts instead.

use serde::{Deserialize, Serialize};

use crate::period::Period;
use crate::problem::Checks;

/// The longest countdown: SMS 2.0 allowed 60 minutes and later 1440 (Q309644).
pub const COUNTDOWN_MAX: Period = Period::hours(24);
/// The longest deferral. Beyond a month it is no longer the same software that one puts off.
pub const DEFER_MAX: Period = Period::days(30);

/// Notice before a mandatory start. With nobody logged on there is nobody to wait for, and the program
/// starts at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Notice {
    /// How long a user has between the notice and the start.
    #[serde(default = "default_countdown")]
    pub countdown: Period,
    /// How long after its due time a user may put the start off. Zero: not at all.
    #[serde(default, skip_serializing_if = "Notice::is_zero")]
    pub defer_until: Period,
}

/// SMS 2.0 counted down for five minutes.
fn default_countdown() -> Period {
    Period::minutes(5)
}

impl Notice {
    fn is_zero(period: &Period) -> bool {
        *period == Period::default()
    }

    /// Every fault, with the fields below `at`.
    pub(crate) fn check(&self, at: &str, checks: &mut Checks) {
        let field = |name: &str| format!("{at}.{name}");
        checks.period(&field("countdown"), self.countdown, Period::secs(1), COUNTDOWN_MAX);
        checks.period(&field("deferUntil"), self.defer_until, Period::default(), DEFER_MAX);
        checks.that(
            Self::is_zero(&self.defer_until) || self.defer_until >= self.countdown,
            &field("deferUntil"),
            &format!(
                "deferUntil is {} but countdown is {}: the start could be put off only to a time \
                 before its own countdown ends",
                self.defer_until, self.countdown
            ),
        );
    }
}
