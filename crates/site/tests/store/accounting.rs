//! Sums, marks and pages of one advertisement.

use std::collections::{BTreeMap, BTreeSet};

use muster_model::clock::Wall;
use muster_model::id::DeviceId;
use muster_model::message::Occurrence;
use muster_model::state::{State, Word};
use muster_site::store::{AccountingDevice, ContactRow, MarkLimits, Read};
use muster_site::testing::{TestDb, on_both};
use muster_site_core::accounting::{MarkCounts, summary};
use muster_site_core::obligation::{Key, Said, apply};
use muster_site_core::occurrence::{OccurrenceRow, Revision};

use crate::support::*;

/// Devices 1 to 6 are targeted by `first#1`; 1 succeeded, 2 failed, 6 left. `again#1` targets who
/// was a member later: 1 to 5, of whom 2 succeeded. `(rerun)#1` names 2 and 3.
async fn three_occurrences(test: &TestDb) -> [Occurrence; 3] {
    site(&test.db, 1..=6).await;
    advertise(&test.db, 1, "first#1").await;
    take(&test.db, &[Speaker::new(1).says([succeeded()]), Speaker::new(2).says([failed()])])
        .await
        .unwrap();
    let mut tx = test.db.begin().await.unwrap();
    tx.membership_change(collection_id(1), &BTreeSet::new(), &devices([6]), NOW).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = test.db.begin().await.unwrap();
    let revision = tx.revision_take().await.unwrap();
    announce(&mut tx, 1, "again#1", revision).await;
    let rerun = OccurrenceRow {
        advertisement: advertisement_id(1),
        occurrence: occurrence("(rerun)#1"),
        due: None,
        spans: Vec::new(),
        announced: Revision(revision.0),
    };
    tx.occurrence_insert(&rerun, NOW).await.unwrap();
    let mut rows = Vec::new();
    let mut deltas = Vec::new();
    let states = [
        ("again#1", 2, succeeded()),
        ("(rerun)#1", 2, State::Targeted),
        ("(rerun)#1", 3, State::Targeted),
    ];
    for (called, device, state) in states {
        let key = Key {
            advertisement: advertisement_id(1),
            occurrence: occurrence(called),
            device: device_id(device),
        };
        let applied = apply(&key, None, &Said::by_site(state, 1, NOW), NOW);
        deltas.extend(applied.deltas());
        rows.push(applied.row);
    }
    tx.obligation_write_many(&rows).await.unwrap();
    tx.counter_add(&deltas).await.unwrap();
    tx.commit().await.unwrap();
    ["first#1", "again#1", "(rerun)#1"].map(occurrence)
}

async fn states(reader: &mut Read, occurrences: &[Occurrence]) -> BTreeMap<Word, u64> {
    let sums = reader.accounting_sums(advertisement_id(1), occurrences).await.unwrap();
    summary(sums.targeted, 0, &sums.rows, MarkCounts::default()).unwrap().states
}

/// Every device, by pages of two.
async fn pages(
    reader: &mut Read,
    occurrences: &[Occurrence],
    word: Option<Word>,
) -> Vec<AccountingDevice> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page =
            reader.accounting_page(advertisement_id(1), occurrences, word, after, 2).await.unwrap();
        found.extend(page.devices);
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

fn word(one: &AccountingDevice) -> Word {
    one.row.as_ref().map_or(Word::Targeted, |row| row.state.word())
}

#[tokio::test]
async fn one_occurrence_is_answered_by_its_counters() {
    on_both(async |test: TestDb| {
        let [first, again, rerun] = three_occurrences(&test).await;
        let mut reader = test.db.read().await.unwrap();
        let expected = |states: &[(Word, u64)]| states.iter().copied().collect::<BTreeMap<_, _>>();
        assert_eq!(
            states(&mut reader, &[first]).await,
            expected(&[(Word::Targeted, 4), (Word::Succeeded, 1), (Word::Failed, 1)])
        );
        assert_eq!(
            states(&mut reader, &[again]).await,
            expected(&[(Word::Targeted, 4), (Word::Succeeded, 1)])
        );
        assert_eq!(states(&mut reader, &[rerun]).await, expected(&[(Word::Targeted, 2)]));
        let all = reader.accounting_occurrences().await.unwrap();
        assert_eq!(all.len(), 3);
    })
    .await;
}

