//! No text of the project names a folder of the machine it was written on.

use crate::tree::Tree;

/// Where people and builders live, in pieces so that this file is no finding.
const MACHINE_FOLDERS: [&str; 5] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("/bui", "lds/"),
];

/// A relative path, a variable or a `--data DIR` works everywhere; an absolute one only here.
pub(super) fn no_machine_paths(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.texts() {
        for (number, line) in text.lines().enumerate() {
            if let Some(folder) = MACHINE_FOLDERS.iter().find(|folder| starts_a_path(line, folder))
            {
                found.push(format!(
                    "{path}:{}: a path below {folder} exists on one machine only",
                    number + 1
                ));
            }
        }
    }
    found
}

/// Whether `folder` begins an absolute path in the line, and is not the middle of a longer one.
fn starts_a_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| c.is_whitespace() || "\"'`(=:<[".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> usize {
        no_machine_paths(&Tree::of(&[("scripts/demo", text)])).len()
    }

    #[test]
    fn a_path_of_one_machine_is_found() {
        for folder in MACHINE_FOLDERS {
            assert_eq!(check(&format!("cd {folder}somewhere")), 1, "{folder}");
            assert_eq!(check(&format!("cache=\"{folder}x\"")), 1, "{folder}");
        }
    }

    #[test]
    fn the_middle_of_a_path_is_none() {
        for folder in MACHINE_FOLDERS {
            assert_eq!(
                check(&format!("$DIR{folder}x and https://example.org{folder}x")),
                0,
                "{folder}"
            );
        }
    }
}
