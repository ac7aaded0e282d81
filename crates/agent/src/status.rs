//! The device's own view, for people and scripts on the device: also without its site, and also while
//! its agent does not run.
//!
//! Read from what the agent keeps: the journal (one snapshot, beside an agent that may be writing), the
//! identity, the trust, the components. Called by `agent status`, `agent software` and `agent log`;
//! changes nothing. What cannot be read is told as trouble, as far as the rest can still be shown.

use std::path::Path;
use std::time::Duration;

use jiff::tz::TimeZone;
use muster_agent_core::maintenance::MaintenanceView;
use muster_agent_core::saved::{Kept, Saved};
use muster_agent_core::user::{Promise, Request, RequestRefused};
use muster_agent_core::view::{ObligationView, OutboxView, PolicyView, View};
use muster_agent_core::window::WindowsView;
use muster_agent_core::{Agent, Identity as Whose};
use muster_host::clock::{Clock, ClockError};
use muster_host::pki::peer_identity;
use muster_host::publish::ReadError;
use muster_host::run_file::read_run_file;
use muster_model::clock::{Now, Wall};
use muster_model::component::Component;
use muster_model::id::{AdvertisementId, DeviceId, EpochId, Incarnation, Sequence};
use muster_model::message::{Body, Message, Occurrence, RunId, Severity};
use muster_model::name::Name;
use muster_model::period::Period;
use serde::Serialize;

use crate::config::Config;
use crate::driver::Isolation;
use crate::identity::{Enrolment, Identity, IdentityError};
use crate::journal::{Journal, JournalError};
use crate::program::{ProgramFile, file_of};
use crate::sessions::Sessions;
use crate::shown::RUN_FILE;
use crate::trust_store::TrustStore;
use crate::versions::{self, VersionView};
use crate::{AgentFile, chain_of, components, outputs};

/// One row of `agent software`: what is advertised to this device, and where it stands.
pub type SoftwareRow = ObligationView;

/// By how much the wall clock may differ from trusted time without being called wrong: less than
/// anything but a log's reader notices.
const CLOCK_OFF_LEAST: Duration = Duration::from_secs(5 * 60);

/// The device's view cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The device has no identity, or it cannot be read.
    #[error("failed to tell who this device is")]
    Identity(#[from] IdentityError),
    /// There are no clocks.
    #[error("failed to read the clock")]
    Clock(#[from] ClockError),
    /// The journal cannot be read.
    #[error("failed to read what the agent keeps")]
    Journal(#[from] JournalError),
    /// What a program printed cannot be read.
    #[error("failed to read what was printed")]
    Output(#[from] ReadError),
    /// Nothing of that name is advertised to the device.
    #[error("no advertisement `{0}` is known here; `agent software` lists them")]
    Unknown(String),
}

/// What `agent status` shows.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// Who it is.
    pub device: DeviceId,
    /// Its name.
    pub name: Name,
    /// The code of its site.
    pub site: String,
    /// The site's epoch when it last answered.
    pub epoch: EpochId,
    /// Which life of its memory.
    pub incarnation: Incarnation,
    /// The URL it was enrolled with.
    pub url: String,
    /// The agent's process; `None` if it does not run.
    pub running: Option<u32>,
    /// The policy acted on.
    pub policy: Option<PolicyView>,
    /// When the site was last heard, in trusted time.
    pub last_heard: Option<Wall>,
    /// Trusted time.
    pub trusted_time: Wall,
    /// Whom it trusts.
    pub trust: TrustView,
    /// How runs are kept apart.
    pub isolation: &'static str,
    /// Who is logged on.
    pub users: Vec<String>,
    /// How the agent restarts the machine; `None` if it leaves that to others.
    pub restart_command: Option<String>,
    /// What its windows and freezes say; absent without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<WindowsView>,
    /// Messages that wait for the site.
    pub outbox: OutboxView,
    /// Its certificate; `None` if it cannot be read.
    pub certificate: Option<CertificateView>,
    /// Which version of the agent runs.
    pub agent: VersionView,
    /// Where each part of the agent stands.
    pub components: Vec<Component>,
    /// When the agent looked at itself, and what it mends.
    pub maintenance: MaintenanceView,
    /// The memory was lost and the site's account has not come yet.
    pub awaits_account: bool,
    /// What is wrong, for people.
    pub trouble: Vec<String>,
    /// All obligations, in the order of their advertisements.
    pub obligations: Vec<ObligationView>,
}

/// Whom the device trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TrustView {
    /// The number of the trust document that is held; 0 is none.
    pub number: u64,
    /// The chain began at a digest that came with the token.
    pub pinned: bool,
}

/// The certificate that the device shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateView {
    /// The last instant of its life.
    pub not_after: Wall,
}

