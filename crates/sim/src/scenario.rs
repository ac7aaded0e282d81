//! What a seed decides before anything happens: how large the fleet is, what it is told to run, and
//! which faults it lives with. Each kind of fault is left out of many worlds, so that bugs which
//! another fault would hide still show.

use muster_model::advertisement::PackageRef;
use muster_model::digest::Digest;
use muster_model::name::Name;
use muster_model::package::{Achieves, AfterRunning, Detection, Program, RunWhen};
use muster_model::policy::PinnedPackage;
use muster_model::program::{Dependency, RunAs};
use muster_model::settings::Settings;
use muster_model::state::Rule;

use crate::dice::Dice;
use crate::kind::Kind;
use crate::offline;
use crate::queue::Time;
use crate::upgrades::{self, ReleaseDeed};

/// A second, in milliseconds.
pub(crate) const SECOND: u64 = 1_000;
/// A minute, in milliseconds.
pub(crate) const MINUTE: u64 = 60 * SECOND;
/// An hour, in milliseconds.
pub(crate) const HOUR: u64 = 60 * MINUTE;

/// How often each fault strikes. Rates are per thousand chances; pauses are mean milliseconds
/// between two strikes, 0 for never.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// A crash at a durable point or before an effect, anywhere.
    pub crash_per_mille: u32,
    /// Of those crashes, power cuts.
    pub power_cut_per_mille: u32,
    /// A message that does not arrive.
    pub drop_per_mille: u32,
    /// A message that arrives twice.
    pub duplicate_per_mille: u32,
    /// The longest way of a message.
    pub delay_most: u64,
    /// A slow supervisor, content or detection: up to this long.
    pub slowness_most: u64,
    /// A device or the access point is cut off.
    pub partition_every: u64,
    /// How long at most.
    pub partition_most: u64,
    /// A process or machine ends out of the blue.
    pub outage_every: u64,
    /// How long at most it stays away.
    pub outage_most: u64,
    /// A wall clock jumps.
    pub clock_jump_every: u64,
    /// The access point loses its disk.
    pub wipe_every: u64,
    /// A device loses its journal.
    pub memory_loss_every: u64,
    /// The site is restored from a backup.
    pub restore_every: u64,
    /// A rogue device sends something.
    pub mischief_every: u64,
    /// A supervisor is killed.
    pub supervisor_kill_every: u64,
    /// A device's disk is full.
    pub disk_full_every: u64,
    /// A virtual machine is copied to a snapshot, or put back to it.
    pub roll_back_every: u64,
    /// A device's disk is copied to a second machine.
    pub clone_every: u64,
    /// A device's facts change.
    pub facts_every: u64,
    /// Content cannot be fetched, a condition is not met.
    pub hindrance_per_mille: u32,
}

/// A package of the world: what its publisher says, and what its programs really do.
#[derive(Clone, Debug)]
pub(crate) struct Software {
    /// The package, pinned.
    pub package: PinnedPackage,
    /// Whether its content can be used.
    pub refused: Option<Rule>,
    /// The names of the packages that it replaces.
    pub supersedes: Vec<Name>,
    /// The program that is advertised.
    pub program: Program,
    /// The program that removes it again, in some worlds.
    pub uninstall: Option<Program>,
    /// Its detection.
    pub detection: Option<Detection>,
    /// Detection ends in an error this often.
    pub detection_error_per_mille: u32,
    /// How its runs end, one of these each.
    pub endings: Vec<Deed>,
    /// It is a release of the agent, which does this.
    pub release: Option<ReleaseDeed>,
}

/// What one execution of a program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Reaches its goal and exits 0.
    Works,
    /// Exits 3, goal not reached.
    Fails,
    /// Exits 3, goal reached all the same.
    FailsButWorks,
    /// Exits 0, goal not reached.
    Pretends,
    /// Never ends by itself.
    Hangs,
    /// Ends by signal 9.
    Crashes,
    /// Exits 102: reached once the machine has restarted.
    WantsRestart,
    /// Restarts the machine; its goal is no nearer.
    Restarts,
    /// Reaches its goal and restarts the machine.
    WorksAndRestarts,
    /// Finds the package manager's lock held, and has done nothing.
    FindsLockHeld,
    /// Cannot be executed.
    CannotStart,
}

