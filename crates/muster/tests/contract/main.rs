//! The contract, from outside: the real binary over real sockets, held against what the programs
//! themselves wrote on disk. Nothing here shares code with the product.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod fleet;

mod accounting;
mod inputs;
mod objects;
mod orders;
mod trust;
