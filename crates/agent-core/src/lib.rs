//! The device as a machine: `handle(now, input) -> step`, where a step is what to save and then what
//! to do.
//!
//! The shell saves [`step::Step::writes`] in one transaction and only then carries out
//! [`step::Step::effects`] (law 1). A restart restores [`saved::Saved`] and goes on: every effect is
//! either repeated safely or decided anew from evidence. Knows no clock, no disk, no network, no
//! randomness; the same machine runs in the real agent, in the simulator and in the load generator.
#![forbid(unsafe_code)]

mod account;
pub mod agent;
mod answer;
mod attempt;
mod backoff;
mod component;
mod contact;
mod content;
mod deadline;
mod draft;
mod facts;
mod found;
pub mod input;
pub mod maintenance;
mod moves;
pub mod newer;
mod obligation;
mod outbox;
mod outcome;
mod part;
#[cfg(feature = "planted")]
pub mod planted;
mod policy;
mod put_back;
mod recurrence;
mod report;
mod restart;
mod run;
pub mod saved;
mod schedule;
mod sending;
pub mod sometimes;
mod start;
pub mod step;
pub mod telling;
pub mod turn;
mod undone;
pub mod upgrade;
pub mod user;
pub mod versions;
pub mod view;
mod why;
pub mod window;
#[cfg(test)]
mod world;

pub use agent::{Agent, Identity};
pub use outbox::OUTBOX_BYTES_MAX;
