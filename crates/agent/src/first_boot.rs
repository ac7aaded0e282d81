//! The first boot of a copy of a golden image: the agent finds no identity, but how to come to one.
//!
//! `DATA/first-boot.json`, mode 0600, names a site and holds a token that lets in as many devices as the
//! image has copies. `agent generalize` writes it, and so may whatever sets a machine up. It is removed,
//! and with it the token, once the device is enrolled. Until then the device does nothing else.

use std::path::Path;
use std::time::Duration;

use muster_host::clock::Clock;
use muster_host::publish::{self, PublishError, ReadError};
use muster_model::token::{NotAToken, Token};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::enroll::{EnrollError, EnrollOptions, enroll_locked};
use crate::identity::{Identity, IdentityError};

/// The file in the data folder.
pub(crate) const FIRST_BOOT_FILE: &str = "first-boot.json";
/// A URL and a token.
const FIRST_BOOT_BYTES_MAX: u64 = 16 * 1024;
/// The waits between tries: the network may come up late, and a token that was refused may be made
/// good again at the site.
const AGAIN_LEAST: Duration = Duration::from_secs(1);
const AGAIN_MOST: Duration = Duration::from_secs(15 * 60);

/// How a device comes to an identity by itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FirstBoot {
    /// The URL of the site or of any of its access points.
    pub site: String,
    /// The token as text.
    token: String,
}

/// The device could not be enrolled at its first boot, and another try would not help.
#[derive(Debug, thiserror::Error)]
pub enum FirstBootError {
    /// The file could not be read, or others can read it.
    #[error("failed to load how to enrol at the first boot")]
    Read(#[from] ReadError),
    /// The file holds something else.
    #[error("failed to understand {FIRST_BOOT_FILE}; write it anew, or use `muster agent enroll`")]
    Json(#[source] serde_json::Error),
    /// The token in it is none.
    #[error("failed to understand {FIRST_BOOT_FILE}")]
    Token(#[from] NotAToken),
    /// The identity.
    #[error("failed to look for an identity")]
    Identity(#[from] IdentityError),
    /// The file could not be written or removed.
    #[error("failed to change how to enrol at the first boot")]
    Publish(#[from] PublishError),
    /// The enrolment.
    #[error("failed to enrol at the first boot")]
    Enroll(#[source] Box<EnrollError>),
}

impl FirstBoot {
    /// Enrol at `site` with `token`.
    pub fn new(site: String, token: &Token) -> Self {
        Self { site, token: token.to_string() }
    }

    /// Replaces the file in `data`; durable on return.
    pub fn save(&self, data: &Path) -> Result<(), FirstBootError> {
        let json = serde_json::to_vec_pretty(self).map_err(FirstBootError::Json)?;
        Ok(publish::durable_publish(&data.join(FIRST_BOOT_FILE), &json)?)
    }

    fn load(data: &Path) -> Result<Option<(Self, Token)>, FirstBootError> {
        let path = data.join(FIRST_BOOT_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = publish::read_private(&path, FIRST_BOOT_BYTES_MAX)?;
        let found: Self = serde_json::from_slice(&bytes).map_err(FirstBootError::Json)?;
        let token = found.token.parse()?;
        Ok(Some((found, token)))
    }
}

/// Enrols the device of `data` if it has no identity and was told how to come to one; tries until it
/// works. Answers whether the agent goes on: not if it was stopped meanwhile. The caller holds the
/// folder's lock.
pub(crate) async fn enrol(
    data: &Path,
    clock: &Clock,
    stop: &CancellationToken,
) -> Result<bool, FirstBootError> {
    if Identity::load(data)?.is_some_and(|identity| identity.enrolment.is_some()) {
        // The token has done its work, or is none of this device's business.
        publish::durable_remove(&data.join(FIRST_BOOT_FILE))?;
        return Ok(true);
    }
    let Some((told, token)) = FirstBoot::load(data)? else { return Ok(true) };
    let options = EnrollOptions {
        data: data.to_owned(),
        site: told.site.clone(),
        token,
        name: None,
        root: None,
        quota: None,
        session_source: None,
        restart_command: None,
        settings: Vec::new(),
    };
    let mut wait = AGAIN_LEAST;
    loop {
        match enroll_locked(&options, clock).await {
            Ok(enrolled) => {
                tracing::info!(device = %enrolled.device, site = %enrolled.site, "enrolled");
                publish::durable_remove(&data.join(FIRST_BOOT_FILE))?;
                return Ok(true);
            }
            Err(EnrollError::Transport(error)) if !error.is_fatal() => {
                let why = crate::chain_of(&error);
                tracing::warn!(%why, site = %told.site, again = ?wait, "waiting(enrolment)");
            }
            Err(error) => return Err(FirstBootError::Enroll(Box::new(error))),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(false),
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(AGAIN_MOST);
    }
}
