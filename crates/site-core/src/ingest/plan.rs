//! The decision itself: compare histories, then take message by message.

use std::collections::BTreeMap;

use muster_model::digest::Digest;
use muster_model::id::Sequence;
use muster_model::message::{Body, Message};
use muster_model::state::{Verdict, Word};

use super::reading::{ReadMessage, Reading, Unfit, key_of, read_message};
use super::{Accepted, Fork, Gap, Ingest, Lookups, SetAside, StreamRow, Taken};
use crate::branch::{Branch, Fired};
use crate::obligation::{Applied, Key, ObligationRow, Place, Said, deltas_between};
use crate::put_back::{Suspicion, is_written_since};

/// Decides what becomes of a batch. `stream` is the row of its stream, or [`StreamRow::new`].
pub fn plan(stream: &StreamRow, reading: Reading, lookups: Lookups) -> Ingest {
    let header = &reading.header;
    let lives = &lookups.lives;
    let is_claims = lives.is_claims(header.incarnation);
    if header.incarnation > lookups.granted
        || header.incarnation.0 == 0
        || lives.is_refused(header.incarnation)
        || is_claims && lives.is_copied()
    {
        let (said, granted) = (header.incarnation, lookups.granted);
        return Ingest::UnknownIncarnation { said, granted };
    }
    if is_claims {
        return Ingest::Watched;
    }
    // A device holds what it sends, whatever its header says.
    let kept_from = header.kept_from.min(header.first);
    let next = stream.through.next();
    let gap = match header.first {
        first if first <= next => None,
        first if first == kept_from => Some(Gap { first: next, last: Sequence(first.0 - 1) }),
        #[cfg(feature = "planted")]
        _ if lookups.planted.holes_taken => None,
        _ => return Ingest::Behind { through: stream.through },
    };
    #[cfg(feature = "planted")]
    if lookups.planted.forks_unseen {
        return Ingest::Taken(Box::new(Taking::new(stream, lookups, gap).take(reading)));
    }
    if gap.is_none()
        && let Some(fork) = forked(stream, &reading, lookups.chain_at_last)
            .or_else(|| outlived(stream, &reading, &lookups))
    {
        let stream = Box::new(StreamRow { fork: Some(fork), ..stream.clone() });
        return Ingest::Forked { stream };
    }
    Ingest::Taken(Box::new(Taking::new(stream, lookups, gap).take(reading)))
}

/// Takes a set-aside message once more: a newer version may read it, or the occurrence that it speaks
/// of may exist by now. The stream does not move. What it says counts only as far as something that
/// old still can; facts do not, because newer ones were sent since.
pub fn retry(stream: &StreamRow, item: SetAside, lookups: Lookups) -> Taken {
    let SetAside { sender, place, chain, bytes, .. } = item;
    let read = read_message(&bytes, sender, place);
    let mut taking = Taking::new(stream, lookups, None);
    taking.take_one(ReadMessage { sequence: place.sequence, chain, bytes, read });
    Taken { facts: None, ..taking.finish() }
}

/// Compares the batch's history with ours at the newest place that both know.
fn forked(stream: &StreamRow, reading: &Reading, chain_at_last: Option<Digest>) -> Option<Fork> {
    let last = reading.header.last;
    let (at, ours) = match stream.through {
        through if through <= last => (through, stream.head),
        // Wholly old: comparable only if the message at its end is still stored. If it is not,
        // nothing is written, and the device compares our head with its own chain.
        _ => (last, chain_at_last?),
    };
    let theirs = reading.chain_at(at)?;
    (ours != theirs).then(|| doubted(stream, Fork::at(at, ours, theirs)))
}

/// A life goes on that a newer one had followed: nothing of its stream is contradicted, and it is another
/// history all the same.
fn outlived(stream: &StreamRow, reading: &Reading, lookups: &Lookups) -> Option<Fork> {
    let at = stream.through.next();
    let is_over = reading.header.incarnation < lookups.newest && reading.header.last >= at;
    let since = lookups.newest_since.filter(|_| is_over)?;
    if !is_written_since(since, reading.written()?, lookups.now) {
        return None;
    }
    Some(doubted(stream, Fork::at(at, Digest::ZERO, reading.chain_at(at)?)))
}

/// The mark of a stream with what is known of it already. What two machines did stays; what was settled is
/// doubted again.
fn doubted(stream: &StreamRow, found: Fork) -> Fork {
    let Some(known) = stream.fork.clone() else { return found };
    let suspicion = match known.suspicion {
        Suspicion::Copied => Suspicion::Copied,
        Suspicion::Open | Suspicion::Settled => Suspicion::Open,
    };
    let Fork { at, ours, theirs, .. } = found;
    Fork { at, ours, theirs, suspicion, ..known }
}

/// The working state of one batch.
struct Taking {
    taken: Taken,
    lookups: Lookups,
    /// Rows that changed, with the word they had before the batch (`None`: no row).
    moved: BTreeMap<Key, Option<Word>>,
}

impl Taking {
    fn new(stream: &StreamRow, lookups: Lookups, gap: Option<Gap>) -> Self {
        let mut stream = stream.clone();
        let mut fired = Fired::default();
        if let Some(gap) = gap {
            stream.through = gap.last;
            fired.mark(Branch::Gap);
        }
        let taken = Taken {
            stream,
            accepted: Vec::new(),
            set_aside: Vec::new(),
            gap,
            obligations: Vec::new(),
            deltas: Vec::new(),
            facts: None,
            exists: 0,
            fired,
            #[cfg(feature = "planted")]
            short_names: Vec::new(),
        };
        Self { taken, lookups, moved: BTreeMap::new() }
    }

