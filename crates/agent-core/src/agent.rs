//! The machine: one input in, one step out.
//!
//! [`Agent::handle`] first takes the input, then lets every obligation make its next move, then sees
//! what is to be fetched, asked and sent. So nothing depends on which input came last: whatever became
//! possible happens, and a machine that is restored goes on from what was saved.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use muster_model::clock::{Elapsed, Now, TrustedTime, Wall};
use muster_model::digest::Digest;
use muster_model::facts::Facts;
use muster_model::id::{BootId, DeviceId, Incarnation, Sequence};
use muster_model::message::{Report, RunId};
use muster_model::period::Period;
use muster_model::policy::Policy;
use muster_model::settings::{DEFAULTS, Setting, Settings};

use crate::backoff::Jitter;
use crate::contact::Contact;
use crate::content::{Content, Contents};
use crate::draft::Draft;
use crate::input::{FoundRun, Input};
use crate::maintenance::{Maintaining, Maintenance};
use crate::outbox::Outbox;
use crate::put_back::FirstWord;
use crate::restart::Restarting;
use crate::saved::{GaveWay, Key, Memory, ObligationRecord, RunRecord, Saved};
use crate::sometimes::{Branch, Fired};
use crate::step::{Step, Write};
use crate::upgrade::Upgrading;
use crate::window::Calendar;

/// The memory is saved when its time has become older than this, so that a boot loses little of it:
/// trusted time goes on from there, and the wall clock is not asked.
const TIME_SAVED_EVERY: Duration = Duration::from_secs(600);

/// Who the device is; kept by the shell outside the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Its id.
    pub device: DeviceId,
    /// Which life of its memory.
    pub incarnation: Incarnation,
    /// This incarnation began because the memory of the one before was lost: what was found. `None`
    /// for a device that is new.
    pub fresh_incarnation_because: Option<String>,
    /// Reports that could be read in the damaged journal and that the site may not have. Only those
    /// that say `running` or an end count.
    pub salvaged: Vec<Report>,
}

/// The device as a machine.
#[derive(Clone, Debug)]
pub struct Agent {
    pub(crate) identity: Identity,
    pub(crate) memory: Memory,
    pub(crate) policy: Option<Policy>,
    pub(crate) obligations: BTreeMap<Key, ObligationRecord>,
    pub(crate) runs: BTreeMap<RunId, RunRecord>,
    pub(crate) contents: Contents,
    pub(crate) outbox: Outbox,
    pub(crate) contact: Contact,
    pub(crate) asked: BTreeMap<Key, Asked>,
    pub(crate) zone: TimeZone,
    pub(crate) calendar: Calendar,
    pub(crate) jitter: Jitter,
    pub(crate) paused: bool,
    /// Run folders that were found and are not yet weighed against the account.
    pub(crate) found: Vec<FoundRun>,
    pub(crate) restarting: Restarting,
    pub(crate) maintaining: Maintaining,
    pub(crate) upgrading: Upgrading,
    /// What was said first in this boot; `None` if the agent has only been restarted.
    pub(crate) first_word: Option<FirstWord>,
    /// Who is logged on; `None` until the shell has said so.
    pub(crate) sessions: Option<Vec<String>>,
    pub(crate) started: bool,
    pub(crate) fired: Fired,
    pub(crate) ignored: Option<&'static str>,
    /// The boot clock at the newest input.
    pub(crate) elapsed: Elapsed,
    deadline: Option<Elapsed>,
    /// Bugs to be found by the simulator.
    #[cfg(feature = "planted")]
    pub planted: crate::planted::Planted,
    /// An exit that a planted bug holds back.
    #[cfg(feature = "planted")]
    pub(crate) held_back: Vec<(RunId, crate::input::RunEvidence)>,
}

/// What has been asked about an obligation and not been answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Asked {
    /// A detection of this manifest.
    pub(crate) detect: Option<Digest>,
    /// A look at the conditions for this manifest.
    pub(crate) check: Option<Digest>,
    /// The conditions were clear, as the input that is being handled says.
    pub(crate) cleared: bool,
}

