//! A whole fleet in one process under one seed: the real decisions of agent, access point and site,
//! in a world that drops, doubles, delays, cuts, crashes, forgets and lies.
//!
//! ```text
//! seed -> scenario -> world: site | access point | devices -> event -> step -> invariants -> ...
//!                                                             heal -> everything ends -> truth = accounts
//! ```
//!
//! A world follows from its seed to the letter: no clock, no thread, no random order. After each step
//! the invariants of the accounting are checked from the side ([`check`]); after the chaos the world is
//! healed and everything must come to its end, and what the site says must be what really happened
//! ([`verdict`]). [`plant`] switches on bugs that must be found; [`sometimes`] counts rare branches that
//! must have fired. Run by the tests of this crate, by its command line, and never by the product.
#![forbid(unsafe_code)]

mod access_point;
pub mod campaign;
mod check;
mod core;
mod device;
mod dice;
mod disk;
mod event;
mod hours;
mod journal;
pub mod kind;
mod nightly;
mod offline;
pub mod plant;
mod queue;
mod record;
mod rogue;
mod scenario;
mod seal;
mod site;
pub mod sometimes;
mod truth;
mod upgrades;
mod verdict;
pub mod world;