/// Everything that a seed decides beforehand.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// What kind of world it is.
    pub kind: Kind,
    /// Devices.
    pub devices: usize,
    /// How long faults go on.
    pub chaos: Time,
    /// The faults.
    pub faults: Faults,
    /// Requests that go to the site itself instead of through the access point.
    pub direct_per_mille: u32,
    /// The access point's quota.
    pub spool_bytes: u64,
    /// What an outbox may hold.
    pub outbox_bytes: usize,
    /// How much a program prints at least.
    pub output_bytes: usize,
    /// Intervals.
    pub settings: Settings,
    /// What can be advertised.
    pub software: Vec<Software>,
    /// How often somebody at a device does something, on average.
    pub persons_every: u64,
    /// What the administrator does, on average this often.
    pub admin_every: u64,
    /// Collections are given windows and freezes, and some advertisements are emergencies.
    pub windows: bool,
    /// Several people log on to a device, and a program runs for each of them.
    pub for_each_user: bool,
}

impl Scenario {
    /// Draws a world of at most `devices_max` devices.
    pub(crate) fn draw(dice: &mut Dice, devices_max: usize, kind: Kind) -> Self {
        let devices = dice.between((devices_max as u64).div_ceil(2), devices_max as u64) as usize;
        let devices = match kind {
            // What nobody can reach needs no company, and has a lot to do in so long a time.
            Kind::Offline => devices.min(2),
            // Few, so that each is struck often.
            Kind::Losses => devices.min(3),
            _ => devices,
        };
        let (chaos, faults) = match kind {
            Kind::Chaos => {
                let chaos = dice.spread(HOUR / 2, 8 * HOUR);
                (chaos, Faults::draw(dice, chaos))
            }
            Kind::Nightly => (30 * 24 * HOUR, Faults::of_the_network(dice)),
            Kind::Losses => {
                let chaos = dice.spread(2 * HOUR, 8 * HOUR);
                (chaos, Faults::of_memory(dice, chaos))
            }
            Kind::Upgrades => (12 * HOUR, upgrades::faults(dice)),
            Kind::Offline => (60 * 24 * HOUR, Faults::of_the_network(dice)),
        };
        let mut settings = settings(dice);
        if kind == Kind::Upgrades {
            upgrades::settings(dice, &mut settings);
        }
        let outbox_bytes = match kind {
            Kind::Offline => offline::outbox_bytes(dice),
            // In some worlds it is often half full.
            _ if devices.is_multiple_of(7) => 8_000,
            _ => 64 << 20,
        };
        // What takes hours in a short world takes days in a long one.
        let busy = chaos.min(4 * 24 * HOUR);
        let mut scenario = Self {
            kind,
            devices,
            chaos,
            faults,
            direct_per_mille: *dice.pick(&[0, 200, 1_000]).unwrap_or(&0),
            spool_bytes: if dice.per_mille(300) { 4_000 } else { 1 << 30 },
            outbox_bytes,
            output_bytes: if kind == Kind::Offline {
                offline::said_at_once(outbox_bytes)
            } else {
                0
            },
            settings,
            software: match kind {
                Kind::Upgrades => upgrades::software(dice),
                _ => (1..=dice.between(2, 5)).map(|n| Software::draw(dice, n)).collect(),
            },
            persons_every: busy / dice.between(2, 12),
            admin_every: busy / dice.between(10, 40),
            windows: dice.per_mille(400),
            for_each_user: false,
        };
        if kind == Kind::Offline {
            scenario.software[offline::CHORE] = offline::chore(dice);
            // All is said in the first hours; then each try to reach the site is one of thousands.
            scenario.admin_every = 12 * MINUTE;
            set(&mut scenario.settings, "pollWait", 15 * MINUTE);
            set(&mut scenario.settings, "backoffMost", 15 * MINUTE);
            set(&mut scenario.settings, "verifyEvery", HOUR);
        }
        // In some worlds a machine that has just started is left alone.
        if devices.is_multiple_of(3) {
            set(&mut scenario.settings, "bootGrace", 2 * MINUTE);
        }
        // In some worlds the newest replaces the oldest.
        if kind != Kind::Upgrades
            && devices.is_multiple_of(4)
            && let Some(newest) = scenario.software.last_mut()
        {
            newest.supersedes = vec![known_name("software-1")];
        }
        // In some worlds several people log on, and one program runs for each of them.
        if kind == Kind::Chaos && devices % 5 == 1 {
            scenario.for_each_user = true;
            if let Some(one) = scenario.software.get_mut(1) {
                one.run_for_each_user();
            }
        }
        // In some the software is removed where it is no longer advertised.
        if devices % 4 == 1 {
            scenario.software.iter_mut().for_each(Software::can_be_removed);
        }
        scenario
    }
}

