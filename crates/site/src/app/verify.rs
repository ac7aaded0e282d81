//! `accounting verify`: every invariant that the site can check by itself, on the live site.
//!
//! Reads one snapshot and repairs nothing. Streams are read page by page, so a check of a large site
//! takes time and no memory.

use std::collections::{BTreeMap, BTreeSet};

use muster_model::api::{Finding, Page};
use muster_model::id::{AdvertisementId, DeviceId, Sequence};
use muster_model::message::{Body, Message, Occurrence};
use muster_site_core::ingest::StreamRow;
use muster_site_core::obligation::{Key, ObligationRow, Place};
use muster_site_core::occurrence::OccurrenceRow;
use muster_site_core::verify::{
    self as invariants, Stored, StoredReport, check_row, check_stream, check_sums,
};

use super::App;
use super::error::{Outcome, Tried};
use crate::store::{ACCOUNTING_PAGE_MAX, MESSAGE_PAGE_MAX, OBLIGATION_PAGE_MAX, Read};

/// Findings of one kind that are named; more of them say nothing new.
const FINDINGS_MAX: usize = 100;

/// What the checks looked at, and what is wrong.
#[derive(Default)]
struct Report {
    occurrences: u64,
    obligations: u64,
    streams: u64,
    messages: u64,
    wrong: Vec<invariants::Finding>,
}

impl App {
    /// Checks the ledger. Each line says what was checked and whether it holds.
    pub(crate) async fn verify(&self) -> Outcome<Page<Finding>> {
        let mut read = self.db.read().await?;
        let mut report = Report::default();
        for (id, occurrence) in read.accounting_occurrences().await? {
            report.sums(&mut read, id, &occurrence).await?;
        }
        let mut after = None;
        loop {
            let page = read.stream_page(after).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some((last.device, last.incarnation));
            for (stream, aged) in page {
                report.stream(&mut read, &stream, aged).await?;
            }
        }
        let mut after = None;
        loop {
            let page = read.device_list(after, ACCOUNTING_PAGE_MAX).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.device.id);
            for row in &page {
                report.rows(&mut read, row.device.id).await?;
            }
        }
        Ok(Page { items: report.findings(), next: None })
    }
}

impl Report {
    async fn sums(
        &mut self,
        read: &mut Read,
        id: AdvertisementId,
        occurrence: &Occurrence,
    ) -> Outcome<()> {
        self.occurrences += 1;
        let announced = read.occurrence_list(id).await?;
        let row = announced.into_iter().find(|row| row.occurrence == *occurrence);
        let row = row.unwrap_or_else(|| OccurrenceRow {
            advertisement: id,
            occurrence: occurrence.clone(),
            due: None,
            spans: Vec::new(),
            announced: Default::default(),
        });
        let counters = read.counter_load(id, occurrence).await?;
        let rows = all_rows(read, id, occurrence).await?;
        let targeted = if row.spans.is_empty() {
            BTreeSet::new()
        } else {
            targeted(read, id, occurrence, &rows).await?
        };
        self.wrong.extend(check_sums(&row, &targeted, &counters, &rows));
        if let Some(counted) = read.occurrence_targeted(id, occurrence).await?
            && counted != targeted.len() as u64
        {
            self.wrong.push(invariants::Finding {
                invariant: invariants::Invariant::Conservation,
                what: format!(
                    "{occurrence} of {id}: {counted} are said to be targeted, {} are",
                    targeted.len()
                ),
            });
        }
        Ok(())
    }

    async fn stream(&mut self, read: &mut Read, stream: &StreamRow, aged: Sequence) -> Outcome<()> {
        self.streams += 1;
        let gaps: Vec<_> = read
            .gap_list(stream.device)
            .await?
            .into_iter()
            .filter(|gap| gap.incarnation == stream.incarnation)
            .map(|gap| gap.gap)
            .collect();
        // What waits and what was dropped stands for its place; what was taken is a message now.
        let kept = read.set_aside_places(stream.device).await?;
        let mut places: BTreeMap<Sequence, (muster_model::digest::Digest, Option<Vec<u8>>)> =
            BTreeMap::new();
        for item in kept {
            let (Some((_, place)), Some(chain)) = (item.item.place, item.item.chain) else {
                continue;
            };
            let is_message = item.item.reason != "forked";
            if place.incarnation == stream.incarnation && is_message {
                let bytes = item.resolution.is_none().then_some(item.item.bytes);
                places.insert(place.sequence, (chain, bytes));
            }
        }
        let mut after = Sequence(0);
        loop {
            let (device, incarnation) = (stream.device, stream.incarnation);
            let page = read.message_replay(device, incarnation, after, MESSAGE_PAGE_MAX).await?;
            let Some(last) = page.last() else { break };
            after = last.place.sequence;
            self.messages += page.len() as u64;
            for row in page {
                places.insert(row.place.sequence, (row.chain, Some(row.body.into_bytes())));
            }
        }
        let stored = places.iter().map(|(sequence, (chain, bytes))| Stored {
            sequence: *sequence,
            chain: *chain,
            bytes: bytes.as_deref(),
        });
        self.wrong.extend(check_stream(stream, stored, &gaps, aged));
        Ok(())
    }

