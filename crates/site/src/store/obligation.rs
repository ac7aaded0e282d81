//! The ledger: one row for each obligation about which something was said.
//!
//! Rows and counters change in one transaction; who changes them holds the locks of the streams of
//! their devices ([`Tx::stream_lock_many`]), so that what was judged is what is replaced.

use muster_model::id::{AdvertisementId, DeviceId};
use muster_model::message::Occurrence;
use muster_model::state::{Author, Word};
use muster_site_core::obligation::{Key, ObligationRow, Place};

use super::arg::{Arg, Kind, ToArg, json};
use super::db::{Read, Tx};
use super::error::StoreError;
use super::occurrence::{OBLIGATION_COLUMNS, key_args, obligation_key};
use super::row::Row;
use super::sql::{many, sql, sql_of};

/// Obligations in one page of a list.
pub const OBLIGATION_PAGE_MAX: u32 = 10_000;

impl Read {
    /// The rows of those of `keys` that have one.
    pub async fn obligation_load_many<'k>(
        &mut self,
        keys: impl IntoIterator<Item = &'k Key>,
    ) -> Result<Vec<ObligationRow>, StoreError> {
        let rows = keys.into_iter().map(key_args).collect();
        let tail = "SELECT o.* FROM k JOIN obligation o ON o.advertisement = k.advertisement
                    AND o.occurrence = k.occurrence AND o.device = k.device";
        let many = many("obligation_load_many", OBLIGATION_COLUMNS, rows, tail);
        self.all_many(many, obligation).await
    }

    /// Every row of a device.
    pub async fn obligation_list_device(
        &mut self,
        device: DeviceId,
    ) -> Result<Vec<ObligationRow>, StoreError> {
        let statement = sql(
            "obligation_list_device",
            "SELECT * FROM obligation WHERE device = $1 ORDER BY advertisement, occurrence",
        );
        self.all(statement.bind(device), obligation).await
    }

    /// A page of an occurrence's rows by device, after `after`, of one state if one is given.
    pub async fn obligation_list(
        &mut self,
        advertisement: AdvertisementId,
        occurrence: &Occurrence,
        word: Option<Word>,
        after: Option<DeviceId>,
        limit: u32,
    ) -> Result<Vec<ObligationRow>, StoreError> {
        let of_state = if word.is_some() { "AND state = $5" } else { "" };
        let text = format!(
            "SELECT * FROM obligation WHERE advertisement = $1 AND occurrence = $2 AND device > $3
             {of_state} ORDER BY device LIMIT $4"
        );
        let statement = sql_of("obligation_list", text)
            .bind(advertisement)
            .bind(occurrence)
            .bind(after.map_or(uuid::Uuid::nil(), |device| device.0))
            .bind(limit.min(OBLIGATION_PAGE_MAX));
        let statement = match word {
            Some(word) => statement.bind(word.as_str()),
            None => statement,
        };
        self.all(statement, obligation).await
    }
}

impl Tx {
    /// Writes rows as they are from now on.
    pub async fn obligation_write_many(
        &mut self,
        rows: &[ObligationRow],
    ) -> Result<(), StoreError> {
        const OPERATION: &str = "obligation_write_many";
        let rows = rows.iter().map(|row| args(OPERATION, row)).collect::<Result<Vec<_>, _>>()?;
        let columns = [
            ("advertisement", Kind::Id),
            ("occurrence", Kind::Text),
            ("device", Kind::Id),
            ("state", Kind::Text),
            ("detail", Kind::Text),
            ("decided", Kind::Text),
            ("revision", Kind::Int),
            ("since", Kind::Int),
            ("updated", Kind::Int),
            ("attempt", Kind::Int),
            ("run", Kind::Bytes),
            ("exit_code", Kind::Int),
            ("disputed", Kind::Text),
            ("incarnation", Kind::Int),
            ("sequence", Kind::Int),
        ];
        let tail = "INSERT INTO obligation (advertisement, occurrence, device, state, detail,
            decided, revision, since, updated, attempt, run, exit_code, disputed, incarnation,
            sequence)
            SELECT advertisement, occurrence, device, state, detail, decided, revision, since,
            updated, attempt, run, exit_code, disputed, incarnation, sequence FROM k WHERE true
            ON CONFLICT (advertisement, occurrence, device) DO UPDATE SET
            state = excluded.state, detail = excluded.detail, decided = excluded.decided,
            revision = excluded.revision, since = excluded.since, updated = excluded.updated,
            attempt = excluded.attempt, run = excluded.run, exit_code = excluded.exit_code,
            disputed = excluded.disputed, incarnation = excluded.incarnation,
            sequence = excluded.sequence";
        self.run_many(many(OPERATION, columns, rows, tail)).await.map(drop)
    }
}

fn args<'a>(operation: &'static str, row: &'a ObligationRow) -> Result<[Arg<'a>; 15], StoreError> {
    let [advertisement, occurrence, device] = key_args(&row.key);
    Ok([
        advertisement,
        occurrence,
        device,
        row.state.word().as_str().to_arg(),
        json(operation, &row.state)?.to_arg(),
        author_word(row.decided).to_arg(),
        row.revision.to_arg(),
        row.since.to_arg(),
        row.updated.to_arg(),
        row.attempt.to_arg(),
        row.run.as_ref().map(|run| &run.0).to_arg(),
        row.exit_code.to_arg(),
        row.disputed.as_deref().to_arg(),
        row.place.map(|place| place.incarnation).to_arg(),
        row.place.map(|place| place.sequence).to_arg(),
    ])
}

fn author_word(author: Author) -> &'static str {
    match author {
        Author::Device => "device",
        Author::Site => "site",
    }
}

pub(super) fn obligation(row: &Row) -> Result<ObligationRow, StoreError> {
    let decided: String = row.get("decided")?;
    let decided = match decided.as_str() {
        "device" => Author::Device,
        "site" => Author::Site,
        other => return Err(row.damaged("decided", format!("{other:?}"))),
    };
    let incarnation = row.maybe("incarnation")?;
    let sequence = row.maybe("sequence")?;
    Ok(ObligationRow {
        key: obligation_key(row)?,
        revision: row.get("revision")?,
        state: row.json("detail")?,
        decided,
        since: row.get("since")?,
        updated: row.get("updated")?,
        attempt: row.get("attempt")?,
        run: row.maybe("run")?,
        exit_code: row.maybe("exit_code")?,
        disputed: row.maybe("disputed")?,
        place: incarnation
            .zip(sequence)
            .map(|(incarnation, sequence)| Place { incarnation, sequence }),
    })
}
