//! Messages of devices on their way into the ledger: many batches in one commit.
//!
//! A batch whose signature was checked is handed to the store's group commit; its group is planned
//! under the locks of its streams and written in one transaction, and only after the commit does the
//! caller seal its receipt. A batch that makes a group fail is written alone, so it never stands in
//! another's way.

use std::sync::Arc;

use bytes::Bytes;
use muster_host::clock::Clock;
use muster_host::failpoint::{self, Point, When};
use muster_model::id::{DeviceId, Incarnation, Sequence};
use muster_site_core::ingest::{Ingest, Reading, StreamRow, Taken, plan};
use muster_site_core::obligation::Place;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Pokes;
use super::error::{Kind, Outcome, Refusal};
use super::metrics::Metrics;
use crate::store::{
    Db, Forked, GroupError, GroupWriter, Groups, IngestAsk, NewSetAside, StoreError,
};

/// Kibibytes of batches that wait or are being committed: sixteen of the largest. Beyond it a device
/// is asked to try again.
const WAITING_KIB_MAX: usize = 64 * 1024;

/// What became of a batch.
#[derive(Clone, Debug)]
pub(crate) enum Ingested {
    /// Committed: this is the stream that the receipt speaks of.
    Taken(Box<StreamRow>),
    /// The site lacks what comes before.
    Behind(Sequence),
    /// Another history than the one that the site has: kept apart, and the device is to be held.
    Forked(Box<Reading>),
    /// A life of the device's memory whose word is not taken yet.
    Watched,
    /// A life of the device's memory that the site never handed out, or has refused since.
    UnknownIncarnation { said: Incarnation, granted: Incarnation },
    /// No such device.
    UnknownDevice,
}

/// Where batches are handed in.
pub(crate) struct Committer {
    groups: Groups<Writer>,
    room: Arc<Semaphore>,
}

/// One batch on its way.
pub(crate) struct Job {
    reading: Reading,
    ask: IngestAsk,
    /// As it came, for the case that it must be set aside.
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// Writes groups of batches.
pub(crate) struct Writer {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) pokes: Arc<Pokes>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Committer {
    /// Starts `tasks` writers: one for SQLite, more where commits of several connections overlap.
    pub(crate) fn start(writer: Writer, tasks: usize) -> Self {
        let room = Arc::new(Semaphore::new(WAITING_KIB_MAX));
        Self { groups: Groups::start(writer, tasks), room }
    }

    /// Takes a batch that was read and whose signature was checked; returns when it is committed, or why it is not.
    pub(crate) async fn take(&self, reading: Reading, bytes: Bytes) -> Outcome<Ingested> {
        let kib = u32::try_from(bytes.len().div_ceil(1024)).unwrap_or(u32::MAX);
        let room = self.room.clone().try_acquire_many_owned(kib).map_err(|_| busy())?;
        let ask = IngestAsk::of(&reading);
        let written = self.groups.write(Job { reading, ask, bytes, _room: room }).await;
        written.map_err(|error| match error {
            GroupError::Store(error) => {
                tracing::error!(error = &*error as &dyn std::error::Error, "messages not written");
                Refusal::new(Kind::Busy, "the messages could not be written; try again").into()
            }
            GroupError::Full | GroupError::Closed => busy().into(),
        })
    }

    /// Batches that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.groups.waiting()
    }
}

fn busy() -> Refusal {
    Refusal::new(Kind::Busy, "too many messages wait to be written; try again")
}

impl Job {
    fn messages(&self) -> u64 {
        let header = &self.reading.header;
        header.last.0 - header.first.0 + 1
    }
}

impl GroupWriter for Writer {
    type Job = Job;
    type Answer = Ingested;
    type Key = DeviceId;

    fn key(&self, job: &Job) -> DeviceId {
        job.ask.device
    }

    async fn write(&self, jobs: &[Job]) -> Result<Vec<Ingested>, StoreError> {
        let now = self.clock.wall();
        let asks: Vec<IngestAsk> = jobs.iter().map(|job| job.ask.clone()).collect();
        let mut tx = self.db.begin().await?;
        let mut rows = tx.ingest_load(&asks).await?;
        let mut plans = Plans::default();
        for job in jobs {
            match rows.lookups(&job.ask, now) {
                Some((stream, lookups)) => {
                    plans.take(job, plan(&stream, job.reading.clone(), lookups));
                }
                None => plans.done.push(Ingested::UnknownDevice),
            }
        }
        tx.ingest_write(now, &plans.taken, &plans.forked).await?;
        failpoint::hit(Point::MessagesCommit, When::Before);
        tx.commit().await?;
        failpoint::hit(Point::MessagesCommit, When::After);
        if plans.taken.iter().any(|one| one.facts.is_some()) {
            self.pokes.evaluate.notify_one();
        }
        for (job, done) in jobs.iter().zip(&plans.done) {
            self.metrics.batch(done, job.messages());
        }
        Ok(plans.done)
    }
}

/// The plans of a group.
#[derive(Default)]
struct Plans {
    done: Vec<Ingested>,
    taken: Vec<Taken>,
    forked: Vec<Forked>,
}

impl Plans {
    fn take(&mut self, job: &Job, plan: Ingest) {
        self.done.push(match plan {
            Ingest::Taken(taken) => {
                let stream = taken.stream.clone();
                self.taken.push(*taken);
                Ingested::Taken(Box::new(stream))
            }
            Ingest::Behind { through } => Ingested::Behind(through),
            Ingest::Forked { stream } => {
                self.forked.push(Forked { batch: kept_apart(job, &stream), stream: *stream });
                Ingested::Forked(Box::new(job.reading.clone()))
            }
            Ingest::Watched => Ingested::Watched,
            Ingest::UnknownIncarnation { said, granted } => {
                Ingested::UnknownIncarnation { said, granted }
            }
        });
    }
}

/// A batch that forked its stream, as it is set aside: whole, at the place where it begins.
fn kept_apart(job: &Job, stream: &StreamRow) -> NewSetAside {
    let header = &job.reading.header;
    let place = Place { incarnation: header.incarnation, sequence: header.first };
    let at = stream.fork.as_ref().map_or(header.last, |fork| fork.at);
    NewSetAside {
        reason: "forked".to_owned(),
        detail: format!(
            "two histories of {}/{}: they differ at message {at}; the other one leads to {}",
            header.device,
            header.incarnation,
            header.head.short()
        ),
        sender: header.device.to_string(),
        place: Some((header.device, place)),
        chain: Some(header.head),
        bytes: job.bytes.to_vec(),
    }
}
