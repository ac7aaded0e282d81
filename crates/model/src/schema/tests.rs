//! The schema and `apply`, held against each other.

use serde_json::{Value, json};

use super::schema;
use crate::object::Object;

fn agrees(document: &Value) -> (bool, bool) {
    let schema = jsonschema::draft202012::new(&schema()).unwrap();
    (schema.is_valid(document), Object::from_value(document.clone()).is_ok())
}

#[track_caller]
fn good(document: Value) {
    assert_eq!(agrees(&document), (true, true), "schema, apply: {document:#}");
}

#[track_caller]
fn bad(document: Value) {
    assert_eq!(agrees(&document), (false, false), "schema, apply: {document:#}");
}

fn document(kind: &str, spec: Value) -> Value {
    json!({"apiVersion": "muster/v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec})
}

fn program(more: Value) -> Value {
    let mut program = json!({"name": "go", "commandLine": "sh go.sh"});
    program.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    document("Package", json!({"version": "1", "programs": [program]}))
}

fn advertisement(more: Value) -> Value {
    let mut spec = json!({"package": "hello", "program": "go", "collection": "lab"});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    document("Advertisement", spec)
}

fn metadata(metadata: Value) -> Value {
    json!({"apiVersion": "muster/v1", "kind": "Collection", "metadata": metadata, "spec": {}})
}

#[test]
fn the_schema_is_one_of_its_draft() {
    assert!(jsonschema::meta::is_valid(&schema()));
}

#[test]
fn what_apply_takes_the_schema_takes() {
    good(document("Collection", json!({})));
    good(document(
        "Collection",
        json!({"members": ["d1"], "query": "device.os == 'linux'", "include": ["a"],
            "exclude": ["b"], "limitTo": "all"}),
    ));
    good(program(json!({})));
    good(program(json!({"commandLine": null, "command": ["sh", "go.sh"]})));
    good(program(json!({
        "maxRunTime": "1h 30m", "afterRunning": "program-restarts", "rerun": "always",
        "attempts": 5, "retryDelays": ["1s"], "successCodes": [0, 3010], "restartCodes": [1641],
        "achieves": "nothing", "platform": "windows", "runWhen": "nobody-logged-on", "disk": 4096,
        "packageManager": "dpkg",
    })));
    good(program(json!({"runAs": "each-user"})));
    good(program(json!({
        "notice": {"countdown": "5m", "deferUntil": "2d"}, "startIn": "bin", "grace": "30s", "requirements": "device.memory >= 4096", "disabled": true,
        "requires": {"power": "ac", "link": "unmetered"}, "runAs": "user:ada",
        "dependsOn": {"package": "runtime@2", "program": "install"},
        "parameters": {"colour": {"type": "choice", "choices": ["red", "blue"], "default": "red"},
            "size": {"type": "number", "required": true, "description": "x"},
            "word": {"pattern": "[a-z]+"}, "on": {"type": "flag"}},
    })));
    good(document(
        "Package",
        json!({"version": "2.10", "content": "./hello", "supersedes": ["hullo"],
            "description": "x", "detection": {"command": ["sh", "-c", "true"], "maxRunTime": "5s"},
            "programs": [{"name": "go", "command": ["x"]}, {"name": "back", "commandLine": "y"}]}),
    ));
    good(advertisement(json!({})));
    good(advertisement(json!({
        "package": "hello@2.10", "expires": "2099-01-01T00:00:00Z", "offlineFor": "unlimited",
        "description": "x", "assignments": [
            {"at": "now"}, {"name": "late", "at": "2027-01-31T08:00:00"},
            {"name": "later", "at": "2027-01-31T08:00:00+01:00"},
            {"name": "boot", "at": "start-up"}, {"name": "user", "at": "log-on"},
            {"name": "weekly", "every": "DTSTART:20270104T020000 RRULE:FREQ=WEEKLY"},
        ],
    })));
    good(advertisement(json!({"track": "latest", "offlineFor": "90d"})));
    good(advertisement(json!({
        "notice": {"countdown": "5m"}, "emergency": true, "late": "skip", "splay": "30m",
        "parameters": {"colour": "blue", "size": 3, "on": true},
        "removal": {"program": "uninstall", "after": "7d"},
    })));
    good(advertisement(json!({"removal": {"program": "uninstall"}})));
    good(document("Collection", json!({"parameters": {"colour": "blue"}})));
    good(document(
        "MaintenanceWindow",
        json!({"collection": "lab", "effect": "freeze", "duration": "2h", "for": "runs",
            "every": "DTSTART:20270104T020000 RRULE:FREQ=WEEKLY", "timeZone": "Europe/Berlin",
            "description": "x"}),
    ));
    good(document(
        "MaintenanceWindow",
        json!({"collection": "lab", "duration": "2h", "at": "2027-01-31T08:00:00Z"}),
    ));
    good(metadata(json!({"name": "Adobe Reader 5 – français", "labels": {"team": ""}})));
    let got = json!({"apiVersion": "muster/v1", "kind": "Collection",
        "metadata": {"name": "x", "id": "4", "revision": 7, "formerly": "y"}, "spec": {},
        "status": {"members": 3}});
    good(got);
}

#[test]
fn what_the_schema_refuses_apply_refuses() {
    bad(json!("text"));
    bad(json!({"apiVersion": "muster/v1", "kind": "Collection", "metadata": {"name": "x"}}));
    bad(document("Deployment", json!({})));
    bad(json!({"apiVersion": "v9", "kind": "Collection", "metadata": {"name": "x"}, "spec": {}}));
    for name in ["", " x", "x ", "a/b", "a\nb", &"x".repeat(129)] {
        bad(metadata(json!({"name": name})));
    }
    bad(metadata(json!({"name": "x", "colour": "red"})));
    bad(metadata(json!({"name": "x", "labels": {"a/b": "c"}})));
    bad(metadata(json!({"name": "x", "labels": {"a": "b".repeat(257)}})));
    bad(metadata(json!({"name": "x", "revision": "7"})));
    bad(document("Collection", json!({"member": []})));
    bad(document("Collection", json!({"members": "d1"})));
    bad(document("Collection", json!({"query": "x".repeat(9_000)})));
    bad(document("Package", json!({"programs": [{"name": "go", "command": ["x"]}]})));
    bad(document(
        "Package",
        json!({"version": 2.10, "programs": [{"name": "go", "command": ["x"]}]}),
    ));
    bad(document(
        "Package",
        json!({"version": "1@2", "programs": [{"name": "go", "command": ["x"]}]}),
    ));
    bad(document("Package", json!({"version": "1", "programs": []})));
    bad(program(json!({"command": ["x"]})));
    bad(program(json!({"commandLine": null})));
    bad(program(json!({"commandLine": ""})));
    for wrong in [
        json!({"colour": "red"}),
        json!({"maxRunTime": "soon"}),
        json!({"maxRunTime": 10}),
        json!({"afterRunning": "restart"}),
        json!({"rerun": "sometimes"}),
        json!({"attempts": 0}),
        json!({"attempts": 101}),
        json!({"retryDelays": []}),
        json!({"successCodes": []}),
        json!({"successCodes": ["0"]}),
        json!({"achieves": "some"}),
        json!({"platform": "plan9"}),
        json!({"runWhen": "never"}),
        json!({"disk": -1}),
        json!({"packageManager": "rpm"}),
        json!({"notice": {"delay": "5m"}}),
        json!({"requires": {"power": "solar"}}),
        json!({"runAs": "ada"}),
        json!({"dependsOn": {"package": "runtime"}}),
        json!({"parameters": {"a b": {}}}),
        json!({"parameters": {"a": {"type": "colour"}}}),
    ] {
        bad(program(wrong));
    }
    for wrong in [
        json!({"package": ""}),
        json!({"program": ""}),
        json!({"track": "newest"}),
        json!({"expires": "soon"}),
        json!({"offlineFor": "long"}),
        json!({"assignments": [{"at": "soon"}]}),
        json!({"assignments": [{"name": "x"}]}),
        json!({"assignments": [{"at": "now", "every": "DTSTART:20270104T020000 RRULE:FREQ=DAILY"}]}),
        json!({"late": "never"}),
        json!({"removal": {"after": "7d"}}),
        json!({"removal": {"program": "uninstall", "when": "now"}}),
        json!({"parameters": {"a": [1]}}),
        json!({"assignments": [{"at": "now", "whenever": true}]}),
        json!({"colour": "red"}),
    ] {
        bad(advertisement(wrong));
    }
}

#[test]
fn contradictions_are_for_apply_alone() {
    for document in [
        program(json!({"rerun": "never", "attempts": 2})),
        program(json!({"restartCodes": [0]})),
        program(json!({"maxRunTime": "8d"})),
        advertisement(json!({"package": "hello@1", "track": "latest"})),
    ] {
        assert_eq!(agrees(&document), (true, false), "{document:#}");
    }
}

/// The fields that a type of the model takes, from its own refusal of one that none has.
fn fields_of<T: serde::de::DeserializeOwned>() -> Vec<String> {
    let refused = serde_json::from_value::<T>(json!({"no such field": 1}));
    let said = refused.err().expect("a refusal").to_string();
    let (_, listed) = said.split_once("expected").expect(&said);
    let mut fields: Vec<String> = listed.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    fields.sort();
    fields
}

#[track_caller]
fn complete<T: serde::de::DeserializeOwned>(definition: &str) {
    let schema = schema();
    let properties = schema["$defs"][definition]["properties"].as_object().expect("properties");
    let mut described: Vec<String> = properties.keys().cloned().collect();
    described.sort();
    assert_eq!(described, fields_of::<T>(), "of {definition}");
}

#[test]
fn every_field_of_a_manifest_has_its_place() {
    complete::<crate::package::PackageSpec>("package");
    complete::<crate::package::Program>("program");
    complete::<crate::package::Detection>("detection");
    complete::<crate::collection::CollectionSpec>("collection");
    complete::<crate::advertisement::AdvertisementSpec>("advertisement");
    complete::<crate::advertisement::Assignment>("assignment");
    complete::<crate::window::MaintenanceWindowSpec>("maintenanceWindow");
    complete::<crate::notice::Notice>("notice");
    complete::<crate::parameter::Parameter>("parameter");
}
