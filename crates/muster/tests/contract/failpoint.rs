//! `kill -9` on both sides of every durable point, in every role that has it: whatever dies there is
//! started again, and each device has one outcome that agrees with what its program wrote.

use std::os::unix::process::ExitStatusExt;

use muster_host::failpoint::Point;
use serde_json::{Value, json};

use crate::fleet::{Fleet, until};

const SIDES: [&str; 2] = ["before", "after"];

/// Who visits a point.
#[derive(Clone, Copy, PartialEq)]
enum Visitor {
    Agent,
    Supervisor,
    Site,
    Both,
}

/// Each point has somebody who dies there.
fn visitor(point: Point) -> Visitor {
    match point {
        Point::PublishRename | Point::PublishRemove => Visitor::Both,
        Point::PublishLink | Point::JournalCommit | Point::RunLaunch | Point::IdentitySave => {
            Visitor::Agent
        }
        Point::SupervisorEntered | Point::SupervisorExit => Visitor::Supervisor,
        Point::MessagesCommit | Point::RevisionCommit => Visitor::Site,
    }
}

/// Every point that one of `visitors` visits, on both sides, as the environment names it.
fn armed(visitors: &[Visitor]) -> Vec<String> {
    let points = Point::ALL.iter().filter(|point| visitors.contains(&visitor(**point)));
    points.flat_map(|point| SIDES.map(|side| format!("{point}:{side}"))).collect()
}

/// The device that dies at a point.
fn device(failpoint: &str) -> String {
    failpoint.replace(['.', ':'], "-")
}

#[test]
fn an_agent_that_dies_at_any_durable_point_has_one_outcome() {
    let mut fleet = Fleet::new();
    fleet.publish("mark", &fleet.mark(""), json!({}));
    let failpoints = armed(&[Visitor::Agent, Visitor::Both, Visitor::Supervisor]);
    let devices: Vec<String> = failpoints.iter().map(|failpoint| device(failpoint)).collect();
    let token = fleet.token(u32::try_from(devices.len()).unwrap());
    let mut died = Vec::new();
    for (failpoint, name) in failpoints.iter().zip(&devices) {
        if enrolling_dies(&fleet, failpoint, name, &token) {
            died.push(failpoint.clone());
        }
        if failpoint.starts_with("publish.link") {
            // The agent gives a lost memory another name.
            std::fs::write(fleet.path(&format!("{name}/journal.db")), "").unwrap();
        }
        fleet.start_agent(name, &[("MUSTER_FAILPOINT", failpoint)]);
    }
    let members: Vec<&str> = devices.iter().map(String::as_str).collect();
    fleet.advertise("mark", "mark", &members, json!({}));
    until("every device has its outcome", || {
        for (failpoint, name) in failpoints.iter().zip(&devices) {
            if killed(&mut fleet, name) {
                died.push(failpoint.clone());
                fleet.restart(name);
            }
        }
        let found = fleet.run(&["wait", "mark", "--for", "complete", "--timeout", "1s"]);
        (found.code == 0).then_some(())
    });
    for (failpoint, name) in failpoints.iter().zip(&devices) {
        if fleet.terminate(name).signal() == Some(9) {
            died.push(failpoint.clone());
        }
    }
    let rows = fleet.json(&["accounting", "mark"])["devices"].clone();
    let truth = fleet.truth();
    for (failpoint, name) in failpoints.iter().zip(&devices) {
        let row = rows.as_array().unwrap().iter().find(|row| row["name"] == **name).unwrap();
        let marks = truth.iter().filter(|line| line.contains(&format!(" {name} "))).count();
        assert_eq!((word(row), marks), expected(failpoint), "{failpoint}: {row}");
        let dies = !failpoint.starts_with("supervisor");
        assert_eq!(died.contains(failpoint), dies, "{failpoint}: {}", fleet.log_of(name));
    }
    let listed = fleet.json(&["device", "list"]);
    assert_eq!(listed["items"].as_array().unwrap().len(), devices.len(), "no device is two");
    fleet.ok(&["accounting", "verify"]);
}

/// What becomes of a program that must never start twice, and how often it ran.
fn expected(failpoint: &str) -> (&str, usize) {
    match failpoint {
        // Nobody can say that nothing was executed, or how it ended.
        "supervisor.entered:after" => ("interrupted", 0),
        "supervisor.exit:before" => ("interrupted", 1),
        // Each launch dies, until trying on would be a loop.
        "supervisor.entered:before" => ("failed", 0),
        _ => ("succeeded", 1),
    }
}

fn word(row: &Value) -> &str {
    row["state"].as_str().unwrap()
}

/// Enrols with the failpoint armed, and again without it if that dies.
fn enrolling_dies(fleet: &Fleet, failpoint: &str, name: &str, token: &str) -> bool {
    let first = fleet.enroll_with(name, token, &[], &[("MUSTER_FAILPOINT", failpoint)]);
    if first.code == 0 {
        return false;
    }
    assert_eq!(first.signal, Some(9), "{failpoint}: {}", first.said());
    let again = fleet.enroll(name, token, &[]);
    assert_eq!(again.code, 0, "{failpoint}: {}", again.said());
    true
}

/// Whether a role has been killed; it may end in no other way.
fn killed(fleet: &mut Fleet, name: &str) -> bool {
    let Some(ended) = fleet.ended(name) else { return false };
    assert_eq!(ended.signal(), Some(9), "{name}: {}", fleet.log_of(name));
    true
}

#[test]
fn a_site_that_dies_at_any_durable_point_loses_and_doubles_nothing() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let mut failpoints = armed(&[Visitor::Site, Visitor::Both]);
    // The first file is where the site answers, the second one content.
    failpoints.extend(SIDES.map(|side| format!("publish.rename:{side}:2")));
    for (n, failpoint) in failpoints.iter().enumerate() {
        let name = format!("ad{n}");
        fleet.terminate("site");
        fleet.restart_with("site", &[("MUSTER_FAILPOINT", failpoint)]);
        let mut died = false;
        let script = fleet.mark(&format!("# {failpoint}"));
        let package = fleet.package_file(&name, "1", &script, json!({}));
        until("the package is published", || {
            answered(&mut fleet, &mut died, &["package", "publish", &package])
        });
        let file = fleet.advertisement_file(&name, &name, &["d1"], json!({}));
        until("the advertisement is applied", || {
            answered(&mut fleet, &mut died, &["apply", "-f", &file])
        });
        let wait = ["wait", &name, "--for", "complete", "--timeout", "2s"];
        until("the outcome is there", || answered(&mut fleet, &mut died, &wait));
        if !died {
            died = fleet.terminate("site").signal() == Some(9);
            fleet.restart("site");
        }
        assert!(died, "{failpoint}: nobody came by");
        assert_eq!(fleet.json(&["accounting", &name])["states"], json!({"succeeded": 1}));
        assert_eq!(fleet.truth().len(), n + 1, "{failpoint}");
    }
    fleet.ok(&["accounting", "verify"]);
}

/// Asks until the site answers, and starts it again whenever it has died.
fn answered(fleet: &mut Fleet, died: &mut bool, args: &[&str]) -> Option<()> {
    let answer = fleet.run(args);
    if killed(fleet, "site") {
        *died = true;
        fleet.restart("site");
    }
    (answer.code == 0).then_some(())
}
