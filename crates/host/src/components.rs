//! Parts of a role that a person holds still. Pausing loses nothing: what is paused takes on nothing
//! new, and goes on where it was.
//!
//! `DATA/components.json` holds the names that are paused; written by the command line or the role
//! itself, noticed by a running role within seconds. Which names there are is the role's to say.

use std::collections::BTreeSet;
use std::path::Path;

use crate::publish::{self, PublishError, ReadError};

/// The file, in the folder of the role.
pub const COMPONENTS_FILE: &str = "components.json";
/// A role has a few components with short names.
const COMPONENTS_BYTES_MAX: u64 = 4096;
/// Characters of an unknown name that are told back.
const NAME_CHARS_SHOWN: usize = 80;

/// The components could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// No such component.
    #[error("no component here is called `{name}`; there are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
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

/// Pauses or resumes one of the `known` components; durable on return. Doing it again does nothing.
pub fn set_paused(
    data: &Path,
    known: &[&str],
    component: &str,
    pause: bool,
) -> Result<(), ComponentError> {
    if !known.contains(&component) {
        let name = component.chars().take(NAME_CHARS_SHOWN).collect();
        return Err(ComponentError::Unknown { name, known: known.join(", ") });
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

    const KNOWN: [&str; 2] = ["left", "right"];

    #[test]
    fn pausing_is_remembered_until_resumed() {
        let data = tempfile::tempdir().unwrap();
        assert!(paused(data.path()).unwrap().is_empty());
        set_paused(data.path(), &KNOWN, "left", true).unwrap();
        set_paused(data.path(), &KNOWN, "left", true).unwrap();
        assert_eq!(paused(data.path()).unwrap(), BTreeSet::from(["left".to_owned()]));
        set_paused(data.path(), &KNOWN, "left", false).unwrap();
        assert!(paused(data.path()).unwrap().is_empty());
    }

    #[test]
    fn an_unknown_component_is_refused_with_those_that_there_are() {
        let data = tempfile::tempdir().unwrap();
        let refused = set_paused(data.path(), &KNOWN, "middle", true).unwrap_err().to_string();
        assert!(refused.contains("`middle`") && refused.contains("left, right"), "{refused}");
    }
}
