//! Values for tests: short names in, whole values out.

use std::collections::{BTreeMap, BTreeSet};

use muster_model::clock::{Elapsed, Wall};
use muster_model::digest::Digest;
use muster_model::facts::{Fact, Facts};
use muster_model::id::{AdvertisementId, BootId, CollectionId, DeviceId, Incarnation, Sequence};
use muster_model::message::{Body, Message, Occurrence, Report, RunId};
use muster_model::name::Name;
use muster_model::policy::PinnedPackage;
use muster_model::sign::PrivateKey;
use muster_model::state::{
    Author, Evidence, EvidenceKind, Failure, Rule, State, Waiting, Withdrawal, Word,
};
use muster_model::wire::batch::Batch;
use uuid::Uuid;

use crate::device::{Admission, Device};
use crate::ingest::{Lookups, Reading, StreamRow};
use crate::obligation::{Key, ObligationRow, Place};
use crate::occurrence::{Interval, OccurrenceRow, Revision, Span};
use crate::recurrence::Here;

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn device_id(n: u128) -> DeviceId {
    DeviceId(Uuid::from_u128(0xd0_0000 + n))
}

pub(crate) fn advertisement_id(n: u128) -> AdvertisementId {
    AdvertisementId(Uuid::from_u128(0xad_0000 + n))
}

pub(crate) fn collection_id(n: u128) -> CollectionId {
    CollectionId(Uuid::from_u128(0xc0_0000 + n))
}

pub(crate) fn occurrence(text: &str) -> Occurrence {
    text.parse().unwrap()
}

/// Device `n`, Linux on x86_64, called `dN`.
pub(crate) fn device(n: u128) -> Device {
    Device {
        id: device_id(n),
        name: name(&format!("d{n}")),
        admission: Admission::Admitted,
        facts: Facts {
            os: "linux".into(),
            arch: "x86_64".into(),
            name: format!("d{n}"),
            agent_version: "0.1.0".into(),
            ..Facts::default()
        },
    }
}

pub(crate) fn with_fact(mut device: Device, name: &str, fact: Fact) -> Device {
    device.facts.extra.insert(name.into(), fact);
    device
}

/// Advertisement 1, `first#1`, on device `n`.
pub(crate) fn key(n: u128) -> Key {
    Key {
        advertisement: advertisement_id(1),
        occurrence: occurrence("first#1"),
        device: device_id(n),
    }
}

pub(crate) fn row(key: Key, state: State, decided: Author) -> ObligationRow {
    let place = Place { incarnation: Incarnation(1), sequence: Sequence(1) };
    ObligationRow {
        key,
        revision: 1,
        attempt: attempts(&state),
        state,
        decided,
        since: Wall(1_000),
        updated: Wall(1_000),
        run: None,
        exit_code: None,
        disputed: None,
        place: (decided == Author::Device).then_some(place),
    }
}

pub(crate) fn succeeded() -> State {
    State::Succeeded { evidence: Evidence { rule: EvidenceKind::Detected, exit_code: Some(0) } }
}

pub(crate) fn failed() -> State {
    State::Failed {
        code: Failure { rule: Rule::ExitCode, exit_code: Some(3), detail: String::new() },
    }
}

pub(crate) fn running() -> State {
    State::Running { attempt: 1 }
}

pub(crate) fn waiting(why: Waiting) -> State {
    State::Waiting { why, until: None }
}

pub(crate) fn left() -> State {
    State::Withdrawn { why: Withdrawal::LeftCollection }
}

/// One for a state that only a run leads to.
fn attempts(state: &State) -> u32 {
    let word = state.word();
    let without = matches!(word, Word::Withdrawn | Word::Expired | Word::Superseded);
    u32::from(!word.is_unstarted() && !without)
}

