//! Power cuts on a disk that forgets whatever was not synced: agent, supervisors and programs end at one
//! moment, and what they left is what the device goes on from.
//!
//! The disk is a file system of its own, mounted where the agent keeps its state. Without /dev/fuse this
//! fails: a proof that was not made must not look like one that was. MUSTER_TEST_WITHOUT_FUSE=1 says
//! that somebody knows.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use muster_amnesia::Amnesia;
use serde_json::{Value, json};

use crate::fleet::{Fleet, until};

/// Power cuts, each at its own moment of a run.
const CUTS: u64 = 14;
/// Writes and syncs from the advertisement to the outcome, about.
const RUN_OPERATIONS: u64 = 120;
/// The same while the program runs.
const PROGRAM_OPERATIONS: u64 = 12;
/// Steele and Vigna's multiplier: spreads the moments of the cuts over a run.
const SPREAD: u64 = 0xd134_2543_de82_ef95;

#[test]
fn a_device_on_a_disk_that_forgets_runs_once_and_guesses_nothing() {
    let mut fleet = Fleet::new();
    let Some(mut disk) = mount(&fleet.path("d1")) else { return };
    fleet.agents(1);
    let truth = fleet.path("truth");
    // What it prints is written as it goes, so that cuts find the program half done.
    let numbers: Vec<String> = (1..=20).map(|n| n.to_string()).collect();
    let script = format!(
        "echo \"$MUSTER_ADVERTISEMENT_NAME\" >> '{truth}'\nfor n in {}; do echo $n; sleep 0.02; done\n",
        numbers.join(" ")
    );
    fleet.publish("mark", &script, json!({}));
    fleet.advertise("whole", "mark", &["d1"], json!({}));
    fleet.stands("d1", "whole", "succeeded");
    let mut states = BTreeMap::new();
    for round in 1..=CUTS {
        let name = format!("cut{round}");
        // Every other cut comes while the program runs and prints.
        let moment = 1 + (round.wrapping_mul(SPREAD) >> 32) % RUN_OPERATIONS;
        let mut waits = round % 2 == 0;
        if !waits {
            disk.cut_after(moment);
        }
        fleet.advertise(&name, "mark", &["d1"], json!({}));
        until("the power is cut, or the run is over first", || {
            if waits && fleet.truth().contains(&name) {
                disk.cut_after(1 + moment % PROGRAM_OPERATIONS);
                waits = false;
            }
            (disk.is_cut() || row(&fleet, &name)["state"] == "succeeded").then_some(())
        });
        power_cut(&mut fleet, "d1");
        disk.boot(round).unwrap();
        fleet.restart_with("d1", &[("MUSTER_BOOT_ID", &format!("boot{round}"))]);
        fleet.ok(&["wait", &name, "--for", "complete", "--timeout", "1m"]);
        let row = row(&fleet, &name);
        let ran = fleet.truth().iter().filter(|line| **line == name).count();
        let state = row["state"].as_str().unwrap();
        let allowed = [("succeeded", 1), ("interrupted", 0), ("interrupted", 1)];
        assert!(allowed.contains(&(state, ran)), "{name}: ran {ran} times: {row}");
        *states.entry(state.to_owned()).or_insert(0) += 1;
    }
    eprintln!("{CUTS} power cuts: {states:?}");
    assert_eq!(states.len(), 2, "no cut fell into a program, or each did: {states:?}");
    until("the device finds nothing wrong with itself", || {
        let verified = fleet.run(&["agent", "verify", "--data", &fleet.path("d1")]);
        (verified.code == 0).then_some(())
    });
    assert_eq!(fleet.status("d1")["incarnation"], 1, "it never lost its memory");
    let listed = fleet.json(&["device", "list"]);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "the device is still one");
    fleet.ok(&["accounting", "verify"]);
    power_cut(&mut fleet, "d1");
}

/// A disk that forgets, mounted at `folder`.
fn mount(folder: &str) -> Option<Amnesia> {
    std::fs::create_dir_all(folder).unwrap();
    match Amnesia::mount(Path::new(folder)) {
        Ok(disk) => Some(disk),
        Err(error) if std::env::var_os("MUSTER_TEST_WITHOUT_FUSE").is_some() => {
            eprintln!("SKIPPED, as MUSTER_TEST_WITHOUT_FUSE says: {error}: {}", error.source);
            None
        }
        Err(error) => panic!("{error}: {}; MUSTER_TEST_WITHOUT_FUSE=1 skips this", error.source),
    }
}

/// The row of the one device.
fn row(fleet: &Fleet, advertisement: &str) -> Value {
    fleet.json(&["accounting", advertisement])["devices"][0].clone()
}

/// Ends, at once, everything that has a file below the folder of a device open, or works there.
fn power_cut(fleet: &mut Fleet, name: &str) {
    if fleet.ended(name).is_none() {
        fleet.kill(name);
    }
    let folder = fleet.path(name);
    until("nothing has the disk open", || {
        let there = processes_in(Path::new(&folder));
        for pid in &there {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
        there.is_empty().then_some(())
    });
}

fn processes_in(folder: &Path) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        entry
            .ok()?
            .file_name()
            .to_str()?
            .parse::<u32>()
            .ok()
            .filter(|pid| *pid != std::process::id())
    });
    pids.filter(|pid| {
        let process = Path::new("/proc").join(pid.to_string());
        let open = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let mut links = open.map(|entry| entry.path()).chain([process.join("cwd")]);
        links.any(|link| std::fs::read_link(link).is_ok_and(|to| to.starts_with(folder)))
    })
    .collect()
}
