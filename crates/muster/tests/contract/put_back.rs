//! A machine that is put back to a snapshot is mended; two machines with one identity never are.

use serde_json::{Value, json};

use crate::fleet::{Fleet, until};

/// What names the machine of a device. The boot is another one after each snapshot.
const MACHINE: (&str, &str) = ("MUSTER_MACHINE", "of-d1");

/// A fleet whose device `d1` says which machine it is of, and whose site watches for six seconds.
fn fleet() -> Fleet {
    fleet_that_polls(&["pollWait=2s"])
}

fn fleet_that_polls(settings: &[&str]) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.ok(&[&["site", "settings"], settings].concat());
    fleet.agents(1);
    fleet.terminate("d1");
    fleet.restart_with("d1", &[MACHINE]);
    fleet
}

/// A package whose program installs a file of its own that detection looks for.
fn publish_detected(fleet: &Fleet, name: &str, rerun: &str) {
    let script = fleet.mark(&format!("touch \"$MUSTER_ROOT/{name}\""));
    let file = fleet.package_file(name, "1", &script, json!({"rerun": rerun}));
    let mut document: Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    document["spec"]["detection"] =
        json!({"command": ["sh", "-c", format!("test -e $MUSTER_ROOT/{name}")]});
    std::fs::write(&file, document.to_string()).unwrap();
    fleet.ok(&["package", "publish", &file]);
}

/// The device, with nothing left to say, is copied to `copy`; the original goes on in boot `one`.
fn copied(fleet: &mut Fleet, copy: &str) -> Value {
    fleet.publish("mark", &fleet.mark(""), json!({}));
    fleet.all_told("d1");
    let device = fleet.status("d1")["device"].clone();
    fleet.terminate("d1");
    fleet.copy("d1", copy);
    fleet.restart_with("d1", &[MACHINE, ("MUSTER_BOOT_ID", "one")]);
    device
}

