//! Questions of an administrator in SQL, answered from one snapshot and never able to change it.
//!
//! One statement, in a transaction that the engine itself keeps from writing, and that the engine
//! itself ends when its time is over. What a database role of PostgreSQL may read outside the site's tables is for its administrator to
//! limit: the site's role need not, and should not, be a superuser.

use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{
    AssertSqlSafe, Column as _, Executor, Row as _, SqlSafeStr, SqlStr, Statement as _,
    TypeInfo as _, ValueRef as _,
};

use super::db::{Conn, Read, STATEMENT_TIME_MAX};
use super::error::StoreError;

/// Rows in one answer.
pub const QUERY_ROWS_MAX: u32 = 10_000;
/// Bytes in one question.
pub const QUERY_BYTES_MAX: usize = 64 * 1024;
/// Steps of SQLite's machine between two looks at the clock: some tens of microseconds.
const LITE_STEPS: i32 = 10_000;

/// An answer: a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows. A digest or other bytes are hex text, an id is text.
    pub rows: Vec<Vec<Value>>,
    /// More than [`QUERY_ROWS_MAX`] rows would have come.
    pub truncated: bool,
}

/// Why a question is not asked, or has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Too long.
    #[error("failed to run the query: it has more than {QUERY_BYTES_MAX} bytes (QUERY_BYTES_MAX)")]
    TooLong,
    /// Not a question.
    #[error("failed to run the query: it is one statement that starts with select, with or values")]
    NotAQuestion,
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
        let text = question(text)?;
        let time = time.min(STATEMENT_TIME_MAX);
        let table = match &mut self.conn {
            Conn::Lite(tx) => ask_lite(tx, text, time).await,
            Conn::Pg(tx) => ask_pg(tx, text, time).await,
        };
        let mut table = table.map_err(|error| refused(error, time))?;
        table.truncated = table.rows.len() > QUERY_ROWS_MAX as usize;
        table.rows.truncate(QUERY_ROWS_MAX as usize);
        Ok(table)
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

/// The text without a last semicolon, if it is one question as far as can be seen without parsing.
fn question(text: &str) -> Result<&str, QueryError> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(QueryError::TooLong);
    }
    let text = text.trim().trim_end_matches(';').trim_end();
    let first = text.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    let asks = ["select", "with", "values"].iter().any(|word| first.eq_ignore_ascii_case(word));
    if !asks || has_semicolon(text) {
        return Err(QueryError::NotAQuestion);
    }
    Ok(text)
}

/// Whether a semicolon stands outside of quotes.
fn has_semicolon(text: &str) -> bool {
    let mut quote = None;
    text.chars().any(|c| {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None => return c == ';',
        }
        false
    })
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
    let rows = sqlx::query(limited("SELECT *", text)).fetch_all(connection).await?;
    let rows = rows.iter().map(lite_values).collect::<sqlx::Result<_>>()?;
    Ok(Table { columns, rows, truncated: false })
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
    let (columns, is_bytes): (Vec<String>, Vec<bool>) = described
        .map(|column| (column.name().to_owned(), column.type_info().name() == "BYTEA"))
        .unzip();
    let names: Vec<String> = (0..columns.len()).map(|n| format!("c{n}")).collect();
    let list = format!("SELECT json_build_array({})::text AS row", names.join(", "));
    let text = format!("SELECT * FROM (\n{text}\n) q ({})", names.join(", "));
    let rows = sqlx::query(limited(&list, &text)).fetch_all(connection).await?;
    let rows = rows
        .iter()
        .map(|row| {
            let text: String = row.try_get("row")?;
            let mut values: Vec<Value> =
                serde_json::from_str(&text).map_err(|why| sqlx::Error::Decode(why.into()))?;
            for (value, _) in values.iter_mut().zip(&is_bytes).filter(|(_, bytes)| **bytes) {
                // `\x` and hex digits.
                if let Value::String(text) = value {
                    *text = text.trim_start_matches("\\x").to_owned();
                }
            }
            Ok(values)
        })
        .collect::<sqlx::Result<_>>()?;
    Ok(Table { columns, rows, truncated: false })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, is_question: bool) {
        assert_eq!(question(text).is_ok(), is_question, "{text}");
    }

    #[test]
    fn one_question_and_nothing_else_is_asked() {
        check("select 1", true);
        check("  SELECT ';' ; ", true);
        check("with a as (select 1) select * from a", true);
        check("values (1)", true);
        check("delete from device", false);
        check("select 1; delete from device", false);
        check("selection", false);
        check("", false);
        check(&format!("select '{}'", "x".repeat(QUERY_BYTES_MAX)), false);
    }
}
