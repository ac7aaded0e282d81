//! Sixty days without a site: the policy is all that there is, the outbox is small, and there is much to
//! tell. Afterwards every outcome is at the site, in order, with both clocks, and what had to give way is
//! counted to the message.

use muster_agent_core::input::Input;
use muster_model::facts::Fact;
use muster_model::message::{Body, Message};

use crate::core::{Core, Node};
use crate::device::Device;
use crate::event::Event;
use crate::kind::Kind;
use crate::queue::Time;
use crate::scenario::HOUR;
use crate::site::store::Store;
use crate::sometimes::Rare;

/// How long the administrator has to say what is to be done.
pub(crate) const CUT_OFF_AFTER: Time = 6 * HOUR;
/// A fact that changes all the time is this part of what an outbox may hold: with it a device has at least
/// twice as much to tell.
const FACTS_PER_OUTBOX: usize = 400;
/// How often it changes, on average.
const FACTS_EVERY: Time = 90 * 60 * 1_000;
/// What an outbox may hold beyond its limit: the outcome of the run that was under way.
const OUTCOME_BYTES: usize = 64 * 1_024;

/// The site is gone for everybody, and every device has much to tell.
pub(crate) fn begin(core: &mut Core, devices: usize) {
    if core.scenario.kind != Kind::Offline {
        return;
    }
    core.queue.after(CUT_OFF_AFTER, Event::SiteGone);
    for device in 0..devices {
        core.queue.after(CUT_OFF_AFTER, Event::Facts { device });
    }
}

/// Nobody reaches the site any more.
pub(crate) fn site_gone(core: &mut Core) {
    core.note(Node::Site, format_args!("is gone for sixty days"));
    core.cut_off.insert(Node::Site);
}

/// Whether the administrator is still heard.
pub(crate) fn is_administered(core: &Core) -> bool {
    core.scenario.kind != Kind::Offline || core.now() < CUT_OFF_AFTER
}

/// A fact of the device changes; now and then its agent is restarted.
pub(crate) fn facts(core: &mut Core, device: &mut Device) {
    if !core.chaos {
        return;
    }
    let delay = core.dice.between(1, 2 * FACTS_EVERY);
    core.queue.after(delay, Event::Facts { device: device.index });
    if core.dice.per_mille(20) {
        return device.kill_agent(core);
    }
    bounded(core, device);
    let width = core.scenario.outbox_bytes / FACTS_PER_OUTBOX;
    let text = Fact::Text(format!("{:0width$}", core.now()));
    device.facts.extra = [("load".to_owned(), text)].into();
    let facts = device.facts.clone();
    if let Some(number) = device.process_number() {
        let stream = (device.id, device.incarnation);
        *core.truth.facts_changed.entry(stream).or_default() += 1;
        device.tell(core, number, Input::FactsChanged(facts));
    }
}

/// The outbox keeps to its limit.
fn bounded(core: &mut Core, device: &Device) {
    let durable = device.journal.durable();
    let Some(memory) = durable.memory.as_ref() else { return };
    let waiting = durable.messages.range(memory.relieved.next()..);
    let bytes: usize = waiting.map(|(_, kept)| kept.bytes.len()).sum();
    if bytes > core.scenario.outbox_bytes + OUTCOME_BYTES {
        let found = format!("{}: {bytes} bytes wait in its outbox", device.name);
        core.violated("the outbox is bounded", found);
    }
}

/// What gave way is what the tombstones at the site say, and each stream tells time as it went by: by the
/// boot clock within a boot, by trusted time throughout.
pub(crate) fn judge(core: &mut Core, devices: &[Device], store: &Store) {
    for device in devices {
        if core.truth.copied.contains(&device.id) {
            continue;
        }
        let Some(memory) = &device.journal.durable().memory else { continue };
        // The site takes nothing more from a device that it retired.
        if memory.relieved < memory.head {
            continue;
        }
        let stream = (device.id, memory.incarnation);
        let messages = store.messages.iter().filter(|((id, life, _), _)| (*id, *life) == stream);
        let messages: Vec<Message> =
            messages.filter_map(|(_, stored)| serde_json::from_slice(&stored.bytes).ok()).collect();
        let told: u64 = messages
            .iter()
            .map(|message| match message.body {
                Body::Dropped { count } => count,
                _ => 0,
            })
            .sum();
        let facts = messages.iter().filter(|one| matches!(one.body, Body::FactsChanged { .. }));
        let due = core.truth.facts_changed.get(&stream).copied().unwrap_or_default();
        let gave_way = memory.gave_way.dropped;
        // A restored site may have lost messages for good.
        if (told != gave_way || told + (facts.count() as u64) < due) && !core.truth.restored {
            let name = &device.name;
            let found = format!("{name}: {gave_way} gave way, {told} are told, of {due} at least");
            core.violated("tombstones count what gave way", found);
        }
        if gave_way > 0 {
            core.seen.world(Rare::GaveWay);
        }
        let disorder = messages.windows(2).find(|pair| {
            let [one, next] = pair else { return false };
            one.boot == next.boot && one.elapsed > next.elapsed
        });
        if let Some([one, _]) = disorder {
            let found = format!("{}: message {} is of later", device.name, one.sequence);
            core.violated("outcomes arrive in order", found);
        }
    }
}