    /// Each row of a device is what its messages say.
    async fn rows(&mut self, read: &mut Read, device: DeviceId) -> Outcome<()> {
        let rows = read.obligation_list_device(device).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let streams = read.stream_list(device).await?;
        let mut said: BTreeMap<Key, Vec<(Place, bool, muster_model::message::Report)>> =
            BTreeMap::new();
        for stream in &streams {
            let mut after = Sequence(0);
            loop {
                let page = read
                    .message_replay(device, stream.incarnation, after, MESSAGE_PAGE_MAX)
                    .await?;
                let Some(last) = page.last() else { break };
                after = last.place.sequence;
                for row in page {
                    let message: Message =
                        serde_json::from_str(&row.body).tried("read a stored message")?;
                    let Body::Obligation(report) = message.body else { continue };
                    let key = Key {
                        advertisement: report.advertisement,
                        occurrence: report.occurrence.clone(),
                        device,
                    };
                    said.entry(key).or_default().push((row.place, row.late, report));
                }
            }
        }
        for row in &rows {
            self.obligations += 1;
            let reports = said.remove(&row.key).unwrap_or_default();
            let reports: Vec<StoredReport<'_>> = reports
                .iter()
                .map(|(place, late, report)| StoredReport { place: *place, late: *late, report })
                .collect();
            self.wrong.extend(check_row(row, &reports));
        }
        Ok(())
    }

    /// One line for each invariant that holds, one for each place where one does not.
    fn findings(self) -> Vec<Finding> {
        use invariants::Invariant;
        let looked = [
            (
                Invariant::Conservation,
                "conservation",
                format!("the states of {} occurrences sum to whom they target", self.occurrences),
            ),
            (Invariant::Existence, "existence", "who has a row is targeted".to_owned()),
            (
                Invariant::Contiguity,
                "contiguity",
                format!("{} streams are whole, or their holes named", self.streams),
            ),
            (
                Invariant::Idempotency,
                "idempotency",
                format!("each of {} messages is there once", self.messages),
            ),
            (Invariant::Monotonicity, "monotonicity", "what a device ended stays ended".to_owned()),
            (Invariant::OneEnd, "one-end", "each run ends once".to_owned()),
            (
                Invariant::NoPhantom,
                "no-phantom",
                format!("{} obligations stand where their messages say", self.obligations),
            ),
        ];
        let mut findings = Vec::new();
        for (invariant, check, holds) in looked {
            let mut wrong = self.wrong.iter().filter(|one| one.invariant == invariant).peekable();
            if wrong.peek().is_none() {
                findings.push(Finding { check: check.to_owned(), ok: true, detail: holds });
            }
            findings.extend(wrong.take(FINDINGS_MAX).map(|one| Finding {
                check: check.to_owned(),
                ok: false,
                detail: one.what.clone(),
            }));
        }
        findings
    }
}

async fn all_rows(
    read: &mut Read,
    id: AdvertisementId,
    occurrence: &Occurrence,
) -> Outcome<Vec<ObligationRow>> {
    let mut rows: Vec<ObligationRow> = Vec::new();
    loop {
        let after = rows.last().map(|row| row.key.device);
        let page = read.obligation_list(id, occurrence, None, after, OBLIGATION_PAGE_MAX).await?;
        if page.is_empty() {
            return Ok(rows);
        }
        rows.extend(page);
    }
}

/// The devices that an occurrence targets by membership: all that the accounting lists, less those
/// that only a row puts there.
async fn targeted(
    read: &mut Read,
    id: AdvertisementId,
    occurrence: &Occurrence,
    rows: &[ObligationRow],
) -> Outcome<BTreeSet<DeviceId>> {
    let mut devices = BTreeSet::new();
    let mut after = None;
    loop {
        let one = std::slice::from_ref(occurrence);
        let page = read.accounting_page(id, one, None, after, ACCOUNTING_PAGE_MAX).await?;
        devices.extend(page.devices.iter().map(|one| one.device));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let keys: Vec<Key> = rows.iter().map(|row| row.key.clone()).collect();
    let by_membership = read.occurrence_targets_many(&keys).await?;
    for key in keys.iter().filter(|key| !by_membership.contains(key)) {
        devices.remove(&key.device);
    }
    Ok(devices)
}
