//! A device of the tests: its folder, and the agent process that runs on it.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use muster_agent::status::{StatusView, status};
use muster_agent::{EnrollError, EnrollOptions, Enrolled, RunOptions};
use muster_model::id::AdvertisementId;
use muster_model::message::Report;
use muster_model::name::Name;
use muster_model::token::Token;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::site::Site;

/// Where the child process of a test finds its folder.
pub const FOLDER_VARIABLE: &str = "MUSTER_TEST_AGENT";
/// How long anything may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A device that is enrolled.
pub struct Device {
    dir: TempDir,
    data: PathBuf,
    agent: Option<Child>,
}

impl Device {
    /// Enrols a device with short cycles.
    pub fn enrolled(site: &Site) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        Self::enrolled_in(site, dir, data)
    }

    /// Enrols a device whose agent keeps its folder on a disk of its own.
    pub fn enrolled_on(site: &Site, disk: &Path) -> Self {
        Self::enrolled_in(site, tempfile::tempdir().unwrap(), disk.join("data"))
    }

    fn enrolled_in(site: &Site, dir: TempDir, data: PathBuf) -> Self {
        let device = Self { dir, data, agent: None };
        assert!(!device.enroll(site).already);
        device
    }

    /// Enrols, or says that it is enrolled already.
    pub fn enroll(&self, site: &Site) -> Enrolled {
        self.try_enroll(&site.url, site.token()).unwrap()
    }

    /// Enrols at `url` with `token`.
    pub fn try_enroll(&self, url: &str, token: Token) -> Result<Enrolled, EnrollError> {
        muster_agent::enroll(EnrollOptions {
            data: self.data(),
            site: url.to_owned(),
            token,
            name: Some(Name::new("d1").unwrap()),
            root: Some(self.dir.path().join("root")),
            quota: None,
            session_source: None,
            restart_command: None,
            settings: ["pollWait=1s", "backoffMost=1s", "contentRetryMost=1s", "termGrace=1s"]
                .map(str::to_owned)
                .to_vec(),
        })
    }

    /// The agent's folder.
    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// A file beside the agent's folder, for programs to write to.
    pub fn mark(&self) -> PathBuf {
        self.dir.path().join("mark")
    }

    /// What programs wrote there.
    pub fn marks(&self) -> usize {
        std::fs::read_to_string(self.mark()).map_or(0, |text| text.lines().count())
    }

    /// Starts the agent: this test program again, as another process.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts the agent with more in its environment.
    pub fn start_with(&mut self, environment: &[(&str, &str)]) {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_agent_of_another_test", "--ignored", "--nocapture"])
            .env(FOLDER_VARIABLE, self.data())
            .envs(environment.iter().copied())
            .spawn();
        self.agent = Some(child.unwrap());
    }

    /// Whether the agent's process has died; it is started again then.
    pub fn restarted_if_dead(&mut self) -> bool {
        let dead = self.agent.as_mut().unwrap().try_wait().unwrap().is_some();
        if dead {
            self.start();
        }
        dead
    }

    /// Kills the agent as a crash would.
    pub fn kill(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        assert_eq!(agent.wait().unwrap().signal(), Some(9));
    }

    /// Ends the agent as a service manager would.
    pub fn stop(&mut self) {
        let mut agent = self.agent.take().unwrap();
        kill_process(Pid::from_raw(agent.id() as i32).unwrap(), Signal::TERM).unwrap();
        assert!(agent.wait().unwrap().success());
    }

    /// Kills the supervisor of the one run that goes on, and waits until its lock is free.
    pub fn end_supervisor(&self) {
        let [supervisor] = self.supervisors()[..] else { panic!("not one run goes on") };
        kill_process(supervisor, Signal::KILL).unwrap();
        let gone = || rustix::process::test_kill_process(supervisor).is_err();
        let ended = || gone() || is_zombie(supervisor);
        wait_for(ended);
    }

    /// The supervisors that tell outsiders of themselves.
    fn supervisors(&self) -> Vec<Pid> {
        let entries = std::fs::read_dir(self.data().join("run")).into_iter().flatten();
        let shown = entries.filter_map(|entry| std::fs::read(entry.ok()?.path()).ok());
        let shown = shown.filter_map(|shown| serde_json::from_slice::<Value>(&shown).ok());
        shown.filter_map(|shown| Pid::from_raw(shown["supervisorPid"].as_i64()? as i32)).collect()
    }

    /// What `agent status` shows.
    pub fn status(&self) -> StatusView {
        status(&self.data()).unwrap()
    }

    /// Waits until the site has a report that `is` it.
    #[track_caller]
    pub fn reported(
        &self,
        site: &Site,
        advertisement: AdvertisementId,
        is: impl Fn(&Report) -> bool,
    ) -> Report {
        let mut found = None;
        wait_for(|| {
            found = site.reports(advertisement).into_iter().find(&is);
            found.is_some()
        });
        found.unwrap()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        for supervisor in self.supervisors() {
            let _ = kill_process(supervisor, Signal::TERM);
        }
    }
}

/// A file system of its own for as long as the value lives.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// One of `bytes`; `None`, and a word about it, if this user may not mount one.
    pub fn of(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mount = ["-t", "tmpfs", "-o", &size, "tmpfs"];
        let mounted = Command::new("mount").args(mount).arg(dir.path()).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self(dir));
        }
        eprintln!("skipped: mounting a small disk is not permitted here");
        None
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills it to the last block.
    pub fn fill(&self) {
        let mut file = std::fs::File::create(self.path().join("full")).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    }

    /// Undoes [`SmallDisk::fill`].
    pub fn empty(&self) {
        std::fs::remove_file(self.path().join("full")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: what still runs on it lets it go when it ends.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn is_zombie(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| stat.contains(") Z "))
}

/// The agent's process: what the real binary does.
pub fn run_agent() {
    let data = PathBuf::from(std::env::var_os(FOLDER_VARIABLE).unwrap());
    let supervisor = Some(env!("CARGO_BIN_EXE_muster-supervise").into());
    muster_agent::run(RunOptions { data, supervisor, session_source: None }).unwrap();
}

/// Waits until `holds`, looking again and again.
#[track_caller]
pub fn wait_for(mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "it never came to hold");
        // Nothing tells from another process; a short pause between two looks.
        let _ =
            rustix::thread::nanosleep(&rustix::thread::Timespec { tv_sec: 0, tv_nsec: 20_000_000 });
    }
}
