//! The database of a site: SQLite in one file, or PostgreSQL when one machine is not enough.
//!
//! Opened once by the site's shell. [`Db::begin`] starts a change, [`Db::read`] a look at one
//! instant: what it reads, it reads of one snapshot, so sums hold. A change is durable when
//! [`Tx::commit`] has returned, and gone if it has not; a transaction that is dropped is rolled
//! back. Nothing waits for ever: each wait has one of the limits below.
//!
//! SQLite has one writer connection, whose transactions take the write lock at their start (a
//! transaction that reads first and writes then would fail with BUSY), and a pool of readers beside
//! it. PostgreSQL has a pool for writers and one for readers, so that neither starves the other.
//!
//! Who takes several locks takes them in this order: the site's revision, streams by device and
//! incarnation, then the rest.

use std::ops::{Deref, DerefMut};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use muster_host::failpoint::{self, Point, When};
use muster_host::publish::PRIVATE_FILE;
use muster_site_core::occurrence::Revision;
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqliteSynchronous,
};
use sqlx::{Postgres, Sqlite, Transaction};

use super::error::StoreError;
use super::schema;
use super::sql::on_engine;
use super::watch::Announcer;

/// The file of a SQLite site below its `--data`.
pub const SQLITE_FILE: &str = "site.db";
/// How long a transaction waits for a connection. Longer than any one transaction may take.
pub const ACQUIRE_WAIT_MAX: Duration = Duration::from_secs(45);
/// How long a statement waits for a lock that somebody else holds.
pub const LOCK_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long one statement may run in PostgreSQL.
pub const STATEMENT_TIME_MAX: Duration = Duration::from_secs(30);
/// How long an open transaction may sit idle in PostgreSQL before the server ends it.
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(60);
/// Connections in each of the two pools; more than a few a core only queue inside the server.
pub const CONNECTIONS_MAX: u32 = 8;
/// SQLite's page, in bytes: its own default.
const PAGE_BYTES: u64 = 4096;
/// SQLite's write-ahead log is moved into the file when it has this many bytes: some groups of
/// messages, so that pages which each of them changes are moved once.
const LOG_BYTES: u64 = 16 << 20;
/// What SQLite's writer keeps of the file in memory, in KiB: the upper parts of the largest indexes.
const WRITER_CACHE_KIB: u64 = 32 << 10;

/// Settings of PostgreSQL without which an acknowledged commit may vanish in a power cut.
const DURABLE_SETTINGS: [&str; 3] = ["fsync", "full_page_writes", "synchronous_commit"];

/// Where a site keeps its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A SQLite file; made if it is not there. Its folder must be.
    Sqlite(PathBuf),
    /// A PostgreSQL URL, `postgres://user@host:port/database`. The database must be there.
    Postgres(String),
}

/// How to open a database.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it is.
    pub location: Location,
    /// The most bytes that SQLite may take, its log included; reaching it is [`StoreError::DiskFull`].
    /// PostgreSQL's room is its own administrator's.
    pub bytes_max: Option<u64>,
}

impl From<Location> for Options {
    fn from(location: Location) -> Self {
        Self { location, bytes_max: None }
    }
}

/// An open database. A clone is another handle on the same one.
#[derive(Clone, Debug)]
pub struct Db {
    engine: Engine,
    announcer: Announcer,
}

#[derive(Clone, Debug)]
enum Engine {
    Lite { writers: SqlitePool, readers: SqlitePool },
    Pg { writers: PgPool, readers: PgPool },
}

/// A transaction of either engine.
pub(super) enum Conn {
    Lite(Transaction<'static, Sqlite>),
    Pg(Transaction<'static, Postgres>),
}

/// A look at the database as it is at one instant.
pub struct Read {
    pub(super) conn: Conn,
}

/// A change of the database: everything in it or nothing. Reads what [`Read`] reads.
pub struct Tx {
    read: Read,
    pub(super) revision: Option<Revision>,
    announcer: Announcer,
}

impl Db {
    /// Opens the database and brings its schema up to date. Refuses a PostgreSQL server that does
    /// not write before it acknowledges, and a schema that a newer program keeps for itself.
    pub async fn open(options: impl Into<Options>) -> Result<Self, StoreError> {
        let options = options.into();
        let engine = match &options.location {
            Location::Sqlite(path) => open_sqlite(path, options.bytes_max).await?,
            Location::Postgres(url) => open_postgres(url).await?,
        };
        let db = Self { engine, announcer: Announcer::default() };
        db.check_durable().await?;
        match &db.engine {
            Engine::Lite { writers, .. } => schema::migrate_sqlite(writers).await?,
            Engine::Pg { writers, .. } => schema::migrate_postgres(writers).await?,
        }
        Ok(db)
    }

    /// Refuses, by name, a setting of the server under which an acknowledged commit may vanish.
    /// Called at every start; SQLite's settings are this program's own.
    pub async fn check_durable(&self) -> Result<(), StoreError> {
        let Engine::Pg { writers, .. } = &self.engine else { return Ok(()) };
        for setting in DURABLE_SETTINGS {
            let value: String = sqlx::query_scalar("SELECT current_setting($1)")
                .bind(setting)
                .fetch_one(writers)
                .await
                .map_err(|source| StoreError::of("check_durable", source))?;
            // `remote_apply` waits for the standbys on top of what `on` does.
            if value != "on" && value != "remote_apply" {
                return Err(StoreError::NotDurable { setting, value });
            }
        }
        Ok(())
    }

    /// Starts a change.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        let conn = match &self.engine {
            Engine::Lite { writers, .. } => {
                writers.begin_with("BEGIN IMMEDIATE").await.map(Conn::Lite)
            }
            Engine::Pg { writers, .. } => writers.begin().await.map(Conn::Pg),
        };
        let conn = conn.map_err(|source| StoreError::of("begin", source))?;
        Ok(Tx { read: Read { conn }, revision: None, announcer: self.announcer.clone() })
    }

