//! The accounts counted anew by something that shares no code with Muster: `scripts/recount`, on the raw
//! tables of a site and the journals of its devices, beside running roles and after kills.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::fleet::{Answer, Fleet, until};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/recount");

/// Runs the recount over the folders of a site and of devices.
pub(crate) fn recount(site: &str, devices: &[String]) -> Answer {
    let done = Command::new("python3").arg(SCRIPT).arg(site).args(devices).output();
    let done = done.unwrap_or_else(|why| panic!("python3 is needed (scripts/setup): {why}"));
    Answer {
        code: done.status.code().unwrap_or(-1),
        signal: None,
        out: String::from_utf8_lossy(&done.stdout).into_owned(),
        err: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}

#[track_caller]
fn holds(fleet: &Fleet, devices: &[&str]) {
    let devices: Vec<String> = devices.iter().map(|name| fleet.path(name)).collect();
    let said = recount(&fleet.path("site"), &devices);
    assert_eq!(said.code, 0, "{}", said.said());
}

/// Changes a copy of the site's database, and expects the recount to name this invariant.
#[track_caller]
fn sees(fleet: &Fleet, what: &str, invariant: &str, file: &str, change: &str) {
    let copy = fleet.path(&format!("copy-{}", what.replace(' ', "-")));
    for folder in ["site", "d1"] {
        let to = Path::new(&copy).join(folder);
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(fleet.path(folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.contains(".db") && !name.ends_with("-shm") {
                std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    }
    let change = format!(
        "import sqlite3; c = sqlite3.connect({:?}); n = c.execute({change:?}).rowcount; c.commit(); assert n",
        format!("{copy}/{file}")
    );
    let changed = Command::new("python3").args(["-c", &change]).output().unwrap();
    assert!(changed.status.success(), "{}", String::from_utf8_lossy(&changed.stderr));
    let said = recount(&format!("{copy}/site"), &[format!("{copy}/d1")]);
    assert_eq!(said.code, 1, "{what}: {}", said.said());
    assert!(said.out.contains(invariant), "{what}: {}", said.said());
}

#[test]
fn a_recount_finds_nothing_while_roles_work_and_are_killed_and_sees_what_is_altered() {
    let mut fleet = Fleet::new();
    fleet.agents(3);
    let all = ["d1", "d2", "d3"];
    fleet.publish("mark", &fleet.mark(""), json!({}));
    fleet.publish(
        "bad",
        "exit 3",
        json!({"rerun": "always", "attempts": 2, "retryDelays": ["1s"]}),
    );
    // An agent makes its journal after it was started: there is one to read once it has spoken.
    fleet.advertise("first", "mark", &all, json!({}));
    for device in all {
        fleet.stands(device, "first", "succeeded");
    }
    for round in 1..=2 {
        fleet.advertise(&format!("good-{round}"), "mark", &all, json!({}));
        fleet.advertise(&format!("bad-{round}"), "bad", &all, json!({}));
        holds(&fleet, &all);
        for name in ["d1", "d2", "site"] {
            fleet.kill(name);
            holds(&fleet, &all);
            fleet.restart(name);
        }
    }
    for round in 1..=2 {
        let (good, bad) = (format!("good-{round}"), format!("bad-{round}"));
        for device in all {
            fleet.stands(device, &good, "succeeded");
            fleet.stands(device, &bad, "failed");
        }
    }
    holds(&fleet, &all);
    assert_eq!(fleet.truth().len(), 9, "{:?}", fleet.truth());
    // A stream that falls back shows where its device was relieved of what the site then lacks.
    until("d1 is relieved", || (fleet.status("d1")["outbox"]["length"] == 0).then_some(()));
    for name in ["d1", "d2", "d3", "site"] {
        fleet.kill(name);
    }
    holds(&fleet, &all);
    let site = "site/site.db";
    let alterations = [
        ("a message is gone", "contiguity", site, "DELETE FROM message WHERE sequence = 2"),
        (
            "a message is another",
            "contiguity",
            site,
            "UPDATE message SET body = replace(body, '\"wall\":\"2', '\"wall\":\"3') WHERE sequence = 2",
        ),
        (
            "a counter drifts",
            "conservation",
            site,
            "INSERT INTO counter_delta (number, advertisement, occurrence, state, delta) SELECT 999999, advertisement, occurrence, 'failed', 1 FROM occurrence LIMIT 1",
        ),
        (
            "a row is gone",
            "existence",
            site,
            "DELETE FROM obligation WHERE rowid IN (SELECT rowid FROM obligation LIMIT 1)",
        ),
        (
            "a success is made up",
            "no phantom",
            site,
            "UPDATE obligation SET state = 'succeeded' WHERE state = 'failed'",
        ),
        ("a member was never one", "existence", site, "DELETE FROM membership"),
        ("a stream falls back", "custody", site, "UPDATE stream SET through = through - 1"),
        (
            "a journal forgets",
            "contiguity",
            "d1/journal.db",
            "DELETE FROM message WHERE sequence = 2",
        ),
        (
            "a record says another state",
            "durable before effect",
            "d1/journal.db",
            "UPDATE obligation SET body = replace(body, '\"state\":\"succeeded\"', '\"state\":\"timed-out\"')",
        ),
    ];
    for (what, invariant, file, change) in alterations {
        sees(&fleet, what, invariant, file, change);
    }
}
