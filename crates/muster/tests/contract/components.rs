//! Parts that a person holds still: nothing is lost, and everybody says so.

use serde_json::{Value, json};

use crate::fleet::{Fleet, until};

fn state(listed: &Value, name: &str) -> String {
    let found = listed["items"].as_array().unwrap().iter().find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("{name}: {listed}"))["state"].as_str().unwrap().to_owned()
}

#[test]
fn messages_wait_on_the_device_while_the_site_takes_none() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("hello", &fleet.mark(""), json!({}));
    let said = fleet.ok(&["component", "pause", "status-messages"]);
    assert!(said.contains("muster component resume"), "{said}");
    assert_eq!(state(&fleet.json(&["component", "list"]), "status-messages"), "paused");
    fleet.advertise("hello", "hello", &["d1"], json!({}));
    until("the program has run", || (fleet.truth().len() == 1).then_some(()));
    until("the outcome waits on the device", || {
        (fleet.status("d1")["outbox"]["length"].as_u64().unwrap() > 0).then_some(())
    });
    // What is paused stays paused through a restart.
    fleet.kill("site");
    fleet.restart("site");
    assert_eq!(state(&fleet.json(&["component", "list"]), "status-messages"), "paused");
    let found = fleet.json(&["accounting", "hello"]);
    assert_eq!(found["states"]["succeeded"], Value::Null, "{found}");
    fleet.ok(&["component", "resume", "status-messages", "--data", &fleet.path("site")]);
    fleet.stands("d1", "hello", "succeeded");
    assert_eq!(fleet.truth().len(), 1);
    fleet.ok(&["accounting", "verify"]);
    let audit = fleet.ok(&["messages", "--limit", "1000"]);
    assert!(audit.contains("component status-messages paused"), "{audit}");
    assert!(audit.contains("component status-messages resumed"), "{audit}");
}

#[test]
fn rules_wait_while_the_collection_evaluator_is_paused() {
    let mut fleet = Fleet::new();
    fleet.ok(&["component", "pause", "collection-evaluator"]);
    let collection = json!({"apiVersion": "muster/v1", "kind": "Collection",
        "metadata": {"name": "linux"}, "spec": {"query": "device.os == 'linux'"}});
    let file = fleet.write("linux.yaml", &collection.to_string());
    fleet.ok(&["apply", "-f", &file]);
    fleet.agents(1);
    fleet.ok(&["component", "resume", "collection-evaluator"]);
    until("the device is a member", || {
        let found = fleet.json(&["get", "collection", "linux"]);
        (found["status"]["members"] == 1).then_some(())
    });
}

#[test]
fn an_agent_held_still_starts_nothing_and_goes_on_where_it_was() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let data = fleet.path("d1");
    fleet.publish("hello", &fleet.mark(""), json!({}));
    fleet.ok(&["component", "pause", "software-distribution", "--data", &data]);
    let listed = fleet.json(&["component", "list", "--data", &data]);
    assert_eq!(state(&listed, "software-distribution"), "paused");
    fleet.advertise("hello", "hello", &["d1"], json!({}));
    let row = fleet.stands("d1", "hello", "waiting");
    assert!(row["reason"].as_str().unwrap().starts_with("paused"), "{row}");
    assert_eq!(fleet.truth().len(), 0);
    fleet.ok(&["component", "resume", "software-distribution", "--data", &data]);
    fleet.stands("d1", "hello", "succeeded");
}

#[test]
fn every_role_says_how_it_stands_also_when_it_does_not_run() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let (site, device) = (fleet.path("site"), fleet.path("d1"));
    let found = fleet.json(&["status"]);
    assert_eq!((&found["role"], &found["code"]), (&json!("site"), &json!("ABC")), "{found}");
    let found = fleet.json(&["status", "--data", &site]);
    assert_eq!(found["running"], fleet.pid("site"), "{found}");
    assert!(found["components"].as_array().unwrap().len() > 1, "{found}");
    let found = fleet.json(&["status", "--data", &device]);
    assert_eq!((&found["role"], &found["name"]), (&json!("agent"), &json!("d1")), "{found}");
    let aside = fleet.json(&["set-aside", "list", "--data", &site]);
    assert_eq!(aside["items"], json!([]), "{aside}");
    assert_eq!(fleet.json(&["set-aside", "list", "--data", &device])["items"], json!([]));
    fleet.kill("site");
    let found = fleet.json(&["status", "--data", &site]);
    assert_eq!(found["running"], Value::Null, "{found}");
    fleet.ok(&["component", "pause", "settlement", "--data", &site]);
    let listed = fleet.json(&["component", "list", "--data", &site]);
    assert_eq!(state(&listed, "settlement"), "paused");
    let said = fleet.refused(1, &["component", "pause", "nonsense", "--data", &site]);
    assert!(said.contains("nonsense") && said.contains("settlement"), "{said}");
    let said = fleet.refused(1, &["status", "--data", &fleet.path("")]);
    assert!(said.contains("no site and no agent"), "{said}");
}
