//! Who may do what: one table of actions and principals, deny by default.
//!
//! Every route of the site names its [`Action`]; a route without one does not compile into the
//! router. What a row of the table does not grant is refused, and the whole matrix is committed as
//! text (`tests/roles.txt`), so that a change of it is seen in review.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Principal {
    /// Nobody that the site knows.
    None,
    /// An admitted device, for itself.
    Device,
    /// An access point, for the devices behind it.
    AccessPoint,
    /// May do everything, for all collections.
    Administrator,
    /// Sees everything, changes nothing.
    Auditor,
    /// Sees what happens on machines and helps one at a time.
    HelpDesk,
    /// Publishes and advertises from a build system.
    Pipeline,
}

impl Principal {
    /// Every principal, in the order of the matrix.
    pub const ALL: [Principal; 7] = [
        Principal::None,
        Principal::Device,
        Principal::AccessPoint,
        Principal::Administrator,
        Principal::Auditor,
        Principal::HelpDesk,
        Principal::Pipeline,
    ];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Principal::None => "none",
            Principal::Device => "device",
            Principal::AccessPoint => "access-point",
            Principal::Administrator => "administrator",
            Principal::Auditor => "auditor",
            Principal::HelpDesk => "help-desk",
            Principal::Pipeline => "pipeline",
        }
    }

    /// The bit of this principal in a row of the table.
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl std::str::FromStr for Principal {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|one| one.word() == text);
        found.ok_or_else(|| format!("no principal is called {text:?}"))
    }
}

const NONE: u8 = Principal::None.bit();
const DEVICE: u8 = Principal::Device.bit();
const RELAY: u8 = Principal::AccessPoint.bit();
const ADMIN: u8 = Principal::Administrator.bit();
const AUDITOR: u8 = Principal::Auditor.bit();
const HELP: u8 = Principal::HelpDesk.bit();
const PIPELINE: u8 = Principal::Pipeline.bit();

/// Whoever a person or pipeline is.
const PEOPLE: u8 = ADMIN | AUDITOR | HELP | PIPELINE;
/// Who looks at machines.
const LOOKERS: u8 = ADMIN | AUDITOR | HELP;
/// Everyone, with or without credentials.
const ANYONE: u8 = NONE | DEVICE | RELAY | PEOPLE;
/// The device protocol: the relay carries it, the device's own signature decides.
const FLEET: u8 = DEVICE | RELAY;

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $granted:expr;)*) => {
        /// What can be asked of a site.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Action { $($(#[$doc])* $variant,)* }

        impl Action {
            /// Every action, in the order of the matrix.
            pub const ALL: &[Action] = &[$(Action::$variant),*];

            /// The name, in refusals and audit messages.
            pub fn name(self) -> &'static str {
                match self { $(Action::$variant => $name,)* }
            }

            fn granted(self) -> u8 {
                match self { $(Action::$variant => $granted,)* }
            }
        }
    };
}

