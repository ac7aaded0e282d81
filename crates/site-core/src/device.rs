//! A device as the site's decisions see it.

use muster_model::facts::{Fact, Facts};
use muster_model::id::DeviceId;
use muster_model::name::Name;
use muster_model::policy::Order;
use serde::{Deserialize, Serialize};

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its id, for ever.
    pub id: DeviceId,
    /// The name that the site knows it by; rules see this one, never the name that the device claims.
    pub name: Name,
    /// Whether it belongs here.
    pub admission: Admission,
    /// What it says of itself.
    pub facts: Facts,
}

/// Whether a device belongs to the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "admission", rename_all = "kebab-case")]
pub enum Admission {
    /// Waits for `muster device approve`: member of nothing, told nothing.
    Pending,
    /// Belongs.
    Admitted,
    /// Belongs, but is under suspicion (clone, fork): keeps its memberships, starts nothing.
    Held {
        /// Who or what holds it, and why.
        order: Order,
    },
    /// Gone for good; its id is never used again.
    Retired,
}

impl Admission {
    /// Whether the device can be a member of collections.
    pub fn is_admitted(&self) -> bool {
        matches!(self, Admission::Admitted | Admission::Held { .. })
    }

    /// The word.
    pub fn word(&self) -> &'static str {
        match self {
            Admission::Pending => "pending",
            Admission::Admitted => "admitted",
            Admission::Held { .. } => "held",
            Admission::Retired => "retired",
        }
    }
}

impl Device {
    /// `device.NAME` of a rule. `None`: not known.
    pub fn fact(&self, name: &str) -> Option<Fact> {
        match name {
            "name" => Some(Fact::Text(self.name.as_str().to_owned())),
            other => self.facts.get(other),
        }
    }
}
