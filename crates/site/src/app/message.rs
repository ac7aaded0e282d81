//! Status messages of devices and of the site itself, in one list; and the audit alone.
//!
//! Two stores are merged by the time at which the site took or wrote a message. A cursor is a place
//! in both of them, so whoever follows misses nothing and sees nothing twice.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_model::api::{MessageView, Page};
use muster_model::clock::Wall;
use muster_model::id::{AdvertisementId, DeviceId, Incarnation, Sequence};
use muster_model::message::Message;
use muster_site_core::obligation::Place;
use muster_site_core::occurrence::Revision;
use serde_json::Value;

use super::App;
use super::error::{Outcome, Tried};
use crate::store::{
    MessageCursor, MessageFilter, MessageOrder, MessageRow, Read, SITE_MESSAGE_PAGE_MAX,
    SiteMessageRow,
};

/// How long a message in PostgreSQL is withheld from who follows: several transactions commit at
/// once there, and one that took its time first may become visible last.
const VISIBLE_AFTER: Duration = Duration::from_secs(2);

/// The place of a message of the site: its revision, and which of it.
type SitePlace = (Revision, u64);

/// A place in the merged list; `None` in one of them is before its first message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    device: Option<MessageCursor>,
    site: Option<SitePlace>,
}

/// A message of either kind.
enum Entry {
    Device(MessageRow),
    Site(SiteMessageRow),
}

impl Entry {
    fn at(&self) -> Wall {
        match self {
            Entry::Device(row) => row.received,
            Entry::Site(row) => row.message.at,
        }
    }

    fn advance(&self, position: &mut Position) {
        match self {
            Entry::Device(row) => position.device = Some(row.cursor()),
            Entry::Site(row) => position.site = Some((row.revision, row.item)),
        }
    }
}

