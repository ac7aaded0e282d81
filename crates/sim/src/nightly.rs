//! Thirty nights: everybody switches on once a day for twenty minutes, and the network is dead for the
//! first two of them. Every outcome must be at the site within two days, half of them within one. Days
//! are counted, not boots: a program may restart its machine three times in a row, with a dead network
//! each time.

use std::collections::BTreeMap;

use muster_model::id::{DeviceId, Incarnation, Sequence};
use muster_model::message::{Body, Message};

use crate::core::{Core, Node};
use crate::device::Device;
use crate::event::{Event, Strike};
use crate::kind::Kind;
use crate::queue::Time;
use crate::scenario::{HOUR, MINUTE};
use crate::site::store::Store;

/// How long a device is switched on each day.
pub(crate) const UPTIME: Time = 20 * MINUTE;
/// How long the network is dead after each boot.
const DEAD: Time = 2 * MINUTE;
/// Days after the one on which an outcome was written, until the site must have it.
const DAYS_MOST: u64 = 2;

/// How many days outcomes took to reach the site.
#[derive(Default)]
pub(crate) struct Nights {
    /// How often each device was switched on.
    mornings: BTreeMap<usize, u64>,
    /// The day on which each outcome was written that the site does not have yet.
    written: BTreeMap<(DeviceId, Incarnation, Sequence), u64>,
    /// Days that outcomes took, each of them.
    days: Vec<u64>,
}

impl Nights {
    /// Notes what is new on a device, and what has reached the site.
    pub(crate) fn observe(&mut self, core: &mut Core, device: &Device, store: &Store) {
        if core.scenario.kind != Kind::Nightly {
            return;
        }
        let (id, incarnation) = (device.id, device.incarnation);
        let today = self.mornings.get(&device.index).copied().unwrap_or_default();
        let through = store.through(id, incarnation);
        for (sequence, kept) in device.journal.durable().messages.range(through.next()..) {
            if is_outcome(&kept.bytes) {
                self.written.entry((id, incarnation, *sequence)).or_insert(today);
            }
        }
        let mine = (id, incarnation, Sequence(0))..=(id, incarnation, through);
        let arrived: Vec<_> = self.written.range(mine).map(|(key, day)| (*key, *day)).collect();
        for (key, day) in arrived {
            self.written.remove(&key);
            self.days.push(today - day);
        }
        let mut waiting = self.written.iter().filter(|((of, _, _), _)| *of == id);
        if let Some(((_, _, sequence), day)) = waiting.find(|(_, day)| today - **day > DAYS_MOST) {
            let name = &device.name;
            let found = format!(
                "{name}: message {sequence} of day {day} is not at the site on day {today}"
            );
            core.violated("an outcome arrives within two days", found);
        }
    }

    /// A device is switched on for the day.
    pub(crate) fn morning(&mut self, device: &Device) {
        *self.mornings.entry(device.index).or_default() += 1;
    }

    /// Half of the outcomes arrived within one day.
    pub(crate) fn judge(&mut self, core: &mut Core) {
        self.days.sort_unstable();
        if let Some(median) = self.days.get(self.days.len() / 2).filter(|median| **median > 1) {
            let found = format!("{median} days, of {} outcomes", self.days.len());
            core.violated("the median outcome arrives within one day", found);
        }
    }
}

/// Whether a message tells the end of an obligation or of an attempt.
pub(crate) fn is_outcome(bytes: &[u8]) -> bool {
    let Ok(message) = serde_json::from_slice::<Message>(bytes) else { return false };
    match message.body {
        Body::Obligation(report) => {
            report.attempt_ended.is_some() || report.state.word().is_terminal()
        }
        _ => false,
    }
}

/// Somebody switches the machine on, and its network is dead.
pub(crate) fn morning(core: &mut Core, device: &mut Device) {
    let index = device.index;
    if core.chaos {
        let tomorrow = 24 * HOUR - UPTIME + core.dice.below(2 * UPTIME);
        core.queue.after(tomorrow, Event::Morning { device: index });
        core.queue.after(UPTIME, Event::Evening { device: index });
    }
    device.boot(core);
}

/// The network of a device that has booted comes up later.
pub(crate) fn booted(core: &mut Core, device: usize) {
    if core.scenario.kind != Kind::Nightly || !core.chaos {
        return;
    }
    let node = Node::Device(device);
    core.cut_off.insert(node);
    core.queue.after(DEAD, Event::Strike(Strike::Reconnect(node)));
}

/// Somebody switches the machine off.
pub(crate) fn evening(core: &mut Core, device: &mut Device) {
    if core.chaos {
        device.switch_off(core);
    }
}
