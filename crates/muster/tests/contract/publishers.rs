//! Keys that change: nothing that is published becomes unrunnable by a rotation, and a revocation says
//! what does.

use serde_json::{Value, json};

use crate::fleet::{Fleet, until};

/// The keys that signed the newest version of a package, and its digest.
fn signed(fleet: &Fleet, package: &str) -> (Vec<Value>, Value) {
    let found = fleet.json(&["get", "package", package]);
    let version = &found["status"]["published"][0];
    let keys = version["signatures"].as_array().unwrap().iter().map(|one| one["key"].clone());
    (keys.collect(), version["manifest"].clone())
}

#[test]
fn what_the_old_key_signed_runs_after_a_rotation_with_the_same_digest() {
    let mut fleet = Fleet::new();
    fleet.agents(2);
    fleet.publish("hello", &fleet.mark(""), json!({}));
    fleet.publish("later", &fleet.mark("# later"), json!({}));
    fleet.advertise("before", "hello", &["d1"], json!({}));
    fleet.stands("d1", "before", "succeeded");
    let (old, digest) = signed(&fleet, "hello");
    let said = fleet.ok(&["publisher", "rotate"]);
    assert!(said.contains("hello@1") && said.contains("later@1"), "{said}");
    let public = fleet.json(&["publisher", "list"])["items"][0]["public"].clone();
    let (keys, same) = signed(&fleet, "hello");
    assert_eq!((same, keys), (digest, vec![old[0].clone(), public]));
    // On who has run it, on who held only the old signature, and on who enrols afterwards.
    fleet.ok(&["rerun", "before", "--reason", "the new key"]);
    fleet.advertise("after", "later", &["d1", "d2"], json!({}));
    fleet.stands("d2", "after", "succeeded");
    fleet.ok(&["wait", "before", "--for", "succeeded>=100%", "--timeout", "60s"]);
    let token = fleet.token(1);
    fleet.agent("d3", &token);
    fleet.advertise("young", "hello", &["d3"], json!({}));
    fleet.stands("d3", "young", "succeeded");
    // Once more: the key before the last one makes room.
    fleet.ok(&["publisher", "rotate"]);
    assert_eq!(signed(&fleet, "hello").0.len(), 2);
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn an_obligation_that_waits_runs_with_the_new_signature() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("hello", &fleet.mark(""), json!({}));
    fleet.ok(&["component", "pause", "software-distribution", "--data", &fleet.path("d1")]);
    fleet.advertise("ad", "hello", &["d1"], json!({}));
    fleet.stands("d1", "ad", "waiting");
    fleet.ok(&["publisher", "rotate"]);
    fleet.ok(&["component", "resume", "software-distribution", "--data", &fleet.path("d1")]);
    fleet.stands("d1", "ad", "succeeded");
    assert_eq!(fleet.truth().len(), 1);
}

#[test]
fn a_revocation_names_what_starts_no_more() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let key = fleet.path("bob.key");
    let bob = fleet.json(&["publisher", "init", "--offline", "--name", "bob", "--key", &key]);
    fleet.ok(&["publisher", "add", "bob", bob["public"].as_str().unwrap()]);
    let file = fleet.package_file("bobs", "1", &fleet.mark(""), json!({}));
    fleet.ok(&["package", "publish", &file, "--key", &key]);
    fleet.publish("adas", &fleet.mark("# ada"), json!({}));
    fleet.ok(&["component", "pause", "software-distribution", "--data", &fleet.path("d1")]);
    fleet.advertise("ad", "bobs", &["d1"], json!({}));
    fleet.stands("d1", "ad", "waiting");
    let lost = json!([{"package": "bobs", "version": "1", "advertisements": ["ad"]}]);
    let dry = fleet.json(&["publisher", "revoke", "bob", "--dry-run"]);
    assert_eq!((&dry["unrunnable"], &dry["trust"]), (&lost, &json!(2)), "{dry}");
    let said = fleet.ok(&["publisher", "revoke", "bob"]);
    assert!(said.contains("bobs@1") && said.contains("advertised by ad"), "{said}");
    assert!(!said.contains("adas"), "{said}");
    until("the device has heard", || {
        fleet.log_of("d1").contains("accepted number=3").then_some(())
    });
    fleet.ok(&["component", "resume", "software-distribution", "--data", &fleet.path("d1")]);
    let row = fleet.stands("d1", "ad", "failed");
    assert_eq!(row["rule"], "publisher-refused", "{row}");
    assert_eq!(fleet.truth().len(), 0);
    let said = fleet.refused(1, &["publisher", "revoke", "bob"]);
    assert!(said.contains("publisher list"), "{said}");
}
