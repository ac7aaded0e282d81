//! Keeps every process of a site no more than a second behind its revisions (law 7).
//!
//! A task reads the newest revision at least every [`REVISION_POLL_MAX`]; a notification (from this
//! process directly, from others by PostgreSQL's NOTIFY) only hastens it, and may be lost. Each
//! reading says when it was begun, so that a caller whose reading is older than
//! [`REVISION_AGE_MAX`] answers from the database instead of from memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use muster_site_core::occurrence::Revision;
use sqlx::postgres::PgListener;
use tokio::sync::watch;
use tokio::time::Instant;

use super::db::Db;

/// The longest wait between two readings of the revision.
pub const REVISION_POLL_MAX: Duration = Duration::from_secs(1);
/// How old a reading may be for answers from memory.
pub const REVISION_AGE_MAX: Duration = Duration::from_secs(5);
/// PostgreSQL's channel; it is the database's own, so sites do not hear each other.
pub(super) const CHANNEL: &str = "muster_revision";

/// A reading of the site's revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The newest committed revision.
    pub revision: Revision,
    /// When the reading was begun; everything committed before is in it.
    pub at: Instant,
}

/// Follows the site's revisions. The reading task ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct RevisionWatch {
    readings: watch::Receiver<Option<Reading>>,
}

impl RevisionWatch {
    /// The newest reading; `None` before the first.
    pub fn latest(&self) -> Option<Reading> {
        *self.readings.borrow()
    }

    /// Whether the newest reading is young enough to answer from memory that followed it.
    pub fn is_fresh(&self) -> bool {
        self.latest().is_some_and(|reading| reading.at.elapsed() <= REVISION_AGE_MAX)
    }

    /// Waits for a revision later than `after`. `None`: the task that reads has ended.
    pub async fn later_than(&mut self, after: Revision) -> Option<Reading> {
        let later = |reading: &Option<Reading>| reading.is_some_and(|r| r.revision > after);
        self.readings.wait_for(later).await.ok().and_then(|reading| *reading)
    }
}

/// Tells the readers of this process that a revision was committed.
#[derive(Clone, Debug)]
pub(super) struct Announcer {
    newest: watch::Sender<Revision>,
    on: Arc<AtomicBool>,
}

impl Default for Announcer {
    fn default() -> Self {
        Self { newest: watch::Sender::new(Revision(0)), on: Arc::new(AtomicBool::new(true)) }
    }
}

impl Announcer {
    pub(super) fn announce(&self, revision: Revision) {
        if self.is_on() {
            self.newest.send_if_modified(|newest| {
                let newer = revision > *newest;
                *newest = revision.max(*newest);
                newer
            });
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }
}

impl Db {
    /// Follows the revisions, reading them every `every`, at most [`REVISION_POLL_MAX`] apart.
    pub fn watch_revisions(&self, every: Duration) -> RevisionWatch {
        let (sender, readings) = watch::channel(None);
        tokio::spawn(follow(self.clone(), every.min(REVISION_POLL_MAX), sender));
        RevisionWatch { readings }
    }

    /// Drops every notification of this handle and its clones, or stops doing so. Revisions are
    /// then found by reading alone; tests prove that this is enough.
    pub fn set_notifications(&self, on: bool) {
        self.announcer().on.store(on, Ordering::Relaxed);
    }
}

async fn follow(db: Db, every: Duration, readings: watch::Sender<Option<Reading>>) {
    let mut announced = db.announcer().newest.subscribe();
    let mut listener = Listener::default();
    loop {
        announced.mark_unchanged();
        let at = Instant::now();
        match read_newest(&db).await {
            Ok(revision) => {
                readings.send_replace(Some(Reading { revision, at }));
            }
            // The age of the last reading tells the callers; the next round tries again.
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "no revision"),
        }
        tokio::select! {
            () = readings.closed() => return,
            () = tokio::time::sleep(every) => {}
            _ = announced.changed() => {}
            () = listener.heard(&db) => {}
        }
    }
}

async fn read_newest(db: &Db) -> Result<Revision, super::StoreError> {
    let newest = async { db.read().await?.revision_newest().await };
    match tokio::time::timeout(REVISION_POLL_MAX, newest).await {
        Ok(read) => read,
        Err(_) => Err(super::StoreError::Unavailable {
            operation: "revision_newest",
            source: sqlx::Error::PoolTimedOut,
        }),
    }
}

/// One connection that listens, made anew when it breaks.
#[derive(Default)]
struct Listener {
    listening: Option<PgListener>,
}

impl Listener {
    /// Returns when another process may have announced a revision. Never, without PostgreSQL or
    /// while its connection cannot be made: then the next reading is by time.
    async fn heard(&mut self, db: &Db) {
        let Some(pool) = db.listening_pool() else { return std::future::pending().await };
        if self.listening.is_none() {
            let listening = async {
                let mut listener = PgListener::connect_with(pool).await?;
                listener.listen(CHANNEL).await?;
                Ok::<_, sqlx::Error>(listener)
            };
            match listening.await {
                // A revision may have come before the first word that can be heard.
                Ok(listener) => return self.listening = Some(listener),
                Err(_) => return std::future::pending().await,
            }
        }
        let Some(listener) = &mut self.listening else { return };
        loop {
            match listener.recv().await {
                Ok(_) if db.announcer().is_on() => return,
                Ok(_) => {}
                Err(_) => {
                    self.listening = None;
                    return std::future::pending().await;
                }
            }
        }
    }
}
