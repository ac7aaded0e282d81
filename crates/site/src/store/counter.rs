//! How many rows of each occurrence are in each state, kept beside the rows.
//!
//! A transaction that moves rows appends what the counters gain and lose; it updates no counter, so
//! no two transactions wait for one. A task folds the appended rows into the counters now and then;
//! reading adds up both, and one snapshot sees a delta in exactly one of the two places.

use std::collections::BTreeMap;

use muster_model::id::AdvertisementId;
use muster_model::message::Occurrence;
use muster_model::state::Word;
use muster_site_core::accounting::Counts;
use muster_site_core::obligation::CounterDelta;

use super::arg::{Arg, Kind, ToArg};
use super::db::{Read, Tx};
use super::error::StoreError;
use super::row::Row;
use super::sql::{many, sql, sql_of};

const COLUMNS: [(&str, Kind); 4] = [
    ("advertisement", Kind::Id),
    ("occurrence", Kind::Text),
    ("state", Kind::Text),
    ("delta", Kind::Int),
];

impl Read {
    /// The rows of an occurrence by state, as the counters say.
    pub async fn counter_load(
        &mut self,
        advertisement: AdvertisementId,
        occurrence: &Occurrence,
    ) -> Result<Counts, StoreError> {
        let statement = sql(
            "counter_load",
            "SELECT state, CAST(sum(count) AS BIGINT) AS count FROM
             (SELECT state, count FROM counter WHERE advertisement = $1 AND occurrence = $2
              UNION ALL
              SELECT state, delta FROM counter_delta WHERE advertisement = $1 AND occurrence = $2) t
             GROUP BY state",
        );
        let statement = statement.bind(advertisement).bind(occurrence);
        counts(self.all(statement, state_count).await?)
    }

    /// The rows of an occurrence by state, counted one by one: what the counters must say.
    pub async fn counter_recount(
        &mut self,
        advertisement: AdvertisementId,
        occurrence: &Occurrence,
    ) -> Result<Counts, StoreError> {
        let statement = sql(
            "counter_recount",
            "SELECT state, count(*) AS count FROM obligation
             WHERE advertisement = $1 AND occurrence = $2 GROUP BY state",
        );
        let statement = statement.bind(advertisement).bind(occurrence);
        counts(self.all(statement, state_count).await?)
    }

    /// Deltas that are not folded yet.
    pub async fn counter_delta_count(&mut self) -> Result<u64, StoreError> {
        let statement = sql("counter_delta_count", "SELECT count(*) AS count FROM counter_delta");
        Ok(self.one(statement, |row| row.get("count")).await?.unwrap_or(0))
    }
}

impl Tx {
    /// Appends what the counters gain and lose; deltas of one counter are added up first.
    pub async fn counter_add(&mut self, deltas: &[CounterDelta]) -> Result<(), StoreError> {
        let sums = sums(deltas.iter().cloned());
        let tail = "INSERT INTO counter_delta (advertisement, occurrence, state, delta)
                    SELECT advertisement, occurrence, state, delta FROM k";
        let rows = sums.iter().map(counter_args).collect();
        self.run_many(many("counter_add", COLUMNS, rows, tail)).await.map(drop)
    }

    /// Folds the oldest deltas, at most `most`, into the counters; answers how many. Deltas that
    /// another process is folding are left to it.
    pub async fn counter_fold(&mut self, most: u32) -> Result<u64, StoreError> {
        const OPERATION: &str = "counter_fold";
        let skip_locked = self.dialect().for_update_skip_locked();
        let text = format!(
            "DELETE FROM counter_delta WHERE number IN
             (SELECT number FROM counter_delta ORDER BY number LIMIT $1{skip_locked})
             RETURNING advertisement, occurrence, state, delta"
        );
        let deltas = self.all(sql_of(OPERATION, text).bind(most), delta).await?;
        let folded = deltas.len() as u64;
        let sums = sums(deltas);
        let rows = sums.iter().map(counter_args).collect();
        let tail = "INSERT INTO counter (advertisement, occurrence, state, count)
                    SELECT advertisement, occurrence, state, delta FROM k WHERE true
                    ON CONFLICT (advertisement, occurrence, state)
                    DO UPDATE SET count = counter.count + excluded.count";
        self.run_many(many(OPERATION, COLUMNS, rows, tail)).await?;
        Ok(folded)
    }
}

type Counter = (AdvertisementId, Occurrence, Word);

/// The sum of the deltas of each counter, in the order of the counters; none of zero.
fn sums(deltas: impl IntoIterator<Item = CounterDelta>) -> BTreeMap<Counter, i64> {
    let mut sums: BTreeMap<Counter, i64> = BTreeMap::new();
    for delta in deltas {
        *sums.entry((delta.advertisement, delta.occurrence, delta.word)).or_default() +=
            delta.delta;
    }
    sums.retain(|_, sum| *sum != 0);
    sums
}

fn counter_args<'a>(
    ((advertisement, occurrence, word), delta): (&'a Counter, &'a i64),
) -> [Arg<'a>; 4] {
    [advertisement.to_arg(), occurrence.to_arg(), word.as_str().to_arg(), delta.to_arg()]
}

fn delta(row: &Row) -> Result<CounterDelta, StoreError> {
    Ok(CounterDelta {
        advertisement: row.get("advertisement")?,
        occurrence: row.get("occurrence")?,
        word: row.get("state")?,
        delta: row.get("delta")?,
    })
}

fn state_count(row: &Row) -> Result<(Word, i64), StoreError> {
    Ok((row.get("state")?, row.get("count")?))
}

fn counts(rows: Vec<(Word, i64)>) -> Result<Counts, StoreError> {
    let mut counts = Counts::default();
    for (word, count) in rows {
        counts.add(word, count);
    }
    Ok(counts)
}
