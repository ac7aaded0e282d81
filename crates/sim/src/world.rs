//! One world: a site, an access point, a fleet, and everything that happens to them, until it is
//! healed and everything has come to its end, or an invariant does not hold.

use muster_agent_core::saved::Key;
use muster_model::id::Incarnation;
use muster_site_core::device::{Admission, Device as SiteDevice};

use crate::access_point::AccessPoint;
use crate::check;
use crate::core::{Core, Crash, Node, Violation};
use crate::device::Device;
use crate::dice::Dice;
use crate::event::{Event, Strike};
use crate::kind::Kind;
use crate::nightly::{self, Nights};
use crate::offline;
use crate::plant::Plant;
use crate::rogue::Rogue;
use crate::scenario::{HOUR, MINUTE, Scenario};
use crate::seal::SealKey;
use crate::site::Site;
use crate::site::store::DeviceRow;
use crate::sometimes::Seen;
use crate::upgrades::Upgrades;
use crate::verdict;

/// Events in one world: far more than any world needs, so that one that goes in circles ends.
const EVENTS_MAX: u64 = 2_000_000;
/// How long a healed world may take to come to its end, in virtual milliseconds: the slowest run
/// after run, attempt after attempt, and room.
const HEAL_MOST: u64 = 96 * HOUR;
/// The same where one run takes hours, and may have to wait for the next window as long.
const HEAL_MOST_LONG: u64 = 14 * 24 * HOUR;
/// How often a healed world is looked at.
const LOOK_EVERY: u64 = 5 * MINUTE;

/// How to run a world.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The most devices.
    pub devices: usize,
    /// The kind of world; that of the planted bug if nothing is said.
    pub kind: Option<Kind>,
    /// The planted bug.
    pub plant: Option<Plant>,
    /// Whether to keep the record.
    pub record: bool,
}

impl Options {
    /// The kind of world that is run.
    pub fn kind(&self) -> Kind {
        self.kind.or(self.plant.map(Plant::kind)).unwrap_or_default()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { devices: 10, kind: None, plant: None, record: false }
    }
}

/// How a world ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The seed that it came from.
    pub seed: u64,
    /// The first invariant found broken.
    pub violation: Option<Violation>,
    /// Events.
    pub steps: u64,
    /// Programs executed.
    pub executions: u64,
    /// Rare branches that fired.
    pub seen: Seen,
    /// The record, if it was kept.
    pub record: String,
}

struct World {
    core: Core,
    devices: Vec<Device>,
    access_point: AccessPoint,
    site: Site,
    healed_at: Option<u64>,
    finished: bool,
    rogue: Option<Rogue>,
    nights: Nights,
    upgrades: Upgrades,
}

/// Runs the world of `seed` to its end.
pub fn run(seed: u64, options: &Options) -> Ended {
    let mut world = World::new(seed, options);
    let mut steps = 0;
    while !world.finished && world.core.violation.is_none() {
        let Some(event) = world.core.queue.next() else {
            world.core.violated("liveness", "nothing is left to happen".to_owned());
            break;
        };
        steps += 1;
        if steps > EVENTS_MAX {
            world.core.violated("liveness", format!("{EVENTS_MAX} events and no end"));
        }
        world.step(event);
    }
    world.end(seed, steps)
}

