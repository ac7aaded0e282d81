//! When things run: rules, times that went by, starts of the machine.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::fleet::{Fleet, until};

/// Every three seconds, for as long as anybody looks.
const OFTEN: &str = "DTSTART:20260101T000000Z\nRRULE:FREQ=SECONDLY;INTERVAL=3";

/// The states of each occurrence of an advertisement on `d1`, as the site has them.
fn occurrences(fleet: &Fleet, advertisement: &str) -> BTreeMap<String, String> {
    let found = fleet.json(&["accounting", advertisement, "--all", "--limit", "1000"]);
    let rows = found["devices"].as_array().unwrap().iter();
    let text = |row: &Value| match row["reason"].as_str() {
        Some(reason) => format!("{}({reason})", row["state"].as_str().unwrap()),
        None => row["state"].as_str().unwrap().to_owned(),
    };
    rows.map(|row| (row["occurrence"].as_str().unwrap().to_owned(), text(row))).collect()
}

fn count(found: &BTreeMap<String, String>, state: &str) -> usize {
    found.values().filter(|one| one.starts_with(state)).count()
}

#[test]
fn a_rule_goes_on_while_the_site_is_down_and_every_run_is_accounted_for() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("often", &fleet.mark(""), json!({}));
    let assignments = json!([{"name": "beat", "every": OFTEN}]);
    fleet.advertise("often", "often", &["d1"], json!({"assignments": assignments}));
    // What is to come hides no result.
    let row = fleet.stands("d1", "often", "succeeded");
    assert!(row["occurrence"].as_str().unwrap().starts_with("beat#"), "{row}");

    fleet.kill("site");
    let before = fleet.truth().len();
    until("runs without the site", || (fleet.truth().len() >= before + 4).then_some(()));
    fleet.restart("site");
    fleet.ok(&["stop", "often", "--reason", "enough"]);
    let ran = until("the runs of that time arrive", || {
        let (ran, found) = (fleet.truth().len(), occurrences(&fleet, "often"));
        (count(&found, "succeeded") == ran).then_some(ran)
    });
    assert!(ran >= before + 4);
    let numbers: Vec<String> = occurrences(&fleet, "often").into_keys().collect();
    assert!(numbers.contains(&"beat#1".to_owned()) && numbers.len() > ran, "{numbers:?}");
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn a_device_that_was_off_runs_once_and_accounts_for_what_it_missed() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("often", &fleet.mark(""), json!({}));
    let assignments = json!([{"every": OFTEN}]);
    fleet.advertise("often", "often", &["d1"], json!({"assignments": assignments}));
    until("a first run", || (!fleet.truth().is_empty()).then_some(()));
    fleet.kill("d1");
    // The site says what it must of a silent device.
    until("missed ones", || {
        (count(&occurrences(&fleet, "often"), "expired(missed)") >= 3).then_some(())
    });
    let ran = fleet.truth().len();
    fleet.restart("d1");
    until("a late run", || (fleet.truth().len() > ran).then_some(()));
    fleet.ok(&["stop", "often", "--reason", "enough"]);
    until("each run has its row", || {
        (count(&occurrences(&fleet, "often"), "succeeded") == fleet.truth().len()).then_some(())
    });
    // One of those may be the first, whose outcome had not left the device: its word is the last.
    let found = occurrences(&fleet, "often");
    assert!(count(&found, "expired(missed)") >= 2, "{found:?}");
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn a_time_that_went_by_follows_the_late_rule() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("late", &fleet.mark(""), json!({}));
    let past = json!([{"at": "2026-01-01T00:00:00Z"}]);
    for (late, state) in [("skip", "expired"), ("ask", "available"), ("run-late", "succeeded")] {
        fleet.advertise(late, "late", &["d1"], json!({"assignments": past, "late": late}));
        let row = fleet.stands("d1", late, state);
        let reason = if late == "skip" { json!("late") } else { row["reason"].clone() };
        assert_eq!(row["reason"], reason, "{row}");
    }
    assert_eq!(fleet.truth().len(), 1);
    let why = fleet.json(&["why", "d1", "skip"]);
    assert!(why.to_string().contains("expired(late)"), "{why}");
}

#[test]
fn a_start_up_assignment_waits_for_the_next_start_and_a_splay_for_its_part() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("boot", &fleet.mark(""), json!({}));
    fleet.advertise("boot", "boot", &["d1"], json!({"assignments": [{"at": "start-up"}]}));
    let row = fleet.stands("d1", "boot", "waiting");
    assert_eq!(row["reason"], "start-up", "{row}");
    fleet.advertise("splay", "boot", &["d1"], json!({"splay": "7d"}));
    let row = fleet.stands("d1", "splay", "waiting");
    let until_then = row["reason"].clone();
    assert!(until_then.as_str().unwrap().starts_with("time until 2"), "{row}");

    fleet.kill("d1");
    let data = fleet.path("d1");
    let restarted = [("MUSTER_BOOT_ID", "00000000-0000-4000-8000-000000000002")];
    fleet.start_with("d1", &["agent", "run", "--data", &data], &restarted);
    fleet.stands("d1", "boot", "succeeded");
    let row = fleet.stands("d1", "splay", "waiting");
    assert_eq!(row["reason"], until_then, "the same after a restart");
    assert_eq!(fleet.truth().len(), 1);
}

#[test]
fn a_rule_that_means_nothing_is_refused_with_its_field() {
    let fleet = Fleet::new();
    fleet.publish("p", "true", json!({}));
    for (assignment, more, words) in [
        (json!({"every": "RRULE:FREQ=DAILY"}), json!({}), "DTSTART"),
        (
            json!({"every": "DTSTART:20270101T000000\nRRULE:FREQ=DAILY;BYHOUR=25"}),
            json!({}),
            "BYHOUR",
        ),
        (
            json!({"every": "DTSTART:20200101T000000Z\nRRULE:FREQ=DAILY;COUNT=2"}),
            json!({}),
            "no time left",
        ),
        (json!({"at": "now", "every": OFTEN}), json!({}), "either at or every"),
        (json!({"every": OFTEN}), json!({"splay": "1m"}), "splay is 1m but"),
        (json!({"every": OFTEN}), json!({"late": "never"}), "late"),
    ] {
        let mut spec = json!({"package": "p", "program": "go", "collection": "all",
            "assignments": [assignment]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let document = json!({"apiVersion": "muster/v1", "kind": "Advertisement",
            "metadata": {"name": "bad"}, "spec": spec});
        let file = fleet.write("bad.yaml", &document.to_string());
        let said = fleet.refused(2, &["apply", "-f", &file]);
        assert!(said.contains(words) && said.contains("spec."), "{document}: {said}");
    }
}