impl Agent {
    /// The machine as it was saved. A memory of another device or incarnation is not this one's: the
    /// machine begins anew, and the shell gives it a journal of its own.
    ///
    /// Rows that do not fit together are never a panic: what cannot be meant is left out
    /// ([`Saved::check`] names it beforehand).
    pub fn restore(identity: &Identity, saved: Saved) -> Agent {
        let ours = |memory: &Memory| {
            memory.device == identity.device && memory.incarnation == identity.incarnation
        };
        let saved = if saved.memory.as_ref().is_some_and(ours) { saved } else { Saved::default() };
        let memory = saved.memory.unwrap_or_else(|| Memory::new(identity));
        let obligations =
            saved.obligations.into_iter().map(|record| (record.key.clone(), record.rested()));
        let contents = saved
            .contents
            .into_iter()
            .map(|record| (record.package.manifest, Content::new(record)));
        Agent {
            outbox: Outbox::restore(&memory, saved.messages),
            policy: saved.policy,
            obligations: obligations.collect(),
            runs: saved.runs.into_iter().map(|run| (run.run, run)).collect(),
            contents: contents.collect(),
            contact: Contact::default(),
            asked: BTreeMap::new(),
            zone: TimeZone::UTC,
            calendar: Calendar::default(),
            jitter: Jitter::new(0),
            paused: false,
            found: Vec::new(),
            restarting: Restarting::default(),
            maintaining: Maintaining::default(),
            upgrading: Upgrading::default(),
            first_word: None,
            sessions: None,
            started: false,
            fired: Fired::default(),
            ignored: None,
            elapsed: Elapsed::default(),
            deadline: None,
            identity: identity.clone(),
            memory,
            #[cfg(feature = "planted")]
            planted: Default::default(),
            #[cfg(feature = "planted")]
            held_back: Vec::new(),
        }
    }

    /// The machine in its device's zone, for a view of it that no [`Input::Started`] comes before.
    #[must_use]
    pub fn in_zone(mut self, zone: TimeZone) -> Agent {
        self.zone = zone;
        self
    }

    /// The machine with what the shell sees on the device, for a view of it that no input comes before.
    #[must_use]
    pub fn as_seen(mut self, paused: bool, upgrade_waits: bool) -> Agent {
        self.paused = paused;
        self.maintaining.upgrade_waits = upgrade_waits;
        self
    }

    /// The machine with an outbox of at most `bytes` unacknowledged bytes
    /// ([`OUTBOX_BYTES_MAX`](crate::outbox::OUTBOX_BYTES_MAX) if nothing is said).
    #[must_use]
    pub fn with_outbox(mut self, bytes: usize) -> Agent {
        self.outbox.limit(bytes);
        self
    }

    /// Takes one input. Total: no input in any order is an error or a panic; one that fits nothing is
    /// ignored and noted. Until [`Input::Started`] everything is ignored.
    pub fn handle(&mut self, now: Now, input: Input) -> Step {
        let mut draft = Draft::new(now);
        self.elapsed = now.elapsed;
        if !self.started && !matches!(input, Input::Started { .. }) {
            self.ignore("an input before `Started`");
            return Step::default();
        }
        self.take(&mut draft, input);
        self.discard_told(&mut draft);
        self.look(&mut draft);
        self.pump_upgrade(&mut draft);
        self.pump_restart(&mut draft);
        self.pump_maintenance(&mut draft);
        self.pump_components(&mut draft);
        self.pump_contents(&mut draft);
        self.pump_contact(&mut draft);
        self.tell_what_gave_way(&mut draft);
        self.pump_outbox(&mut draft);
        self.deadline = self.earliest_deadline(now);
        self.finish(draft)
    }

    /// When [`Input::Tick`] is due, on the boot clock. It may lie in the past; an early tick is
    /// harmless.
    pub fn next_deadline(&self) -> Option<Elapsed> {
        self.deadline
    }

    /// The rare branches that have fired since the machine was restored.
    pub fn fired(&self) -> Fired {
        self.fired
    }

