//! Why a device stands where it stands with an advertisement: gathers what bears on it, in one
//! snapshot, and lets `site-core` build the proof.

use muster_model::api::{WhyAnswer, WhyNext, WhyStep};
use muster_model::clock::Wall;
use muster_model::id::{AdvertisementId, CollectionId, DeviceId};
use muster_model::name::Name;
use muster_model::object::Kind as ObjectKind;
use muster_model::window::Window;
use muster_site_core::accounting::{Marked, Marks, marks};
use muster_site_core::obligation::ObligationRow;
use muster_site_core::occurrence::{Interval, OccurrenceRow, in_order};
use muster_site_core::removal::{self, is_answer};
use muster_site_core::targeting::{LiveAdvertisement, conflicts, tag};
use muster_site_core::why::{Inputs, Removing, Verdict, why};

use super::App;
use super::error::{Outcome, Refusal};
use super::live::{live_advertisement, package_spec};
use super::policy::{site_row, site_versions};
use super::window;
use crate::store::{AdvertisementRow, DeviceRow, Read};

impl App {
    /// The whole chain of decisions, and what happens next.
    pub(crate) async fn why(&self, id: AdvertisementId, device: DeviceId) -> Outcome<WhyAnswer> {
        self.contacts_flush().await?;
        let mut read = self.db.read().await?;
        let read = &mut read;
        let object = read.object_load(id.0).await?;
        let object = object.filter(|row| row.kind == ObjectKind::Advertisement);
        let object = object.ok_or_else(|| Refusal::not_found("advertisement", id))?;
        let row = read.advertisement_load(id).await?;
        let row = row.ok_or_else(|| Refusal::not_found("advertisement", id))?;
        let live = live_advertisement(read, &row).await?;
        let live = live.ok_or_else(|| Refusal::not_found("advertisement", id))?;
        let found = read.device_load(device).await?.ok_or_else(super::device::unknown)?;
        let site = site_row(read).await?;
        let now = self.now();
        let contact = read.contact_load_many(&[device]).await?.into_iter().next();
        let collection = read.object_load(row.collection.0).await?.map(|row| row.name);
        let collection = collection.unwrap_or_else(|| live.name.clone());
        let revision = read.revision_newest().await?;
        let graph = self.graphs.at(read, revision).await?;
        let standing = graph.standings(&found.device).remove(&row.collection);
        let occurrences = read.occurrence_list(id).await?;
        let intervals = intervals(read, device, &occurrences).await?;
        let rows = read.obligation_list_device(device).await?;
        let shown = in_order(&occurrences, &self.here());
        let (occurrence, obligation) = newest(&occurrences, &shown, &intervals, &rows, id);
        let told = self.told(read, &found, &live).await?;
        let too_short = too_short(read, &row, &live, &collection, &told.windows, now).await?;
        let last_contact = contact.map(|contact| contact.at);
        let marks = match (occurrence, obligation) {
            (Some(_), Some(row)) => marks(
                &Marked {
                    state: &row.state,
                    disputed: row.disputed.as_deref(),
                    last_contact: last_contact.unwrap_or(found.enrolled_at),
                    pending_since: row.since.min(object.created_at),
                    expires: live.expires,
                },
                now,
                &site.settings,
            ),
            _ => Marks::default(),
        };
        let set = self.live.at(read).await?;
        let removal = set.removing().get(&id);
        let removals: Vec<ObligationRow> =
            rows.iter().filter(|row| row.key.advertisement == id).cloned().collect();
        let proof = why(&Inputs {
            now,
            device: &found.device,
            last_contact,
            advertisement: &live,
            deleted: row.deleted_at.is_some(),
            collection: &collection,
            standing,
            intervals: &intervals,
            occurrence,
            row: obligation,
            halted: site.halted.as_ref(),
            conflict: told.conflict.as_ref(),
            windows: &told.windows,
            too_short,
            tag: told.tag,
            told: contact.and_then(|contact| Some((contact.tag?, contact.at))),
            marks,
            removal: removal.map(|one| Removing {
                program: &one.removal.program,
                row: removal::newest(&removals),
            }),
        });
        Ok(WhyAnswer {
            device,
            name: found.device.name.to_string(),
            advertisement: object.name,
            state: proof.state,
            reason: proof.reason,
            chain: proof
                .chain
                .into_iter()
                .map(|step| WhyStep {
                    step: step.step,
                    verdict: word(step.verdict).to_owned(),
                    because: step.because,
                })
                .collect(),
            next: WhyNext { what: proof.next.what, at: proof.next.at },
        })
    }

