//! Programs, and what they are made of.

use serde_json::{Value, json};

use super::{list, maybe, named, text};
use crate::package::{
    ATTEMPTS_MAX, COMMAND_BYTES_MAX, COMMAND_WORDS_MAX, REQUIREMENTS_BYTES_MAX, RETRY_STEPS_MAX,
    START_IN_BYTES_MAX,
};
use crate::parameter::{
    CHOICES_MAX, NAME_CHARS_MAX, PARAMETERS_MAX, PATTERN_BYTES_MAX, VALUE_BYTES_MAX,
};

/// Exactly one of `commandLine` and `command`; `null` is none.
fn one_command() -> Value {
    let given = |field: &str, kind: &str| json!({"required": [field], "properties": {field: {"type": kind}}});
    json!([given("commandLine", "string"), given("command", "array")])
}

fn command_line() -> Value {
    maybe(json!({
        "description": "Split into words without a shell.",
        "type": "string",
        "minLength": 1,
        "maxLength": COMMAND_BYTES_MAX * 2,
    }))
}

fn command() -> Value {
    maybe(json!({
        "description": "The words; the first is sought in the package, then on the fixed PATH.",
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "maxItems": COMMAND_WORDS_MAX,
    }))
}

pub(super) fn program() -> Value {
    let codes = json!({"type": "array", "items": {"type": "integer"}});
    json!({
        "type": "object",
        "required": ["name"],
        "oneOf": one_command(),
        "additionalProperties": false,
        "properties": {
            "name": named("name"),
            "commandLine": command_line(),
            "command": command(),
            "maxRunTime": named("period"),
            "afterRunning": {"enum": ["none", "agent-restarts", "program-restarts"]},
            "rerun": {"enum": ["never", "if-not-detected", "always"]},
            "attempts": maybe(json!({"type": "integer", "minimum": 1, "maximum": ATTEMPTS_MAX})),
            "retryDelays": list("period", 1, RETRY_STEPS_MAX),
            "successCodes": {"allOf": [codes, {"minItems": 1, "maxItems": 256}]},
            "restartCodes": codes,
            "achieves": {"enum": ["present", "absent", "nothing"]},
            "platform": {"enum": [
                "linux", "linux/x86_64", "linux/aarch64", "windows", "windows/x86_64", null,
            ]},
            "runWhen": {"enum": ["any", "nobody-logged-on", "user-logged-on"]},
            "notice": maybe(named("notice")),
            "disk": maybe(json!({"type": "integer", "minimum": 0})),
            "packageManager": {"enum": ["dpkg", null]},
            "startIn": maybe(json!({
                "description": "The working directory, a folder of the content.",
                "type": "string",
                "maxLength": START_IN_BYTES_MAX,
            })),
            "grace": maybe(named("period")),
            "requirements": {
                "description": "A rule over the device's facts: device.memory >= 4096.",
                "type": "string",
                "maxLength": REQUIREMENTS_BYTES_MAX,
            },
            "requires": requires(),
            "disabled": {"type": "boolean"},
            "runAs": maybe(json!({
                "description": "`root`, `user:NAME` or `each-user`, for each who is logged on.",
                "type": "string",
                "pattern": "^(root|each-user|user:.+)$",
            })),
            "dependsOn": maybe(dependency()),
            "parameters": {
                "type": "object",
                "maxProperties": PARAMETERS_MAX,
                "propertyNames": parameter_name(),
                "additionalProperties": named("parameter"),
            },
        },
    })
}

pub(super) fn detection() -> Value {
    json!({
        "description": "Exit 0 is present, 1 is absent, anything else an error.",
        "type": "object",
        "oneOf": one_command(),
        "additionalProperties": false,
        "properties": {
            "commandLine": command_line(),
            "command": command(),
            "maxRunTime": named("period"),
        },
    })
}

fn requires() -> Value {
    json!({
        "description": "What the machine may lack just now, and is waited for.",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "power": {"enum": ["ac", null]},
            "link": {"enum": ["unmetered", null]},
        },
    })
}

fn dependency() -> Value {
    json!({
        "description": "The program that must have succeeded before.",
        "type": "object",
        "required": ["package", "program"],
        "additionalProperties": false,
        "properties": {
            "package": {"description": "NAME or NAME@VERSION.", "type": "string", "minLength": 1},
            "program": named("name"),
        },
    })
}

/// What whoever is logged on is given before a mandatory start.
pub(super) fn notice() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {"countdown": named("period"), "deferUntil": named("period")},
    })
}

fn parameter_name() -> Value {
    json!({"type": "string", "maxLength": NAME_CHARS_MAX, "pattern": "^[A-Za-z][A-Za-z0-9_]*$"})
}

/// The declaration of a parameter.
pub(super) fn parameter() -> Value {
    let of_choice = json!({"type": "string", "maxLength": VALUE_BYTES_MAX});
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "type": {"enum": ["text", "number", "choice", "flag"]},
            "pattern": maybe(json!({"type": "string", "maxLength": PATTERN_BYTES_MAX})),
            "choices": {"type": "array", "items": of_choice, "maxItems": CHOICES_MAX},
            "default": maybe(value()),
            "required": {"type": "boolean"},
            "description": text("A line for people."),
        },
    })
}

fn value() -> Value {
    let string = json!({"type": "string", "maxLength": VALUE_BYTES_MAX});
    json!({"anyOf": [{"type": "boolean"}, {"type": "integer"}, string]})
}

/// What parameters are given, by name.
pub(super) fn values() -> Value {
    json!({
        "type": "object",
        "maxProperties": PARAMETERS_MAX,
        "propertyNames": parameter_name(),
        "additionalProperties": value(),
    })
}
