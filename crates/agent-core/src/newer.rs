//! What was replaced: a program of an old package does not start on a device that has what replaces it.
//!
//! Known from the device's own obligations, so it holds without the site as well: whoever installed the
//! newer package with success has it, until the device removed it again. The site only says, with each
//! offer, what its package replaces; an offer that ended long ago is remembered with its obligation.

use muster_model::name::Name;
use muster_model::package::Achieves;
use muster_model::policy::Offer;
use muster_model::state::{NotApplicable, State, Word};
use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::draft::Draft;
use crate::obligation::{Standing, next};
use crate::report::Told;
use crate::saved::{Key, ObligationRecord, Stage};
use crate::sometimes::Branch;

/// What an obligation's program makes of its package, as the offer said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Making {
    /// What the program achieves.
    #[serde(skip_serializing_if = "Achieves::is_present")]
    pub achieves: Achieves,
    /// The names of the packages that its package replaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub supersedes: Vec<Name>,
}

impl Making {
    pub(crate) fn of(offer: &Offer) -> Self {
        Self { achieves: offer.achieves, supersedes: offer.supersedes.clone() }
    }

    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl ObligationRecord {
    /// Whether it shows that its package was installed on, or taken off, the device.
    fn tells_of(&self, package: &Name) -> bool {
        let of_it = self.package.as_ref().is_some_and(|known| known.name == *package);
        of_it
            && self.reported.word() == Word::Succeeded
            && self.making.achieves != Achieves::Nothing
    }

    /// Whether it takes the place of what `offer` would install.
    fn replaces(&self, offer: &Offer) -> bool {
        let Some(package) = &self.package else { return false };
        self.making.supersedes.contains(&offer.package.name)
            && self.making.achieves == Achieves::Present
            && self.reported.word() == Word::Succeeded
            && package.manifest != offer.package.manifest
            // Two packages that replace each other replace nothing.
            && !offer.supersedes.contains(&package.name)
    }
}

/// The package that is on the device and replaces what `offer` would install, `NAME@VERSION`.
pub(crate) fn newer(standing: &Standing<'_>, offer: &Offer) -> Option<String> {
    if offer.achieves != Achieves::Present {
        return None;
    }
    let when = |record: &ObligationRecord| (record.since, record.reported_in);
    let stands = |found: &&ObligationRecord| {
        let name = found.package.as_ref().map(|package| &package.name);
        let of_it = |other: &&ObligationRecord| name.is_some_and(|name| other.tells_of(name));
        let last = standing.others.values().filter(of_it).max_by_key(|other| when(other));
        last.is_some_and(|last| last.making.achieves == Achieves::Present)
    };
    let found = standing.others.values().filter(|one| one.replaces(offer)).find(stands)?;
    let package = found.package.as_ref()?;
    Some(format!("{}@{}", package.name, package.version))
}

impl Agent {
    /// Something newer is there: the program is not for this machine while that is so.
    pub(crate) fn replaced(&mut self, draft: &mut Draft, key: &Key, by: String) {
        let state = State::NotApplicable { why: NotApplicable::NewerPresent };
        self.set_stage(draft, key, Stage::Idle);
        self.report(draft, key, state, Told::default());
        let Some(record) = self.obligations.get_mut(key) else { return };
        if record.replaced_by.as_ref() != Some(&by) {
            self.fired.note(Branch::NewerPresent);
            record.replaced_by = Some(by);
            draft.obligations.insert(key.clone());
        }
    }

    /// What was newer has been taken off again: the program is for this machine.
    pub(crate) fn readmit(&mut self, draft: &mut Draft, key: &Key) {
        self.report(draft, key, State::Accepted, Told::default());
        let trusted = self.trusted(draft.now);
        if let Some(next) = self.standing(key, trusted).map(|standing| next(&standing)) {
            self.carry_out(draft, key, next);
        }
    }
}

#[cfg(test)]
mod tests;
