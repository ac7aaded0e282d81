//! The policy of one device: compiled on demand, sealed, kept for a while by (device, tag).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use muster_model::advertisement::At;
use muster_model::digest::Digest;
use muster_model::id::DeviceId;
use muster_model::message::Occurrence;
use muster_model::policy::{Due, Order, PutBack};
use muster_model::sign::Domain;
use muster_model::window::Window;
use muster_model::wire::seal::Sealed;
use muster_site_core::device::Admission;
use muster_site_core::obligation::ObligationRow;
use muster_site_core::occurrence::Revision;
use muster_site_core::put_back::Lives;
use muster_site_core::removal::{is_answer, is_declared};
use muster_site_core::targeting::{
    DeviceSide, LiveAdvertisement, OpenOccurrence, SiteSide, SiteVersions, compile, tag,
};

use super::App;
use super::error::{Kind, Outcome, Refusal, Tried};
use crate::store::{DeviceRow, Read, SiteRow};

/// Bytes of sealed policies that are kept; the older half goes when it is reached. A policy has about
/// a kilobyte and one for each advertisement.
const KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A sealed policy, its tag, and the revision that it was compiled of.
#[derive(Clone, Debug)]
pub(crate) struct SealedPolicy {
    pub(crate) tag: Digest,
    pub(crate) revision: Revision,
    pub(crate) document: Bytes,
}

/// Policies that were sealed: two generations, so that forgetting costs nothing.
#[derive(Default)]
pub(crate) struct PolicyCache(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<DeviceId, SealedPolicy>,
    old: HashMap<DeviceId, SealedPolicy>,
    young_bytes: usize,
}

impl PolicyCache {
    fn get(&self, device: DeviceId, tag: Digest) -> Option<SealedPolicy> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = held.young.get(&device).or_else(|| held.old.get(&device));
        found.filter(|policy| policy.tag == tag).cloned()
    }

    /// The device's collections changed, or it did: a tag that it had before may come back, and the
    /// policy under it must then be of a later revision than what the device holds.
    pub(crate) fn forget(&self, device: DeviceId) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.young.remove(&device);
        held.old.remove(&device);
    }

    fn put(&self, device: DeviceId, policy: SealedPolicy) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.young_bytes += policy.document.len();
        held.young.insert(device, policy);
        if held.young_bytes > KEPT_BYTES_MAX / 2 {
            held.old = std::mem::take(&mut held.young);
            held.young_bytes = 0;
        }
    }
}

impl App {
    /// The policy of `device`. `known` is the tag that the caller found in memory, if it is young
    /// enough: a policy under that tag need not be compiled again.
    pub(crate) async fn policy(
        &self,
        device: DeviceId,
        known: Option<Digest>,
    ) -> Outcome<SealedPolicy> {
        if let Some(found) = known.and_then(|tag| self.policies.get(device, tag)) {
            return Ok(found);
        }
        let mut read = self.db.read().await?;
        let policy = self.compile(&mut read, device).await?;
        // Only what is of the newest revision is kept: see `PolicyCache::forget`.
        if policy.revision == self.index.revision() {
            self.policies.put(device, policy.clone());
        }
        Ok(policy)
    }

