//! `kill -9` on both sides of every durable point, at one visit after the other, in every role that
//! comes by there: whatever dies is started again, and each device has one outcome that agrees with
//! what its program wrote.
//!
//! Nothing here lists the points: the program does (`muster failpoints`), and who visits which, and how
//! often, is found out by a fleet that nobody kills. A point that it does not come by is an error.

mod subject;
mod visits;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;

use serde_json::{Value, json};

use crate::fleet::{Fleet, until};
use subject::{Fatal, Subject};
use visits::Visits;

const SIDES: [&str; 2] = ["before", "after"];
/// A site dies at most this often at each side of a point, one visit later each time.
const SITE_DEATHS_MAX: u64 = 4;
/// Points of agents that become another version: `upgrade` kills them there.
const OF_UPGRADES: [&str; 1] = ["versions.swap"];
/// Devices that die beside each other; more would wait for one another's cores.
const SUBJECTS_MAX: usize = 12;

/// What the processes of a fleet visit that nobody kills.
fn visits() -> Visits {
    let mut fleet = Fleet::new();
    fleet.terminate("site");
    let trace = fleet.path("living.visits");
    fleet.restart_with("site", &[("MUSTER_FAILPOINT_TRACE", &trace)]);
    subject::publish(&fleet);
    outcomes(&mut fleet, "mark", &mut [Subject::new(None)]);
    Visits::read(&fleet, "living.visits")
}

/// Every visit of a role is fatal once; of a role whose processes come again, only the first one: each
/// death moves the next to the visit after it.
fn fatal(visits: &BTreeMap<String, u64>, role: &'static str, all: bool) -> Vec<Subject> {
    let mut found = Vec::new();
    for (point, times) in visits {
        for nth in 1..=if all { *times } else { 1 } {
            let fatal = |side| Fatal { role, point: point.clone(), side, nth };
            found.extend(SIDES.map(|side| Subject::new(Some(fatal(side)))));
        }
    }
    found
}

/// Takes the subjects through their lives, and holds what is accounted for them against what their
/// programs wrote.
fn outcomes(fleet: &mut Fleet, advertisement: &str, subjects: &mut [Subject]) {
    let token = fleet.token(u32::try_from(subjects.len()).unwrap());
    for subject in subjects.iter_mut() {
        subject.enrol(fleet, &token);
        subject.start(fleet);
    }
    let names: Vec<&str> = subjects.iter().map(|subject| subject.name.as_str()).collect();
    fleet.advertise(advertisement, "mark", &names, json!({}));
    until("every device has its outcome, and has cleared up", || {
        subjects.iter_mut().for_each(|subject| subject.tend(fleet));
        let found = fleet.run(&["wait", advertisement, "--for", "complete", "--timeout", "1s"]);
        let left = |subject: &Subject| {
            let runs = std::fs::read_dir(fleet.path(&format!("{}/runs", subject.name)));
            runs.into_iter().flatten().count()
        };
        (found.code == 0 && subjects.iter().all(|subject| left(subject) == 0)).then_some(())
    });
    let rows = fleet.json(&["accounting", advertisement])["devices"].clone();
    let truth = fleet.truth();
    for subject in subjects.iter_mut() {
        subject.end(fleet);
        let name = &subject.name;
        let row = rows.as_array().unwrap().iter().find(|row| row["name"] == **name).unwrap();
        let marks = truth.iter().filter(|line| line.contains(&format!(" {name} "))).count();
        let found = (row["state"].as_str().unwrap(), marks);
        let allowed = subject.allowed(fleet);
        assert!(allowed.contains(&found), "{name}: {found:?}, not {allowed:?}: {row}");
    }
}

#[test]
fn every_durable_point_comes_by() {
    let visits = visits();
    let names = Fleet::empty().ok(&["failpoints"]);
    let roles = ["agent", "supervisor", "site"].map(|role| visits.of_role(role));
    let seen = |name: &str| roles.iter().any(|role| role.contains_key(name));
    let missed: Vec<&str> =
        names.lines().filter(|name| !seen(name) && !OF_UPGRADES.contains(name)).collect();
    assert!(missed.is_empty(), "no scenario here comes by {missed:?}; extend failpoint/subject.rs");
    assert_eq!(names.lines().count(), muster_host::failpoint::Point::ALL.len());
}

