//! Group commit: what many callers want written is written in one transaction.
//!
//! A commit costs a sync of the disk however much it holds. Jobs queue while a commit runs, and the
//! next commit takes as many of them as there are: alone, a job waits for nobody; under load, a
//! group grows to what the disk needs. Called by the shell that takes batches of messages.
//!
//! A group that fails for a reason of one of its jobs is written again job by job, so that only the
//! bad one fails. A failure that any job would meet (no database, no room) fails the group at once.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};

use super::error::StoreError;

/// Jobs in one group: enough that the sync is no longer what a job costs, few enough that the
/// transaction stays well below a second.
pub const GROUP_JOBS_MAX: usize = 64;
/// Jobs that wait for a group. A job beyond is refused at once, and its sender comes back later.
pub const GROUP_QUEUE_MAX: usize = 1_024;

/// How a group is written.
pub trait GroupWriter: Send + Sync + 'static {
    /// What is asked for.
    type Job: Send + Sync + 'static;
    /// What the asker is told once the job is durable.
    type Answer: Send + 'static;
    /// Two jobs of one key are never in one group.
    type Key: Ord;

    /// The key of a job.
    fn key(&self, job: &Self::Job) -> Self::Key;

    /// Writes all of `jobs` in one transaction, and answers each in order once it is committed.
    fn write(
        &self,
        jobs: &[Self::Job],
    ) -> impl Future<Output = Result<Vec<Self::Answer>, StoreError>> + Send;
}

/// Why a job was not written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GroupError {
    /// Too many wait already; nothing was done.
    #[error("{GROUP_QUEUE_MAX} jobs wait to be written (GROUP_QUEUE_MAX); come back later")]
    Full,
    /// The queue was closed; whether the job was written is not known.
    #[error("the database is being closed")]
    Closed,
    /// The database refused it; unless it says otherwise nothing was done.
    #[error("failed to write a group")]
    Store(#[source] Arc<StoreError>),
}

type Waiting<W> =
    (<W as GroupWriter>::Job, oneshot::Sender<Result<<W as GroupWriter>::Answer, GroupError>>);

/// A queue of jobs and the tasks that write them. The tasks end when the last clone is dropped and
/// the queue is empty.
pub struct Groups<W: GroupWriter> {
    queue: mpsc::Sender<Waiting<W>>,
}

impl<W: GroupWriter> Clone for Groups<W> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<W: GroupWriter> Groups<W> {
    /// Starts `tasks` writers; while one waits for the disk, another can fill its group. One is right
    /// for SQLite, which has one writer.
    pub fn start(writer: W, tasks: usize) -> Self {
        let (queue, jobs) = mpsc::channel(GROUP_QUEUE_MAX);
        let (writer, jobs) = (Arc::new(writer), Arc::new(Mutex::new(Intake { jobs, held: None })));
        for _ in 0..tasks.max(1) {
            tokio::spawn(write_groups(writer.clone(), jobs.clone()));
        }
        Self { queue }
    }

    /// Hands a job in and waits until it is durable.
    pub async fn write(&self, job: W::Job) -> Result<W::Answer, GroupError> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send((job, answer)).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => GroupError::Full,
            mpsc::error::TrySendError::Closed(_) => GroupError::Closed,
        })?;
        answered.await.unwrap_or(Err(GroupError::Closed))
    }

    /// Jobs that wait.
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }
}

/// The queue's far end, with the job that did not fit into the last group.
struct Intake<W: GroupWriter> {
    jobs: mpsc::Receiver<Waiting<W>>,
    held: Option<Waiting<W>>,
}

impl<W: GroupWriter> Intake<W> {
    /// Waits for a job and takes those that are there, up to the first of a key that is taken.
    async fn group(&mut self, writer: &W) -> Option<Vec<Waiting<W>>> {
        let first = match self.held.take() {
            Some(held) => held,
            None => self.jobs.recv().await?,
        };
        let mut keys = BTreeSet::from([writer.key(&first.0)]);
        let mut group = vec![first];
        while group.len() < GROUP_JOBS_MAX {
            let Ok(next) = self.jobs.try_recv() else { break };
            if !keys.insert(writer.key(&next.0)) {
                self.held = Some(next);
                break;
            }
            group.push(next);
        }
        Some(group)
    }
}

async fn write_groups<W: GroupWriter>(writer: Arc<W>, intake: Arc<Mutex<Intake<W>>>) {
    loop {
        let group = intake.lock().await.group(&writer).await;
        let Some(group) = group else { return };
        write_group(&*writer, group).await;
    }
}

async fn write_group<W: GroupWriter>(writer: &W, group: Vec<Waiting<W>>) {
    let (jobs, askers): (Vec<_>, Vec<_>) = group.into_iter().unzip();
    match writer.write(&jobs).await {
        Ok(answers) => {
            for (asker, answer) in askers.into_iter().zip(answers) {
                // An asker that has gone away asks again.
                let _ = asker.send(Ok(answer));
            }
        }
        Err(error) if jobs.len() == 1 || is_everybodys(&error) => {
            let error = Arc::new(error);
            for asker in askers {
                let _ = asker.send(Err(GroupError::Store(error.clone())));
            }
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "a group is written singly");
            for (job, asker) in jobs.iter().zip(askers) {
                let written = writer.write(std::slice::from_ref(job)).await;
                let answer = match written.map(|answers| answers.into_iter().next()) {
                    Ok(Some(answer)) => Ok(answer),
                    Ok(None) => Err(GroupError::Closed),
                    Err(error) => Err(GroupError::Store(Arc::new(error))),
                };
                let _ = asker.send(answer);
            }
        }
    }
}

/// Whether every job would meet this failure.
fn is_everybodys(error: &StoreError) -> bool {
    error.is_disk_full() || matches!(error, StoreError::Unavailable { .. })
}
