//! Components: the parts of an agent that a site switches on by policy and a person can hold still.
//!
//! Each stands in exactly one state with its reason, and the device says so whenever that changes.
//! Who reads of them: `agent status`, `muster component list`, and the site at the device.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Fetches and runs what is advertised.
pub const SOFTWARE_DISTRIBUTION: &str = "software-distribution";
/// Tells the site what is on the device.
pub const INVENTORY: &str = "inventory";
/// Components in one message: several times those that there are.
pub const COMPONENTS_MAX: usize = 16;

/// A component and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// Where it stands.
    #[serde(flatten)]
    pub state: ComponentState,
}

/// Where a component stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ComponentState {
    /// It works.
    Installed,
    /// It is switched on and does not work yet.
    InstallPending {
        /// What it waits for.
        reason: InstallPending,
    },
    /// Something of it is damaged and not mended yet.
    RepairPending {
        /// What the repair waits for.
        reason: RepairPending,
    },
    /// It works, and a newer version of it lies ready.
    UpgradeWaiting {
        /// What the upgrade waits for.
        reason: UpgradeWaiting,
    },
    /// It does not work on this device.
    NotAvailable {
        /// Why.
        reason: NotAvailable,
    },
    /// A person holds it still on the device: it takes on nothing new and loses nothing.
    Paused,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant,)* }

        impl $name {
            /// The word that people see.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }
    )*};
}

reasons! {
    /// What the first work of a component waits for.
    InstallPending {
        /// The site's first policy.
        Policy = "policy",
        /// The account that the site keeps of this device.
        Account = "account",
    }

    /// What a repair waits for.
    RepairPending {
        /// The end of a run that uses what is damaged.
        InUse = "in-use",
        /// Its own end: it is under way.
        UnderWay = "under-way",
        /// The next verification: it was tried and failed.
        Retry = "retry",
    }

    /// What an upgrade waits for.
    UpgradeWaiting {
        /// The next start of the agent: its program was replaced on disk.
        Restart = "restart",
        /// The end of a run, and then the next start of the agent. Nothing breaks if it comes earlier.
        InUse = "in-use",
        /// The end of its trial: the newer version runs and has yet to reach the site.
        Trial = "trial",
    }

    /// Why a component does not work on this device.
    NotAvailable {
        /// The site has switched it off.
        SwitchedOff = "switched-off",
        /// This version of the agent does not have it.
        NotInThisVersion = "not-in-this-version",
    }
}

impl ComponentState {
    /// The bare word.
    pub fn word(self) -> &'static str {
        match self {
            ComponentState::Installed => "installed",
            ComponentState::InstallPending { .. } => "install-pending",
            ComponentState::RepairPending { .. } => "repair-pending",
            ComponentState::UpgradeWaiting { .. } => "upgrade-waiting",
            ComponentState::NotAvailable { .. } => "not-available",
            ComponentState::Paused => "paused",
        }
    }

    /// Why it stands there, where that is not the word itself.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            ComponentState::Installed | ComponentState::Paused => None,
            ComponentState::InstallPending { reason } => Some(reason.word()),
            ComponentState::RepairPending { reason } => Some(reason.word()),
            ComponentState::UpgradeWaiting { reason } => Some(reason.word()),
            ComponentState::NotAvailable { reason } => Some(reason.word()),
        }
    }
}

impl fmt::Display for ComponentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            Some(reason) => write!(f, "{}({reason})", self.word()),
            None => f.write_str(self.word()),
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_its_name_its_bare_state_and_a_reason() {
        let state = ComponentState::RepairPending { reason: RepairPending::InUse };
        let component = Component { name: SOFTWARE_DISTRIBUTION.to_owned(), state };
        let json = serde_json::to_string(&component).unwrap();
        assert_eq!(
            json,
            r#"{"name":"software-distribution","state":"repair-pending","reason":"in-use"}"#
        );
        assert_eq!(serde_json::from_str::<Component>(&json).unwrap(), component);
        assert_eq!(component.to_string(), "software-distribution repair-pending(in-use)");
        let paused = Component { state: ComponentState::Paused, ..component };
        let json = serde_json::to_string(&paused).unwrap();
        assert_eq!(json, r#"{"name":"software-distribution","state":"paused"}"#);
        assert_eq!(serde_json::from_str::<Component>(&json).unwrap(), paused);
    }
}
