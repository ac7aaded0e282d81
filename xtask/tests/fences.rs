//! The fences hold: clippy, with each `clippy.toml` of the project, refuses what that file is for.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

/// What no crate may call.
const EVERYWHERE: [(&str, &str); 4] = [
    ("std::thread::sleep", "std::thread::sleep(std::time::Duration::ZERO);"),
    ("std::fs::rename", "let _ = std::fs::rename(\"a\", \"b\");"),
    ("std::env::temp_dir", "let _ = std::env::temp_dir();"),
    ("std::process::exit", "std::process::exit(0);"),
];

/// What floors 1 and 2 may not call besides.
const ENGINES: [(&str, &str); 8] = [
    ("std::fs::read", "let _ = std::fs::read(\"a\");"),
    ("std::fs::File", "let _ = std::fs::File::open(\"a\");"),
    ("std::path::Path::exists", "let _ = std::path::Path::new(\"a\").exists();"),
    ("std::time::Instant", "let _ = std::time::Instant::now();"),
    ("std::time::SystemTime", "let _ = std::time::SystemTime::now();"),
    ("std::net::TcpStream", "let _ = std::net::TcpStream::connect(\"a\");"),
    ("std::process::Command", "let _ = std::process::Command::new(\"a\");"),
    ("std::collections::HashMap", "let _ = std::collections::HashMap::<u8, u8>::new();"),
];

/// What clippy says about `statements`, with the `clippy.toml` of `folder`.
fn clippy(folder: &str, statements: &[(&str, &str)]) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("planted.rs");
    let lines: Vec<&str> = statements.iter().map(|(_, line)| *line).collect();
    std::fs::write(&source, format!("pub fn planted() {{ {} }}", lines.join("\n"))).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = Command::new("clippy-driver")
        .env("CLIPPY_CONF_DIR", root.join(folder))
        .args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "--out-dir"])
        .arg(scratch.path())
        .args(["-Dclippy::disallowed_methods", "-Dclippy::disallowed_types"])
        .arg(&source)
        .output()
        .unwrap();
    String::from_utf8(output.stderr).unwrap()
}

/// Each planted call is refused by name, with the `clippy.toml` of `folder`.
fn check(folder: &str, statements: &[(&str, &str)]) {
    let said = clippy(folder, statements);
    for (path, _) in statements {
        assert!(said.contains(&format!("`{path}`")), "{path} passes in {folder}:\n{said}");
    }
}

#[test]
fn no_crate_may_sleep_rename_or_exit() {
    for folder in [".", "crates/model", "crates/sim"] {
        check(folder, &EVERYWHERE);
    }
}

#[test]
fn engines_touch_nothing_and_read_no_clock() {
    for folder in ["crates/model", "crates/content", "crates/agent-core", "crates/site-core"] {
        check(folder, &ENGINES);
    }
}

#[test]
fn shells_may_read_files() {
    assert!(
        !clippy(".", &[("std::fs::read", "let _ = std::fs::read(\"a\");")]).contains("disallowed")
    );
}
