//! Who is targeted by an advertisement and where each stands: sums, marks, and pages of devices.
//!
//! Every answer is about a list of the advertisement's occurrences, the newest last: each device is
//! counted once, under the newest of them that targets it. What is asked in one [`Read`] is of one
//! snapshot, so that sums, marks and pages agree.

use std::collections::{BTreeMap, BTreeSet};

use muster_model::clock::Wall;
use muster_model::id::{AdvertisementId, DeviceId};
use muster_model::message::Occurrence;
use muster_model::name::Name;
use muster_model::state::Word;
use muster_site_core::accounting::{Counts, MarkCounts, is_pending};
use muster_site_core::obligation::{Key, ObligationRow};
use muster_site_core::removal::is_answer;

use super::arg::{Arg, Kind, ToArg};
use super::db::Read;
use super::error::StoreError;
use super::occurrence::TARGETS;
use super::row::Row;
use super::sql::{many, sql};

/// Devices in one page.
pub const ACCOUNTING_PAGE_MAX: u32 = 1_000;
/// Occurrences that one answer looks at; of more, the newest are looked at.
pub const ACCOUNTING_OCCURRENCES_MAX: usize = 256;

/// Devices by state, and how many are targeted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// Devices that are targeted.
    pub targeted: u64,
    /// Those that have a row, by state.
    pub rows: Counts,
}

/// What decides the marks.
#[derive(Clone, Copy, Debug)]
pub struct MarkLimits {
    /// A device last heard of before this is silent.
    pub silent_before: Wall,
    /// An obligation pending since before this is overdue; `None`: the advertisement expires, so
    /// nothing is.
    pub overdue_before: Option<Wall>,
}

/// One device of an accounting.
#[derive(Clone, Debug, PartialEq)]
pub struct AccountingDevice {
    /// Which device.
    pub device: DeviceId,
    /// Its name.
    pub name: Name,
    /// The newest occurrence that targets it.
    pub occurrence: Occurrence,
    /// Its row; `None`: targeted, and nothing said yet.
    pub row: Option<ObligationRow>,
    /// When it was last heard of, or enrolled.
    pub last_contact: Wall,
    /// When it was first targeted by the occurrence, which it may have been announced to before.
    pub targeted_at: Wall,
}

/// A page of devices.
#[derive(Clone, Debug, PartialEq)]
pub struct AccountingPage {
    /// The devices, by id. A page may be short, or empty, and yet not be the last.
    pub devices: Vec<AccountingDevice>,
    /// What the next page starts after; `None`: this is the last one.
    pub next: Option<DeviceId>,
}

const COLUMNS: [(&str, Kind); 6] = [
    ("advertisement", Kind::Id),
    ("occurrence", Kind::Text),
    ("position", Kind::Int),
    ("pending_from", Kind::Int),
    ("silent_before", Kind::Int),
    ("overdue_before", Kind::Int),
];

/// Of several occurrences, a removal that is no answer yet, or none any more, is not a device's newest one:
/// `is_answer` of the site's decisions, in SQL.
const ANSWERS: &str = "AND (o.occurrence NOT LIKE '(removal)#%' OR NOT (o.state = 'withdrawn'
    OR (o.state = 'waiting' AND o.decided = 'site')))";

/// `target`: each device that an occurrence of `k` targets, by membership or, where there is no
/// span, by its row. `newest`: each device once, with the place of its newest occurrence.
fn newest(several: bool, then: &str) -> String {
    let answers = if several { ANSWERS } else { "" };
    format!(
        ", target(occurrence, position, device, joined) AS (
            SELECT k.occurrence, k.position, m.device, min(m.from_at) FROM k
            JOIN occurrence_span s ON s.advertisement = k.advertisement
            AND s.occurrence = k.occurrence JOIN membership m ON {TARGETS}
            GROUP BY k.occurrence, k.position, m.device
            UNION ALL
            SELECT k.occurrence, k.position, o.device, o.since FROM k
            JOIN obligation o ON o.advertisement = k.advertisement AND o.occurrence = k.occurrence
            WHERE NOT EXISTS (SELECT 1 FROM occurrence_span s
            WHERE s.advertisement = k.advertisement AND s.occurrence = k.occurrence) {answers}
        ), newest(device, position) AS (
            SELECT device, max(position) FROM target GROUP BY device
        ) {then}"
    )
}

