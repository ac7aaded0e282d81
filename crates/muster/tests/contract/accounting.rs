//! What became of it on each machine, whatever is killed meanwhile.

use serde_json::json;

use crate::fleet::{Fleet, until};

#[test]
fn programs_run_once_while_agents_and_site_are_killed() {
    killed(Fleet::new());
}

#[test]
fn programs_run_once_while_agents_and_site_are_killed_on_postgresql() {
    killed(Fleet::on_postgres());
}

fn killed(mut fleet: Fleet) {
    fleet.agents(4);
    fleet.publish("mark", &fleet.mark("sleep 3"), json!({}));
    fleet.advertise("mark", "mark", &["d1", "d2", "d3", "d4"], json!({}));
    for round in 0..8 {
        let victim = ["site", "d1", "d2", "site", "d3", "d1", "d4", "site"][round];
        fleet.kill(victim);
        fleet.restart(victim);
    }
    fleet.ok(&["wait", "mark", "--for", "complete", "--timeout", "80s"]);
    let found = fleet.json(&["accounting", "mark"]);
    assert_eq!(found["states"], json!({"succeeded": 4}), "{found}");
    let mut truth = fleet.truth();
    truth.sort();
    assert_eq!(truth, ["ran d1 1", "ran d2 1", "ran d3 1", "ran d4 1"]);
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn a_failure_carries_exit_code_rule_and_output() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("bad", "echo 'no such thing' >&2\nexit 7", json!({}));
    fleet.advertise("bad", "bad", &["d1"], json!({}));
    let row = fleet.stands("d1", "bad", "failed");
    assert_eq!((&row["exitCode"], &row["rule"]), (&json!(7), &json!("exit-code")), "{row}");
    let messages = fleet.json(&["messages", "--advertisement", "bad", "--severity", "error"]);
    assert!(messages.to_string().contains("no such thing"), "{messages}");
    let why = fleet.json(&["why", "d1", "bad"]);
    assert_eq!(why["state"], "failed");
    assert!(!why["chain"].as_array().unwrap().is_empty(), "{why}");
}

#[test]
fn detection_judges_before_and_after() {
    let mut fleet = Fleet::new();
    fleet.agents(2);
    // d1 has it already; on d2 the program says yes and does nothing.
    std::fs::write(fleet.path("d1-root/there"), "").unwrap();
    let file = fleet.package_file("liar", "1", &fleet.mark("exit 0"), json!({}));
    let mut document: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    document["spec"]["detection"] =
        json!({"command": ["sh", "-c", "test -e \"$MUSTER_ROOT/there\""]});
    std::fs::write(&file, document.to_string()).unwrap();
    fleet.ok(&["package", "publish", &file]);
    fleet.advertise("liar", "liar", &["d1", "d2"], json!({}));
    let row = fleet.stands("d1", "liar", "succeeded");
    assert_eq!(row["rule"], "already-present", "{row}");
    let row = fleet.stands("d2", "liar", "failed");
    assert_eq!(row["rule"], "not-detected", "{row}");
    assert_eq!(fleet.truth(), ["ran d2 1"]);
}

#[test]
fn a_program_that_outruns_its_time_is_ended_and_said_so() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("slow", &fleet.mark("sleep 600"), json!({"maxRunTime": "1s"}));
    fleet.advertise("slow", "slow", &["d1"], json!({}));
    fleet.stands("d1", "slow", "timed-out");
    assert_eq!(fleet.truth().len(), 1);
}

#[test]
fn wait_ends_with_code_4_at_its_time_out_and_names_where_things_stand() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("slow", "sleep 600", json!({}));
    fleet.advertise("slow", "slow", &["d1"], json!({}));
    let said = fleet.refused(4, &["wait", "slow", "--for", "complete", "--timeout", "2s"]);
    assert!(said.contains("targeted"), "{said}");
    let said = fleet.refused(2, &["wait", "slow", "--for", "finished"]);
    assert!(said.contains("finished"), "{said}");
}

#[test]
fn the_device_answers_for_itself_while_its_site_is_gone() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("ok", &fleet.mark(""), json!({}));
    fleet.advertise("ok", "ok", &["d1"], json!({}));
    fleet.stands("d1", "ok", "succeeded");
    fleet.kill("site");
    let data = fleet.path("d1");
    let status = fleet.json(&["agent", "status", "--data", &data]);
    assert_eq!(status["name"], "d1", "{status}");
    assert_eq!(status["outbox"]["length"], 0, "{status}");
    let software = fleet.ok(&["agent", "software", "--data", &data]);
    assert!(software.contains("succeeded"), "{software}");
    fleet.kill("d1");
    let log = fleet.ok(&["agent", "log", "--data", &data]);
    assert!(log.contains("succeeded"), "{log}");
}

#[test]
fn an_outcome_reached_while_the_site_is_gone_arrives_afterwards() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish_gated();
    fleet.advertise("gated", "gated", &["d1"], json!({}));
    fleet.stands("d1", "gated", "running");
    fleet.kill("site");
    fleet.open_gate();
    let data = fleet.path("d1");
    until("the outcome in the agent's own words", || {
        let software = fleet.run(&["agent", "software", "--data", &data]).out;
        software.contains("succeeded").then_some(())
    });
    fleet.restart("site");
    fleet.stands("d1", "gated", "succeeded");
    fleet.ok(&["accounting", "verify"]);
}