impl World {
    fn new(seed: u64, options: &Options) -> Self {
        let mut dice = Dice::new(seed);
        let scenario = Scenario::draw(&mut dice, options.devices, options.kind());
        let mut core = Core::new(scenario, dice, options.plant, options.record);
        if core.record.is_kept() {
            let scenario = format!("{:?}", core.scenario);
            core.note(Node::Site, format_args!("seed {seed}: {scenario}"));
        }
        let secret = core.dice.bits();
        let key = SealKey(muster_model::digest::Digest::of(&secret.to_le_bytes()));
        let devices: Vec<Device> =
            (0..core.scenario.devices).map(|index| Device::new(index, &mut core, key)).collect();
        let mut site = Site::new(&mut core, key);
        site.start(&mut core);
        core.chaos = false;
        let rogue = (core.scenario.faults.mischief_every > 0).then(|| Rogue::new(&mut core));
        site.found(&mut core, devices.iter().map(row).chain(rogue.iter().map(rogue_row)).collect());
        site.back_up(&mut core);
        core.chaos = true;
        let mut world = Self {
            core,
            devices,
            access_point: AccessPoint::default(),
            site,
            healed_at: None,
            finished: false,
            rogue,
            nights: Nights::default(),
            upgrades: Upgrades::default(),
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let core = &mut self.core;
        core.queue.after(1, Event::RelayStarts);
        for device in 0..self.devices.len() {
            match core.scenario.kind {
                Kind::Chaos | Kind::Losses | Kind::Upgrades | Kind::Offline => {
                    let delay = core.dice.spread(1, 10 * MINUTE);
                    core.queue.after(delay, Event::Boots { device });
                }
                Kind::Nightly => {
                    let delay = core.dice.below(24 * HOUR);
                    core.queue.after(delay, Event::Morning { device });
                }
            }
            let delay = core.dice.spread(1, core.scenario.persons_every);
            core.queue.after(delay, Event::Person { device });
        }
        offline::begin(core, self.devices.len());
        core.queue.after(core.scenario.chaos, Event::Heal);
        core.queue.after(10, Event::Administer);
        if self.rogue.is_some() {
            core.queue.after(MINUTE, Event::Mischief);
        }
        for strike in [
            Strike::Partition,
            Strike::Outage,
            Strike::ClockJump,
            Strike::Wipe,
            Strike::MemoryLoss,
            Strike::Restore,
            Strike::SupervisorKill,
            Strike::DiskFull,
            Strike::RollBack,
            Strike::Clone,
            Strike::Facts,
        ] {
            self.schedule(strike);
        }
    }

    fn schedule(&mut self, strike: Strike) {
        let faults = &self.core.scenario.faults;
        let every = match strike {
            Strike::Partition => faults.partition_every,
            Strike::Outage => faults.outage_every,
            Strike::ClockJump => faults.clock_jump_every,
            Strike::Wipe => faults.wipe_every,
            Strike::MemoryLoss => faults.memory_loss_every,
            Strike::Restore => faults.restore_every,
            Strike::SupervisorKill => faults.supervisor_kill_every,
            Strike::DiskFull => faults.disk_full_every,
            Strike::RollBack => faults.roll_back_every,
            Strike::Clone => faults.clone_every,
            Strike::Facts => faults.facts_every,
            Strike::Reconnect(_) => 0,
        };
        if every > 0 {
            let delay = self.core.dice.between(1, 2 * every);
            self.core.queue.after(delay, Event::Strike(strike));
        }
    }

    fn step(&mut self, event: Event) {
        let core = &mut self.core;
        let concerned = match event {
            Event::Agent { device, process, input } => {
                self.devices[device].tell(core, process, *input);
                Some(device)
            }
            Event::AgentTick { device, process, due } => {
                self.devices[device].tick(core, process, due);
                Some(device)
            }
            Event::AgentStarts { device } => {
                self.devices[device].start_agent(core);
                Some(device)
            }
            Event::Boots { device } => {
                self.devices[device].boot(core);
                Some(device)
            }
            Event::Person { device } => {
                self.devices[device].person(core);
                Some(device)
            }
            Event::DiskFreed { device } => {
                self.devices[device].free_disk(core);
                None
            }
            Event::Morning { device } => {
                self.nights.morning(&self.devices[device]);
                nightly::morning(core, &mut self.devices[device]);
                Some(device)
            }
            Event::Evening { device } => {
                nightly::evening(core, &mut self.devices[device]);
                Some(device)
            }
            Event::TrialOver { device, manifest, starts } => {
                self.devices[device].trial_over(core, manifest, starts);
                Some(device)
            }
            Event::LastWord => {
                self.site.last_word(core);
                None
            }
            Event::SiteGone => {
                offline::site_gone(core);
                None
            }
            Event::Facts { device } => {
                offline::facts(core, &mut self.devices[device]);
                Some(device)
            }
            Event::Restarts { device, boots } => {
                self.devices[device].restarts(core, boots);
                Some(device)
            }
            Event::Supervisor { device, supervisor, act } => {
                self.devices[device].supervise(core, supervisor, act);
                Some(device)
            }
            Event::SupervisorEnded { device, process, run } => {
                self.devices[device].supervisor_ended(core, process, run);
                Some(device)
            }
            Event::CallArrives { at, call } => self.call_arrives(at, call),
            Event::AnswerArrives { from, to, process, call, answer } => {
                if core.connected(from, to) {
                    self.answer_arrives(to, process, call, *answer)
                } else {
                    None
                }
            }
            Event::CallOverdue { to, process, call } => {
                self.answer_arrives(to, process, call, crate::event::Answer::Unavailable)
            }
            Event::PollHeld { process, call } => {
                self.site.poll_held(core, process, call);
                None
            }
            Event::RelayStarts => {
                self.access_point.start(core);
                None
            }
            Event::RelayTick { process, due } => {
                self.access_point.tick(core, process, due);
                None
            }
            Event::RelayForwards { process, key } => {
                self.access_point.forward(core, process, key);
                None
            }
            Event::SiteStarts => {
                self.site.start(core);
                None
            }
            Event::Strike(strike) => {
                self.strike(strike);
                None
            }
            Event::Administer => {
                self.administer();
                None
            }
            Event::Mischief => {
                self.mischief();
                None
            }
            Event::Heal => {
                self.heal();
                None
            }
            Event::Look => {
                self.look();
                None
            }
        };
        if let Some(device) = concerned {
            check::custody(&mut self.core, &self.devices[device], &self.site.store);
            self.nights.observe(&mut self.core, &self.devices[device], &self.site.store);
            self.upgrades.observe(&mut self.core, &self.devices[device]);
        }
    }

    fn call_arrives(&mut self, at: Node, call: crate::event::Call) -> Option<usize> {
        let core = &mut self.core;
        if !core.connected(call.from, at) {
            return None;
        }
        match at {
            Node::Site => {
                self.site.called(core, call);
                for device in &self.devices {
                    check::custody(core, device, &self.site.store);
                }
            }
            Node::AccessPoint => self.access_point.called(core, call),
            Node::Device(_) => {}
        }
        None
    }

    fn answer_arrives(
        &mut self,
        to: Node,
        process: u64,
        call: u64,
        answer: crate::event::Answer,
    ) -> Option<usize> {
        let core = &mut self.core;
        match to {
            Node::Device(device) => {
                match answer {
                    crate::event::Answer::Unavailable => {
                        self.devices[device].overdue(core, process, call);
                    }
                    answer => self.devices[device].answered(core, process, call, answer),
                }
                Some(device)
            }
            Node::AccessPoint => {
                self.access_point.answered(core, process, call, answer);
                None
            }
            Node::Site => None,
        }
    }

    fn strike(&mut self, strike: Strike) {
        let core = &mut self.core;
        if let Strike::Reconnect(node) = strike {
            core.cut_off.remove(&node);
            core.note(node, format_args!("is connected again"));
            if let Node::Device(device) = node
                && core.dice.per_mille(500)
            {
                self.devices[device].link_up(core);
            }
            return;
        }
        if !core.chaos {
            return;
        }
        let device = core.dice.below(self.devices.len() as u64) as usize;
        match strike {
            Strike::Partition => {
                let nodes =
                    [Node::Device(device), Node::Device(device), Node::AccessPoint, Node::Site];
                let node = core.dice.pick(&nodes).copied().unwrap_or(Node::Site);
                let most = core.scenario.faults.partition_most;
                let length = core.dice.spread(1_000, most);
                core.cut_off.insert(node);
                core.note(node, format_args!("is cut off for {length} ms"));
                core.queue.after(length, Event::Strike(Strike::Reconnect(node)));
            }
            Strike::Outage => match core.dice.below(6) {
                0 | 1 => self.devices[device].kill_agent(core),
                2 | 3 => self.devices[device].cut_power(core),
                4 => self.access_point.crash(core, Crash::PowerCut),
                _ => self.site.crash(core),
            },
            Strike::ClockJump => self.devices[device].jump_clock(core),
            Strike::Wipe => self.access_point.wipe(core),
            Strike::MemoryLoss => {
                let one = &mut self.devices[device];
                let through = self.site.store.through(one.id, one.incarnation);
                one.lose_memory(core, through);
            }
            Strike::Restore => self.restore_site(),
            Strike::SupervisorKill => self.devices[device].kill_some_supervisor(core),
            Strike::DiskFull => {
                let lasts = core.dice.spread(MINUTE, core.scenario.chaos / 2);
                self.devices[device].fill_disk(core, lasts);
            }
            Strike::RollBack => self.devices[device].snapshot_or_roll_back(core),
            Strike::Clone => self.clone_device(device),
            Strike::Facts => self.devices[device].change_facts(core),
            Strike::Reconnect(_) => {}
        }
        self.schedule(strike);
    }

    /// The disk of a device is copied to a second machine, which is switched on.
    fn clone_device(&mut self, device: usize) {
        let index = self.devices.len();
        if self.devices.iter().any(|one| self.core.truth.copied.contains(&one.id)) {
            return;
        }
        let copy = self.devices[device].cloned(index, &mut self.core);
        self.devices.push(copy);
        self.core.queue.after(MINUTE, Event::Boots { device: index });
    }

    /// A device that lost its journal is given the account of a site that has forgotten, too: nobody
    /// remembers what the site had relieved it of.
    fn restore_site(&mut self) {
        let Self { core, devices, site, .. } = self;
        for device in devices.iter().filter(|device| device.awaits_account()) {
            let rows = site.store.rows.keys().filter(|key| key.device == device.id);
            core.truth.destroyed.extend(rows.map(|key| {
                let (advertisement, occurrence) = (key.advertisement, key.occurrence.clone());
                (device.index, Key { advertisement, occurrence })
            }));
        }
        site.restore(core);
    }

    fn administer(&mut self) {
        let core = &mut self.core;
        if !core.chaos || !offline::is_administered(core) {
            return;
        }
        self.site.administer(core);
        let delay = core.dice.between(1, 2 * core.scenario.admin_every);
        core.queue.after(delay, Event::Administer);
    }

    fn mischief(&mut self) {
        let core = &mut self.core;
        let Some(rogue) = self.rogue.as_ref().filter(|_| core.chaos) else { return };
        rogue.act(core, &self.site.store);
        let delay = core.dice.between(1, 2 * core.scenario.faults.mischief_every);
        core.queue.after(delay, Event::Mischief);
    }

    /// The network is perfect, nothing ends any more, everybody is switched on.
    fn heal(&mut self) {
        let core = &mut self.core;
        core.chaos = false;
        core.cut_off.clear();
        core.note(Node::Site, format_args!("HEALED"));
        self.healed_at = Some(core.now());
        self.site.start(core);
        self.site.let_go(core);
        self.access_point.start(core);
        for device in &mut self.devices {
            device.free_disk(core);
            device.boot(core);
            device.start_agent(core);
        }
        core.queue.after(LOOK_EVERY, Event::Look);
    }

    fn look(&mut self) {
        let core = &mut self.core;
        self.site.reconcile(core);
        check::accounts(core, &self.site.store);
        match verdict::unfinished(core, &self.devices, &self.site) {
            None => {
                self.finished = true;
                self.nights.judge(core);
                offline::judge(core, &self.devices, &self.site.store);
                verdict::compare(core, &self.devices, &self.site);
            }
            Some(what) => {
                let since = core.now() - self.healed_at.unwrap_or(0);
                let most = match core.scenario.kind {
                    Kind::Upgrades => HEAL_MOST_LONG,
                    _ => HEAL_MOST,
                };
                if since > most {
                    core.violated("liveness", format!("{} h after healing, {what}", since / HOUR));
                    return;
                }
                for device in &mut self.devices {
                    device.restart_if_pending(core);
                }
                core.queue.after(LOOK_EVERY, Event::Look);
            }
        }
    }

    fn end(mut self, seed: u64, steps: u64) -> Ended {
        for device in &self.devices {
            if let Some(agent) = device.agent() {
                device.remember_branches(&mut self.core, agent);
            }
        }
        self.access_point.remember(&mut self.core);
        Ended {
            seed,
            violation: self.core.violation,
            steps,
            executions: self.core.truth.executions.len() as u64,
            seen: self.core.seen,
            record: self.core.record.text(),
        }
    }
}

fn rogue_row(rogue: &Rogue) -> DeviceRow {
    DeviceRow {
        device: SiteDevice {
            id: rogue.id,
            name: crate::scenario::known_name("rogue"),
            admission: Admission::Admitted,
            facts: Default::default(),
        },
        key: rogue.key.public(),
        version: 0,
        granted: Incarnation(2),
        newest: Incarnation(1),
    }
}

fn row(device: &Device) -> DeviceRow {
    DeviceRow {
        device: SiteDevice {
            id: device.id,
            name: device.name.clone(),
            admission: Admission::Admitted,
            facts: device.facts.clone(),
        },
        key: device.key.public(),
        version: 0,
        granted: Incarnation(2),
        newest: Incarnation(1),
    }
}
