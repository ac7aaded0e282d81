//! A person's word about what runs: stop, resume, run again, revoke; and how far it has gone.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_model::api::{OrderAnswer, OrderRequest, RerunAnswer, RerunRequest, RevokeRequest};
use muster_model::id::{AdvertisementId, CollectionId, DeviceId, PackageId};
use muster_model::name::Name;
use muster_model::object::Kind as ObjectKind;
use muster_model::plural::counted;
use muster_model::policy::Order;
use muster_model::state::Word;
use muster_site_core::decision::{Decision, decide, merged};
use muster_site_core::edit::next_rerun;
use muster_site_core::obligation::{Key, ObligationRow};
use muster_site_core::occurrence::{Revision, in_order};
use muster_site_core::recurrence::Here;

use super::change::{About, Change, Code};
use super::error::{Kind, Outcome, Refusal};
use super::object::live_row;
use super::{App, Who, advertisement, collection, dependency, removal};
use crate::store::{ACCOUNTING_PAGE_MAX, AdvertisementRow, DEVICE_PAGE_MAX, Subject};

/// Devices that one `rerun` names. Each gets a row; a larger part of a fleet is a collection and an
/// advertisement.
pub(crate) const RERUN_DEVICES_MAX: usize = 10_000;
/// How long an answer waits for devices that are on line to take the order.
const REACH_WAIT: Duration = Duration::from_secs(2);
/// How often it looks.
const REACH_LOOK_EVERY: Duration = Duration::from_millis(100);

impl App {
    /// Stops an advertisement: nothing of it starts until it is resumed.
    pub(crate) async fn advertisement_stop(
        &self,
        who: &Who,
        id: AdvertisementId,
        request: OrderRequest,
    ) -> Outcome<OrderAnswer> {
        let order = Order { by: who.name.clone(), reason: request.reason, kill: request.kill };
        self.set_stopped(who, id, Some(order)).await
    }

    /// Lets a stopped advertisement go on.
    pub(crate) async fn advertisement_resume(
        &self,
        who: &Who,
        id: AdvertisementId,
    ) -> Outcome<OrderAnswer> {
        self.set_stopped(who, id, None).await
    }

    async fn set_stopped(
        &self,
        who: &Who,
        id: AdvertisementId,
        order: Option<Order>,
    ) -> Outcome<OrderAnswer> {
        let mut change = Change::begin(self, who).await?;
        let (mut row, name) = live(&mut change, id).await?;
        let (code, said) = match &order {
            Some(order) => {
                (Code::AdvertisementStopped, format!("`{name}` stopped: {}", order.reason))
            }
            None => (Code::AdvertisementResumed, format!("`{name}` may go on")),
        };
        row.stopped = order;
        change.tx.advertisement_update(&row).await?;
        advertisement::offer_changed(&mut change, id).await?;
        change.say(code, id, said);
        let revision = change.commit().await?;
        self.reach(revision, &[row.collection]).await
    }

    /// Forbids a package version: nothing of it starts any more.
    pub(crate) async fn package_revoke(
        &self,
        who: &Who,
        id: PackageId,
        request: RevokeRequest,
    ) -> Outcome<OrderAnswer> {
        let mut change = Change::begin(self, who).await?;
        let found = live_row(&mut change.tx, ObjectKind::Package, id.0, None).await?;
        let order = Order { by: who.name.clone(), reason: request.reason, kill: request.kill };
        let version = &request.version;
        if !change.tx.package_version_revoke(id, version, Some(&order)).await? {
            return Err(Refusal::not_found("version", version).into());
        }
        let mut collections = BTreeSet::new();
        for row in change.tx.advertisement_list_package(id).await? {
            if row.version == *version {
                advertisement::offer_changed(&mut change, row.id).await?;
                collections.insert(row.collection);
            }
        }
        for (row, needed) in dependency::dependents(&mut change.tx, id).await? {
            if needed == *version {
                advertisement::offer_changed(&mut change, row.id).await?;
                collections.insert(row.collection);
            }
        }
        change.concerns(Subject::Package(id.0));
        let said = format!("package {}@{version} revoked: {}", found.name, order.reason);
        change.say(Code::VersionRevoked, About::default(), said);
        let revision = change.commit().await?;
        self.reach(revision, &collections.into_iter().collect::<Vec<_>>()).await
    }

