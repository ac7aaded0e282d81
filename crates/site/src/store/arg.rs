//! Values on their way into a statement, the same for both engines.
//!
//! Called by the noun files of the store through [`super::sql`]; nothing outside the store sees it.
//! Integers are 64 bits wide everywhere. An id is a `UUID` in PostgreSQL and its text in SQLite, so
//! that a person who queries either sees, and may write, the same thing. A digest is its 32 bytes:
//! half of what its text would take, in columns that every message has.

use std::borrow::Cow;

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{
    AdvertisementId, CollectionId, DeviceId, EpochId, Incarnation, PackageId, PrincipalId,
    Sequence, TokenId,
};
use muster_model::message::Occurrence;
use muster_model::name::Name;
use muster_model::object::Kind as ObjectKind;
use muster_site_core::occurrence::Revision;
use serde::Serialize;
use uuid::Uuid;

use super::error::StoreError;

/// The JSON of `value`, for a column that holds JSON as text.
pub(crate) fn json<T: Serialize + ?Sized>(
    operation: &'static str,
    value: &T,
) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|source| StoreError::Unwritable { operation, source })
}

/// The JSON of a value that may be missing.
pub(crate) fn maybe_json<T: Serialize>(
    operation: &'static str,
    value: Option<&T>,
) -> Result<Option<String>, StoreError> {
    value.map(|value| json(operation, value)).transpose()
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Text,
    Bytes,
    Id,
}

/// One value.
#[derive(Clone, Debug)]
pub(crate) enum Arg<'a> {
    Int(i64),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    Id(Uuid),
    /// Nothing; PostgreSQL wants to know of which kind.
    Null(Kind),
    /// A number that does not fit: the statement fails and names it.
    TooLarge(u64),
    /// One column of many rows, for PostgreSQL's `UNNEST`.
    Array(Kind, Vec<Arg<'a>>),
}

impl Arg<'_> {
    pub(super) fn int(&self) -> Option<i64> {
        if let Arg::Int(value) = self { Some(*value) } else { None }
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Arg::Text(value) = self { Some(value) } else { None }
    }

    pub(super) fn bytes(&self) -> Option<&[u8]> {
        if let Arg::Bytes(value) = self { Some(value) } else { None }
    }

    pub(super) fn id(&self) -> Option<Uuid> {
        if let Arg::Id(value) = self { Some(*value) } else { None }
    }
}

/// A type that can stand in a statement.
pub(crate) trait ToArg<'a> {
    /// The kind of column that it goes into.
    const KIND: Kind;
    fn to_arg(self) -> Arg<'a>;
}

impl<'a, T: ToArg<'a>> ToArg<'a> for Option<T> {
    const KIND: Kind = T::KIND;
    fn to_arg(self) -> Arg<'a> {
        self.map_or(Arg::Null(T::KIND), T::to_arg)
    }
}

macro_rules! to_arg {
    ($($type:ty, $kind:ident, $value:ident => $arg:expr;)*) => {$(
        impl<'a> ToArg<'a> for $type {
            const KIND: Kind = Kind::$kind;
            fn to_arg(self) -> Arg<'a> {
                let $value = self;
                $arg
            }
        }
    )*};
}

to_arg! {
    i64, Int, value => Arg::Int(value);
    u64, Int, value => i64::try_from(value).map_or(Arg::TooLarge(value), Arg::Int);
    u32, Int, value => Arg::Int(value.into());
    u16, Int, value => Arg::Int(value.into());
    i32, Int, value => Arg::Int(value.into());
    bool, Int, value => Arg::Int(value.into());
    Wall, Int, value => Arg::Int(value.0);
    Incarnation, Int, value => value.0.to_arg();
    Sequence, Int, value => value.0.to_arg();
    Revision, Int, value => value.0.to_arg();
    &'a str, Text, value => Arg::Text(Cow::Borrowed(value));
    String, Text, value => Arg::Text(Cow::Owned(value));
    &'a String, Text, value => Arg::Text(Cow::Borrowed(value));
    &'a Name, Text, value => Arg::Text(Cow::Borrowed(value.as_str()));
    &Occurrence, Text, value => Arg::Text(Cow::Owned(value.to_string()));
    ObjectKind, Text, value => Arg::Text(Cow::Borrowed(value.word()));
    &'a [u8], Bytes, value => Arg::Bytes(Cow::Borrowed(value));
    &'a Vec<u8>, Bytes, value => Arg::Bytes(Cow::Borrowed(value));
    &'a Digest, Bytes, value => Arg::Bytes(Cow::Borrowed(value.as_bytes()));
    Digest, Bytes, value => Arg::Bytes(Cow::Owned(value.as_bytes().to_vec()));
    Uuid, Id, value => Arg::Id(value);
    DeviceId, Id, value => Arg::Id(value.0);
    PackageId, Id, value => Arg::Id(value.0);
    CollectionId, Id, value => Arg::Id(value.0);
    AdvertisementId, Id, value => Arg::Id(value.0);
    EpochId, Id, value => Arg::Id(value.0);
    TokenId, Id, value => Arg::Id(value.0);
    PrincipalId, Id, value => Arg::Id(value.0);
}