impl Scenario {
    /// What the longest program and its grace take of a window.
    pub(crate) fn room(&self) -> Time {
        if self.kind == Kind::Upgrades { upgrades::ROOM } else { 35 * MINUTE }
    }
}

impl Faults {
    /// Messages that are lost, doubled and late, and nothing else.
    pub(crate) fn of_the_network(dice: &mut Dice) -> Self {
        Self {
            crash_per_mille: 0,
            power_cut_per_mille: 0,
            drop_per_mille: *dice.pick(&[0, 20]).unwrap_or(&0),
            duplicate_per_mille: 20,
            delay_most: *dice.pick(&[50, 2 * SECOND]).unwrap_or(&50),
            slowness_most: SECOND,
            partition_every: 0,
            partition_most: 0,
            outage_every: 0,
            outage_most: MINUTE,
            clock_jump_every: 0,
            wipe_every: 0,
            memory_loss_every: 0,
            restore_every: 0,
            mischief_every: 0,
            supervisor_kill_every: 0,
            disk_full_every: 0,
            roll_back_every: 0,
            clone_every: 0,
            facts_every: 0,
            hindrance_per_mille: 0,
        }
    }

    /// Memories that are lost and put back, and what keeps the site from hearing of it in time.
    fn of_memory(dice: &mut Dice, chaos: u64) -> Self {
        let mut some = |times: u64| if dice.per_mille(400) { chaos / times } else { 0 };
        let (restore_every, clone_every) = (some(2), some(4));
        let (outage_every, supervisor_kill_every) = (some(12), some(6));
        Self {
            crash_per_mille: *dice.pick(&[0, 2, 5]).unwrap_or(&0),
            power_cut_per_mille: *dice.pick(&[0, 200, 600]).unwrap_or(&0),
            slowness_most: *dice.pick(&[SECOND, 2 * MINUTE]).unwrap_or(&SECOND),
            partition_every: chaos / 6,
            partition_most: *dice.pick(&[5 * MINUTE, chaos / 4]).unwrap_or(&chaos),
            outage_every,
            memory_loss_every: chaos / dice.between(1, 6),
            roll_back_every: chaos / dice.between(4, 16),
            restore_every,
            clone_every,
            supervisor_kill_every,
            facts_every: chaos / 4,
            ..Self::of_the_network(dice)
        }
    }

    fn draw(dice: &mut Dice, chaos: u64) -> Self {
        // Each kind is there in two worlds of three, a few times per world.
        let every = |dice: &mut Dice, most: u64| match dice.per_mille(650) {
            true => chaos / dice.between(1, most),
            false => 0,
        };
        Self {
            crash_per_mille: *dice.pick(&[0, 2, 5, 15, 40]).unwrap_or(&0),
            power_cut_per_mille: *dice.pick(&[0, 200, 600]).unwrap_or(&0),
            drop_per_mille: *dice.pick(&[0, 20, 150]).unwrap_or(&0),
            duplicate_per_mille: *dice.pick(&[0, 50, 200]).unwrap_or(&0),
            delay_most: *dice.pick(&[50, 2 * SECOND, 40 * SECOND]).unwrap_or(&50),
            slowness_most: *dice.pick(&[SECOND, 2 * MINUTE]).unwrap_or(&SECOND),
            partition_every: every(dice, 12),
            partition_most: *dice.pick(&[5 * MINUTE, chaos]).unwrap_or(&chaos),
            outage_every: every(dice, 16),
            outage_most: *dice.pick(&[30 * SECOND, chaos / 2]).unwrap_or(&chaos),
            clock_jump_every: every(dice, 6),
            wipe_every: every(dice, 4),
            memory_loss_every: if dice.per_mille(400) { chaos / 2 } else { 0 },
            restore_every: if dice.per_mille(250) { chaos / 2 } else { 0 },
            mischief_every: if dice.per_mille(300) { chaos / 20 } else { 0 },
            supervisor_kill_every: every(dice, 6),
            disk_full_every: if dice.per_mille(300) { chaos / 3 } else { 0 },
            roll_back_every: if dice.per_mille(150) { chaos / 3 } else { 0 },
            clone_every: if dice.per_mille(150) { chaos / 2 } else { 0 },
            facts_every: every(dice, 8),
            hindrance_per_mille: *dice.pick(&[0, 100, 400]).unwrap_or(&0),
        }
    }
}

