//! What was replaced does not come back: `not-applicable(newer-present)`, through the real binary.

use serde_json::{Value, json};

use crate::fleet::{Fleet, until};

/// Publishes `name`@`version` with a program that marks its run; it replaces `old`.
fn publish(fleet: &Fleet, name: &str, version: &str, old: &[&str], program: Value) {
    let file = fleet.package_file(name, version, &fleet.mark(""), program);
    let mut package: Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    package["spec"]["supersedes"] = json!(old);
    std::fs::write(&file, package.to_string()).unwrap();
    fleet.ok(&["package", "publish", &file]);
}

#[test]
fn an_old_package_is_not_installed_over_what_replaced_it_until_that_is_removed() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    publish(&fleet, "new", "1", &["old"], json!({}));
    publish(&fleet, "old", "1", &[], json!({}));
    fleet.advertise("new", "new", &["d1"], json!({}));
    fleet.stands("d1", "new", "succeeded");
    // The newer one is advertised no more, so nothing supersedes the older one by being advertised.
    fleet.ok(&["delete", "advertisement", "new"]);
    fleet.advertise("old", "old", &["d1"], json!({}));
    let row = fleet.stands("d1", "old", "not-applicable");
    assert_eq!(row["reason"], "newer-present", "{row}");
    assert_eq!(fleet.truth().len(), 1);
    let why = fleet.ok(&["why", "d1", "old"]);
    assert!(why.contains("not-applicable(newer-present)"), "{why}");
    let status = fleet.json(&["agent", "status", "--data", &fleet.path("d1")]);
    let obligations = status["obligations"].as_array().unwrap();
    let old = obligations.iter().find(|one| one["name"] == "old").unwrap();
    assert_eq!(old["replacedBy"], "new@1", "{old}");
    // The device knows it by itself, also after a restart and without its site.
    fleet.kill("site");
    fleet.kill("d1");
    fleet.restart("d1");
    until("the device looks again", || (fleet.status("d1")["running"].is_u64()).then_some(()));
    assert_eq!(fleet.truth().len(), 1);
    fleet.restart("site");
    publish(&fleet, "new", "2", &["old"], json!({"achieves": "absent"}));
    fleet.advertise("gone", "new@2", &["d1"], json!({}));
    fleet.stands("d1", "gone", "succeeded");
    fleet.stands("d1", "old", "succeeded");
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn what_is_run_again_over_its_replacement_says_why_it_is_not() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    publish(&fleet, "old", "1", &[], json!({}));
    publish(&fleet, "new", "1", &["old"], json!({}));
    fleet.advertise("old", "old", &["d1"], json!({}));
    fleet.stands("d1", "old", "succeeded");
    fleet.advertise("new", "new", &["d1"], json!({}));
    fleet.stands("d1", "new", "succeeded");
    fleet.ok(&["delete", "advertisement", "new"]);
    fleet.ok(&["rerun", "old", "--reason", "again", "--state", "succeeded"]);
    assert_eq!(fleet.stands("d1", "old", "not-applicable")["reason"], "newer-present");
    assert_eq!(fleet.truth().len(), 2);
}
