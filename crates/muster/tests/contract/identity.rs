//! Who a device is when its disk is copied, put back, wiped, shared by two agents, or made an image of.

use serde_json::{Value, json};

use crate::fleet::{Fleet, until};

/// The names in the folder of a device.
fn names(fleet: &Fleet, device: &str) -> Vec<String> {
    let entries = std::fs::read_dir(fleet.path(device)).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn copies_of_a_golden_image_enrol_by_themselves_and_are_devices_of_their_own() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let data = fleet.path("d1");
    fleet.publish_gated();
    fleet.advertise("gated", "gated", &["d1"], json!({}));
    fleet.stands("d1", "gated", "running");
    let busy = fleet.refused(1, &["agent", "generalize", "--data", &data]);
    assert!(busy.contains(&format!("process {} (agent run)", fleet.pid("d1"))), "{busy}");
    fleet.terminate("site");
    fleet.terminate("d1");
    let busy = fleet.refused(1, &["agent", "generalize", "--data", &data]);
    assert!(busy.contains("still goes on"), "{busy}");
    fleet.open_gate();
    fleet.restart("d1");
    until("the outcome waits", || {
        let state = fleet.status("d1")["obligations"][0]["state"].clone();
        (state == "succeeded").then_some(())
    });
    fleet.terminate("d1");
    let unsent = fleet.refused(1, &["agent", "generalize", "--data", &data]);
    assert!(unsent.contains("the site lacks 1 outcome;"), "{unsent}");
    assert!(names(&fleet, "d1").contains(&"identity.json".to_owned()), "it is as it was");
    fleet.restart("site");
    fleet.restart("d1");
    fleet.all_told("d1");
    let first = fleet.status("d1")["device"].clone();
    fleet.terminate("d1");
    let token = fleet.token(3);
    let done = fleet.json(&["agent", "generalize", "--data", &data, "--token", &token]);
    assert_eq!((&done["device"], &done["discarded"]), (&first, &json!(0)), "{done}");
    assert_eq!(done["enrolsAt"], json!(fleet.url), "{done}");
    assert_eq!(names(&fleet, "d1"), ["first-boot.json", "lock", "settings.json"]);
    let copies = ["c1", "c2", "c3"];
    for name in copies {
        fleet.copy("d1", name);
        fleet.start_agent(name, &[]);
    }
    let mut devices: Vec<String> = copies
        .map(|name| {
            let status = until("it has enrolled", || {
                let found =
                    fleet.run(&["agent", "status", "--data", &fleet.path(name), "-o", "json"]);
                serde_json::from_str::<Value>(&found.out).ok()
            });
            assert!(!names(&fleet, name).contains(&"first-boot.json".to_owned()), "{name}");
            status["device"].as_str().unwrap().to_owned()
        })
        .to_vec();
    devices.push(first.as_str().unwrap().to_owned());
    devices.sort();
    devices.dedup();
    assert_eq!(devices.len(), 4, "three copies, and the one that the image was made of");
    assert_eq!(fleet.json(&["device", "list"])["items"].as_array().unwrap().len(), 4);
    fleet.ok(&["device", "retire", first.as_str().unwrap()]);
    let every = json!({"apiVersion": "muster/v1", "kind": "Collection",
        "metadata": {"name": "every"}, "spec": {"query": "device.os == 'linux'"}});
    let ad = json!({"apiVersion": "muster/v1", "kind": "Advertisement", "metadata": {"name": "ad"},
        "spec": {"package": "gated", "program": "go", "collection": "every",
            "assignments": [{"at": "now"}]}});
    let file = fleet.write("every.yaml", &format!("{every}\n---\n{ad}"));
    fleet.ok(&["apply", "-f", &file]);
    fleet.ok(&["wait", "ad", "--for", "complete", "--timeout", "90s"]);
    assert_eq!(fleet.json(&["accounting", "ad"])["states"]["succeeded"], 3);
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn an_image_without_a_token_waits_for_enroll_and_discard_is_said() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("mark", &fleet.mark(""), json!({}));
    fleet.advertise("ad", "mark", &["d1"], json!({}));
    fleet.stands("d1", "ad", "succeeded");
    fleet.all_told("d1");
    fleet.terminate("d1");
    let data = fleet.path("d1");
    fleet.write("d1/journal.db", "no journal");
    let said = fleet.refused(1, &["agent", "generalize", "--data", &data]);
    assert!(said.contains("which outcomes the site lacks"), "{said}");
    let said = fleet.run(&["agent", "generalize", "--data", &data, "--discard"]);
    assert!(said.code == 0 && said.out.contains("until `muster agent enroll`"), "{}", said.said());
    let none = fleet.refused(1, &["agent", "run", "--data", &data]);
    assert!(none.contains("not enrolled"), "{none}");
    let no_site =
        fleet.refused(2, &["agent", "generalize", "--data", &data, "--token", &fleet.token(1)]);
    assert!(no_site.contains("--site URL"), "{no_site}");
    let nowhere = fleet.path("nowhere");
    std::fs::create_dir_all(&nowhere).unwrap();
    fleet.refused(1, &["agent", "generalize", "--data", &nowhere]);
}

