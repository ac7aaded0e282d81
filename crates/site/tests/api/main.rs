//! A site from outside: its API over TLS, and devices that are scripts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

mod apply;
mod device;
mod distribution;
mod front;
mod limits;
mod membership;
mod order;
mod process;
mod renewal;
mod roles;
mod windows;
