//! Parts of a role that a person can hold still: `GET /api/v1/components`.

use serde::{Deserialize, Serialize};

/// A component and whether it is held still.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentState {
    /// Its name.
    pub name: String,
    /// `running` or `paused`.
    pub state: String,
    /// What it does, and what waits while it is paused.
    pub description: String,
}
