//! The device's own view: what `agent status` and `agent software` show, also without a network.

use muster_model::advertisement::At;
use muster_model::clock::{Now, Wall};
use muster_model::component::Component;
use muster_model::digest::Digest;
use muster_model::id::{AdvertisementId, DeviceId, EpochId, Incarnation};
use muster_model::message::Occurrence;
use muster_model::policy::{Due, Offer};
use muster_model::state::{State, Waiting, Word};
use serde::Serialize;

use crate::agent::Agent;
use crate::maintenance::MaintenanceView;
use crate::obligation::offered;
use crate::saved::{Key, ObligationRecord};
use crate::turn::Turn;
use crate::user::latest_start;
use crate::window::WindowsView;

pub use crate::why::{Chain, Link, Next};

/// What the device knows of itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// Who it is.
    pub device: DeviceId,
    /// Which life of its memory.
    pub incarnation: Incarnation,
    /// The policy acted on.
    pub policy: Option<PolicyView>,
    /// Trusted time.
    pub trusted_time: Wall,
    /// When the site was last heard, in trusted time.
    pub last_heard: Option<Wall>,
    /// The memory was lost and the site's account has not come yet.
    pub awaits_account: bool,
    /// Nothing new starts: a component is paused on the device.
    pub paused: bool,
    /// Where each part of the agent stands.
    pub components: Vec<Component>,
    /// When the agent looked at itself, and what it mends.
    pub maintenance: MaintenanceView,
    /// What its windows and freezes say; absent without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<WindowsView>,
    /// Messages that wait for the site.
    pub outbox: OutboxView,
    /// What last went wrong with the site, if it still does.
    pub trouble: Vec<String>,
    /// The last input that fitted nothing, for those who look for a fault in the agent itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignored: Option<&'static str>,
    /// All obligations, in the order of their advertisements.
    pub obligations: Vec<ObligationView>,
}

/// The policy acted on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyView {
    /// The site's epoch.
    pub epoch: EpochId,
    /// The site revision it was compiled at.
    pub revision: u64,
    /// Its tag.
    pub tag: Digest,
    /// When it was compiled.
    pub issued: Wall,
}

/// Messages that wait for the site's receipt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutboxView {
    /// How many.
    pub length: u64,
    /// When the oldest was written, in trusted time.
    pub oldest: Option<Wall>,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that they may have. From half of it on what is no outcome gives way, from three quarters on
    /// no new run starts.
    pub limit: u64,
    /// Messages that gave way, in this life of the memory.
    pub dropped: u64,
}

/// One obligation.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObligationView {
    /// The advertisement.
    pub advertisement: AdvertisementId,
    /// Its name.
    pub name: String,
    /// The occurrence.
    pub occurrence: Occurrence,
    /// The revision followed.
    pub revision: u32,
    /// The package as `NAME@VERSION`; absent for what only the site's account told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// The program.
    pub program: String,
    /// The bare word of the state.
    pub state: Word,
    /// The rest of the state.
    pub reason: Option<String>,
    /// Since when, in trusted time.
    pub since: Wall,
    /// Runs so far.
    pub attempt: u32,
    /// The users whom the program runs for, if it runs for each who is logged on, and how far it is for
    /// each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<Turn>,
    /// What is on the device and replaces the package, `NAME@VERSION`, where that is why it does not
    /// start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<String>,
    /// Exit code and detection contradicted each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disputed: Option<String>,
    /// When it is mandatory: `now`, or a time; absent if it is available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mandatory: Option<At>,
    /// The latest start that a user may put it off to, if notice is given of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest: Option<Wall>,
    /// What happens next.
    pub next: Next,
}

