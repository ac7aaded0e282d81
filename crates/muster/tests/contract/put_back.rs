//! A machine that is put back to a snapshot is mended; two machines with one identity never are.

use serde_json::{Value, json};

use crate::fleet::{Fleet, until};

/// What names the machine of a device. The boot is another one after each snapshot.
const MACHINE: (&str, &str) = ("MUSTER_MACHINE", "of-d1");

/// A fleet whose device `d1` says which machine it is of, and whose site watches for six seconds.
fn fleet() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.ok(&["site", "settings", "pollWait=2s"]);
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

fn told(fleet: &Fleet, name: &str) {
    until("the outbox is empty", || (fleet.status(name)["outbox"]["length"] == 0).then_some(()));
}

/// Copies the folder of a stopped device, and its root.
fn copy(fleet: &Fleet, from: &str, to: &str) {
    for end in ["", "-root"] {
        let (from, to) = (fleet.path(&format!("{from}{end}")), fleet.path(&format!("{to}{end}")));
        let _ = std::fs::remove_dir_all(&to);
        let done = std::process::Command::new("cp").arg("-a").args([&from, &to]).status();
        assert!(done.unwrap().success(), "{from} is copied to {to}");
    }
}

fn standing(fleet: &Fleet, device: &Value) -> (Value, String) {
    let listed = fleet.json(&["device", "list"]);
    let items = listed["items"].as_array().unwrap();
    let item = items.iter().find(|item| item["id"] == *device).unwrap();
    (item["standing"].clone(), item["heldBecause"].as_str().unwrap_or_default().to_owned())
}

fn is_held_for(fleet: &Fleet, device: &Value, why: &str) {
    until(&format!("it is held: {why}"), || {
        let (standing, because) = standing(fleet, device);
        (standing == "held" && because.contains(why)).then_some(())
    });
}

#[test]
fn a_machine_put_back_to_a_snapshot_goes_on_and_does_again_what_it_may() {
    let mut fleet = fleet();
    fleet.publish("mark", &fleet.mark(""), json!({}));
    publish_detected(&fleet, "detected", "if-not-detected");
    publish_detected(&fleet, "once", "never");
    fleet.advertise("before", "mark", &["d1"], json!({}));
    fleet.stands("d1", "before", "succeeded");
    told(&fleet, "d1");
    let device = fleet.status("d1")["device"].clone();
    fleet.terminate("d1");
    copy(&fleet, "d1", "snapshot");
    fleet.restart_with("d1", &[MACHINE]);
    for (ad, package) in [("plain", "mark"), ("detected", "detected"), ("once", "once")] {
        fleet.advertise(ad, package, &["d1"], json!({}));
        fleet.stands("d1", ad, "succeeded");
    }
    told(&fleet, "d1");
    fleet.terminate("d1");
    assert_eq!(fleet.truth().len(), 4, "{:?}", fleet.truth());
    copy(&fleet, "snapshot", "d1");
    fleet.restart_with("d1", &[MACHINE, ("MUSTER_BOOT_ID", "put-back")]);
    is_held_for(&fleet, &device, "put back to a snapshot");
    until("it is mended", || (standing(&fleet, &device).0 == "admitted").then_some(()));
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
    told(&fleet, "d1");
    let said = fleet.json(&["messages", "--device", "d1", "--limit", "200"]).to_string();
    assert!(said.contains("put back to a snapshot"), "{said}");
    fleet.ok(&["accounting", "verify"]);
    // The same snapshot once more: a life that has ended speaks, and is mended again.
    fleet.terminate("d1");
    copy(&fleet, "snapshot", "d1");
    fleet.restart_with("d1", &[MACHINE, ("MUSTER_BOOT_ID", "once-more")]);
    fleet.advertise("after", "mark", &["d1"], json!({}));
    fleet.stands("d1", "after", "succeeded");
    assert_eq!(standing(&fleet, &device).0, "admitted");
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn a_copy_on_another_machine_is_held_and_never_mended() {
    let mut fleet = fleet();
    fleet.publish("mark", &fleet.mark(""), json!({}));
    told(&fleet, "d1");
    let device = fleet.status("d1")["device"].clone();
    fleet.terminate("d1");
    copy(&fleet, "d1", "copy");
    fleet.restart_with("d1", &[MACHINE, ("MUSTER_BOOT_ID", "one")]);
    fleet.advertise("since", "mark", &["d1"], json!({}));
    fleet.stands("d1", "since", "succeeded");
    told(&fleet, "d1");
    fleet.terminate("d1");
    let other = [("MUSTER_MACHINE", "another"), ("MUSTER_BOOT_ID", "other")];
    fleet.start_agent("copy", &other);
    is_held_for(&fleet, &device, "come from two machines");
    assert_eq!(fleet.status("copy")["incarnation"], fleet.status("d1")["incarnation"]);
}

#[test]
fn two_copies_that_look_like_one_machine_are_told_apart_by_both_speaking() {
    let mut fleet = fleet();
    fleet.publish("mark", &fleet.mark(""), json!({}));
    told(&fleet, "d1");
    let device = fleet.status("d1")["device"].clone();
    fleet.terminate("d1");
    copy(&fleet, "d1", "copy");
    fleet.restart_with("d1", &[MACHINE, ("MUSTER_BOOT_ID", "one")]);
    fleet.start_agent("copy", &[MACHINE, ("MUSTER_BOOT_ID", "other")]);
    is_held_for(&fleet, &device, "two machines speak");
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
