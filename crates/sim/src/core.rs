//! What all nodes of a world share: time, chance, the record, the truth, the network.

use std::collections::BTreeSet;
use std::fmt;

use muster_model::clock::Wall;

use crate::dice::Dice;
use crate::event::{Answer, Call, Event};
use crate::plant::Plant;
use crate::queue::{Queue, Time};
use crate::record::Record;
use crate::scenario::Scenario;
use crate::sometimes::Seen;
use crate::truth::Truth;

/// Civil time at the beginning of a world: 2026-01-01T00:00:00Z, in milliseconds.
const BEGINNING: i64 = 1_767_225_600_000;

/// A place where processes run and disks stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    /// A device, by its number in the fleet.
    Device(usize),
    /// The access point.
    AccessPoint,
    /// The site.
    Site,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Device(index) => f.pad(&format!("device-{index}")),
            Node::AccessPoint => f.pad("access-point"),
            Node::Site => f.pad("site"),
        }
    }
}

/// How something ends out of the blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The process is killed; the machine and what was written stay.
    Kill,
    /// The machine loses its power, and with it what was not synced.
    PowerCut,
}

/// Where, around a durable write, a crash strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before anything is written.
    Before,
    /// Written, not synced.
    Unsynced,
    /// Synced, and nothing done about it yet.
    After,
}

/// An invariant that does not hold: the end of a world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant.
    pub invariant: &'static str,
    /// When, in milliseconds since the beginning.
    pub at: Time,
    /// What was found.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} ms: {}", self.invariant, self.at, self.found)
    }
}

/// What all nodes share.
pub(crate) struct Core {
    /// Time and what is to come.
    pub queue: Queue<Event>,
    /// Chance.
    pub dice: Dice,
    /// What happened, as text.
    pub record: Record,
    /// What the seed decided beforehand.
    pub scenario: Scenario,
    /// The planted bug.
    pub plant: Option<Plant>,
    /// Faults strike.
    pub chaos: bool,
    /// Nodes that are cut off from everybody.
    pub cut_off: BTreeSet<Node>,
    /// What really happened.
    pub truth: Truth,
    /// Rare branches that fired.
    pub seen: Seen,
    /// The first invariant found broken.
    pub violation: Option<Violation>,
    calls: u64,
}

impl Core {
    /// The world of `scenario` before anything happens.
    pub(crate) fn new(
        scenario: Scenario,
        dice: Dice,
        plant: Option<Plant>,
        keep_record: bool,
    ) -> Self {
        Self {
            queue: Queue::new(),
            dice,
            record: Record::new(keep_record),
            scenario,
            plant,
            chaos: true,
            cut_off: BTreeSet::new(),
            truth: Truth::default(),
            seen: Seen::default(),
            violation: None,
            calls: 0,
        }
    }

    /// Now.
    pub(crate) fn now(&self) -> Time {
        self.queue.now()
    }

    /// True civil time.
    pub(crate) fn wall(&self) -> Wall {
        self.wall_at(self.now())
    }

    /// True civil time at a moment of the world.
    pub(crate) fn wall_at(&self, time: Time) -> Wall {
        Wall(BEGINNING.saturating_add_unsigned(time))
    }

    /// Writes down what happened.
    pub(crate) fn note(&mut self, who: Node, what: fmt::Arguments<'_>) {
        self.record.note(self.queue.now(), &who, what);
    }

    /// Writes down that an invariant does not hold. The first one ends the world.
    pub(crate) fn violated(&mut self, invariant: &'static str, found: String) {
        let at = self.now();
        self.record.note(at, &"VIOLATION", format_args!("{invariant}: {found}"));
        self.violation.get_or_insert(Violation { invariant, at, found });
    }

    /// Whether `plant` is switched on.
    pub(crate) fn is_planted(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    /// Draws whether a crash strikes here.
    pub(crate) fn crash(&mut self) -> Option<Crash> {
        let faults = &self.scenario.faults;
        let (crash, power) = (faults.crash_per_mille, faults.power_cut_per_mille);
        if !self.chaos || !self.dice.per_mille(crash) {
            return None;
        }
        Some(if self.dice.per_mille(power) { Crash::PowerCut } else { Crash::Kill })
    }

    /// Draws whether a crash strikes around a durable write, and where.
    pub(crate) fn crash_at_write(&mut self) -> Option<(Crash, Moment)> {
        let crash = self.crash()?;
        let moments = [Moment::Before, Moment::Unsynced, Moment::After];
        self.dice.pick(&moments).map(|moment| (crash, *moment))
    }

    /// How long something takes that is mostly quick.
    pub(crate) fn slowly(&mut self) -> u64 {
        let most = self.scenario.faults.slowness_most;
        self.dice.spread(5, if self.chaos { most } else { 1_000 })
    }

    /// Draws whether something stands in the way just now.
    pub(crate) fn hindered(&mut self) -> bool {
        let rate = self.scenario.faults.hindrance_per_mille;
        self.chaos && self.dice.per_mille(rate)
    }

    /// A number for a call.
    pub(crate) fn next_call(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    /// Sends a call on its way.
    pub(crate) fn call(&mut self, from: Node, to: Node, call: Call) {
        self.travel(from, to, Event::CallArrives { at: to, call });
    }

    /// Sends the answer of `from` to whoever called.
    pub(crate) fn answer(&mut self, from: Node, call: &Call, answer: Answer) {
        let (to, process, id) = (call.from, call.process, call.id);
        let event = Event::AnswerArrives { from, to, process, call: id, answer: Box::new(answer) };
        self.travel(from, to, event);
    }

    /// Whether two nodes reach each other now.
    pub(crate) fn connected(&self, one: Node, other: Node) -> bool {
        !self.cut_off.contains(&one) && !self.cut_off.contains(&other)
    }

    fn travel(&mut self, from: Node, to: Node, event: Event) {
        let (drop, duplicate, most) = match self.chaos {
            true => {
                let faults = &self.scenario.faults;
                (faults.drop_per_mille, faults.duplicate_per_mille, faults.delay_most)
            }
            false => (0, 0, 20),
        };
        if !self.connected(from, to) || self.dice.per_mille(drop) {
            self.note(from, format_args!("lost on the way to {to}: {event}"));
            return;
        }
        let delay = self.dice.spread(2, most);
        if self.dice.per_mille(duplicate) {
            let later = self.dice.spread(2, most.max(10_000));
            self.queue.after(later, event.clone());
        }
        self.queue.after(delay, event);
    }
}