actions! {
    /// `/` and the console's static files.
    SiteFront = "front", ANYONE;
    /// The description of the API.
    OpenApiRead = "openapi.read", ANYONE;
    /// `/healthz`.
    HealthRead = "health.read", ANYONE;
    /// `/readyz`.
    ReadinessRead = "readiness.read", PEOPLE;
    /// Exchange a token for a session.
    LogOn = "log-on", ANYONE;
    /// Give up one's own session.
    LogOff = "log-off", PEOPLE;
    /// Exchange a token for an identity.
    DeviceEnroll = "device.enroll", ANYONE;
    /// A new certificate; the request itself is signed by the device.
    DeviceRenew = "device.renew", ANYONE;

    /// The device's policy.
    PolicyRead = "policy.read", FLEET;
    /// Messages of a device.
    MessagesSend = "messages.send", FLEET;
    /// The device's account.
    AccountRead = "account.read", FLEET;
    /// Objects by digest.
    ContentRead = "content.read", FLEET | ADMIN | PIPELINE;
    /// Trust documents: signed, and public within the fleet.
    TrustRead = "trust.read", FLEET | PEOPLE;

    /// Objects and their status.
    ObjectRead = "object.read", PEOPLE;
    /// Create or change a collection.
    CollectionWrite = "collection.write", ADMIN;
    /// Create or change an advertisement.
    AdvertisementWrite = "advertisement.write", ADMIN | PIPELINE;
    /// Let an advertisement override maintenance windows and freezes (`emergency: true`).
    AdvertisementEmergency = "advertisement.emergency", ADMIN;
    /// Create or change a maintenance window or freeze.
    WindowWrite = "window.write", ADMIN;
    /// Publish a package version.
    PackagePublish = "package.publish", ADMIN | PIPELINE;
    /// Upload objects of a package.
    ContentWrite = "content.write", ADMIN | PIPELINE;
    /// Withdraw and archive an object.
    ObjectDelete = "object.delete", ADMIN;
    /// Give an object another name.
    ObjectRename = "object.rename", ADMIN;

    /// The sums, and the states device by device.
    AccountingRead = "accounting.read", PEOPLE;
    /// Check the invariants.
    AccountingVerify = "accounting.verify", ADMIN | AUDITOR;
    /// Why a device stands where it stands.
    WhyRead = "why.read", PEOPLE;
    /// Status messages.
    MessagesRead = "messages.read", LOOKERS;
    /// Changes as they happen.
    Watch = "watch", PEOPLE;
    /// Questions in SQL over everything that is meant for people.
    QueryRead = "query.read", ADMIN | AUDITOR;

    /// Run again, for named devices.
    AdvertisementRerun = "advertisement.rerun", ADMIN | HELP;
    /// Stop an advertisement: the emergency brake is within reach of whoever sees the fire.
    AdvertisementStop = "advertisement.stop", ADMIN | HELP | PIPELINE;
    /// Let a stopped advertisement go on.
    AdvertisementResume = "advertisement.resume", ADMIN;
    /// Stop everything.
    SiteHalt = "site.halt", ADMIN | HELP;
    /// Let everything go on.
    SiteResume = "site.resume", ADMIN;
    /// Nothing of this package version starts any more.
    PackageRevoke = "package.revoke", ADMIN;

    /// The devices.
    DeviceRead = "device.read", LOOKERS;
    /// Admit a device, or clear a suspicion.
    DeviceApprove = "device.approve", ADMIN;
    /// Put a device under suspicion.
    DeviceHold = "device.hold", ADMIN | HELP;
    /// End a device for good.
    DeviceRetire = "device.retire", ADMIN;

    /// Publishers and trust documents, proposed; signatures decide.
    TrustWrite = "trust.write", ADMIN;
    /// Tokens, without their secrets.
    TokenRead = "token.read", ADMIN | AUDITOR;
    /// Make a token.
    TokenCreate = "token.create", ADMIN;
    /// Make a token void.
    TokenRevoke = "token.revoke", ADMIN;
    /// Who is logged on, without the secrets.
    CredentialRead = "credential.read", ADMIN | AUDITOR;
    /// End somebody's session.
    CredentialRevoke = "credential.revoke", ADMIN;
    /// Settings of the site.
    SettingsRead = "settings.read", PEOPLE;
    /// Change them.
    SettingsWrite = "settings.write", ADMIN;

    /// Set-aside items, with reason, sender and bytes.
    SetAsideRead = "set-aside.read", ADMIN | AUDITOR;
    /// Take them again, or drop them.
    SetAsideWrite = "set-aside.write", ADMIN;
    /// Parts of the site and whether they are paused.
    ComponentRead = "component.read", LOOKERS;
    /// Pause and resume them.
    ComponentWrite = "component.write", ADMIN;
    /// Who did what.
    AuditRead = "audit.read", ADMIN | AUDITOR;
    /// Copy the site's state out.
    SiteBackup = "site.backup", ADMIN;
}

/// Whether `principal` may do `action`. What is not granted is refused.
pub fn allowed(principal: Principal, action: Action) -> bool {
    action.granted() & principal.bit() != 0
}

/// The whole table as text: one line per action, one column per principal.
pub fn matrix() -> String {
    let mut text = format!("{:<24}", "action");
    for principal in Principal::ALL {
        text.push_str(&format!(" {principal:<13}"));
    }
    for action in Action::ALL {
        let row: String = Principal::ALL
            .iter()
            .map(|one| format!(" {:<13}", if allowed(*one, *action) { "yes" } else { "-" }))
            .collect();
        text.push_str(&format!("\n{:<24}{row}", action.name()));
    }
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n") + "\n"
}
