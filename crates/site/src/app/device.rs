//! Devices: lists, and what a person decides about one.

use std::collections::BTreeMap;

use muster_model::api::{DeviceView, GapView, Page, StreamView, VerifiedView};
use muster_model::id::DeviceId;
use muster_model::message::{Body, Message};
use muster_model::name::Name;
use muster_model::policy::Order;
use muster_site_core::decision::{Decision, decide, merged};
use muster_site_core::device::Admission;
use muster_site_core::ingest::{Fork, StreamRow};
use muster_site_core::obligation::{Key, ObligationRow};
use muster_site_core::removal::is_answer;

use super::change::{Change, Code};
use super::error::{Kind, Outcome, Refusal};
use super::{App, Who, collection};
use crate::store::{ContactRow, DeviceRow, GapRow, Read, Subject};

/// Who holds a device that the site itself suspects.
pub(crate) const SITE: &str = "the site";

impl App {
    /// A page of devices by id.
    pub(crate) async fn device_page(
        &self,
        cursor: Option<&str>,
        limit: u32,
    ) -> Outcome<Page<DeviceView>> {
        let after = match cursor {
            Some(text) => Some(text.parse().map_err(|_| super::bad_cursor())?),
            None => None,
        };
        let mut read = self.db.read().await?;
        let rows = read.device_list(after, limit).await?;
        let next = (rows.len() == limit as usize).then(|| rows.last()).flatten();
        let next = next.map(|row| row.device.id.to_string());
        let items = views(&mut read, rows).await?;
        Ok(Page { items, next })
    }

    /// One device.
    pub(crate) async fn device_view(&self, id: DeviceId) -> Outcome<DeviceView> {
        let mut read = self.db.read().await?;
        let row = read.device_load(id).await?.ok_or_else(unknown)?;
        let mut found = views(&mut read, vec![row]).await?;
        let mut found = found.pop().ok_or_else(unknown)?;
        if let Some(Message { body: Body::Components { components }, .. }) =
            newest(&mut read, id, Body::COMPONENTS).await?
        {
            found.components = components;
        }
        if let Some(Message { body: Body::Verified(verification), trusted, .. }) =
            newest(&mut read, id, Body::VERIFIED).await?
        {
            let ok = verification.is_ok();
            found.verified = Some(VerifiedView { at: trusted, ok, found: verification });
        }
        Ok(found)
    }

    /// Admits a device that waits, or clears a suspicion.
    pub(crate) async fn device_approve(&self, who: &Who, id: DeviceId) -> Outcome<()> {
        let mut change = Change::begin(self, who).await?;
        let mut streams = change.tx.stream_lock_many([id]).await?;
        let mut row = lock(&mut change, id).await?;
        match row.device.admission {
            Admission::Admitted => return Ok(()),
            Admission::Retired => return Err(gone(&row)),
            Admission::Pending | Admission::Held { .. } => {}
        }
        streams.retain(|stream| stream.fork.as_ref().is_some_and(Fork::is_suspect));
        let forks = streams.iter_mut().filter_map(|stream| stream.fork.as_mut());
        forks.for_each(|fork| fork.settle(change.now));
        change.tx.stream_write_many(&streams).await?;
        row.device.admission = Admission::Admitted;
        let said = format!("device `{}` admitted", row.device.name);
        change.say(Code::DeviceApproved, id, said);
        save(&mut change, row).await?;
        change.commit().await?;
        Ok(())
    }

    /// Ends a device for good: what it owes is lost, its certificate is worth nothing.
    pub(crate) async fn device_retire(&self, who: &Who, id: DeviceId) -> Outcome<()> {
        let mut change = Change::begin(self, who).await?;
        change.tx.stream_lock_many([id]).await?;
        let mut row = lock(&mut change, id).await?;
        if row.device.admission == Admission::Retired {
            return Ok(());
        }
        lose(&mut change, id).await?;
        row.device.admission = Admission::Retired;
        row.retired_at = Some(change.now);
        let said = format!("device `{}` retired", row.device.name);
        change.say(Code::DeviceRetired, id, said);
        save(&mut change, row).await?;
        change.commit().await?;
        Ok(())
    }

