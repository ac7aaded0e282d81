//! Durable points: what makes something durable names a point, and each point has both its sides.
//!
//! The tests kill a process at every point of the list in `host`. These two rules see to it that the
//! list cannot lag behind the code.

use crate::tree::Tree;

/// The list of durable points.
const POINTS: &str = "crates/host/src/failpoint/point.rs";
/// The crates whose processes are killed by tests.
const SHELLS: [&str; 4] = ["host", "agent", "access-point", "site"];
/// What makes something durable, in the standard library and in rustix.
const PRIMITIVES: [&str; 8] = [
    ".sync_all(",
    ".sync_data(",
    "syncfs(",
    "fsync(",
    "fdatasync(",
    "fs::rename(",
    "fs::hard_link(",
    "renameat",
];
/// Commits, in files that speak to a database themselves.
const COMMIT: &str = ".commit()";
const DATABASES: [&str; 2] = ["rusqlite", "sqlx"];

/// A function that syncs, renames, links or commits names a durable point on both of its sides.
pub(super) fn each_write_names_a_point(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.ending(".rs").filter(|(path, _)| is_of_a_shell(path)) {
        let commits = DATABASES.iter().any(|database| text.contains(database));
        for (number, body) in functions(product_of(text)) {
            let code = without_comments(body);
            let makes_durable = PRIMITIVES.iter().any(|primitive| code.contains(primitive))
                || commits && code.contains(COMMIT);
            let named = code.contains("When::Before") && code.contains("When::After");
            if makes_durable && !named {
                found.push(format!(
                    "{path}:{number}: makes something durable without failpoint::hit before and \
                     after; name a point, in {POINTS} if it is a new one"
                ));
            }
        }
    }
    found
}

/// Each point is hit before and after, somewhere.
pub(super) fn each_point_is_hit(tree: &Tree) -> Vec<String> {
    let Some(list) = tree.text(POINTS) else { return Vec::new() };
    let code: Vec<String> = tree
        .ending(".rs")
        .filter(|(path, _)| is_of_a_shell(path) && *path != POINTS)
        .map(|(_, text)| without_comments(product_of(text)))
        .collect();
    let points = list.lines().filter_map(|line| {
        let (point, name) = line.trim().split_once(" = \"")?;
        Some((point, name.strip_suffix("\";")?))
    });
    let missing = points.filter(|(point, _)| {
        let word = format!("Point::{point}");
        !code.iter().any(|text| text.contains(&word) && text.contains("When::After"))
    });
    missing.map(|(_, name)| format!("{POINTS}: nobody hits {name}; take it off the list")).collect()
}

fn is_of_a_shell(path: &str) -> bool {
    let within = |name: &&str| path.starts_with(&format!("crates/{name}/src/"));
    SHELLS.iter().any(within) && !path.contains("tests")
}

/// A source without its unit tests.
fn product_of(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Every function with the number of its first line; what follows it up to the next counts as its own.
fn functions(text: &str) -> Vec<(usize, &str)> {
    let lines: Vec<(usize, usize)> = text
        .match_indices("fn ")
        .filter(|(at, _)| begins_a_function(&text[..*at]))
        .map(|(at, _)| (text[..at].lines().count().max(1), at))
        .collect();
    let ends = lines.iter().skip(1).map(|(_, at)| *at).chain([text.len()]);
    lines.iter().zip(ends).map(|((number, at), end)| (*number, &text[*at..end])).collect()
}

/// Whether `fn` after `before` is the word that begins a function: only modifiers stand on its line.
fn begins_a_function(before: &str) -> bool {
    let line = before.rsplit('\n').next().unwrap_or_default();
    line.split_whitespace().all(|word| {
        word.starts_with("pub") || word.ends_with(')') || ["async", "const", "in"].contains(&word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "crates/agent/src/journal.rs";

    fn writes(text: &str) -> usize {
        each_write_names_a_point(&Tree::of(&[(FILE, text)])).len()
    }

    #[test]
    fn a_write_that_names_no_point_is_found() {
        let hit = "hit(Point::A, When::Before);\nhit(Point::A, When::After);\n";
        assert_eq!(writes("fn a() {\n    file.sync_all();\n}\n"), 1);
        assert_eq!(writes(&format!("fn a() {{\n    file.sync_all();\n{hit}}}\n")), 0);
        assert_eq!(writes(&format!("fn a() {{ file.sync_all(); }}\nfn b() {{ {hit} }}\n")), 1);
        assert_eq!(
            writes("fn a() {\n    hit(Point::A, When::Before);\n    fs::rename(a, b);\n}\n"),
            1
        );
        assert_eq!(writes("// file.sync_all()\n"), 0);
    }

    #[test]
    fn a_commit_counts_where_a_database_is_spoken_to() {
        assert_eq!(writes("use rusqlite::Transaction;\npub(crate) fn a() { t.commit() }\n"), 1);
        assert_eq!(writes("fn a() { change.commit() }\n"), 0);
    }

    #[test]
    fn tests_may_do_as_they_like() {
        assert_eq!(writes("#[cfg(test)]\nmod tests { fn a() { file.sync_all(); } }\n"), 0);
    }

    #[test]
    fn a_point_that_nobody_hits_is_found() {
        let list = "    Commit = \"journal.commit\";\n";
        let hit = "fn a() { hit(Point::Commit, When::Before); hit(Point::Commit, When::After); }";
        assert_eq!(each_point_is_hit(&Tree::of(&[(POINTS, list)])).len(), 1);
        assert!(each_point_is_hit(&Tree::of(&[(POINTS, list), (FILE, hit)])).is_empty());
    }
}