#[tokio::test]
async fn several_occurrences_count_each_device_under_its_newest() {
    on_both(async |test: TestDb| {
        let all = three_occurrences(&test).await;
        let mut reader = test.db.read().await.unwrap();
        // 2 and 3 stand under the rerun, 1, 4 and 5 under `again`, 6 under `first`: nothing said yet.
        let found = states(&mut reader, &all).await;
        assert_eq!(found, BTreeMap::from([(Word::Targeted, 6)]));
        let two = states(&mut reader, &all[..2]).await;
        assert_eq!(two, BTreeMap::from([(Word::Targeted, 5), (Word::Succeeded, 1)]));
    })
    .await;
}

#[tokio::test]
async fn pages_hold_every_targeted_device_once_and_agree_with_the_sums() {
    on_both(async |test: TestDb| {
        let all = three_occurrences(&test).await;
        let mut reader = test.db.read().await.unwrap();
        for occurrences in [&all[..1], &all[..2], &all[..], &all[1..2], &all[2..]] {
            let sums = states(&mut reader, occurrences).await;
            let devices = pages(&mut reader, occurrences, None).await;
            let ids: BTreeSet<DeviceId> = devices.iter().map(|one| one.device).collect();
            assert_eq!(ids.len(), devices.len(), "each device once");
            let mut counted = BTreeMap::new();
            devices.iter().for_each(|one| *counted.entry(word(one)).or_insert(0) += 1);
            assert_eq!(counted, sums);
            for state in Word::ALL {
                let of_state = pages(&mut reader, occurrences, Some(state)).await;
                let expected: Vec<_> =
                    devices.iter().filter(|one| word(one) == state).cloned().collect();
                assert_eq!(of_state, expected, "{state}");
            }
        }
        let newest = pages(&mut reader, &all, None).await;
        let under: Vec<String> = newest.iter().map(|one| one.occurrence.to_string()).collect();
        let expected = ["again#1", "(rerun)#1", "(rerun)#1", "again#1", "again#1", "first#1"];
        assert_eq!(under, expected);
        assert_eq!((newest[0].name.as_str(), newest[0].targeted_at), ("d1", NOW));
    })
    .await;
}

#[tokio::test]
async fn marks_lie_over_what_is_still_waited_for() {
    on_both(async |test: TestDb| {
        site(&test.db, 1..=4).await;
        advertise(&test.db, 1, "first#1").await;
        let mut disputed = report(1, "first#1", succeeded());
        disputed.disputed = Some("exit code 1 but detected".into());
        let heard = Speaker::new(1).reports([disputed]);
        take(&test.db, &[heard, Speaker::new(2).says([running()])]).await.unwrap();
        let contact = |n, at| ContactRow {
            device: device_id(n),
            at: Wall(at),
            revision: Revision(1),
            tag: None,
        };
        let mut tx = test.db.begin().await.unwrap();
        // 1 and 2 were never heard of by poll: since their enrolment. 3 was heard of later.
        tx.contact_note_many(&[contact(3, NOW.0 + 100), contact(4, NOW.0 + 1)]).await.unwrap();
        tx.commit().await.unwrap();
        let mut reader = test.db.read().await.unwrap();
        let marks = async |reader: &mut Read, from, limits| {
            let view = [(occurrence("first#1"), from)];
            reader.accounting_marks(advertisement_id(1), &view, limits).await.unwrap()
        };
        let limits =
            MarkLimits { silent_before: Wall(NOW.0 + 50), overdue_before: Some(Wall(NOW.0 + 50)) };
        let found = marks(&mut reader, NOW, limits).await;
        assert_eq!(found, MarkCounts { silent: 2, overdue: 3, disputed: 1 });
        let later = marks(&mut reader, Wall(NOW.0 + 50), limits).await;
        assert_eq!(later.overdue, 0, "it fell due later than it was announced");
        let expires = MarkLimits { overdue_before: None, ..limits };
        assert_eq!(marks(&mut reader, NOW, expires).await.overdue, 0);
    })
    .await;
}

#[tokio::test]
async fn counters_fold_to_what_they_were() {
    on_both(async |test: TestDb| {
        let [first, ..] = three_occurrences(&test).await;
        let counted = async |test: &TestDb| {
            let mut reader = test.db.read().await.unwrap();
            let counters = reader.counter_load(advertisement_id(1), &first).await.unwrap();
            assert_eq!(
                counters,
                reader.counter_recount(advertisement_id(1), &first).await.unwrap()
            );
            counters
        };
        let before = counted(&test).await;
        let mut tx = test.db.begin().await.unwrap();
        assert_eq!(tx.counter_fold(1).await.unwrap(), 1);
        tx.commit().await.unwrap();
        assert_eq!(counted(&test).await, before);
        let mut tx = test.db.begin().await.unwrap();
        assert!(tx.counter_fold(100).await.unwrap() > 1);
        tx.commit().await.unwrap();
        assert_eq!(counted(&test).await, before);
    })
    .await;
}
