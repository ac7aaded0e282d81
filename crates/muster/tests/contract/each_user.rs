//! Programs that run for each user who is logged on: one obligation, one answer, a run for each.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::fleet::{Fleet, until};
use crate::programs::nix_is_root;

/// Users that every Debian has, in the order of their names.
const USERS: [&str; 2] = ["bin", "daemon"];

/// A fleet of one agent that takes who is logged on from the file `sessions`; `None` if this test may
/// not become anybody else.
fn fleet() -> Option<Fleet> {
    if !nix_is_root() {
        eprintln!("skipped: only root may become somebody else");
        return None;
    }
    let mut fleet = Fleet::new();
    let (token, sessions) = (fleet.token(1), fleet.path("sessions"));
    fleet.agent_with("d1", &token, &["--session-source", &sessions]);
    // The users must be let through to the fleet's own scratch folder, and may write what they did.
    std::fs::set_permissions(fleet.dir.path(), Permissions::from_mode(0o711)).unwrap();
    let truth = fleet.write("truth", "");
    std::fs::set_permissions(truth, Permissions::from_mode(0o666)).unwrap();
    Some(fleet)
}

/// Advertises a program for each user that says who runs it, then does `more`.
fn advertise(fleet: &Fleet, more: &str, program: Value) {
    let truth = fleet.path("truth");
    let script = format!("echo \"$(id -un) $MUSTER_ATTEMPT\" >> '{truth}'\n{more}\n");
    let mut each = json!({"runAs": "each-user"});
    each.as_object_mut().unwrap().extend(program.as_object().unwrap().clone());
    fleet.publish("tool", &script, each);
    fleet.advertise("ad", "tool", &["d1"], json!({}));
}

fn log_on(fleet: &Fleet, users: &[&str]) {
    fleet.write("sessions", &users.join("\n"));
}

/// The users of the obligation, as the device itself shows them.
fn turns(fleet: &Fleet) -> Vec<String> {
    let status = fleet.json(&["agent", "status", "--data", &fleet.path("d1")]);
    let users = status["obligations"][0]["users"].as_array().cloned().unwrap_or_default();
    users.iter().map(|one| format!("{} {}", one["user"], one["stands"]["turn"])).collect()
}

#[test]
fn nobody_is_waited_for_and_then_each_has_a_run_of_their_own() {
    let Some(fleet) = fleet() else { return };
    log_on(&fleet, &[]);
    let more = "echo \"$USER $LOGNAME $MUSTER_USER $(id -Gn) $HOME\"";
    advertise(&fleet, more, json!({}));
    assert_eq!(fleet.stands("d1", "ad", "waiting")["reason"], "user");
    log_on(&fleet, &USERS);
    let row = fleet.stands("d1", "ad", "succeeded");
    assert_eq!((row["reason"].as_str(), row["attempt"].as_u64()), (Some("each-user"), Some(2)));
    assert_eq!(fleet.truth(), ["bin 1", "daemon 2"]);
    assert_eq!(turns(&fleet), ["\"bin\" \"served\"", "\"daemon\" \"served\""]);
    let logs = fleet.ok(&["logs", "d1", "ad", "--all"]);
    for line in [
        "attempt 1 for bin: succeeded(exit-code)",
        "bin bin bin bin /bin",
        "attempt 2 for daemon: succeeded(exit-code)",
        "daemon daemon daemon daemon /usr/sbin",
    ] {
        assert!(logs.contains(line), "{line:?} in {logs}");
    }
    let local = fleet.ok(&["agent", "log", "--data", &fleet.path("d1"), "ad", "--all"]);
    assert!(local.contains("attempt 1 for bin") && local.contains("for daemon"), "{local}");
    let messages = fleet.ok(&["messages", "--device", "d1", "--advertisement", "ad"]);
    assert!(messages.contains("running(attempt 2) for daemon"), "{messages}");
    // Who logs on later is not on the list of this occurrence.
    log_on(&fleet, &["bin", "daemon", "nobody"]);
    fleet.ok(&["agent", "verify", "--data", &fleet.path("d1")]);
    assert_eq!(fleet.truth().len(), 2);
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn one_users_failure_is_named_and_keeps_nobody_else_from_a_run() {
    let Some(fleet) = fleet() else { return };
    log_on(&fleet, &["bin", "daemon", "nobody-bears-this"]);
    advertise(&fleet, "test \"$USER\" != bin || exit 7", json!({}));
    let row = fleet.stands("d1", "ad", "failed");
    assert_eq!((row["rule"].as_str(), row["exitCode"].as_i64()), (Some("each-user"), Some(7)));
    let reason = row["reason"].as_str().unwrap();
    for part in [
        "each-user (exit code 7): bin: failed(exit-code (exit code 7))",
        "nobody-bears-this: failed(not-started: the user nobody-bears-this",
        "well for daemon",
    ] {
        assert!(reason.contains(part), "{part:?} in {reason}");
    }
    assert_eq!(fleet.truth(), ["bin 1", "daemon 2"]);
    let why = fleet.ok(&["why", "d1", "ad"]);
    assert!(why.contains("bin: failed(exit-code"), "{why}");
}

#[test]
fn an_agent_that_is_killed_between_and_during_the_runs_serves_each_once() {
    let Some(mut fleet) = fleet() else { return };
    log_on(&fleet, &USERS);
    let more = format!("while [ ! -e '{}'-$USER ]; do sleep 0.1; done", fleet.path("gate"));
    advertise(&fleet, &more, json!({}));
    for (n, user) in USERS.iter().enumerate() {
        until("the program runs", || (fleet.truth().len() == n + 1).then_some(()));
        fleet.kill("d1");
        fleet.write(&format!("gate-{user}"), "");
        fleet.restart("d1");
    }
    assert_eq!(fleet.stands("d1", "ad", "succeeded")["reason"], "each-user");
    assert_eq!(fleet.truth(), ["bin 1", "daemon 2"]);
}

#[test]
fn a_journal_that_is_lost_between_two_runs_repeats_neither() {
    let Some(mut fleet) = fleet() else { return };
    log_on(&fleet, &USERS);
    let more = format!("while [ ! -e '{}'-$USER ]; do sleep 0.1; done", fleet.path("gate"));
    advertise(&fleet, &more, json!({}));
    fleet.write("gate-bin", "");
    until("the second runs", || (fleet.truth().len() == 2).then_some(()));
    until("the site has heard it", || {
        let row = fleet.stands("d1", "ad", "running");
        (row["attempt"] == 2).then_some(())
    });
    fleet.kill("d1");
    for file in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        let _ = std::fs::remove_file(fleet.path(&format!("d1/{file}")));
    }
    fleet.write("gate-daemon", "");
    fleet.restart("d1");
    assert_eq!(fleet.stands("d1", "ad", "succeeded")["reason"], "each-user");
    assert_eq!(fleet.truth(), ["bin 1", "daemon 2"]);
}

#[test]
fn what_speaks_of_the_machine_is_refused_by_its_field() {
    let fleet = Fleet::new();
    for (more, field) in [
        (json!({"restartCodes": [102]}), "restartCodes"),
        (json!({"afterRunning": "agent-restarts"}), "afterRunning"),
        (json!({"runWhen": "nobody-logged-on"}), "runWhen"),
    ] {
        let mut program = more.clone();
        program["runAs"] = json!("each-user");
        let file = fleet.package_file("bad", "1", "true", program);
        let said = fleet.refused(2, &["package", "publish", &file]);
        assert!(said.contains(field) && said.contains("each-user"), "{said}");
    }
}