    /// Opens a manual occurrence for exactly the devices that are asked for; history stays.
    pub(crate) async fn advertisement_rerun(
        &self,
        who: &Who,
        id: AdvertisementId,
        request: RerunRequest,
    ) -> Outcome<RerunAnswer> {
        if request.reason.trim().is_empty() {
            return Err(Refusal::invalid("reason", "say why: it stands in the history").into());
        }
        let mut change = Change::begin(self, who).await?;
        let (row, name) = live(&mut change, id).await?;
        let devices = chosen(&mut change, id, &request).await?;
        if devices.is_empty() {
            let detail = "no targeted device is chosen by that";
            return Err(Refusal::invalid("state", detail).into());
        }
        let occurrences = change.tx.occurrence_list(id).await?;
        let occurrence = next_rerun(id, &occurrences, change.revision);
        let occurrence =
            occurrence.ok_or_else(|| Refusal::conflict("no further run can be opened"))?;
        change.tx.stream_lock_many(devices.iter().copied()).await?;
        change.tx.occurrence_insert(&occurrence, change.now).await?;
        let decided: Vec<_> = devices
            .iter()
            .filter_map(|device| {
                let occurrence = occurrence.occurrence.clone();
                let key = Key { advertisement: id, occurrence, device: *device };
                decide(Decision::Name, &key, None, row.revision, change.now)
            })
            .collect();
        let rows: Vec<ObligationRow> = decided.iter().map(|one| one.row.clone()).collect();
        change.tx.obligation_write_many(&rows).await?;
        change.tx.counter_add(&merged(&decided)).await?;
        removal::tell(&mut change, &devices.iter().copied().collect()).await?;
        change.concerns(Subject::Advertisement(id.0));
        let many = counted(devices.len() as u64, "device");
        let said = format!("`{name}` runs again on {many}: {}", request.reason);
        change.say(Code::AdvertisementRerun, id, said);
        change.commit().await?;
        Ok(RerunAnswer { occurrence: occurrence.occurrence, devices: devices.len() as u64 })
    }

    /// How many members of `collections` have taken a policy of `revision` or later. Waits a little
    /// for those that are on line.
    pub(crate) async fn reach(
        &self,
        revision: Revision,
        collections: &[CollectionId],
    ) -> Outcome<OrderAnswer> {
        let mut devices = BTreeSet::new();
        let mut read = self.db.read().await?;
        for id in collections {
            devices.extend(collection::members(&mut read, *id).await?);
        }
        drop(read);
        let devices: Vec<DeviceId> = devices.into_iter().collect();
        let concerned = devices.len() as u64;
        let until = tokio::time::Instant::now() + REACH_WAIT;
        loop {
            self.contacts_flush().await?;
            let known = self.known_by(&devices, revision).await?;
            if known == concerned || tokio::time::Instant::now() >= until {
                let may_still_start = concerned - known;
                return Ok(OrderAnswer { revision: revision.0, concerned, known, may_still_start });
            }
            tokio::time::sleep(REACH_LOOK_EVERY).await;
        }
    }

    async fn known_by(&self, devices: &[DeviceId], revision: Revision) -> Outcome<u64> {
        let mut read = self.db.read().await?;
        let mut known = 0;
        for page in devices.chunks(DEVICE_PAGE_MAX as usize) {
            let contacts = read.contact_load_many(page).await?;
            known += contacts.iter().filter(|row| row.revision >= revision).count() as u64;
        }
        Ok(known)
    }
}

/// A live advertisement and its name.
async fn live(change: &mut Change<'_>, id: AdvertisementId) -> Outcome<(AdvertisementRow, Name)> {
    let found = live_row(&mut change.tx, ObjectKind::Advertisement, id.0, None).await?;
    let row = change.tx.advertisement_load(id).await?;
    let row = row.ok_or_else(|| Refusal::not_found("advertisement", id))?;
    Ok((row, found.name))
}

/// The devices that a `rerun` is for: those named, or all targeted ones; of one state if it says so.
async fn chosen(
    change: &mut Change<'_>,
    id: AdvertisementId,
    request: &RerunRequest,
) -> Outcome<Vec<DeviceId>> {
    let named: BTreeSet<DeviceId> = request.devices.iter().copied().collect();
    let mut left = named.clone();
    let mut chosen = Vec::new();
    let zone = change.zone();
    let here = Here { now: change.now, zone: &zone };
    let occurrences = in_order(&change.tx.occurrence_list(id).await?, &here);
    let mut after = None;
    loop {
        let page =
            change.tx.accounting_page(id, &occurrences, None, after, ACCOUNTING_PAGE_MAX).await?;
        for one in &page.devices {
            left.remove(&one.device);
            let word = one.row.as_ref().map_or(Word::Targeted, |row| row.state.word());
            let is_named = named.contains(&one.device);
            if one.occurrence.is_removal() && is_named {
                let detail = format!(
                    "device {} is not meant any more, its newest run is a removal: what is advertised \
                     runs there again once it is meant again",
                    one.name
                );
                return Err(Refusal::invalid("devices", detail).into());
            }
            let meant = (named.is_empty() && !one.occurrence.is_removal()) || is_named;
            if meant && request.state.is_none_or(|state| state == word) {
                chosen.push(one.device);
            }
        }
        if chosen.len() > RERUN_DEVICES_MAX {
            let detail = format!("more than {RERUN_DEVICES_MAX} devices");
            return Err(Refusal::new(Kind::Limit, detail).limit("RERUN_DEVICES_MAX").into());
        }
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    if let Some(stranger) = left.first() {
        let detail = format!("the advertisement never targeted device {stranger}");
        return Err(Refusal::invalid("devices", detail).into());
    }
    Ok(chosen)
}
