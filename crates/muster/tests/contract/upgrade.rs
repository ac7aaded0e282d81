//! The agent upgrades itself: a release is published and advertised like any other package, taken up on
//! trial, and left again if it does not reach the site. Whatever it is, no run notices.
//!
//! A release of these tests is a script called `muster`, which executes the program under test or
//! something broken: what the agent lays out, executes and watches over is what stands in the package.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;

use serde_json::{Value, json};

use crate::fleet::{Fleet, until};

/// What a release does when it is executed: it is the program under test.
const GOOD: &str = "exec MUSTER \"$@\"";

/// The manifest file of a release.
fn release_file(fleet: &Fleet, name: &str, version: &str, script: &str, release: Value) -> String {
    let script = script.replace("MUSTER ", concat!(env!("CARGO_BIN_EXE_muster"), " "));
    let shell = if script.starts_with("#!") { "" } else { "#!/bin/sh\n" };
    let program = fleet.write(&format!("{name}/muster"), &format!("{shell}{script}\n"));
    fs::set_permissions(program, Permissions::from_mode(0o755)).unwrap();
    let document = json!({"apiVersion": "muster/v1", "kind": "Package", "metadata": {"name": name},
        "spec": {"version": version, "content": format!("./{name}"), "agentRelease": release}});
    fleet.write(&format!("{name}.yaml"), &document.to_string())
}

/// Publishes a release and advertises it, under its package's name, to `members`.
fn upgrade(fleet: &Fleet, name: &str, version: &str, script: &str, members: &[&str]) {
    publish(fleet, name, version, script, json!({}));
    advertise(fleet, name, members);
}

fn publish(fleet: &Fleet, name: &str, version: &str, script: &str, release: Value) {
    let file = release_file(fleet, name, version, script, release);
    fleet.ok(&["package", "publish", &file]);
}

fn advertise(fleet: &Fleet, name: &str, members: &[&str]) {
    fleet.advertise(name, name, members, json!({"program": "upgrade"}));
}

/// What `agent status` says of the agent's version: `0.2 current`.
fn version(fleet: &Fleet, device: &str) -> String {
    let agent = fleet.status(device)["agent"].clone();
    let word = |name: &str| agent[name].as_str().unwrap_or("-").to_owned();
    format!("{} {}", word("version"), word("state"))
}

/// While a release is on trial it is a child; then the process that the service manager started is the
/// agent again.
fn goes_on_in_its_process(fleet: &Fleet, device: &str) {
    let started = u64::from(fleet.pid(device));
    until("the agent is that process", || {
        (fleet.status(device)["running"].as_u64() == Some(started)).then_some(())
    });
}

/// A program that goes on until the file `go-on` is there, then exits 7.
fn long_run(fleet: &mut Fleet) {
    let script =
        fleet.mark(&format!("while [ ! -e {} ]; do sleep 0.1; done\nexit 7", fleet.path("go-on")));
    fleet.publish("long", &script, json!({"rerun": "never", "successCodes": [7]}));
    fleet.advertise("long", "long", &["d1"], json!({}));
    fleet.stands("d1", "long", "running");
    until("it has begun", || (fleet.truth().len() == 1).then_some(()));
}