    /// Calls a device something else. Names need not be unique; member names stay bound.
    pub(crate) async fn device_rename(&self, who: &Who, id: DeviceId, name: Name) -> Outcome<()> {
        let mut change = Change::begin(self, who).await?;
        let mut row = lock(&mut change, id).await?;
        if row.device.admission == Admission::Retired {
            return Err(gone(&row));
        }
        let said = format!("device `{}` is now called `{name}`", row.device.name);
        change.say(Code::DeviceRenamed, id, said);
        row.device.name = name;
        save(&mut change, row).await?;
        change.commit().await?;
        Ok(())
    }
}

impl App {
    /// Holds every device with a forked stream: what a crash between the two commits left undone.
    pub(crate) async fn hold_all_forked(&self) -> Outcome<()> {
        let mut after = None;
        loop {
            let page = self.db.read().await?.stream_page(after).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some((last.device, last.incarnation));
            let suspect = |stream: &StreamRow| stream.fork.as_ref().is_some_and(Fork::is_suspect);
            for (stream, _) in page.iter().filter(|(stream, _)| suspect(stream)) {
                self.device_hold(stream.device, HISTORIES).await?;
            }
        }
    }
}

/// Why a device is held whose streams say that two histories were seen, and no more.
const HISTORIES: &str = "two histories of its messages were seen: a copied or restored memory";

impl App {
    /// Holds a device for the site's own reason, if it is not held or gone already.
    async fn device_hold(&self, id: DeviceId, why: &str) -> Outcome<()> {
        let mut change = Change::begin_by_site(self).await?;
        let mut row = lock(&mut change, id).await?;
        if matches!(row.device.admission, Admission::Held { .. } | Admission::Retired) {
            return Ok(());
        }
        hold(&mut change, &mut row, by_the_site(why));
        save(&mut change, row).await?;
        change.commit().await?;
        Ok(())
    }
}

/// The site's own order to hold a device.
pub(crate) fn by_the_site(reason: impl Into<String>) -> Order {
    Order { by: SITE.to_owned(), reason: reason.into(), kill: false }
}

/// Puts a device under suspicion: it keeps its memberships and starts nothing.
pub(crate) fn hold(change: &mut Change<'_>, row: &mut DeviceRow, order: Order) {
    let said = format!("device `{}` held: {}", row.device.name, order.reason);
    let severity = muster_model::message::Severity::Warning;
    change.say_severe(Code::DeviceHeld, severity, row.device.id, said);
    row.device.admission = Admission::Held { order };
    row.own_version += 1;
}

pub(crate) async fn lock(change: &mut Change<'_>, id: DeviceId) -> Outcome<DeviceRow> {
    Ok(change.tx.device_lock(id).await?.ok_or_else(unknown)?)
}

/// Writes a device whose admission or name changed, and what follows for its collections.
pub(crate) async fn save(change: &mut Change<'_>, mut row: DeviceRow) -> Outcome<()> {
    row.own_version += 1;
    change.tx.device_update(&row).await?;
    let graph = change.graph_before().await?;
    collection::evaluate_devices(change, &graph, std::slice::from_ref(&row)).await?;
    change.concerns(Subject::Device(row.device.id.0));
    Ok(())
}

