//! What the driver sees on the device itself: facts, time zone, paused components, leftovers of a crash.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use jiff::tz::TimeZone;
use muster_agent_core::input::{FoundRun, Input};
use muster_agent_core::user::Request;

use super::Driver;
use super::content::DETECT_DIR;
use crate::components;
use crate::contents::remove_copy;
use crate::nearby::Place;
use crate::program;
use crate::requests;
use crate::run_folder::{self, RunFolder};

/// How often the device is looked at where nothing tells of a change: a folder that was made after the
/// agent's start, memory that was added, a kernel that cannot watch.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Where the machine's time zone is (tzset(3) as glibc has it).
const ZONE: (&str, &str) = ("/etc", "localtime");

impl Driver {
    /// What changed on the device since the last look; one thing at a time.
    pub(super) fn look_around(&mut self) -> Option<Input> {
        self.looked = self.setup.clock.elapsed();
        let paused = self.is_paused();
        if paused != self.paused {
            self.paused = paused;
            return Some(Input::Paused { paused });
        }
        let replaced = program::is_replaced();
        if replaced != self.upgrade_waits {
            self.upgrade_waits = replaced;
            return Some(Input::UpgradeWaits(replaced));
        }
        let users = self.setup.sessions.users();
        if users != self.users {
            self.users.clone_from(&users);
            return Some(Input::Sessions(users));
        }
        if let Some(request) = self.next_request() {
            return Some(Input::Asked(request));
        }
        let zone = TimeZone::system();
        if zone != self.zone {
            self.zone = zone.clone();
            return Some(Input::ZoneChanged(zone));
        }
        let facts = crate::facts::gather(&self.setup.data, &self.setup.name, &self.setup.config);
        if facts != self.facts {
            self.facts = facts.clone();
            return Some(Input::FactsChanged(facts));
        }
        None
    }

    /// A request to be taken. The one that was taken and is still there is not taken for ever.
    fn next_request(&mut self) -> Option<Request> {
        self.stuck.take_if(|stuck| requests::taken(stuck));
        let left = requests::first(&self.setup.data)?;
        if self.stuck.as_ref() == Some(&left.path) {
            return None;
        }
        self.taking = Some(left.path);
        Some(left.request)
    }

    /// Where a change shows of what [`Driver::look_around`] looks at.
    pub(super) fn places(&self) -> Vec<Place> {
        let (folder, name) = self.setup.sessions.place();
        let data = &self.setup.data;
        vec![
            (data.join(requests::REQUESTS_DIR), None),
            (folder, name.map(Path::to_owned)),
            (data.clone(), Some(components::COMPONENTS_FILE.into())),
            (data.join(crate::facts::FACTS_DIR), None),
            (ZONE.0.into(), Some(ZONE.1.into())),
        ]
    }

    /// Whether software distribution is held still. What cannot be read changes nothing.
    pub(super) fn is_paused(&self) -> bool {
        match components::paused(&self.setup.data) {
            Ok(paused) => paused.contains(components::SOFTWARE_DISTRIBUTION),
            Err(error) => {
                tracing::warn!(why = %crate::chain_of(&error), "components not read");
                self.paused
            }
        }
    }

    /// What the run folders show to an agent that lost its journal; nothing to any other.
    pub(super) fn found_runs(&self) -> Vec<FoundRun> {
        if !self.agent.awaits_account() {
            return Vec::new();
        }
        let runs = self.setup.data.join(crate::RUNS_DIR);
        run_folder::find_all(&runs, self.setup.clock.boot_id())
    }

    /// Removes what effects of an earlier life left: copies of detections, content and run folders that
    /// nothing names. Content and run folders stay while the account is awaited: folders are evidence,
    /// and content may be needed to judge them.
    pub(super) async fn sweep(&mut self) {
        let kept = self.setup.packages.manifests();
        let runs = self.known_runs();
        let setup = self.setup.clone();
        let swept = tokio::task::spawn_blocking(move || {
            if let Err(error) = remove_copy(&setup.data.join(DETECT_DIR)) {
                tracing::warn!(%error, "copies of detections stay");
            }
            crate::versions::sweep(&setup.data);
            let Some(runs) = runs else { return };
            if let Err(error) = setup.contents.keep_only(&kept) {
                tracing::warn!(why = %crate::chain_of(&error), "content that nothing needs stays");
            }
            let folder = setup.data.join(crate::RUNS_DIR);
            for stray in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
                let known = stray.file_name().to_str().is_some_and(|name| runs.contains(name));
                let run = RunFolder::at(stray.path());
                if !known && matches!(run.lock(), Ok(Some(_))) {
                    let name = stray.file_name().to_string_lossy().into_owned();
                    let _ = crate::outputs::keep(&setup.data, &name, run.path());
                    let _ = remove_copy(run.path());
                }
            }
        });
        let _ = swept.await;
    }

    /// The names of the folders of runs that are followed; `None` while the account is awaited.
    fn known_runs(&self) -> Option<BTreeSet<String>> {
        let saved = self.journal.load().ok()?;
        // Without a memory the machine begins by asking for its account.
        let memory = saved.memory?;
        let names = saved.runs.iter().map(|run| run.run.to_string()).collect();
        (!memory.awaits_account).then_some(names)
    }
}
