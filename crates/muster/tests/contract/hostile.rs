//! Programs that turn against the agent that runs them: each has the outcome that it earned, once.

use serde_json::json;

use crate::fleet::{Fleet, until};

#[test]
fn a_program_that_kills_its_agent_has_one_outcome() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let file = fleet.path("d1/run/agent.json");
    let kill = format!(
        "kill -9 \"$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p' '{file}' | head -n 1)\"; exit 3"
    );
    fleet.publish("killer", &fleet.mark(&kill), json!({}));
    fleet.advertise("ad", "killer", &["d1"], json!({}));
    fleet.await_end("d1");
    fleet.restart("d1");
    let row = fleet.stands("d1", "ad", "failed");
    assert_eq!((&row["exitCode"], &row["attempt"]), (&json!(3), &json!(1)), "{row}");
    assert_eq!(fleet.truth().len(), 1, "{:?}", fleet.truth());
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn a_program_that_removes_what_the_agent_shows_of_itself_changes_no_outcome() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let gate = fleet.path("gate");
    let script =
        format!("rm -rf '{}'; while [ ! -e '{gate}' ]; do sleep 0.1; done", fleet.path("d1/run"));
    fleet.publish("vandal", &fleet.mark(&script), json!({}));
    fleet.advertise("ad", "vandal", &["d1"], json!({}));
    fleet.stands("d1", "ad", "running");
    until("the folder is gone", || {
        (!std::path::Path::new(&fleet.path("d1/run/agent.json")).exists()).then_some(())
    });
    // The lock is what counts: a second agent is refused all the same.
    let said = fleet.refused(1, &["agent", "run", "--data", &fleet.path("d1")]);
    assert!(said.contains(&format!("process {}", fleet.pid("d1"))), "{said}");
    fleet.kill("d1");
    fleet.restart("d1");
    fleet.open_gate();
    fleet.stands("d1", "ad", "succeeded");
    let shown = fleet.status("d1");
    assert_eq!(shown["running"], fleet.pid("d1"), "it shows itself again: {shown}");
    assert_eq!(fleet.truth().len(), 1, "{:?}", fleet.truth());
}

#[test]
fn a_program_that_removes_the_journal_while_it_runs_is_judged_once() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let gate = fleet.path("gate");
    let script = format!(
        "rm -f '{}'*; while [ ! -e '{gate}' ]; do sleep 0.1; done; exit 5",
        fleet.path("d1/journal.db")
    );
    fleet.publish("eraser", &fleet.mark(&script), json!({}));
    fleet.advertise("ad", "eraser", &["d1"], json!({}));
    fleet.stands("d1", "ad", "running");
    until("the journal is gone", || {
        (!std::path::Path::new(&fleet.path("d1/journal.db")).exists()).then_some(())
    });
    fleet.kill("d1");
    fleet.restart("d1");
    fleet.open_gate();
    let row = fleet.stands("d1", "ad", "failed");
    assert_eq!(row["exitCode"], 5, "{row}");
    let said = fleet.json(&["messages", "--device", "d1"]).to_string();
    assert!(said.contains("memory lost"), "{said}");
    assert_eq!(fleet.truth().len(), 1, "{:?}", fleet.truth());
    fleet.ok(&["accounting", "verify"]);
}
