//! Who may import whom: imports only point down, and two crates on one floor never import each other.

use super::dependencies::{dependencies, manifest_path};
use crate::tree::Tree;

/// A step of the house; imports point to a lower one. `Host` is the lower half of floor 3: what the
/// shells share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Nouns,
    Engines,
    Host,
    Shells,
    Binary,
    /// Stands beside the house: imports what is named here, imported by nobody.
    Beside(&'static [&'static str]),
}

/// Every crate by its folder's name. A crate that is not here is a finding: it has no floor yet.
const HOUSE: [(&str, Step); 12] = [
    ("model", Step::Nouns),
    ("content", Step::Engines),
    ("agent-core", Step::Engines),
    ("site-core", Step::Engines),
    ("host", Step::Host),
    // A disk for tests, as deep as the one door to disk.
    ("amnesia", Step::Host),
    ("agent", Step::Shells),
    ("access-point", Step::Shells),
    ("site", Step::Shells),
    ("muster", Step::Binary),
    // The simulator runs the engines and the relay.
    ("sim", Step::Beside(&["model", "content", "agent-core", "site-core", "access-point"])),
    // The load generator stands in for devices, and writes rows for a site that does not run.
    ("bench", Step::Beside(&["model", "site-core", "host", "site"])),
];

fn step_of(folder: &str) -> Option<Step> {
    HOUSE.iter().find(|(name, _)| *name == folder).map(|(_, step)| *step)
}

/// Whether a crate is on floor 1 or 2, where decisions are made and nothing is touched.
pub(super) fn decides_only(folder: &str) -> bool {
    step_of(folder).is_some_and(|step| step <= Step::Engines)
}

/// Imports only point down.
pub(super) fn import_direction(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for folder in tree.crates() {
        let path = manifest_path(folder);
        let Some(step) = step_of(folder) else {
            found.push(format!("{path}: crate `{folder}` has no floor; name it in xtask's HOUSE"));
            continue;
        };
        for dependency in dependencies(tree, &path) {
            let Some(target) = house_name(&dependency.name) else { continue };
            if target != folder && !may_import(step, target) {
                found.push(format!(
                    "{path}: `{folder}` may not import `{target}`: imports only point down"
                ));
            }
        }
    }
    found
}

fn may_import(step: Step, target: &str) -> bool {
    match (step, step_of(target)) {
        (_, None | Some(Step::Beside(_))) => false,
        (Step::Beside(allowed), Some(_)) => allowed.contains(&target),
        (step, Some(target)) => target < step,
    }
}

/// `muster-agent-core` stands in the folder `agent-core`, `muster` in `muster`.
fn house_name(dependency: &str) -> Option<&str> {
    if dependency == "muster" { Some(dependency) } else { dependency.strip_prefix("muster-") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The findings for one crate whose manifest has these lines.
    fn check(folder: &str, lines: &str) -> usize {
        import_direction(&Tree::of(&[(manifest_path(folder).as_str(), lines)])).len()
    }

    fn imports(folder: &str, target: &str) -> usize {
        check(folder, &format!("[dependencies]\n{target}.workspace = true"))
    }

    #[test]
    fn an_import_down_the_house_is_allowed() {
        for (folder, target) in [
            ("content", "muster-model"),
            ("agent", "muster-host"),
            ("muster", "muster-site"),
            ("sim", "muster-access-point"),
            ("bench", "muster-site"),
        ] {
            assert_eq!(imports(folder, target), 0, "{folder} imports {target}");
        }
    }

    #[test]
    fn an_import_up_or_across_is_found() {
        for (folder, target) in [
            ("model", "muster-content"),
            ("content", "muster-site-core"),
            ("host", "muster-agent"),
            ("agent", "muster-site"),
            ("site", "muster"),
            ("sim", "muster-host"),
            ("muster", "muster-sim"),
            ("bench", "muster-agent"),
        ] {
            assert_eq!(imports(folder, target), 1, "{folder} imports {target}");
        }
    }

    #[test]
    fn an_import_for_tests_or_one_platform_counts_too() {
        for table in ["dev-dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"] {
            let lines = format!("[{table}]\nmuster-site.workspace = true");
            assert_eq!(check("agent", &lines), 1, "{table}");
        }
    }

    #[test]
    fn a_crate_without_a_floor_is_found() {
        assert_eq!(check("attic", ""), 1);
    }
}
