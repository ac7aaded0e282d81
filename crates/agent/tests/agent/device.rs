//! A device of the tests: its folder, and the agent process that runs on it.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use muster_agent::status::{StatusView, status};
use muster_agent::{EnrollOptions, Enrolled, RunOptions};
use muster_model::id::AdvertisementId;
use muster_model::message::Report;
use muster_model::name::Name;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::site::Site;

/// Where the child process of a test finds its folder.
pub const FOLDER_VARIABLE: &str = "MUSTER_TEST_AGENT";
/// How long anything may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A device that is enrolled.
pub struct Device {
    dir: TempDir,
    agent: Option<Child>,
}

impl Device {
    /// Enrols a device with short cycles.
    pub fn enrolled(site: &Site) -> Self {
        let device = Self { dir: tempfile::tempdir().unwrap(), agent: None };
        assert!(!device.enroll(site).already);
        device
    }

    /// Enrols, or says that it is enrolled already.
    pub fn enroll(&self, site: &Site) -> Enrolled {
        muster_agent::enroll(EnrollOptions {
            data: self.data(),
            site: site.url.clone(),
            token: site.token(),
            name: Some(Name::new("d1").unwrap()),
            root: Some(self.dir.path().join("root")),
            quota: None,
            session_source: None,
            restart_command: None,
            settings: ["pollWait=1s", "backoffMost=1s", "contentRetryMost=1s", "termGrace=1s"]
                .map(str::to_owned)
                .to_vec(),
        })
        .unwrap()
    }

    /// The agent's folder.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
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
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_agent_of_another_test", "--ignored", "--nocapture"])
            .env(FOLDER_VARIABLE, self.data())
            .spawn();
        self.agent = Some(child.unwrap());
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
        for run in run_files(&self.data()) {
            let shown = std::fs::read(&run).unwrap_or_default();
            let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap_or_default();
            let pid = shown["supervisorPid"].as_i64().and_then(|pid| Pid::from_raw(pid as i32));
            if let Some(pid) = pid {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
    }
}

fn run_files(data: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data.join("run")).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// The agent's process: what the real binary does.
pub fn run_agent() {
    let data = PathBuf::from(std::env::var_os(FOLDER_VARIABLE).unwrap());
    let supervisor = Some(env!("CARGO_BIN_EXE_muster-supervise").into());
    muster_agent::run(RunOptions { data, supervisor }).unwrap();
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