impl App {
    /// A page of messages, ascending. Without `after` the newest ones; with it those that came since.
    pub(crate) async fn message_page(
        &self,
        filter: &MessageFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Outcome<Page<MessageView>> {
        let after = after.map(read_position).transpose()?;
        let mut read = self.db.read().await?;
        let (position, entries) = match after {
            Some(after) => (after, self.since(&mut read, filter, after, limit).await?),
            None => newest(&mut read, filter, limit).await?,
        };
        let is_full = after.is_some() && entries.len() == limit as usize;
        let items = views(&mut read, position, entries).await?;
        let next = items.last().filter(|_| is_full).map(|last| last.cursor.clone());
        Ok(Page { items, next })
    }

    /// What came after a place, the oldest first.
    async fn since(
        &self,
        read: &mut Read,
        filter: &MessageFilter,
        after: Position,
        limit: u32,
    ) -> Outcome<Vec<Entry>> {
        let order = MessageOrder::OldestFirst;
        let rows = read.message_list(filter, order, after.device, limit).await?;
        let (revision, item) = after.site.unwrap_or_default();
        let mut entries: Vec<Entry> = rows.into_iter().map(Entry::Device).collect();
        // A page may have ended within a revision, so its messages are read again.
        let mut from = Revision(revision.0.saturating_sub(1));
        let mut left = limit as usize;
        while left > 0 {
            let said = read.site_message_after(from, SITE_MESSAGE_PAGE_MAX).await?;
            let Some(last) = said.last() else { break };
            from = last.revision;
            let said = said.into_iter().filter(|row| (row.revision, row.item) > (revision, item));
            let said: Vec<Entry> =
                said.filter(|row| fits(filter, row)).map(Entry::Site).take(left).collect();
            left -= said.len();
            entries.extend(said);
        }
        if self.database != "sqlite" {
            let visible = self.now();
            entries.retain(|entry| entry.at().plus(VISIBLE_AFTER) <= visible);
        }
        entries.sort_by_key(Entry::at);
        entries.truncate(limit as usize);
        Ok(entries)
    }

    /// A page of audit messages, the newest first.
    pub(crate) async fn audit_page(
        &self,
        cursor: Option<&str>,
        limit: u32,
    ) -> Outcome<Page<MessageView>> {
        let before = match cursor {
            Some(text) => Some(read_place(text).ok_or_else(super::bad_cursor)?),
            None => None,
        };
        let mut read = self.db.read().await?;
        let rows = read.site_message_list(None, None, before, limit).await?;
        let next = (rows.len() == limit as usize).then(|| rows.last()).flatten();
        let next = next.map(|row| format!("{}.{}", row.revision, row.item));
        let mut names = Names::default();
        let mut items = Vec::with_capacity(rows.len());
        for row in rows {
            let cursor = format!("{}.{}", row.revision, row.item);
            let by = row.message.principal.clone();
            items.push(site_view(&mut read, &mut names, row, cursor, by).await?);
        }
        Ok(Page { items, next })
    }
}

/// The newest messages, ascending, and the place right before them.
async fn newest(
    read: &mut Read,
    filter: &MessageFilter,
    limit: u32,
) -> Outcome<(Position, Vec<Entry>)> {
    // One more of each than can be shown, so that the place before the first one is known.
    let rows = read.message_list(filter, MessageOrder::NewestFirst, None, limit + 1).await?;
    let (device, advertisement) = (filter.device, filter.advertisement);
    let said = read.site_message_list(device, advertisement, None, SITE_MESSAGE_PAGE_MAX).await?;
    let said = said.into_iter().filter(|row| fits(filter, row));
    let mut entries: Vec<Entry> =
        rows.into_iter().map(Entry::Device).chain(said.map(Entry::Site)).collect();
    entries.sort_by_key(Entry::at);
    let mut position = Position::default();
    let surplus = entries.len().saturating_sub(limit as usize);
    entries.drain(..surplus).for_each(|entry| entry.advance(&mut position));
    Ok((position, entries))
}

fn fits(filter: &MessageFilter, row: &SiteMessageRow) -> bool {
    let said = &row.message;
    filter.device.is_none_or(|device| said.device == Some(device))
        && filter.advertisement.is_none_or(|one| said.advertisement == Some(one))
        && filter.severity.is_none_or(|least| said.severity >= least)
}

/// Names that were looked up for one page.
#[derive(Default)]
struct Names {
    devices: BTreeMap<DeviceId, String>,
    advertisements: BTreeMap<AdvertisementId, Option<String>>,
}

impl Names {
    async fn advertisement(
        &mut self,
        read: &mut Read,
        id: Option<AdvertisementId>,
    ) -> Outcome<Option<String>> {
        let Some(id) = id else { return Ok(None) };
        if let Some(name) = self.advertisements.get(&id) {
            return Ok(name.clone());
        }
        let name = read.object_load(id.0).await?.map(|row| row.name.to_string());
        self.advertisements.insert(id, name.clone());
        Ok(name)
    }

