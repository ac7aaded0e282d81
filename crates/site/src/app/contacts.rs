//! When each device was last heard, and what it knows: noted in memory, written in groups.
//!
//! A device that polls costs the database nothing; every few seconds what was heard since is written
//! at once. Losing the last seconds in a crash makes nobody look silent: the next poll notes it anew.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::DeviceId;
use muster_site_core::occurrence::Revision;

use super::App;
use super::error::Outcome;
use crate::store::ContactRow;

/// Contacts in one transaction.
const FLUSH_MAX: usize = 5_000;
/// A device's `at` is written again only when it is this much older: with nothing new to say, a fleet
/// that polls every minute writes each device once in five.
const AT_STEP_MS: i64 = 60_000;

/// Contacts that are not written yet.
#[derive(Default)]
pub(crate) struct Contacts(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    waiting: HashMap<DeviceId, ContactRow>,
    /// What was written last, so that a poll that says nothing new writes nothing.
    written: HashMap<DeviceId, (Wall, Revision)>,
}

impl Contacts {
    /// A device was heard at `at`. `knows` is the tag that it showed, if it is the newest one, with
    /// the revision that the tag is of.
    pub(crate) fn note(&self, device: DeviceId, at: Wall, knows: Option<(Digest, Revision)>) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (tag, revision) = match knows {
            Some((tag, revision)) => (Some(tag), revision),
            None => (None, Revision(0)),
        };
        if let Some((last, known)) = noted.written.get(&device) {
            let is_news = revision > *known || at.0.saturating_sub(last.0) >= AT_STEP_MS;
            if !is_news && !noted.waiting.contains_key(&device) {
                return;
            }
        }
        let row = noted.waiting.entry(device).or_insert(ContactRow { device, at, revision, tag });
        row.at = row.at.max(at);
        if revision >= row.revision && tag.is_some() {
            (row.revision, row.tag) = (revision, tag);
        }
    }

    fn take(&self) -> Vec<ContactRow> {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let devices: Vec<DeviceId> = noted.waiting.keys().copied().take(FLUSH_MAX).collect();
        devices.iter().filter_map(|device| noted.waiting.remove(device)).collect()
    }

    fn written(&self, rows: &[ContactRow]) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            let known = noted.written.get(&row.device).map_or(Revision(0), |(_, known)| *known);
            noted.written.insert(row.device, (row.at, row.revision.max(known)));
        }
    }

    fn give_back(&self, rows: Vec<ContactRow>) {
        for row in rows {
            self.note(row.device, row.at, row.tag.map(|tag| (tag, row.revision)));
        }
    }
}

impl App {
    /// Writes what was heard since the last time.
    pub(crate) async fn contacts_flush(&self) -> Outcome<()> {
        loop {
            let rows = self.contacts.take();
            if rows.is_empty() {
                return Ok(());
            }
            let written = async {
                let mut tx = self.db.begin().await?;
                tx.contact_note_many(&rows).await?;
                tx.commit().await
            };
            match written.await {
                Ok(()) => self.contacts.written(&rows),
                Err(error) => {
                    self.contacts.give_back(rows);
                    return Err(error.into());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_that_says_nothing_new_writes_nothing() {
        let contacts = Contacts::default();
        let device = DeviceId(uuid::Uuid::from_u128(1));
        let tag = Digest::of(b"tag");
        contacts.note(device, Wall(0), Some((tag, Revision(3))));
        let rows = contacts.take();
        assert_eq!(rows.len(), 1);
        contacts.written(&rows);
        contacts.note(device, Wall(1_000), Some((tag, Revision(3))));
        assert!(contacts.take().is_empty());
        contacts.note(device, Wall(2_000), Some((tag, Revision(4))));
        assert_eq!(contacts.take()[0].revision, Revision(4));
        contacts.note(device, Wall(AT_STEP_MS), None);
        assert_eq!(contacts.take()[0].tag, None);
    }
}
