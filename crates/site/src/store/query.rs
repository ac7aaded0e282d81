//! Questions of an administrator in SQL, answered from one snapshot and never able to change it.
//!
//! One statement over the tables that [`offered`] lists, let through by [`check`], in a transaction
//! that the engine itself keeps from writing, and that the engine itself ends when its time is over.
//! Called by the site's application floor; what may be asked is the same on both engines.

mod check;
mod offered;

use std::time::{Duration, Instant};

use futures_util::{Stream, TryStreamExt};
use serde_json::Value;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{
    AssertSqlSafe, Column as _, Executor, Row as _, SqlSafeStr, SqlStr, Statement as _,
    TypeInfo as _, ValueRef as _,
};

pub use self::check::QUERY_WORDS_MAX;
use self::check::checked;
use super::db::{Conn, Read, STATEMENT_TIME_MAX};
use super::error::StoreError;

/// Rows in one answer.
pub const QUERY_ROWS_MAX: u32 = 10_000;
/// Bytes in one question.
pub const QUERY_BYTES_MAX: usize = 64 * 1024;
/// Bytes in one answer, all values together: some times what a person can read, and what a site can
/// hold for several askers at once.
pub const QUERY_ANSWER_BYTES_MAX: usize = 16 << 20;
/// Steps of SQLite's machine between two looks at the clock: some tens of microseconds.
const LITE_STEPS: i32 = 10_000;

/// An answer: a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows. A digest or other bytes are hex text, an id is text.
    pub rows: Vec<Vec<Value>>,
    /// More than [`QUERY_ROWS_MAX`] rows or [`QUERY_ANSWER_BYTES_MAX`] bytes would have come.
    pub truncated: bool,
}

