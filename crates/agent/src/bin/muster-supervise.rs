//! The supervisor as a program of its own, for this crate's tests: the product dispatches to the same
//! function from the one binary.
#![deny(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    muster_agent::supervisor::main(std::env::args_os().skip(2))
}
