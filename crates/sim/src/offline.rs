//! Sixty days without a site: the policy is all that there is, the outbox is small, and there is much to
//! tell. Afterwards every outcome is at the site, in order, with both clocks, and what had to give way is
//! counted to the message.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_agent_core::input::Input;
use muster_model::clock::Wall;
use muster_model::facts::Fact;
use muster_model::message::{Body, Message, Report, RunId};
use muster_model::package::{Achieves, AfterRunning, Program, Rerun};

use crate::core::{Core, Node};
use crate::device::Device;
use crate::dice::Dice;
use crate::event::Event;
use crate::kind::Kind;
use crate::queue::Time;
use crate::scenario::{Deed, HOUR, Software};
use crate::site::store::Store;
use crate::sometimes::Rare;
use crate::truth::Execution;

/// How long the administrator has to say what is to be done.
pub(crate) const CUT_OFF_AFTER: Time = 6 * HOUR;
/// When he says it: early enough that everybody hears.
const LAST_WORD_AT: Time = CUT_OFF_AFTER - HOUR;
/// Which software is the chore of each day, by its number in the scenario.
pub(crate) const CHORE: usize = 0;
/// What a fact says that changes all the time, and what a program prints, is this part of what an outbox may
/// hold: whatever its size, a device has at least twice as much to tell.
const SAID_PER_OUTBOX: usize = 400;
/// What an outbox may hold in most worlds. As many messages fill it as fill the large one: what is decided is
/// the same, and only bytes are spared.
const SMALL: usize = 60_000;
/// What it may hold in the others.
const LARGE: usize = 4 << 20;
/// How many in a thousand those are.
const LARGE_PER_MILLE: u32 = 125;
/// How often a rule falls due, in minutes: often enough that outcomes alone fill what the rest has left.
pub(crate) const RULE_MINUTES: [u64; 3] = [6 * 60, 12 * 60, 24 * 60];
/// How often it changes, on average.
const FACTS_EVERY: Time = 90 * 60 * 1_000;
/// What an outbox may hold beyond its limit: the outcome of the run that was under way.
const OUTCOME_BYTES: usize = 64 * 1_024;
/// How soon the outcome of an attempt is written: a killed agent is back by then, and detection has its answer.
const OUTCOME_WITHIN: Duration = Duration::from_secs(600);

/// What an outbox may hold.
pub(crate) fn outbox_bytes(dice: &mut Dice) -> usize {
    if dice.per_mille(LARGE_PER_MILLE) { LARGE } else { SMALL }
}

/// How much a fact or an output says in a world with outboxes of so many bytes.
pub(crate) fn said_at_once(outbox_bytes: usize) -> usize {
    outbox_bytes / SAID_PER_OUTBOX
}

/// Software whose program runs at each occurrence anew, on every device.
pub(crate) fn chore(dice: &mut Dice) -> Software {
    let mut chore = Software::draw(dice, CHORE as u64 + 1);
    chore.refused = None;
    chore.detection = None;
    chore.endings = vec![Deed::Works, Deed::Works, Deed::Fails];
    chore.program = Program {
        achieves: Achieves::Nothing,
        rerun: Rerun::Always,
        attempts: Some(2),
        max_run_time: chore.program.max_run_time,
        retry_delays: chore.program.retry_delays.clone(),
        ..Program::new(chore.program.name.clone(), vec!["chore".to_owned()])
    };
    chore
}

/// The site is gone for everybody, and every device has much to tell.
pub(crate) fn begin(core: &mut Core, devices: usize) {
    if core.scenario.kind != Kind::Offline {
        return;
    }
    core.queue.after(LAST_WORD_AT, Event::LastWord);
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
    core.scenario.kind != Kind::Offline || core.now() < LAST_WORD_AT
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
    let width = said_at_once(core.scenario.outbox_bytes);
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
        let messages: Vec<Message> = store
            .messages_of(stream.0, stream.1)
            .filter_map(|(_, stored)| serde_json::from_slice(&stored.bytes).ok())
            .collect();
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
        attempts_are_told(core, device, &messages);
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

/// Each attempt has a record of its own at the site, written when the attempt ended: an outcome neither gives
/// way nor waits until there is room.
fn attempts_are_told(core: &mut Core, device: &Device, messages: &[Message]) {
    if core.scenario.kind != Kind::Offline {
        return;
    }
    let ends_one =
        |report: &Report| report.attempt_ended.is_some() || report.state.word().is_terminal();
    let told: BTreeMap<RunId, Wall> = messages
        .iter()
        .filter_map(|message| match &message.body {
            Body::Obligation(report) if ends_one(report) => Some((report.run?, message.trusted)),
            _ => None,
        })
        .rev()
        .collect();
    let mut ended = core.truth.executions.iter().filter(|one| one.ended.is_some());
    let found = ended.find_map(|one| {
        let (ended, written) = (core.wall_at(one.at), told.get(&one.run).copied());
        let in_time =
            |written: Wall| written <= ended.plus(OUTCOME_WITHIN) || waits_for_restart(core, one);
        let is_told = one.device != device.index || written.is_some_and(in_time);
        (!is_told).then(|| {
            let (attempt, occurrence) = (one.attempt, &one.key.occurrence);
            let name = &device.name;
            format!("{name}: attempt {attempt} of {occurrence} ended at {ended}, told {written:?}")
        })
    });
    if let Some(found) = found {
        core.violated("each attempt is told as it ends", found);
    }
}

/// Whether the end of an attempt is judged only once the machine has restarted, which may take days.
fn waits_for_restart(core: &Core, execution: &Execution) -> bool {
    let manifest = execution.manifest;
    let software = core.scenario.software.iter().find(|one| one.package.manifest == manifest);
    software.is_some_and(|one| {
        one.program.after_running != AfterRunning::None || one.endings.contains(&Deed::WantsRestart)
    })
}
