//! Settings: every interval and limit that can be changed, with its default and range.
//!
//! One table; the documentation of `muster describe settings`, the check of a change, and the value
//! that a device or site acts on all come from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::period::Period;

macro_rules! settings {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $default:expr, $most:expr, $text:literal;)*) => {
        /// A setting. Each is a length of time from one second (DESIGN: "down to 1 s") up.
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
    PollWait = "pollWait", Period::secs(55), Period::minutes(15),
        "how long the site holds a device's policy poll open when there is nothing new";
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
}

/// The least value of any setting.
pub const SETTING_LEAST: Period = Period::secs(1);

/// Settings that differ from their defaults, by name. A name that this version does not know is kept
/// and passed on: a newer site may talk to an older agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings(BTreeMap<String, Period>);

/// Why a change of settings is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingRefused {
    /// No such name.
    #[error("no setting is called `{0}`; `muster describe settings` lists them")]
    Unknown(String),
    /// Outside its range.
    #[error("{name} is {value}; allowed are {SETTING_LEAST} to {most}")]
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// What was asked for.
        value: Period,
        /// Its largest value.
        most: Period,
    },
}

impl Settings {
    /// The value that holds.
    pub fn get(&self, setting: Setting) -> Period {
        self.0.get(setting.name()).copied().unwrap_or(setting.default())
    }

    /// Changes one.
    pub fn set(&mut self, name: &str, value: Period) -> Result<(), SettingRefused> {
        let setting = Setting::ALL
            .iter()
            .find(|setting| setting.name() == name)
            .ok_or_else(|| SettingRefused::Unknown(name.to_owned()))?;
        if !(SETTING_LEAST..=setting.most()).contains(&value) {
            let (name, most) = (setting.name(), setting.most());
            return Err(SettingRefused::OutOfRange { name, value, most });
        }
        self.0.insert(name.to_owned(), value);
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
            let range = SETTING_LEAST..=setting.most();
            assert!(range.contains(&setting.default()), "{}", setting.name());
        }
    }

    #[test]
    fn a_change_out_of_range_names_setting_and_limit() {
        let mut settings = Settings::default();
        let error = settings.set("pollWait", Period::hours(1)).unwrap_err().to_string();
        assert!(error.contains("pollWait") && error.contains("15m"), "{error}");
        assert!(settings.set("pollwait", Period::secs(1)).is_err());
        settings.set("pollWait", Period::secs(1)).unwrap();
        assert_eq!(settings.get(Setting::PollWait), Period::secs(1));
    }
}
