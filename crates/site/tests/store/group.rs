//! Group commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use muster_model::clock::Wall;
use muster_model::id::DeviceId;
use muster_site::store::{
    ContactRow, Db, GROUP_JOBS_MAX, GROUP_QUEUE_MAX, GroupError, GroupWriter, Groups, StoreError,
};
use muster_site::testing::{TestDb, on_both};
use muster_site_core::occurrence::Revision;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::*;

/// Writes contacts, each once it is let; counts transactions.
struct Contacts {
    db: Db,
    gate: Arc<Semaphore>,
    begun: Arc<AtomicUsize>,
    commits: Arc<AtomicUsize>,
}

/// A device and a revision; one that the database cannot hold is bad.
type Job = (DeviceId, u64);

impl GroupWriter for Contacts {
    type Job = Job;
    type Answer = DeviceId;
    type Key = DeviceId;

    fn key(&self, job: &Job) -> DeviceId {
        job.0
    }

    async fn write(&self, jobs: &[Job]) -> Result<Vec<DeviceId>, StoreError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.gate.acquire().await.unwrap().forget();
        let mut tx = self.db.begin().await?;
        let contact = |job: &Job| ContactRow {
            device: job.0,
            at: Wall(1),
            revision: Revision(job.1),
            tag: None,
        };
        let contacts: Vec<ContactRow> = jobs.iter().map(contact).collect();
        tx.contact_note_many(&contacts).await?;
        tx.commit().await?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(jobs.iter().map(|job| job.0).collect())
    }
}

struct Started {
    groups: Groups<Contacts>,
    gate: Arc<Semaphore>,
    begun: Arc<AtomicUsize>,
    commits: Arc<AtomicUsize>,
}

fn start(test: &TestDb, tasks: usize) -> Started {
    let (begun, commits) = (Arc::default(), Arc::default());
    let gate = Arc::new(Semaphore::new(0));
    let writer = Contacts {
        db: test.db.clone(),
        gate: gate.clone(),
        begun: Arc::clone(&begun),
        commits: Arc::clone(&commits),
    };
    Started { groups: Groups::start(writer, tasks), gate, begun, commits }
}

/// Hands jobs in from as many tasks, after a first one that has its group for itself and waits at the
/// gate; returns when all of them wait in the queue.
async fn hand_in(
    started: &Started,
    jobs: impl IntoIterator<Item = Job>,
) -> JoinSet<Result<DeviceId, GroupError>> {
    let mut askers = JoinSet::new();
    let ask = |job, askers: &mut JoinSet<_>| {
        let groups = started.groups.clone();
        askers.spawn(async move { groups.write(job).await });
    };
    // Everything is on one thread: the others run whenever this task yields.
    ask((device_id(0), 1), &mut askers);
    while started.begun.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    let mut count = 0;
    for job in jobs {
        ask(job, &mut askers);
        count += 1;
    }
    while started.groups.waiting() < count {
        tokio::task::yield_now().await;
    }
    askers
}

#[tokio::test]
async fn jobs_that_wait_together_are_committed_together_and_each_is_answered() {
    on_both(async |test: TestDb| {
        let started = start(&test, 1);
        let jobs = (1..=40).map(|n| (device_id(n), 1));
        let askers = hand_in(&started, jobs).await;
        started.gate.add_permits(100);
        let answers: std::collections::BTreeSet<DeviceId> =
            askers.join_all().await.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, devices(0..=40));
        assert_eq!(started.commits.load(Ordering::Relaxed), 2);
        let ids: Vec<DeviceId> = answers.into_iter().collect();
        let mut reader = test.db.read().await.unwrap();
        assert_eq!(reader.contact_load_many(&ids).await.unwrap().len(), 41);
    })
    .await;
}

#[tokio::test]
async fn two_jobs_of_one_key_are_never_in_one_group() {
    on_both(async |test: TestDb| {
        let started = start(&test, 1);
        let jobs = [(device_id(1), 1), (device_id(2), 1), (device_id(1), 2), (device_id(3), 1)];
        let askers = hand_in(&started, jobs).await;
        started.gate.add_permits(100);
        assert!(askers.join_all().await.iter().all(Result::is_ok));
        assert_eq!(started.commits.load(Ordering::Relaxed), 3);
        let mut reader = test.db.read().await.unwrap();
        let known = reader.contact_load_many(&[device_id(1)]).await.unwrap();
        assert_eq!(known[0].revision, Revision(2));
    })
    .await;
}

#[tokio::test]
async fn a_bad_job_fails_alone() {
    on_both(async |test: TestDb| {
        let started = start(&test, 1);
        let jobs = [(device_id(1), 1), (device_id(2), u64::MAX), (device_id(3), 1)];
        let askers = hand_in(&started, jobs).await;
        started.gate.add_permits(100);
        let answers = askers.join_all().await;
        let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert_eq!(failed.len(), 1, "{answers:?}");
        let GroupError::Store(why) = failed[0] else { panic!("{failed:?}") };
        assert!(matches!(**why, StoreError::TooLarge { value: u64::MAX, .. }), "{why}");
        let mut reader = test.db.read().await.unwrap();
        let known = reader.contact_load_many(&[device_id(1), device_id(3)]).await.unwrap();
        assert_eq!(known.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    on_both(async |test: TestDb| {
        let started = start(&test, 1);
        let most = GROUP_QUEUE_MAX as u128;
        let askers = hand_in(&started, (1..=most).map(|n| (device_id(n), 1))).await;
        let refused = started.groups.write((device_id(most + 1), 1)).await;
        assert!(matches!(refused, Err(GroupError::Full)), "{refused:?}");
        started.gate.add_permits(1_000);
        assert!(askers.join_all().await.iter().all(Result::is_ok));
        let groups = GROUP_QUEUE_MAX / GROUP_JOBS_MAX + 1;
        assert_eq!(started.commits.load(Ordering::Relaxed), groups);
    })
    .await;
}
