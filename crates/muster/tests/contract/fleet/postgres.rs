//! A real PostgreSQL for one fleet.

use std::process::Command;

/// A PostgreSQL cluster of one fleet, made and ended by the project's own script.
pub(super) struct Postgres {
    dir: String,
    pub(super) url: String,
}

const POSTGRES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/postgres");

impl Postgres {
    pub(super) fn start() -> Self {
        let dir = tempfile::env::temp_dir().join(format!("muster-contract-{}", std::process::id()));
        let dir = dir.to_str().unwrap().to_owned();
        let made = Command::new(POSTGRES).args(["start", &dir]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let url = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        Self { dir, url }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = Command::new(POSTGRES).args(["stop", &self.dir]).output();
    }
}
