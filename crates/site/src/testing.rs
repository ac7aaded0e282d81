//! Databases for tests: a fresh SQLite file, and a fresh database in a PostgreSQL server that runs
//! while any test needs it.
//!
//! Used by this crate's tests and, with the feature `testing`, by others'. A test on a machine
//! without PostgreSQL fails with the command that installs it; it is never skipped. The server is
//! made by `scripts/postgres`, one for all test processes of a user, and ends by itself when none of
//! them is left.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;

use crate::store::{Db, Location, Options};

/// Runs `test` on a fresh SQLite site and then on a fresh PostgreSQL one.
///
/// # Panics
/// If the test does, or if a database cannot be made.
#[expect(clippy::print_stderr, reason = "a failing test says on which engine it failed")]
pub async fn on_both(test: impl AsyncFn(TestDb)) {
    eprintln!("on SQLite");
    test(TestDb::sqlite().await).await;
    eprintln!("on PostgreSQL");
    let database = TestDb::postgres().await;
    let name = database.name();
    test(database).await;
    drop_database(&name).await;
}

/// A database of one test, with its schema.
pub struct TestDb {
    /// The open database.
    pub db: Db,
    /// Where it is, to open it once more.
    pub location: Location,
    /// A folder that lasts as long as the test.
    pub folder: TempDir,
}

impl TestDb {
    /// A site in a SQLite file.
    ///
    /// # Panics
    /// If it cannot be made.
    pub async fn sqlite() -> Self {
        let folder = folder();
        let location = Location::Sqlite(folder.path().join(crate::store::SQLITE_FILE));
        Self { db: open(&location).await, location, folder }
    }

    /// A site in a database of its own on the tests' PostgreSQL server.
    ///
    /// # Panics
    /// If it cannot be made; says what to install if PostgreSQL is missing.
    pub async fn postgres() -> Self {
        let location = Location::Postgres(postgres_database().await);
        Self { db: open(&location).await, location, folder: folder() }
    }

    /// Another process' view: the same database, opened once more.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub async fn reopen(&self) -> Db {
        open(&self.location).await
    }

    fn name(&self) -> String {
        match &self.location {
            Location::Sqlite(path) => path.display().to_string(),
            Location::Postgres(url) => url.rsplit('/').next().unwrap_or_default().to_owned(),
        }
    }
}

/// The URL of a new, empty PostgreSQL database.
///
/// # Panics
/// If it cannot be made; says what to install if PostgreSQL is missing.
pub async fn postgres_database() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("t{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    // A database of an ended test process with the same number may still be there.
    drop_database(&name).await;
    administer(format!("CREATE DATABASE {name}")).await;
    let server = server();
    format!("{}/{name}", server.trim_end_matches("/postgres"))
}

async fn drop_database(name: &str) {
    administer(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
}

#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
async fn administer(statement: String) {
    let mut connection = PgConnection::connect(server()).await.unwrap();
    connection.execute(AssertSqlSafe(statement)).await.unwrap();
    connection.close().await.unwrap();
}

#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
async fn open(location: &Location) -> Db {
    Db::open(Options::from(location.clone())).await.unwrap()
}

#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
fn folder() -> TempDir {
    tempfile::Builder::new().prefix("muster-test-").tempdir().unwrap()
}

/// The URL of the tests' server, started if none of this user's runs. The lock that keeps it alive
/// is held until this process ends.
fn server() -> &'static str {
    static SERVER: OnceLock<(String, File)> = OnceLock::new();
    &SERVER.get_or_init(start_server).0
}

#[expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]
fn start_server() -> (String, File) {
    let user = std::fs::metadata("/proc/self").unwrap().uid();
    let folder = tempfile::env::temp_dir().join(format!("muster-postgres-{user}"));
    let lock_path = folder.with_extension("users");
    let lock = File::options().create(true).append(true).open(&lock_path).unwrap();
    // Waits while the last user's server is being removed.
    lock.lock_shared().unwrap();
    let output = Command::new(script())
        .args([Path::new("start"), &folder, Path::new("--while"), &lock_path])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if !output.status.success() {
        panic!("{}", String::from_utf8_lossy(&output.stderr));
    }
    (String::from_utf8(output.stdout).unwrap().trim().to_owned(), lock)
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/postgres")
}
