//! The contract, from outside: the real binary over real sockets, held against what the programs
//! themselves wrote on disk. Nothing here shares code with the product but the list of failpoints and
//! what a device that lies needs to speak as a device.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod fleet;
mod proxy;

mod accounting;
mod amnesia;
mod clock;
mod components;
mod credentials;
mod desktop;
mod disk;
mod each_user;
mod failpoint;
mod follow;
mod hostile;
mod identity;
mod inputs;
mod isolation;
mod maintenance;
mod memory;
mod newer;
mod objects;
mod orders;
mod poison;
mod process;
mod programs;
mod publishers;
mod put_back;
mod query;
mod recount;
mod releases;
mod removals;
mod restarts;
mod restore;
mod revisions;
mod schedules;
mod surroundings;
mod trust;
mod upgrade;
mod users;
mod windows;
