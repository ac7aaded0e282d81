//! The JSON Schema (2020-12) of manifests: what an editor or a pipeline can check before `apply` does.
//!
//! Served at `/api/v1/schema` and printed by `muster schema`. It is never stricter than
//! [`Object::from_value`](crate::object::Object::from_value) about a single field; what two fields or
//! two objects say together, `apply` alone judges. A test holds the two against each other.

use serde_json::{Value, json};

use crate::collection::{LINKS_MAX, MEMBERS_MAX, QUERY_BYTES_MAX};
use crate::name::NAME_CHARS_MAX;
use crate::object::{API_VERSION, LABEL_CHARS_MAX, LABELS_MAX};
use crate::package::{PROGRAMS_MAX, VERSION_CHARS_MAX};

mod advertisement;
mod program;

/// The whole schema, for one document.
pub fn schema() -> Value {
    let of_kind = |kind: &str, spec: &str| {
        json!({
            "if": {"properties": {"kind": {"const": kind}}},
            "then": {"properties": {"spec": {"$ref": format!("#/$defs/{spec}")}}},
        })
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": format!("urn:muster:schema:{API_VERSION}"),
        "title": "Muster manifest",
        "description": "One document of `muster apply`. What two fields or two objects say together \
            is checked by `apply --dry-run`.",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"enum": ["Package", "Collection", "Advertisement", "MaintenanceWindow"]},
            "metadata": {"$ref": "#/$defs/metadata"},
            "spec": true,
            "status": {"description": "What `get` adds; `apply` ignores it."},
        },
        "allOf": [
            of_kind("Package", "package"),
            of_kind("Collection", "collection"),
            of_kind("Advertisement", "advertisement"),
            of_kind("MaintenanceWindow", "maintenanceWindow"),
        ],
        "$defs": {
            "name": name(),
            "period": {
                "description": "A length of time: 90s, 10m, 24h, 30d, 1h 30m.",
                "type": "string",
                "pattern": r"^\s*([0-9]+(ms|s|m|h|d)\s*)+$",
            },
            "time": {
                "description": "An instant: 2027-01-31T08:00:00Z.",
                "type": "string",
                "pattern": "^[-+]?[0-9]{4,6}-?[0-9]{2}-?[0-9]{2}[Tt ]",
            },
            "metadata": metadata(),
            "package": package(),
            "program": program::program(),
            "detection": program::detection(),
            "collection": collection(),
            "advertisement": advertisement::advertisement(),
            "assignment": advertisement::assignment(),
            "maintenanceWindow": advertisement::maintenance_window(),
            "notice": program::notice(),
            "parameter": program::parameter(),
            "values": program::values(),
        },
    })
}

fn name() -> Value {
    json!({
        "description": "Unique among its kind; no control character, no `/`, no blank at an end.",
        "type": "string",
        "minLength": 1,
        "maxLength": NAME_CHARS_MAX,
        "pattern": r"^(?!\s)[^/\u0000-\u001f\u007f-\u009f]+(?<!\s)$",
    })
}

fn named(to: &str) -> Value {
    json!({"$ref": format!("#/$defs/{to}")})
}

/// As `of`, or `null`, which says nothing.
fn maybe(of: Value) -> Value {
    json!({"anyOf": [of, {"type": "null"}]})
}

fn list(of: &str, least: usize, most: usize) -> Value {
    json!({"type": "array", "items": named(of), "minItems": least, "maxItems": most})
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn metadata() -> Value {
    json!({
        "type": "object",
        "required": ["name"],
        "additionalProperties": false,
        "properties": {
            "name": named("name"),
            "labels": {
                "type": "object",
                "maxProperties": LABELS_MAX,
                "propertyNames": named("name"),
                "additionalProperties": {"type": "string", "maxLength": LABEL_CHARS_MAX},
            },
            "formerly": maybe(named("name")),
            "id": {"description": "What `get` adds; `apply` ignores it."},
            "revision": {
                "description": "What `get` adds. `apply` of a document that bears it is refused if \
                    the object changed meanwhile.",
                "type": "integer",
                "minimum": 0,
            },
        },
    })
}

fn package() -> Value {
    json!({
        "type": "object",
        "required": ["version"],
        "anyOf": [{"required": ["programs"]}, {"required": ["agentRelease"]}],
        "additionalProperties": false,
        "properties": {
            "version": {
                "description": "Compared byte for byte; put numbers in quotes.",
                "type": "string",
                "minLength": 1,
                "maxLength": VERSION_CHARS_MAX,
                "pattern": r"^[^@/\u0000-\u001f\u007f-\u009f]*$",
            },
            "content": maybe(text("A folder or file beside the manifest, or the digest that \
                `export` writes.")),
            "programs": list("program", 1, PROGRAMS_MAX),
            "detection": maybe(named("detection")),
            "supersedes": {"type": "array", "items": named("name")},
            "description": text("A line for people."),
            "agentRelease": maybe(json!({
                "description": "The content is the agent's own program, a file called `muster`: who \
                    is meant takes it up. Its version is numbers between dots.",
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "downgrade": {
                        "description": "It may take the place of a newer version.",
                        "type": "boolean",
                    },
                },
            })),
        },
    })
}

fn collection() -> Value {
    json!({
        "description": "((members + query + include) within limitTo) minus exclude.",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "members": list("name", 0, MEMBERS_MAX),
            "query": {
                "description": "A rule in CEL's syntax: device.os == 'linux'.",
                "type": "string",
                "maxLength": QUERY_BYTES_MAX,
            },
            "include": list("name", 0, LINKS_MAX),
            "exclude": list("name", 0, LINKS_MAX),
            "limitTo": named("name"),
            "parameters": named("values"),
        },
    })
}

#[cfg(test)]
mod tests;
