//! What is no longer advertised is removed: once, where Muster installed it, and nowhere else.

use serde_json::{Value, json};

use crate::fleet::{Fleet, until};

/// Publishes `tool`: `go` puts a file into the device's root, `uninstall` takes it away after `script`;
/// both leave a line in the truth file.
fn publish(fleet: &Fleet, script: &str) {
    publish_as(fleet, "tool", script);
}

/// Publishes the same under another name.
fn publish_as(fleet: &Fleet, name: &str, script: &str) {
    let truth = fleet.path("truth");
    let mark = |word: &str| format!("echo \"{word} $MUSTER_DEVICE_NAME\" >> '{truth}'\n");
    fleet.write("tool/go.sh", &format!("{}touch \"$MUSTER_ROOT/tool\"\n", mark("in")));
    let off = format!("{}{script}\nrm -f \"$MUSTER_ROOT/tool\"\n", mark("out"));
    fleet.write("tool/off.sh", &off);
    fleet.write("tool/see.sh", "test -e \"$MUSTER_ROOT/tool\"\n");
    let document = json!({"apiVersion": "muster/v1", "kind": "Package",
        "metadata": {"name": name},
        "spec": {"version": "1", "content": "./tool", "programs": [
            {"name": "go", "commandLine": "sh go.sh"},
            {"name": "uninstall", "commandLine": "sh off.sh", "achieves": "absent", "rerun": "never"},
        ], "detection": {"commandLine": "sh see.sh"}}});
    let file = fleet.write(&format!("{name}.yaml"), &document.to_string());
    fleet.ok(&["package", "publish", &file]);
}

fn removal(after: &str) -> Value {
    json!({"removal": {"program": "uninstall", "after": after}})
}

/// The truth of one device, line by line.
fn done(fleet: &Fleet, device: &str) -> Vec<String> {
    let lines = fleet.truth().into_iter();
    let mine = lines.filter_map(|line| line.strip_suffix(&format!(" {device}")).map(str::to_owned));
    mine.collect()
}

/// Waits until the newest word about the device is that a removal succeeded.
fn removed(fleet: &Fleet, device: &str, advertisement: &str) -> Value {
    until(&format!("{device} is rid of {advertisement}"), || {
        let row = fleet.stands(device, advertisement, "succeeded");
        row["occurrence"].as_str()?.starts_with("(removal)#").then_some(row)
    })
}