    fn take(mut self, reading: Reading) -> Taken {
        let Reading { header, messages } = reading;
        for message in messages {
            let known = message.sequence <= self.taken.stream.through;
            #[cfg(feature = "planted")]
            let known = known && !self.lookups.planted.duplicates_taken;
            if known {
                self.taken.exists += 1;
                self.taken.fired.mark(Branch::Exists);
                continue;
            }
            self.taken.stream.through = message.sequence;
            self.taken.stream.head = message.chain;
            self.take_one(message);
        }
        if self.taken.stream.through >= header.last {
            let sent = header.last.0 - header.first.0 + 1;
            self.taken.stream.waiting = header.waiting.saturating_sub(sent);
        }
        self.finish()
    }

    fn take_one(&mut self, read: ReadMessage) {
        let ReadMessage { sequence, chain, bytes, read } = read;
        #[cfg(feature = "planted")]
        if self.lost_under_a_short_name(sequence) {
            return;
        }
        let stream = &self.taken.stream;
        let (sender, incarnation) = (stream.device, stream.incarnation);
        let place = Place { incarnation, sequence };
        match read.and_then(|message| Ok((self.hear(&message)?, message))) {
            Ok((late, message)) => {
                let status = message.body.status();
                let accepted = Accepted { sequence, chain, message, status, bytes, late };
                self.taken.accepted.push(accepted);
            }
            Err(reason) => {
                self.taken.fired.mark(match reason {
                    Unfit::Stray(_) => Branch::Stray,
                    _ => Branch::SetAside,
                });
                self.taken.set_aside.push(SetAside { sender, place, chain, reason, bytes });
            }
        }
    }

    /// Lets a message change what it speaks of. Answers whether it came late.
    fn hear(&mut self, message: &Message) -> Result<bool, Unfit> {
        match &message.body {
            Body::AgentStarted { facts } | Body::FactsChanged { facts } => {
                // An older life of the memory knows older facts, one that was put back other ones.
                let undone = self.lookups.lives.is_undone(Place::of(message));
                if message.incarnation >= self.lookups.newest && !undone {
                    self.taken.facts = Some(facts.clone());
                }
                Ok(false)
            }
            Body::Obligation(report) => {
                let key = key_of(message.device, report);
                let row = self.lookups.rows.get(&key);
                if row.is_none() && !self.lookups.targeted.contains(&key) {
                    let which = format!("{} of {}", key.occurrence, key.advertisement);
                    return Err(Unfit::Stray(which));
                }
                let said = Said::by_device(message, report);
                if self.lookups.lives.is_undone(Place::of(message)) && self.heeds_undone() {
                    self.taken.fired.mark(Branch::Undone);
                    return Ok(true);
                }
                let applied = self.apply(&key, row, &said);
                self.taken.fired.merge(applied.fired);
                let late = applied.verdict == Verdict::Late;
                if !late {
                    self.moved.entry(key.clone()).or_insert(applied.before);
                    self.lookups.rows.insert(key, applied.row);
                }
                Ok(late)
            }
            Body::PolicyRefused { .. }
            | Body::MemoryLost { .. }
            | Body::Dropped { .. }
            | Body::Verified(_)
            | Body::Repair(_)
            | Body::Components { .. } => Ok(false),
        }
    }

    #[cfg(not(feature = "planted"))]
    fn heeds_undone(&self) -> bool {
        true
    }

    #[cfg(feature = "planted")]
    fn heeds_undone(&self) -> bool {
        !self.lookups.planted.put_back_counts
    }

    #[cfg(not(feature = "planted"))]
    fn apply(&self, key: &Key, row: Option<&ObligationRow>, said: &Said) -> Applied {
        crate::obligation::apply(key, row, said, self.lookups.now)
    }

    #[cfg(feature = "planted")]
    fn apply(&self, key: &Key, row: Option<&ObligationRow>, said: &Said) -> Applied {
        let planted = &self.lookups.planted;
        crate::obligation::apply_planted(key, row, said, self.lookups.now, planted)
    }

    /// The planted bug of random file names: one byte of a digest is the name, and a name that is
    /// taken counts as delivered.
    #[cfg(feature = "planted")]
    fn lost_under_a_short_name(&mut self, sequence: Sequence) -> bool {
        let stream = &self.taken.stream;
        let parts: [&[u8]; 2] = [stream.device.0.as_bytes(), &sequence.0.to_le_bytes()];
        let name = Digest::of_parts("planted/short-name", &parts).as_bytes()[0];
        let Some(names) = &mut self.lookups.planted.short_names else { return false };
        let lost = !names.insert(name);
        if !lost {
            self.taken.short_names.push(name);
        }
        lost
    }

    fn finish(mut self) -> Taken {
        for (key, before) in &self.moved {
            let Some(row) = self.lookups.rows.remove(key) else { continue };
            // One stream is one device, so no two changed rows share an occurrence.
            self.taken.deltas.extend(deltas_between(&row, *before));
            self.taken.obligations.push(row);
        }
        self.taken
    }
}
