//! The schema: numbered migrations, one folder an engine, the same numbers in both.
//!
//! A migration only adds; what version N stops using is dropped in N+2 (law 13), so a program that
//! is one version older goes on working. The one row of table `schema` names the oldest program
//! that may read and that may write; each migration sets it. A landed file is never edited: the
//! engine's record of checksums refuses that.

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgPool;
use sqlx::sqlite::SqlitePool;

use super::error::StoreError;

/// The newest schema that this program knows.
pub const SCHEMA_KNOWN: i64 = 2;

/// Number, name, SQLite's text, PostgreSQL's text.
const MIGRATIONS: [(i64, &str, &str, &str); SCHEMA_KNOWN as usize] = [
    (
        1,
        "first",
        include_str!("../../migrations/sqlite/0001_first.sql"),
        include_str!("../../migrations/postgres/0001_first.sql"),
    ),
    (
        2,
        "obligation by state",
        include_str!("../../migrations/sqlite/0002_obligation_by_state.sql"),
        include_str!("../../migrations/postgres/0002_obligation_by_state.sql"),
    ),
];

fn migrator(
    text: impl Fn(&(i64, &'static str, &'static str, &'static str)) -> &'static str,
) -> Migrator {
    let migrations = MIGRATIONS.iter().map(|migration| {
        let (number, name, ..) = *migration;
        let text = text(migration).into_sql_str();
        Migration::new(number, name.into(), MigrationType::Simple, text, false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    // A database that a newer program has migrated has records that this one has no file for.
    migrator.set_ignore_missing(true);
    migrator
}

pub(super) async fn migrate_sqlite(pool: &SqlitePool) -> Result<(), StoreError> {
    let known = sqlx::query("SELECT 1 FROM sqlite_schema WHERE name = 'schema'")
        .fetch_optional(pool)
        .await
        .map_err(failed)?;
    if known.is_some() {
        let row = sqlx::query_as(SCHEMA_ROW).fetch_one(pool).await.map_err(failed)?;
        check(row)?;
    }
    migrator(|(_, _, sqlite, _)| sqlite).run(pool).await.map_err(StoreError::Migrate)
}

pub(super) async fn migrate_postgres(pool: &PgPool) -> Result<(), StoreError> {
    let known: Option<String> = sqlx::query_scalar("SELECT to_regclass('schema')::text")
        .fetch_one(pool)
        .await
        .map_err(failed)?;
    if known.is_some() {
        let row = sqlx::query_as(SCHEMA_ROW).fetch_one(pool).await.map_err(failed)?;
        check(row)?;
    }
    migrator(|(_, _, _, postgres)| postgres).run(pool).await.map_err(StoreError::Migrate)
}

const SCHEMA_ROW: &str = "SELECT number, oldest_writer FROM schema";

fn check((found, least): (i64, i64)) -> Result<(), StoreError> {
    if least > SCHEMA_KNOWN {
        return Err(StoreError::SchemaTooNew { found, least, known: SCHEMA_KNOWN });
    }
    Ok(())
}

fn failed(source: sqlx::Error) -> StoreError {
    StoreError::of("schema_check", source)
}
