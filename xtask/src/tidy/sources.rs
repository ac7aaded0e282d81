//! Rules for Rust sources: their size, their first line, nothing unfinished, `unsafe` only where a
//! decision note argues for it.

use crate::tree::Tree;

/// 100 to 300 lines are one sitting, 500 is full; past this a file must be split by noun.
const FILE_LINES_MAX: usize = 600;

/// Marks of unfinished work, in pieces so that this file is no finding.
const UNFINISHED: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("to", "do!("),
    concat!("un", "implemented!("),
];

/// The files that may hold `unsafe`, each with the decision note that says why.
const UNSAFE_FILES: [(&str, &str); 0] = [];

/// No source in `crates/` is longer than [`FILE_LINES_MAX`].
pub(super) fn file_size(tree: &Tree) -> Vec<String> {
    let sources = tree.ending(".rs").filter(|(path, _)| path.starts_with("crates/"));
    sources
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(path, lines)| {
            format!("{path}: {lines} lines, the limit is {FILE_LINES_MAX}; split it by noun")
        })
        .collect()
}

/// What is not finished is a known gap or an issue, not a mark in a source.
pub(super) fn nothing_unfinished(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.ending(".rs") {
        for (number, line) in text.lines().enumerate() {
            if let Some(mark) = UNFINISHED.iter().find(|mark| line.contains(**mark)) {
                found.push(format!(
                    "{path}:{}: `{mark}`; finish it, or name it in docs/known-gaps.md",
                    number + 1
                ));
            }
        }
    }
    found
}

/// Every module starts with its promise; the tests of a module, in a file of their own, share that
/// module's.
pub(super) fn module_doc(tree: &Tree) -> Vec<String> {
    let sources = tree.ending(".rs").filter(|(path, _)| path.contains("/src/"));
    sources
        .filter(|(path, _)| !path.ends_with("/tests.rs"))
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| format!("{path}: does not start with `//!` and the module's promise"))
        .collect()
}

/// `unsafe` stands in the files of [`UNSAFE_FILES`] and nowhere else, and each of them still needs it.
pub(super) fn unsafe_only_where_decided(tree: &Tree) -> Vec<String> {
    unsafe_only_in(tree, &UNSAFE_FILES)
}

fn unsafe_only_in(tree: &Tree, decided: &[(&str, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.ending(".rs") {
        let note = decided.iter().find(|(file, _)| *file == path).map(|(_, note)| *note);
        let first = text.lines().position(has_unsafe).map(|index| index + 1);
        match (first, note) {
            (Some(line), None) => {
                found.push(format!(
                    "{path}:{line}: `unsafe` without a decision note; see UNSAFE_FILES in xtask"
                ));
            }
            (None, Some(_)) => found
                .push(format!("{path}: no `unsafe` is left; take it off UNSAFE_FILES in xtask")),
            (Some(_), Some(note)) if !tree.has(note) => {
                found.push(format!("{path}: its decision note {note} is missing"));
            }
            _ => {}
        }
    }
    found
}

/// Whether a line of code opens something unsafe. A comment, or the lint's name, does not.
fn has_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices(concat!("un", "safe")).any(|(at, word)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].trim_start();
        !before.is_some_and(|c| c.is_alphanumeric() || "_\"`".contains(c))
            && ["{", "fn ", "impl", "extern", "trait "].iter().any(|next| after.starts_with(next))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "crates/host/src/lock.rs";

    /// The number of findings of `rule` for one source.
    fn check(rule: fn(&Tree) -> Vec<String>, text: &str) -> usize {
        rule(&Tree::of(&[(FILE, text)])).len()
    }

    #[test]
    fn a_file_over_the_limit_is_found() {
        assert_eq!(check(file_size, &"x\n".repeat(FILE_LINES_MAX + 1)), 1);
        assert_eq!(check(file_size, &"x\n".repeat(FILE_LINES_MAX)), 0);
    }

    #[test]
    fn unfinished_work_is_found() {
        for mark in UNFINISHED {
            assert_eq!(
                check(nothing_unfinished, &format!("fn a() {{}}\n// {mark} later\n")),
                1,
                "{mark}"
            );
        }
        assert_eq!(check(nothing_unfinished, "// what is left to do is nothing\n"), 0);
    }

    #[test]
    fn a_module_without_its_promise_is_found() {
        assert_eq!(check(module_doc, "use std::fs;\n"), 1);
        assert_eq!(check(module_doc, "//! Locks that outlive their taker.\n"), 0);
    }

    const UNSAFE_LINE: &str = concat!("let x = un", "safe { f() };\n");

    #[test]
    fn a_block_without_a_note_is_found() {
        assert_eq!(check(unsafe_only_where_decided, UNSAFE_LINE), 1);
        assert_eq!(check(unsafe_only_where_decided, concat!("un", "safe fn f() {}")), 1);
        assert_eq!(
            check(
                unsafe_only_where_decided,
                concat!("#![forbid(un", "safe_code)] // un", "safe { }")
            ),
            0
        );
    }

    #[test]
    fn a_block_needs_its_note_and_a_note_its_block() {
        let note = "docs/decisions/0099-lock.md";
        let with_note = |text| Tree::of(&[(FILE, text), (note, "why")]);
        assert_eq!(unsafe_only_in(&with_note(UNSAFE_LINE), &[(FILE, note)]).len(), 0);
        assert_eq!(unsafe_only_in(&with_note("fn f() {}"), &[(FILE, note)]).len(), 1);
        assert_eq!(unsafe_only_in(&Tree::of(&[(FILE, UNSAFE_LINE)]), &[(FILE, note)]).len(), 1);
    }
}