impl Read {
    /// Devices by state over `occurrences`. One occurrence is answered by its counters, several by
    /// looking at each device.
    pub async fn accounting_sums(
        &mut self,
        advertisement: AdvertisementId,
        occurrences: &[Occurrence],
    ) -> Result<Sums, StoreError> {
        if let [occurrence] = occurrences {
            let rows = self.counter_load(advertisement, occurrence).await?;
            let by_row = u64::try_from(rows.0.values().sum::<i64>()).unwrap_or(0);
            let targeted = self.occurrence_targeted(advertisement, occurrence).await?;
            return Ok(Sums { targeted: targeted.unwrap_or(by_row), rows });
        }
        let tail = newest(
            true,
            "SELECT coalesce(o.state, '') AS state, count(*) AS count FROM newest n
             JOIN k ON k.position = n.position
             LEFT JOIN obligation o ON o.advertisement = k.advertisement
             AND o.occurrence = k.occurrence AND o.device = n.device
             GROUP BY coalesce(o.state, '')",
        );
        let rows =
            occurrence_args(advertisement, occurrences.iter().map(|one| (one, Wall(0))), None);
        let many = many("accounting_sums", COLUMNS, rows, tail);
        let read = |row: &Row| {
            let state: String = row.get("state")?;
            let word: Option<Word> = if state.is_empty() { None } else { Some(row.get("state")?) };
            Ok((word, row.get::<i64>("count")?))
        };
        let mut sums = Sums { targeted: 0, rows: Counts::default() };
        for (word, count) in self.all_whole(many, read).await? {
            sums.targeted += u64::try_from(count).unwrap_or(0);
            if let Some(word) = word {
                sums.rows.add(word, count);
            }
        }
        Ok(sums)
    }

    /// How many devices carry each mark. Beside each occurrence stands the time from which it can be
    /// pending: its announcement, or when it fell due if that was later.
    pub async fn accounting_marks(
        &mut self,
        advertisement: AdvertisementId,
        occurrences: &[(Occurrence, Wall)],
        limits: MarkLimits,
    ) -> Result<MarkCounts, StoreError> {
        let ended: Vec<String> = Word::ALL
            .into_iter()
            .filter(|word| !is_pending(*word))
            .map(|word| format!("'{word}'"))
            .collect();
        let pending = format!("coalesce(o.state, '') NOT IN ({})", ended.join(", "));
        let count = |condition: &str| {
            format!("CAST(coalesce(sum(CASE WHEN {condition} THEN 1 ELSE 0 END), 0) AS BIGINT)")
        };
        let tail = &format!(
            "SELECT {silent} AS silent, {overdue} AS overdue, {disputed} AS disputed
             FROM newest n JOIN k ON k.position = n.position
             JOIN target t ON t.position = n.position AND t.device = n.device
             JOIN device d ON d.id = n.device
             LEFT JOIN contact c ON c.device = n.device
             LEFT JOIN obligation o ON o.advertisement = k.advertisement
             AND o.occurrence = k.occurrence AND o.device = n.device",
            silent =
                count(&format!("{pending} AND coalesce(c.at, d.enrolled_at) < k.silent_before")),
            overdue = count(&format!(
                "{pending} AND t.joined < k.overdue_before AND k.pending_from < k.overdue_before"
            )),
            disputed = count("o.disputed IS NOT NULL"),
        );
        let tail = newest(occurrences.len() > 1, tail);
        let views = occurrences.iter().map(|(occurrence, from)| (occurrence, *from));
        let rows = occurrence_args(advertisement, views, Some(limits));
        let read = |row: &Row| {
            Ok(MarkCounts {
                silent: row.get("silent")?,
                overdue: row.get("overdue")?,
                disputed: row.get("disputed")?,
            })
        };
        let found = self.all_whole(many("accounting_marks", COLUMNS, rows, tail), read).await?;
        Ok(found.into_iter().next().unwrap_or_default())
    }

