//! Bad input: a clear error that names file, line, field and limit; nothing is lost.

use serde_json::json;

use crate::fleet::{Fleet, until};

#[test]
fn faults_of_a_manifest_name_file_line_field_and_range() {
    let fleet = Fleet::bare();
    let file = fleet.write(
        "bad.yaml",
        "apiVersion: muster/v1\nkind: Package\nmetadata: {name: bad}\nspec:\n  version: \"1\"\n  \
         colour: red\n  programs: []\n",
    );
    let said = fleet.refused(2, &["apply", "-f", &file]);
    assert!(said.contains("bad.yaml:6") && said.contains("colour"), "{said}");
    let file = fleet.write(
        "never.yaml",
        "apiVersion: muster/v1\nkind: Package\nmetadata: {name: bad}\nspec:\n  version: \"1\"\n  \
         programs:\n    - name: go\n      command: [x]\n      rerun: never\n      attempts: 2\n",
    );
    let said = fleet.refused(2, &["apply", "-f", &file]);
    assert!(said.contains("never.yaml:10") && said.contains("exactly 1"), "{said}");
}

#[test]
fn what_names_nothing_is_refused_at_apply() {
    let fleet = Fleet::new();
    fleet.publish("hello", "exit 0", json!({}));
    let document = |spec: serde_json::Value| json!({"apiVersion": "muster/v1", "kind": "Advertisement", "metadata": {"name": "x"}, "spec": spec});
    for (spec, said) in [
        (json!({"package": "hullo", "program": "go", "collection": "all"}), "hullo"),
        (json!({"package": "hello", "program": "stop", "collection": "all"}), "stop"),
        (json!({"package": "hello", "program": "go", "collection": "labb"}), "labb"),
        (json!({"package": "hello@9", "program": "go", "collection": "all"}), "9"),
    ] {
        let file = fleet.write("ad.yaml", &document(spec).to_string());
        let answer = fleet.run(&["apply", "-f", &file]);
        assert_ne!(answer.code, 0, "{}", answer.said());
        assert!(answer.err.contains(said), "{}", answer.said());
    }
    let file = fleet.write(
        "c.yaml",
        &json!({"apiVersion": "muster/v1", "kind": "Collection", "metadata": {"name": "c"},
            "spec": {"query": "device.os = 'linux'"}})
        .to_string(),
    );
    let answer = fleet.run(&["apply", "-f", &file]);
    assert_ne!(answer.code, 0);
    assert!(answer.err.contains("spec.query"), "{}", answer.said());
}

#[test]
fn the_same_version_with_other_bytes_is_refused() {
    let fleet = Fleet::new();
    fleet.publish("hello", "exit 0", json!({}));
    let file = fleet.package_file("hello", "1", "exit 1", json!({}));
    let said = fleet.refused(1, &["package", "publish", &file]);
    assert!(said.contains("hello") && said.contains('1'), "{said}");
    let file = fleet.package_file("hello", "1", "exit 0", json!({}));
    let done = fleet.json(&["package", "publish", &file]);
    assert_eq!(done["change"], "unchanged", "{done}");
}

#[test]
fn a_folder_in_use_or_not_empty_is_refused_by_name() {
    let mut fleet = Fleet::new();
    let site = fleet.path("site");
    let said = fleet.refused(1, &["site", "init", "--data", &site, "--code", "XYZ"]);
    assert!(said.contains("site"), "{said}");
    let said = fleet.refused(1, &["site", "run", "--data", &site]);
    assert!(said.contains("pid") || said.contains("process"), "{said}");
    fleet.agents(1);
    let data = fleet.path("d1");
    // The folder is in use once the first agent has said so.
    until("the first agent runs", || {
        std::path::Path::new(&data).join("run/agent.json").exists().then_some(())
    });
    let said = fleet.refused(1, &["agent", "run", "--data", &data]);
    assert!(said.contains("pid") || said.contains("process"), "{said}");
}

#[test]
fn a_token_is_spent_and_says_so() {
    let fleet = Fleet::new();
    let token = fleet.token(1);
    let url = fleet.url.clone();
    let enroll = |name: &str| {
        let data = fleet.path(name);
        fleet.run(&[
            "agent", "enroll", "--data", &data, "--site", &url, "--token", &token, "--name", name,
        ])
    };
    assert_eq!(enroll("d1").code, 0);
    assert_eq!(enroll("d1").code, 0, "enrolling again changes nothing");
    let second = enroll("d2");
    assert_eq!(second.code, 1, "{}", second.said());
    assert!(second.err.contains("token"), "{}", second.said());
    assert_eq!(fleet.json(&["device", "list"])["items"].as_array().unwrap().len(), 1);
}

#[test]
fn usage_errors_exit_with_2_and_help_with_0() {
    let fleet = Fleet::bare();
    fleet.refused(2, &["frobnicate"]);
    fleet.refused(2, &["get", "gadgets"]);
    assert!(fleet.ok(&["--help"]).contains("accounting"));
    assert!(fleet.ok(&["describe", "settings"]).contains("pollWait"));
    assert!(fleet.ok(&["completions", "bash"]).contains("muster"));
}
