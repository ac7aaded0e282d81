//! The site's decisions: who is meant, what each device is told, what becomes of what it says, and
//! why it stands where it stands.
//!
//! Floor 2 of the house: every function goes from rows (values) to a plan (values). The site's shell
//! loads the rows inside a transaction, asks, writes the plan, commits, and only then acts; the
//! simulator does the same with maps in memory. Never waits, never reads a clock, a file or a
//! network, never draws a random number: time and new ids come in as values.
#![forbid(unsafe_code)]

pub mod account;
pub mod accounting;
pub mod branch;
pub mod condition;
pub mod decision;
pub mod device;
pub mod edit;
pub mod ingest;
pub mod membership;
pub mod obligation;
pub mod occurrence;
pub mod put_back;
pub mod recurrence;
pub mod removal;
pub mod roles;
pub mod targeting;
#[cfg(test)]
mod testing;
pub mod verify;
pub mod why;
pub mod window;