/// A name or value out of range leaves the default, which is as good a world.
fn set(settings: &mut Settings, name: &str, period: u64) {
    let _ = settings.set(name, muster_model::period::Period::millis(period));
}

/// Intervals: long polls keep a world small, short ones keep it busy.
fn settings(dice: &mut Dice) -> Settings {
    let mut settings = Settings::default();
    let mut draw = |name: &str, choices: &[u64]| {
        set(&mut settings, name, dice.pick(choices).copied().unwrap_or(MINUTE));
    };
    draw("pollWait", &[2 * MINUTE, 15 * MINUTE]);
    draw("backoffMost", &[2 * MINUTE, 15 * MINUTE]);
    draw("conditionEvery", &[30 * SECOND, 10 * MINUTE]);
    draw("contentRetryMost", &[MINUTE, 15 * MINUTE]);
    draw("keepRelieved", &[HOUR, 35 * 24 * HOUR]);
    draw("progressEvery", &[10 * SECOND]);
    draw("verifyEvery", &[MINUTE, HOUR, 30 * 24 * HOUR]);
    settings
}

impl Software {
    pub(crate) fn draw(dice: &mut Dice, n: u64) -> Self {
        let name = format!("software-{n}");
        let detection = dice.per_mille(600).then(|| detection_of(&name));
        let mut program = program(dice, detection.is_some());
        if n > 1 && dice.per_mille(250) {
            program.depends_on = Some(dependency(dice.between(1, n - 1)));
        }
        if dice.per_mille(150) {
            program.requirements = "device.ring == 1".to_owned();
        }
        let refused = match dice.below(20) {
            0 => Some(Rule::ContentRefused),
            1 => Some(Rule::PublisherRefused),
            _ => None,
        };
        Self {
            package: PinnedPackage {
                manifest: Digest::of(name.as_bytes()),
                version: "1".to_owned(),
                name: known_name(&name),
                signatures: Vec::new(),
            },
            refused,
            supersedes: Vec::new(),
            uninstall: None,
            endings: endings(dice, &program),
            release: None,
            program,
            detection,
            detection_error_per_mille: if dice.per_mille(150) { 300 } else { 0 },
        }
    }

    /// Makes its program one that runs for each user, and takes off what contradicts that.
    fn run_for_each_user(&mut self) {
        self.program.run_as = Some(RunAs::EachUser);
        self.program.after_running = AfterRunning::None;
        self.program.restart_codes.clear();
        if self.program.run_when == RunWhen::NobodyLoggedOn {
            self.program.run_when = RunWhen::Any;
        }
        if self.detection.is_some() {
            self.program.achieves = Achieves::Nothing;
        }
        let restarts = [Deed::WantsRestart, Deed::Restarts, Deed::WorksAndRestarts];
        self.endings.retain(|deed| !restarts.contains(deed));
        self.endings.push(Deed::Works);
    }

    /// Whether the goal of the advertised program is that the software is there.
    pub(crate) fn wants_present(&self) -> bool {
        self.program.achieves != Achieves::Absent
    }

