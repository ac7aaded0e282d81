//! Rules for the pages: every relative link and every path they name leads somewhere, every decision
//! is in the index.

use crate::tree::Tree;

const DECISIONS: &str = "docs/decisions/";

/// Where a path that a page names in code marks begins, if it is one of ours.
const OUR_FOLDERS: [&str; 5] = ["crates/", "docs/", "examples/", "scripts/", "xtask/"];

/// Every relative link of every page names a file or folder that is there, and a heading in it.
pub(super) fn links_resolve(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.ending(".md") {
        for (line, link) in links(text) {
            if let Some(problem) = problem_of(tree, path, &link) {
                found.push(format!("{path}:{line}: link `{link}` {problem}"));
            }
        }
    }
    found
}

/// Line numbers and targets of the inline links outside code.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Every second piece between backticks is code.
        for prose in line.split('`').step_by(2) {
            for piece in prose.split("](").skip(1) {
                let target = piece.split([')', ' ']).next().unwrap_or_default();
                found.push((index + 1, target.to_owned()));
            }
        }
    }
    found
}

/// A path between code marks is there, too; one with a placeholder (`NAME`, `*`) is none.
pub(super) fn named_paths_exist(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (page, text) in tree.ending(".md") {
        for (index, line) in text.lines().enumerate() {
            let marked = line.split('`').skip(1).step_by(2);
            for path in marked.filter(|path| is_our_path(path)) {
                if !tree.has(path.trim_end_matches('/')) {
                    found.push(format!("{page}:{}: `{path}` is not there", index + 1));
                }
            }
        }
    }
    found
}

fn is_our_path(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "/._-".contains(c);
    OUR_FOLDERS.iter().any(|folder| word.starts_with(folder)) && word.chars().all(plain)
}

fn problem_of(tree: &Tree, page: &str, link: &str) -> Option<&'static str> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { Some(page.to_owned()) } else { resolve(page, file) };
    let Some(target) = target.filter(|target| tree.has(target)) else {
        return Some("leads nowhere");
    };
    let headed =
        heading.is_empty() || tree.text(&target).is_none_or(|text| has_heading(text, heading));
    (!headed).then_some("names no heading of that page")
}

/// The path from the root that `link` means on `page`; nothing if it leaves the project.
fn resolve(page: &str, link: &str) -> Option<String> {
    let mut names: Vec<&str> = page.split('/').collect();
    names.pop();
    for name in link.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()?),
            name => names.push(name),
        }
    }
    Some(names.join("/"))
}

fn has_heading(text: &str, wanted: &str) -> bool {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .any(|line| anchor(line.trim_start_matches('#')) == wanted)
}

/// The anchor that renderers make of a heading: lower case, hyphens for spaces, no punctuation.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    heading
        .trim()
        .chars()
        .filter(kept)
        .flat_map(char::to_lowercase)
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// The index links every decision, and no two have one number.
pub(super) fn decisions_are_indexed(tree: &Tree) -> Vec<String> {
    let index = tree.text("docs/decisions/README.md").unwrap_or_default();
    let mut found = Vec::new();
    let mut before = "";
    for (path, _) in tree.ending(".md") {
        let Some(name) = path.strip_prefix(DECISIONS).filter(|name| *name != "README.md") else {
            continue;
        };
        if !index.contains(&format!("]({name})")) {
            found.push(format!("{path}: not in the index, docs/decisions/README.md"));
        }
        let number = name.split('-').next().unwrap_or_default();
        if number == before {
            found.push(format!("{path}: number {number} is taken by the decision before it"));
        }
        before = number;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of bad links on a page in `docs/`, beside a glossary with one heading.
    fn check(text: &str) -> usize {
        let glossary = ("docs/glossary.md", "# Words\n\n## Run, attempt\n");
        links_resolve(&Tree::of(&[("docs/page.md", text), glossary, ("LICENSE", "")])).len()
    }

    #[test]
    fn a_link_that_leads_somewhere_is_no_finding() {
        assert_eq!(
            check("[g](glossary.md) [l](../LICENSE) [d](../docs) [r](glossary.md#run-attempt)"),
            0
        );
        assert_eq!(check("[out](https://example.org/x) [mail](mailto:a@example.org)"), 0);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        assert_eq!(check("[g](glossery.md)"), 1);
        assert_eq!(check("[g](../../LICENSE)"), 1);
        assert_eq!(check("[g](glossary.md#runs) and [h](#nothing)"), 2);
    }

    #[test]
    fn a_named_path_that_is_not_there_is_found() {
        let named =
            |text| named_paths_exist(&Tree::of(&[("a.md", text), ("docs/glossary.md", "")])).len();
        assert_eq!(named("see `docs/glossery.md`"), 1);
        assert_eq!(
            named("see `docs/glossary.md`, `docs/`, `docs/NAME.md`, `crates/*/x` and docs/y"),
            0
        );
    }

    #[test]
    fn code_holds_no_links() {
        assert_eq!(check("`a[i](x)`\n```rust\nlet f = t[0](nowhere);\n```\n"), 0);
    }

    #[test]
    fn a_decision_outside_the_index_or_with_a_taken_number_is_found() {
        let index = ("docs/decisions/README.md", "[one](0001-a.md) [two](0001-b.md)");
        let decisions = [index, ("docs/decisions/0001-a.md", ""), ("docs/decisions/0001-b.md", "")];
        assert_eq!(decisions_are_indexed(&Tree::of(&decisions)).len(), 1);
        let lost = [index, ("docs/decisions/0001-a.md", ""), ("docs/decisions/0002-c.md", "")];
        assert_eq!(decisions_are_indexed(&Tree::of(&lost)).len(), 1);
    }
}
