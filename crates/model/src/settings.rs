//! Settings: every interval and limit that can be changed, with its default and range.
//!
//! One table; the documentation of `muster describe settings`, the check of a change, and the value
//! that a device or site acts on all come from it.
//!
//! Most settings are lengths of time. Some may be `off`, some are nothing but `on` or `off`; documents
//! carry these as lengths too ([`OFF`], [`ON`]), because release 0.1 reads nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::period::{NotAPeriod, Period};

macro_rules! settings {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $default:expr, $most:expr, $text:literal;)*) => {
        /// A setting. A length of time is one second at least (DESIGN: "down to 1 s").
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Setting { $(#[doc = $text] $variant,)* }

        impl Setting {
            /// Every setting.
            pub const ALL: &[Setting] = &[$(Setting::$variant),*];

            /// The name in manifests and on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Setting::$variant => $name,)* }
            }
            /// What holds when nothing is said.
            pub fn default(self) -> Period {
                match self { $(Setting::$variant => $default,)* }
            }
            /// The largest value.
            pub fn most(self) -> Period {
                match self { $(Setting::$variant => $most,)* }
            }
            /// What it is, for people.
            pub fn text(self) -> &'static str {
                match self { $(Setting::$variant => $text,)* }
            }
        }
    };
}

settings! {
    PollWait = "pollWait", Period::hours(1), Period::hours(1),
        "how long the site holds a device's policy poll open when there is nothing new; the connection is never silent for more than 50 s meanwhile";
    BackoffMost = "backoffMost", Period::minutes(15), Period::minutes(15),
        "the longest wait between two tries to reach the site; the first is 1 s, and none is longer than half the outage so far";
    ProgressEvery = "progressEvery", Period::secs(10), Period::hours(1),
        "how often a device reports the progress of a download";
    ContentRetryMost = "contentRetryMost", Period::minutes(15), Period::hours(4),
        "the longest wait between two tries to fetch content";
    ConditionEvery = "conditionEvery", Period::secs(30), Period::hours(1),
        "how often a device looks again at a condition it waits for (disk, package manager)";
    TicketLife = "ticketLife", Period::hours(1), Period::days(1),
        "how long a device's session ticket is good for";
    CertificateLife = "certificateLife", Period::days(30), Period::days(730),
        "how long a device's certificate is good for; it is renewed after two thirds";
    SilentAfter = "silentAfter", Period::days(1), Period::days(365),
        "a device not heard of for longer carries the mark `silent`";
    OverdueAfter = "overdueAfter", Period::days(30), Period::days(3650),
        "an unfinished obligation without expiry carries the mark `overdue` after this";
    LateAfter = "lateAfter", Period::minutes(1), Period::days(1),
        "an occurrence that a device first sees due this long after its time is late: see `late` of its advertisement";
    KeepRelieved = "keepRelieved", Period::days(35), Period::days(3650),
        "how long a device keeps messages that its site has acknowledged, in case the site is restored from a backup";
    RestartWait = "restartWait", Period::minutes(5), Period::days(1),
        "how long a restart that was begun may take: then the restart command is tried again, and a program that restarts the machine itself is judged without a restart";
    TermGrace = "termGrace", Period::secs(10), Period::hours(1),
        "how long a program has between TERM and KILL";
    VerifyEvery = "verifyEvery", Period::days(30), Period::days(3650),
        "how often a device verifies its agent; it only reads, and `off` leaves it to people";
    BootGrace = "bootGrace", OFF, Period::hours(1),
        "how long after the machine's start nothing mandatory is started; `off` waits for nothing";
    UpgradeWait = "upgradeWait", Period::days(1), Period::days(1),
        "how long the agent's own upgrade waits for runs and restarts; then it goes on beside them, which hurts none";
    UpgradeTrial = "upgradeTrial", Period::minutes(2), Period::hours(1),
        "how long a new version of the agent has to reach the site while the site can be reached; then the version before returns";
    SoftwareDistribution = "softwareDistribution", ON, ON,
        "whether devices fetch and run what is advertised; `off` lets what runs end and starts nothing";
}

/// The least length of time that a setting can be.
pub const SETTING_LEAST: Period = Period::secs(1);
/// How documents carry `off`.
const OFF: Period = Period::secs(0);
/// How documents carry `on`.
const ON: Period = SETTING_LEAST;

/// What a setting can be set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A length of time.
    Length,
    /// A length of time, or `off`.
    LengthOrOff,
    /// `on` or `off`.
    Switch,
}

/// What a setting is set to, as people write it: `10m`, `on`, `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A length of time.
    Length(Period),
    /// On.
    On,
    /// Off.
    Off,
}

impl From<Period> for Value {
    fn from(length: Period) -> Self {
        Value::Length(length)
    }
}

impl FromStr for Value {
    type Err = NotAPeriod;
    fn from_str(text: &str) -> Result<Self, NotAPeriod> {
        match text.trim() {
            "on" => Ok(Value::On),
            "off" => Ok(Value::Off),
            length => length.parse().map(Value::Length),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Length(length) => length.fmt(f),
            Value::On => f.write_str("on"),
            Value::Off => f.write_str("off"),
        }
    }
}

crate::text_serde!(Value);

impl Setting {
    fn kind(self) -> Kind {
        match self {
            Setting::VerifyEvery | Setting::BootGrace => Kind::LengthOrOff,
            Setting::SoftwareDistribution => Kind::Switch,
            _ => Kind::Length,
        }
    }

    /// Whether it is on or off, and no length of time.
    pub fn is_switch(self) -> bool {
        self.kind() == Kind::Switch
    }

