//! The agent's journal: one SQLite file, one transaction per step of the machine (laws 1 and 3).
//!
//! What [`Journal::commit`] returned for survives a power cut: write-ahead log, `synchronous=FULL`.
//! A *reserve* of free pages lies in the file, so that the outcome of a run that has been armed can
//! still be written when the disk is full; without it nothing new is armed. Used by the driver alone;
//! `agent status` opens it read-only beside a running agent. It decides nothing.

mod error;
mod look;
mod salvage;
mod schema;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use muster_agent_core::saved::{Kept, Saved};
use muster_agent_core::step::{Effect, Step, Write};
use muster_host::failpoint::{self, Point, When};
use muster_host::publish;
use muster_model::id::{DeviceId, Incarnation, Sequence};
use muster_model::message::{Report, RunId};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::JournalError;
pub use look::{Looked, look};
pub use salvage::{Salvaged, free_name, set_aside};

/// The journal's file in the data folder.
pub const JOURNAL_FILE: &str = "journal.db";
/// Bytes kept free inside the journal: sixteen of the largest messages.
pub const RESERVE_BYTES: i64 = 1024 * 1024;

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    connection: Connection,
}

/// Whose journal it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The device.
    pub device: DeviceId,
    /// The incarnation of its memory.
    pub incarnation: Incarnation,
    /// Why this incarnation began, if memory was lost.
    pub because: Option<String>,
    /// What could be read of the memory that was lost, and its site may not have.
    pub salvaged: Vec<Report>,
}

impl Journal {
    /// Creates the journal of `owner`. Durable on return. Refuses to replace a file that is there: the
    /// caller sets it aside.
    pub fn create(data: &Path, owner: &Owner) -> Result<Self, JournalError> {
        let path = data.join(JOURNAL_FILE);
        let laid = |source| JournalError::File { path: path.clone(), source };
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(publish::PRIVATE_FILE)
            .open(&path)
            .map_err(laid)?;
        let sql = |source| JournalError::of(&path, source);
        let mut connection = connect(&path).map_err(sql)?;
        let tables = connection.transaction().map_err(sql)?;
        schema::migrate(&tables, 0).map_err(sql)?;
        schema::set_meta(&tables, "device", &owner.device.to_string()).map_err(sql)?;
        schema::set_meta(&tables, "incarnation", &owner.incarnation.to_string()).map_err(sql)?;
        if let Some(because) = &owner.because {
            schema::set_meta(&tables, "because", because).map_err(sql)?;
            let salvaged = serde_json::to_string(&owner.salvaged).map_err(JournalError::Encode)?;
            schema::set_meta(&tables, "salvaged", &salvaged).map_err(sql)?;
        }
        committed(tables).map_err(sql)?;
        connection.close().map_err(|(_, source)| sql(source))?;
        publish::sync_dir(data).map_err(|error| laid(io::Error::other(error)))?;
        Self::open(data)
    }

    /// Opens the journal and brings it to this version's format. Looks through the whole file;
    /// anything that cannot be believed is `Damaged`, and the caller sets it aside.
    pub fn open(data: &Path) -> Result<Self, JournalError> {
        let path = data.join(JOURNAL_FILE);
        if !path.exists() {
            return Err(JournalError::Missing { path });
        }
        let sql = |source| JournalError::of(&path, source);
        let connection = connect(&path).map_err(sql)?;
        let check: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(sql)?;
        if check != "ok" {
            return Err(JournalError::Damaged { path, found: check });
        }
        let found = schema::found(&connection).map_err(sql)?;
        let Some(found) = found.filter(|found| found.format > 0) else {
            return Err(JournalError::Damaged { path, found: "it has no tables".to_owned() });
        };
        if found.oldest_writer > schema::FORMAT {
            let (format, oldest) = (found.format, found.oldest_writer);
            return Err(JournalError::TooNew { path, format, oldest, ours: schema::FORMAT });
        }
        if found.format < schema::FORMAT {
            let upgrade = connection.unchecked_transaction().map_err(sql)?;
            schema::migrate(&upgrade, found.format).map_err(sql)?;
            committed(upgrade).map_err(sql)?;
        }
        let journal = Self { path, connection };
        // A disk without room for the reserve is a reason not to arm, not a reason not to start. It is
        // laid anew at each start, because the log went with the process before.
        let _ = journal.lay_reserve();
        Ok(journal)
    }

    /// Opens the journal to look at, beside an agent that may be writing to it.
    pub fn open_read_only(data: &Path) -> Result<Self, JournalError> {
        let path = data.join(JOURNAL_FILE);
        if !path.exists() {
            return Err(JournalError::Missing { path });
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)
            .map_err(|source| JournalError::of(&path, source))?;
        // One snapshot for all that is read, whatever the agent writes meanwhile.
        let found = connection
            .execute_batch("PRAGMA busy_timeout = 5000; BEGIN")
            .and_then(|()| schema::found(&connection))
            .map_err(|source| JournalError::of(&path, source))?;
        match found {
            Some(found) if found.oldest_reader <= schema::FORMAT => Ok(Self { path, connection }),
            Some(found) => Err(JournalError::TooNew {
                path,
                format: found.format,
                oldest: found.oldest_reader,
                ours: schema::FORMAT,
            }),
            None => Err(JournalError::Damaged { path, found: "it has no tables".to_owned() }),
        }
    }

