//! Parts of the agent that a person holds still. Pausing loses nothing: what is paused starts nothing
//! new, and goes on where it was.
//!
//! `DATA/components.json`; written by the command line, noticed by a running agent within seconds.

use std::collections::BTreeSet;
use std::path::Path;

use muster_host::publish::{self, PublishError, ReadError};

/// The component that fetches and runs what is advertised.
pub const SOFTWARE_DISTRIBUTION: &str = "software-distribution";
/// Every component of this version.
pub const ALL: [&str; 1] = [SOFTWARE_DISTRIBUTION];

const COMPONENTS_FILE: &str = "components.json";
const COMPONENTS_BYTES_MAX: u64 = 4096;

/// The components could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// No such component.
    #[error("no component of the agent is called {0:?}; there is {SOFTWARE_DISTRIBUTION}")]
    Unknown(String),
    /// The file could not be read.
    #[error("failed to read which components are paused")]
    Read(#[from] ReadError),
    /// The file could not be written.
    #[error("failed to save which components are paused")]
    Save(#[from] PublishError),
    /// The file holds something else.
    #[error("failed to understand which components are paused")]
    Json(#[from] serde_json::Error),
}

/// The components that are paused.
pub fn paused(data: &Path) -> Result<BTreeSet<String>, ComponentError> {
    let read = publish::read_if_there(&data.join(COMPONENTS_FILE), COMPONENTS_BYTES_MAX)?;
    Ok(read.map_or(Ok(BTreeSet::new()), |bytes| serde_json::from_slice(&bytes))?)
}

/// Pauses or resumes a component; durable on return.
pub fn set_paused(data: &Path, component: &str, pause: bool) -> Result<(), ComponentError> {
    if !ALL.contains(&component) {
        return Err(ComponentError::Unknown(component.chars().take(80).collect()));
    }
    let mut names = paused(data)?;
    let changed = match pause {
        true => names.insert(component.to_owned()),
        false => names.remove(component),
    };
    if changed {
        publish::durable_publish(&data.join(COMPONENTS_FILE), &serde_json::to_vec(&names)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pausing_is_remembered_until_resumed() {
        let data = tempfile::tempdir().unwrap();
        assert!(paused(data.path()).unwrap().is_empty());
        set_paused(data.path(), SOFTWARE_DISTRIBUTION, true).unwrap();
        set_paused(data.path(), SOFTWARE_DISTRIBUTION, true).unwrap();
        assert!(paused(data.path()).unwrap().contains(SOFTWARE_DISTRIBUTION));
        set_paused(data.path(), SOFTWARE_DISTRIBUTION, false).unwrap();
        assert!(paused(data.path()).unwrap().is_empty());
    }

    #[test]
    fn an_unknown_component_is_refused_by_name() {
        let data = tempfile::tempdir().unwrap();
        let refused = set_paused(data.path(), "inventory", true).unwrap_err();
        assert!(refused.to_string().contains("inventory"));
    }
}