    async fn compile(&self, read: &mut Read, id: DeviceId) -> Outcome<SealedPolicy> {
        let revision = read.revision_newest().await?;
        let site = site_row(read).await?;
        let device = read.device_load(id).await?.ok_or_else(unknown)?;
        let memberships = read.membership_of_many(&[id]).await?;
        let collections: Vec<_> = memberships.into_iter().map(|(_, one)| one).collect();
        let mut versions = std::collections::BTreeMap::new();
        for collection in &collections {
            let row = read.collection_load(*collection).await?;
            versions.extend(row.map(|row| (row.id, row.policy_version)));
        }
        let tag = tag(&site_versions(&site), device.own_version, &versions);
        let set = self.live.at(read).await?;
        let (mut live, mut open) = set.offered(&collections);
        let (reruns, mut removals) = named(read, id).await?;
        // What is advertised is not removed, even before the site has taken its removal back; nor is a
        // package by the program of another. What has expired starts nothing more.
        let now = self.now();
        removals.retain(|(row, _)| {
            let id = row.key.advertisement;
            set.removing().get(&id).is_some_and(|one| {
                is_declared(row, one.since) && (!live.contains_key(&id) || one.is_over(now))
            })
        });
        let removed: BTreeSet<_> = removals.iter().map(|(_, one)| one.advertisement).collect();
        live.retain(|id, _| !removed.contains(id));
        open.retain(|one| !removed.contains(&one.advertisement));
        for rerun in reruns {
            let one = set.get(rerun.advertisement);
            if let Some(one) = one.filter(|_| !removed.contains(&rerun.advertisement)) {
                live.insert(rerun.advertisement, one.clone());
                open.push(rerun);
            }
        }
        let mut live: Vec<LiveAdvertisement> =
            live.into_values().map(|one| one.advertisement.clone()).collect();
        for (_, removal) in removals {
            if let Some(one) = set.removing().get(&removal.advertisement) {
                live.push(one.removal.clone());
                open.push(removal);
            }
        }
        let side = SiteSide {
            epoch: site.epoch,
            revision,
            settings: site.settings,
            trust: site.trust_number,
            halted: site.halted,
        };
        let windows = self.windows.at(read).await?.of(&collections);
        let put_back = match &device.device.admission {
            Admission::Held { .. } => Lives::of(&read.stream_list(id).await?).told(),
            _ => None,
        };
        let policy =
            compile(&side, &device_side(&device, put_back, windows), &live, &open, tag, self.now());
        let sealed = Sealed::seal(&self.keys.signing, Domain::Policy, &policy);
        let sealed = sealed.tried("seal a policy")?;
        let document = serde_json::to_vec(&sealed).tried("write a policy")?.into();
        Ok(SealedPolicy { tag, revision, document })
    }
}

/// The occurrences that name this device: those that `rerun` opened, and its removals that are due and
/// have not ended, with their rows.
async fn named(
    read: &mut Read,
    device: DeviceId,
) -> Outcome<(Vec<OpenOccurrence>, Vec<(ObligationRow, OpenOccurrence)>)> {
    let (mut reruns, mut removals) = (Vec::new(), Vec::new());
    for row in read.obligation_list_device(device).await? {
        let is_rerun = row.key.occurrence.assignment.as_str() == Occurrence::RERUN;
        let is_open = is_answer(&row) && !row.state.word().is_terminal();
        let is_removal = row.key.occurrence.is_removal() && is_open;
        let due = Due { occurrence: row.key.occurrence.clone(), at: Some(At::Now) };
        let open = OpenOccurrence { advertisement: row.key.advertisement, due };
        match (is_rerun, is_removal) {
            (true, _) => reruns.push(open),
            (_, true) => removals.push((row, open)),
            _ => {}
        }
    }
    Ok((reruns, removals))
}

fn device_side(row: &DeviceRow, put_back: Option<PutBack>, windows: Vec<Window>) -> DeviceSide {
    let held = match &row.device.admission {
        Admission::Held { order } => Some(order.clone()),
        Admission::Pending => Some(Order {
            by: "the site".to_owned(),
            reason: "waits for `muster device approve`".to_owned(),
            kill: false,
        }),
        Admission::Admitted | Admission::Retired => None,
    };
    DeviceSide { device: row.device.id, settings: row.settings.clone(), held, put_back, windows }
}

/// The parts of the site's row that every tag covers.
pub(crate) fn site_versions(site: &SiteRow) -> SiteVersions {
    SiteVersions {
        epoch: site.epoch,
        settings: site.settings_version,
        trust: site.trust_number,
        halt: site.halt_version,
    }
}

/// The site's row; `init` writes it before anything else can be read.
pub(crate) async fn site_row(read: &mut Read) -> Outcome<SiteRow> {
    let row = read.site_load().await?;
    row.ok_or_else(|| Refusal::new(Kind::Busy, "the site's database is empty").into())
}

fn unknown() -> Refusal {
    Refusal::new(Kind::NotFound, "the site does not know the device")
}
