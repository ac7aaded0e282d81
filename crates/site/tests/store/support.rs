//! A small site for tests: short numbers in, whole rows out.

use std::collections::BTreeSet;

use muster_model::clock::{Elapsed, Wall};
use muster_model::digest::Digest;
use muster_model::facts::Facts;
use muster_model::id::{
    AdvertisementId, BootId, CollectionId, DeviceId, Incarnation, PackageId, Sequence,
};
use muster_model::message::{Body, Message, Occurrence, Report};
use muster_model::name::Name;
use muster_model::object::Kind;
use muster_model::sign::PrivateKey;
use muster_model::state::{Evidence, EvidenceKind, Failure, Rule, State};
use muster_model::wire::batch::Batch;
use muster_site::store::{
    AdvertisementRow, Db, DeviceRow, Forked, IngestAsk, NewSetAside, ObjectRow, PackageVersionRow,
    StoreError, Tx,
};
use muster_site_core::device::{Admission, Device};
use muster_site_core::ingest::{Ingest, Reading, StreamRow, plan};
use muster_site_core::occurrence::{OccurrenceRow, Revision, Span};
use uuid::Uuid;

/// The site's time in tests.
pub(crate) const NOW: Wall = Wall(1_800_000_000_000);

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn device_id(n: u128) -> DeviceId {
    DeviceId(Uuid::from_u128(0xd0_0000_0000 + n))
}

pub(crate) fn collection_id(n: u128) -> CollectionId {
    CollectionId(Uuid::from_u128(0xc0_0000_0000 + n))
}

pub(crate) fn advertisement_id(n: u128) -> AdvertisementId {
    AdvertisementId(Uuid::from_u128(0xad_0000_0000 + n))
}

pub(crate) fn package_id() -> PackageId {
    PackageId(Uuid::from_u128(0xfa_0000_0000))
}

pub(crate) fn occurrence(text: &str) -> Occurrence {
    text.parse().unwrap()
}

pub(crate) fn devices(numbers: impl IntoIterator<Item = u128>) -> BTreeSet<DeviceId> {
    numbers.into_iter().map(device_id).collect()
}

pub(crate) fn object(kind: Kind, id: Uuid, called: &str) -> ObjectRow {
    ObjectRow {
        id,
        kind,
        name: name(called),
        changed: Revision(1),
        document: format!("{{\"name\":\"{called}\"}}"),
        set_name: None,
        created_at: NOW,
        changed_at: NOW,
        archived_at: None,
    }
}

pub(crate) fn device_row(n: u128) -> DeviceRow {
    let device = Device {
        id: device_id(n),
        name: name(&format!("d{n}")),
        admission: Admission::Admitted,
        facts: Facts { os: "linux".into(), ..Facts::default() },
    };
    DeviceRow {
        device,
        key: key_of(n).public(),
        settings: Default::default(),
        own_version: 0,
        incarnation: Incarnation(1),
        next_incarnation: Incarnation(2),
        generation: 0,
        certificate_serial: "00ff".into(),
        certificate_until: NOW,
        machine: None,
        token: None,
        enrolled_at: NOW,
        retired_at: None,
    }
}

fn key_of(n: u128) -> PrivateKey {
    let mut seed = [7; 32];
    seed[..16].copy_from_slice(&n.to_le_bytes());
    PrivateKey::from_seed(seed)
}

/// A site with package `hello@1`, collection 1, and the devices `numbers` in it.
pub(crate) async fn site(db: &Db, numbers: impl IntoIterator<Item = u128>) -> Revision {
    let mut tx = db.begin().await.unwrap();
    tx.object_insert(&object(Kind::Package, package_id().0, "hello")).await.unwrap();
    let version = PackageVersionRow {
        package: package_id(),
        version: "1".into(),
        manifest: Digest::of(b"manifest"),
        spec: "{}".into(),
        signatures: Vec::new(),
        content_bytes: 3,
        published: Revision(1),
        published_at: NOW,
        published_by: "p".into(),
        revoked: None,
    };
    tx.package_version_insert(&version, &[]).await.unwrap();
    let members: Vec<u128> = numbers.into_iter().collect();
    for n in &members {
        tx.device_insert(&device_row(*n)).await.unwrap();
    }
    let streams: Vec<StreamRow> =
        members.iter().map(|n| StreamRow::new(device_id(*n), Incarnation(1))).collect();
    tx.stream_insert_many(&streams).await.unwrap();
    collection(&mut tx, 1).await;
    let joins = devices(members);
    tx.membership_change(collection_id(1), &joins, &BTreeSet::new(), NOW).await.unwrap();
    let revision = tx.revision_take().await.unwrap();
    tx.commit().await.unwrap();
    revision
}

pub(crate) async fn collection(tx: &mut Tx, n: u128) {
    let object = object(Kind::Collection, collection_id(n).0, &format!("c{n}"));
    tx.object_insert(&object).await.unwrap();
    tx.collection_insert(collection_id(n)).await.unwrap();
}

pub(crate) fn advertisement_row(n: u128) -> AdvertisementRow {
    AdvertisementRow {
        id: advertisement_id(n),
        revision: 1,
        package: package_id(),
        version: "1".into(),
        manifest: Digest::of(b"manifest"),
        program: name("install"),
        collection: collection_id(1),
        expires: None,
        stopped: None,
        deleted_at: None,
    }
}

