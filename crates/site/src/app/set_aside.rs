//! What was set aside: looking at it, taking it after all, dropping it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_model::api::{Page, SetAsideView};
use muster_model::message::Body;
use muster_model::state::Verdict;
use muster_site_core::ingest::{Accepted, read_message};
use muster_site_core::obligation::{Key, Said, apply};

use super::change::{Change, Code};
use super::error::{Outcome, Refusal};
use super::{App, Who};
use crate::store::SetAsideRow;

impl App {
    /// A page of the items that wait.
    pub(crate) async fn set_aside_page(
        &self,
        cursor: Option<&str>,
        limit: u32,
    ) -> Outcome<Page<SetAsideView>> {
        let after = match cursor {
            Some(text) => text.parse().map_err(|_| super::bad_cursor())?,
            None => 0,
        };
        let mut read = self.db.read().await?;
        let rows = read.set_aside_list(after, limit).await?;
        let next = (rows.len() == limit as usize).then(|| rows.last()).flatten();
        let next = next.map(|row| row.number.to_string());
        let items = rows.iter().map(|row| view(row, false)).collect();
        Ok(Page { items, next })
    }

    /// One item with its bytes.
    pub(crate) async fn set_aside_view(&self, id: &str) -> Outcome<SetAsideView> {
        let mut read = self.db.read().await?;
        let number = id.parse().map_err(|_| missing(id))?;
        let row = read.set_aside_load(number).await?.ok_or_else(|| missing(id))?;
        Ok(view(&row, true))
    }

    /// Takes an item after all: an administrator has made room for it, by an upgrade of the site or
    /// by targeting the device.
    pub(crate) async fn set_aside_retry(&self, who: &Who, id: &str) -> Outcome<()> {
        let mut change = Change::begin(self, who).await?;
        let row = waiting(&mut change, id).await?;
        let (Some((device, place)), Some(chain)) = (row.item.place, row.item.chain) else {
            return Err(cannot(&row, "it belongs to no stream"));
        };
        if row.item.reason == "forked" {
            let why =
                "a second history is never taken; `muster device approve` or `retire` settles it";
            return Err(cannot(&row, why));
        }
        change.tx.stream_lock_many([device]).await?;
        let message = read_message(&row.item.bytes, device, place)
            .map_err(|why| cannot(&row, &why.to_string()))?;
        let mut late = false;
        if let Body::Obligation(report) = &message.body {
            let key = Key {
                advertisement: report.advertisement,
                occurrence: report.occurrence.clone(),
                device,
            };
            let stored = change.tx.obligation_load_many([&key]).await?.pop();
            let targeted = change.tx.occurrence_targets_many([&key]).await?;
            if stored.is_none() && targeted.is_empty() {
                return Err(cannot(&row, "the occurrence never targeted the device"));
            }
            let said = Said::by_device(&message, report);
            let applied = apply(&key, stored.as_ref(), &said, change.now);
            late = applied.verdict == Verdict::Late;
            if !late {
                change.tx.obligation_write_many(std::slice::from_ref(&applied.row)).await?;
                change.tx.counter_add(&applied.deltas()).await?;
            }
        }
        let accepted = Accepted {
            sequence: place.sequence,
            chain,
            status: message.body.status(),
            message,
            bytes: row.item.bytes.clone(),
            late,
        };
        let now = change.now;
        change.tx.message_insert_many(now, &[(device, place.incarnation, &accepted)]).await?;
        change.tx.set_aside_resolve(row.number, "taken", now).await?;
        let said = format!("set-aside item {id} ({}) taken", row.item.reason);
        change.say(Code::SetAsideRetried, device, said);
        change.commit().await?;
        Ok(())
    }

    /// Forgets an item's bytes; that it was there stays on record.
    pub(crate) async fn set_aside_drop(&self, who: &Who, id: &str) -> Outcome<()> {
        let mut change = Change::begin(self, who).await?;
        let row = waiting(&mut change, id).await?;
        let now = change.now;
        change.tx.set_aside_resolve(row.number, "dropped", now).await?;
        let about = super::change::About {
            device: row.item.place.map(|(device, _)| device),
            ..Default::default()
        };
        let said = format!("set-aside item {id} ({}) dropped", row.item.reason);
        change.say(Code::SetAsideDropped, about, said);
        change.commit().await?;
        Ok(())
    }
}

/// An item that waits.
async fn waiting(change: &mut Change<'_>, id: &str) -> Outcome<SetAsideRow> {
    let number = id.parse().map_err(|_| missing(id))?;
    let row = change.tx.set_aside_load(number).await?.ok_or_else(|| missing(id))?;
    match &row.resolution {
        None => Ok(row),
        Some(done) => Err(Refusal::conflict(format!("item {id} is {done} already")).into()),
    }
}

fn view(row: &SetAsideRow, whole: bool) -> SetAsideView {
    let times = if row.seen > 1 { format!(" ({} times)", row.seen) } else { String::new() };
    SetAsideView {
        id: row.number.to_string(),
        reason: format!("{}{times}", row.item.detail),
        sender: row.item.sender.clone(),
        at: row.at,
        length: row.item.bytes.len() as u64,
        bytes: whole.then(|| STANDARD.encode(&row.item.bytes)),
    }
}

fn missing(id: &str) -> Refusal {
    Refusal::not_found("set-aside item", id)
}

fn cannot(row: &SetAsideRow, why: &str) -> super::error::AppError {
    Refusal::conflict(format!("item {} still cannot be taken: {why}", row.number)).into()
}
