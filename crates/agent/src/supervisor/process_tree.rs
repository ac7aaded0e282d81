//! What a program has started, found in /proc. Used by the supervisor to end everything below it,
//! and by the agent to end what a killed supervisor left behind. Reads and signals, never waits.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// One process as the kernel shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    session: i32,
    zombie: bool,
}

/// Every process below `root`, `root` itself not among them. Zombies are left out: they have ended.
pub(crate) fn descendants(root: i32) -> Vec<i32> {
    let all = processes();
    let mut children: BTreeMap<i32, Vec<&Process>> = BTreeMap::new();
    for process in &all {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    // A process table read while it changes could show a loop.
    let mut seen = BTreeSet::from([root]);
    let mut queue = vec![root];
    while let Some(pid) = queue.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            if seen.insert(child.pid) {
                queue.push(child.pid);
                if !child.zombie {
                    found.push(child.pid);
                }
            }
        }
    }
    found
}

/// What is left of a run whose supervisor, which led session `session`, is gone: the processes of
/// that session, and those that carry `mark` in their environment. A session that has a leader again
/// is another's, because the kernel gave the number away.
pub fn leftovers(session: i32, mark: &str) -> Vec<i32> {
    let all = processes();
    let reused = all.iter().any(|process| process.pid == session);
    let own = std::process::id() as i32;
    all.iter()
        .filter(|process| !process.zombie && process.pid != own)
        .filter(|process| (!reused && process.session == session) || carries(process.pid, mark))
        .map(|process| process.pid)
        .collect()
}

/// Sends `signal` to each of `pids`. One that has ended in the meantime is no error.
pub fn signal_all(pids: &[i32], signal: Signal) {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        // ESRCH: it has ended. EPERM: it changed its user and leaves the agent's reach; it shows up
        // as escaped.
        let _ = kill_process(pid, signal);
    }
}

fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(process)
        .collect()
}

fn process(pid: i32) -> Option<Process> {
    parse_stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc(5): `pid (comm) state ppid pgrp session ...`; comm may hold blanks and brackets.
fn parse_stat(pid: i32, stat: &str) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Process { pid, parent, session, zombie: matches!(state, "Z" | "X") })
}

fn carries(pid: i32, mark: &str) -> bool {
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
        environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let process = parse_stat(7, "7 (a) b) (c)) S 3 5 9 0 -1").unwrap();
        assert_eq!(process, Process { pid: 7, parent: 3, session: 9, zombie: false });
        assert_eq!(parse_stat(7, "7 (x"), None);
    }

    #[test]
    fn own_children_are_descendants() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let own = std::process::id() as i32;
        assert!(descendants(own).contains(&(child.id() as i32)));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!descendants(own).contains(&(child.id() as i32)));
    }
}