#[test]
fn two_machines_with_one_identity_are_held_and_each_gets_its_own() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("mark", &fleet.mark(""), json!({}));
    fleet.advertise("before", "mark", &["d1"], json!({}));
    fleet.stands("d1", "before", "succeeded");
    fleet.all_told("d1");
    let device = fleet.status("d1")["device"].clone();
    fleet.terminate("d1");
    fleet.copy("d1", "copy");
    fleet.restart_with("d1", &[("MUSTER_BOOT_ID", "one")]);
    fleet.start_agent("copy", &[("MUSTER_BOOT_ID", "other")]);
    fleet.is_held(&device, "");
    fleet.advertise("after", "mark", &["d1"], json!({}));
    let waiting = fleet.stands("d1", "after", "waiting");
    assert!(waiting["reason"].as_str().unwrap().starts_with("held"), "{waiting}");
    let aside = fleet.json(&["set-aside", "list"]).to_string();
    assert!(aside.contains(device.as_str().unwrap()), "the second history is kept: {aside}");
    assert_eq!(fleet.truth().len(), 1, "neither starts anything");
    // The way out: each gives the identity up, and is another device.
    let token = fleet.token(2);
    for name in ["d1", "copy"] {
        fleet.terminate(name);
        fleet.ok(&["agent", "leave", "--data", &fleet.path(name)]);
        fleet.agent(name, &token);
    }
    fleet.ok(&["device", "retire", device.as_str().unwrap()]);
    fleet.advertise("again", "mark", &["d1", "copy"], json!({}));
    fleet.stands("d1", "again", "succeeded");
    fleet.stands("copy", "again", "succeeded");
    assert_eq!(fleet.truth().len(), 3, "{:?}", fleet.truth());
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn a_machine_that_does_not_say_which_it_is_is_held_when_it_is_put_back_and_its_outcomes_stay() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("mark", &fleet.mark(""), json!({}));
    fleet.advertise("before", "mark", &["d1"], json!({}));
    fleet.stands("d1", "before", "succeeded");
    fleet.all_told("d1");
    let device = fleet.status("d1")["device"].clone();
    fleet.terminate("d1");
    fleet.copy("d1", "snapshot");
    fleet.restart("d1");
    fleet.advertise("since", "mark", &["d1"], json!({}));
    fleet.stands("d1", "since", "succeeded");
    fleet.all_told("d1");
    fleet.terminate("d1");
    fleet.copy("snapshot", "d1");
    fleet.restart_with("d1", &[("MUSTER_BOOT_ID", "put-back"), ("MUSTER_MACHINE", "")]);
    fleet.is_held(&device, "");
    fleet.stands("d1", "since", "succeeded");
    fleet.advertise("after", "mark", &["d1"], json!({}));
    // The site takes no word of the second history, so only the device can say why it waits.
    until("nothing new starts", || {
        let status = fleet.status("d1");
        let mut known = status["obligations"].as_array().unwrap().iter();
        let after = known.find(|one| one["name"] == "after")?;
        after["reason"].as_str()?.starts_with("held").then_some(())
    });
    let trouble = fleet.status("d1")["trouble"].to_string();
    assert!(trouble.contains("another history"), "{trouble}");
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn a_machine_installed_anew_is_another_device_and_nothing_is_merged() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("mark", &fleet.mark(""), json!({}));
    fleet.advertise("done", "mark", &["d1"], json!({}));
    fleet.stands("d1", "done", "succeeded");
    fleet.all_told("d1");
    let first = fleet.status("d1")["device"].clone();
    fleet.terminate("d1");
    fleet.advertise("owed", "mark", &["d1"], json!({}));
    std::fs::remove_dir_all(fleet.path("d1")).unwrap();
    let token = fleet.token(1);
    fleet.agent("d1", &token);
    let second = fleet.status("d1")["device"].clone();
    assert_ne!(first, second);
    let row = |ad: &str| {
        let found = fleet.json(&["accounting", ad]);
        let mut rows = found["devices"].as_array().unwrap().iter();
        rows.find(|row| row["device"] == first).cloned().unwrap_or(found)
    };
    assert_eq!(row("owed")["state"], "targeted", "the old device owes it still");
    fleet.ok(&["device", "retire", first.as_str().unwrap()]);
    let owed = row("owed");
    assert_eq!((&owed["state"], &owed["reason"]), (&json!("lost"), &json!("retired")), "{owed}");
    assert_eq!(row("done")["state"], "succeeded", "what it did stays its own");
    fleet.advertise("new", "mark", &["d1"], json!({}));
    assert_eq!(fleet.stands("d1", "new", "succeeded")["device"], second);
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn a_second_agent_on_a_folder_is_refused_by_the_firsts_process() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let (data, pid) = (fleet.path("d1"), fleet.pid("d1"));
    until("the first runs", || (fleet.status("d1")["running"] == pid).then_some(()));
    for command in ["run", "leave", "generalize"] {
        let said = fleet.refused(1, &["agent", command, "--data", &data]);
        assert!(said.contains(&format!("process {pid} (agent run)")), "{command}: {said}");
    }
    fleet.publish("mark", &fleet.mark(""), json!({}));
    fleet.advertise("ad", "mark", &["d1"], json!({}));
    fleet.stands("d1", "ad", "succeeded");
    assert_eq!(fleet.truth().len(), 1);
}