pub(crate) fn report(state: State) -> Report {
    Report {
        advertisement: advertisement_id(1),
        occurrence: occurrence("first#1"),
        revision: 1,
        attempt: attempts(&state),
        run: Some(RunId(Digest::of(b"run"))).filter(|_| attempts(&state) > 0),
        exit_code: state.exit_code(),
        state,
        attempt_ended: None,
        disputed: None,
        output: String::new(),
        dependency: None,
        user: None,
        passed_over: String::new(),
    }
}

/// A message of device 1 in incarnation 1.
pub(crate) fn message(sequence: u64, body: Body) -> Message {
    Message {
        device: device_id(1),
        incarnation: Incarnation(1),
        sequence: Sequence(sequence),
        wall: Wall(5_000),
        elapsed: Elapsed(7),
        boot: BootId("boot".into()),
        trusted: Wall(2_000 + sequence as i64),
        body,
    }
}

pub(crate) fn says(sequence: u64, state: State) -> Vec<u8> {
    bytes(&message(sequence, Body::Obligation(report(state))))
}

pub(crate) fn bytes(message: &Message) -> Vec<u8> {
    serde_json::to_vec(message).unwrap()
}

/// A batch of device 1, incarnation 1, read.
pub(crate) fn batch(first: u64, before: Digest, kept_from: u64, messages: Vec<Vec<u8>>) -> Reading {
    let key = PrivateKey::from_seed([1; 32]);
    let batch = Batch::signed(
        &key,
        device_id(1),
        Incarnation(1),
        Sequence(first),
        before,
        Sequence(kept_from),
        messages.len() as u64,
        messages,
    );
    let chains = batch.verify(&key.public()).unwrap();
    Reading::new(batch, chains)
}

/// Device 1 is targeted by [`key`], nothing has a row yet, incarnations 1 and 2 are handed out.
pub(crate) fn lookups() -> Lookups {
    Lookups {
        rows: BTreeMap::new(),
        targeted: BTreeSet::from([key(1)]),
        chain_at_last: None,
        granted: Incarnation(2),
        newest: Incarnation(1),
        newest_since: None,
        lives: Default::default(),
        now: Wall(10_000),
        #[cfg(feature = "planted")]
        planted: Default::default(),
    }
}

pub(crate) fn stream() -> StreamRow {
    StreamRow::new(device_id(1), Incarnation(1))
}

pub(crate) fn interval(collection: u128, device: u128, from: u64, until: Option<u64>) -> Interval {
    Interval {
        collection: collection_id(collection),
        device: device_id(device),
        from: Revision(from),
        until: until.map(Revision),
    }
}

/// `first#1` of advertisement 1, open for collection 1 from `opened`, before `closed`.
pub(crate) fn occurrence_row(opened: u64, closed: Option<u64>) -> OccurrenceRow {
    OccurrenceRow {
        advertisement: advertisement_id(1),
        occurrence: occurrence("first#1"),
        due: Some(muster_model::advertisement::At::Now),
        spans: vec![Span {
            collection: collection_id(1),
            opened: Revision(opened),
            closed: closed.map(Revision),
        }],
        announced: Revision(opened),
    }
}

/// `nightly#n` of advertisement 1, due at `due` ms, for collection 1.
pub(crate) fn recurring(n: u32, due: i64, opened: u64, closed: Option<u64>) -> OccurrenceRow {
    OccurrenceRow {
        occurrence: occurrence(&format!("nightly#{n}")),
        due: Some(muster_model::advertisement::At::Instant(Wall(due))),
        ..occurrence_row(opened, closed)
    }
}

static UTC: jiff::tz::TimeZone = jiff::tz::TimeZone::UTC;

/// A site in UTC at `now` ms.
pub(crate) fn here(now: i64) -> Here<'static> {
    Here { now: Wall(now), zone: &UTC }
}

pub(crate) fn pinned(package: &str, version: &str) -> PinnedPackage {
    PinnedPackage {
        name: name(package),
        version: version.into(),
        manifest: Digest::of(format!("{package}@{version}").as_bytes()),
        signatures: Vec::new(),
    }
}
