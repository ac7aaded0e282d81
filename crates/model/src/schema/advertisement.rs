//! Advertisements and maintenance windows: whatever has a time.

use serde_json::{Value, json};

use super::{list, maybe, named, text};
use crate::advertisement::ASSIGNMENTS_MAX;
use crate::recurrence::EVERY_BYTES_MAX;

pub(super) fn advertisement() -> Value {
    json!({
        "type": "object",
        "required": ["package", "program", "collection"],
        "additionalProperties": false,
        "properties": {
            "package": {"description": "NAME or NAME@VERSION.", "type": "string", "minLength": 1},
            "program": named("name"),
            "collection": named("name"),
            "assignments": list("assignment", 0, ASSIGNMENTS_MAX),
            "track": {"enum": ["latest", null]},
            "expires": maybe(named("time")),
            "offlineFor": {"anyOf": [{"const": "unlimited"}, named("period")]},
            "notice": maybe(named("notice")),
            "emergency": {"type": "boolean"},
            "late": {"enum": ["run-late", "skip", "ask"]},
            "splay": named("period"),
            "removal": maybe(json!({
                "description": "What takes off again what it installed, where it is no longer \
                    advertised.",
                "type": "object",
                "required": ["program"],
                "additionalProperties": false,
                "properties": {"program": named("name"), "after": named("period")},
            })),
            "parameters": named("values"),
            "description": text("A line for people."),
        },
    })
}

/// Exactly one of `at` and `every`; `null` is none.
fn one_time() -> Value {
    let given =
        |field: &str| json!({"required": [field], "properties": {field: {"type": "string"}}});
    json!([given("at"), given("every")])
}

fn every() -> Value {
    maybe(json!({
        "description": "RFC 5545 text with DTSTART: DTSTART:20270104T020000 RRULE:FREQ=WEEKLY.",
        "type": "string",
        "minLength": 1,
        "maxLength": EVERY_BYTES_MAX,
    }))
}

/// `at:`, one of `words`, a local time, or an instant.
fn at(words: &[&str]) -> Value {
    maybe(json!({
        "description": "A local time of the device, an instant, or a word.",
        "anyOf": [
            {"enum": words},
            {"type": "string", "pattern": "^[-+]?[0-9]{4,6}-?[0-9]{2}-?[0-9]{2}"},
        ],
    }))
}

pub(super) fn assignment() -> Value {
    json!({
        "type": "object",
        "oneOf": one_time(),
        "additionalProperties": false,
        "properties": {
            "name": maybe(named("name")),
            "at": at(&["now", "start-up", "log-on"]),
            "every": every(),
        },
    })
}

pub(super) fn maintenance_window() -> Value {
    json!({
        "type": "object",
        "required": ["collection", "duration"],
        "oneOf": one_time(),
        "additionalProperties": false,
        "properties": {
            "collection": named("name"),
            "effect": {"enum": ["window", "freeze"]},
            "every": every(),
            "at": at(&[]),
            "duration": named("period"),
            "timeZone": maybe(text("A name of the IANA database: Europe/Berlin.")),
            "for": {"enum": ["runs", "restarts", "both"]},
            "description": text("A line for people."),
        },
    })
}