fn run_ends_well(fleet: &Fleet) {
    fleet.write("go-on", "");
    let row = fleet.stands("d1", "long", "succeeded");
    assert_eq!((&row["attempt"], &row["exitCode"]), (&json!(1), &json!(7)), "{row}");
    assert_eq!(fleet.truth().len(), 1);
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn a_release_is_taken_up_during_a_run_under_the_same_process() {
    let mut fleet = Fleet::new();
    fleet.ok(&["site", "settings", "upgradeWait=3s"]);
    fleet.agents(1);
    long_run(&mut fleet);
    upgrade(&fleet, "agent-2", "0.2", GOOD, &["d1"]);
    let row = fleet.stands("d1", "agent-2", "waiting");
    assert!(row["reason"].as_str().unwrap().starts_with("turn until "), "{row}");
    let row = fleet.stands("d1", "agent-2", "succeeded");
    assert_eq!(row["reason"], "reached-site", "{row}");
    until("it stands", || (version(&fleet, "d1") == "0.2 current").then_some(()));
    goes_on_in_its_process(&fleet, "d1");
    let seen = fleet.json(&["get", "device", "d1"]);
    assert!(seen.to_string().contains("\"agentVersion\":\"0.2\""), "{seen}");
    fleet.stands("d1", "long", "running");
    run_ends_well(&fleet);
    // The next start executes it again, whatever the installed program is.
    fleet.kill("d1");
    fleet.restart("d1");
    until("it runs again", || (version(&fleet, "d1") == "0.2 current").then_some(()));
    fleet.publish("mark", &fleet.mark(""), json!({}));
    fleet.advertise("mark", "mark", &["d1"], json!({}));
    fleet.stands("d1", "mark", "succeeded");
}

/// The third founding failure (Q322967) on a real device, and the first beside it: verification, repair
/// and upgrade, again and again, while a program runs.
#[test]
fn verify_repair_and_upgrades_leave_a_run_alone() {
    let mut fleet = Fleet::new();
    fleet.ok(&["site", "settings", "verifyEvery=1s", "upgradeWait=1s"]);
    fleet.agents(1);
    long_run(&mut fleet);
    let runs = fleet.dir.path().join("d1/runs");
    for n in 2..=4 {
        fs::set_permissions(&runs, Permissions::from_mode(0o755)).unwrap();
        let name = format!("agent-{n}");
        upgrade(&fleet, &name, &format!("0.{n}"), GOOD, &["d1"]);
        fleet.run(&["agent", "verify", "--data", &fleet.path("d1")]);
        let row = fleet.stands("d1", &name, "succeeded");
        assert_eq!(row["reason"], "reached-site", "{row}");
    }
    until("the last one stands", || (version(&fleet, "d1") == "0.4 current").then_some(()));
    // Only what stands and what stood before it stay.
    until("older ones go", || {
        let folders = fs::read_dir(fleet.dir.path().join("d1/versions")).unwrap();
        let folders = folders.filter(|one| one.as_ref().unwrap().path().is_dir());
        (folders.count() == 2).then_some(())
    });
    run_ends_well(&fleet);
}

#[test]
fn a_release_that_ends_hangs_or_cannot_be_executed_returns_by_itself() {
    let mut fleet = Fleet::new();
    fleet.ok(&["site", "settings", "upgradeTrial=4s"]);
    fleet.agents(3);
    upgrade(&fleet, "ends", "0.2", "exit 3", &["d1"]);
    upgrade(&fleet, "hangs", "0.2", "exec sleep 100", &["d2"]);
    upgrade(&fleet, "garbage", "0.2", "#!/nowhere/at-all", &["d3"]);
    for (device, name, why) in [
        ("d1", "ends", "it ended by itself 3 times, last with exit status: 3"),
        ("d2", "hangs", "it did not reach the site within 4s"),
        ("d3", "garbage", "it cannot be executed: No such file or directory (os error 2)"),
    ] {
        let row = fleet.stands(device, name, "failed");
        assert_eq!(row["reason"], format!("returned: {why}"), "{row}");
        let installed = format!("{} current", env!("CARGO_PKG_VERSION"));
        until("the version before is back", || {
            (version(&fleet, device) == installed).then_some(())
        });
        goes_on_in_its_process(&fleet, device);
    }
    // It goes on as if nothing had been, and takes up a better one.
    upgrade(&fleet, "mended", "0.3", GOOD, &["d1", "d2", "d3"]);
    for device in ["d1", "d2", "d3"] {
        fleet.stands(device, "mended", "succeeded");
    }
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn an_older_release_is_not_taken_up_unless_it_is_signed_as_a_downgrade() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    upgrade(&fleet, "older", "0.0.9", GOOD, &["d1"]);
    let row = fleet.stands("d1", "older", "not-applicable");
    assert_eq!(row["reason"], "newer-present", "{row}");
    publish(&fleet, "back", "0.0.9", GOOD, json!({"downgrade": true}));
    advertise(&fleet, "back", &["d1"]);
    fleet.stands("d1", "back", "succeeded");
    until("it stands", || (version(&fleet, "d1") == "0.0.9 current").then_some(()));
}

#[test]
fn what_is_no_release_is_refused_when_it_is_published() {
    let fleet = Fleet::new();
    let file = release_file(&fleet, "plain", "0.2", GOOD, json!({}));
    fs::set_permissions(fleet.path("plain/muster"), Permissions::from_mode(0o644)).unwrap();
    let refused = fleet.run(&["package", "publish", &file]);
    assert!(
        refused.code != 0 && refused.err.contains("executable file `muster`"),
        "{}",
        refused.said()
    );
    let file = release_file(&fleet, "words", "next", GOOD, json!({}));
    let refused = fleet.run(&["package", "publish", &file]);
    assert!(refused.code != 0 && refused.err.contains("spec.version"), "{}", refused.said());
}

/// Both sides of every swap, in each of the processes that make one; and the two of a trial by hand.
#[test]
fn a_kill_at_any_point_leaves_one_version_or_the_other() {
    let mut fleet = Fleet::new();
    // Begin and Start by the version before, and what returns.
    let of_keeper = ["before:1", "after:1", "before:2", "after:2"];
    let of_return = ["before:5", "after:5"];
    // Passed by the release itself, in its first life.
    let of_release = ["before", "after"];
    let names = |of: &[&str], prefix: &str| -> Vec<String> {
        of.iter().map(|side| format!("{prefix}-{}", side.replace(':', "-"))).collect()
    };
    let (keepers, returns) = (names(&of_keeper, "keeper"), names(&of_return, "return"));
    let releases = names(&of_release, "release");
    let token = fleet.token(8);
    let armed = of_keeper.iter().chain(&of_return).zip(keepers.iter().chain(&returns));
    for (side, name) in armed {
        let enrolled = fleet.enroll(name, &token, &[]);
        assert_eq!(enrolled.code, 0, "{}", enrolled.said());
        fleet.start_agent(name, &[("MUSTER_FAILPOINT", &format!("versions.swap:{side}"))]);
    }
    for name in &releases {
        fleet.agent(name, &token);
    }
    let members = |names: &[String]| names.to_vec();
    let good: Vec<String> = members(&keepers);
    upgrade(&fleet, "good", "0.2", GOOD, &good.iter().map(String::as_str).collect::<Vec<_>>());
    let broken: Vec<&str> = returns.iter().map(String::as_str).collect();
    upgrade(&fleet, "broken", "0.2", "exit 3", &broken);
    for (side, name) in of_release.iter().zip(&releases) {
        let once = fleet.path(&format!("once-{name}"));
        let script = format!(
            "if mkdir {once} 2>/dev/null; then export MUSTER_FAILPOINT=versions.swap:{side}; fi\n{GOOD}"
        );
        upgrade(&fleet, &format!("dies-{name}"), "0.2", &script, &[name]);
    }
    let mut died = Vec::new();
    let all: Vec<String> = keepers.iter().chain(&returns).cloned().collect();
    until("every device has its outcome", || {
        for name in &all {
            if let Some(ended) = fleet.ended(name) {
                assert_eq!(ended.signal(), Some(9), "{name}: {}", fleet.log_of(name));
                died.push(name.clone());
                fleet.restart(name);
            }
        }
        let settled = |name: &str| {
            fleet.run(&["wait", name, "--for", "complete", "--timeout", "1s"]).code == 0
        };
        (settled("good") && settled("broken")).then_some(())
    });
    for name in &keepers {
        assert!(died.contains(name), "{name}: nobody came by: {}", fleet.log_of(name));
        assert_eq!(fleet.stands(name, "good", "succeeded")["reason"], "reached-site");
        until("it stands", || (version(&fleet, name) == "0.2 current").then_some(()));
    }
    for name in &returns {
        assert!(died.contains(name), "{name}: nobody came by: {}", fleet.log_of(name));
        let row = fleet.stands(name, "broken", "failed");
        assert!(row["reason"].as_str().unwrap().starts_with("returned: it "), "{row}");
    }
    for name in &releases {
        fleet.stands(name, &format!("dies-{name}"), "succeeded");
        until("it stands", || (version(&fleet, name) == "0.2 current").then_some(()));
    }
    fleet.ok(&["accounting", "verify"]);
}

/// Somebody kills whoever keeps watch: the release ends with it, and the trial goes on at the next start.
#[test]
fn a_trial_outlives_whoever_keeps_watch() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let begun = fleet.path("begun");
    let script = format!("if mkdir {begun} 2>/dev/null; then exec sleep 100; fi\n{GOOD}");
    upgrade(&fleet, "agent-2", "0.2", &script, &["d1"]);
    until("the trial has begun", || fs::exists(&begun).unwrap().then_some(()));
    let on_trial = fleet.status("d1")["agent"]["state"].clone();
    assert_eq!(on_trial, "on-trial(0.2, start 1 of 3)");
    fleet.kill("d1");
    fleet.restart("d1");
    fleet.stands("d1", "agent-2", "succeeded");
    until("it stands", || (version(&fleet, "d1") == "0.2 current").then_some(()));
    // Told to end as it has just been executed, it ends as a program does that handles no signals yet.
    let ended = fleet.terminate("d1");
    assert!(ended.success() || ended.signal() == Some(15), "{ended}");
}
