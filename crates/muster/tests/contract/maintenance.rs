//! Maintenance that cannot hurt: verification and repair beside runs, and the parts of the agent that
//! site and people switch.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::fleet::{Fleet, until};

/// `agent verify`, its exit code and what it found.
fn verify(fleet: &Fleet, name: &str) -> (i32, Value) {
    let answer = fleet.run(&["agent", "verify", "--data", &fleet.path(name), "-o", "json"]);
    (
        answer.code,
        serde_json::from_str(&answer.out).unwrap_or_else(|why| panic!("{why}: {}", answer.said())),
    )
}

/// The names of the checks that failed.
fn failed(found: &Value) -> Vec<&str> {
    let checks = found["checks"].as_array().unwrap().iter();
    checks
        .filter(|check| check["ok"] == false)
        .map(|check| check["name"].as_str().unwrap())
        .collect()
}

fn device(fleet: &Fleet, name: &str) -> Value {
    fleet.json(&["describe", "device", name])
}

fn component(fleet: &Fleet) -> String {
    let found = device(fleet, "d1");
    let one = &found["components"][0];
    format!("{}({})", one["state"].as_str().unwrap_or("-"), one["reason"].as_str().unwrap_or("-"))
}

fn await_component(fleet: &Fleet, state: &str) {
    until(&format!("the site sees {state}"), || (component(fleet) == state).then_some(()));
}

/// The messages of the site's list that say `what`.
fn said(fleet: &Fleet, what: &str) -> usize {
    let found = fleet.ok(&["messages", "--device", "d1", "--limit", "1000"]);
    found.lines().filter(|line| line.contains(what)).count()
}

/// Every file and folder of an agent with its bytes, but for what SQLite shares between processes and
/// for the word that `verify` leaves.
fn everything(data: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut all = Vec::new();
    let mut open = vec![data.to_owned()];
    while let Some(path) = open.pop() {
        let seen = fs::symlink_metadata(&path).unwrap();
        if path.ends_with("journal.db-shm") || path.ends_with("requests") {
            continue;
        }
        if seen.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let bytes = if seen.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        all.push((path, seen.permissions().mode(), bytes));
    }
    all.sort();
    all
}

#[test]
fn a_verification_is_told_on_the_device_and_at_the_site() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    until("the agent has its policy", || fleet.status("d1")["policy"].is_object().then_some(()));
    let (code, found) = verify(&fleet, "d1");
    assert_eq!((code, &found["ok"]), (0, &json!(true)), "{found}");
    let at_site = until("the site knows", || {
        let found = device(&fleet, "d1");
        found["verified"].is_object().then_some(found)
    });
    assert_eq!(at_site["verified"]["ok"], true, "{at_site}");
    assert_eq!(at_site["verified"]["by"], "person", "{at_site}");
    assert_eq!(at_site["verified"]["checks"].as_array().unwrap().len(), 14, "{at_site}");
    assert_eq!(said(&fleet, "verified: all well"), 1);
    assert!(fleet.status("d1")["maintenance"]["verified"].is_object());
    let said = fleet.refused(1, &["agent", "verify", "--data", &fleet.path("site")]);
    assert!(said.contains("not the folder of an agent"), "{said}");
}

#[test]
fn a_device_that_is_off_is_verified_without_a_trace_and_tells_when_it_is_back() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    until("the agent has its policy", || fleet.status("d1")["policy"].is_object().then_some(()));
    fleet.terminate("d1");
    let data = fleet.dir.path().join("d1");
    let before = everything(&data);
    let (code, found) = verify(&fleet, "d1");
    assert_eq!(code, 0, "{found}");
    assert_eq!(everything(&data), before);
    fleet.start_agent("d1", &[]);
    until("the site knows", || device(&fleet, "d1")["verified"].is_object().then_some(()));
}

