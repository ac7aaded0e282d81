//! A device that follows no protocol: enrolled, with a key of its own, and bent on confusing the site.
//! Whatever it sends, nobody else's account may move.

use std::sync::Arc;

use muster_model::clock::Elapsed;
use muster_model::digest::Digest;
use muster_model::id::{AdvertisementId, BootId, DeviceId, Incarnation, Sequence};
use muster_model::message::{Body, Message, Report};
use muster_model::sign::PrivateKey;
use muster_model::state::{Evidence, EvidenceKind, State};
use muster_model::wire::batch::Batch;

use crate::core::{Core, Node};
use crate::event::{Ask, Call};
use crate::site::store::Store;

/// What it tries.
#[derive(Clone, Copy, Debug)]
enum Mischief {
    Honest,
    Poison,
    Oversized,
    Misplaced,
    Stray,
    SecondHistory,
    Gap,
    Ahead,
    ForeignKey,
    ForeignDevice,
    UnknownIncarnation,
}

const MISCHIEFS: [Mischief; 11] = [
    Mischief::Honest,
    Mischief::Poison,
    Mischief::Oversized,
    Mischief::Misplaced,
    Mischief::Stray,
    Mischief::SecondHistory,
    Mischief::Gap,
    Mischief::Ahead,
    Mischief::ForeignKey,
    Mischief::ForeignDevice,
    Mischief::UnknownIncarnation,
];

/// The rogue.
pub(crate) struct Rogue {
    /// Its id.
    pub id: DeviceId,
    /// Its key.
    pub key: PrivateKey,
}

impl Rogue {
    /// A rogue, to be enrolled.
    pub(crate) fn new(core: &mut Core) -> Self {
        let seed = Digest::of_parts("sim/rogue", &[&core.dice.bits().to_le_bytes()]);
        let id = DeviceId(core.dice.uuid());
        core.truth.rogues.insert(id);
        Self { id, key: PrivateKey::from_seed(*seed.as_bytes()) }
    }

    /// Sends something. It knows what the site has of everybody, which makes it worse than any real
    /// attacker.
    pub(crate) fn act(&self, core: &mut Core, store: &Store) {
        let mischief = core.dice.pick(&MISCHIEFS).copied().unwrap_or(Mischief::Honest);
        core.note(Node::Site, format_args!("a rogue tries {mischief:?}"));
        let batch = self.batch(core, store, mischief);
        let id = core.next_call();
        // It waits for no answer; none is delivered to a device that is not in the fleet.
        let call = Call { id, from: Node::Site, process: 0, ask: Ask::Post(Arc::new(batch)) };
        let to = if core.dice.per_mille(500) { Node::AccessPoint } else { Node::Site };
        core.call(Node::Site, to, call);
    }

    fn batch(&self, core: &mut Core, store: &Store, mischief: Mischief) -> Batch {
        let incarnation = match mischief {
            Mischief::UnknownIncarnation => Incarnation(9),
            _ => Incarnation(1),
        };
        let victim = store.devices.keys().find(|id| **id != self.id).copied();
        let device = match mischief {
            Mischief::ForeignDevice => victim.unwrap_or(self.id),
            _ => self.id,
        };
        let stream = store.streams.get(&(device, incarnation));
        let (through, head) =
            stream.map_or((Sequence(0), Digest::ZERO), |row| (row.through, row.head));
        let (first, before, kept_from) = match mischief {
            Mischief::SecondHistory => (Sequence(1), Digest::ZERO, Sequence(1)),
            Mischief::Gap => {
                (Sequence(through.0 + 5), Digest::of(b"lost"), Sequence(through.0 + 5))
            }
            Mischief::Ahead => (Sequence(through.0 + 5), Digest::of(b"lost"), Sequence(1)),
            _ => (through.next(), head, Sequence(1)),
        };
        let key = match mischief {
            Mischief::ForeignKey => PrivateKey::from_seed([9; 32]),
            _ => self.key.clone(),
        };
        let messages = (0..core.dice.between(1, 4))
            .map(|at| self.message(core, store, mischief, Sequence(first.0 + at)))
            .collect();
        Batch::signed(&key, device, incarnation, first, before, kept_from, 1, messages)
    }

    fn message(
        &self,
        core: &mut Core,
        store: &Store,
        mischief: Mischief,
        sequence: Sequence,
    ) -> Vec<u8> {
        let speaker = match mischief {
            Mischief::Misplaced => DeviceId(core.dice.uuid()),
            _ => self.id,
        };
        let body = match mischief {
            Mischief::Poison => return core.dice.bits().to_le_bytes().to_vec(),
            Mischief::Oversized => return vec![b' '; 70_000],
            Mischief::Stray => self.report(AdvertisementId(core.dice.uuid()), "first#1"),
            _ => match store.occurrences().next() {
                Some(row) => self.report(row.advertisement, &row.occurrence.to_string()),
                None => Body::Dropped { count: core.dice.below(9) },
            },
        };
        let message = Message {
            device: speaker,
            incarnation: Incarnation(1),
            sequence,
            wall: core.wall(),
            elapsed: Elapsed(core.dice.below(1_000)),
            boot: BootId("rogue".to_owned()),
            trusted: core.wall(),
            body,
        };
        serde_json::to_vec(&message).unwrap_or_default()
    }

    fn report(&self, advertisement: AdvertisementId, occurrence: &str) -> Body {
        let Ok(occurrence) = occurrence.parse() else { return Body::Dropped { count: 0 } };
        let evidence = Evidence { rule: EvidenceKind::ExitCode, exit_code: Some(0) };
        Body::Obligation(Report {
            advertisement,
            occurrence,
            revision: 1,
            state: State::Succeeded { evidence },
            attempt: 1,
            run: None,
            exit_code: Some(0),
            attempt_ended: None,
            disputed: None,
            dependency: None,
            user: None,
            passed_over: String::new(),
            output: String::new(),
        })
    }
}