    /// A page of the devices that `occurrences` target, by id, after `after`; of one state if one is
    /// given. A filtered page may be short.
    pub async fn accounting_page(
        &mut self,
        advertisement: AdvertisementId,
        occurrences: &[Occurrence],
        word: Option<Word>,
        after: Option<DeviceId>,
        limit: u32,
    ) -> Result<AccountingPage, StoreError> {
        let limit = limit.clamp(1, ACCOUNTING_PAGE_MAX) as usize;
        let from_rows = word.filter(|word| *word != Word::Targeted);
        // Each source answers its first `limit` devices, so the first `limit` of all are complete.
        let mut candidates = BTreeSet::new();
        for occurrence in newest_of(occurrences) {
            let mut found = Vec::new();
            if from_rows.is_none() {
                found = self.targeted_after(advertisement, occurrence, after, limit).await?;
            }
            let rows = self
                .obligation_list(advertisement, occurrence, from_rows, after, limit as u32)
                .await?;
            candidates.extend(found);
            candidates.extend(rows.into_iter().map(|row| row.key.device));
        }
        let page: Vec<DeviceId> = candidates.iter().copied().take(limit).collect();
        let next = if page.len() == limit { page.last().copied() } else { None };
        let mut devices = self.devices_of(advertisement, occurrences, &page).await?;
        let state = |one: &AccountingDevice| one.row.as_ref().map(|row| row.state.word());
        devices.retain(|one| word.is_none_or(|word| state(one).unwrap_or(Word::Targeted) == word));
        Ok(AccountingPage { devices, next })
    }

    /// The first devices that an occurrence targets by membership, by id, after `after`.
    async fn targeted_after(
        &mut self,
        advertisement: AdvertisementId,
        occurrence: &Occurrence,
        after: Option<DeviceId>,
        limit: usize,
    ) -> Result<Vec<DeviceId>, StoreError> {
        let statement = super::sql::sql_of(
            "accounting_page",
            format!(
                "SELECT DISTINCT m.device FROM occurrence_span s JOIN membership m ON {TARGETS}
                 WHERE s.advertisement = $1 AND s.occurrence = $2 AND m.device > $3
                 ORDER BY m.device LIMIT $4"
            ),
        );
        let statement = statement
            .bind(advertisement)
            .bind(occurrence)
            .bind(after.map_or(uuid::Uuid::nil(), |device| device.0))
            .bind(limit as u64);
        self.all(statement, |row| row.get("device")).await
    }

    /// `devices`, each under the newest of `occurrences` that targets it.
    async fn devices_of(
        &mut self,
        advertisement: AdvertisementId,
        occurrences: &[Occurrence],
        devices: &[DeviceId],
    ) -> Result<Vec<AccountingDevice>, StoreError> {
        let mut rows: BTreeMap<Key, ObligationRow> = BTreeMap::new();
        let mut newest: BTreeMap<DeviceId, Key> = BTreeMap::new();
        for occurrence in newest_of(occurrences) {
            let keys: BTreeSet<Key> = devices
                .iter()
                .filter(|device| !newest.contains_key(device))
                .map(|device| Key {
                    advertisement,
                    occurrence: occurrence.clone(),
                    device: *device,
                })
                .collect();
            let mut found = self.obligation_load_many(&keys).await?;
            if occurrences.len() > 1 {
                found.retain(is_answer);
            }
            let mut targeted = self.occurrence_targets_many(&keys).await?;
            targeted.extend(found.iter().map(|row| row.key.clone()));
            rows.extend(found.into_iter().map(|row| (row.key.clone(), row)));
            newest.extend(targeted.into_iter().map(|key| (key.device, key)));
        }
        let keys: Vec<&Key> = newest.values().collect();
        let mut found = Vec::with_capacity(keys.len());
        for (key, name, last_contact, targeted_at) in self.described(&keys).await? {
            let row = rows.remove(&key);
            let targeted_at = targeted_at.or(row.as_ref().map(|row| row.since));
            found.push(AccountingDevice {
                device: key.device,
                name,
                occurrence: key.occurrence,
                row,
                last_contact,
                targeted_at: targeted_at.unwrap_or(last_contact),
            });
        }
        found.sort_by_key(|one| one.device);
        Ok(found)
    }

