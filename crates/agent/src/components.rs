//! Parts of the agent that a person holds still, kept as [`muster_host::components`] says.

use std::path::Path;

use muster_host::components;
pub use muster_host::components::{COMPONENTS_FILE, ComponentError, paused};
use muster_host::run_file::read_run_file;

use crate::AgentFile;
use crate::shown::RUN_FILE;

pub use muster_model::component::SOFTWARE_DISTRIBUTION;

/// Every component of this version that can be held still.
pub const ALL: [&str; 1] = [SOFTWARE_DISTRIBUTION];

/// Pauses or resumes a component; durable on return.
pub fn set_paused(data: &Path, component: &str, pause: bool) -> Result<(), ComponentError> {
    components::set_paused(data, &ALL, component, pause)
}

/// Whether the agent that runs on `data` acts on what is written there by now; `None` if none runs.
pub fn is_in_force(data: &Path) -> Result<Option<bool>, ComponentError> {
    let wanted = paused(data)?.contains(SOFTWARE_DISTRIBUTION);
    let agent: Option<AgentFile> = read_run_file(data, RUN_FILE).ok().flatten();
    // After a crash the run file stays, so the process is looked for as well.
    let runs = |agent: &AgentFile| Path::new(&format!("/proc/{}", agent.pid)).exists();
    Ok(agent.filter(runs).map(|agent| agent.paused == wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_agent_has_can_be_paused() {
        let data = tempfile::tempdir().unwrap();
        set_paused(data.path(), SOFTWARE_DISTRIBUTION, true).unwrap();
        assert!(paused(data.path()).unwrap().contains(SOFTWARE_DISTRIBUTION));
        let refused = set_paused(data.path(), "inventory", true).unwrap_err();
        assert!(refused.to_string().contains("inventory"));
    }
}
