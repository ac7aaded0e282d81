//! Recurring assignments: occurrences open as they fall due, and when a device reports one that it
//! opened by itself.
//!
//! Opening moves no policy version: every policy carries the rules, and devices open what they need.
//! Only who joins later is told by a policy that is compiled then. The exception is what a device
//! reports of an advertisement that is revoked by now: the others open nothing of it any more, and
//! have to be told that there is something to refuse. Both ways look at what is stored
//! under the revision lock, so two processes at once open an occurrence once.

use std::collections::BTreeSet;

use muster_model::clock::Wall;
use muster_model::id::AdvertisementId;
use muster_model::message::Occurrence;
use muster_model::object::Spec;
use muster_model::policy::Recurrence;
use muster_site_core::ingest::Reading;
use muster_site_core::obligation::Key;
use muster_site_core::recurrence::{Here, Turning, admit, rules, turn};

use super::App;
use super::advertisement::{offer_changed, write_occurrences};
use super::change::Change;
use super::error::Outcome;
use super::graph::object;
use super::why::intervals;
use crate::store::{AdvertisementRow, Read, Subject};

impl App {
    /// The site's time and zone.
    pub(crate) fn here(&self) -> Here<'_> {
        Here { now: self.now(), zone: &self.zone }
    }

    /// Opens and closes what has fallen due. Answers when something does next; `None`: never by itself.
    pub(crate) async fn turn_occurrences(&self) -> Outcome<Option<Wall>> {
        let mut read = self.db.read().await?;
        let set = self.live.at(&mut read).await?;
        drop(read);
        let mut next: Option<Wall> = None;
        for live in set.recurring() {
            let advertisement = &live.advertisement;
            // Nothing of it starts any more, so nothing falls due.
            if advertisement.revoked.is_some() {
                continue;
            }
            let here = self.here();
            let turning = Turning {
                rules: &advertisement.timing.recurrences,
                expires: advertisement.expires,
                here,
            };
            let open = live.open.values().flatten();
            let open = open.filter_map(|due| Some((&due.occurrence, due.at?)));
            match turning.next(open) {
                Some(due) if due <= here.now => {
                    let later = self.turn_one(advertisement.advertisement).await?;
                    next = next.into_iter().chain(later).min();
                }
                due => next = next.into_iter().chain(due).min(),
            }
        }
        Ok(next)
    }

    /// Answers when the advertisement is to be looked at again.
    async fn turn_one(&self, id: AdvertisementId) -> Outcome<Option<Wall>> {
        let mut change = Change::begin_by_site(self).await?;
        let Some((row, rules)) = load(&mut change.tx, id).await? else { return Ok(None) };
        let old = change.tx.occurrence_list(id).await?;
        let here = Here { now: change.now, zone: &self.zone };
        let turning = Turning { rules: &rules, expires: row.expires, here };
        let turned = turn(&old, &turning, change.revision);
        let rows = turned.as_ref().unwrap_or(&old);
        let open = rows.iter().filter(|row| row.is_open());
        let next = turning.next(open.filter_map(|row| Some((&row.occurrence, row.due?))));
        if turned.is_some() {
            write_occurrences(&mut change, &old, rows).await?;
            change.concerns(Subject::Advertisement(id.0));
            change.commit().await?;
        }
        // The last time of a rule has come and stays the last.
        Ok(next.filter(|next| *next > here.now))
    }

    /// Opens what a batch reports and the site has not opened for its device. What must not be opened
    /// is left, and its message is set aside.
    pub(crate) async fn open_reported(&self, reading: &Reading) -> Outcome<()> {
        // The first occurrence of an assignment opens at `apply`, and what the site opens by itself
        // names its devices.
        let beyond = |key: &Key| {
            let assignment = key.occurrence.assignment.as_str();
            key.occurrence.n > 1 && !Occurrence::RESERVED.contains(&assignment)
        };
        let mut keys: BTreeSet<Key> = reading.touched().into_iter().filter(beyond).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let mut read = self.db.read().await?;
        for row in read.obligation_load_many(&keys).await? {
            keys.remove(&row.key);
        }
        for key in read.occurrence_targets_many(&keys).await? {
            keys.remove(&key);
        }
        drop(read);
        if keys.is_empty() {
            return Ok(());
        }
        let mut change = Change::begin_by_site(self).await?;
        let mut opened = false;
        for key in &keys {
            opened |= self.open_one(&mut change, key).await?;
        }
        if opened {
            change.commit().await?;
        }
        Ok(())
    }

    async fn open_one(&self, change: &mut Change<'_>, key: &Key) -> Outcome<bool> {
        let id = key.advertisement;
        let loaded = load(&mut change.tx, id).await?;
        let revoked = match &loaded {
            Some((row, _)) => is_revoked(&mut change.tx, row).await?,
            None => false,
        };
        let rule = loaded
            .iter()
            .flat_map(|(_, rules)| rules)
            .find(|one| one.assignment == key.occurrence.assignment);
        let rows = change.tx.occurrence_list(id).await?;
        let intervals = intervals(&mut change.tx, key.device, &rows).await?;
        let here = Here { now: change.now, zone: &self.zone };
        let every = rule.map(|rule| &rule.every);
        let admitted = admit(&rows, &key.occurrence, &intervals, every, &here, change.revision);
        let Some(row) = admitted else { return Ok(false) };
        match rows.iter().any(|one| one.occurrence == row.occurrence) {
            false => change.tx.occurrence_insert(&row, change.now).await?,
            true => {
                if let Some(span) = row.spans.last() {
                    change.tx.occurrence_span_open(id, &row.occurrence, span).await?;
                }
            }
        }
        if revoked {
            offer_changed(change, id).await?;
        }
        change.concerns(Subject::Advertisement(id.0));
        Ok(true)
    }
}

/// Whether nothing of the advertised version starts any more.
async fn is_revoked(read: &mut Read, row: &AdvertisementRow) -> Outcome<bool> {
    let version = read.package_version_load(row.package, &row.version).await?;
    Ok(version.is_some_and(|version| version.revoked.is_some()))
}

/// A live advertisement and its rules.
async fn load(
    read: &mut Read,
    id: AdvertisementId,
) -> Outcome<Option<(AdvertisementRow, Vec<Recurrence>)>> {
    let row = read.advertisement_load(id).await?.filter(|row| row.deleted_at.is_none());
    let (Some(row), Some(stored)) = (row, read.object_load(id.0).await?) else { return Ok(None) };
    let Spec::Advertisement(spec) = object(&stored)?.spec else { return Ok(None) };
    Ok(Some((row, rules(spec.named_assignments()))))
}
