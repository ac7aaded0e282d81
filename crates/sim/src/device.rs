//! A device: a machine with a disk, an agent process that comes and goes, supervisors that outlive it,
//! and software that is there or not.
//!
//! The agent here is the real one; this is its shell, as the real shell is meant to be: save the
//! writes, then carry out the effects. Everything can end between any two of its steps.

mod allowed;
mod calls;
mod hazard;
mod maintenance;
mod person;
mod restart;
mod run;
mod shell;
mod upgrade;

use std::collections::{BTreeMap, BTreeSet};

use muster_agent_core::agent::{Agent, Identity};
use muster_agent_core::input::Input;
use muster_agent_core::versions::Versions;
use muster_model::clock::{Elapsed, Now, Wall};
use muster_model::digest::Digest;
use muster_model::facts::Facts;
use muster_model::id::{BootId, DeviceId, Incarnation};
use muster_model::message::{Report, RunId};
use muster_model::name::Name;
use muster_model::sign::PrivateKey;

use crate::core::{Core, Crash, Node};
use crate::disk::Disk;
use crate::event::Event;
use crate::journal::Journal;
use crate::plant::plant_agent;
use crate::queue::Time;
use crate::seal::SealKey;
use crate::sometimes::Rare;
use calls::Pending;
use hazard::Snapshot;
use run::{RunFolder, Supervisor};

/// The hardware: on or off, its boots, its clocks.
struct Machine {
    on: bool,
    boots: u64,
    booted_at: Time,
    /// How wrong the wall clock is, in milliseconds.
    skew: i64,
}

/// One life of the agent process.
struct Process {
    number: u64,
    agent: Agent,
    pending: BTreeMap<u64, Pending>,
    /// Runs whose supervisor it waits for.
    followed: BTreeSet<RunId>,
    /// The deadline that an event is queued for.
    tick: Option<Time>,
}

/// A device of the fleet.
pub(crate) struct Device {
    /// Its number in the fleet.
    pub index: usize,
    /// Its id.
    pub id: DeviceId,
    /// Its name.
    pub name: Name,
    /// Its key.
    pub key: PrivateKey,
    /// What it says of itself.
    pub facts: Facts,
    /// Its journal.
    pub journal: Disk<Journal>,
    /// Which life of its memory.
    pub incarnation: Incarnation,
    /// The incarnation in reserve, if the site has handed one out.
    pub next_incarnation: Option<Incarnation>,
    /// Why the memory is a new one, until it is saved.
    memory_lost: Option<String>,
    /// What could be read of the memory that was lost.
    salvaged: Vec<Report>,
    /// A snapshot of the machine's disk.
    snapshot: Option<Box<Snapshot>>,
    /// Of a device of which there were two pasts: every message that this machine has said.
    past: BTreeSet<Digest>,
    /// The disk is full; so many bytes are left of the journal's reserve.
    reserve: Option<u64>,
    /// When the site's time was last heard in this boot.
    heard: Option<Time>,
    /// Which software is there, by the digest of its manifest.
    software: BTreeMap<Digest, bool>,
    /// Programs that have ever been at their goal, or ended as if, by the digest of their manifest.
    reached: BTreeSet<Digest>,
    site_key: SealKey,
    /// Which version of the agent stands.
    pub versions: Versions,
    /// Who is logged on.
    users: Vec<String>,
    /// Its agent has a command that restarts the machine.
    restarts_itself: bool,
    machine: Machine,
    process: Option<Process>,
    processes: u64,
    folders: BTreeMap<RunId, RunFolder>,
    supervisors: BTreeMap<u64, Supervisor>,
    supervisors_made: u64,
}