#[test]
fn a_machine_put_back_to_a_snapshot_goes_on_and_does_again_what_it_may() {
    let mut fleet = fleet();
    fleet.publish("mark", &fleet.mark(""), json!({}));
    publish_detected(&fleet, "detected", "if-not-detected");
    publish_detected(&fleet, "once", "never");
    fleet.advertise("before", "mark", &["d1"], json!({}));
    fleet.stands("d1", "before", "succeeded");
    fleet.all_told("d1");
    let device = fleet.status("d1")["device"].clone();
    fleet.terminate("d1");
    fleet.copy("d1", "snapshot");
    fleet.restart_with("d1", &[MACHINE]);
    for (ad, package) in [("plain", "mark"), ("detected", "detected"), ("once", "once")] {
        fleet.advertise(ad, package, &["d1"], json!({}));
        fleet.stands("d1", ad, "succeeded");
    }
    fleet.all_told("d1");
    fleet.terminate("d1");
    assert_eq!(fleet.truth().len(), 4, "{:?}", fleet.truth());
    fleet.copy("snapshot", "d1");
    fleet.restart_with("d1", &[MACHINE, ("MUSTER_BOOT_ID", "put-back")]);
    fleet.is_held(&device, "put back to a snapshot");
    until("it is mended", || (fleet.standing(&device).0 == "admitted").then_some(()));
    let plain = fleet.stands("d1", "plain", "rolled-back");
    assert_eq!(plain["reason"], "snapshot", "{plain}");
    // The software is gone with the snapshot: detection says so, and its author lets it run again.
    let again = fleet.stands("d1", "detected", "succeeded");
    assert_eq!((&again["reason"], &again["attempt"]), (&json!("detected"), &json!(2)), "{again}");
    fleet.stands("d1", "before", "succeeded");
    let chain = fleet.json(&["why", "d1", "plain"]);
    assert_eq!(chain["state"], "rolled-back", "{chain}");
    assert!(chain.to_string().contains("rolled-back(snapshot)"), "{chain}");
    // What may never run again is told by detection alone, and stays undone if it is not there.
    fleet.stands("d1", "once", "rolled-back");
    assert_eq!(fleet.truth().len(), 5, "{:?}", fleet.truth());
    fleet.ok(&["rerun", "plain", "--reason", "the machine was put back"]);
    until("it has run again", || (fleet.truth().len() == 6).then_some(()));
    fleet.stands("d1", "plain", "succeeded");
    fleet.stands("d1", "once", "rolled-back");
    fleet.all_told("d1");
    let said = fleet.json(&["messages", "--device", "d1", "--limit", "200"]).to_string();
    assert!(said.contains("put back to a snapshot"), "{said}");
    fleet.ok(&["accounting", "verify"]);
    // The same snapshot once more: a life that has ended speaks, and is mended again.
    fleet.terminate("d1");
    fleet.copy("snapshot", "d1");
    fleet.restart_with("d1", &[MACHINE, ("MUSTER_BOOT_ID", "once-more")]);
    fleet.advertise("after", "mark", &["d1"], json!({}));
    fleet.stands("d1", "after", "succeeded");
    assert_eq!(fleet.standing(&device).0, "admitted");
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn a_machine_put_back_to_before_its_journal_was_lost_is_mended() {
    let mut fleet = fleet();
    fleet.publish("mark", &fleet.mark(""), json!({}));
    fleet.all_told("d1");
    let device = fleet.status("d1")["device"].clone();
    fleet.terminate("d1");
    fleet.copy("d1", "snapshot");
    std::fs::remove_file(fleet.path("d1/journal.db")).unwrap();
    fleet.restart_with("d1", &[MACHINE]);
    fleet.advertise("between", "mark", &["d1"], json!({}));
    fleet.stands("d1", "between", "succeeded");
    fleet.all_told("d1");
    assert_eq!(fleet.status("d1")["incarnation"], 2);
    fleet.terminate("d1");
    fleet.copy("snapshot", "d1");
    // Nothing that the life before the loss says contradicts what the site has; that it asks does.
    fleet.terminate("site");
    fleet.restart_with("site", &[("MUSTER_CLOCK", "+20m")]);
    fleet.restart_with("d1", &[MACHINE, ("MUSTER_BOOT_ID", "put-back")]);
    fleet.is_held(&device, "put back to a snapshot");
    until("it is mended", || (fleet.standing(&device).0 == "admitted").then_some(()));
    fleet.stands("d1", "between", "rolled-back");
    assert_eq!(fleet.status("d1")["incarnation"], 4);
    assert_eq!(fleet.truth().len(), 1, "{:?}", fleet.truth());
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn a_copy_on_another_machine_is_held_until_a_person_says_that_there_is_one() {
    let mut fleet = fleet();
    let device = copied(&mut fleet, "copy");
    fleet.advertise("since", "mark", &["d1"], json!({}));
    fleet.stands("d1", "since", "succeeded");
    fleet.all_told("d1");
    fleet.terminate("d1");
    let other = [("MUSTER_MACHINE", "another"), ("MUSTER_BOOT_ID", "other")];
    fleet.start_agent("copy", &other);
    fleet.is_held(&device, "come from two machines");
    assert_eq!(fleet.status("copy")["incarnation"], fleet.status("d1")["incarnation"]);
    // It was moved to another machine, and the first is gone.
    fleet.ok(&["device", "approve", device.as_str().unwrap()]);
    fleet.is_held(&device, "put back to a snapshot");
    until("it is mended", || (fleet.standing(&device).0 == "admitted").then_some(()));
    assert_ne!(fleet.status("copy")["incarnation"], fleet.status("d1")["incarnation"]);
    fleet.stands("d1", "since", "rolled-back");
    fleet.advertise("after", "mark", &["d1"], json!({}));
    fleet.stands("d1", "after", "succeeded");
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn polls_that_are_held_for_an_hour_hide_no_second_machine() {
    let mut fleet = fleet_that_polls(&[]);
    let device = copied(&mut fleet, "copy");
    fleet.advertise("since", "mark", &["d1"], json!({}));
    fleet.stands("d1", "since", "succeeded");
    fleet.all_told("d1");
    fleet.start_agent("copy", &[MACHINE, ("MUSTER_BOOT_ID", "other")]);
    fleet.is_held(&device, "put back to a snapshot");
    fleet.is_held(&device, "two machines speak");
    assert_eq!(fleet.truth().len(), 1);
}

#[test]
fn two_copies_that_look_like_one_machine_are_told_apart_by_both_speaking() {
    let mut fleet = fleet();
    let device = copied(&mut fleet, "copy");
    fleet.start_agent("copy", &[MACHINE, ("MUSTER_BOOT_ID", "other")]);
    fleet.is_held(&device, "two machines speak");
    fleet.advertise("after", "mark", &["d1"], json!({}));
    fleet.stands("d1", "after", "waiting");
    assert_eq!(fleet.truth().len(), 0, "neither starts anything");
    fleet.ok(&["accounting", "verify"]);
    // A person says that there is one: the other one goes.
    let both = ["d1", "copy"];
    let mended = both.into_iter().find(|name| fleet.status(name)["incarnation"] != 1);
    let gone = both.into_iter().find(|name| Some(*name) != mended).unwrap();
    fleet.terminate(gone);
    fleet.ok(&["device", "approve", device.as_str().unwrap()]);
    fleet.stands("d1", "after", "succeeded");
    assert_eq!(fleet.truth().len(), 1);
    fleet.ok(&["accounting", "verify"]);
}
