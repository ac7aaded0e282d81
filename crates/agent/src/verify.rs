//! Verification: a look at everything the agent keeps, which changes nothing (law 6).
//!
//! Stops nothing, restarts nothing, takes no lock, makes no file: whoever runs beside it, the agent or
//! a supervisor, cannot notice. The same look is taken by the agent itself, when its machine asks
//! ([`muster_agent_core::maintenance`]), and by `agent verify` in a process of its own, so it works
//! while the agent runs and while it does not. Each check says what it saw and what to do; what the
//! agent can mend is named beside, for [`crate::repair`].

mod content;
mod device;
mod files;
mod memory;
mod service;

use std::path::Path;

use muster_agent_core::maintenance::{Fault, Findings};
use muster_host::clock::{Clock, ClockError};
use muster_model::clock::Wall;
use muster_model::id::DeviceId;
use muster_model::verification::Check;
use serde::Serialize;

use crate::AgentFile;
use crate::config::{Config, ConfigError};
use crate::identity::{Enrolment, Identity, IdentityError};
use crate::journal::{self, JournalError, Looked};
use crate::status;

pub(crate) use files::{FOLDERS, own_files};

/// A verification as `agent verify` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VerifyView {
    /// Who it is; `None` if that cannot be told.
    pub device: Option<DeviceId>,
    /// When, in trusted time as far as the device knows it.
    pub at: Wall,
    /// Everything is as it should be.
    pub ok: bool,
    /// Every check, in a fixed order.
    pub checks: Vec<Check>,
}

/// The device cannot be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no such folder, or it is not an agent's.
    #[error("{0} is not the folder of an agent: `muster agent enroll` makes one")]
    NoAgent(std::path::PathBuf),
    /// There are no clocks.
    #[error("failed to read the clock")]
    Clock(#[from] ClockError),
}

/// What the checks look at, read once. What could not be read is a finding of the check that it
/// belongs to.
pub(crate) struct Look<'a> {
    data: &'a Path,
    clock: Clock,
    identity: Result<(Identity, Enrolment), IdentityError>,
    config: Result<Config, ConfigError>,
    memory: Result<Looked, JournalError>,
    agent: Option<AgentFile>,
}

/// What one check came to, and what of it can be mended.
type Seen = (Check, Vec<Fault>);

/// Looks at the agent of `data`. Blocks: every byte of fetched content is read.
pub fn verify(data: &Path) -> Result<VerifyView, VerifyError> {
    let (look, findings) = look(data)?;
    Ok(VerifyView {
        device: look.identity.as_ref().ok().map(|(_, enrolment)| enrolment.device),
        at: look.trusted(),
        ok: findings.checks.iter().all(|check| check.ok),
        checks: findings.checks,
    })
}

/// The same for the agent's own machine. A look that could not be taken is a finding.
pub(crate) fn findings(data: &Path) -> Findings {
    match look(data) {
        Ok((_, findings)) => findings,
        Err(error) => broken_off(&crate::chain_of(&error)),
    }
}

/// What is found when there was no look.
pub(crate) fn broken_off(why: &str) -> Findings {
    let check = bad("verification", why, "look again with `muster agent verify`");
    Findings { checks: vec![check], faults: Vec::new() }
}

fn look(data: &Path) -> Result<(Look<'_>, Findings), VerifyError> {
    if !data.join(crate::identity::IDENTITY_FILE).exists()
        && !data.join(journal::JOURNAL_FILE).exists()
    {
        return Err(VerifyError::NoAgent(data.to_owned()));
    }
    let look = Look {
        data,
        clock: Clock::from_env()?,
        identity: Identity::load_enrolled(data),
        config: Config::load(data),
        memory: journal::look(data),
        agent: status::agent_file(data, &mut Vec::new()),
    };
    let seen = [
        device::identity(&look),
        device::program(&look),
        service::service(&look),
        files::settings(&look),
        files::folders(&look),
        files::permissions(&look),
        memory::journal(&look),
        memory::outbox(&look),
        memory::run_folders(&look),
        content::content(&look),
        device::trust(&look),
        device::certificate(&look),
        device::clock(&look),
        device::disk(&look),
    ];
    let mut findings = Findings::default();
    for (check, faults) in seen {
        findings.checks.push(check);
        findings.faults.extend(faults);
    }
    Ok((look, findings))
}

impl Look<'_> {
    /// Trusted time, as far as the device knows it.
    fn trusted(&self) -> Wall {
        let now = self.clock.now();
        let memory = self.memory.as_ref().ok().and_then(|memory| memory.saved.memory.as_ref());
        let Some(memory) = memory else { return now.wall };
        let mut time = memory.time;
        if memory.boot != *self.clock.boot_id() {
            time.rebooted(memory.last_known, now);
        }
        time.at(now)
    }

    /// Whether an agent has ever run here: before that some things are not there yet.
    fn has_run(&self) -> bool {
        self.memory.as_ref().is_ok_and(|memory| memory.saved.memory.is_some())
    }

    /// Whether the journal still says what made a thing suspect: between two looks a running agent may
    /// have moved on. The journal always moves before the files do.
    fn still(&self, says: impl Fn(&Looked) -> bool) -> bool {
        self.agent.is_none() || journal::look(self.data).is_ok_and(|looked| says(&looked))
    }
}

fn good(name: &str, detail: impl Into<String>) -> Check {
    Check { name: name.to_owned(), ok: true, detail: detail.into(), remedy: String::new() }
}

fn bad(name: &str, detail: impl Into<String>, remedy: &str) -> Check {
    let remedy = remedy.to_owned();
    Check { name: name.to_owned(), ok: false, detail: detail.into(), remedy }
}

/// The first few of many, and how many more there are.
fn few(all: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match all.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{shown} and {more} more"),
        _ => shown,
    }
}

#[cfg(test)]
mod tests;
