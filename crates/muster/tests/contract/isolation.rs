//! The ladder of isolation: what ends the agent's control group, or a run's supervisor, and what is left then.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::fleet::{Fleet, until};

/// A control group for an agent, gone with this value.
struct Group(PathBuf);

impl Group {
    /// `None`, said, where the agent takes another rung of the ladder.
    fn beside(fleet: &Fleet, name: &str) -> Option<Self> {
        if fleet.status("d1")["isolation"] != "cgroup" {
            eprintln!("skipped: no control group can be made here");
            return None;
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let mount = mounts.lines().find(|line| line.starts_with("cgroup2 ")).unwrap();
        let mount = mount.split(' ').nth(1).unwrap();
        let group = Path::new(mount).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir(&group).unwrap();
        Some(Self(group))
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.0.join(file), text).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn supervisor_of(fleet: &Fleet, device: &str) -> String {
    until("the supervisor shows itself", || {
        let mut files = std::fs::read_dir(fleet.path(&format!("{device}/run"))).ok()?.flatten();
        let found = files.find(|file| file.file_name().to_string_lossy().starts_with("run-"))?;
        let found: Value = serde_json::from_slice(&std::fs::read(found.path()).ok()?).ok()?;
        found["supervisorPid"].as_i64().map(|pid| pid.to_string())
    })
}

#[test]
fn what_ends_the_agents_control_group_leaves_its_run_alone() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let Some(group) = Group::beside(&fleet, "muster-test-agent") else { return };
    group.write("cgroup.procs", &fleet.pid("d1").to_string());
    fleet.publish_gated();
    fleet.advertise("gated", "gated", &["d1"], json!({}));
    fleet.stands("d1", "gated", "running");
    group.write("cgroup.kill", "1");
    fleet.await_end("d1");
    fleet.restart("d1");
    fleet.open_gate();
    fleet.stands("d1", "gated", "succeeded");
    assert_eq!(fleet.truth().len(), 1, "{:?}", fleet.truth());
}

#[test]
fn what_a_killed_supervisor_left_is_ended_whatever_it_has_left() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    if fleet.status("d1")["isolation"] != "cgroup" {
        eprintln!("skipped: no control group can be made here");
        return;
    }
    // Its session, its parent and its environment: nothing else tells whose it is.
    let left = fleet.path("left");
    let script = format!("env -i /usr/bin/setsid /bin/sh -c 'echo $$ > {left}; sleep 600' & wait");
    fleet.publish("leaver", &fleet.mark(&script), json!({}));
    fleet.advertise("leaver", "leaver", &["d1"], json!({}));
    let pid = until("it has left", || {
        let pid = std::fs::read_to_string(&left).ok()?;
        pid.ends_with('\n').then(|| pid.trim().to_owned())
    });
    let supervisor = supervisor_of(&fleet, "d1");
    let killed = std::process::Command::new("kill").args(["-9", &supervisor]).status();
    assert!(killed.unwrap().success());
    let row = fleet.stands("d1", "leaver", "interrupted");
    assert_eq!(row["reason"], "killed", "{row}");
    until("it has ended", || (!is_alive(&pid)).then_some(()));
}

#[test]
fn without_control_groups_a_session_holds_a_run_together() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.terminate("d1");
    fleet.restart_with("d1", &[("MUSTER_ISOLATION", "session")]);
    fleet.publish("mark", &fleet.mark("grep ^0:: /proc/self/cgroup"), json!({}));
    fleet.advertise("ad", "mark", &["d1"], json!({}));
    fleet.stands("d1", "ad", "succeeded");
    let shown = fleet.ok(&["logs", "d1", "ad"]);
    assert!(!shown.contains("muster.runs"), "{shown}");
}