    /// Whose journal it is.
    pub fn owner(&self) -> Result<Owner, JournalError> {
        let meta = |key| schema::meta(&self.connection, key).map_err(|error| self.sql(error));
        let device = meta("device")?.and_then(|text| text.parse().ok());
        let incarnation = meta("incarnation")?.and_then(|text| text.parse().ok());
        let (Some(device), Some(incarnation)) = (device, incarnation) else {
            return Err(self.damaged("it does not say whose it is"));
        };
        let salvaged = meta("salvaged")?.map(|body| self.parse(&body)).transpose()?;
        Ok(Owner {
            device,
            incarnation: Incarnation(incarnation),
            because: meta("because")?,
            salvaged: salvaged.unwrap_or_default(),
        })
    }

    /// Saves what the machine decided, in one transaction, and notes the runs that are to be armed.
    /// Durable on return; on any error nothing of it was saved, except after `Fsync`.
    ///
    /// When the disk is full the step of a run that has been armed is written into the reserve.
    pub fn commit(&mut self, step: &Step) -> Result<(), JournalError> {
        let arms = step.effects.iter().filter_map(|effect| match effect {
            Effect::Arm(launch) => Some(launch.run),
            _ => None,
        });
        if step.writes.is_empty() && arms.clone().next().is_none() {
            return Ok(());
        }
        let arms: Vec<RunId> = arms.collect();
        self.within(|transaction| {
            for write in &step.writes {
                save(transaction, write)?;
            }
            for run in &arms {
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO launch VALUES (?1, 0)")?
                    .execute([run.to_string()])?;
            }
            Ok(())
        })
    }

    /// Notes that the run's folder is complete and durable and its supervisor may be started: from
    /// here on a folder that is missing was destroyed.
    pub fn launch_made(&mut self, run: RunId) -> Result<(), JournalError> {
        self.within(|transaction| {
            transaction
                .execute("INSERT OR REPLACE INTO launch VALUES (?1, 1)", [run.to_string()])?;
            Ok(())
        })
    }

    /// Whether the run was to be armed, and its folder never became complete: nothing was executed,
    /// however empty the place of its folder is.
    pub fn launch_unmade(&self, run: RunId) -> Result<bool, JournalError> {
        let made: Option<bool> = self
            .connection
            .query_row("SELECT made FROM launch WHERE run = ?1", [run.to_string()], |row| {
                row.get(0)
            })
            .optional()
            .map_err(|error| self.sql(error))?;
        Ok(made == Some(false))
    }

    /// Everything that was saved. Damage of any record is damage of the journal: what the device
    /// would do with half a memory cannot be foreseen.
    pub fn load(&self) -> Result<Saved, JournalError> {
        let saved = Saved {
            memory: self.one("memory")?,
            policy: self.one("policy")?,
            obligations: self
                .all("SELECT body FROM obligation ORDER BY advertisement, occurrence")?,
            runs: self.all("SELECT body FROM run ORDER BY run")?,
            contents: self.all("SELECT body FROM content ORDER BY manifest")?,
            messages: self.messages()?,
        };
        saved.check().map_err(|error| self.damaged(&error.to_string()))?;
        Ok(saved)
    }

    /// Makes sure of the reserve; false if there is no room for it. To be asked before a run is
    /// armed.
    pub fn has_reserve(&self) -> bool {
        self.free_bytes().is_ok_and(|free| free >= RESERVE_BYTES) || self.lay_reserve().is_ok()
    }

    fn free_bytes(&self) -> rusqlite::Result<i64> {
        let number =
            |pragma: &str| self.connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        Ok(number("PRAGMA freelist_count")? * number("PRAGMA page_size")?)
    }

    /// Pages of a deleted row stay in the file and are used before it grows; the log, once it has held
    /// them, is written over from its beginning. So neither needs a block of the disk for a while.
    fn lay_reserve(&self) -> rusqlite::Result<()> {
        self.connection.execute("INSERT INTO ballast VALUES (zeroblob(?1))", [RESERVE_BYTES])?;
        self.connection.execute("DELETE FROM ballast", [])?;
        self.fold()
    }

    /// Moves everything into the file and begins the log anew, so that damage of the log cannot make
    /// the journal an older one without its knowing: SQLite passes over a log from its first bad frame
    /// on, as it must after a power cut. False if that cannot be done now.
    pub fn settle(&self) -> bool {
        let checkpoint = "PRAGMA wal_checkpoint(RESTART)";
        let busy = self.connection.query_row(checkpoint, [], |row| row.get::<_, i64>(0));
        // The frames before are void from the first write after; the file keeps its blocks.
        let begin = "BEGIN; INSERT INTO ballast VALUES (x''); DELETE FROM ballast; COMMIT";
        busy.is_ok_and(|busy| busy == 0) && self.connection.execute_batch(begin).is_ok()
    }

