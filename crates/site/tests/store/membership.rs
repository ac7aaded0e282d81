//! Intervals of membership, and whom an occurrence targets: SQL and decisions say the same.

use std::collections::{BTreeMap, BTreeSet};

use muster_model::id::{CollectionId, DeviceId};
use muster_model::object::Kind;
use muster_site::store::{STATEMENT_TIME_MAX, Tx};
use muster_site::testing::{TestDb, on_both};
use muster_site_core::obligation::Key;
use muster_site_core::occurrence::{Interval, OccurrenceRow, Revision, Span, targeted};

use crate::support::*;

#[tokio::test]
async fn joining_twice_or_leaving_without_having_joined_changes_nothing() {
    on_both(async |test: TestDb| {
        site(&test.db, 1..=3).await;
        let none = BTreeSet::new();
        let mut tx = test.db.begin().await.unwrap();
        let (joins, leaves) = (devices(2..=3), devices([9]));
        let changed = tx.membership_change(collection_id(1), &joins, &leaves, NOW).await.unwrap();
        assert_eq!(changed, (0, 0));
        tx.commit().await.unwrap();
        let mut tx = test.db.begin().await.unwrap();
        let leaves = devices([2]);
        let changed = tx.membership_change(collection_id(1), &none, &leaves, NOW).await.unwrap();
        assert_eq!(changed, (0, 1));
        tx.commit().await.unwrap();
        let mut reader = test.db.read().await.unwrap();
        let members = reader.membership_list(collection_id(1), None, 10).await.unwrap();
        assert_eq!(members, [device_id(1), device_id(3)]);
        let row = reader.collection_load(collection_id(1)).await.unwrap().unwrap();
        assert_eq!(row.members, 2);
        assert_eq!(row.membership_version, reader.revision_newest().await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn members_come_in_pages_by_id() {
    on_both(async |test: TestDb| {
        site(&test.db, 1..=5).await;
        let mut reader = test.db.read().await.unwrap();
        let first = reader.membership_list(collection_id(1), None, 2).await.unwrap();
        let rest =
            reader.membership_list(collection_id(1), first.last().copied(), 9).await.unwrap();
        let all: BTreeSet<DeviceId> = first.iter().chain(&rest).copied().collect();
        assert_eq!((first.len(), rest.len(), all), (2, 3, devices(1..=5)));
        let pairs = reader.membership_page(Some((device_id(4), collection_id(9)))).await.unwrap();
        assert_eq!(pairs, [(device_id(5), collection_id(1))]);
        let of = reader.membership_of_many(&[device_id(2), device_id(9)]).await.unwrap();
        assert_eq!(of, [(device_id(2), collection_id(1))]);
    })
    .await;
}

#[tokio::test]
async fn what_changed_since_a_revision_is_who_joined_and_who_left() {
    on_both(async |test: TestDb| {
        let before = site(&test.db, 1..=4).await;
        change(&test, [5], [1]).await;
        change(&test, [1], [2]).await;
        let mut reader = test.db.read().await.unwrap();
        let changed = reader.membership_changed(collection_id(1), before).await.unwrap();
        let expected = [(device_id(1), true), (device_id(2), false), (device_id(5), true)];
        assert_eq!(changed, expected);
        let newest = reader.revision_newest().await.unwrap();
        assert_eq!(reader.membership_changed(collection_id(1), newest).await.unwrap(), []);
    })
    .await;
}

async fn change<const J: usize, const L: usize>(
    test: &TestDb,
    joins: [u128; J],
    leaves: [u128; L],
) -> Revision {
    let mut tx = test.db.begin().await.unwrap();
    let (joins, leaves) = (devices(joins), devices(leaves));
    tx.membership_change(collection_id(1), &joins, &leaves, NOW).await.unwrap();
    let revision = tx.revision_take().await.unwrap();
    tx.commit().await.unwrap();
    revision
}

/// Numbers that a seed decides (Knuth's multiplier): the same history on every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        const MULTIPLIER: u64 = 6_364_136_223_846_793_005;
        self.0 = self.0.wrapping_mul(MULTIPLIER).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What the database must hold, kept beside it.
struct Record {
    /// Collections `base + 11` and `base + 12`, advertisements from `base + 1` on.
    base: u128,
    dice: Dice,
    intervals: Vec<Interval>,
    occurrences: BTreeMap<u128, OccurrenceRow>,
}

impl Record {
    fn collection(&mut self) -> CollectionId {
        collection_id(self.base + 11 + u128::from(self.dice.roll(2)))
    }

    /// Some devices join and some leave a collection.
    async fn members_change(&mut self, tx: &mut Tx, at: Revision) {
        let collection = self.collection();
        let is_here =
            |interval: &&Interval| interval.collection == collection && interval.until.is_none();
        let members: BTreeSet<DeviceId> =
            self.intervals.iter().filter(is_here).map(|interval| interval.device).collect();
        let picked = devices((0..3).map(|_| u128::from(self.dice.roll(DEVICES))));
        let (leaves, joins): (BTreeSet<_>, BTreeSet<_>) =
            picked.into_iter().partition(|device| members.contains(device));
        tx.membership_change(collection, &joins, &leaves, NOW).await.unwrap();
        for interval in &mut self.intervals {
            if is_here(&&*interval) && leaves.contains(&interval.device) {
                interval.until = Some(at);
            }
        }
        let join = |device: DeviceId| Interval { collection, device, from: at, until: None };
        self.intervals.extend(joins.into_iter().map(join));
    }

    /// A new advertisement opens its occurrence for a collection.
    async fn occurrence_opens(&mut self, tx: &mut Tx, at: Revision) {
        let n = self.base + 1 + self.occurrences.len() as u128;
        let id = advertisement_id(n);
        tx.object_insert(&object(Kind::Advertisement, id.0, &format!("a{n}"))).await.unwrap();
        tx.advertisement_insert(&advertisement_row(n)).await.unwrap();
        let row = OccurrenceRow {
            advertisement: id,
            occurrence: occurrence("first#1"),
            due: None,
            spans: vec![Span { collection: self.collection(), opened: at, closed: None }],
            announced: at,
        };
        tx.occurrence_insert(&row, NOW).await.unwrap();
        self.occurrences.insert(n, row);
    }

    /// The newest occurrence closes, and sometimes opens for a collection again.
    async fn occurrence_closes(&mut self, tx: &mut Tx, at: Revision) {
        let again = (self.dice.roll(2) == 0).then(|| self.collection());
        let Some(mut newest) = self.occurrences.last_entry() else { return };
        let row = newest.get_mut();
        tx.occurrence_span_close(row.advertisement, &row.occurrence, at).await.unwrap();
        for span in row.spans.iter_mut().filter(|span| span.is_open()) {
            span.closed = Some(at);
        }
        if let Some(collection) = again {
            let span = Span { collection, opened: at, closed: None };
            tx.occurrence_span_open(row.advertisement, &row.occurrence, &span).await.unwrap();
            row.spans.push(span);
        }
    }
}

/// Devices of the histories.
const DEVICES: u64 = 9;

/// Devices join and leave two collections, occurrences open, move to the other collection and close,
/// alone and within one revision; after each step the database targets whom the decisions target.
#[tokio::test]
async fn whom_an_occurrence_targets_is_what_the_decisions_say() {
    on_both(async |test: TestDb| {
        site(&test.db, []).await;
        for seed in 0..3 {
            history(&test, seed).await;
        }
    })
    .await;
}

async fn history(test: &TestDb, seed: u64) {
    let base = u128::from(seed) * 100;
    let (intervals, occurrences) = Default::default();
    let mut record = Record { base, dice: Dice(seed), intervals, occurrences };
    let mut tx = test.db.begin().await.unwrap();
    for n in [base + 11, base + 12] {
        collection(&mut tx, n).await;
    }
    tx.commit().await.unwrap();
    for _ in 0..25 {
        let mut tx = test.db.begin().await.unwrap();
        let revision = tx.revision_take().await.unwrap();
        if record.dice.roll(4) > 0 {
            record.members_change(&mut tx, revision).await;
        }
        match record.dice.roll(4) {
            0 => record.occurrence_opens(&mut tx, revision).await,
            1 => record.occurrence_closes(&mut tx, revision).await,
            _ => {}
        }
        tx.commit().await.unwrap();
        check(test, &record).await;
    }
}

async fn check(test: &TestDb, record: &Record) {
    let mut reader = test.db.read().await.unwrap();
    for row in record.occurrences.values() {
        let expected = targeted(row, &record.intervals);
        let count = reader.occurrence_targeted(row.advertisement, &row.occurrence).await.unwrap();
        assert_eq!(count, Some(expected.len() as u64), "{row:?}");
        let keys: Vec<Key> = (0..u128::from(DEVICES))
            .map(|n| Key {
                advertisement: row.advertisement,
                occurrence: row.occurrence.clone(),
                device: device_id(n),
            })
            .collect();
        let found = reader.occurrence_targets_many(&keys).await.unwrap();
        assert_eq!(found.into_iter().map(|key| key.device).collect::<BTreeSet<_>>(), expected);
        let stored = reader.occurrence_list(row.advertisement).await.unwrap();
        assert_eq!(stored, std::slice::from_ref(row));
    }
}

#[tokio::test]
async fn open_occurrences_of_collections_come_with_all_of_their_spans() {
    on_both(async |test: TestDb| {
        site(&test.db, 1..=1).await;
        let opened = advertise(&test.db, 1, "first#1").await;
        advertise(&test.db, 2, "first#1").await;
        let mut tx = test.db.begin().await.unwrap();
        collection(&mut tx, 2).await;
        let moved = tx.revision_take().await.unwrap();
        let first = occurrence("first#1");
        tx.occurrence_span_close(advertisement_id(1), &first, moved).await.unwrap();
        let span = Span { collection: collection_id(2), opened: moved, closed: None };
        tx.occurrence_span_open(advertisement_id(1), &first, &span).await.unwrap();
        tx.occurrence_due_set(advertisement_id(1), &first, None).await.unwrap();
        tx.commit().await.unwrap();
        let mut reader = test.db.read().await.unwrap();
        let open = reader.occurrence_list_open(&[collection_id(2)]).await.unwrap();
        assert_eq!(open.len(), 1);
        let before = Span { collection: collection_id(1), opened, closed: Some(moved) };
        assert_eq!((open[0].spans.as_slice(), open[0].due), ([before, span].as_slice(), None));
        let both = [collection_id(1), collection_id(2)];
        assert_eq!(reader.occurrence_list_open(&both).await.unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn advertising_writes_as_many_rows_for_a_thousand_devices_as_for_one() {
    on_both(async |test: TestDb| {
        site(&test.db, 1..=1).await;
        let few = rows_of_advertising(&test, 1).await;
        let mut tx = test.db.begin().await.unwrap();
        tx.membership_change(collection_id(1), &devices(2..=1_000), &BTreeSet::new(), NOW)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        assert_eq!(rows_of_advertising(&test, 2).await, few);
        let mut reader = test.db.read().await.unwrap();
        let first = occurrence("first#1");
        let targeted = reader.occurrence_targeted(advertisement_id(2), &first).await.unwrap();
        assert_eq!(targeted, Some(1_000));
    })
    .await;
}

/// How many rows, over all tables, advertising adds.
async fn rows_of_advertising(test: &TestDb, n: u128) -> i64 {
    let before = rows(test).await;
    advertise(&test.db, n, "first#1").await;
    rows(test).await - before
}

async fn rows(test: &TestDb) -> i64 {
    let tables = [
        "site",
        "change",
        "object",
        "package_version",
        "advertisement",
        "advertisement_revision",
        "occurrence",
        "occurrence_span",
        "collection",
        "binding",
        "membership",
        "device",
        "contact",
        "stream",
        "gap",
        "message",
        "set_aside",
        "obligation",
        "counter",
        "counter_delta",
        "token",
        "principal",
        "site_message",
        "content",
        "package_object",
    ];
    let counts: Vec<String> =
        tables.iter().map(|t| format!("(select count(*) from {t})")).collect();
    let question = format!("select {}", counts.join(" + "));
    let table =
        test.db.read().await.unwrap().query_unfenced(&question, STATEMENT_TIME_MAX).await.unwrap();
    table.rows[0][0].as_i64().unwrap()
}