#[test]
fn an_agent_that_dies_at_any_durable_point_has_one_outcome() {
    let mut subjects = fatal(&visits().of_role("agent"), "agent", false);
    let mut fleet = Fleet::new();
    subject::publish(&fleet);
    for (n, subjects) in subjects.chunks_mut(SUBJECTS_MAX).enumerate() {
        outcomes(&mut fleet, &format!("wave{n}"), subjects);
    }
    for subject in &subjects {
        assert!(subject.deaths > 0, "{}: nobody came by", subject.name);
    }
    eprintln!("{} deaths", subjects.iter().map(|subject| subject.deaths).sum::<u64>());
    let listed = fleet.json(&["device", "list"]);
    assert_eq!(listed["items"].as_array().unwrap().len(), subjects.len(), "no device is two");
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn a_run_whose_supervisor_dies_at_any_durable_point_has_one_outcome() {
    let mut subjects = fatal(&visits().of_role("supervisor"), "supervisor", true);
    let mut fleet = Fleet::new();
    subject::publish(&fleet);
    for (n, subjects) in subjects.chunks_mut(SUBJECTS_MAX).enumerate() {
        outcomes(&mut fleet, &format!("wave{n}"), subjects);
    }
    for subject in &subjects {
        let Fatal { role, point, side, .. } = subject.fatal.as_ref().unwrap();
        let died = Visits::read(&fleet, &subject.trace()).end_at(role, point, side);
        assert!(died, "{}: nobody came by", subject.name);
    }
    eprintln!("{} deaths", subjects.len());
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn a_site_that_dies_at_any_durable_point_loses_and_doubles_nothing() {
    let points = visits().of_role("site");
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let sides = points.keys().flat_map(|point| SIDES.map(|side| (point, side)));
    let mut deaths = 0;
    for (n, (point, side)) in sides.enumerate() {
        let mut site = Site { point, side, deaths: 0 };
        let name = format!("ad{n}");
        fleet.terminate("site");
        site.start(&mut fleet);
        let script = fleet.mark(&format!("# {point} {side}"));
        let package = fleet.package_file(&name, "1", &script, json!({}));
        until("the package is published", || {
            site.answered(&mut fleet, &["package", "publish", &package])
        });
        let file = fleet.advertisement_file(&name, &name, &["d1"], json!({}));
        until("the advertisement is applied", || {
            site.answered(&mut fleet, &["apply", "-f", &file])
        });
        let wait = ["wait", &name, "--for", "complete", "--timeout", "2s"];
        until("the outcome is there", || site.answered(&mut fleet, &wait));
        let states: Value = until("the site answers", || {
            site.answered(&mut fleet, &["status"])?;
            let found = fleet.run(&["accounting", &name, "-o", "json"]);
            serde_json::from_str::<Value>(&found.out).ok().map(|found| found["states"].clone())
        });
        if fleet.terminate("site").signal() == Some(9) {
            site.deaths += 1;
        }
        fleet.restart("site");
        assert!(site.deaths > 0, "{point} {side}: nobody came by");
        deaths += site.deaths;
        assert_eq!(states, json!({"succeeded": 1}), "{point} {side}");
        assert_eq!(fleet.truth().len(), n + 1, "{point} {side}");
    }
    eprintln!("{deaths} deaths");
    fleet.ok(&["accounting", "verify"]);
}

/// A site that is to die at one side of one point, one visit later each time.
struct Site<'a> {
    point: &'a str,
    side: &'a str,
    deaths: u64,
}

impl Site<'_> {
    fn start(&self, fleet: &mut Fleet) {
        let armed = format!("site/{}:{}:{}", self.point, self.side, self.deaths + 1);
        let armed = if self.deaths < SITE_DEATHS_MAX { armed } else { String::new() };
        fleet.restart_with("site", &[("MUSTER_FAILPOINT", &armed)]);
    }

    /// Asks until the site answers, and starts it again whenever it has died.
    fn answered(&mut self, fleet: &mut Fleet, args: &[&str]) -> Option<()> {
        let answer = fleet.run(args);
        if let Some(ended) = fleet.ended("site") {
            assert_eq!(ended.signal(), Some(9), "{}", fleet.log_of("site"));
            self.deaths += 1;
            self.start(fleet);
        }
        (answer.code == 0).then_some(())
    }
}
