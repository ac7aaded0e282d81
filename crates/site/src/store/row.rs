//! Values on their way out of a statement, the same for both engines.
//!
//! A column that holds what this program never writes is [`StoreError::Damaged`] with the column's
//! name, not a panic and not a default.

use muster_model::advertisement::At;
use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{
    AdvertisementId, CollectionId, DeviceId, EpochId, Incarnation, PackageId, PrincipalId,
    Sequence, TokenId,
};
use muster_model::message::{Occurrence, RunId, Severity};
use muster_model::name::Name;
use muster_model::object::Kind as ObjectKind;
use muster_model::sign::PublicKey;
use muster_model::state::Word;
use muster_site_core::occurrence::Revision;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::error::StoreError;

/// One row of an answer.
pub(crate) struct Row {
    pub(super) operation: &'static str,
    pub(super) engine: EngineRow,
}

pub(super) enum EngineRow {
    Lite(SqliteRow),
    Pg(PgRow),
}

impl From<SqliteRow> for EngineRow {
    fn from(row: SqliteRow) -> Self {
        Self::Lite(row)
    }
}

impl From<PgRow> for EngineRow {
    fn from(row: PgRow) -> Self {
        Self::Pg(row)
    }
}

/// A type that stands in a column as one of the four kinds.
pub(crate) trait Column: Sized {
    type Stored: Stored;
    fn from_stored(stored: Self::Stored) -> Result<Self, String>;
}

impl Row {
    /// The value of `column`, which is never null.
    pub(crate) fn get<T: Column>(&self, column: &'static str) -> Result<T, StoreError> {
        self.maybe(column)?.ok_or_else(|| self.damaged(column, "nothing".into()))
    }

    /// The value of `column`; `None` is null.
    pub(crate) fn maybe<T: Column>(&self, column: &'static str) -> Result<Option<T>, StoreError> {
        let stored = match &self.engine {
            EngineRow::Lite(row) => T::Stored::of_lite(row, column),
            EngineRow::Pg(row) => T::Stored::of_pg(row, column),
        };
        let stored = stored.map_err(|source| StoreError::of(self.operation, source))?;
        stored.map(T::from_stored).transpose().map_err(|detail| self.damaged(column, detail))
    }

    /// The JSON of `column` as a `T`.
    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        self.maybe_json(column)?.ok_or_else(|| self.damaged(column, "nothing".into()))
    }

    /// The JSON of `column` as a `T`; `None` is null.
    pub(crate) fn maybe_json<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        let text: Option<String> = self.maybe(column)?;
        text.map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|why| self.damaged(column, why.to_string()))
    }

    pub(crate) fn damaged(&self, column: &str, detail: String) -> StoreError {
        StoreError::Damaged { operation: self.operation, column: column.to_owned(), detail }
    }
}

/// What a driver hands out.
pub(crate) trait Stored: Sized {
    fn of_lite(row: &SqliteRow, column: &str) -> sqlx::Result<Option<Self>>;
    fn of_pg(row: &PgRow, column: &str) -> sqlx::Result<Option<Self>>;
}

macro_rules! stored {
    ($($type:ty),*) => {$(
        impl Stored for $type {
            fn of_lite(row: &SqliteRow, column: &str) -> sqlx::Result<Option<Self>> {
                row.try_get(column)
            }
            fn of_pg(row: &PgRow, column: &str) -> sqlx::Result<Option<Self>> {
                row.try_get(column)
            }
        }

        impl Column for $type {
            type Stored = Self;
            fn from_stored(stored: Self) -> Result<Self, String> {
                Ok(stored)
            }
        }
    )*};
}

stored!(i64, String, Vec<u8>);

impl Stored for Uuid {
    /// SQLite keeps an id as text.
    fn of_lite(row: &SqliteRow, column: &str) -> sqlx::Result<Option<Self>> {
        let text: Option<uuid::fmt::Hyphenated> = row.try_get(column)?;
        Ok(text.map(uuid::fmt::Hyphenated::into_uuid))
    }
    fn of_pg(row: &PgRow, column: &str) -> sqlx::Result<Option<Self>> {
        row.try_get(column)
    }
}

macro_rules! column {
    ($($type:ty, $stored:ty, $value:ident => $made:expr;)*) => {$(
        impl Column for $type {
            type Stored = $stored;
            fn from_stored($value: $stored) -> Result<Self, String> {
                $made
            }
        }
    )*};
}

column! {
    u64, i64, value => unsigned(value);
    u32, i64, value => unsigned(value);
    u16, i64, value => unsigned(value);
    i32, i64, value => unsigned(value);
    bool, i64, value => Ok(value != 0);
    Wall, i64, value => Ok(Wall(value));
    Incarnation, i64, value => unsigned(value).map(Incarnation);
    Sequence, i64, value => unsigned(value).map(Sequence);
    Revision, i64, value => unsigned(value).map(Revision);
    Name, String, value => Name::new(value).map_err(|why| why.to_string());
    Occurrence, String, value => value.parse();
    At, String, value => value.parse().map_err(|why: muster_model::advertisement::NotThat| why.to_string());
    Word, String, value => value.parse();
    ObjectKind, String, value => one_of(&ObjectKind::ALL, ObjectKind::word, &value);
    Severity, String, value => one_of(&SEVERITIES, Severity::word, &value);
    Digest, Vec<u8>, value => digest(&value);
    RunId, Vec<u8>, value => digest(&value).map(RunId);
    PublicKey, Vec<u8>, value => key(&value);
    DeviceId, Uuid, value => Ok(DeviceId(value));
    PackageId, Uuid, value => Ok(PackageId(value));
    CollectionId, Uuid, value => Ok(CollectionId(value));
    AdvertisementId, Uuid, value => Ok(AdvertisementId(value));
    EpochId, Uuid, value => Ok(EpochId(value));
    TokenId, Uuid, value => Ok(TokenId(value));
    PrincipalId, Uuid, value => Ok(PrincipalId(value));
}

impl Column for Uuid {
    type Stored = Self;
    fn from_stored(stored: Self) -> Result<Self, String> {
        Ok(stored)
    }
}

const SEVERITIES: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Error];

/// The value whose word is `text`.
fn one_of<T: Copy>(all: &[T], word: fn(T) -> &'static str, text: &str) -> Result<T, String> {
    all.iter().copied().find(|one| word(*one) == text).ok_or_else(|| format!("{text:?}"))
}

fn unsigned<T: TryFrom<i64>>(value: i64) -> Result<T, String> {
    T::try_from(value).map_err(|_| format!("{value}, out of its range"))
}

fn digest(bytes: &[u8]) -> Result<Digest, String> {
    let bytes = bytes.try_into().map_err(|_| format!("{} bytes, not 32", bytes.len()))?;
    Ok(Digest::from_bytes(bytes))
}

fn key(bytes: &[u8]) -> Result<PublicKey, String> {
    let bytes = bytes.try_into().map_err(|_| format!("{} bytes, not 32", bytes.len()))?;
    Ok(PublicKey(bytes))
}