impl Agent {
    /// What the device knows of itself.
    pub fn view(&self, now: Now) -> View {
        let trusted = self.trusted(now);
        let (length, oldest) = self.outbox_waiting();
        let known = self.obligations.values().map(|record| self.obligation_view(record, trusted));
        let unaccounted =
            self.unaccounted().map(|(offer, due)| view_unaccounted(offer, due, trusted));
        View {
            device: self.identity.device,
            incarnation: self.identity.incarnation,
            policy: self.policy.as_ref().map(|policy| PolicyView {
                epoch: policy.epoch,
                revision: policy.revision,
                tag: policy.tag,
                issued: policy.issued,
            }),
            trusted_time: trusted,
            last_heard: self.memory.last_heard,
            awaits_account: self.memory.awaits_account,
            paused: self.paused,
            components: self.components(),
            maintenance: self.maintenance_view(),
            windows: self.windows_view(trusted),
            outbox: OutboxView {
                length,
                oldest,
                bytes: self.outbox.waiting_bytes(self.memory.relieved) as u64,
                limit: self.outbox.bytes_max as u64,
                dropped: self.memory.gave_way.dropped,
            },
            trouble: self.trouble(),
            ignored: self.ignored,
            obligations: known.chain(unaccounted).collect(),
        }
    }

    /// What last went wrong with the site, if it still does.
    pub fn trouble(&self) -> Vec<String> {
        let all = [&self.contact.trouble, &self.outbox.trouble];
        all.into_iter().flatten().cloned().collect()
    }

    fn obligation_view(&self, record: &ObligationRecord, trusted: Wall) -> ObligationView {
        ObligationView {
            advertisement: record.key.advertisement,
            name: record.name.clone(),
            occurrence: record.key.occurrence.clone(),
            revision: record.revision,
            package: record
                .package
                .as_ref()
                .map(|package| format!("{}@{}", package.name, package.version)),
            program: record.program.clone(),
            state: record.reported.word(),
            reason: record.reported.reason(),
            since: record.since,
            attempt: record.attempts,
            users: record.turns.clone(),
            replaced_by: record.replaced_by.clone(),
            disputed: record.disputed.clone(),
            mandatory: self.mandatory(record, trusted),
            latest: self
                .standing(&record.key, trusted)
                .filter(|_| record.reported.word().is_unstarted())
                .and_then(|standing| latest_start(&standing)),
            next: self.next_of(record, trusted),
        }
    }

    fn mandatory(&self, record: &ObligationRecord, trusted: Wall) -> Option<At> {
        let standing = self.standing(&record.key, trusted)?;
        offered(&standing).ok().and_then(|(_, due)| due.at)
    }

    /// What is offered while the account is awaited: it is no obligation yet, because the account may
    /// say that it ended long ago, but people must see why nothing happens.
    fn unaccounted(&self) -> impl Iterator<Item = (&Offer, &Due)> {
        let offers = self.policy.iter().flat_map(|policy| &policy.advertisements);
        let dues = offers.flat_map(|offer| offer.occurrences.iter().map(move |due| (offer, due)));
        dues.filter(|(offer, due)| {
            let key =
                Key { advertisement: offer.advertisement, occurrence: due.occurrence.clone() };
            self.memory.awaits_account && due.at.is_some() && !self.obligations.contains_key(&key)
        })
    }
}

fn view_unaccounted(offer: &Offer, due: &Due, trusted: Wall) -> ObligationView {
    let state = State::Waiting { why: Waiting::Account, until: None };
    ObligationView {
        advertisement: offer.advertisement,
        name: offer.name.to_string(),
        occurrence: due.occurrence.clone(),
        revision: offer.revision,
        package: Some(format!("{}@{}", offer.package.name, offer.package.version)),
        program: offer.program.to_string(),
        state: state.word(),
        reason: state.reason(),
        since: trusted,
        attempt: 0,
        users: Vec::new(),
        replaced_by: None,
        disputed: None,
        mandatory: due.at,
        latest: None,
        next: Next { what: "the site's account arrives".to_owned(), at: None },
    }
}

#[cfg(test)]
mod tests;
