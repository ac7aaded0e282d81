//! Planted bugs: switches that make the machine wrong, so that the simulator can prove that it sees.
//!
//! Compiled only with the feature `planted`, off in every shipped build; each is off until switched on.

use std::time::Duration;

/// How old an unacknowledged outcome may get under [`Planted::outcome_time_limit`].
pub(crate) const OUTCOME_TIME_LIMIT: Duration = Duration::from_secs(600);

/// Which bugs are switched on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted {
    /// An outcome that has waited for more than ten minutes is not sent any more.
    pub outcome_time_limit: bool,
    /// After a restart the number of the newest message is given to the next one.
    pub sequence_reused_after_restart: bool,
    /// Any receipt relieves, whoever it is for and whatever it covers.
    pub receipt_of_anyone_relieves: bool,
    /// A run's folder is cleaned when its exit record was read, before the outcome is saved.
    pub exit_record_cleaned_before_reported: bool,
    /// A window is asked whether it is open, not whether it has room for the run.
    pub window_without_room: bool,
}

#[cfg(test)]
mod tests;