#[test]
fn what_is_damaged_is_named_mended_and_told() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    await_component(&fleet, "installed(-)");
    let data = fleet.dir.path().join("d1");
    fs::set_permissions(data.join("identity.json"), Permissions::from_mode(0o644)).unwrap();
    fs::remove_dir(data.join("runs")).unwrap();
    let (code, found) = verify(&fleet, "d1");
    assert_eq!(code, 1);
    assert_eq!(failed(&found), ["identity", "folders", "permissions", "certificate"], "{found}");
    until("both are mended", || (said(&fleet, ": mended") == 2).then_some(()));
    let mode = fs::metadata(data.join("identity.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(data.join("runs").is_dir());
    // Whether it took is seen by one more look, and that is told.
    until("all is well", || (device(&fleet, "d1")["verified"]["by"] == "repair").then_some(()));
    assert_eq!(device(&fleet, "d1")["verified"]["ok"], true);
    await_component(&fleet, "installed(-)");
}

#[test]
fn damaged_content_that_waits_for_its_time_is_fetched_again() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("hello", &fleet.mark(""), json!({}));
    let later = json!({"assignments": [{"name": "later", "at": "2099-01-01T00:00:00Z"}]});
    fleet.advertise("hello", "hello", &["d1"], later);
    let row = fleet.stands("d1", "hello", "waiting");
    assert!(row["reason"].as_str().unwrap().starts_with("time"), "{row}");
    let objects = fleet.dir.path().join("d1/content/objects");
    let shard = fs::read_dir(&objects).unwrap().next().unwrap().unwrap().path();
    let object = fs::read_dir(shard).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&object).unwrap();
    fs::write(&object, "damaged").unwrap();
    let (code, found) = verify(&fleet, "d1");
    assert_eq!((code, failed(&found)), (1, vec!["content"]), "{found}");
    until("it is whole again", || (fs::read(&object).ok()? == whole).then_some(()));
    until("that is told", || (said(&fleet, "repair of content") == 1).then_some(()));
    fleet.stands("d1", "hello", "waiting");
    assert_eq!(verify(&fleet, "d1").0, 0);
}

/// The first founding failure (Q283130), on a real device: verify, repair and a killed agent while a
/// program runs.
#[test]
fn verification_and_repair_leave_a_run_alone() {
    let mut fleet = Fleet::new();
    fleet.ok(&["site", "settings", "verifyEvery=1s"]);
    fleet.agents(1);
    let go_on = fleet.path("go-on");
    let script = fleet.mark(&format!("while [ ! -e {go_on} ]; do sleep 0.1; done"));
    fleet.publish("long", &script, json!({"rerun": "never"}));
    fleet.advertise("long", "long", &["d1"], json!({}));
    fleet.stands("d1", "long", "running");
    until("it has begun", || (fleet.truth().len() == 1).then_some(()));
    let runs = fleet.dir.path().join("d1/runs");
    for round in 0..6 {
        // Something of its own folder's is wrong, which a repair must leave for later.
        fs::set_permissions(&runs, Permissions::from_mode(0o755)).unwrap();
        let (code, found) = verify(&fleet, "d1");
        assert_eq!((code, failed(&found)), (1, vec!["permissions"]), "{found}");
        if round % 3 == 2 {
            fleet.kill("d1");
            fleet.restart("d1");
        }
    }
    until("the repair waits and says so", || {
        (said(&fleet, "permissions of runs: waiting(in-use") > 0).then_some(())
    });
    await_component(&fleet, "repair-pending(in-use)");
    assert_eq!(fs::metadata(&runs).unwrap().permissions().mode() & 0o777, 0o755);
    fleet.write("go-on", "");
    let row = fleet.stands("d1", "long", "succeeded");
    assert_eq!(row["attempt"], 1, "{row}");
    assert_eq!(fleet.truth().len(), 1);
    until("then it is mended", || {
        let mode = fs::metadata(&runs).unwrap().permissions().mode();
        (mode & 0o777 == 0o700).then_some(())
    });
    await_component(&fleet, "installed(-)");
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn the_site_switches_software_distribution_and_says_where_it_stands() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("hello", &fleet.mark(""), json!({}));
    fleet.ok(&["site", "settings", "softwareDistribution=off", "verifyEvery=off"]);
    let settings = fleet.json(&["site", "settings"]);
    assert_eq!(settings["softwareDistribution"], "off", "{settings}");
    await_component(&fleet, "not-available(switched-off)");
    fleet.advertise("hello", "hello", &["d1"], json!({}));
    let row = fleet.stands("d1", "hello", "waiting");
    assert!(row["reason"].as_str().unwrap().starts_with("switched-off"), "{row}");
    let status = fleet.status("d1");
    assert_eq!(status["components"][0]["state"], "not-available", "{status}");
    assert_eq!(status["maintenance"]["next"], Value::Null, "{status}");
    assert_eq!(fleet.truth().len(), 0);
    fleet.ok(&["site", "settings", "softwareDistribution=on"]);
    fleet.stands("d1", "hello", "succeeded");
    let refused = fleet.refused(2, &["site", "settings", "softwareDistribution=1h"]);
    assert!(refused.contains("on or off"), "{refused}");
    // A person on the device holds it still, and the site sees that too.
    let data = fleet.path("d1");
    fleet.ok(&["component", "pause", "software-distribution", "--data", &data]);
    await_component(&fleet, "paused(-)");
    fleet.ok(&["component", "resume", "software-distribution", "--data", &data]);
    await_component(&fleet, "installed(-)");
}
