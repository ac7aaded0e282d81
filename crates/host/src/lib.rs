//! What the shells share: the one door to disk, the real clock, TLS at both ends, failpoints.
//!
//! Floor 3 beside site, access point and agent, which all build on this crate; it knows none of them
//! and decides nothing about software distribution. What touches a file, a socket, a clock or the
//! process itself is meant to be here once, so that it is durable, bounded and testable everywhere.
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod bind;
pub mod client;
pub mod clock;
pub mod components;
pub mod failpoint;
pub mod lock;
pub mod objects;
pub mod pki;
pub mod problem;
pub mod publish;
pub mod quota;
pub mod role;
pub mod run_file;
pub mod serve;
pub mod tls;
pub mod trust;

#[cfg(test)]
mod small_disk;
#[cfg(test)]
mod tls_tests;