impl Device {
    /// A device as enrolled: switched off, with an empty journal.
    pub(crate) fn new(index: usize, core: &mut Core, site_key: SealKey) -> Self {
        let name = crate::scenario::known_name(&format!("device-{index}"));
        let facts = Facts {
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            name: name.as_str().to_owned(),
            agent_version: upgrade::INSTALLED.to_owned(),
            isolation: "session".to_owned(),
            root: "/".to_owned(),
            machine: Some(Digest::of_parts("sim/machine", &[&index.to_le_bytes()])),
            ..Facts::default()
        };
        let present: Vec<(Digest, bool)> = core
            .scenario
            .software
            .iter()
            .map(|one| (one.package.manifest, one.wants_present()))
            .collect();
        let drawn = |(one, wanted)| (one, wanted, core.dice.per_mille(150));
        let drawn: Vec<(Digest, bool, bool)> = present.into_iter().map(drawn).collect();
        let reached = drawn.iter().filter(|(_, wanted, there)| wanted == there);
        let reached = reached.map(|(one, _, _)| *one).collect();
        let software = drawn.iter().map(|(one, _, there)| (*one, *there)).collect();
        let seed = Digest::of_parts("sim/device", &[&core.dice.bits().to_le_bytes()]);
        Self {
            index,
            id: DeviceId(core.dice.uuid()),
            name,
            key: PrivateKey::from_seed(*seed.as_bytes()),
            facts,
            journal: Disk::new(),
            incarnation: Incarnation(1),
            next_incarnation: Some(Incarnation(2)),
            memory_lost: None,
            salvaged: Vec::new(),
            snapshot: None,
            past: BTreeSet::new(),
            reserve: None,
            heard: None,
            software,
            reached,
            site_key,
            versions: Versions::default(),
            users: Vec::new(),
            restarts_itself: core.dice.per_mille(700),
            machine: Machine { on: false, boots: 0, booted_at: 0, skew: 0 },
            process: None,
            processes: 0,
            folders: BTreeMap::new(),
            supervisors: BTreeMap::new(),
            supervisors_made: 0,
        }
    }

    /// Whether its journal was lost and the account has not come yet.
    pub(crate) fn awaits_account(&self) -> bool {
        let memory = self.journal.read().memory.as_ref();
        memory.map_or(self.memory_lost.is_some(), |memory| memory.awaits_account)
    }

    /// The node that it is.
    pub(crate) fn node(&self) -> Node {
        Node::Device(self.index)
    }

    /// The machine, if its agent runs.
    pub(crate) fn agent(&self) -> Option<&Agent> {
        self.process.as_ref().map(|process| &process.agent)
    }

    /// Both clocks.
    pub(crate) fn clocks(&self, core: &Core) -> Now {
        let elapsed = core.now().saturating_sub(self.machine.booted_at);
        let wall = Wall(core.wall().0.saturating_add(self.machine.skew));
        Now { wall, elapsed: Elapsed(elapsed) }
    }

    fn boots(&self) -> u64 {
        self.machine.boots
    }

    fn boot_id(&self) -> BootId {
        BootId(format!("{}-boot-{}", self.name, self.machine.boots))
    }

    /// Switches the machine on.
    pub(crate) fn boot(&mut self, core: &mut Core) {
        if self.machine.on {
            return;
        }
        self.machine.on = true;
        self.machine.boots += 1;
        self.machine.booted_at = core.now();
        self.heard = None;
        core.note(self.node(), format_args!("boots for the {}. time", self.machine.boots));
        crate::nightly::booted(core, self.index);
        let delay = core.dice.spread(100, 5_000);
        core.queue.after(delay, Event::AgentStarts { device: self.index });
    }

    /// Starts the agent process, if there is none.
    pub(crate) fn start_agent(&mut self, core: &mut Core) {
        if !self.machine.on || self.process.is_some() {
            return;
        }
        // Opening the journal syncs what a killed process had written: whatever the new one reads
        // and acts on is durable.
        self.journal.sync();
        self.note_durable(core);
        let Some(footing) = self.footing_at_start(core) else { return };
        self.facts.agent_version.clone_from(&footing.version);
        self.processes += 1;
        let identity = Identity {
            device: self.id,
            incarnation: self.incarnation,
            fresh_incarnation_because: self.memory_lost.clone(),
            salvaged: self.salvaged.clone(),
        };
        let agent = Agent::restore(&identity, self.journal.read().saved());
        let mut agent = agent.standing_on(footing).with_outbox(core.scenario.outbox_bytes);
        plant_agent(core, &mut agent);
        let number = self.processes;
        self.process = Some(Process {
            number,
            agent,
            pending: BTreeMap::new(),
            followed: BTreeSet::new(),
            tick: None,
        });
        let (boot, facts, seed) = (self.boot_id(), self.facts.clone(), core.dice.bits());
        let found = self.found_runs(core);
        let zone = crate::hours::zone_of(self.index);
        self.tell(core, number, Input::Started { boot, facts, zone, seed, found });
        self.tell(core, number, Input::Paused { paused: false });
        self.tell(core, number, Input::RestartAble(self.restarts_itself));
        self.tell_sessions(core);
    }

