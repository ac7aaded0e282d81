//! A control group of its own for each run (cgroups(7), version 2), outside of the agent's: what ends the
//! agent's group leaves the run alone, and the run's can be ended as a whole, whatever left its session.
//!
//! ```text
//! MOUNT/muster.runs/RUN            the supervisor
//! MOUNT/muster.runs/RUN/program    the program and all that it starts
//! ```
//!
//! Groups hold processes together and nothing else: no limit is set. They are gone with the boot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use muster_model::message::RunId;

/// The group that the groups of runs lie in.
const RUNS: &str = "muster.runs";
/// The group of the program below that of its supervisor.
const PROGRAM: &str = "program";
/// Ends everything in a group, and in those below it (Linux 5.14).
const KILL: &str = "cgroup.kill";
/// The processes of a group; written, the one that moves into it.
const PROCESSES: &str = "cgroup.procs";
/// The mounts of this process (proc(5)).
const MOUNTS: &str = "/proc/self/mountinfo";
/// Groups that a program makes in its own, one in the other, are looked into so deep.
const DEPTH_MOST: usize = 16;

/// The group of one run. A group that is not there, or not ours to change, is no error: a run goes on without.
#[derive(Clone, Debug)]
pub struct Leaf {
    dir: PathBuf,
}

impl Leaf {
    /// The group of `run`, if this process may make groups outside of its own.
    pub fn of_run(run: RunId) -> Option<Self> {
        Some(Self::at(base()?.join(run.to_string())))
    }

    /// The group with that path.
    pub fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Makes the groups of supervisor and program, and moves this process into the former.
    pub fn enter(&self) -> io::Result<()> {
        fs::create_dir_all(self.program())?;
        move_into(&self.dir)
    }

    /// Runs `start` as a process of the program's group: what it starts is born there.
    pub fn beside_program<T>(&self, start: impl FnOnce() -> T) -> T {
        // Where moving fails, program and supervisor share a group, and `kill` looks for that.
        let _ = move_into(&self.program());
        let started = start();
        let _ = move_into(&self.dir);
        started
    }

    /// The processes of the program's group, and of those that it made in it. Never this one.
    pub fn members(&self) -> Vec<i32> {
        let mut found = self.all();
        found.retain(|pid| *pid != std::process::id() as i32);
        found
    }

    /// KILLs all of them at once: none can start another in between. Nothing, if this process is among them.
    pub fn kill(&self) {
        if !self.all().contains(&(std::process::id() as i32)) {
            // One that cannot be ended shows up as escaped.
            let _ = fs::write(self.program().join(KILL), "1");
        }
    }

    /// Moves this process out, and removes what is empty.
    pub fn leave(&self) {
        if self.dir.parent().is_some_and(|runs| move_into(runs).is_ok()) {
            self.remove();
        }
    }

    /// Removes the groups, if nothing is left in them.
    pub fn remove(&self) {
        self.each_below(&self.dir, DEPTH_MOST, &mut |group| {
            let _ = fs::remove_dir(group);
        });
    }

    fn program(&self) -> PathBuf {
        self.dir.join(PROGRAM)
    }

    fn all(&self) -> Vec<i32> {
        let mut found = Vec::new();
        self.each_below(&self.program(), DEPTH_MOST, &mut |group| found.extend(processes(group)));
        found
    }

    /// Calls `visit` with the groups in `group`, the innermost first, and with itself.
    fn each_below(&self, group: &Path, depth: usize, visit: &mut impl FnMut(&Path)) {
        let entries = fs::read_dir(group).into_iter().flatten().flatten();
        if depth > 0 {
            for entry in entries.filter(|one| one.file_type().is_ok_and(|kind| kind.is_dir())) {
                self.each_below(&entry.path(), depth - 1, visit);
            }
        }
        visit(group);
    }
}

/// Where the groups of runs lie, made if it is missing; `None` where this process may not, or the kernel cannot
/// end a group.
pub fn base() -> Option<PathBuf> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let base = mount_of(&fs::read_to_string(MOUNTS).ok()?)?.join(RUNS);
    match fs::create_dir(&base) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return None,
        _ => {}
    }
    base.join(KILL).exists().then_some(base)
}

/// Where the whole hierarchy that this process sees is mounted. Of a path with a blank in it nothing is made.
fn mount_of(mounts: &str) -> Option<PathBuf> {
    let whole = |line: &&str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let is_whole = file_system.starts_with("cgroup2 ") && root == "/" && !point.contains('\\');
        is_whole.then(|| PathBuf::from(point))
    };
    mounts.lines().find_map(|line| whole(&line))
}

fn move_into(group: &Path) -> io::Result<()> {
    fs::write(group.join(PROCESSES), "0")
}

fn processes(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join(PROCESSES)).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_model::digest::Digest;
    use std::process::Command;

    #[test]
    fn the_hierarchy_is_found_among_the_mounts() {
        let v1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n";
        let part = "33 31 0:30 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        let whole = "38 31 0:31 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_of(&[v1, part].concat()), None);
        let found = mount_of(&[v1, part, whole].concat());
        assert_eq!(found, Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(mount_of(&whole.replace("unified", "a\\040b")), None);
    }

    #[test]
    fn what_left_its_session_and_its_environment_is_ended_with_its_group() {
        let Some(leaf) = Leaf::of_run(RunId(Digest::of(&std::process::id().to_le_bytes()))) else {
            eprintln!("skipped: no control group can be made here");
            return;
        };
        fs::create_dir_all(leaf.program()).unwrap();
        let script = format!(
            "echo 0 > {0}/cgroup.procs; mkdir {0}/own; echo 0 > {0}/own/cgroup.procs;
             exec env -i setsid sleep 60",
            leaf.program().display()
        );
        let mut child = Command::new("sh").args(["-c", &script]).spawn().unwrap();
        while leaf.members() != [child.id() as i32] {
            assert!(child.try_wait().unwrap().is_none(), "it runs");
            std::thread::yield_now();
        }
        leaf.remove();
        assert!(leaf.path().exists(), "not while it has a process");
        leaf.kill();
        child.wait().unwrap();
        assert!(leaf.members().is_empty());
        leaf.remove();
        assert!(!leaf.path().exists());
    }
}
