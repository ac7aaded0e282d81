//! Revisions: numbered in commit order, found by every process within a second.

use std::time::Duration;

use muster_site::store::{Db, REVISION_POLL_MAX, Subject};
use muster_site::testing::{TestDb, on_both};
use muster_site_core::occurrence::Revision;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

async fn change(db: &Db) -> Revision {
    let mut tx = db.begin().await.unwrap();
    let revision = tx.change_insert(&[Subject::Site]).await.unwrap();
    tx.commit().await.unwrap();
    revision
}

#[tokio::test]
async fn one_transaction_has_one_revision() {
    on_both(async |test: TestDb| {
        let mut tx = test.db.begin().await.unwrap();
        let first = tx.revision_take().await.unwrap();
        assert_eq!(tx.revision_take().await.unwrap(), first);
        drop(tx);
        assert_eq!(change(&test.db).await, first, "a number that was not committed is not spent");
    })
    .await;
}

#[tokio::test]
async fn who_has_read_up_to_a_revision_has_missed_nothing_before_it() {
    on_both(async |test: TestDb| {
        let mut writers = JoinSet::new();
        for _ in 0..4 {
            let db = test.db.clone();
            writers.spawn(async move {
                for _ in 0..10 {
                    change(&db).await;
                }
            });
        }
        let mut known = Revision(0);
        while known < Revision(40) {
            let mut reader = test.db.read().await.unwrap();
            let newest = reader.revision_newest().await.unwrap();
            let changes = reader.change_list(known).await.unwrap();
            let numbers: Vec<u64> = changes.iter().map(|change| change.revision.0).collect();
            assert_eq!(numbers, (known.0 + 1..=newest.0).collect::<Vec<_>>());
            known = newest;
        }
        writers.join_all().await;
    })
    .await;
}

#[tokio::test]
async fn the_change_log_says_what_changed_and_forgets_in_small_steps() {
    on_both(async |test: TestDb| {
        let subjects = [
            Subject::Site,
            Subject::Package(Uuid::from_u128(1)),
            Subject::Collection(Uuid::from_u128(2)),
            Subject::Members(Uuid::from_u128(3)),
            Subject::Advertisement(Uuid::from_u128(4)),
            Subject::Device(Uuid::from_u128(5)),
            Subject::Credential(Uuid::from_u128(6)),
        ];
        let mut tx = test.db.begin().await.unwrap();
        let revision = tx.change_insert(&subjects).await.unwrap();
        tx.commit().await.unwrap();
        let changes = test.db.read().await.unwrap().change_list(Revision(0)).await.unwrap();
        assert!(changes.iter().all(|change| change.revision == revision));
        assert_eq!(changes.iter().map(|change| change.subject).collect::<Vec<_>>(), subjects);
        let mut tx = test.db.begin().await.unwrap();
        assert_eq!(tx.change_forget(revision, 5).await.unwrap(), 5);
        assert_eq!(tx.change_forget(revision, 5).await.unwrap(), 2);
    })
    .await;
}

#[tokio::test]
async fn more_subjects_than_a_revision_lists_stand_as_the_whole_site() {
    on_both(async |test: TestDb| {
        let many: Vec<Subject> = (0..10_001).map(|n| Subject::Device(Uuid::from_u128(n))).collect();
        let mut tx = test.db.begin().await.unwrap();
        tx.change_insert(&many).await.unwrap();
        let changes = tx.change_list(Revision(0)).await.unwrap();
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].subject, Subject::Site);
    })
    .await;
}

#[tokio::test]
async fn another_process_learns_of_a_revision_without_any_notification() {
    on_both(async |test: TestDb| {
        let other = test.reopen().await;
        other.set_notifications(false);
        test.db.set_notifications(false);
        let mut watch = other.watch_revisions(Duration::from_secs(60));
        let mut known = Revision(0);
        // The first reading may come after the first change; the later ones must come by time.
        for _ in 0..3 {
            let revision = change(&test.db).await;
            let limit = REVISION_POLL_MAX * 5;
            let reading = timeout(limit, watch.later_than(known)).await.unwrap().unwrap();
            assert_eq!(reading.revision, revision);
            assert!(watch.is_fresh());
            known = revision;
        }
    })
    .await;
}

#[tokio::test]
async fn a_notification_makes_it_sooner_than_the_clock() {
    on_both(async |test: TestDb| {
        // In SQLite a notification reaches the own process, in PostgreSQL every process.
        let other = match &test.location {
            muster_site::store::Location::Sqlite(_) => test.db.clone(),
            muster_site::store::Location::Postgres(_) => test.reopen().await,
        };
        let mut watch = other.watch_revisions(REVISION_POLL_MAX);
        let mut known = change(&test.db).await;
        watch.later_than(Revision(0)).await.unwrap();
        let begun = Instant::now();
        for _ in 0..12 {
            let revision = change(&test.db).await;
            let reading = timeout(REVISION_POLL_MAX * 5, watch.later_than(known)).await;
            assert_eq!(reading.unwrap().unwrap().revision, revision);
            known = revision;
        }
        // By the clock alone each of them would take a second.
        assert!(begun.elapsed() < REVISION_POLL_MAX * 6, "{:?}", begun.elapsed());
    })
    .await;
}