    fn take(&mut self, draft: &mut Draft, input: Input) {
        match input {
            Input::Started { .. } if self.started => self.ignore("a second `Started`"),
            Input::Started { boot, facts, zone, seed, found } => {
                self.start(draft, boot, facts, zone, seed, found);
            }
            Input::Tick => self.tick(draft),
            Input::PolicyArrived { policy, site_time } => {
                self.policy_arrived(draft, policy, site_time);
            }
            Input::NothingNew { site_time } => self.nothing_new(draft, site_time),
            Input::PollFailed { why } => self.poll_failed(draft, why),
            Input::PolicyRefused { why } => self.policy_refused(draft, why),
            Input::LinkUp => self.link_up(),
            Input::ReceiptArrived(receipt) => self.receipt_arrived(draft, &receipt),
            Input::SiteBehind { epoch, through } => self.site_behind(draft, epoch, through),
            Input::SendFailed { why } => self.send_failed(draft, why),
            Input::AccountArrived(account) => self.account_arrived(draft, account),
            Input::Content { manifest, news } => self.content_news(draft, manifest, news),
            Input::Conditions { key, blocked } => self.conditions(draft, &key, blocked),
            Input::Detected { key, found } => self.detected(draft, &key, found),
            Input::RunSeen { run, evidence } => self.run_seen(draft, run, evidence),
            Input::ArmFailed { run, wait, why } => self.arm_failed(draft, run, wait, why),
            Input::Sessions(users) => self.sessions_changed(draft, users),
            Input::Asked(request) => self.asked(draft, &request),
            Input::RestartAble(able) => self.restart_able(able),
            Input::RestartTried(tried) => self.restart_tried(draft, tried),
            Input::FactsChanged(facts) => self.facts_changed(draft, facts),
            Input::ZoneChanged(zone) => {
                self.zone = zone;
                self.calendar_changed();
            }
            Input::Paused { paused } => {
                self.paused = paused;
                self.maintaining.told_paused = true;
            }
            Input::UpgradeWaits(waits) => self.maintaining.upgrade_waits = waits,
            Input::Release { manifest, news } => self.release_news(draft, manifest, news),
            Input::Verified(findings) => self.verified(draft, findings),
            Input::Repaired { fault, failed } => self.repaired(draft, &fault, failed),
        }
    }

    fn finish(&mut self, draft: Draft) -> Step {
        let mut rows = Vec::new();
        let trusted = self.trusted(draft.now);
        if draft.memory || trusted.since(self.memory.last_known) >= TIME_SAVED_EVERY {
            self.memory.last_known = trusted;
            rows.push(Write::Memory(Box::new(self.memory.clone())));
        }
        if let Some(policy) = self.policy.as_ref().filter(|_| draft.policy) {
            rows.push(Write::Policy(Box::new(policy.clone())));
        }
        let changed = draft.obligations.iter().filter_map(|key| self.obligations.get(key));
        rows.extend(changed.map(|record| Write::Obligation(Box::new(record.clone()))));
        draft.finish(rows)
    }

    /// When trusted time is to be saved again, so that a machine without a clock of its own loses little.
    pub(crate) fn time_saved_deadline(&self, now: Elapsed, trusted: Wall) -> Elapsed {
        now.plus(self.memory.last_known.plus(TIME_SAVED_EVERY).since(trusted))
    }

    /// Trusted time.
    pub(crate) fn trusted(&self, now: Now) -> Wall {
        #[cfg(feature = "planted")]
        if self.planted.wall_clock_trusted {
            return now.wall;
        }
        self.memory.time.at(now)
    }

    /// A setting, as the site says or by default.
    pub(crate) fn setting(&self, setting: Setting) -> Duration {
        self.settings().get(setting).duration()
    }

    /// The same of a setting that may be off: `None` if it is.
    pub(crate) fn interval(&self, setting: Setting) -> Option<Duration> {
        self.settings().interval(setting).map(Period::duration)
    }

    /// Whether a setting is on.
    pub(crate) fn is_on(&self, setting: Setting) -> bool {
        self.settings().is_on(setting)
    }

    fn settings(&self) -> &Settings {
        self.policy.as_ref().map_or(&DEFAULTS, |policy| &policy.settings)
    }

    /// Notes an input that fits nothing.
    pub(crate) fn ignore(&mut self, what: &'static str) {
        self.fired.note(Branch::Ignored);
        self.ignored = Some(what);
    }
}

impl Memory {
    fn new(identity: &Identity) -> Self {
        Self {
            device: identity.device,
            incarnation: identity.incarnation,
            head: Sequence(0),
            chain: Digest::ZERO,
            relieved: Sequence(0),
            epoch: None,
            epochs_left: Vec::new(),
            forgotten: None,
            time: TrustedTime::default(),
            last_known: Wall::default(),
            last_heard: None,
            boot: BootId(String::new()),
            facts: Facts::default(),
            awaits_account: identity.fresh_incarnation_because.is_some(),
            maintenance: Maintenance::default(),
            gave_way: GaveWay::default(),
            let_go: Some(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests;