    /// Gives what installs something a program that removes it. A release of the agent has none.
    fn can_be_removed(&mut self) {
        if self.program.achieves == Achieves::Present && self.release.is_none() {
            self.uninstall = Some(Program {
                achieves: Achieves::Absent,
                rerun: self.program.rerun,
                attempts: self.program.attempts,
                max_run_time: self.program.max_run_time,
                retry_delays: self.program.retry_delays.clone(),
                ..Program::new(known_name("uninstall"), vec!["uninstall".to_owned()])
            });
        }
    }

    /// Its programs.
    pub(crate) fn programs(&self) -> Vec<Program> {
        [self.program.clone()].into_iter().chain(self.uninstall.clone()).collect()
    }
}

/// A name that is known to be one.
///
/// # Panics
/// If it is none: a mistake in this crate.
#[expect(clippy::expect_used, reason = "the simulator's own names; a wrong one must stop it")]
pub(crate) fn known_name(text: &str) -> Name {
    Name::new(text).expect("the simulator makes valid names")
}

/// The program of the software with that number, which must succeed before another one.
fn dependency(n: u64) -> Dependency {
    let name = known_name(&format!("software-{n}"));
    let package = PackageRef { name, version: Some("1".to_owned()) };
    Dependency { package, program: known_name("install") }
}

#[expect(clippy::expect_used, reason = "the simulator's own documents; a wrong one must stop it")]
fn detection_of(name: &str) -> Detection {
    let document = serde_json::json!({"command": ["detect", name]});
    serde_json::from_value(document).expect("the simulator writes valid detections")
}

#[expect(clippy::expect_used, reason = "the simulator's own documents; a wrong one must stop it")]
fn program(dice: &mut Dice, detected: bool) -> Program {
    let mut pick = |choices: &[&str]| (*dice.pick(choices).unwrap_or(&"")).to_owned();
    let rerun = pick(&["never", "if-not-detected", "if-not-detected", "always"]);
    let achieves = match detected {
        true => pick(&["present", "present", "present", "absent", "nothing"]),
        false => "present".to_owned(),
    };
    let after = pick(&["none", "none", "none", "agent-restarts", "program-restarts"]);
    let mut document = serde_json::json!({
        "name": "install", "command": ["install"], "rerun": rerun, "achieves": achieves,
        "afterRunning": after, "restartCodes": [102],
        "maxRunTime": format!("{}s", dice.spread(10, 1_800)),
        "retryDelays": [format!("{}s", dice.spread(1, 600))],
    });
    if rerun != "never" && !(achieves == "nothing" && rerun == "if-not-detected") {
        document["attempts"] = dice.between(1, 4).into();
    }
    if dice.per_mille(250) {
        document["packageManager"] = "dpkg".into();
    }
    if dice.per_mille(200) {
        let run_when = ["nobody-logged-on", "user-logged-on"];
        document["runWhen"] = (*dice.pick(&run_when).unwrap_or(&"any")).into();
    } else if dice.per_mille(200) {
        let countdown = dice.between(1, 30);
        let put_off = countdown + dice.below(120);
        document["notice"] = serde_json::json!({
            "countdown": format!("{countdown}m"), "deferUntil": format!("{put_off}m"),
        });
    }
    if dice.per_mille(60) {
        document["platform"] = "windows".into();
    }
    serde_json::from_value(document).expect("the simulator writes valid programs")
}

/// Mostly what works, with one or two other endings.
fn endings(dice: &mut Dice, program: &Program) -> Vec<Deed> {
    const OTHERS: [Deed; 6] = [
        Deed::Fails,
        Deed::FailsButWorks,
        Deed::Pretends,
        Deed::Hangs,
        Deed::Crashes,
        Deed::CannotStart,
    ];
    let mut endings = vec![Deed::Works; dice.between(0, 3) as usize];
    for _ in 0..=dice.below(2) {
        endings.extend(dice.pick(&OTHERS));
    }
    if program.package_manager.is_some() && dice.per_mille(500) {
        endings.push(Deed::FindsLockHeld);
    }
    if program.after_running == AfterRunning::ProgramRestarts {
        endings.push(Deed::WorksAndRestarts);
        if dice.per_mille(300) {
            endings = vec![Deed::Restarts];
        }
    }
    if !program.restart_codes.is_empty() && dice.per_mille(200) {
        endings.push(Deed::WantsRestart);
    }
    endings
}