    /// Moves what the log holds into the file, so that the log is written from its beginning.
    fn fold(&self) -> rusqlite::Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))
    }

    fn within(
        &mut self,
        change: impl Fn(&Transaction) -> rusqlite::Result<()>,
    ) -> Result<(), JournalError> {
        let mut saved = self.try_within(&change);
        if matches!(saved, Err(JournalError::DiskFull { .. })) && self.fold().is_ok() {
            saved = self.try_within(&change);
        }
        saved
    }

    fn try_within(
        &mut self,
        change: impl Fn(&Transaction) -> rusqlite::Result<()>,
    ) -> Result<(), JournalError> {
        let transaction = self.connection.transaction();
        transaction
            .and_then(|transaction| {
                change(&transaction)?;
                committed(transaction)
            })
            .map_err(|source| JournalError::of(&self.path, source))
    }

    fn one<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, JournalError> {
        let body: Option<String> = self
            .connection
            .query_row("SELECT body FROM one WHERE name = ?1", [name], |row| row.get(0))
            .optional()
            .map_err(|error| self.sql(error))?;
        body.map(|body| self.parse(&body)).transpose()
    }

    fn all<T: DeserializeOwned>(&self, query: &str) -> Result<Vec<T>, JournalError> {
        let sql = |error| self.sql(error);
        let mut statement = self.connection.prepare(query).map_err(sql)?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(sql)?;
        rows.map(|body| self.parse(&body.map_err(sql)?)).collect()
    }

    fn messages(&self) -> Result<Vec<Kept>, JournalError> {
        let sql = |error| self.sql(error);
        let mut statement = self.connection.prepare(salvage::MESSAGES).map_err(sql)?;
        let rows = statement.query_map([], salvage::kept).map_err(sql)?;
        rows.map(|row| row.map_err(sql)).collect()
    }

    fn parse<T: DeserializeOwned>(&self, body: &str) -> Result<T, JournalError> {
        serde_json::from_str(body).map_err(|error| self.damaged(&error.to_string()))
    }

    fn damaged(&self, found: &str) -> JournalError {
        JournalError::Damaged { path: self.path.clone(), found: found.to_owned() }
    }

    fn sql(&self, source: rusqlite::Error) -> JournalError {
        JournalError::of(&self.path, source)
    }
}

/// Commits; durable on return.
fn committed(transaction: Transaction) -> rusqlite::Result<()> {
    failpoint::hit(Point::JournalCommit, When::Before);
    transaction.commit()?;
    failpoint::hit(Point::JournalCommit, When::After);
    Ok(())
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // The cache is small because the whole journal is read once, at start. The log is folded into the
    // file before it outgrows what the reserve has laid out for it (256 pages).
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -512;
         PRAGMA busy_timeout = 5000; PRAGMA wal_autocheckpoint = 192;",
    )?;
    Ok(connection)
}

fn save(transaction: &Transaction, write: &Write) -> rusqlite::Result<()> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        transaction.prepare_cached(sql)?.execute(values).map(|_| ())
    };
    const ONE: &str = "INSERT OR REPLACE INTO one VALUES (?1, ?2)";
    match write {
        Write::Memory(memory) => run(ONE, &[&"memory", &json(memory)?]),
        Write::Policy(policy) => run(ONE, &[&"policy", &json(policy)?]),
        Write::Obligation(obligation) => run(
            "INSERT OR REPLACE INTO obligation VALUES (?1, ?2, ?3)",
            &[
                &obligation.key.advertisement.to_string(),
                &obligation.key.occurrence.to_string(),
                &json(obligation)?,
            ],
        ),
        Write::ObligationForgotten(key) => run(
            "DELETE FROM obligation WHERE advertisement = ?1 AND occurrence = ?2",
            &[&key.advertisement.to_string(), &key.occurrence.to_string()],
        ),
        Write::Run(record) => run(
            "INSERT OR REPLACE INTO run VALUES (?1, ?2)",
            &[&record.run.to_string(), &json(record)?],
        ),
        Write::RunForgotten(id) => {
            run("DELETE FROM run WHERE run = ?1", &[&id.to_string()])?;
            run("DELETE FROM launch WHERE run = ?1", &[&id.to_string()])
        }
        Write::Content(content) => run(
            "INSERT OR REPLACE INTO content VALUES (?1, ?2)",
            &[&content.package.manifest.to_string(), &json(content)?],
        ),
        Write::ContentForgotten(manifest) => {
            run("DELETE FROM content WHERE manifest = ?1", &[&manifest.to_string()])
        }
        // Not OR REPLACE: a sequence number is used once.
        Write::Message(Kept { sequence, bytes, chain, written }) => run(
            "INSERT INTO message VALUES (?1, ?2, ?3, ?4)",
            &[&position(*sequence), bytes, &chain.as_bytes().as_slice(), &written.0],
        ),
        Write::MessagesForgotten(through) => {
            run("DELETE FROM message WHERE sequence <= ?1", &[&position(*through)])
        }
    }
}

fn position(sequence: Sequence) -> i64 {
    i64::try_from(sequence.0).unwrap_or(i64::MAX)
}

fn json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

#[cfg(test)]
mod tests;
