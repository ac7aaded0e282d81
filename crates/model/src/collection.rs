//! Collections: the machines meant.
//!
//! The algebra is `((members + query + include) within limitTo) minus exclude`.

use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::parameter::{PARAMETERS_MAX, Values};
use crate::problem::{Checks, Problem};

/// Members named one by one in one collection; larger sets are a query.
pub const MEMBERS_MAX: usize = 100_000;
/// Collections named in `include` or `exclude`.
pub const LINKS_MAX: usize = 256;
/// Bytes in one query.
pub const QUERY_BYTES_MAX: usize = 8 * 1024;

/// The collection that always exists and holds every admitted device.
pub const ALL: &str = "all";

/// `kind: Collection`, `spec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CollectionSpec {
    /// Devices by name. A name that no device bears is shown as unresolved.
    #[serde(default)]
    pub members: Vec<Name>,
    /// A rule over device facts, in CEL's syntax. Absent or empty: no device by rule.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub query: String,
    /// Collections whose members are members here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<Name>,
    /// Collections whose members are never members here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Name>,
    /// Only members of this collection can be members here.
    #[serde(default = "all", skip_serializing_if = "is_all")]
    pub limit_to: Name,
    /// Values of parameters, for each program that has one of that name and is advertised to this
    /// collection.
    #[serde(default, skip_serializing_if = "Values::is_empty")]
    pub parameters: Values,
}

#[expect(clippy::expect_used, reason = "a constant that a test reads as a name")]
fn all() -> Name {
    Name::new(ALL).expect("`all` is a name")
}

fn is_all(name: &Name) -> bool {
    name.as_str() == ALL
}

impl CollectionSpec {
    /// The collections that this one names, each once.
    pub fn links(&self) -> Vec<&Name> {
        let mut links: Vec<&Name> =
            self.include.iter().chain(&self.exclude).chain([&self.limit_to]).collect();
        links.sort();
        links.dedup();
        links
    }

    /// Every fault of the spec that can be seen without other objects. The query is parsed by its
    /// plan.
    pub fn check(&self) -> Vec<Problem> {
        let mut checks = Checks::new();
        checks.range("spec.members", "members", self.members.len(), 0, MEMBERS_MAX);
        checks.range("spec.include", "collections", self.include.len(), 0, LINKS_MAX);
        checks.range("spec.exclude", "collections", self.exclude.len(), 0, LINKS_MAX);
        checks.range("spec.query", "bytes", self.query.len(), 0, QUERY_BYTES_MAX);
        if let Some(both) = self.include.iter().find(|name| self.exclude.contains(name)) {
            checks.that(
                false,
                "spec.exclude",
                &format!("`{both}` stands in include and exclude: it could never add a member"),
            );
        }
        checks.range("spec.parameters", "values", self.parameters.len(), 0, PARAMETERS_MAX);
        checks.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_collection_is_empty_and_within_all() {
        let spec: CollectionSpec = serde_json::from_str("{}").unwrap();
        assert_eq!((spec.members.len(), spec.limit_to.as_str()), (0, "all"));
        assert_eq!(spec.check(), []);
    }

    #[test]
    fn include_and_exclude_of_one_collection_contradict() {
        let spec: CollectionSpec =
            serde_json::from_str(r#"{"include":["a"],"exclude":["a"]}"#).unwrap();
        assert_eq!(spec.check()[0].field, "spec.exclude");
    }
}
