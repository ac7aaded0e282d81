//! Restarts of a machine, asked for and not: what the boot id, the restart command and the exit record
//! say, through the real binary.

use serde_json::{Value, json};

use crate::fleet::{Fleet, until};

/// Publishes a package whose goal is the file `there` below the agent's root, and advertises it to d1.
fn advertise(fleet: &Fleet, script: &str, more: Value) {
    let script = fleet.mark(script);
    fleet.write("p/go.sh", &script);
    let mut program = json!({"name": "go", "commandLine": "sh go.sh"});
    program.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let detection = json!({"command": ["sh", "-c", "test -e $MUSTER_ROOT/there"]});
    let document = json!({"apiVersion": "muster/v1", "kind": "Package", "metadata": {"name": "p"},
        "spec": {"version": "1", "content": "./p", "programs": [program], "detection": detection}});
    let file = fleet.write("p.yaml", &document.to_string());
    fleet.ok(&["package", "publish", &file]);
    fleet.advertise("ad", "p", &["d1"], json!({}));
}

/// A script that ends the agent and its own supervisor, as a machine that goes down does.
fn machine_goes_down(fleet: &Fleet) -> String {
    let run_file = fleet.path("d1/run/agent.json");
    format!("kill -9 $(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/' '{run_file}') $PPID; exit 1")
}

fn agent(fleet: &mut Fleet, more: &[&str]) {
    let token = fleet.token(1);
    fleet.agent_with("d1", &token, more);
}

#[test]
fn the_agent_restarts_the_machine_and_detection_decides_in_the_next_boot() {
    let mut fleet = Fleet::new();
    let asked = fleet.path("asked");
    agent(&mut fleet, &["--restart-command", &format!("echo asked >> '{asked}'")]);
    advertise(&fleet, "", json!({"afterRunning": "agent-restarts", "rerun": "never"}));
    let row = fleet.stands("d1", "ad", "restart-pending");
    assert_eq!(row["reason"], "agent", "{row}");
    until("the restart command", || std::fs::read_to_string(&asked).ok().filter(|t| !t.is_empty()));
    // What the program achieves shows only after the restart.
    fleet.write("d1-root/there", "");
    fleet.boot("d1", "second");
    let row = fleet.stands("d1", "ad", "succeeded");
    assert_eq!(row["reason"], "detected-after-restart", "{row}");
    assert_eq!(fleet.truth().len(), 1);
}

#[test]
fn a_failing_restart_command_is_told_to_the_site_and_tried_again() {
    let mut fleet = Fleet::new();
    let asked = fleet.path("asked");
    let command = format!("echo asked >> '{asked}'; echo not allowed >&2; exit 1");
    agent(&mut fleet, &["--restart-command", &command]);
    advertise(&fleet, "exit 102", json!({"restartCodes": [102]}));
    until("the site knows", || {
        let row = fleet.stands("d1", "ad", "restart-pending");
        (row["reason"] == "command-failed: exit code 1: not allowed").then_some(())
    });
    until("a third try", || {
        (std::fs::read_to_string(&asked).ok()?.lines().count() >= 3).then_some(())
    });
}

#[test]
fn without_a_restart_command_the_restart_is_left_to_others() {
    let mut fleet = Fleet::new();
    agent(&mut fleet, &[]);
    advertise(&fleet, "echo '{\"restart\": true}' > \"$MUSTER_RESULT\"", json!({}));
    let row = fleet.stands("d1", "ad", "restart-pending");
    assert_eq!(row["reason"], "outside", "{row}");
    let why = fleet.ok(&["why", "d1", "ad"]);
    assert!(why.contains("restart"), "{why}");
    fleet.write("d1-root/there", "");
    fleet.boot("d1", "second");
    let row = fleet.stands("d1", "ad", "succeeded");
    assert_eq!(row["reason"], "detected-after-restart", "{row}");
}

#[test]
fn a_program_that_restarts_the_machine_five_times_reaches_its_goal() {
    let mut fleet = Fleet::new();
    agent(&mut fleet, &[]);
    let down = machine_goes_down(&fleet);
    let script = format!(
        "echo step >> \"$MUSTER_ROOT/steps\"\n\
         test $(wc -l < \"$MUSTER_ROOT/steps\") -eq 5 && touch \"$MUSTER_ROOT/there\"\n{down}"
    );
    advertise(&fleet, &script, json!({"afterRunning": "program-restarts"}));
    for boot in ["second", "third", "fourth", "fifth", "sixth"] {
        fleet.await_end("d1");
        fleet.boot("d1", boot);
    }
    let row = fleet.stands("d1", "ad", "succeeded");
    assert_eq!(row["reason"], "detected-after-restart", "{row}");
    assert_eq!(fleet.truth().len(), 5, "{:?}", fleet.truth());
}

#[test]
fn a_restart_loop_ends_with_its_name() {
    let mut fleet = Fleet::new();
    agent(&mut fleet, &[]);
    let down = machine_goes_down(&fleet);
    advertise(&fleet, &down, json!({"afterRunning": "program-restarts"}));
    for boot in 1..=10 {
        fleet.await_end("d1");
        fleet.boot("d1", &format!("boot-{boot}"));
    }
    let row = fleet.stands("d1", "ad", "failed");
    assert!(row["reason"].as_str().unwrap().starts_with("restart-loop"), "{row}");
    assert_eq!(fleet.truth().len(), 10, "{:?}", fleet.truth());
}

#[test]
fn a_restart_that_nobody_asked_for_is_an_interruption_by_its_name() {
    let mut fleet = Fleet::new();
    agent(&mut fleet, &[]);
    let down = machine_goes_down(&fleet);
    advertise(&fleet, &down, json!({"rerun": "never"}));
    fleet.await_end("d1");
    fleet.boot("d1", "second");
    let row = fleet.stands("d1", "ad", "interrupted");
    assert_eq!(row["reason"], "restart", "{row}");
    assert_eq!(fleet.truth().len(), 1);
}