/// One message of the device.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogRow {
    /// Its place in the stream.
    pub sequence: Sequence,
    /// When it was written, in trusted time.
    pub at: Wall,
    /// How much it matters.
    pub severity: Severity,
    /// The number of what it says.
    pub code: u16,
    /// The component that speaks.
    pub component: String,
    /// The advertisement that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertisement: Option<AdvertisementId>,
    /// The sentence.
    pub text: String,
    /// The site has acknowledged it.
    pub acknowledged: bool,
}

/// What `agent status` shows. Works beside a running agent and without one; blocks.
pub fn status(data: &Path) -> Result<StatusView, StatusError> {
    let (identity, enrolment) = Identity::load_enrolled(data)?;
    let mut trouble = Vec::new();
    // A journal that is lost or damaged is what one looks at the status for.
    let saved = read_journal(data).unwrap_or_else(|error| {
        trouble.push(chain_of(&error));
        Saved::default()
    });
    let clock = Clock::from_env()?;
    trouble.extend(wrong_clock(&saved, &clock));
    let agent = agent_file(data, &mut trouble);
    let view = seen_view(data, agent.as_ref(), &enrolment, saved, &mut trouble)?;
    let config = Config::load(data).unwrap_or_else(|error| {
        trouble.push(chain_of(&error));
        Config::default()
    });
    let source = agent.as_ref().map_or(&config.session_source, |agent| &agent.session_source);
    Ok(StatusView {
        device: enrolment.device,
        name: identity.name,
        site: enrolment.site.clone(),
        epoch: enrolment.epoch,
        incarnation: enrolment.incarnation,
        url: identity.site_url,
        users: Sessions::of(source.clone()).users(),
        restart_command: config.restart_command(),
        agent: versions::view(data, agent.as_ref()),
        running: agent.map(|agent| agent.pid),
        policy: view.policy,
        last_heard: view.last_heard,
        trusted_time: view.trusted_time,
        trust: trust(data, &mut trouble),
        isolation: Isolation::of_this_machine().word(),
        windows: view.windows,
        outbox: view.outbox,
        certificate: certificate(&enrolment, &mut trouble),
        components: view.components,
        maintenance: view.maintenance,
        awaits_account: view.awaits_account,
        trouble,
        obligations: view.obligations,
    })
}

/// What is advertised to this device, and where it stands. Works beside a running agent and without
/// one; blocks.
pub fn software(data: &Path) -> Result<Vec<SoftwareRow>, StatusError> {
    let (_, enrolment) = Identity::load_enrolled(data)?;
    Ok(view_of(&enrolment, read_journal(data)?)?.obligations)
}

/// What would become of a request of a user now, and what the machine is when it is asked. Works beside
/// a running agent and without one; changes nothing; blocks.
pub fn weigh(
    data: &Path,
    request: &Request,
) -> Result<Result<Promise, RequestRefused>, StatusError> {
    let (_, enrolment) = Identity::load_enrolled(data)?;
    let (agent, now) = machine_of(&enrolment, read_journal(data)?)?;
    Ok(agent.weigh(now, request))
}

/// Trusted time on this device.
pub fn trusted_time(data: &Path) -> Result<Wall, StatusError> {
    let (_, enrolment) = Identity::load_enrolled(data)?;
    Ok(view_of(&enrolment, read_journal(data)?)?.trusted_time)
}

