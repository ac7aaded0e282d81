//! Occurrences, the spans during which they target members, and whom they target.
//!
//! Advertising is a row here and a span for its collection, however many devices are meant: whom an
//! occurrence targets is computed from membership intervals. `targets` in SQL below is
//! `Span::targets` of the site's decisions, and a test holds the two together.

use std::collections::{BTreeMap, BTreeSet};

use muster_model::advertisement::At;
use muster_model::clock::Wall;
use muster_model::id::{AdvertisementId, CollectionId};
use muster_model::message::Occurrence;
use muster_site_core::obligation::Key;
use muster_site_core::occurrence::{OccurrenceRow, Revision, Span};

use super::arg::{Arg, Kind, ToArg};
use super::db::{Read, Tx};
use super::error::StoreError;
use super::row::Row;
use super::sql::{many, sql, sql_of};

/// Interval `m` of a membership makes its device a target through span `s`: both are half open.
pub(super) const TARGETS: &str = "m.collection = s.collection
    AND (s.closed IS NULL OR m.from_revision < s.closed)
    AND (m.until_revision IS NULL OR s.opened < m.until_revision)";

/// Columns of a statement over occurrences.
const KEY_COLUMNS: [(&str, Kind); 2] = [("advertisement", Kind::Id), ("occurrence", Kind::Text)];

impl Read {
    /// The occurrences of an advertisement with their spans, in the order of their announcement.
    pub async fn occurrence_list(
        &mut self,
        advertisement: AdvertisementId,
    ) -> Result<Vec<OccurrenceRow>, StoreError> {
        const OPERATION: &str = "occurrence_list";
        let text = "SELECT * FROM occurrence WHERE advertisement = $1
                    ORDER BY announced, occurrence";
        let mut rows = self.all(sql(OPERATION, text).bind(advertisement), occurrence).await?;
        let text = "SELECT * FROM occurrence_span WHERE advertisement = $1
                    ORDER BY opened, collection";
        let spans = self.all(sql(OPERATION, text).bind(advertisement), keyed_span).await?;
        attach(&mut rows, spans);
        Ok(rows)
    }

    /// The occurrences that are open for any of `collections`, with all of their spans.
    pub async fn occurrence_list_open(
        &mut self,
        collections: &[CollectionId],
    ) -> Result<Vec<OccurrenceRow>, StoreError> {
        const OPERATION: &str = "occurrence_list_open";
        let ids = || collections.iter().map(|id| [id.to_arg()]).collect::<Vec<_>>();
        let open = "SELECT DISTINCT o.* FROM k
                    JOIN occurrence_span s ON s.collection = k.collection AND s.closed IS NULL
                    JOIN occurrence o ON o.advertisement = s.advertisement
                    AND o.occurrence = s.occurrence";
        let columns = [("collection", Kind::Id)];
        let rows = self.all_many(many(OPERATION, columns, ids(), open), occurrence).await?;
        // An occurrence that is open for several of the collections may come in several pieces.
        let mut rows: Vec<OccurrenceRow> = rows
            .into_iter()
            .map(|row| (key_of(&row), row))
            .collect::<BTreeMap<_, _>>()
            .into_values()
            .collect();
        let keys = rows.iter().map(|row| [row.advertisement.to_arg(), (&row.occurrence).to_arg()]);
        let spans = "SELECT s.* FROM k JOIN occurrence_span s ON s.advertisement = k.advertisement
                     AND s.occurrence = k.occurrence";
        let spans = many(OPERATION, KEY_COLUMNS, keys.collect(), spans);
        let mut spans = self.all_many(spans, keyed_span).await?;
        spans.sort_by_key(|(_, span)| (span.opened, span.collection));
        attach(&mut rows, spans);
        Ok(rows)
    }

    /// Those of `keys` whose occurrence targets their device by membership. One statement for a whole
    /// group of batches.
    pub async fn occurrence_targets_many<'k>(
        &mut self,
        keys: impl IntoIterator<Item = &'k Key>,
    ) -> Result<BTreeSet<Key>, StoreError> {
        let rows = keys.into_iter().map(key_args).collect();
        // A scalar subquery is looked up key by key. As a join, PostgreSQL may read every member of the
        // collection for each key: it does so with a plan made before a new site's first ANALYZE.
        let tail = format!(
            "SELECT k.advertisement, k.occurrence, k.device FROM k WHERE
             (SELECT 1 FROM occurrence_span s JOIN membership m ON m.device = k.device AND {TARGETS}
              WHERE s.advertisement = k.advertisement AND s.occurrence = k.occurrence LIMIT 1) = 1"
        );
        let many = many("occurrence_targets_many", OBLIGATION_COLUMNS, rows, tail);
        Ok(self.all_many(many, obligation_key).await?.into_iter().collect())
    }

    /// How many devices the occurrence targets by membership. `None`: it has no span, so it targets
    /// exactly the devices that have a row (`rerun`).
    ///
    /// While its only span is open these are the collection's members, whose number is kept, and
    /// those who left since: nothing is counted that has not changed.
    pub async fn occurrence_targeted(
        &mut self,
        advertisement: AdvertisementId,
        occurrence: &Occurrence,
    ) -> Result<Option<u64>, StoreError> {
        const OPERATION: &str = "occurrence_targeted";
        let text = "SELECT * FROM occurrence_span WHERE advertisement = $1 AND occurrence = $2";
        let statement = sql(OPERATION, text).bind(advertisement).bind(occurrence);
        let spans = self.all(statement, |row| keyed_span(row).map(|(_, span)| span)).await?;
        let statement = match spans.as_slice() {
            [] => return Ok(None),
            [Span { collection, opened, closed: None }] => sql(
                OPERATION,
                "SELECT c.members + (SELECT count(DISTINCT m.device) FROM membership m
                 WHERE m.collection = c.id AND m.until_revision > $2 AND NOT EXISTS
                 (SELECT 1 FROM membership n WHERE n.collection = m.collection
                 AND n.device = m.device AND n.until_revision IS NULL)) AS count
                 FROM collection c WHERE c.id = $1",
            )
            .bind(*collection)
            .bind(*opened),
            _ => sql_of(
                OPERATION,
                format!(
                    "SELECT count(DISTINCT m.device) AS count FROM occurrence_span s
                     JOIN membership m ON {TARGETS}
                     WHERE s.advertisement = $1 AND s.occurrence = $2"
                ),
            )
            .bind(advertisement)
            .bind(occurrence),
        };
        Ok(Some(self.one(statement, |row| row.get("count")).await?.unwrap_or(0)))
    }
}

