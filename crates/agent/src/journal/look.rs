//! A look through the whole journal that leaves no trace, beside an agent that writes or without one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use muster_agent_core::saved::Saved;
use muster_model::message::RunId;
use rusqlite::{Connection, OpenFlags};

use super::{JOURNAL_FILE, Journal, JournalError, schema};

/// What the journal holds.
#[derive(Clone, Debug)]
pub struct Looked {
    /// Everything that was saved.
    pub saved: Saved,
    /// The runs whose folder became complete: one that is missing was destroyed.
    pub launched: BTreeSet<RunId>,
}

/// Looks through the whole journal of `data`: its pages, its version, every record, the chain of the
/// outbox. Changes no file and makes none; waits for no writer, and keeps none waiting but for the
/// milliseconds of a fold of the log.
pub fn look(data: &Path) -> Result<Looked, JournalError> {
    let path = data.join(JOURNAL_FILE);
    if !path.exists() {
        return Err(JournalError::Missing { path });
    }
    // SQLite lays out an empty log beside a file that it opens, unless it is told that nobody writes.
    // Nobody does while there is no log; if one appears meanwhile, what was seen counts for nothing.
    let log = data.join(format!("{JOURNAL_FILE}-wal"));
    if !log.exists() {
        let looked = through(&path, true);
        if !log.exists() {
            return looked;
        }
    }
    through(&path, false)
}

fn through(path: &Path, nobody_writes: bool) -> Result<Looked, JournalError> {
    let sql = |source| JournalError::of(path, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match nobody_writes {
        true => Connection::open_with_flags(immutable(path), flags | OpenFlags::SQLITE_OPEN_URI),
        false => Connection::open_with_flags(path, flags),
    };
    let connection = connection.map_err(sql)?;
    connection.execute_batch("PRAGMA busy_timeout = 5000; BEGIN").map_err(sql)?;
    let check: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(sql)?;
    let damaged = |found: String| JournalError::Damaged { path: path.to_owned(), found };
    if check != "ok" {
        return Err(damaged(check));
    }
    let found = schema::found(&connection).map_err(sql)?;
    let found = found.ok_or_else(|| damaged("it has no tables".to_owned()))?;
    if found.oldest_reader > schema::FORMAT {
        let (format, oldest) = (found.format, found.oldest_reader);
        let path = path.to_owned();
        return Err(JournalError::TooNew { path, format, oldest, ours: schema::FORMAT });
    }
    let launched = launched(&connection).map_err(sql)?;
    let saved = Journal { path: path.to_owned(), connection }.load()?;
    let launched = saved.runs.iter().map(|run| run.run).filter(|run| {
        // A run's id is longer than the name that people and folders bear.
        launched.contains(&run.to_string())
    });
    Ok(Looked { launched: launched.collect(), saved })
}

fn launched(connection: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let mut statement = connection.prepare("SELECT run FROM launch WHERE made = 1")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.collect()
}

/// The file as a URI that says that nobody writes it (sqlite.org/uri.html).
fn immutable(path: &Path) -> PathBuf {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    PathBuf::from(uri + "?immutable=1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Owner;
    use muster_model::id::{DeviceId, Incarnation};

    fn names(data: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(data).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    fn lay_out(data: &Path) -> Journal {
        let device = DeviceId(uuid::Uuid::from_u128(1));
        let incarnation = Incarnation(1);
        let owner = Owner { device, incarnation, because: None, salvaged: Vec::new() };
        Journal::create(data, &owner).unwrap()
    }

    #[test]
    fn a_look_leaves_no_trace_with_a_writer_and_without() {
        let data = tempfile::Builder::new().prefix("a #odd? %41 name").tempdir().unwrap();
        let journal = lay_out(data.path());
        let beside = names(data.path());
        assert!(look(data.path()).unwrap().saved.memory.is_none());
        assert_eq!(names(data.path()), beside);
        drop(journal);
        assert_eq!(names(data.path()), [JOURNAL_FILE]);
        let bytes = std::fs::read(data.path().join(JOURNAL_FILE)).unwrap();
        look(data.path()).unwrap();
        assert_eq!(names(data.path()), [JOURNAL_FILE]);
        assert_eq!(std::fs::read(data.path().join(JOURNAL_FILE)).unwrap(), bytes);
    }

    #[test]
    fn what_cannot_be_believed_is_damaged_and_nothing_is_missing() {
        let data = tempfile::tempdir().unwrap();
        assert!(matches!(look(data.path()), Err(JournalError::Missing { .. })));
        drop(lay_out(data.path()));
        let path = data.path().join(JOURNAL_FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[100..600].fill(0xff);
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(look(data.path()), Err(JournalError::Damaged { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}