/// Whether an agent runs on `data`.
pub fn is_running(data: &Path) -> bool {
    agent_file(data, &mut Vec::new()).is_some()
}

/// The device's own messages that it still keeps, oldest first. Works beside a running agent and
/// without one; blocks.
pub fn log(data: &Path) -> Result<Vec<LogRow>, StatusError> {
    let saved = read_journal(data)?;
    let relieved = saved.memory.as_ref().map_or(Sequence(0), |memory| memory.relieved);
    Ok(saved.messages.into_iter().map(|kept| log_row(&kept, relieved)).collect())
}

/// What one run has printed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputView {
    /// The run.
    pub run_id: RunId,
    /// The occurrence.
    pub occurrence: Occurrence,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// The user whom it was for, of a program that runs for each who is logged on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// When it was last spoken of, in trusted time.
    pub at: Wall,
    /// How it stands, or how it ended.
    pub state: String,
    /// The beginning and the end of what it printed; absent if nothing was printed, or it was let go.
    pub output: Option<String>,
}

/// What the runs of the advertisement called `name` (or of that id) printed, the oldest first. Works
/// beside a running agent and without one; blocks.
pub fn output(data: &Path, name: &str) -> Result<Vec<OutputView>, StatusError> {
    let saved = read_journal(data)?;
    let meant: Vec<AdvertisementId> = saved
        .obligations
        .iter()
        .map(|record| (record.key.advertisement, &record.name))
        .filter(|(id, known)| *known == name || id.to_string() == name)
        .map(|(id, _)| id)
        .collect();
    if meant.is_empty() {
        return Err(StatusError::Unknown(name.to_owned()));
    }
    let mut found: Vec<OutputView> = Vec::new();
    for kept in &saved.messages {
        let Ok(Message { body: Body::Obligation(report), .. }) =
            serde_json::from_slice::<Message>(&kept.bytes)
        else {
            continue;
        };
        let Some(run) = report.run.filter(|_| meant.contains(&report.advertisement)) else {
            continue;
        };
        found.retain(|one| one.run_id != run);
        found.push(OutputView {
            run_id: run,
            occurrence: report.occurrence,
            attempt: report.attempt,
            user: report.user,
            at: kept.written,
            state: report.attempt_ended.unwrap_or(report.state).to_string(),
            output: outputs::read(data, run)?,
        });
    }
    Ok(found)
}

/// A device that has not run yet has no journal, and has kept nothing.
fn read_journal(data: &Path) -> Result<Saved, JournalError> {
    match Journal::open_read_only(data) {
        Err(JournalError::Missing { .. }) => Ok(Saved::default()),
        opened => opened?.load(),
    }
}

/// The same with what is seen on the device beside it.
fn seen_view(
    data: &Path,
    agent: Option<&AgentFile>,
    enrolment: &Enrolment,
    saved: Saved,
    trouble: &mut Vec<String>,
) -> Result<View, StatusError> {
    let paused = components::paused(data).unwrap_or_else(|error| {
        trouble.push(chain_of(&error));
        Default::default()
    });
    let paused = paused.contains(components::SOFTWARE_DISTRIBUTION);
    let file = agent.and_then(|agent| file_of(&agent.pid.to_string()));
    let upgrade_waits = matches!(file, Some(ProgramFile::Replaced(_)));
    // Settings that cannot be read are told with the rest of the state.
    let outbox = Config::load(data).unwrap_or_default().outbox_bytes();
    let (machine, now) = machine_of(enrolment, saved)?;
    let machine = machine.with_outbox(outbox);
    Ok(machine.as_seen(paused, upgrade_waits).view(now))
}

/// The machine's own view of what was saved, as it would be now; the machine itself is let go.
fn view_of(enrolment: &Enrolment, saved: Saved) -> Result<View, StatusError> {
    let (agent, now) = machine_of(enrolment, saved)?;
    Ok(agent.view(now))
}

