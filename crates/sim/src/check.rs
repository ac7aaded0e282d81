//! The invariants of the accounting, checked after every step of a world.
//!
//! Nothing here uses what it checks: counts are counted anew, targets are remembered from the side,
//! chains are compared with what was durable on the device that wrote them.

use std::collections::{BTreeMap, BTreeSet};

use muster_model::id::{DeviceId, Sequence};
use muster_model::state::{Author, State, Withdrawal, Word};
use muster_site_core::ingest::Taken;
use muster_site_core::obligation::ObligationRow;

use crate::core::Core;
use crate::device::Device;
use crate::site::store::Store;

/// A batch is about to be committed to `store`.
pub(crate) fn committed(core: &mut Core, store: &Store, taken: &Taken) {
    let stream = (taken.stream.device, taken.stream.incarnation);
    let before = store.through(stream.0, stream.1);
    let named = taken.gap.map_or(0, |gap| gap.last.0 - gap.first.0 + 1);
    let kept = taken.accepted.len() as u64 + taken.set_aside.len() as u64 + named;
    if taken.stream.through.0 != before.0 + kept {
        let found = format!(
            "{}/{}: from {before} to {} with {kept} messages",
            stream.0, stream.1, taken.stream.through
        );
        core.violated("contiguity", found);
    }
    for accepted in &taken.accepted {
        let written = core.truth.was_written(stream, accepted.sequence, accepted.chain);
        if core.truth.is_honest(stream.0) && !written {
            let found = format!(
                "{}/{} message {} was never written",
                stream.0, stream.1, accepted.sequence
            );
            core.violated("no phantom", found);
        }
        if store.messages.contains_key(&(stream.0, stream.1, accepted.sequence)) {
            let found =
                format!("{}/{} message {} is stored twice", stream.0, stream.1, accepted.sequence);
            core.violated("idempotency", found);
        }
    }
    for row in &taken.obligations {
        monotone(core, store.rows.get(&row.key), row);
    }
    one_history(core, store, taken);
    let ever = core.truth.ever_taken.entry(stream).or_default();
    *ever = (*ever).max(taken.stream.through);
}

/// What is taken follows, by its chain, what was taken before: of two histories one at most is taken.
fn one_history(core: &mut Core, store: &Store, taken: &Taken) {
    let stream = (taken.stream.device, taken.stream.incarnation);
    let Some(row) = store.streams.get(&stream).filter(|_| taken.gap.is_none()) else { return };
    let accepted = taken.accepted.iter().map(|one| (one.sequence, &one.bytes, one.chain));
    let aside = taken.set_aside.iter().map(|one| (one.place.sequence, &one.bytes, one.chain));
    let first = accepted.chain(aside).min_by_key(|(sequence, _, _)| *sequence);
    let Some((sequence, bytes, said)) = first else { return };
    if muster_model::wire::batch::chain(row.head, bytes) != said {
        let found = format!("{}/{}: {sequence} follows another past", stream.0, stream.1);
        core.violated("one history for each stream", found);
    }
}

/// The site has decided something: `new` is about to replace `old`.
pub(crate) fn decided(core: &mut Core, old: &Store, new: &Store) {
    for (key, row) in &new.rows {
        if old.rows.get(key) != Some(row) {
            monotone(core, old.rows.get(key), row);
        }
    }
    for key in old.rows.keys().filter(|key| !new.rows.contains_key(key)) {
        core.violated("existence", format!("{} {} lost its row", key.device, key.occurrence));
    }
}

/// What a device ended stays ended.
fn monotone(core: &mut Core, old: Option<&ObligationRow>, new: &ObligationRow) {
    let Some(old) = old else { return };
    let left = State::Withdrawn { why: Withdrawal::LeftCollection };
    let ended =
        old.decided == Author::Device && old.state.word().is_terminal() && old.state != left;
    let undone = new.state.word() == Word::RolledBack;
    if ended && !undone && old.state != new.state {
        let found = format!(
            "{} {}: {} became {}",
            new.key.device, new.key.occurrence, old.state, new.state
        );
        core.violated("monotonicity", found);
    }
}

