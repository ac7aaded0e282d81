//! Maintenance windows, freezes and emergencies, as an administrator sees them.

use std::process::Command;

use serde_json::{Value, json};

use crate::fleet::{Fleet, until};

/// An instant so many seconds from now, as manifests write it.
fn at(seconds: i64) -> String {
    let date = format!("now {seconds:+} seconds");
    let said = Command::new("date").args(["-u", "-d", &date, "+%FT%TZ"]).output().unwrap();
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

impl Fleet {
    /// Applies a window or freeze called `name`; answers what `apply` said.
    fn window(&self, name: &str, spec: Value) -> Value {
        let document = json!({"apiVersion": "muster/v1", "kind": "MaintenanceWindow",
            "metadata": {"name": name}, "spec": spec});
        let file = self.write(&format!("{name}.yaml"), &document.to_string());
        self.json(&["apply", "-f", &file])
    }

    /// A program that may take ten seconds, grace and all.
    fn publish_quick(&self) {
        self.ok(&["site", "settings", "termGrace=1s"]);
        self.publish("hello", &self.mark(""), json!({"maxRunTime": "9s"}));
    }
}

#[test]
fn a_run_waits_for_its_window_with_the_time_and_runs_when_it_opens() {
    let mut fleet = Fleet::new();
    fleet.publish_quick();
    let opens = at(40);
    fleet.window("later", json!({"collection": "all", "at": opens, "duration": "2h"}));
    fleet.agents(1);
    fleet.advertise("ad", "hello", &["d1"], json!({}));
    let row = fleet.stands("d1", "ad", "waiting");
    assert_eq!(row["reason"], format!("window until {opens}"), "{row}");
    assert_eq!(fleet.truth().len(), 0);
    let why = fleet.json(&["why", "d1", "ad"]);
    let steps = why["chain"].as_array().unwrap();
    let step = steps.iter().find(|step| step["step"] == "window").unwrap();
    assert_eq!(step["verdict"], "not yet", "{why}");
    assert!(step["because"].as_str().unwrap().contains(&opens), "{why}");
    let status = fleet.json(&["agent", "status", "--data", &fleet.path("d1")]);
    assert_eq!(status["windows"]["of"], json!(["window later"]), "{status}");
    assert_eq!(status["windows"]["runs"]["until"], opens, "{status}");
    fleet.stands("d1", "ad", "succeeded");
    let now = at(0);
    assert!(now >= opens, "{now} is before {opens}");
}

#[test]
fn a_freeze_holds_until_it_is_deleted_and_an_emergency_does_not_wait() {
    let mut fleet = Fleet::new();
    fleet.publish_quick();
    fleet.agents(1);
    let lasts = json!({"collection": "all", "effect": "freeze", "at": at(-60), "duration": "30d"});
    fleet.window("year-end", lasts);
    fleet.advertise("ad", "hello", &["d1"], json!({}));
    let row = fleet.stands("d1", "ad", "waiting");
    assert!(row["reason"].as_str().unwrap().starts_with("freeze until "), "{row}");
    fleet.advertise("urgent", "hello", &["d1"], json!({"emergency": true}));
    fleet.stands("d1", "urgent", "succeeded");
    assert_eq!(fleet.truth().len(), 1);
    let row = fleet.stands("d1", "ad", "waiting");
    assert!(row["reason"].as_str().unwrap().starts_with("freeze"), "{row}");
    fleet.ok(&["delete", "maintenance-window", "year-end"]);
    fleet.stands("d1", "ad", "succeeded");
}

#[test]
fn a_clock_that_is_years_ahead_opens_no_window() {
    let mut fleet = Fleet::new();
    fleet.publish_quick();
    let spec = json!({"collection": "all", "at": at(3 * 3_600), "duration": "2h"});
    fleet.window("tonight", spec);
    fleet.agents(1);
    fleet.kill("d1");
    // Within the window, if the machine's own clock counted.
    fleet.restart_with("d1", &[("MUSTER_CLOCK", "+4h")]);
    fleet.advertise("ad", "hello", &["d1"], json!({}));
    let row = fleet.stands("d1", "ad", "waiting");
    assert!(row["reason"].as_str().unwrap().starts_with("window until "), "{row}");
    assert_eq!(fleet.truth().len(), 0);
}

#[test]
fn a_window_without_room_is_warned_of_and_named() {
    let mut fleet = Fleet::new();
    fleet.publish("slow", &fleet.mark(""), json!({"maxRunTime": "2h"}));
    fleet.agents(1);
    fleet.advertise("ad", "slow", &["d1"], json!({"assignments": [{"at": at(3_600)}]}));
    let every = "DTSTART:20260101T010000 RRULE:FREQ=DAILY";
    let spec = json!({"collection": "ad", "every": every, "duration": "1h"});
    let applied = fleet.window("nightly", spec.clone());
    let warned = applied["items"][0]["warnings"][0].as_str().unwrap();
    assert!(warned.contains("advertisement `ad`") && warned.contains("nightly"), "{warned}");
    fleet.advertise("ad", "slow", &["d1"], json!({}));
    let row = fleet.stands("d1", "ad", "waiting");
    until("the device cannot see a window", || {
        let row = fleet.stands("d1", "ad", "waiting");
        (row["reason"] == "window").then_some(())
    });
    let why = fleet.json(&["why", "d1", "ad"]);
    let said = why["chain"].to_string();
    assert!(said.contains("needs 2h 10s in a window"), "{row} {why}");
    // Two windows that touch have room.
    let second = json!({"collection": "ad", "duration": "23h",
        "every": "DTSTART:20260101T020000 RRULE:FREQ=DAILY"});
    fleet.window("daily", second);
    fleet.stands("d1", "ad", "succeeded");
}

#[test]
fn windows_are_objects_like_all_others() {
    let fleet = Fleet::new();
    let every = "DTSTART;TZID=Europe/Vienna:20260103T020000 RRULE:FREQ=WEEKLY;BYDAY=SA";
    let spec = json!({"collection": "all", "every": every, "duration": "4h", "for": "runs"});
    fleet.window("saturdays", spec.clone());
    assert_eq!(fleet.window("saturdays", spec)["items"][0]["change"], "unchanged");
    let found = fleet.json(&["get", "maintenance-window", "saturdays"]);
    assert_eq!(found["status"]["zone"], "Europe/Vienna", "{found}");
    assert!(found["status"]["next"]["begins"].is_string(), "{found}");
    assert!(fleet.ok(&["get", "MaintenanceWindow"]).contains("saturdays"));
    let exported = fleet.ok(&["export"]);
    let file = fleet.write("exported.yaml", &exported);
    fleet.ok(&["diff", "-f", &file]);
    let wrong = json!({"apiVersion": "muster/v1", "kind": "MaintenanceWindow",
        "metadata": {"name": "w"}, "spec": {"collection": "all", "at": "now", "duration": "1h"}});
    let file = fleet.write("wrong.yaml", &wrong.to_string());
    let said = fleet.refused(2, &["apply", "-f", &file]);
    assert!(said.contains("spec.at") && said.contains("no time"), "{said}");
    let lab = json!({"apiVersion": "muster/v1", "kind": "Collection", "metadata": {"name": "lab"},
        "spec": {}});
    let file = fleet.write("lab.yaml", &lab.to_string());
    fleet.ok(&["apply", "-f", &file]);
    fleet.window("in-lab", json!({"collection": "lab", "at": at(0), "duration": "1h"}));
    let said = fleet.run(&["delete", "collection", "lab"]);
    assert!(said.code != 0 && said.err.contains("in-lab"), "{}", said.said());
    fleet.ok(&["rename", "collection", "lab", "laboratory"]);
    let found = fleet.json(&["get", "maintenance-window", "in-lab"]);
    assert_eq!(found["spec"]["collection"], "laboratory", "{found}");
    fleet.ok(&["delete", "maintenance-window", "in-lab"]);
    fleet.ok(&["delete", "collection", "laboratory"]);
}
