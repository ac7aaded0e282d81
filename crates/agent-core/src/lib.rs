//! The device as a machine: `handle(now, input) -> step`, where a step is what to save and then what
//! to do.
//!
//! The shell saves [`step::Step::writes`] in one transaction and only then carries out
//! [`step::Step::effects`] (law 1). A restart restores [`saved::Saved`] and goes on: every effect is
//! either repeated safely or decided anew from evidence. Knows no clock, no disk, no network, no
//! randomness; the same machine runs in the real agent, in the simulator and in the load generator.
#![forbid(unsafe_code)]

pub mod input;
pub mod saved;
pub mod step;
