//! `DATA/run/agent.json` of the running agent: its process, what is wrong between it and its site, and
//! whether it is held still.
//!
//! For `agent status` and `component`, which are other processes. Nothing depends on it, so a disk without room for it
//! is no reason not to run. Kept by the driver; removed at a clean end.

use std::path::Path;

use muster_host::run_file::{RunFile, RunFileError};

use crate::AgentFile;

/// The name of the file below `run/`.
pub(crate) const RUN_FILE: &str = "agent";

/// What is shown, and the file that shows it; `None` while there is no room for one.
#[derive(Debug)]
pub(crate) struct Shown {
    says: AgentFile,
    file: Option<RunFile>,
}

impl Shown {
    /// Shows that the agent runs.
    pub(crate) fn publish(data: &Path, says: AgentFile) -> Result<Self, RunFileError> {
        match RunFile::publish(data, RUN_FILE, &says) {
            Ok(file) => Ok(Self { says, file: Some(file) }),
            Err(error) if error.is_disk_full() => {
                tracing::warn!(why = %crate::chain_of(&error), "nobody is shown that the agent runs");
                Ok(Self { says, file: None })
            }
            Err(error) => Err(error),
        }
    }

    /// Shows what is wrong with the site by now, and whether the machine was told to hold still, if it
    /// was told anything. Writes only what changed.
    pub(crate) fn tell(&mut self, trouble: Vec<String>, paused: Option<bool>) {
        let paused = paused.unwrap_or(self.says.paused);
        if trouble == self.says.trouble && paused == self.says.paused {
            return;
        }
        self.says.paused = paused;
        for why in trouble.iter().filter(|why| !self.says.trouble.contains(why)) {
            tracing::warn!(%why, "trouble");
        }
        self.says.trouble = trouble;
        if let Some(Err(error)) = self.file.as_ref().map(|file| file.update(&self.says)) {
            tracing::warn!(why = %crate::chain_of(&error), "how the agent stands is not shown");
        }
    }
}
