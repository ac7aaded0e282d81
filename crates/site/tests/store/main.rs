//! The store on both engines: every test here runs on SQLite and on PostgreSQL, with one body.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

mod access;
mod accounting;
mod backup;
mod database;
mod definitions;
mod group;
mod ingest;
mod membership;
mod query;
mod schema;
mod support;
mod watch;
