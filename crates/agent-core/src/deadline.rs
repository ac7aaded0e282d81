//! Deadlines: the earliest moment at which time alone changes something.
//!
//! Every wait is here, so nothing waits without a deadline (law 4). Deadlines in trusted time are
//! turned into the boot clock at each input; trusted time moves otherwise only by an input.

use std::time::Duration;

use muster_model::clock::{Elapsed, Now, Wall};
use muster_model::state::{State, Waiting};

use crate::agent::Agent;
use crate::obligation::{offered, stale_from};
use crate::restart::program_restart_until;
use crate::saved::{ObligationRecord, Stage};
use crate::schedule::{Start, due_time, start};

/// Before the site has told the time, trusted time is the wall clock, which may jump: a deadline in it
/// is looked at again at least so often.
const LOOK_MOST: Duration = Duration::from_secs(3_600);

impl Agent {
    /// When time alone changes something next.
    pub(crate) fn earliest_deadline(&self, now: Now) -> Option<Elapsed> {
        #[cfg(feature = "planted")]
        if !self.held_back.is_empty() {
            return Some(now.elapsed);
        }
        let trusted = self.trusted(now);
        let by_trusted_time = self
            .obligations
            .values()
            .filter_map(|record| self.next_look(record, trusted))
            .chain(self.next_opening(trusted))
            .min()
            .map(|at| now.elapsed.plus(at.since(trusted).min(LOOK_MOST)));
        let contents = self.contents.values().filter_map(|content| content.deadline()).min();
        [
            Some(self.contact.deadline(self.memory.awaits_account)),
            self.outbox.deadline(),
            self.first_answer_until(),
            self.restart_deadline(now.elapsed, trusted),
            self.maintenance_deadline(now.elapsed, trusted),
            Some(self.time_saved_deadline(now.elapsed, trusted)),
            contents,
            by_trusted_time,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// When an obligation is looked at again at the latest, in trusted time.
    pub(crate) fn next_look(&self, record: &ObligationRecord, trusted: Wall) -> Option<Wall> {
        let holding = match &record.stage {
            Stage::Over
            | Stage::Running { .. }
            | Stage::DetectingAfter { .. }
            | Stage::Recalled
            | Stage::Undone
            | Stage::Upgrading => return None,
            stage @ Stage::RestartPending { .. } => return program_restart_until(stage),
            Stage::Holding { until, .. } => Some(*until),
            _ => None,
        };
        let policy = self.policy.as_ref()?;
        let standing = self.standing(&record.key, trusted)?;
        let (offer, due) = offered(&standing).ok()?;
        let start = due.at.map(|at| start(&standing, offer, at));
        let start = start.and_then(|start| match start {
            Start::From(time) => Some(time),
            Start::Now | Start::On(_) => None,
        });
        let due = due.at.and_then(|at| due_time(at, &self.zone));
        // The moment itself still counts as fresh.
        let stale = stale_from(offer, policy, self.memory.last_heard);
        let stale = stale.map(|from| from.plus(Duration::from_millis(1)));
        // What was reported is what was seen at the last look.
        let opens = match record.reported {
            State::Waiting {
                why: Waiting::Window | Waiting::Freeze | Waiting::BootGrace,
                until,
            } => until,
            _ => None,
        };
        [holding, due, start, opens, offer.expires, stale]
            .into_iter()
            .flatten()
            .filter(|at| *at > trusted)
            .min()
    }
}