    async fn load_devices(&mut self, read: &mut Read, entries: &[Entry]) -> Outcome<()> {
        let mut ids: Vec<DeviceId> = entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Device(row) => Some(row.device),
                Entry::Site(_) => None,
            })
            .collect();
        ids.sort();
        ids.dedup();
        for row in read.device_load_many(&ids).await? {
            self.devices.insert(row.device.id, row.device.name.to_string());
        }
        Ok(())
    }

    fn device(&self, id: DeviceId) -> String {
        self.devices.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

/// The entries for people, each with the place right behind it.
async fn views(
    read: &mut Read,
    mut position: Position,
    entries: Vec<Entry>,
) -> Outcome<Vec<MessageView>> {
    let mut names = Names::default();
    names.load_devices(read, &entries).await?;
    let mut views = Vec::with_capacity(entries.len());
    for entry in entries {
        entry.advance(&mut position);
        let cursor = write_position(&position);
        views.push(match entry {
            Entry::Device(row) => device_view(read, &mut names, row, cursor).await?,
            Entry::Site(row) => site_view(read, &mut names, row, cursor, "site".to_owned()).await?,
        });
    }
    Ok(views)
}

async fn device_view(
    read: &mut Read,
    names: &mut Names,
    row: MessageRow,
    cursor: String,
) -> Outcome<MessageView> {
    let advertisement = names.advertisement(read, row.advertisement).await?;
    let body: Value = serde_json::from_str(&row.body).tried("read a stored message")?;
    let message = serde_json::from_str::<Message>(&row.body).tried("read a stored message")?;
    Ok(MessageView {
        cursor,
        device: Some(row.device),
        name: names.device(row.device),
        incarnation: Some(row.place.incarnation.0),
        sequence: Some(row.place.sequence.0),
        code: row.code,
        severity: row.severity,
        component: row.component,
        advertisement,
        wall: row.wall,
        trusted: row.trusted,
        received: row.received,
        text: message.body.status().text,
        body,
    })
}

async fn site_view(
    read: &mut Read,
    names: &mut Names,
    row: SiteMessageRow,
    cursor: String,
    name: String,
) -> Outcome<MessageView> {
    let said = row.message;
    let advertisement = names.advertisement(read, said.advertisement).await?;
    let text = match name == said.principal || said.principal == "site" {
        true => said.text,
        false => format!("{} (by {})", said.text, said.principal),
    };
    Ok(MessageView {
        cursor,
        device: None,
        name,
        incarnation: None,
        sequence: None,
        code: said.code,
        severity: said.severity,
        component: said.component,
        advertisement,
        wall: said.at,
        trusted: said.at,
        received: said.at,
        text,
        body: Value::Null,
    })
}

/// The cursor before the first message.
pub(crate) const START: &str = "start";

/// `RECEIVED.DEVICE.INCARNATION.SEQUENCE_REVISION.ITEM`; a `-` for a place before the first.
fn write_position(position: &Position) -> String {
    let device = position.device.map(|MessageCursor { received, device, place }| {
        format!("{}.{device}.{}.{}", received.0, place.incarnation, place.sequence)
    });
    let site = position.site.map(|(revision, item)| format!("{revision}.{item}"));
    let before = || "-".to_owned();
    format!("{}_{}", device.unwrap_or_else(before), site.unwrap_or_else(before))
}

fn read_position(text: &str) -> Outcome<Position> {
    if text == START {
        return Ok(Position::default());
    }
    let read = || {
        let (device, site) = text.split_once('_')?;
        let device = match device {
            "-" => None,
            text => Some(read_device_place(text)?),
        };
        let site = match site {
            "-" => None,
            text => Some(read_place(text)?),
        };
        Some(Position { device, site })
    };
    Ok(read().ok_or_else(super::bad_cursor)?)
}

fn read_device_place(text: &str) -> Option<MessageCursor> {
    let mut parts = text.split('.');
    let received = Wall(parts.next()?.parse().ok()?);
    let device = parts.next()?.parse().ok()?;
    let incarnation = Incarnation(parts.next()?.parse().ok()?);
    let sequence = Sequence(parts.next()?.parse().ok()?);
    let place = Place { incarnation, sequence };
    parts.next().is_none().then_some(MessageCursor { received, device, place })
}

fn read_place(text: &str) -> Option<SitePlace> {
    let (revision, item) = text.split_once('.')?;
    Some((Revision(revision.parse().ok()?), item.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_as_written() {
        let device = MessageCursor {
            received: Wall(17),
            device: DeviceId(uuid::Uuid::from_u128(3)),
            place: Place { incarnation: Incarnation(2), sequence: Sequence(9) },
        };
        let site = (Revision(4), 1);
        for position in [
            Position::default(),
            Position { device: Some(device), site: None },
            Position { device: Some(device), site: Some(site) },
        ] {
            assert_eq!(read_position(&write_position(&position)).unwrap(), position);
        }
        assert_eq!(read_position(START).unwrap(), Position::default());
        for bad in ["", "_", "-", "1.2_-", "-_1", "1.x.2.3_-"] {
            assert!(read_position(bad).is_err(), "{bad}");
        }
    }
}
