//! What can fail in the store, told so that the caller knows whether to try again.
//!
//! `operation` is the name of the store function, the same in every variant.

/// A store function that failed. Nothing of its transaction is kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database could not be opened.
    #[error("failed to open the database {database}")]
    Open {
        /// Which one, without its password.
        database: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A server that acknowledges what it has not written.
    #[error(
        "failed to use the database: PostgreSQL runs with `{setting} = {value}`, so an outcome that \
         was acknowledged could be lost in a power cut; set `{setting} = on`"
    )]
    NotDurable {
        /// The server's setting.
        setting: &'static str,
        /// What it is.
        value: String,
    },
    /// The schema could not be brought up to date.
    #[error("failed to migrate the database")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A newer version has written the database and this one may not.
    #[error(
        "failed to use the database: its schema is {found} and asks for a Muster that knows at least \
         schema {least}; this one knows {known}"
    )]
    SchemaTooNew {
        /// The schema's number.
        found: i64,
        /// The oldest schema number whose programs may use it.
        least: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// No room for the change. What is committed stays readable.
    #[error("failed to run {operation}: the database has no room left")]
    DiskFull {
        /// The store function.
        operation: &'static str,
        /// What the engine said.
        #[source]
        source: sqlx::Error,
    },
    /// Something that must be unique is there already.
    #[error("failed to run {operation}: {what} is taken")]
    Taken {
        /// The store function.
        operation: &'static str,
        /// The index or columns, as the engine names them.
        what: String,
    },
    /// A time limit was reached, mostly because another transaction was in the way; trying again may
    /// help.
    #[error("failed to run {operation}: it took longer than it may")]
    Busy {
        /// The store function.
        operation: &'static str,
        /// What the engine said.
        #[source]
        source: sqlx::Error,
    },
    /// The database does not answer; trying again later may help.
    #[error("failed to run {operation}: the database does not answer")]
    Unavailable {
        /// The store function.
        operation: &'static str,
        /// What was seen.
        #[source]
        source: sqlx::Error,
    },
    /// A number that the database's 64-bit integers cannot hold.
    #[error("failed to run {operation}: {value} is more than the database can hold")]
    TooLarge {
        /// The store function.
        operation: &'static str,
        /// The number.
        value: u64,
    },
    /// A value that has no JSON.
    #[error("failed to run {operation}: a value cannot be written as JSON")]
    Unwritable {
        /// The store function.
        operation: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A stored value is not one that this program writes.
    #[error("failed to run {operation}: column `{column}` holds what it should not: {detail}")]
    Damaged {
        /// The store function.
        operation: &'static str,
        /// The column.
        column: String,
        /// What was found.
        detail: String,
    },
    /// Anything else that the engine refuses.
    #[error("failed to run {operation}")]
    Statement {
        /// The store function.
        operation: &'static str,
        /// What the engine said.
        #[source]
        source: sqlx::Error,
    },
}

impl StoreError {
    /// Whether the same call may succeed when it is made again, unchanged.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Unavailable { .. })
    }

    /// Whether the change asks for something that is there already.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Taken { .. })
    }

    /// Whether room must be made before anything can be written.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    /// Sorts an engine's error by what the caller can do about it.
    pub(super) fn of(operation: &'static str, source: sqlx::Error) -> Self {
        use sqlx::Error as E;
        let Some(database) = source.as_database_error() else {
            return match source {
                E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => {
                    Self::Unavailable { operation, source }
                }
                E::ColumnDecode { index, source } => {
                    let column = index.trim_matches('"').to_owned();
                    Self::Damaged { operation, column, detail: source.to_string() }
                }
                source => Self::Statement { operation, source },
            };
        };
        if database.is_unique_violation() {
            // PostgreSQL names the index, SQLite the columns, in its text.
            let what = database.constraint().unwrap_or(database.message());
            let what = what.trim_start_matches("UNIQUE constraint failed: ").to_owned();
            return Self::Taken { operation, what };
        }
        let code = database.code().unwrap_or_default().into_owned();
        match Trouble::of(&code) {
            Some(Trouble::DiskFull) => Self::DiskFull { operation, source },
            Some(Trouble::Busy) => Self::Busy { operation, source },
            Some(Trouble::Unavailable) => Self::Unavailable { operation, source },
            None => Self::Statement { operation, source },
        }
    }
}

enum Trouble {
    DiskFull,
    Busy,
    Unavailable,
}

impl Trouble {
    /// By result code of SQLite (a number, sqlite.org/rescode.html) or SQLSTATE of PostgreSQL (five
    /// characters, its appendix A); no text is in both.
    fn of(code: &str) -> Option<Self> {
        match code {
            // SQLITE_FULL; disk_full.
            "13" | "53100" => Some(Self::DiskFull),
            // SQLITE_BUSY, _SNAPSHOT, _TIMEOUT; SQLITE_LOCKED; SQLITE_INTERRUPT (by a time limit of
            // ours); serialization_failure, deadlock_detected, lock_not_available, query_canceled
            // (by a time limit of ours).
            "5" | "517" | "773" | "6" | "9" | "40001" | "40P01" | "55P03" | "57014" => {
                Some(Self::Busy)
            }
            // too_many_connections; admin_shutdown, crash_shutdown, cannot_connect_now.
            "53300" | "57P01" | "57P02" | "57P03" => Some(Self::Unavailable),
            // connection_exception and its kind.
            other if other.len() == 5 && other.starts_with("08") => Some(Self::Unavailable),
            _ => None,
        }
    }
}
