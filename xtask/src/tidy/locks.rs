//! The agent's locks stand in a decision note, in the order in which they are taken.

use crate::tree::Tree;

/// The note with the order.
const NOTE: &str = "docs/decisions/0020-locks-and-durable-points.md";
/// What makes or takes a lock.
const LOCKS: [&str; 4] = ["Mutex<", "RwLock<", "flock(", "FolderLock::take"];

/// Every file of the agent with a lock is named in the note.
pub(super) fn each_stands_in_the_order(tree: &Tree) -> Vec<String> {
    let note = tree.text(NOTE).unwrap_or_default();
    let sources = tree.ending(".rs").filter(|(path, _)| path.starts_with("crates/agent/src/"));
    let product =
        sources.map(|(path, text)| (path, text.split("#[cfg(test)]").next().unwrap_or(text)));
    product
        .filter(|(path, _)| !path.contains("test"))
        .filter(|(_, text)| LOCKS.iter().any(|lock| text.contains(lock)))
        .filter(|(path, _)| !is_named(note, path))
        .map(|(path, _)| {
            format!("{path}: has a lock that {NOTE} does not name; where in the order?")
        })
        .collect()
}

/// By its path below `crates/`, or by its name where the folder was said just before.
fn is_named(note: &str, path: &str) -> bool {
    let short = path.trim_start_matches("crates/");
    let name = path.rsplit('/').next().unwrap_or(path);
    note.contains(short) || note.contains(&format!("`{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_the_note_does_not_name_is_found() {
        let check = |text: &str, note: &str| {
            let files = [("crates/agent/src/new.rs", text), (NOTE, note)];
            each_stands_in_the_order(&Tree::of(&files)).len()
        };
        assert_eq!(check("held: Mutex<()>,", "nothing"), 1);
        assert_eq!(check("held: Mutex<()>,", "(`agent/src/new.rs`)"), 0);
        assert_eq!(check("nothing", "nothing"), 0);
        assert_eq!(check("#[cfg(test)]\nmod t { held: Mutex<()> }", "nothing"), 0);
    }
}