/// Advertises `hello@1` to collection 1 as advertisement `n` with one occurrence, in one transaction.
pub(crate) async fn advertise(db: &Db, n: u128, called: &str) -> Revision {
    let mut tx = db.begin().await.unwrap();
    let revision = tx.revision_take().await.unwrap();
    let row = object(Kind::Advertisement, advertisement_id(n).0, &format!("a{n}"));
    tx.object_insert(&row).await.unwrap();
    tx.advertisement_insert(&advertisement_row(n)).await.unwrap();
    announce(&mut tx, n, called, revision).await;
    tx.collection_offer_changed(&[collection_id(1)]).await.unwrap();
    tx.commit().await.unwrap();
    revision
}

pub(crate) async fn announce(tx: &mut Tx, n: u128, called: &str, revision: Revision) {
    let row = OccurrenceRow {
        advertisement: advertisement_id(n),
        occurrence: occurrence(called),
        due: Some("now".parse().unwrap()),
        spans: vec![Span { collection: collection_id(1), opened: revision, closed: None }],
        announced: revision,
    };
    tx.occurrence_insert(&row, NOW).await.unwrap();
}

pub(crate) fn running() -> State {
    State::Running { attempt: 1 }
}

pub(crate) fn succeeded() -> State {
    State::Succeeded { evidence: Evidence { rule: EvidenceKind::ExitCode, exit_code: Some(0) } }
}

pub(crate) fn failed() -> State {
    State::Failed {
        code: Failure { rule: Rule::ExitCode, exit_code: Some(3), detail: String::new() },
    }
}

/// A device that speaks: keeps its place and its chain, as an agent does.
pub(crate) struct Speaker {
    pub(crate) n: u128,
    pub(crate) incarnation: Incarnation,
    next: u64,
    head: Digest,
}

impl Speaker {
    pub(crate) fn new(n: u128) -> Self {
        Self { n, incarnation: Incarnation(1), next: 1, head: Digest::ZERO }
    }

    /// The next messages: reports about `first#1` of advertisement 1.
    pub(crate) fn says(&mut self, states: impl IntoIterator<Item = State>) -> Reading {
        let reports = states.into_iter().map(|state| report(1, "first#1", state));
        self.reports(reports)
    }

    pub(crate) fn reports(&mut self, reports: impl IntoIterator<Item = Report>) -> Reading {
        self.sends(reports.into_iter().map(Body::Obligation))
    }

    pub(crate) fn sends(&mut self, bodies: impl IntoIterator<Item = Body>) -> Reading {
        let first = self.next;
        let messages = bodies.into_iter().zip(first..).map(|(body, n)| self.bytes(n, body));
        let messages: Vec<Vec<u8>> = messages.collect();
        self.sends_bytes(messages)
    }

    pub(crate) fn sends_bytes(&mut self, messages: Vec<Vec<u8>>) -> Reading {
        self.batch(self.next, messages)
    }

    /// As above, leaving out what lies before `first`: it is gone.
    pub(crate) fn skips_to(
        &mut self,
        first: u64,
        states: impl IntoIterator<Item = State>,
    ) -> Reading {
        self.next = first;
        self.says(states)
    }

    fn batch(&mut self, first: u64, messages: Vec<Vec<u8>>) -> Reading {
        let count = messages.len() as u64;
        let key = key_of(self.n);
        let (device, sequence) = (device_id(self.n), Sequence(first));
        let batch = Batch::signed(
            &key,
            device,
            self.incarnation,
            sequence,
            self.head,
            sequence,
            count,
            messages,
        );
        let chains = batch.verify(&key.public()).unwrap();
        self.next = first + count;
        self.head = batch.header.head;
        Reading::new(batch, chains)
    }

    fn bytes(&self, sequence: u64, body: Body) -> Vec<u8> {
        let message = Message {
            device: device_id(self.n),
            incarnation: self.incarnation,
            sequence: Sequence(sequence),
            wall: Wall(NOW.0 + sequence as i64),
            elapsed: Elapsed(sequence),
            boot: BootId("b6bb5f3c-7a8e-4a33-8ee9-7b1b0a6a2a51".into()),
            trusted: Wall(NOW.0 + sequence as i64),
            body,
        };
        serde_json::to_vec(&message).unwrap()
    }
}

pub(crate) fn report(advertisement: u128, called: &str, state: State) -> Report {
    Report {
        advertisement: advertisement_id(advertisement),
        occurrence: occurrence(called),
        revision: 1,
        attempt: 1,
        run: None,
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

/// Takes batches of different devices in one transaction, as a site does.
pub(crate) async fn take(db: &Db, readings: &[Reading]) -> Result<Vec<Ingest>, StoreError> {
    let mut tx = db.begin().await?;
    let asks: Vec<IngestAsk> = readings.iter().map(IngestAsk::of).collect();
    let mut rows = tx.ingest_load(&asks).await?;
    let mut plans = Vec::new();
    for (ask, reading) in asks.iter().zip(readings) {
        let (stream, lookups) = rows.lookups(ask, NOW).expect("a device that the site knows");
        plans.push(plan(&stream, reading.clone(), lookups));
    }
    let (mut taken, mut forked) = (Vec::new(), Vec::new());
    for plan in &plans {
        match plan {
            Ingest::Taken(one) => taken.push((**one).clone()),
            Ingest::Forked { stream } => {
                let batch = NewSetAside {
                    reason: "forked".into(),
                    detail: "two histories".into(),
                    sender: stream.device.to_string(),
                    place: None,
                    chain: None,
                    bytes: b"batch".to_vec(),
                };
                forked.push(Forked { stream: (**stream).clone(), batch });
            }
            Ingest::Watched | Ingest::Behind { .. } | Ingest::UnknownIncarnation { .. } => {}
        }
    }
    tx.ingest_write(NOW, &taken, &forked).await?;
    tx.commit().await?;
    Ok(plans)
}
