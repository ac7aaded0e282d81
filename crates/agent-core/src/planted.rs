//! Planted bugs: switches that make the machine wrong, so that the simulator can prove that it sees.
//!
//! Compiled only with the feature `planted`, off in every shipped build; each is off until switched on.

use std::time::Duration;

use muster_model::state::Waiting;

/// How old an unacknowledged outcome may get under [`Planted::outcome_time_limit`].
pub(crate) const OUTCOME_TIME_LIMIT: Duration = Duration::from_secs(600);
/// The pause after a failure under [`Planted::send_cycle_of_a_day`].
pub(crate) const SEND_CYCLE: Duration = Duration::from_secs(23 * 3600);

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
    /// A run that was cut short is followed by another one, whatever its author declared.
    pub never_runs_again: bool,
    /// A run that was cut short is taken for one that exited well.
    pub cut_short_guessed: bool,
    /// Held, halted, stopped: the orders are not asked before a start.
    pub orders_ignored: bool,
    /// A device that has not heard from its site for longer than `offlineFor` starts all the same.
    pub stale_policy_ignored: bool,
    /// A run does not wait for its turn.
    pub two_at_once: bool,
    /// Trusted time is what the wall clock says.
    pub wall_clock_trusted: bool,
    /// What could not be sent is tried again 23 hours later.
    pub send_cycle_of_a_day: bool,
    /// An upgrade waits for what is in use for as long as that is so.
    pub upgrade_waits_for_ever: bool,
    /// What gives way is not counted.
    pub tombstones_uncounted: bool,
    /// Outcomes give way like everything else.
    pub outcomes_give_way: bool,
    /// Whom a program has run for already is forgotten when the agent starts again.
    pub turns_forgotten: bool,
}

impl Planted {
    /// Whether what forbids a start is not asked.
    pub(crate) fn ignores(&self, why: Waiting) -> bool {
        match why {
            Waiting::Held | Waiting::Halted | Waiting::Stopped => self.orders_ignored,
            Waiting::StalePolicy => self.stale_policy_ignored,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
