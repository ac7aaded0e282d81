//! Objects as administrators write them: `apiVersion`, `kind`, `metadata`, `spec`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::advertisement::AdvertisementSpec;
use crate::collection::CollectionSpec;
use crate::name::Name;
use crate::package::PackageSpec;
use crate::problem::{Checks, Problem};
use crate::window::MaintenanceWindowSpec;

/// The version of the manifest format.
pub const API_VERSION: &str = "muster/v1";
/// Labels of one object.
pub const LABELS_MAX: usize = 64;
/// Characters in a label's value.
pub const LABEL_CHARS_MAX: usize = 256;

/// The kinds of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Software and its programs.
    Package,
    /// The machines meant.
    Collection,
    /// This program, for that collection.
    Advertisement,
    /// When the machines of a collection may start runs and restarts.
    MaintenanceWindow,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 4] =
        [Kind::Package, Kind::Collection, Kind::Advertisement, Kind::MaintenanceWindow];

    /// The word of the command line and of API paths.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Package => "package",
            Kind::Collection => "collection",
            Kind::Advertisement => "advertisement",
            Kind::MaintenanceWindow => "maintenance-window",
        }
    }
}

/// What every object has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Unique among the objects of its kind.
    pub name: Name,
    /// Free labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Name, String>,
    /// The name that the object had before: keeps its id and history through a rename.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formerly: Option<Name>,
}

/// An object's spec, by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// `kind: Package`.
    Package(PackageSpec),
    /// `kind: Collection`.
    Collection(CollectionSpec),
    /// `kind: Advertisement`.
    Advertisement(AdvertisementSpec),
    /// `kind: MaintenanceWindow`.
    MaintenanceWindow(Box<MaintenanceWindowSpec>),
}

/// A whole object, checked field by field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Name and labels.
    pub metadata: Metadata,
    /// What it says.
    pub spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    api_version: String,
    kind: String,
    metadata: serde_json::Value,
    spec: serde_json::Value,
    /// `get` answers it; `apply` of what `get` answered ignores it.
    #[serde(default)]
    #[expect(dead_code, reason = "accepted so that the answer of `get` can be applied")]
    status: Option<serde_json::Value>,
}

impl Object {
    /// The kind.
    pub fn kind(&self) -> Kind {
        match &self.spec {
            Spec::Package(_) => Kind::Package,
            Spec::Collection(_) => Kind::Collection,
            Spec::Advertisement(_) => Kind::Advertisement,
            Spec::MaintenanceWindow(_) => Kind::MaintenanceWindow,
        }
    }

    /// Reads one document. Every fault names its field; unknown fields are refused.
    pub fn from_value(document: serde_json::Value) -> Result<Self, Vec<Problem>> {
        let mut envelope: Envelope = typed("", document)?;
        if envelope.api_version != API_VERSION {
            let detail = format!("{:?}; this version reads {API_VERSION:?}", envelope.api_version);
            return Err(vec![Problem { field: "apiVersion".into(), detail }]);
        }
        // What `get` adds beside the name is the site's, not the author's.
        seen_revision(&envelope.metadata)?;
        if let Some(fields) = envelope.metadata.as_object_mut() {
            fields.remove("id");
            fields.remove("revision");
        }
        let metadata: Metadata = typed("metadata", envelope.metadata)?;
        let spec = match envelope.kind.as_str() {
            "Package" => Spec::Package(typed::<PackageSpec>("spec", envelope.spec)?.completed()),
            "Collection" => Spec::Collection(typed("spec", envelope.spec)?),
            "Advertisement" => Spec::Advertisement(typed("spec", envelope.spec)?),
            "MaintenanceWindow" => Spec::MaintenanceWindow(typed("spec", envelope.spec)?),
            other => {
                let detail = format!(
                    "{other:?}; known are Package, Collection, Advertisement, MaintenanceWindow"
                );
                return Err(vec![Problem { field: "kind".into(), detail }]);
            }
        };
        let object = Self { metadata, spec };
        let problems = object.check();
        if problems.is_empty() { Ok(object) } else { Err(problems) }
    }

