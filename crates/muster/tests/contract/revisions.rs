//! The guard against lost updates, and the schema of what is applied.

use serde_json::{Value, json};

use crate::fleet::Fleet;

fn collection(query: &str) -> String {
    json!({"apiVersion": "muster/v1", "kind": "Collection", "metadata": {"name": "lab"},
        "spec": {"query": query}})
    .to_string()
}

#[test]
fn what_somebody_else_changed_meanwhile_is_not_overwritten() {
    let fleet = Fleet::bare();
    let file = fleet.write("lab.yaml", &collection("device.os == 'linux'"));
    fleet.ok(&["apply", "-f", &file]);
    let mine = fleet.ok(&["get", "collection", "lab", "-o", "yaml"]);
    assert!(mine.contains("revision:"), "{mine}");
    let mine = fleet.write("mine.yaml", &mine.replace("linux", "plan9"));
    let others = fleet.write("others.yaml", &collection("device.os == 'windows'"));
    fleet.ok(&["apply", "-f", &others]);
    let said = fleet.refused(1, &["apply", "-f", &mine]);
    assert!(said.contains("changed meanwhile") && said.contains("mine.yaml:"), "{said}");
    let found = fleet.json(&["get", "collection", "lab"]);
    assert_eq!(found["spec"]["query"], "device.os == 'windows'", "{found}");
    // From what it says now, the change is taken; without a revision, too.
    let mine = fleet.ok(&["get", "collection", "lab", "-o", "yaml"]).replace("windows", "plan9");
    let mine = fleet.write("mine.yaml", &mine);
    fleet.ok(&["apply", "-f", &mine]);
    fleet.ok(&["apply", "-f", &others]);
}

#[test]
fn an_export_with_revisions_is_guarded_and_one_without_goes_anywhere() {
    let fleet = Fleet::new();
    fleet.publish("hello", "exit 0", json!({}));
    let file = fleet.write("lab.yaml", &collection("device.os == 'linux'"));
    fleet.ok(&["apply", "-f", &file]);
    assert!(!fleet.ok(&["export"]).contains("revision:"));
    let exported = fleet.ok(&["export", "--revisions"]);
    let file = fleet.write("all.yaml", &exported);
    let applied = fleet.json(&["apply", "-f", &file]);
    for item in applied["items"].as_array().unwrap() {
        assert_eq!(item["change"], "unchanged", "{item}");
    }
    fleet.ok(&["delete", "collection", "lab"]);
    let said = fleet.refused(1, &["apply", "-f", &file]);
    assert!(said.contains("not there any more"), "{said}");
    let bad = fleet.write("bad.yaml", &exported.replace("revision: ", "revision: x"));
    let said = fleet.refused(2, &["apply", "-f", &bad]);
    assert!(said.contains("metadata.revision"), "{said}");
}

#[test]
fn the_schema_is_printed_without_a_site_and_says_what_apply_says() {
    let fleet = Fleet::empty();
    let schema: Value = serde_json::from_str(&fleet.ok(&["schema"])).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let schema = jsonschema::draft202012::new(&schema).unwrap();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/hello.yaml");
    let text = std::fs::read_to_string(example).unwrap();
    let mut fleet = fleet;
    fleet.site(&[]);
    fleet.ok(&["publisher", "init", "--name", "ada"]);
    fleet.ok(&["apply", "-f", example]);
    // The site's own words about the example are documents, too.
    for (kind, name) in
        [("package", "hello"), ("collection", "lab"), ("advertisement", "hello-to-lab")]
    {
        let found = fleet.json(&["get", kind, name]);
        assert!(schema.is_valid(&found), "{found:#}");
        let mut bent = found.clone();
        bent["spec"]["colour"] = json!("red");
        assert!(!schema.is_valid(&bent));
        let file = fleet.write("bent.yaml", &bent.to_string());
        let said = fleet.refused(2, &["apply", "-f", &file]);
        assert!(said.contains("colour"), "{said}");
    }
    assert!(text.contains("kind: Package"));
}