#[test]
fn leaving_deletion_and_expiry_remove_once_and_what_is_wanted_elsewhere_stays() {
    let mut fleet = Fleet::on_postgres();
    fleet.agents(4);
    publish(&fleet, "");
    let now = || removal("0s");
    fleet.advertise("leave", "tool", &["d1", "d4"], now());
    let said = fleet.ok(&["accounting", "leave"]);
    assert!(said.contains("2 members"), "{said}");
    fleet.advertise("gone", "tool", &["d2"], now());
    fleet.advertise("late", "tool", &["d3"], now());
    for (device, name) in [("d1", "leave"), ("d4", "leave"), ("d2", "gone"), ("d3", "late")] {
        fleet.stands(device, name, "succeeded");
    }
    fleet.advertise("keeps", "tool", &["d4"], json!({}));
    let kept = fleet.stands("d4", "keeps", "succeeded");
    assert_eq!(kept["reason"], "already-present", "{kept}");
    let gone = fleet.json(&["get", "advertisement", "gone"])["metadata"]["id"].clone();
    fleet.advertise("leave", "tool", &[], now());
    fleet.ok(&["delete", "advertisement", "gone"]);
    let soon = ["-u", "-d", "+2 sec", "+%Y-%m-%dT%H:%M:%SZ"];
    let soon = std::process::Command::new("date").args(soon).output().unwrap().stdout;
    let soon = String::from_utf8(soon).unwrap();
    let late = json!({"removal": removal("0s")["removal"], "expires": soon.trim()});
    fleet.advertise("late", "tool", &["d3"], late);
    let row = removed(&fleet, "d1", "leave");
    assert_eq!((&row["rule"], &row["exitCode"]), (&json!("detected"), &json!(0)), "{row}");
    removed(&fleet, "d2", gone.as_str().unwrap());
    let said = fleet.refused(1, &["accounting", "gone"]);
    assert!(said.contains(gone.as_str().unwrap()), "the id looks back: {said}");
    removed(&fleet, "d3", "late");
    let why = fleet.ok(&["why", "d1", "leave"]);
    assert!(why.contains("no longer a member of `leave`"), "{why}");
    for device in ["d1", "d2", "d3"] {
        assert_eq!(done(&fleet, device), ["in", "out"], "{device}");
    }
    let row = fleet.stands("d4", "leave", "succeeded");
    assert_eq!(row["occurrence"], "a1#1", "the other advertisement keeps it: {row}");
    assert_eq!(done(&fleet, "d4"), ["in"]);
    fleet.ok(&["delete", "advertisement", "keeps"]);
    removed(&fleet, "d4", "leave");
    assert_eq!(done(&fleet, "d4"), ["in", "out"]);
    let refused = fleet.refused(2, &["rerun", "leave", "--device", "d1", "--reason", "again"]);
    assert!(refused.contains("is not meant any more"), "{refused}");
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn who_is_meant_again_in_time_keeps_it() {
    let mut fleet = Fleet::new();
    fleet.agents(2);
    publish(&fleet, "");
    fleet.advertise("ad", "tool", &["d1", "d2"], removal("1h"));
    fleet.ok(&["wait", "ad", "--for", "complete", "--timeout", "60s"]);
    fleet.advertise("ad", "tool", &["d1"], removal("1h"));
    let why = until("the grace begins", || {
        let why = fleet.ok(&["why", "d2", "ad"]);
        why.contains("unless it is advertised again").then_some(why)
    });
    assert!(why.contains("what was installed is removed"), "{why}");
    fleet.ok(&["accounting", "verify"]);
    let row = fleet.stands("d2", "ad", "succeeded");
    assert_eq!(row["occurrence"], "a1#1", "until then it stands where it stood: {row}");
    // A device that is off line when its removal is opened, and when it is taken back.
    fleet.kill("d2");
    fleet.advertise("ad", "tool", &["d1"], removal("0s"));
    fleet.stands("d2", "ad", "targeted");
    fleet.advertise("ad", "tool", &["d1", "d2"], removal("0s"));
    until("it is taken back", || {
        let all = fleet.json(&["accounting", "ad", "--all"]);
        let row =
            all["devices"].as_array()?.iter().find(|row| row["state"] == "withdrawn")?.clone();
        (row["reason"] == "advertised-again").then_some(())
    });
    fleet.restart("d2");
    fleet.ok(&["wait", "ad", "--for", "complete", "--timeout", "60s"]);
    assert_eq!(fleet.stands("d2", "ad", "succeeded")["occurrence"], "a1#1");
    assert_eq!(done(&fleet, "d2"), ["in"]);
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn a_removal_that_is_declared_no_more_or_of_another_package_is_given_up() {
    let mut fleet = Fleet::new();
    fleet.agents(2);
    publish(&fleet, "");
    publish_as(&fleet, "other", "");
    for (device, name) in [("d1", "changed"), ("d2", "dropped")] {
        fleet.advertise(name, "tool", &[device], removal("0s"));
        fleet.stands(device, name, "succeeded");
        fleet.kill(device);
        fleet.advertise(name, "tool", &[], removal("0s"));
        fleet.stands(device, name, "targeted");
    }
    fleet.advertise("changed", "other", &[], removal("0s"));
    fleet.advertise("dropped", "tool", &[], json!({}));
    for (device, name) in [("d1", "changed"), ("d2", "dropped")] {
        until("the removal is given up", || {
            let all = fleet.json(&["accounting", name, "--all"]);
            let mut rows = all["devices"].as_array()?.iter();
            rows.find(|row| row["reason"] == "assignment-removed").map(|_| ())
        });
        fleet.restart(device);
        fleet.stands(device, name, "succeeded");
    }
    fleet.advertise("after", "other", &["d1", "d2"], json!({}));
    for device in ["d1", "d2"] {
        fleet.stands(device, "after", "succeeded");
        assert_eq!(done(&fleet, device), ["in"]);
    }
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn a_removal_survives_a_crash_and_a_lost_journal_and_ends_in_a_new_installation() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let gate = fleet.path("gate");
    publish(&fleet, &format!("while [ ! -e '{gate}' ]; do sleep 0.1; done"));
    fleet.advertise("ad", "tool", &["d1"], removal("0s"));
    fleet.stands("d1", "ad", "succeeded");
    fleet.advertise("ad", "tool", &[], removal("0s"));
    until("the removal runs", || (done(&fleet, "d1") == ["in", "out"]).then_some(()));
    fleet.kill("d1");
    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        let _ = std::fs::remove_file(fleet.path(&format!("d1/{name}")));
    }
    fleet.restart("d1");
    fleet.open_gate();
    removed(&fleet, "d1", "ad");
    assert_eq!(done(&fleet, "d1"), ["in", "out"], "one execution");
    fleet.advertise("ad", "tool", &["d1"], removal("0s"));
    until("it is installed again", || (done(&fleet, "d1") == ["in", "out", "in"]).then_some(()));
    let row = fleet.stands("d1", "ad", "succeeded");
    assert_eq!(row["occurrence"], "(rerun)#1", "{row}");
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn a_removal_that_removes_nothing_is_refused_with_its_field() {
    let fleet = Fleet::new();
    publish(&fleet, "");
    let refused = |more: Value| {
        let file = fleet.advertisement_file("ad", "tool", &[], more);
        fleet.refused(2, &["apply", "-f", &file])
    };
    let said = refused(json!({"removal": {"program": "go"}}));
    assert!(said.contains("spec.removal.program"), "{said}");
    let said = refused(json!({"removal": {"program": "missing"}}));
    assert!(said.contains("has no program `missing`; it has: go, uninstall"), "{said}");
    let said = refused(json!({"program": "uninstall", "removal": {"program": "go"}}));
    assert!(said.contains("`go` does not say `achieves: absent`"), "{said}");
}
