//! Why a device stands where it stands: an ordered proof, from "is the device known" to what happens
//! next.
//!
//! Each step is answered from a value the site has, and the first "no" is the reason. Nothing is
//! guessed: what the site does not know is said to be unknown, with the time of the last contact.

mod next;
mod removal;
mod step;
#[cfg(test)]
mod tests;
mod window;

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::name::Name;
use muster_model::policy::Order;
use muster_model::state::{State, Word};
use muster_model::window::Window;
use serde::{Deserialize, Serialize};

use crate::accounting::Marks;
use crate::device::Device;
use crate::membership::Standing;
use crate::obligation::ObligationRow;
use crate::occurrence::{Interval, OccurrenceRow};
use crate::targeting::LiveAdvertisement;

/// Everything that bears on one device and one advertisement.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// The site's time.
    pub now: Wall,
    /// The device.
    pub device: &'a Device,
    /// When it was last heard of; `None`: never.
    pub last_contact: Option<Wall>,
    /// The advertisement.
    pub advertisement: &'a LiveAdvertisement,
    /// It was deleted; its accounting stays.
    pub deleted: bool,
    /// Its collection's name.
    pub collection: &'a Name,
    /// How the device stands to that collection now.
    pub standing: Option<Standing>,
    /// The device's intervals in the collections of the occurrence.
    pub intervals: &'a [Interval],
    /// The occurrence asked about: the newest that targets the device, or the newest of all.
    pub occurrence: Option<&'a OccurrenceRow>,
    /// The row of the obligation.
    pub row: Option<&'a ObligationRow>,
    /// Everything is halted.
    pub halted: Option<&'a Order>,
    /// Another advertisement wants the opposite on this device.
    pub conflict: Option<&'a Name>,
    /// The windows and freezes of all the device's collections.
    pub windows: &'a [Window],
    /// Why the program has no room in any of them.
    pub too_short: Option<String>,
    /// The device's policy tag now.
    pub tag: Digest,
    /// The tag that the device last presented, and when.
    pub told: Option<(Digest, Wall)>,
    /// The marks over the obligation.
    pub marks: Marks,
    /// What the advertisement says of a removal.
    pub removal: Option<Removing<'a>>,
}

/// The removal that an advertisement declares, and how far it is on the device.
#[derive(Clone, Copy, Debug)]
pub struct Removing<'a> {
    /// The program that removes.
    pub program: &'a Name,
    /// The device's newest removal.
    pub row: Option<&'a ObligationRow>,
}

/// The answer to `muster why DEVICE ADVERTISEMENT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// The bare state; `None` if the advertisement never targeted the device.
    pub state: Option<Word>,
    /// The rest of the state.
    pub reason: Option<String>,
    /// The proof, in order.
    pub chain: Vec<Step>,
    /// What happens next.
    pub next: Next,
}

/// One step of the proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What was asked: `device`, `collection`, `occurrence`, `advertisement`, `removal`, `policy`,
    /// `window`, `outcome`.
    pub step: String,
    /// The answer.
    pub verdict: Verdict,
    /// What it rests on.
    pub because: String,
}

/// The answer of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it must be for the program to run.
    Yes,
    /// This is what prevents it.
    No,
    /// Not yet.
    Waiting,
}

/// What happens next, and when, if that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// What.
    pub what: String,
    /// When, at the latest.
    pub at: Option<Wall>,
}

/// Builds the proof.
pub fn why(inputs: &Inputs<'_>) -> Why {
    let state = step::state_of(inputs);
    let mut chain = vec![step::device_step(inputs)];
    if inputs.occurrence.is_some_and(|row| row.occurrence.is_removal()) {
        chain.extend(removal::removal_step(inputs));
    } else {
        chain.push(step::collection_step(inputs));
        chain.push(step::occurrence_step(inputs));
        chain.push(step::advertisement_step(inputs));
        chain.extend(removal::grace_step(inputs));
    }
    if state.is_some() {
        chain.push(step::policy_step(inputs));
    }
    chain.extend(state.as_ref().and_then(|state| window::window_step(inputs, state)));
    chain.extend(state.as_ref().map(|state| step::outcome_step(inputs, state)));
    Why {
        state: state.as_ref().map(State::word),
        reason: state.as_ref().and_then(State::reason),
        next: next::next(inputs, state.as_ref(), &chain),
        chain,
    }
}
