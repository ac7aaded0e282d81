//! Parts of a role that a person can hold still: `GET /api/v1/components`.

use serde::{Deserialize, Serialize};

/// A component and whether it is held still.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentState {
    /// Its name.
    pub name: String,
    /// Of a site's: `running` or `paused`. Of an agent's: [`crate::component::ComponentState`].
    pub state: String,
    /// Why it stands there, where that is not the word itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it does, and what waits while it is paused.
    pub description: String,
}