/// Why a question is not asked, or has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Too long.
    #[error("failed to run the query: it has more than {QUERY_BYTES_MAX} bytes (QUERY_BYTES_MAX)")]
    TooLong,
    /// Too long, counted otherwise.
    #[error(
        "failed to run the query: it has {0} words and signs, at most {QUERY_WORDS_MAX} (QUERY_WORDS_MAX)"
    )]
    TooManyWords(usize),
    /// Not a question.
    #[error("failed to run the query: it is one statement that starts with select, with or values")]
    NotAQuestion,
    /// No thread to read it on.
    #[error("failed to start a thread that reads the query")]
    NoThread(#[source] std::io::Error),
    /// It took longer than it may.
    #[error("failed to run the query: it ran for more than {0:?}")]
    TooSlow(Duration),
    /// The engine refuses it; its words are for the asker.
    #[error("failed to run the query: {0}")]
    Refused(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Read {
    /// Answers one question within `time`, which is at most [`STATEMENT_TIME_MAX`]. This look is of
    /// no use after an error.
    pub async fn query(&mut self, text: &str, time: Duration) -> Result<Table, QueryError> {
        let text = checked(text, self.dialect())?;
        self.ask(&text, time).await
    }

    /// Answers any one question, also over tables that are not offered: for tests of the schema, and
    /// in no release.
    #[cfg(feature = "testing")]
    pub async fn query_unfenced(
        &mut self,
        text: &str,
        time: Duration,
    ) -> Result<Table, QueryError> {
        self.ask(text, time).await
    }

    async fn ask(&mut self, text: &str, time: Duration) -> Result<Table, QueryError> {
        let time = time.min(STATEMENT_TIME_MAX);
        let table = match &mut self.conn {
            Conn::Lite(tx) => ask_lite(tx, text, time).await,
            Conn::Pg(tx) => ask_pg(tx, text, time).await,
        };
        table.map_err(|error| refused(error, time))
    }
}

/// What the database says about the question, apart from what it says about itself.
fn refused(error: sqlx::Error, time: Duration) -> QueryError {
    match StoreError::of("query", error) {
        StoreError::Statement { source: sqlx::Error::Database(said), .. } => {
            QueryError::Refused(said.message().to_owned())
        }
        StoreError::Busy { .. } => QueryError::TooSlow(time),
        error => QueryError::Store(error),
    }
}

/// The question within one that limits the rows. Line ends keep a comment at its end from swallowing
/// the rest.
fn limited(head: &str, text: &str) -> SqlStr {
    AssertSqlSafe(format!("{head} FROM (\n{text}\n) q LIMIT {}", QUERY_ROWS_MAX + 1)).into_sql_str()
}

async fn ask_lite(
    connection: &mut SqliteConnection,
    text: &str,
    time: Duration,
) -> sqlx::Result<Table> {
    let until = Instant::now() + time;
    // Taken off again when the connection goes back to its pool.
    let in_time = move || Instant::now() < until;
    connection.lock_handle().await?.set_progress_handler(LITE_STEPS, in_time);
    let prepared = (&mut *connection).prepare(AssertSqlSafe(text).into_sql_str()).await?;
    let columns = prepared.columns().iter().map(|column| column.name().to_owned()).collect();
    let rows = sqlx::query(limited("SELECT *", text)).fetch(connection);
    filled(columns, rows, lite_values).await
}

/// A table of as many rows as fit.
async fn filled<R>(
    columns: Vec<String>,
    mut rows: impl Stream<Item = sqlx::Result<R>> + Unpin,
    values: impl Fn(&R) -> sqlx::Result<Vec<Value>>,
) -> sqlx::Result<Table> {
    let mut table = Table { columns, ..Table::default() };
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        let values = values(&row)?;
        bytes += values.iter().map(size).sum::<usize>();
        table.truncated =
            bytes > QUERY_ANSWER_BYTES_MAX || table.rows.len() == QUERY_ROWS_MAX as usize;
        if table.truncated {
            break;
        }
        table.rows.push(values);
    }
    Ok(table)
}

/// About what a value takes.
fn size(value: &Value) -> usize {
    value.as_str().map_or(0, str::len) + size_of::<Value>()
}

fn lite_values(row: &SqliteRow) -> sqlx::Result<Vec<Value>> {
    (0..row.len())
        .map(|index| {
            let raw = row.try_get_raw(index)?;
            let kind =
                if raw.is_null() { "NULL".into() } else { raw.type_info().name().to_owned() };
            Ok(match kind.as_str() {
                "NULL" => Value::Null,
                "INTEGER" => row.try_get::<i64, _>(index)?.into(),
                "REAL" => row.try_get::<f64, _>(index)?.into(),
                "BLOB" => hex(&row.try_get::<Vec<u8>, _>(index)?).into(),
                _ => row.try_get::<String, _>(index)?.into(),
            })
        })
        .collect()
}

/// PostgreSQL itself writes each row as JSON, so every type has its text. Preparing the question
/// alone, first, refuses what is more or less than one statement.
async fn ask_pg(connection: &mut PgConnection, text: &str, time: Duration) -> sqlx::Result<Table> {
    let limit = sqlx::query("SELECT set_config('statement_timeout', $1, true)");
    limit.bind(time.as_millis().to_string()).execute(&mut *connection).await?;
    let prepared = (&mut *connection).prepare(AssertSqlSafe(text).into_sql_str()).await?;
    let described = prepared.columns().iter();
    let (columns, kinds): (Vec<String>, Vec<String>) = described
        .map(|column| (column.name().to_owned(), column.type_info().name().to_owned()))
        .unzip();
    let names: Vec<String> = (0..columns.len()).map(|n| format!("c{n}")).collect();
    // JSON is text, as in SQLite.
    let values: Vec<String> = names
        .iter()
        .zip(&kinds)
        .map(|(name, kind)| match kind.as_str() {
            "JSON" => format!("{name}::text"),
            _ => name.clone(),
        })
        .collect();
    let list = format!("SELECT json_build_array({})::text AS row", values.join(", "));
    let text = format!("SELECT * FROM (\n{text}\n) q ({})", names.join(", "));
    let rows = sqlx::query(limited(&list, &text)).fetch(connection);
    filled(columns, rows, pg_values).await
}

fn pg_values(row: &PgRow) -> sqlx::Result<Vec<Value>> {
    let text: String = row.try_get("row")?;
    serde_json::from_str(&text).map_err(|why| sqlx::Error::Decode(why.into()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
