//! Objects: apply, diff, export, rename, delete; membership by rule.

use serde_json::json;

use crate::fleet::Fleet;

#[test]
fn export_apply_export_gives_the_same_bytes() {
    let fleet = Fleet::new();
    fleet.publish("hello", "exit 0", json!({}));
    fleet.advertise("hello", "hello", &["d1"], json!({"expires": "2099-01-01T00:00:00Z"}));
    let first = fleet.ok(&["export"]);
    assert!(first.contains("kind: Advertisement"), "{first}");
    let file = fleet.write("exported.yaml", &first);
    let applied = fleet.json(&["apply", "-f", &file]);
    for item in applied["items"].as_array().unwrap() {
        assert_eq!(item["change"], "unchanged", "{item}");
    }
    assert_eq!(fleet.ok(&["export"]), first);
    fleet.ok(&["diff", "-f", &file]);
}

#[test]
fn diff_exits_3_and_names_the_difference_and_changes_nothing() {
    let fleet = Fleet::new();
    let document = |query: &str| {
        json!({"apiVersion": "muster/v1", "kind": "Collection", "metadata": {"name": "c"},
            "spec": {"query": query}})
        .to_string()
    };
    let file = fleet.write("c.yaml", &document("device.os == 'linux'"));
    fleet.refused(3, &["diff", "-f", &file]);
    fleet.ok(&["apply", "-f", &file]);
    fleet.ok(&["diff", "-f", &file]);
    let file = fleet.write("c.yaml", &document("device.os == 'plan9'"));
    let answer = fleet.run(&["diff", "-f", &file]);
    assert_eq!(answer.code, 3);
    assert!(answer.out.contains("plan9"), "{}", answer.said());
    let dry = fleet.ok(&["apply", "--dry-run", "-f", &file]);
    assert!(dry.contains("would be"), "{dry}");
    assert_eq!(fleet.run(&["diff", "-f", &file]).code, 3, "nothing was written");
}

#[test]
fn rules_names_include_and_exclude_make_the_members() {
    let mut fleet = Fleet::new();
    fleet.agents(3);
    let collection = |name: &str, spec: serde_json::Value| {
        let document = json!({"apiVersion": "muster/v1", "kind": "Collection",
            "metadata": {"name": name}, "spec": spec});
        let file = fleet.write("c.yaml", &document.to_string());
        fleet.ok(&["apply", "-f", &file]);
        fleet.json(&["get", "collection", name])["status"]["members"].clone()
    };
    assert_eq!(collection("all-linux", json!({"query": "device.os == 'linux'"})), 3);
    assert_eq!(
        collection("not-d1", json!({"query": "device.os == 'linux' && !(device.name == 'd1')"})),
        2
    );
    assert_eq!(collection("unknown", json!({"query": "device.colour != 'red'"})), 0);
    assert_eq!(collection("named", json!({"members": ["d1", "nobody"]})), 1);
    let both = json!({"include": ["named"], "query": "device.name == 'd2'", "exclude": ["not-d1"]});
    assert_eq!(collection("both", both), 1);
    let limited = json!({"include": ["all-linux"], "limitTo": "named"});
    assert_eq!(collection("limited", limited), 1);
    let file = fleet.write(
        "cycle.yaml",
        &json!({"apiVersion": "muster/v1", "kind": "Collection", "metadata": {"name": "named"},
            "spec": {"include": ["both"]}})
        .to_string(),
    );
    let answer = fleet.run(&["apply", "-f", &file]);
    assert_ne!(answer.code, 0);
    assert!(answer.err.contains("both"), "{}", answer.said());
}

#[test]
fn a_renamed_object_keeps_its_id_and_a_deleted_one_its_accounting() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("hello", "exit 0", json!({}));
    fleet.advertise("first", "hello", &["d1"], json!({}));
    fleet.stands("d1", "first", "succeeded");
    let id = |name: &str| {
        let found = fleet.json(&["get", "advertisement", name]);
        found["metadata"]["id"].as_str().unwrap().to_owned()
    };
    let before = id("first");
    fleet.ok(&["rename", "advertisement", "first", "second"]);
    assert_eq!(id("second"), before);
    fleet.refused(1, &["get", "advertisement", "first"]);
    fleet.ok(&["delete", "advertisement", "second"]);
    let found = fleet.json(&["accounting", &before]);
    assert_eq!(found["states"], json!({"succeeded": 1}), "{found}");
}

#[test]
fn an_edit_runs_nothing_again() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("hello", &fleet.mark(""), json!({}));
    fleet.advertise("ad", "hello", &["d1"], json!({}));
    fleet.stands("d1", "ad", "succeeded");
    fleet.advertise("ad", "hello", &["d1"], json!({"description": "edited"}));
    fleet.advertise("other", "hello", &["d1"], json!({}));
    fleet.stands("d1", "other", "succeeded");
    let found = fleet.json(&["accounting", "ad"]);
    assert_eq!(found["states"], json!({"succeeded": 1}), "{found}");
    assert_eq!(fleet.truth().len(), 2, "once for each advertisement");
}

#[test]
fn the_example_works_as_it_stands() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/hello.yaml");
    fleet.ok(&["apply", "-f", example]);
    let row = fleet.stands("d1", "hello-to-lab", "succeeded");
    assert_eq!(row["rule"], "detected", "{row}");
    assert!(std::path::Path::new(&fleet.path("d1-root/usr/local/bin/muster-hello")).exists());
    fleet.ok(&["apply", "-f", example]);
    let members = fleet.json(&["get", "collection", "lab"]);
    assert_eq!(members["status"]["members"], 1, "{members}");
}

#[test]
fn a_manifest_comes_from_standard_input_too() {
    let fleet = Fleet::new();
    let manifest =
        "apiVersion: muster/v1\nkind: Collection\nmetadata: {name: lab}\nspec: {colour: 1}\n";
    let refused = fleet.feed(&["apply", "-f", "-"], manifest);
    assert_eq!(refused.code, 2, "{}", refused.said());
    assert!(refused.said().contains("(standard input):4"), "{}", refused.said());
    let taken = fleet.feed(&["apply", "-f", "-"], &manifest.replace("colour: 1", "members: [d1]"));
    assert_eq!(taken.code, 0, "{}", taken.said());
    assert_eq!(fleet.json(&["get", "collection", "lab"])["spec"]["members"], json!(["d1"]));
}