/// The counters that a batch moved, against rows counted anew.
pub(crate) fn sums_of(core: &mut Core, store: &Store, taken: &Taken) {
    let moved: BTreeSet<_> =
        taken.deltas.iter().map(|delta| (delta.advertisement, delta.occurrence.clone())).collect();
    for (advertisement, occurrence) in moved {
        let counted = store.counted(advertisement, &occurrence);
        let counters = store.counters.get(&(advertisement, occurrence.clone()));
        if counters.map(|counters| &counters.0) != Some(&counted) {
            let found = format!("{advertisement} {occurrence}: {counters:?} against {counted:?}");
            core.violated("conservation", found);
        }
    }
}

/// Every account of the site, after a transaction that may have changed who is meant.
pub(crate) fn accounts(core: &mut Core, store: &Store) {
    core.truth.remember_meant(store);
    for row in store.occurrences() {
        let which = (row.advertisement, row.occurrence.clone());
        let meant = core.truth.meant.get(&which).cloned().unwrap_or_default();
        let with_row: BTreeSet<DeviceId> =
            store.rows_of(which.0, &which.1).map(|row| row.key.device).collect();
        let mut targeted = muster_site_core::occurrence::targeted(row, &store.intervals);
        targeted.extend(&with_row);
        if targeted != meant {
            let found =
                format!("{}: {} are targeted, {} were meant", which.1, targeted.len(), meant.len());
            core.violated("existence", found);
        }
        let counters = store.counters.get(&which).cloned().unwrap_or_default();
        if counters.0 != store.counted(which.0, &which.1) {
            core.violated("conservation", format!("{}: counters and rows differ", which.1));
        }
        let sums = muster_site_core::accounting::summary(
            meant.len() as u64,
            0,
            &counters,
            Default::default(),
        );
        let sum = sums.as_ref().map(|one| one.states.values().sum::<u64>());
        if sum != Ok(meant.len() as u64) {
            let found =
                format!("{}: {} were meant, the states sum to {sum:?}", which.1, meant.len());
            core.violated("conservation", found);
        }
    }
}

/// Every message that the site does not have is durable on its device, and nothing relieves a device
/// but the site.
pub(crate) fn custody(core: &mut Core, device: &Device, store: &Store) {
    let durable = device.journal.durable();
    let Some(memory) = &durable.memory else { return };
    if memory.incarnation != device.incarnation || core.truth.copied.contains(&device.id) {
        return;
    }
    let stream = (device.id, device.incarnation);
    let through = store.through(stream.0, stream.1);
    let ever = core.truth.ever_taken.get(&stream).copied().unwrap_or_default();
    if memory.relieved > ever {
        let found =
            format!("{}: relieved through {}, the site has {ever}", device.name, memory.relieved);
        core.violated("only the site relieves", found);
    }
    let needed = if core.truth.restored { ever } else { through };
    if memory.head <= needed {
        return;
    }
    if holds_all(&durable.messages, needed.next(), memory.head) {
        return;
    }
    let mut expected = needed;
    for sequence in durable.messages.range(needed.next()..=memory.head).map(|(s, _)| *s) {
        expected = expected.next();
        if sequence != expected {
            break;
        }
    }
    if expected != memory.head {
        let missing = Sequence(expected.0 + 1);
        let found =
            format!("{}: message {missing} is neither at the site nor on the device", device.name);
        core.violated("custody", found);
    }
}

/// Whether no place from `first` to `last` is missing: told from the ends and the number of all that there
/// are, as long as there is no hole anywhere.
fn holds_all<T>(messages: &BTreeMap<Sequence, T>, first: Sequence, last: Sequence) -> bool {
    let ends = messages.first_key_value().zip(messages.last_key_value());
    ends.is_some_and(|((least, _), (most, _))| {
        let without_hole = most.0 - least.0 + 1 == messages.len() as u64;
        without_hole && *least <= first && *most >= last
    })
}
