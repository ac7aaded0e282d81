//! How this device is set up: what `agent enroll` was told beside who the device is.
//!
//! `DATA/settings.json`. The device's own settings lie over its site's. Read at start; never written by
//! a running agent.

use std::path::{Path, PathBuf};

use muster_agent_core::OUTBOX_BYTES_MAX;
use muster_host::publish::{self, PublishError, ReadError};
use muster_host::quota::ByteSize;
use muster_model::period::NotAPeriod;
use muster_model::settings::{SettingRefused, Settings, Value};
use serde::{Deserialize, Serialize};

/// The file in the data folder.
pub const CONFIG_FILE: &str = "settings.json";
/// How a machine is restarted when nothing else is said.
const RESTART_COMMAND: &str = "systemctl reboot";
/// A dozen settings and a few paths.
const CONFIG_BYTES_MAX: u64 = 64 * 1024;

/// The least that an outbox is given, however small the quota: a thousand outcomes.
pub const OUTBOX_BYTES_LEAST: usize = 1024 * 1024;

/// How this device is set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The folder that programs install below.
    #[serde(default = "default_root")]
    pub root: PathBuf,
    /// The most that the data folder may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<ByteSize>,
    /// A file that says who is logged on, in place of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_source: Option<PathBuf>,
    /// How the agent restarts the machine, for sh(1); see [`Config::restart_command`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_command: Option<String>,
    /// Settings of this device over its site's.
    #[serde(default)]
    pub settings: Settings,
}

/// The set-up could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("failed to load the device's settings")]
    Read(#[from] ReadError),
    /// The file could not be written.
    #[error("failed to save the device's settings")]
    Save(#[from] PublishError),
    /// The file holds something else.
    #[error("failed to understand the device's settings in {path}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
    /// Text that is not NAME=VALUE.
    #[error("a setting is written NAME=VALUE such as pollWait=1s, not {0:?}")]
    NotASetting(String),
    /// A value that is no length of time.
    #[error("failed to read the value of setting {name}")]
    Value {
        /// The setting.
        name: String,
        /// What is wrong.
        #[source]
        source: NotAPeriod,
    },
    /// A setting that does not exist, or a value out of its range.
    #[error("failed to change a setting")]
    Refused(#[from] SettingRefused),
    /// A root that is not an absolute path.
    #[error("the root is an absolute path, not {0}")]
    Root(PathBuf),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: default_root(),
            quota: None,
            session_source: None,
            restart_command: None,
            settings: Settings::default(),
        }
    }
}

impl Config {
    /// The set-up in `data`, or the defaults.
    pub fn load(data: &Path) -> Result<Self, ConfigError> {
        let path = data.join(CONFIG_FILE);
        match publish::read_if_there(&path, CONFIG_BYTES_MAX)? {
            None => Ok(Self::default()),
            Some(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| ConfigError::Json { path, source })
            }
        }
    }

    /// Replaces the set-up in `data`; durable on return.
    pub fn save(&self, data: &Path) -> Result<(), ConfigError> {
        let path = data.join(CONFIG_FILE);
        let json = serde_json::to_vec_pretty(self)
            .map_err(|source| ConfigError::Json { path: path.clone(), source })?;
        Ok(publish::durable_publish(&path, &json)?)
    }

    /// The most unacknowledged bytes of the outbox: a quarter of the quota, which is for content too, but
    /// no less than [`OUTBOX_BYTES_LEAST`] and no more than [`OUTBOX_BYTES_MAX`].
    pub fn outbox_bytes(&self) -> usize {
        let quota = self.quota.map_or(u64::MAX, |quota| quota.0);
        let most = usize::try_from(quota / 4).unwrap_or(usize::MAX);
        most.clamp(OUTBOX_BYTES_LEAST, OUTBOX_BYTES_MAX)
    }

    /// Changes settings given as `NAME=VALUE`.
    pub fn set(&mut self, settings: &[String]) -> Result<(), ConfigError> {
        for setting in settings {
            let (name, value) = setting
                .split_once('=')
                .ok_or_else(|| ConfigError::NotASetting(setting.chars().take(80).collect()))?;
            let value = value
                .parse::<Value>()
                .map_err(|source| ConfigError::Value { name: name.to_owned(), source })?;
            self.settings.set(name, value)?;
        }
        Ok(())
    }

    /// How the agent restarts the machine: as it was told, or by default that of systemd. With a root of
    /// its own it was told about less than the machine, and leaves that to others: `None`.
    pub fn restart_command(&self) -> Option<String> {
        let by_default = || (self.root == default_root()).then(|| RESTART_COMMAND.to_owned());
        self.restart_command.clone().or_else(by_default)
    }

    /// Sets the root. It need not exist yet.
    pub fn set_root(&mut self, root: PathBuf) -> Result<(), ConfigError> {
        if !root.is_absolute() {
            return Err(ConfigError::Root(root));
        }
        self.root = root;
        Ok(())
    }
}

fn default_root() -> PathBuf {
    PathBuf::from("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_model::period::Period;
    use muster_model::settings::Setting;

    #[test]
    fn what_was_saved_is_loaded_and_nothing_saved_is_the_defaults() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(Config::load(data.path()).unwrap(), Config::default());
        let mut config = Config { quota: Some(ByteSize(1 << 20)), ..Config::default() };
        config.set(&["pollWait=1s".into(), "backoffMost=2s".into()]).unwrap();
        config.set_root("/srv/root".into()).unwrap();
        config.save(data.path()).unwrap();
        let loaded = Config::load(data.path()).unwrap();
        assert_eq!(loaded, config);
        assert_eq!(loaded.settings.get(Setting::PollWait), Period::secs(1));
    }

    #[test]
    fn only_who_has_the_whole_machine_restarts_it_unasked() {
        let mut config = Config::default();
        assert_eq!(config.restart_command().as_deref(), Some("systemctl reboot"));
        config.set_root("/srv/root".into()).unwrap();
        assert_eq!(config.restart_command(), None);
        config.restart_command = Some("echo restart".into());
        assert_eq!(config.restart_command().as_deref(), Some("echo restart"));
    }

    #[test]
    fn a_wrong_setting_is_named() {
        let refused = |text: &str| Config::default().set(&[text.to_owned()]).unwrap_err();
        assert!(matches!(refused("pollWait"), ConfigError::NotASetting(_)));
        assert!(matches!(refused("pollWait=soon"), ConfigError::Value { .. }));
        assert!(matches!(refused("pollwait=1s"), ConfigError::Refused(_)));
        assert!(matches!(refused("pollWait=2h"), ConfigError::Refused(_)));
        assert!(Config::default().set_root("here".into()).is_err());
    }

    #[test]
    fn an_outbox_takes_a_quarter_of_the_quota_within_its_limits() {
        let of = |quota| Config { quota, ..Config::default() }.outbox_bytes();
        assert_eq!(of(None), OUTBOX_BYTES_MAX);
        assert_eq!(of(Some(ByteSize(16 << 20))), 4 << 20);
        assert_eq!(of(Some(ByteSize(1 << 20))), OUTBOX_BYTES_LEAST);
        assert_eq!(of(Some(ByteSize(1 << 40))), OUTBOX_BYTES_MAX);
    }
}