    /// What people may set it to.
    pub fn range(self) -> String {
        match self.kind() {
            Kind::Length => format!("{SETTING_LEAST} to {}", self.most()),
            Kind::LengthOrOff => format!("{SETTING_LEAST} to {}, or off", self.most()),
            Kind::Switch => "on or off".to_owned(),
        }
    }

    /// A length that a document carries, as people write it.
    fn read(self, carried: Period) -> Value {
        match (self.kind(), carried) {
            (Kind::LengthOrOff | Kind::Switch, OFF) => Value::Off,
            (Kind::Switch, _) => Value::On,
            (_, length) => Value::Length(length),
        }
    }
}

/// Settings that differ from their defaults, by name. A name that this version does not know is kept
/// and passed on: a newer site may talk to an older agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings(BTreeMap<String, Period>);

/// All defaults: what holds before a site has said anything.
pub static DEFAULTS: Settings = Settings(BTreeMap::new());

/// Why a change of settings is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingRefused {
    /// No such name.
    #[error("no setting is called `{0}`; `muster describe settings` lists them")]
    Unknown(String),
    /// Outside its range.
    #[error("{name} is {value}; allowed is {range}")]
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// What was asked for.
        value: Value,
        /// What may be asked for ([`Setting::range`]).
        range: String,
    },
}

impl Settings {
    /// The length of time that holds. Of a setting that may be off: [`Settings::interval`].
    pub fn get(&self, setting: Setting) -> Period {
        self.0.get(setting.name()).copied().unwrap_or(setting.default())
    }

    /// The length of time that holds; `None` if it is off.
    pub fn interval(&self, setting: Setting) -> Option<Period> {
        (self.value(setting) != Value::Off).then(|| self.get(setting))
    }

    /// Whether a setting is on: anything but off.
    pub fn is_on(&self, setting: Setting) -> bool {
        self.value(setting) != Value::Off
    }

    /// The value that holds, as people write it.
    pub fn value(&self, setting: Setting) -> Value {
        setting.read(self.get(setting))
    }

    /// Changes one.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) -> Result<(), SettingRefused> {
        let value = value.into();
        let setting = Setting::ALL
            .iter()
            .find(|setting| setting.name() == name)
            .ok_or_else(|| SettingRefused::Unknown(name.to_owned()))?;
        let carried = match (setting.kind(), value) {
            (Kind::LengthOrOff | Kind::Switch, Value::Off) => Some(OFF),
            (Kind::Switch, Value::On) => Some(ON),
            (Kind::Length | Kind::LengthOrOff, Value::Length(length)) => {
                (SETTING_LEAST..=setting.most()).contains(&length).then_some(length)
            }
            _ => None,
        };
        let (name, range) = (setting.name(), setting.range());
        let carried = carried.ok_or(SettingRefused::OutOfRange { name, value, range })?;
        self.0.insert(name.to_owned(), carried);
        Ok(())
    }

    /// Those that differ from their defaults.
    pub fn changed(&self) -> impl Iterator<Item = (&str, Period)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// These, with what `over` says on top: a device's own settings over its site's.
    pub fn overlaid(&self, over: &Settings) -> Settings {
        let mut merged = self.clone();
        merged.0.extend(over.0.clone());
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_lies_in_its_range() {
        for setting in Setting::ALL {
            let default = setting.read(setting.default());
            assert_eq!(Settings::default().set(setting.name(), default), Ok(()));
        }
    }

    #[test]
    fn a_change_out_of_range_names_setting_and_limit() {
        let mut settings = Settings::default();
        let error = settings.set("pollWait", Period::hours(2)).unwrap_err().to_string();
        assert!(error.contains("pollWait") && error.contains("1h"), "{error}");
        assert!(settings.set("pollwait", Period::secs(1)).is_err());
        settings.set("pollWait", Period::secs(1)).unwrap();
        assert_eq!(settings.get(Setting::PollWait), Period::secs(1));
    }

    #[test]
    fn off_is_for_settings_that_say_so_and_a_switch_has_no_length() {
        let mut settings = Settings::default();
        let refused = |settings: &mut Settings, name, text: &str| {
            settings.set(name, text.parse::<Value>().unwrap()).unwrap_err().to_string()
        };
        let said = refused(&mut settings, "pollWait", "off");
        assert_eq!(said, "pollWait is off; allowed is 1s to 1h");
        let said = refused(&mut settings, "verifyEvery", "0s");
        assert_eq!(said, "verifyEvery is 0s; allowed is 1s to 3650d, or off");
        let said = refused(&mut settings, "softwareDistribution", "1s");
        assert_eq!(said, "softwareDistribution is 1s; allowed is on or off");
        settings.set("verifyEvery", Value::Off).unwrap();
        settings.set("softwareDistribution", Value::Off).unwrap();
        assert_eq!(settings.interval(Setting::VerifyEvery), None);
        assert!(!settings.is_on(Setting::SoftwareDistribution));
        // What release 0.1 reads, and what a device that says `on` lays over its site's `off`.
        let carried = serde_json::to_string(&settings).unwrap();
        assert_eq!(carried, r#"{"softwareDistribution":"0s","verifyEvery":"0s"}"#);
        let mut own = Settings::default();
        own.set("softwareDistribution", Value::On).unwrap();
        assert!(settings.overlaid(&own).is_on(Setting::SoftwareDistribution));
    }

    #[test]
    fn values_are_shown_as_people_write_them() {
        let settings = Settings::default();
        assert_eq!(settings.value(Setting::SoftwareDistribution).to_string(), "on");
        assert_eq!(settings.value(Setting::VerifyEvery).to_string(), "30d");
        assert_eq!(settings.interval(Setting::VerifyEvery), Some(Period::days(30)));
    }
}
