//! SQLite by itself: the most that its writer reaches with the rows that a site wrote.

use std::path::Path;
use std::time::Instant;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use crate::device::Devices;
use crate::error::BenchError;

/// Rows in one commit.
const ROWS_A_COMMIT: usize = 10_000;

/// Inserts the messages of `devices` in `from` into a table of the same definition, with the same
/// indices, in `into`; as durable as the site's. Answers rows a second.
pub(crate) fn inserts(from: &Path, into: &Path, devices: Devices) -> Result<f64, BenchError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BenchError::Sqlite { path, source }
    };
    let site = open(from).map_err(failed(from))?;
    let rows = messages(&site, devices).map_err(failed(from))?;
    if rows.is_empty() {
        return Err(BenchError::Empty("the site holds no message of these devices"));
    }
    let definitions = definitions(&site).map_err(failed(from))?;
    let mut beside = Connection::open(into).map_err(failed(into))?;
    prepare(&beside, &definitions).map_err(failed(into))?;
    let began = Instant::now();
    for piece in rows.chunks(ROWS_A_COMMIT) {
        insert(&mut beside, piece).map_err(failed(into))?;
    }
    Ok(rows.len() as f64 / began.elapsed().as_secs_f64())
}

/// Every table with the number of its rows, by name.
pub(crate) fn rows(file: &Path) -> Result<Vec<(String, u64)>, BenchError> {
    let failed = |source| BenchError::Sqlite { path: file.to_owned(), source };
    let db = open(file).map_err(failed)?;
    count(&db).map_err(failed)
}

/// Opened to read, beside the site that may write.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
}

fn messages(db: &Connection, devices: Devices) -> rusqlite::Result<Vec<Vec<Value>>> {
    let mut select = db.prepare("SELECT * FROM message WHERE device BETWEEN ?1 AND ?2")?;
    let width = select.column_count();
    let ends = [devices.first().id().to_string(), devices.last().id().to_string()];
    let rows = select.query_map(ends, |row| (0..width).map(|column| row.get(column)).collect())?;
    rows.collect()
}

fn definitions(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let text = "SELECT sql FROM sqlite_master WHERE tbl_name = 'message' AND sql IS NOT NULL
                ORDER BY type DESC";
    db.prepare(text)?.query_map((), |row| row.get(0))?.collect()
}

fn prepare(db: &Connection, definitions: &[String]) -> rusqlite::Result<()> {
    db.pragma_update(None, "journal_mode", "wal")?;
    db.pragma_update(None, "synchronous", "full")?;
    if db.table_exists(None, "message")? {
        return Ok(());
    }
    definitions.iter().try_for_each(|definition| db.execute_batch(definition))
}

fn insert(db: &mut Connection, rows: &[Vec<Value>]) -> rusqlite::Result<()> {
    let tx = db.transaction()?;
    let places: Vec<&str> = rows.iter().take(1).flatten().map(|_| "?").collect();
    let text = format!("INSERT INTO message VALUES ({})", places.join(", "));
    let mut statement = tx.prepare(&text)?;
    for row in rows {
        statement.execute(params_from_iter(row))?;
    }
    drop(statement);
    tx.commit()
}

fn count(db: &Connection) -> rusqlite::Result<Vec<(String, u64)>> {
    let text = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name";
    let names: Vec<String> =
        db.prepare(text)?.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()?;
    let count = |name: String| {
        let text = format!("SELECT count(*) FROM \"{name}\"");
        let rows: i64 = db.query_row(&text, (), |row| row.get(0))?;
        Ok((name, u64::try_from(rows).unwrap_or_default()))
    };
    names.into_iter().map(count).collect()
}
