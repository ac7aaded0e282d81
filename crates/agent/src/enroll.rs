//! `agent enroll` and `agent leave`: how a device comes to an identity, and gives it up.
//!
//! Enrolment is idempotent: the key is durable before it is shown, so asking again after any crash or
//! lost answer makes the same device. Called by the command line; a running agent is never touched.

use std::io;
use std::path::{Path, PathBuf};

use muster_host::clock::Clock;
use muster_host::failpoint::Role;
use muster_host::lock::{FolderLock, LockError};
use muster_host::publish::{self, PublishError};
use muster_host::quota::ByteSize;
use muster_host::role::{self, RoleError};
use muster_model::id::DeviceId;
use muster_model::name::{Name, NotAName};
use muster_model::token::Token;
use muster_model::wire::device::EnrollAnswer;
use serde::Serialize;

use crate::config::{Config, ConfigError};
use crate::facts;
use crate::identity::{Der, Enrolment, Identity, IdentityError};
use crate::machine;
use crate::memory::{self, MemoryError};
use crate::transport::{TransportError, ask_for_identity};
use crate::trust_store::{TrustError, TrustStore};

/// What `agent enroll` is told.
#[derive(Clone, Debug)]
pub struct EnrollOptions {
    /// The agent's folder; made if it is missing.
    pub data: PathBuf,
    /// The URL of the site or of any of its access points.
    pub site: String,
    /// What lets the device in.
    pub token: Token,
    /// The device's name; the machine's if none is given.
    pub name: Option<Name>,
    /// The folder that programs install below; `None` leaves it as it is, `/` at first.
    pub root: Option<PathBuf>,
    /// The most that the folder may take.
    pub quota: Option<ByteSize>,
    /// A file that says who is logged on.
    pub session_source: Option<PathBuf>,
    /// How the agent restarts the machine.
    pub restart_command: Option<String>,
    /// The device's own settings, each `NAME=VALUE`.
    pub settings: Vec<String>,
}

/// The outcome of an enrolment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrolled {
    /// The device's id.
    pub device: DeviceId,
    /// Its name.
    pub name: Name,
    /// The site's code.
    pub site: String,
    /// It waits for `muster device approve`.
    pub held: bool,
    /// It was enrolled before; nothing was asked of the site.
    pub already: bool,
}

/// The outcome of a leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Left {
    /// The id that was given up; `None` if there was none.
    pub device: Option<DeviceId>,
}