/// Decides `lost(retired)` for everything that the device still owes.
async fn lose(change: &mut Change<'_>, id: DeviceId) -> Outcome<()> {
    let rows = change.tx.obligation_list_device(id).await?;
    let mut owed: BTreeMap<Key, Option<ObligationRow>> =
        rows.into_iter().filter(is_answer).map(|row| (row.key.clone(), Some(row))).collect();
    let memberships = change.tx.membership_of_many(&[id]).await?;
    let collections: Vec<_> = memberships.into_iter().map(|(_, one)| one).collect();
    for open in change.tx.occurrence_list_open(&collections).await? {
        let key =
            Key { advertisement: open.advertisement, occurrence: open.occurrence, device: id };
        owed.entry(key).or_insert(None);
    }
    let mut revisions = BTreeMap::new();
    let mut decided = Vec::new();
    for (key, row) in &owed {
        let revision = match revisions.get(&key.advertisement) {
            Some(revision) => *revision,
            None => {
                let found = change.tx.advertisement_load(key.advertisement).await?;
                let revision = found.map_or(1, |row| row.revision);
                revisions.insert(key.advertisement, revision);
                revision
            }
        };
        decided.extend(decide(Decision::Retire, key, row.as_ref(), revision, change.now));
    }
    let rows: Vec<ObligationRow> = decided.iter().map(|one| one.row.clone()).collect();
    change.tx.obligation_write_many(&rows).await?;
    change.tx.counter_add(&merged(&decided)).await?;
    Ok(())
}

/// Devices as lists show them, with what else is stored of each.
async fn views(read: &mut Read, rows: Vec<DeviceRow>) -> Outcome<Vec<DeviceView>> {
    let ids: Vec<DeviceId> = rows.iter().map(|row| row.device.id).collect();
    let contacts = read.contact_load_many(&ids).await?;
    let contacts: BTreeMap<DeviceId, ContactRow> =
        contacts.into_iter().map(|row| (row.device, row)).collect();
    let mut streams: BTreeMap<DeviceId, Vec<StreamRow>> = BTreeMap::new();
    for stream in read.stream_list_many(&ids).await? {
        streams.entry(stream.device).or_default().push(stream);
    }
    let gaps = read.gap_list_many(&ids).await?;
    let mut view_of = |row: DeviceRow| {
        let streams = streams.remove(&row.device.id).unwrap_or_default();
        let contact = contacts.get(&row.device.id);
        view(row, contact, streams, &gaps)
    };
    Ok(rows.into_iter().map(&mut view_of).collect())
}

fn view(
    row: DeviceRow,
    contact: Option<&ContactRow>,
    streams: Vec<StreamRow>,
    gaps: &[GapRow],
) -> DeviceView {
    let waiting = streams.last().map_or(0, |stream| stream.waiting);
    let gaps_of = |stream: &StreamRow| {
        let of = (stream.device, stream.incarnation);
        let gaps = gaps.iter().filter(move |gap| (gap.device, gap.incarnation) == of);
        gaps.map(|row| GapView { from: row.gap.first.0, through: row.gap.last.0, since: row.at })
            .collect()
    };
    let streams = streams.into_iter().map(|stream| StreamView {
        incarnation: stream.incarnation.0,
        through: stream.through.0,
        gaps: gaps_of(&stream),
    });
    let held_because = match &row.device.admission {
        Admission::Held { order } => Some(order.reason.clone()),
        Admission::Pending => Some("waits for `muster device approve`".to_owned()),
        Admission::Admitted | Admission::Retired => None,
    };
    DeviceView {
        id: row.device.id,
        name: row.device.name.to_string(),
        standing: row.device.admission.word().to_owned(),
        held_because,
        facts: row.device.facts,
        enrolled: row.enrolled_at,
        last_contact: contact.map(|contact| contact.at),
        waiting,
        streams: streams.collect(),
        components: Vec::new(),
        verified: None,
    }
}

/// The newest message of that number; `None` too for one that this version cannot read.
async fn newest(read: &mut Read, device: DeviceId, code: u16) -> Outcome<Option<Message>> {
    let row = read.message_newest(device, code).await?;
    Ok(row.and_then(|row| serde_json::from_str(&row.body).ok()))
}

/// No such device.
pub(crate) fn unknown() -> Refusal {
    Refusal::new(Kind::NotFound, "the site does not know the device")
}

fn gone(row: &DeviceRow) -> super::error::AppError {
    let detail = format!("device `{}` was retired; that is for good", row.device.name);
    Refusal::conflict(detail).into()
}