    /// What the device is told now.
    async fn told(
        &self,
        read: &mut Read,
        row: &DeviceRow,
        live: &LiveAdvertisement,
    ) -> Outcome<ToldNow> {
        let memberships = read.membership_of_many(&[row.device.id]).await?;
        let collections: Vec<CollectionId> = memberships.into_iter().map(|(_, one)| one).collect();
        let mut versions = std::collections::BTreeMap::new();
        for id in &collections {
            let found = read.collection_load(*id).await?;
            versions.extend(found.map(|found| (found.id, found.policy_version)));
        }
        let site = site_row(read).await?;
        let tag = tag(&site_versions(&site), row.own_version, &versions);
        let set = self.live.at(read).await?;
        let (offered, open) = set.offered(&collections);
        let offered: Vec<LiveAdvertisement> =
            offered.into_values().map(|one| one.advertisement.clone()).collect();
        let conflict = conflicts(&offered, &open, self.now()).remove(&live.advertisement);
        let windows = self.windows.at(read).await?.of(&collections);
        Ok(ToldNow { tag, conflict, windows })
    }
}

/// What bears on the device in its newest policy.
struct ToldNow {
    tag: muster_model::digest::Digest,
    /// The advertisement that stands in the way of the one that is asked about.
    conflict: Option<Name>,
    windows: Vec<Window>,
}

/// Why the advertised program has no room in the device's windows, if it has none.
async fn too_short(
    read: &mut Read,
    row: &AdvertisementRow,
    live: &LiveAdvertisement,
    collection: &Name,
    windows: &[Window],
    now: Wall,
) -> Outcome<Option<String>> {
    let version = read.package_version_load(row.package, &row.version).await?;
    let Some(version) = version.filter(|_| !windows.is_empty()) else { return Ok(None) };
    let programs = package_spec(&version)?;
    let Some(program) = programs.program(live.program.as_str()) else { return Ok(None) };
    let grace = window::grace(read).await?;
    Ok(muster_site_core::window::too_short(collection, windows, program, grace, now))
}

pub(crate) async fn intervals(
    read: &mut Read,
    device: DeviceId,
    occurrences: &[OccurrenceRow],
) -> Outcome<Vec<Interval>> {
    let mut collections: Vec<CollectionId> =
        occurrences.iter().flat_map(|row| row.spans.iter().map(|span| span.collection)).collect();
    collections.sort();
    collections.dedup();
    Ok(read.membership_intervals(device, &collections).await?)
}

/// The occurrence that is asked about, the newest that targets the device or the newest of all, and
/// the row of its obligation.
fn newest<'a>(
    occurrences: &'a [OccurrenceRow],
    shown: &[muster_model::message::Occurrence],
    intervals: &[Interval],
    rows: &'a [ObligationRow],
    id: AdvertisementId,
) -> (Option<&'a OccurrenceRow>, Option<&'a ObligationRow>) {
    let of = |occurrence: &muster_model::message::Occurrence| {
        let is = |row: &&ObligationRow| {
            row.key.advertisement == id && row.key.occurrence == *occurrence && is_answer(row)
        };
        rows.iter().find(is)
    };
    let mut ordered = shown
        .iter()
        .rev()
        .filter_map(|name| occurrences.iter().find(|row| row.occurrence == *name));
    let targeting =
        ordered.clone().find(|row| of(&row.occurrence).is_some() || row.targets(intervals));
    match targeting {
        Some(row) => (Some(row), of(&row.occurrence)),
        None => (ordered.next(), None),
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Yes => "yes",
        Verdict::No => "no",
        Verdict::Waiting => "not yet",
    }
}