impl Tx {
    /// Announces an occurrence at `at`, with the spans that it opens. [`StoreError::Taken`]: it was
    /// announced before.
    pub async fn occurrence_insert(
        &mut self,
        row: &OccurrenceRow,
        at: Wall,
    ) -> Result<(), StoreError> {
        let statement = sql(
            "occurrence_insert",
            "INSERT INTO occurrence (advertisement, occurrence, announced, announced_at, due)
             VALUES ($1, $2, $3, $4, $5)",
        );
        let statement = statement
            .bind(row.advertisement)
            .bind(&row.occurrence)
            .bind(row.announced)
            .bind(at)
            .bind(row.due.map(|due| due.to_string()));
        self.run(statement).await?;
        for span in &row.spans {
            self.occurrence_span_open(row.advertisement, &row.occurrence, span).await?;
        }
        Ok(())
    }

    /// Moves the time of an occurrence that is kept through an edit.
    pub async fn occurrence_due_set(
        &mut self,
        advertisement: AdvertisementId,
        occurrence: &Occurrence,
        due: Option<At>,
    ) -> Result<(), StoreError> {
        let statement = sql(
            "occurrence_due_set",
            "UPDATE occurrence SET due = $3 WHERE advertisement = $1 AND occurrence = $2",
        );
        let due = due.map(|due| due.to_string());
        self.run(statement.bind(advertisement).bind(occurrence).bind(due)).await.map(drop)
    }

    /// Opens a span: from its revision on, members of its collection are targeted.
    pub async fn occurrence_span_open(
        &mut self,
        advertisement: AdvertisementId,
        occurrence: &Occurrence,
        span: &Span,
    ) -> Result<(), StoreError> {
        let statement = sql(
            "occurrence_span_open",
            "INSERT INTO occurrence_span (advertisement, occurrence, collection, opened, closed)
             VALUES ($1, $2, $3, $4, $5)",
        );
        let statement = statement
            .bind(advertisement)
            .bind(occurrence)
            .bind(span.collection)
            .bind(span.opened)
            .bind(span.closed);
        self.run(statement).await.map(drop)
    }

    /// Closes the open spans of an occurrence: who joins at `closed` or later is not targeted.
    pub async fn occurrence_span_close(
        &mut self,
        advertisement: AdvertisementId,
        occurrence: &Occurrence,
        closed: Revision,
    ) -> Result<u64, StoreError> {
        let statement = sql(
            "occurrence_span_close",
            "UPDATE occurrence_span SET closed = $3
             WHERE advertisement = $1 AND occurrence = $2 AND closed IS NULL",
        );
        self.run(statement.bind(advertisement).bind(occurrence).bind(closed)).await
    }
}

/// Columns of a statement over obligations.
pub(super) const OBLIGATION_COLUMNS: [(&str, Kind); 3] =
    [("advertisement", Kind::Id), ("occurrence", Kind::Text), ("device", Kind::Id)];

pub(super) fn key_args(key: &Key) -> [Arg<'_>; 3] {
    [key.advertisement.to_arg(), (&key.occurrence).to_arg(), key.device.to_arg()]
}

pub(super) fn obligation_key(row: &Row) -> Result<Key, StoreError> {
    Ok(Key {
        advertisement: row.get("advertisement")?,
        occurrence: row.get("occurrence")?,
        device: row.get("device")?,
    })
}

type OccurrenceKey = (AdvertisementId, Occurrence);

fn key_of(row: &OccurrenceRow) -> OccurrenceKey {
    (row.advertisement, row.occurrence.clone())
}

fn attach(rows: &mut [OccurrenceRow], spans: Vec<(OccurrenceKey, Span)>) {
    let mut by_key: BTreeMap<OccurrenceKey, Vec<Span>> = BTreeMap::new();
    for (key, span) in spans {
        by_key.entry(key).or_default().push(span);
    }
    for row in rows {
        row.spans = by_key.remove(&key_of(row)).unwrap_or_default();
    }
}

fn occurrence(row: &Row) -> Result<OccurrenceRow, StoreError> {
    Ok(OccurrenceRow {
        advertisement: row.get("advertisement")?,
        occurrence: row.get("occurrence")?,
        due: row.maybe("due")?,
        spans: Vec::new(),
        announced: row.get("announced")?,
    })
}

fn keyed_span(row: &Row) -> Result<(OccurrenceKey, Span), StoreError> {
    let span = Span {
        collection: row.get("collection")?,
        opened: row.get("opened")?,
        closed: row.maybe("closed")?,
    };
    Ok(((row.get("advertisement")?, row.get("occurrence")?), span))
}