    /// Name, last contact, and the beginning of the first targeting interval, of each key.
    async fn described(
        &mut self,
        keys: &[&Key],
    ) -> Result<Vec<(Key, Name, Wall, Option<Wall>)>, StoreError> {
        let tail = format!(
            "SELECT k.advertisement, k.occurrence, k.device, d.name,
             coalesce(c.at, d.enrolled_at) AS last_contact,
             (SELECT min(m.from_at) FROM occurrence_span s JOIN membership m ON {TARGETS}
              WHERE s.advertisement = k.advertisement AND s.occurrence = k.occurrence
              AND m.device = k.device) AS targeted_at
             FROM k JOIN device d ON d.id = k.device LEFT JOIN contact c ON c.device = k.device"
        );
        let rows = keys.iter().map(|key| super::occurrence::key_args(key)).collect();
        let columns = super::occurrence::OBLIGATION_COLUMNS;
        let read = |row: &Row| {
            let key = super::occurrence::obligation_key(row)?;
            Ok((key, row.get("name")?, row.get("last_contact")?, row.maybe("targeted_at")?))
        };
        self.all_many(many("accounting_page", columns, rows, tail), read).await
    }

    /// Every occurrence of every advertisement that has a row or a counter, for a check of all sums.
    pub async fn accounting_occurrences(
        &mut self,
    ) -> Result<Vec<(AdvertisementId, Occurrence)>, StoreError> {
        let statement = sql(
            "accounting_occurrences",
            "SELECT advertisement, occurrence FROM occurrence
             UNION SELECT advertisement, occurrence FROM counter
             UNION SELECT advertisement, occurrence FROM counter_delta
             ORDER BY advertisement, occurrence",
        );
        self.all(statement, |row| Ok((row.get("advertisement")?, row.get("occurrence")?))).await
    }
}

/// The newest first, as many as one answer looks at.
fn newest_of(occurrences: &[Occurrence]) -> impl Iterator<Item = &Occurrence> {
    occurrences.iter().rev().take(ACCOUNTING_OCCURRENCES_MAX)
}

fn occurrence_args<'a>(
    advertisement: AdvertisementId,
    occurrences: impl DoubleEndedIterator<Item = (&'a Occurrence, Wall)> + ExactSizeIterator,
    limits: Option<MarkLimits>,
) -> Vec<[Arg<'a>; 6]> {
    let silent = limits.map_or(Wall(i64::MIN), |limits| limits.silent_before);
    let overdue = limits.and_then(|limits| limits.overdue_before).unwrap_or(Wall(i64::MIN));
    // Positions grow with newness; the oldest beyond the limit are left out.
    let skipped = occurrences.len().saturating_sub(ACCOUNTING_OCCURRENCES_MAX);
    let row = |((occurrence, pending_from), position): ((&'a Occurrence, Wall), u64)| {
        [
            advertisement.to_arg(),
            occurrence.to_arg(),
            position.to_arg(),
            pending_from.to_arg(),
            silent.to_arg(),
            overdue.to_arg(),
        ]
    };
    occurrences.skip(skipped).zip(1_u64..).map(row).collect()
}
