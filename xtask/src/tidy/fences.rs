//! The fences themselves: every crate refuses `unsafe`, and the `clippy.toml` files, which clippy
//! does not merge, say the same where they must.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::imports::decides_only;
use crate::tree::Tree;

/// The lists of a `clippy.toml` that are compared.
const BANS: [&str; 2] = ["disallowed-methods", "disallowed-types"];

/// Floors 1 and 2 forbid `unsafe` in their `lib.rs`; every crate takes the workspace's lints, which
/// deny it.
pub(super) fn unsafe_is_refused(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    let root = lint_level(tree, "Cargo.toml", &["workspace", "lints", "rust", "unsafe_code"]);
    if root.as_ref().and_then(Value::as_str) != Some("deny") {
        found
            .push("Cargo.toml: [workspace.lints.rust] must have unsafe_code = \"deny\"".to_owned());
    }
    for (path, _) in tree.ending("/Cargo.toml") {
        let inherited = lint_level(tree, path, &["lints", "workspace"]);
        if inherited.and_then(|value| value.as_bool()) != Some(true) {
            found.push(format!(
                "{path}: does not take the workspace's lints; add [lints] workspace = true"
            ));
        }
    }
    for folder in tree.crates().filter(|folder| decides_only(folder)) {
        let path = format!("crates/{folder}/src/lib.rs");
        if !tree.text(&path).is_some_and(|text| text.contains("#![forbid(unsafe_code)]")) {
            found.push(format!("{path}: floors 1 and 2 start with #![forbid(unsafe_code)]"));
        }
    }
    found
}

fn lint_level(tree: &Tree, path: &str, keys: &[&str]) -> Option<Value> {
    let manifest = Value::Table(tree.text(path)?.parse::<Table>().ok()?);
    keys.iter().try_fold(manifest, |value, key| value.get(key).cloned())
}

/// A crate's own `clippy.toml` repeats every ban of the root's; floors 1 and 2 have one file in
/// several places.
pub(super) fn bans_agree(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    let everywhere = bans(tree, "clippy.toml");
    for path in tree.crates().map(ban_path).filter(|path| tree.text(path).is_some()) {
        let own = bans(tree, &path);
        for (ban, reason) in everywhere.iter().filter(|(ban, reason)| own.get(*ban) != Some(reason))
        {
            found.push(format!("{path}: lacks the root's ban on `{ban}` ({reason})"));
        }
    }
    let mut floors = tree.crates().filter(|folder| decides_only(folder)).map(ban_path);
    let Some(first) = floors.next() else { return found };
    if tree.text(&first).is_none() {
        found.push(format!("{first}: is missing; floors 1 and 2 have the stricter bans"));
    }
    for path in floors.filter(|path| tree.text(path) != tree.text(&first)) {
        found.push(format!("{path}: differs from {first}; floors 1 and 2 have the same bans"));
    }
    found
}

fn ban_path(folder: &str) -> String {
    format!("crates/{folder}/clippy.toml")
}

/// Banned path -> reason, over both lists. Without a reason the text is empty, which no root ban is.
fn bans(tree: &Tree, path: &str) -> BTreeMap<String, String> {
    let file = tree.text(path).and_then(|text| text.parse::<Table>().ok()).unwrap_or_default();
    let entries = BANS.iter().filter_map(|list| file.get(*list)?.as_array()).flatten();
    let word =
        |entry: &Value, key| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    entries.map(|entry| (word(entry, "path"), word(entry, "reason"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: (&str, &str) = ("Cargo.toml", "[workspace.lints.rust]\nunsafe_code = \"deny\"");
    const MEMBER: &str = "[lints]\nworkspace = true";
    const FORBID: &str = "//! Doc.\n#![forbid(unsafe_code)]\n";

    /// The number of findings of `rule` in a tree of these files.
    fn check(rule: fn(&Tree) -> Vec<String>, files: &[(&str, &str)]) -> usize {
        rule(&Tree::of(files)).len()
    }

    #[test]
    fn a_crate_that_refuses_unsafe_is_no_finding() {
        let files =
            [ROOT, ("crates/model/Cargo.toml", MEMBER), ("crates/model/src/lib.rs", FORBID)];
        assert_eq!(check(unsafe_is_refused, &files), 0);
    }

    #[test]
    fn each_way_to_allow_unsafe_is_found() {
        let manifest = ("crates/model/Cargo.toml", MEMBER);
        let source = ("crates/model/src/lib.rs", FORBID);
        let laxer = ("crates/model/src/lib.rs", "//! Doc.\n#![deny(unsafe_code)]\n");
        assert_eq!(check(unsafe_is_refused, &[ROOT, manifest, laxer]), 1, "deny on floor 1");
        assert_eq!(check(unsafe_is_refused, &[manifest, source]), 1, "no lints in the root");
        assert_eq!(
            check(unsafe_is_refused, &[ROOT, ("crates/site/Cargo.toml", "")]),
            1,
            "no lints taken"
        );
    }

    fn ban(path: &str) -> String {
        format!("disallowed-methods = [{{ path = \"{path}\", reason = \"why\" }}]")
    }

    #[test]
    fn a_ban_that_a_crate_forgot_is_found() {
        let (root, own) = (ban("std::fs::rename"), ban("std::fs::read"));
        let files = [
            ("clippy.toml", &*root),
            ("crates/sim/Cargo.toml", ""),
            ("crates/sim/clippy.toml", &*own),
        ];
        assert_eq!(check(bans_agree, &files), 1);
        let same = [
            ("clippy.toml", &*root),
            ("crates/sim/Cargo.toml", ""),
            ("crates/sim/clippy.toml", &*root),
        ];
        assert_eq!(check(bans_agree, &same), 0);
    }

    #[test]
    fn floors_whose_bans_differ_or_are_missing_are_found() {
        let (one, two) = (ban("std::fs::read"), ban("std::fs::write"));
        let manifests = [("crates/model/Cargo.toml", ""), ("crates/content/Cargo.toml", "")];
        let apart = [
            manifests[0],
            manifests[1],
            ("crates/model/clippy.toml", &one),
            ("crates/content/clippy.toml", &two),
        ];
        assert_eq!(check(bans_agree, &apart), 1);
        assert_eq!(check(bans_agree, &apart[..3]), 2, "content has none, so model's differs");
        assert_eq!(check(bans_agree, &manifests), 1);
    }
}
