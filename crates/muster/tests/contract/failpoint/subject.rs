//! A device that goes through everything that is durable on it, and dies on the way as often as told:
//! it is enrolled, loses its journal, runs a program that must never start twice, restarts its machine
//! for it, and clears up.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;

use serde_json::json;

use super::visits::Visits;
use crate::fleet::Fleet;

/// A device dies at most this often: after that it may live.
const DEATHS_MAX: u64 = 8;

/// Where a process is to die.
#[derive(Clone, Debug)]
pub(super) struct Fatal {
    pub(super) role: &'static str,
    pub(super) point: String,
    pub(super) side: &'static str,
    /// The visit, from 1.
    pub(super) nth: u64,
}

impl Fatal {
    /// As the environment says it.
    pub(super) fn armed(&self) -> String {
        format!("{}/{}:{}:{}", self.role, self.point, self.side, self.nth)
    }
}

/// The device.
pub(super) struct Subject {
    pub(super) name: String,
    /// `None`: it lives.
    pub(super) fatal: Option<Fatal>,
    pub(super) deaths: u64,
    booted: bool,
}

/// Publishes the program that the subjects run.
pub(super) fn publish(fleet: &Fleet) {
    let program = json!({"afterRunning": "agent-restarts", "maxRunTime": "5m"});
    fleet.publish("mark", &fleet.mark("echo done"), program);
}

impl Subject {
    pub(super) fn new(fatal: Option<Fatal>) -> Self {
        let name = match &fatal {
            Some(fatal) => fatal.armed().replace([':', '/', '.'], "-"),
            None => "living".to_owned(),
        };
        Self { name, fatal, deaths: 0, booted: false }
    }

    /// The file of its visits.
    pub(super) fn trace(&self) -> String {
        format!("{}.visits", self.name)
    }

    /// Enrols it, as often as it takes, and makes it lose its journal.
    pub(super) fn enrol(&mut self, fleet: &Fleet, token: &str) {
        let asked = fleet.path(&format!("{}.restart", self.name));
        let command = format!("echo now >> '{asked}'");
        loop {
            let env = self.environment(fleet);
            let env: Vec<(&str, &str)> = env.iter().map(|(k, v)| (*k, v.as_str())).collect();
            let more = ["--restart-command", &command];
            let answer = fleet.enroll_with(&self.name, token, &more, &env);
            if answer.code == 0 {
                break;
            }
            assert_eq!(answer.signal, Some(9), "{}: {}", self.name, answer.said());
            self.has_died();
        }
        std::fs::write(fleet.path(&format!("{}/journal.db", self.name)), "").unwrap();
    }

    pub(super) fn start(&self, fleet: &mut Fleet) {
        let env = self.environment(fleet);
        let env: Vec<(&str, &str)> = env.iter().map(|(k, v)| (*k, v.as_str())).collect();
        fleet.start_agent(&self.name, &env);
    }

    /// Starts it again if it has died, and restarts its machine if it asks for that.
    pub(super) fn tend(&mut self, fleet: &mut Fleet) {
        let asked = std::fs::metadata(fleet.path(&format!("{}.restart", self.name)));
        let restarts = !self.booted && asked.is_ok_and(|asked| asked.len() > 0);
        if let Some(ended) = fleet.ended(&self.name) {
            assert_eq!(ended.signal(), Some(9), "{}: {}", self.name, fleet.log_of(&self.name));
            self.has_died();
        } else if restarts {
            fleet.kill(&self.name);
        } else {
            return;
        }
        self.booted |= restarts;
        let env = self.environment(fleet);
        let env: Vec<(&str, &str)> = env.iter().map(|(k, v)| (*k, v.as_str())).collect();
        fleet.restart_with(&self.name, &env);
    }

    /// Ends it; a clean end may be a death as well.
    pub(super) fn end(&mut self, fleet: &mut Fleet) {
        if fleet.terminate(&self.name).signal() == Some(9) {
            self.has_died();
        }
    }

    /// The next life is to die one visit later. A supervisor has one life for each run.
    fn has_died(&mut self) {
        self.deaths += 1;
        match &mut self.fatal {
            Some(_) if self.deaths >= DEATHS_MAX => self.fatal = None,
            Some(fatal) => fatal.nth += 1,
            None => panic!("{} died of nothing", self.name),
        }
    }

    fn environment(&self, fleet: &Fleet) -> Vec<(&'static str, String)> {
        let mut env = BTreeMap::new();
        env.insert("MUSTER_FAILPOINT_TRACE", fleet.path(&self.trace()));
        if let Some(fatal) = &self.fatal {
            env.insert("MUSTER_FAILPOINT", fatal.armed());
        }
        if self.booted {
            env.insert("MUSTER_BOOT_ID", "second".to_owned());
        }
        env.into_iter().collect()
    }

    /// The states that its obligation may be in, each with how often its program may have run.
    pub(super) fn allowed(&self, fleet: &Fleet) -> &'static [(&'static str, usize)] {
        let visits = Visits::read(fleet, &self.trace());
        let came_by = |point, side| visits.have("supervisor", point, side);
        if came_by("supervisor.exit", "after") {
            &[("succeeded", 1)]
        } else if came_by("supervisor.exit", "before") {
            // The record may have come to stand.
            &[("succeeded", 1), ("interrupted", 1)]
        } else if came_by("supervisor.entered", "after") {
            &[("interrupted", 0), ("interrupted", 1)]
        } else if came_by("supervisor.entered", "before") {
            // Nobody can say that nothing was executed, once `entered` stands.
            &[("interrupted", 0), ("failed", 0)]
        } else {
            // Each launch dies, until trying on would be a loop.
            &[("failed", 0)]
        }
    }
}
