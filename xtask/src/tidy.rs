//! The rules of the house that a compiler does not know, each a function from the work tree to
//! findings. A finding is one line: where, what, and what to do instead.
//!
//! Run by `cargo xtask tidy` and by a test of this crate. A rule reads text and manifests only; what
//! needs types (disallowed calls) is clippy's, in the `clippy.toml` files, whose agreement is checked
//! here.

mod dependencies;
mod docs;
mod durable;
mod fences;
mod imports;
mod locks;
mod paths;
mod sources;

use crate::tree::Tree;

/// Everything in the tree that breaks a rule, sorted by place.
pub(crate) fn findings(tree: &Tree) -> Vec<String> {
    let rules = [
        imports::import_direction,
        dependencies::none_refused_in_engines,
        dependencies::versions_in_the_root_only,
        dependencies::each_is_argued,
        dependencies::none_is_unused,
        fences::unsafe_is_refused,
        fences::bans_agree,
        sources::file_size,
        sources::nothing_unfinished,
        sources::module_doc,
        sources::unsafe_only_where_decided,
        paths::no_machine_paths,
        docs::links_resolve,
        docs::named_paths_exist,
        docs::decisions_are_indexed,
        durable::each_write_names_a_point,
        durable::each_point_is_hit,
        locks::each_stands_in_the_order,
    ];
    let mut found: Vec<String> = rules.iter().flat_map(|rule| rule(tree)).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use crate::tree::Tree;

    #[test]
    fn the_house_is_tidy() {
        let found = super::findings(&Tree::load(crate::root()).unwrap());
        assert!(found.is_empty(), "{} findings:\n{}", found.len(), found.join("\n"));
    }
}