    /// The network has come up.
    pub(crate) fn link_up(&mut self, core: &mut Core) {
        if let Some(number) = self.process.as_ref().map(|process| process.number) {
            self.tell(core, number, Input::LinkUp);
        }
    }

    /// Whether `number` is the agent process that runs now.
    pub(crate) fn is_process(&self, number: u64) -> bool {
        self.process.as_ref().is_some_and(|process| process.number == number)
    }

    /// The number of the agent process that runs now.
    pub(crate) fn process_number(&self) -> Option<u64> {
        self.process.as_ref().map(|process| process.number)
    }

    /// Something ends here out of the blue.
    pub(crate) fn crash(&mut self, core: &mut Core, crash: Crash) {
        match crash {
            Crash::Kill => self.kill_agent(core),
            Crash::PowerCut => self.cut_power(core),
        }
    }

    /// Kills the agent process; the service manager starts it again.
    pub(crate) fn kill_agent(&mut self, core: &mut Core) {
        let Some(process) = self.process.take() else { return };
        core.note(self.node(), format_args!("agent process {} is killed", process.number));
        self.remember_branches(core, &process.agent);
        self.free_locks_of(process.number);
        let delay = core.dice.spread(100, 60_000);
        core.queue.after(delay, Event::AgentStarts { device: self.index });
    }

    /// Cuts the machine's power; somebody switches it on again.
    pub(crate) fn cut_power(&mut self, core: &mut Core) {
        if !self.machine.on {
            return;
        }
        self.switch_off(core);
        let most = if core.chaos { core.scenario.faults.outage_most } else { 1_000 };
        let delay = core.dice.spread(1_000, most);
        core.queue.after(delay, Event::Boots { device: self.index });
    }

    /// The machine goes off, and stays off.
    pub(crate) fn switch_off(&mut self, core: &mut Core) {
        if !self.machine.on {
            return;
        }
        core.note(self.node(), format_args!("loses its power"));
        if let Some(process) = self.process.take() {
            self.remember_branches(core, &process.agent);
        }
        self.machine.on = false;
        self.journal.power_cut(&mut core.dice);
        self.note_durable(core);
        self.end_all_supervisors(core);
        for folder in self.folders.values_mut() {
            folder.power_cut(&mut core.dice);
        }
    }

    /// The machine becomes one of the first ring, or of another, or says nothing of it.
    pub(crate) fn change_facts(&mut self, core: &mut Core) {
        let ring = core.dice.below(3);
        self.facts.extra.remove("ring");
        if ring > 0 {
            let fact = muster_model::facts::Fact::Number(ring.cast_signed());
            self.facts.extra.insert("ring".to_owned(), fact);
        }
        core.note(self.node(), format_args!("facts change: ring {ring}"));
        let (number, facts) = (self.processes, self.facts.clone());
        self.tell(core, number, Input::FactsChanged(facts));
    }

    /// The wall clock jumps, by up to years.
    pub(crate) fn jump_clock(&mut self, core: &mut Core) {
        const YEAR: u64 = 365 * 24 * 3_600_000;
        let by = i64::try_from(core.dice.spread(1_000, 20 * YEAR)).unwrap_or(i64::MAX);
        self.machine.skew = if core.dice.per_mille(500) { by } else { -by };
        core.seen.world(Rare::ClockJumped);
        core.note(self.node(), format_args!("its wall clock is now {by} ms wrong"));
    }

    /// Whether the machine must restart before an obligation can end, and does so.
    pub(crate) fn restart_if_pending(&mut self, core: &mut Core) {
        let pending = self.journal.read().obligations.values().any(|record| {
            matches!(record.stage, muster_agent_core::saved::Stage::RestartPending { .. })
        });
        if pending && self.machine.on {
            self.cut_power(core);
        }
    }

    /// Notes which rare branches an agent went through.
    pub(crate) fn remember_branches(&self, core: &mut Core, agent: &Agent) {
        for branch in muster_agent_core::sometimes::Branch::ALL {
            if agent.fired().has(branch) {
                core.seen.mark("agent", &branch);
            }
        }
    }
}