#[test]
fn a_clock_that_leaps_by_decades_during_a_run_doubles_and_skips_nothing() {
    let mut fleet = Fleet::new();
    fleet.agents(2);
    fleet.publish_gated();
    fleet.publish("mark", &fleet.mark(""), json!({}));
    fleet.advertise("gated", "gated", &["d1", "d2"], json!({}));
    let clocks = [("d1", "-20y"), ("d2", "+10y")];
    // One that is due in a year, and one that may not start any more in a year.
    let wall = muster_host::clock::Clock::from_env().unwrap().wall();
    let in_a_year = wall.plus(std::time::Duration::from_secs(365 * 86_400)).to_string();
    for (name, _) in clocks {
        fleet.stands(name, "gated", "running");
    }
    fleet.advertise("later", "mark", &["d1", "d2"], json!({"assignments": [{"at": in_a_year}]}));
    for (name, _) in clocks {
        fleet.stands(name, "later", "waiting");
    }
    for (name, clock) in clocks {
        fleet.kill(name);
        fleet.restart_with(name, &[("MUSTER_CLOCK", clock)]);
    }
    fleet.advertise("soon", "mark", &["d1", "d2"], json!({"expires": in_a_year}));
    fleet.open_gate();
    for (name, clock) in clocks {
        fleet.stands(name, "gated", "succeeded");
        fleet.stands(name, "soon", "succeeded");
        fleet.stands(name, "later", "waiting");
        let env = [("MUSTER_CLOCK", clock)];
        let data = fleet.path(name);
        let shown = fleet.run_with(&["agent", "status", "--data", &data, "-o", "json"], &env);
        assert!(shown.out.contains("the wall clock is"), "{}", shown.said());
    }
    // Set right again, nothing is caught up on twice.
    for (name, _) in clocks {
        fleet.kill(name);
        fleet.restart(name);
    }
    fleet.advertise("last", "mark", &["d1", "d2"], json!({}));
    for (name, _) in clocks {
        fleet.stands(name, "last", "succeeded");
        fleet.stands(name, "later", "waiting");
    }
    assert_eq!(fleet.truth().len(), 6, "{:?}", fleet.truth());
    fleet.ok(&["accounting", "verify"]);
}
