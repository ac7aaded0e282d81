//! Rules for other people's crates: versions stand in the root manifest only, each is argued in the
//! decision log, and floors 1 and 2 build on nothing that touches the world.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::imports::decides_only;
use crate::tree::Tree;

/// Where each dependency has its line: why, and what was the runner-up.
const LOG: &str = "docs/decisions/0005-dependencies.md";

/// What floors 1 and 2 may not build on: input and output, runtimes, clocks, random numbers. Their
/// tests may use what they like.
const REFUSED_IN_ENGINES: [&str; 18] = [
    "async-trait",
    "axum",
    "fastrand",
    "futures",
    "getrandom",
    "hyper",
    "libc",
    "nix",
    "rand",
    "reqwest",
    "ring",
    "rusqlite",
    "rustix",
    "rustls",
    "sqlx",
    "tempfile",
    "tokio",
    "tracing-subscriber",
];

/// One line of a manifest's dependency tables.
pub(super) struct Dependency {
    /// The table: `dependencies`, `dev-dependencies` or `build-dependencies`.
    kind: &'static str,
    pub(super) name: String,
    value: Value,
}

/// Every dependency of a manifest, those for one platform among them. A manifest that is not TOML
/// has none: cargo says so before a rule could.
pub(super) fn dependencies(tree: &Tree, path: &str) -> Vec<Dependency> {
    let manifest = parsed(tree, path);
    let platforms = manifest.get("target").and_then(Value::as_table).into_iter().flatten();
    let tables =
        std::iter::once(&manifest).chain(platforms.filter_map(|(_, value)| value.as_table()));
    let mut found = Vec::new();
    for table in tables {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let entries = table.get(kind).and_then(Value::as_table).into_iter().flatten();
            found.extend(entries.map(|(name, value)| Dependency {
                kind,
                name: name.clone(),
                value: value.clone(),
            }));
        }
    }
    found
}

pub(super) fn manifest_path(folder: &str) -> String {
    format!("crates/{folder}/Cargo.toml")
}

fn parsed(tree: &Tree, path: &str) -> Table {
    tree.text(path).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Floors 1 and 2 build on nothing that touches the world.
pub(super) fn none_refused_in_engines(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for folder in tree.crates().filter(|folder| decides_only(folder)) {
        let path = manifest_path(folder);
        for Dependency { kind, name, .. } in dependencies(tree, &path) {
            if kind != "dev-dependencies" && REFUSED_IN_ENGINES.contains(&name.as_str()) {
                found.push(format!(
                    "{path}: floors 1 and 2 do without `{name}`; leave it to a shell"
                ));
            }
        }
    }
    found
}

/// Each dependency is `x.workspace = true`: one version, argued once.
pub(super) fn versions_in_the_root_only(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, _) in tree.ending("/Cargo.toml") {
        for Dependency { kind, name, value } in dependencies(tree, path) {
            if value.get("workspace").and_then(Value::as_bool) != Some(true) {
                found.push(format!("{path}: `{name}` in [{kind}] names its own version; write `{name}.workspace = true`"));
            }
        }
    }
    found
}

/// Each crate that we did not write has its line in the decision log, and each line its crate.
pub(super) fn each_is_argued(tree: &Tree) -> Vec<String> {
    let (listed, argued) = (listed(tree), argued(tree));
    let missing = listed.difference(&argued).map(|name| format!("{LOG}: has no line for `{name}`"));
    let stale =
        argued.difference(&listed).map(|name| format!("{LOG}: `{name}` is no longer a dependency"));
    missing.chain(stale).collect()
}

/// Nothing stands in the root's dependency table that no crate takes.
pub(super) fn none_is_unused(tree: &Tree) -> Vec<String> {
    let manifests = tree.ending("/Cargo.toml").flat_map(|(path, _)| dependencies(tree, path));
    let taken: BTreeSet<String> = manifests.map(|dependency| dependency.name).collect();
    let unused = listed(tree).into_iter().filter(|name| !taken.contains(name));
    unused.map(|name| format!("Cargo.toml: no crate takes `{name}`; remove it")).collect()
}

/// Names in the root's dependency table that are not folders of ours.
fn listed(tree: &Tree) -> BTreeSet<String> {
    let manifest = parsed(tree, "Cargo.toml");
    let table = manifest.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    let entries = table.and_then(Value::as_table).into_iter().flatten();
    entries.filter(|(_, value)| value.get("path").is_none()).map(|(name, _)| name.clone()).collect()
}

/// Names between code marks in the first column of the log's table.
fn argued(tree: &Tree) -> BTreeSet<String> {
    let rows =
        tree.text(LOG).unwrap_or_default().lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.filter_map(|row| row.split(" |").next());
    names
        .flat_map(|column| column.split(", "))
        .map(|name| name.trim_matches('`').to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of findings of `rule` for one crate whose manifest has these lines.
    fn check(rule: fn(&Tree) -> Vec<String>, folder: &str, lines: &str) -> usize {
        rule(&Tree::of(&[(manifest_path(folder).as_str(), lines)])).len()
    }

    #[test]
    fn a_runtime_in_an_engine_is_found_but_not_in_its_tests() {
        let lines = |table| format!("[{table}]\ntokio.workspace = true");
        assert_eq!(check(none_refused_in_engines, "agent-core", &lines("dependencies")), 1);
        assert_eq!(check(none_refused_in_engines, "agent-core", &lines("dev-dependencies")), 0);
        assert_eq!(check(none_refused_in_engines, "agent", &lines("dependencies")), 0);
    }

    #[test]
    fn a_version_outside_the_root_is_found() {
        let lines =
            "[dependencies]\nserde = \"1\"\nhex.workspace = true\nuuid = { version = \"1\" }";
        assert_eq!(check(versions_in_the_root_only, "agent", lines), 2);
    }

    #[test]
    fn a_dependency_that_no_crate_takes_is_found() {
        let root = ("Cargo.toml", "[workspace.dependencies]\nserde = \"1\"\nhex = \"1\"");
        let manifest = ("crates/model/Cargo.toml", "[dependencies]\nserde.workspace = true");
        assert_eq!(none_is_unused(&Tree::of(&[root, manifest])).len(), 1);
    }

    #[test]
    fn a_dependency_and_its_line_need_each_other() {
        let argued = |log| {
            let root = "[workspace.dependencies]\nserde = \"1\"\nhex = \"1\"\nmuster-model = { path = \"m\" }";
            each_is_argued(&Tree::of(&[("Cargo.toml", root), (LOG, log)])).len()
        };
        assert_eq!(argued("| `serde`, `hex` | why | other |\n"), 0);
        assert_eq!(argued("| `serde` | why, not `hex` | other |\n"), 1);
        assert_eq!(argued("| `serde`, `hex` | why | other |\n| `md5` | why | other |\n"), 1);
    }
}
