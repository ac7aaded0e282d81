//! The project's own chores, in Rust so that they run wherever the project builds.
//!
//! `cargo xtask tidy` prints what breaks the rules of the house and exits 1 if anything does. The
//! same rules run as a test of this crate, so `make test` needs no second call. Changes no file.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod tidy;
mod tree;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use tree::{Tree, TreeError};

const USAGE: &str = "usage: cargo xtask tidy    checks the rules of the house";

/// A usage error, apart from 1, which means that findings were printed.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => report(findings()),
        _ => {
            say(USAGE);
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Every finding in the work tree this program was built from.
fn findings() -> Result<Vec<String>, TreeError> {
    Ok(tidy::findings(&Tree::load(root())?))
}

/// The root of the work tree: the folder above this crate.
fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

fn report(findings: Result<Vec<String>, TreeError>) -> ExitCode {
    match findings {
        Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(findings) => {
            findings.iter().for_each(|finding| say(finding));
            say(&format!("tidy: {} findings", findings.len()));
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&format!("failed to {error}"));
            ExitCode::FAILURE
        }
    }
}

/// One line on standard error. A closed standard error leaves the exit code to speak.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