/// A device could not be enrolled, or not leave.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The role could not begin.
    #[error("failed to begin")]
    Role(#[from] RoleError),
    /// The folder could not be made.
    #[error("failed to lay out the agent's folder")]
    Folder(#[from] PublishError),
    /// An agent runs on the folder.
    #[error("failed to use the agent's folder")]
    Lock(#[from] LockError),
    /// The machine's name is none that a device may bear.
    #[error("failed to take the machine's name {name:?} for the device; give one with --name")]
    Name {
        /// The machine's name.
        name: String,
        /// What is wrong with it.
        #[source]
        source: NotAName,
    },
    /// The device belongs to another site.
    #[error("this device is enrolled at {site}; `muster agent leave` gives that identity up")]
    Elsewhere {
        /// The URL it was enrolled with.
        site: String,
    },
    /// The settings.
    #[error("failed to set the device up")]
    Config(#[from] ConfigError),
    /// The identity.
    #[error("failed to keep the identity")]
    Identity(#[from] IdentityError),
    /// The memory.
    #[error("failed to lay out the device's memory")]
    Memory(#[from] MemoryError),
    /// The trust.
    #[error("failed to begin to trust")]
    Trust(#[from] TrustError),
    /// The site.
    #[error("failed to enrol at the site")]
    Transport(#[from] TransportError),
    /// A certificate in the answer is not base64.
    #[error("failed to read a certificate of the site's answer")]
    Certificate(#[from] base64::DecodeError),
    /// A program of this device still runs.
    #[error("failed to leave: run {0} still goes on; stop its advertisement, or wait")]
    Running(String),
    /// Something of the identity could not be removed.
    #[error("failed to remove {path}")]
    Remove {
        /// What is still there.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A path that cannot be made absolute.
    #[error("failed to use the path {path}")]
    Path {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No runtime could be made.
    #[error("failed to start the runtime")]
    Runtime(#[source] io::Error),
}

/// Enrols the device. Durable on return; may be repeated. Blocks, and must not be called from within
/// an asynchronous runtime.
pub fn enroll(options: EnrollOptions) -> Result<Enrolled, EnrollError> {
    let clock = role::begin(Role::Agent)?;
    publish::create_private_dir(&options.data)?;
    let _lock = FolderLock::take(&options.data, "agent enroll")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(EnrollError::Runtime)?;
    runtime.block_on(enroll_locked(&options, &clock))
}

/// The same by whoever holds the folder's lock. What was durable when a try failed is what the next one
/// goes on with.
pub(crate) async fn enroll_locked(
    options: &EnrollOptions,
    clock: &Clock,
) -> Result<Enrolled, EnrollError> {
    let mut config = Config::load(&options.data)?;
    options.change(&mut config)?;
    config.save(&options.data)?;
    let mut identity = options.identity()?;
    if let Some(enrolment) = &identity.enrolment {
        memory::begin(&options.data, &identity)?;
        return Ok(enrolled(&identity, enrolment, true));
    }
    // The key is durable before anybody sees its public half.
    identity.save(&options.data)?;
    let facts = facts::gather(&options.data, &identity.name, &config);
    let claim = options.token.claim();
    let answer = ask_for_identity(&identity, claim, facts, machine::digest(), clock.wall()).await?;
    let trust = TrustStore::begin(&options.data, identity.trust_pin)?;
    take_trust(&trust, &answer);
    identity.enrolment = Some(enrolment(&answer)?);
    // The journal comes first: an identity without one means that a memory was lost.
    memory::begin(&options.data, &identity)?;
    identity.save(&options.data)?;
    let enrolment = identity.enrolment.as_ref().ok_or(IdentityError::NotEnrolled)?;
    Ok(enrolled(&identity, enrolment, false))
}

/// Gives the identity up. What the device still had to say is set aside with its journal; its settings
/// stay. Refuses while a program runs. The site is not told: an administrator retires the device.
pub fn leave(data: &Path) -> Result<Left, EnrollError> {
    role::begin(Role::Agent)?;
    if !data.exists() {
        return Ok(Left { device: None });
    }
    let _lock = FolderLock::take(data, "agent leave")?;
    let identity = Identity::load(data)?;
    if let Some(run) = crate::run_folder::first_alive(&data.join(crate::RUNS_DIR)) {
        return Err(EnrollError::Running(run));
    }
    let aside = crate::journal::free_name(data).map_err(MemoryError::Journal)?;
    crate::journal::set_aside(data, &aside).map_err(MemoryError::Journal)?;
    publish::durable_remove(&data.join(crate::identity::IDENTITY_FILE))?;
    for folder in [crate::trust_store::TRUST_DIR, crate::contents::CONTENT_DIR, crate::RUNS_DIR] {
        let path = data.join(folder);
        crate::contents::remove_copy(&path)
            .map_err(|source| EnrollError::Remove { path, source })?;
    }
    let device = identity.and_then(|identity| Some(identity.enrolment?.device));
    Ok(Left { device })
}

impl EnrollOptions {
    fn change(&self, config: &mut Config) -> Result<(), EnrollError> {
        if let Some(root) = self.root.clone() {
            config.set_root(root)?;
        }
        config.set(&self.settings)?;
        config.quota = self.quota.or(config.quota);
        let source = self.session_source.as_ref().map(|file| absolute(file)).transpose()?;
        config.session_source = source.or(config.session_source.take());
        config.restart_command = self.restart_command.clone().or(config.restart_command.take());
        Ok(())
    }

    /// The identity that is there, or a new key. A key that waits for an answer goes on with the pins of
    /// the newest token.
    fn identity(&self) -> Result<Identity, EnrollError> {
        let Some(mut identity) = Identity::load(&self.data)? else {
            let (site, pins) = (self.site.clone(), &self.token);
            return Ok(Identity::draw(self.device_name()?, site, pins.ca, pins.trust)?);
        };
        if identity.enrolment.is_some() {
            // Another way to the same site is fine; another site is not.
            if identity.ca_pin != self.token.ca {
                return Err(EnrollError::Elsewhere { site: identity.site_url });
            }
            return Ok(identity);
        }
        identity.site_url = self.site.clone();
        (identity.ca_pin, identity.trust_pin) = (self.token.ca, self.token.trust);
        if self.name.is_some() {
            identity.name = self.device_name()?;
        }
        Ok(identity)
    }

    fn device_name(&self) -> Result<Name, EnrollError> {
        match &self.name {
            Some(name) => Ok(name.clone()),
            None => {
                let name = facts::host_name();
                Name::new(name.clone()).map_err(|source| EnrollError::Name { name, source })
            }
        }
    }
}

/// A path that means the same whatever folder the agent is started in.
fn absolute(path: &Path) -> Result<PathBuf, EnrollError> {
    std::path::absolute(path).map_err(|source| EnrollError::Path { path: path.to_owned(), source })
}

/// What the answer makes of a key. Its signature and its CA were checked.
fn enrolment(answer: &EnrollAnswer) -> Result<Enrolment, EnrollError> {
    Ok(Enrolment {
        device: answer.device,
        certificate: Der::from_base64(&answer.certificate)?,
        ca: Der::from_base64(&answer.ca)?,
        signing_certificate: Der::from_base64(&answer.signing_certificate)?,
        site: answer.site.clone(),
        epoch: answer.epoch,
        incarnation: answer.incarnation,
        next_incarnation: Some(answer.next_incarnation),
        generation: 0,
        lost: None,
        held: answer.held,
    })
}

/// Takes the trust document of the answer if it is the next one. If it is a later one, the agent fetches
/// those in between with its first poll.
fn take_trust(trust: &TrustStore, answer: &EnrollAnswer) {
    let offered = answer.trust.clone().and_then(|value| serde_json::from_value(value).ok());
    if let Some(Err(error)) = offered.map(|offered| trust.accept_if_next(&offered)) {
        tracing::warn!(why = %crate::chain_of(&error), "the trust document of the answer waits");
    }
}

fn enrolled(identity: &Identity, enrolment: &Enrolment, already: bool) -> Enrolled {
    Enrolled {
        device: enrolment.device,
        name: identity.name.clone(),
        site: enrolment.site.clone(),
        held: enrolment.held,
        already,
    }
}