/// The machine as it was saved, and the clocks.
fn machine_of(enrolment: &Enrolment, mut saved: Saved) -> Result<(Agent, Now), StatusError> {
    let clock = Clock::from_env()?;
    let now = clock.now();
    if let Some(memory) = saved.memory.as_mut().filter(|memory| memory.boot != *clock.boot_id()) {
        // No agent has run in this boot, so the memory's boot clock is another one.
        memory.time.rebooted(memory.last_known, now);
    }
    let whose = Whose {
        device: enrolment.device,
        incarnation: enrolment.incarnation,
        fresh_incarnation_because: None,
        salvaged: Vec::new(),
    };
    // Times without a zone of their own are read as the running agent reads them.
    Ok((Agent::restore(&whose, saved).in_zone(TimeZone::system()), now))
}

/// What the running agent shows; `None` if none runs. After a crash the run file stays, so the process
/// is looked for as well.
pub(crate) fn agent_file(data: &Path, trouble: &mut Vec<String>) -> Option<AgentFile> {
    let file: Option<AgentFile> = read_run_file(data, RUN_FILE).unwrap_or_else(|error| {
        trouble.push(chain_of(&error));
        None
    });
    let file = file.filter(|file| Path::new(&format!("/proc/{}", file.pid)).exists())?;
    trouble.extend(file.trouble.iter().cloned());
    Some(file)
}

/// What is wrong with the machine's wall clock, once the site has told the time in this boot.
pub(crate) fn wrong_clock(saved: &Saved, clock: &Clock) -> Option<String> {
    let memory = saved.memory.as_ref().filter(|memory| memory.boot == *clock.boot_id())?;
    memory.last_heard?;
    let now = clock.now();
    let trusted = memory.time.at(now);
    let (off, side) = match now.wall > trusted {
        true => (now.wall.since(trusted), "ahead of"),
        false => (trusted.since(now.wall), "behind"),
    };
    let wrong = off >= CLOCK_OFF_LEAST;
    wrong.then(|| {
        let off = Period::minutes((off.as_secs() + 30) / 60);
        format!("the wall clock is {off} {side} the site's time; nothing is judged by it")
    })
}

fn trust(data: &Path, trouble: &mut Vec<String>) -> TrustView {
    let store = TrustStore::try_load(data).unwrap_or_else(|error| {
        trouble.push(chain_of(&error));
        None
    });
    let Some(store) = store else { return TrustView { number: 0, pinned: false } };
    trouble.extend(store.refused());
    TrustView { number: store.number(), pinned: store.trust().is_pinned() }
}

fn certificate(enrolment: &Enrolment, trouble: &mut Vec<String>) -> Option<CertificateView> {
    match peer_identity(&enrolment.certificate.certificate()) {
        Ok(peer) => Some(CertificateView { not_after: peer.not_after }),
        Err(error) => {
            trouble.push(chain_of(&error));
            None
        }
    }
}

/// Where each part of the agent stands. Works beside a running agent and without one; blocks.
pub fn component_states(data: &Path) -> Result<Vec<Component>, StatusError> {
    Ok(status(data)?.components)
}

fn log_row(kept: &Kept, relieved: Sequence) -> LogRow {
    let (sequence, at) = (kept.sequence, kept.written);
    let acknowledged = sequence <= relieved;
    match serde_json::from_slice::<Message>(&kept.bytes) {
        Ok(Message { body, .. }) => {
            let said = body.status();
            LogRow {
                sequence,
                at,
                severity: said.severity,
                code: said.code,
                component: said.component.to_owned(),
                advertisement: body.advertisement(),
                text: said.text,
                acknowledged,
            }
        }
        // Written by a newer version that this one took over from; its site understands it.
        Err(error) => LogRow {
            sequence,
            at,
            severity: Severity::Info,
            code: 0,
            component: "agent".to_owned(),
            advertisement: None,
            text: format!("a message that this version cannot read: {error}"),
            acknowledged,
        },
    }
}

#[cfg(test)]
mod tests;
