//! What was undone when the machine was put back to a snapshot: done again where its author allows it,
//! never guessed.
//!
//! ```text
//! no longer offered, expired, replaced, revoked ---------------> stays rolled-back
//! rerun: always, or if-not-detected with detection ------------> as new: detection comes before any run
//! rerun: never, with detection: present -----------------------> succeeded(already-present)
//!                               absent, cannot tell -----------> stays rolled-back
//! rerun: never or if-not-detected, without detection ----------> stays rolled-back, until `muster rerun`
//! ```
//!
//! Attempts that were made before count no more: this machine knows nothing of them.

use muster_model::package::{Program, Rerun};
use muster_model::state::{Evidence, EvidenceKind, State};

use crate::agent::Agent;
use crate::draft::Draft;
use crate::input::Found;
use crate::obligation::{Move, Standing, offered, over_before_start, policy_offer, still_fetching};
use crate::outcome::{detects, met};
use crate::part::manifested;
use crate::report::Told;
use crate::saved::{ContentStanding, Key, Stage};
use crate::sometimes::Branch;

/// What an obligation does next that a snapshot undid.
pub(crate) fn next_undone(standing: &Standing<'_>) -> Move {
    let record = standing.record;
    let Ok((offer, _)) = offered(standing) else { return Move::Close };
    let over = over_before_start(offer, standing.trusted).is_some();
    if standing.is_passed || over || offer.superseded.is_some() {
        return Move::Close;
    }
    let Some(package) = &record.package else { return Move::Close };
    let manifested = match manifested(standing.contents, package) {
        Ok(manifested) => manifested,
        Err(Move::End(_)) => return Move::Close,
        Err(next) => return next,
    };
    if let Some(next) = still_fetching(standing) {
        return next;
    }
    if manifested.release.is_some() {
        return Move::Reopen;
    }
    let Some(program) = manifested.program(&record.program) else { return Move::Close };
    let detection = manifested.detection.as_ref().filter(|one| detects(program, Some(one)));
    match (program.rerun, detection) {
        (Rerun::Always, _) | (Rerun::IfNotDetected, Some(_)) => Move::Reopen,
        (Rerun::Never, Some(_)) if standing.detecting => Move::Stay,
        // Detection belongs to the package of the program, not to those that go before it.
        (Rerun::Never, Some(detection)) if record.dependencies.is_empty() => {
            Move::DetectUndone(Box::new(detection.clone()))
        }
        (Rerun::Never | Rerun::IfNotDetected, _) => Move::Close,
    }
}

impl Agent {
    /// Opens again what a snapshot undid.
    pub(crate) fn do_again(&mut self, draft: &mut Draft, key: &Key) {
        let policy = self.policy.as_ref();
        let offer = policy.and_then(|policy| policy_offer(policy, key.advertisement)).cloned();
        let Some(offer) = offer else { return };
        self.fired.note(Branch::DoneAgain);
        self.reopen(draft, key, &offer);
    }

    /// Takes what detection found of a program that may not run again.
    pub(crate) fn detected_undone(&mut self, draft: &mut Draft, key: &Key, found: &Found) {
        self.fired.note(Branch::DetectedUndone);
        let is_there = self.undone_program(key).and_then(|program| met(program, found));
        if is_there == Some(true) {
            let evidence = Evidence { rule: EvidenceKind::AlreadyPresent, exit_code: None };
            let succeeded = State::Succeeded { evidence };
            return self.part_succeeded(draft, key, succeeded.into(), Told::default());
        }
        self.set_stage(draft, key, Stage::Over);
    }

    fn undone_program(&self, key: &Key) -> Option<&Program> {
        let record = self.obligations.get(key)?;
        let content = self.contents.get(&record.package.as_ref()?.manifest)?;
        match &content.record.standing {
            ContentStanding::Ready { manifested } => manifested.program(&record.program),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