    /// The revision of the object that a document was made from: `metadata.revision`, as `get` wrote
    /// it. `None`: the author did not look, or does not care what the object says now.
    pub fn expected_revision(document: &serde_json::Value) -> Option<u64> {
        document.get("metadata").and_then(|metadata| seen_revision(metadata).ok().flatten())
    }

    /// The document, fields in the order of this file: what `export` prints.
    pub fn to_value(&self) -> serde_json::Value {
        let spec = match &self.spec {
            Spec::Package(spec) => serde_json::to_value(spec),
            Spec::Collection(spec) => serde_json::to_value(spec),
            Spec::Advertisement(spec) => serde_json::to_value(spec),
            Spec::MaintenanceWindow(spec) => serde_json::to_value(spec),
        };
        serde_json::json!({
            "apiVersion": API_VERSION,
            "kind": self.kind(),
            "metadata": self.metadata,
            "spec": spec.unwrap_or_default(),
        })
    }

    fn check(&self) -> Vec<Problem> {
        let mut checks = Checks::new();
        checks.range("metadata.labels", "labels", self.metadata.labels.len(), 0, LABELS_MAX);
        for (name, value) in &self.metadata.labels {
            let field = format!("metadata.labels.{name}");
            checks.range(&field, "characters", value.chars().count(), 0, LABEL_CHARS_MAX);
        }
        let mut problems = checks.finish();
        problems.extend(match &self.spec {
            Spec::Package(spec) => spec.check(),
            Spec::Collection(spec) => spec.check(),
            Spec::Advertisement(spec) => spec.check(),
            Spec::MaintenanceWindow(spec) => spec.check(),
        });
        problems
    }
}

/// `revision` of a document's metadata.
fn seen_revision(metadata: &serde_json::Value) -> Result<Option<u64>, Vec<Problem>> {
    match metadata.get("revision") {
        None => Ok(None),
        Some(revision) => revision.as_u64().map(Some).ok_or_else(|| {
            let detail = format!("{revision}; it is the number that `get` wrote");
            vec![Problem { field: "metadata.revision".into(), detail }]
        }),
    }
}

/// Reads `value` as a `T`; a fault names its path below `at`.
fn typed<T: serde::de::DeserializeOwned>(
    at: &str,
    value: serde_json::Value,
) -> Result<T, Vec<Problem>> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let field = match (at, path.as_str()) {
            ("", path) => path.to_owned(),
            (at, ".") => at.to_owned(),
            (at, path) => format!("{at}.{path}"),
        };
        vec![Problem { field, detail: error.into_inner().to_string() }]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(document: serde_json::Value, field: &str, said: &str) {
        let problems = Object::from_value(document).unwrap_err();
        assert!(
            problems.iter().any(|p| p.field == field && p.detail.contains(said)),
            "{problems:#?}"
        );
    }

    fn collection(spec: serde_json::Value) -> serde_json::Value {
        serde_json::json!({"apiVersion": "muster/v1", "kind": "Collection",
            "metadata": {"name": "lab"}, "spec": spec})
    }

    #[test]
    fn faults_name_the_field() {
        check(collection(serde_json::json!({"member": []})), "spec.member", "unknown field");
        check(
            collection(serde_json::json!({"members": ["a", ""]})),
            "spec.members[1]",
            "least one",
        );
        check(
            serde_json::json!({"apiVersion": "v9", "kind": "Collection", "metadata": {}, "spec": {}}),
            "apiVersion",
            "muster/v1",
        );
        check(
            serde_json::json!({"apiVersion": "muster/v1", "kind": "Deployment",
            "metadata": {"name": "x"}, "spec": {}}),
            "kind",
            "known are",
        );
    }

    #[test]
    fn a_document_survives_the_round_trip() {
        let object = Object::from_value(collection(
            serde_json::json!({"members": ["d1"], "query": "device.os == 'linux'"}),
        ))
        .unwrap();
        assert_eq!(Object::from_value(object.to_value()).unwrap(), object);
    }
}