    /// Starts a look at one instant; it can change nothing.
    pub async fn read(&self) -> Result<Read, StoreError> {
        let conn = match &self.engine {
            Engine::Lite { readers, .. } => readers.begin().await.map(Conn::Lite),
            Engine::Pg { readers, .. } => readers
                .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                .await
                .map(Conn::Pg),
        };
        Ok(Read { conn: conn.map_err(|source| StoreError::of("read", source))? })
    }

    /// Waits for open transactions and closes every connection.
    pub async fn close(&self) {
        match &self.engine {
            Engine::Lite { writers, readers } => {
                readers.close().await;
                writers.close().await;
            }
            Engine::Pg { writers, readers } => {
                readers.close().await;
                writers.close().await;
            }
        }
    }

    pub(super) fn announcer(&self) -> &Announcer {
        &self.announcer
    }

    /// PostgreSQL's pool, for the one connection that listens.
    pub(super) fn listening_pool(&self) -> Option<&PgPool> {
        match &self.engine {
            Engine::Lite { .. } => None,
            Engine::Pg { readers, .. } => Some(readers),
        }
    }
}

impl Tx {
    /// Makes the change durable. When this fails the change may or may not have been made: nothing
    /// may be acknowledged, and the caller looks before it tries again.
    pub async fn commit(self) -> Result<(), StoreError> {
        let Tx { read, revision, announcer } = self;
        let point = match revision {
            Some(_) => Point::RevisionCommit,
            None => Point::StoreCommit,
        };
        failpoint::hit(point, When::Before);
        on_engine!(read.conn, tx => tx.commit().await)
            .map_err(|source| StoreError::of("commit", source))?;
        failpoint::hit(point, When::After);
        if let Some(revision) = revision {
            announcer.announce(revision);
        }
        Ok(())
    }

    /// Takes everything back now, instead of when the transaction is dropped.
    pub async fn rollback(self) -> Result<(), StoreError> {
        on_engine!(self.read.conn, tx => tx.rollback().await)
            .map_err(|source| StoreError::of("rollback", source))
    }

    pub(super) fn announces(&self) -> bool {
        self.announcer.is_on()
    }
}

impl Deref for Tx {
    type Target = Read;
    fn deref(&self) -> &Read {
        &self.read
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Read {
        &mut self.read
    }
}

fn pool_options<DB: sqlx::Database>(connections: u32) -> PoolOptions<DB> {
    PoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_WAIT_MAX)
}

/// Makes sure of a file that only its owner reads: digests of secrets lie in it. SQLite gives its log
/// the same mode.
fn create_private(path: &std::path::Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(PRIVATE_FILE);
    options.open(path).map(drop)
}

async fn open_sqlite(path: &std::path::Path, bytes_max: Option<u64>) -> Result<Engine, StoreError> {
    let failed = |source| StoreError::Open { database: path.display().to_string(), source };
    create_private(path).map_err(|error| failed(error.into()))?;
    // With little room the log takes a quarter of it.
    let log_bytes = bytes_max.map_or(LOG_BYTES, |bytes| LOG_BYTES.min(bytes / 4));
    let mut options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(LOCK_WAIT_MAX)
        .foreign_keys(true)
        .pragma("wal_autocheckpoint", (log_bytes / PAGE_BYTES).max(1).to_string())
        .pragma("journal_size_limit", log_bytes.to_string());
    if let Some(bytes) = bytes_max {
        let pages = (bytes - log_bytes) / PAGE_BYTES;
        options = options.pragma("max_page_count", pages.max(1).to_string());
    }
    let writer_options = options.clone().pragma("cache_size", format!("-{WRITER_CACHE_KIB}"));
    // A connection is a file handle that this process owns: no need to ask whether it still lives.
    let pool = |connections| {
        pool_options(connections).test_before_acquire(false).idle_timeout(None).max_lifetime(None)
    };
    let writers = pool(1).connect_with(writer_options).await.map_err(failed)?;
    // A question of a person leaves its time limit on the connection (see `query`).
    let readers = pool(CONNECTIONS_MAX).after_release(|connection: &mut SqliteConnection, _| {
        Box::pin(async move {
            connection.lock_handle().await?.remove_progress_handler();
            Ok(true)
        })
    });
    let readers = readers.connect_lazy_with(options.pragma("query_only", "on"));
    Ok(Engine::Lite { writers, readers })
}

async fn open_postgres(url: &str) -> Result<Engine, StoreError> {
    let options: PgConnectOptions = url.parse().map_err(|source| StoreError::Open {
        database: "of the URL that was given".to_owned(),
        source,
    })?;
    let database = format!(
        "{} at {}:{}",
        options.get_database().unwrap_or(options.get_username()),
        options.get_host(),
        options.get_port()
    );
    let millis = |limit: Duration| limit.as_millis().to_string();
    let options = options.application_name("muster").options([
        ("statement_timeout", millis(STATEMENT_TIME_MAX)),
        ("lock_timeout", millis(LOCK_WAIT_MAX)),
        ("idle_in_transaction_session_timeout", millis(IDLE_TIME_MAX)),
    ]);
    let writers = pool_options(CONNECTIONS_MAX)
        .connect_with(options.clone())
        .await
        .map_err(|source| StoreError::Open { database, source })?;
    let readers = pool_options(CONNECTIONS_MAX).connect_lazy_with(options);
    Ok(Engine::Pg { writers, readers })
}
