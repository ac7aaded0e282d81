//! The rows of a site: loaded, written, migrated; nothing is decided here.
//!
//! Called by the site's application floor. [`Db`] opens SQLite or PostgreSQL; the store functions
//! are methods of [`Read`] (a look at one instant) and [`Tx`] (a change), named noun first, one file
//! a noun. Every function runs on both engines from one SQL text. Nothing here reads a clock or
//! draws an id: times and ids come in as values.

mod accounting;
mod advertisement;
mod arg;
mod collection;
mod contact;
mod content;
mod copy;
mod counter;
mod db;
mod device;
mod dialect;
mod dump;
mod error;
mod group;
mod ingest;
mod membership;
mod message;
mod object;
mod obligation;
mod occurrence;
mod package;
mod principal;
mod query;
mod removal;
mod revision;
mod row;
mod schema;
mod set_aside;
mod site;
mod site_message;
mod sql;
mod stream;
mod token;
mod trust;
mod watch;

pub use accounting::{
    ACCOUNTING_OCCURRENCES_MAX, ACCOUNTING_PAGE_MAX, AccountingDevice, AccountingPage, MarkLimits,
    Sums,
};
pub use advertisement::{AdvertisementRevisionRow, AdvertisementRow};
pub use collection::{BindingRow, CollectionRow};
pub use contact::ContactRow;
pub use content::{CONTENT_PAGE_MAX, ContentRow};
pub use db::*;
pub use device::{DEVICE_PAGE_MAX, DeviceRow};
pub use dump::{ColumnShape, TableShape};
pub use error::StoreError;
pub use group::{GROUP_JOBS_MAX, GROUP_QUEUE_MAX, GroupError, GroupWriter, Groups};
pub use ingest::{Forked, IngestAsk, IngestRows};
pub use membership::MEMBER_PAGE_MAX;
pub use message::{
    MESSAGE_PAGE_MAX, MessageCursor, MessageFilter, MessageOrder, MessageRow, NewMessage,
};
pub use object::{OBJECT_PAGE_MAX, ObjectRow};
pub use obligation::OBLIGATION_PAGE_MAX;
pub use package::{PackageObject, PackageVersionRow};
pub use principal::{PRINCIPAL_LIST_MAX, PrincipalRow};
pub use query::{
    QUERY_ANSWER_BYTES_MAX, QUERY_BYTES_MAX, QUERY_ROWS_MAX, QUERY_WORDS_MAX, QueryError, Table,
};
pub use revision::{CHANGES_MAX, Change, Subject};
pub use schema::SCHEMA_KNOWN;
pub use set_aside::{NewSetAside, SET_ASIDE_PAGE_MAX, SetAsideRow};
pub use site::SiteRow;
pub use site_message::{SITE_MESSAGE_PAGE_MAX, SiteMessage, SiteMessageRow};
pub use stream::{GapRow, STREAM_PAGE_MAX};
pub use token::{TOKEN_LIST_MAX, TokenRow};
pub use trust::TrustRow;
pub use watch::{REVISION_AGE_MAX, REVISION_POLL_MAX, Reading, RevisionWatch};
