//! The journal's tables and their versions (law 13: formats grow, then shrink).
//!
//! A migration only adds; what version N stops using is dropped in N+2. Each file names the oldest
//! reader and writer that it allows, so that returning to the previous version always works.

use rusqlite::{Connection, OptionalExtension as _};

/// The format that this version writes.
pub(super) const FORMAT: u32 = 1;
/// The oldest version that may read what this one writes.
pub(super) const OLDEST_READER: u32 = 1;
/// The oldest version that may write to what this one writes.
pub(super) const OLDEST_WRITER: u32 = 1;

/// What leads from one format to the next: the statement at index n makes format n + 1.
const MIGRATIONS: [&str; FORMAT as usize] = ["
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE one (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE obligation (
        advertisement TEXT NOT NULL, occurrence TEXT NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (advertisement, occurrence)) WITHOUT ROWID;
    CREATE TABLE run (run TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE content (manifest TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE message (
        sequence INTEGER PRIMARY KEY, bytes BLOB NOT NULL, chain BLOB NOT NULL,
        written INTEGER NOT NULL);
    CREATE TABLE launch (run TEXT PRIMARY KEY, made INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE ballast (body BLOB NOT NULL);
"];

/// The format that an open journal has, and whom it lets in; `None` for a file without tables.
pub(super) struct Found {
    /// Its format.
    pub(super) format: u32,
    /// The oldest version that may read it.
    pub(super) oldest_reader: u32,
    /// The oldest version that may write to it.
    pub(super) oldest_writer: u32,
}

/// Reads the versions of a journal.
pub(super) fn found(connection: &Connection) -> rusqlite::Result<Option<Found>> {
    let tables: u32 = connection.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'meta'",
        [],
        |row| row.get(0),
    )?;
    if tables == 0 {
        return Ok(None);
    }
    let number = |key: &str| -> rusqlite::Result<u32> {
        Ok(meta(connection, key)?.and_then(|value| value.parse().ok()).unwrap_or(0))
    };
    Ok(Some(Found {
        format: number("format")?,
        oldest_reader: number("oldestReader")?,
        oldest_writer: number("oldestWriter")?,
    }))
}

/// One value of the journal's own description.
pub(super) fn meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection
        .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
        .optional()
}

/// Sets one value of the journal's own description.
pub(super) fn set_meta(connection: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", [key, value])?;
    Ok(())
}

/// Brings a journal of format `from` (0: no tables) to [`FORMAT`], in the transaction that the
/// caller has begun.
pub(super) fn migrate(connection: &Connection, from: u32) -> rusqlite::Result<()> {
    for statements in MIGRATIONS.iter().skip(from as usize) {
        connection.execute_batch(statements)?;
    }
    set_meta(connection, "format", &FORMAT.to_string())?;
    set_meta(connection, "oldestReader", &OLDEST_READER.to_string())?;
    set_meta(connection, "oldestWriter", &OLDEST_WRITER.to_string())
}
