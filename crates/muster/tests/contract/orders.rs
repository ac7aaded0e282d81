//! Stop, resume, halt, rerun, revoke, retire: somebody's word, and how far it has gone.

use serde_json::json;

use crate::fleet::{Fleet, until};

#[test]
fn a_stopped_advertisement_starts_nothing_until_it_is_resumed() {
    let mut fleet = Fleet::new();
    fleet.publish("hello", &fleet.mark(""), json!({}));
    fleet.advertise("ad", "hello", &["d1"], json!({}));
    let order = fleet.json(&["stop", "ad", "--reason", "not yet"]);
    assert!(order["revision"].as_u64().is_some(), "{order}");
    fleet.agents(1);
    // A member name binds at the next apply.
    fleet.advertise("ad", "hello", &["d1"], json!({}));
    let row = fleet.stands("d1", "ad", "waiting");
    assert!(row["reason"].as_str().unwrap().starts_with("stopped"), "{row}");
    assert_eq!(fleet.truth().len(), 0);
    fleet.ok(&["resume", "ad"]);
    fleet.stands("d1", "ad", "succeeded");
}

#[test]
fn stop_with_kill_ends_what_runs_and_says_so() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("long", &fleet.mark("sleep 600"), json!({}));
    fleet.advertise("long", "long", &["d1"], json!({}));
    until("the program runs", || (fleet.truth().len() == 1).then_some(()));
    fleet.ok(&["stop", "long", "--kill"]);
    let row = fleet.stands("d1", "long", "interrupted");
    assert_eq!(row["reason"], "stopped", "{row}");
}

#[test]
fn halt_holds_everything_and_names_how_many_know() {
    let mut fleet = Fleet::new();
    fleet.agents(2);
    fleet.ok(&["halt", "--all", "--reason", "storm"]);
    fleet.publish("hello", &fleet.mark(""), json!({}));
    fleet.advertise("ad", "hello", &["d1", "d2"], json!({}));
    let row = fleet.stands("d2", "ad", "waiting");
    assert!(row["reason"].as_str().unwrap().starts_with("halted"), "{row}");
    until("both devices know", || {
        let order = fleet.json(&["halt", "--all"]);
        (order["known"] == 2 && order["mayStillStart"] == 0).then_some(())
    });
    fleet.ok(&["resume", "--all"]);
    fleet.ok(&["wait", "ad", "--for", "succeeded>=100%", "--timeout", "60s"]);
}

#[test]
fn rerun_opens_a_new_occurrence_for_exactly_those_devices() {
    let mut fleet = Fleet::new();
    fleet.agents(2);
    fleet.publish("hello", &fleet.mark(""), json!({}));
    fleet.advertise("ad", "hello", &["d1", "d2"], json!({}));
    fleet.ok(&["wait", "ad", "--for", "complete", "--timeout", "60s"]);
    let opened = fleet.json(&["rerun", "ad", "--device", "d2", "--reason", "again"]);
    assert_eq!(opened["devices"], 1, "{opened}");
    until("d2 has run twice", || (fleet.truth().len() == 3).then_some(()));
    fleet.ok(&["wait", "ad", "--for", "complete", "--timeout", "60s"]);
    let truth = fleet.truth();
    assert_eq!(truth.iter().filter(|line| line.contains("d2")).count(), 2, "{truth:?}");
    fleet.refused(2, &["rerun", "ad"]);
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn a_revoked_package_never_starts() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("hello", &fleet.mark(""), json!({}));
    fleet.ok(&["package", "revoke", "hello@1", "--reason", "broken"]);
    let answer = fleet.run(&["get", "package", "hello", "-o", "json"]);
    assert!(answer.out.contains("revoked"), "{}", answer.said());
    let file = fleet.write(
        "ad.yaml",
        &json!({"apiVersion": "muster/v1", "kind": "Advertisement", "metadata": {"name": "ad"},
            "spec": {"package": "hello", "program": "go", "collection": "all"}})
        .to_string(),
    );
    let answer = fleet.run(&["apply", "-f", &file]);
    assert_ne!(answer.code, 0, "{}", answer.said());
    assert!(answer.err.contains("revoked"), "{}", answer.said());
    assert_eq!(fleet.truth().len(), 0);
}

#[test]
fn a_pending_device_starts_nothing_until_it_is_approved() {
    let mut fleet = Fleet::new();
    let token = fleet.json(&["token", "create", "--hold"])["token"].as_str().unwrap().to_owned();
    fleet.agent("d1", &token);
    let listed = fleet.json(&["device", "list"]);
    assert_eq!(listed["items"][0]["standing"], "pending", "{listed}");
    fleet.publish("hello", &fleet.mark(""), json!({}));
    fleet.ok(&["device", "approve", "d1"]);
    fleet.advertise("ad", "hello", &["d1"], json!({}));
    fleet.stands("d1", "ad", "succeeded");
}

#[test]
fn a_retired_device_is_lost_and_never_comes_back() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("long", &fleet.mark("sleep 600"), json!({}));
    fleet.advertise("long", "long", &["d1"], json!({}));
    fleet.stands("d1", "long", "running");
    fleet.ok(&["device", "retire", "d1"]);
    let row = fleet.stands("d1", "long", "lost");
    assert_eq!(row["reason"], "retired", "{row}");
    fleet.ok(&["accounting", "verify"]);
}
