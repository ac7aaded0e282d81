//! The use cases of a site, one file a noun.
//!
//! Each opens a transaction of the store, asks `site-core` what follows from what is there, writes it,
//! commits, and only then acts: wakes polls, pokes tasks, answers. Called by `http/` (people and
//! scripts), by [`DeviceService`](device_service::DeviceService) (devices) and by `tasks/`. What is kept
//! in memory here is a copy of the database, never the only one: several processes may serve a site.

pub(crate) mod accounting;
pub(crate) mod component;
pub(crate) mod content;
pub(crate) mod device_service;
pub(crate) mod draw;
pub(crate) mod error;
pub(crate) mod message;
pub(crate) mod token;

mod advertisement;
mod apply;
mod change;
mod collection;
mod contacts;
mod credential;
mod credentials;
mod delete;
mod dependency;
mod device;
mod doctor;
mod enrol;
mod graph;
mod index;
mod ingest;
mod live;
mod metrics;
mod object;
mod order;
mod package;
mod parameter;
mod policy;
mod put_back;
mod query;
mod recurrence;
mod removal;
mod set_aside;
mod settle;
mod signature;
mod site;
mod site_time;
mod ticket;
mod trust;
mod verify;
mod view;
mod waiters;
mod why;
mod window;

use std::sync::{Arc, OnceLock};

use muster_host::clock::Clock;
use muster_host::objects::{ObjectError, ObjectStore};
use muster_model::clock::Wall;
use muster_model::id::{EpochId, PrincipalId};
use muster_site_core::occurrence::Revision;
use muster_site_core::roles::Principal;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::component::Components;
use self::contacts::Contacts;
use self::credentials::Credentials;
use self::device_service::PollWait;
use self::error::{Outcome, Refusal, Tried};
use self::graph::GraphCache;
use self::index::Index;
use self::ingest::{Committer, Writer};
use self::live::LiveCache;
use self::metrics::Metrics;
use self::policy::PolicyCache;
use self::query::QueryPlaces;
use self::removal::Removals;
use self::settle::Unsettled;
use self::site_time::TimeSeal;
use self::ticket::Tickets;
use self::trust::TrustCache;
use self::waiters::Waiters;
use self::window::WindowCache;
use crate::folder::Keys;
use crate::store::{Db, REVISION_POLL_MAX, RevisionWatch};

/// Tasks that commit messages at once in PostgreSQL; SQLite has one writer.
const WRITERS_POSTGRES: usize = 4;

/// Who a site is; fixed while a process runs.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The three-character code.
    pub(crate) code: String,
    /// The epoch.
    pub(crate) epoch: EpochId,
}

/// Who asks for a use case.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    /// Its id.
    pub(crate) id: PrincipalId,
    /// Its name, for audit messages and orders.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) role: Principal,
}

/// What hastens the tasks; each also runs by time.
#[derive(Default)]
pub(crate) struct Pokes {
    /// Facts changed: rules are to be held against devices.
    pub(crate) evaluate: Notify,
    /// Something is to be decided for obligations that nobody started.
    pub(crate) settle: Notify,
}

/// What an [`App`] is made of.
pub(crate) struct Parts {
    pub(crate) db: Db,
    /// `sqlite` or `postgresql`.
    pub(crate) database: &'static str,
    pub(crate) keys: Keys,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) clock: Clock,
    pub(crate) identity: Identity,
    pub(crate) components: Components,
    /// Ends the process; see [`App::end_if_fatal`].
    pub(crate) stop: CancellationToken,
}

/// Everything that the use cases of one process share.
pub(crate) struct App {
    pub(crate) db: Db,
    pub(crate) database: &'static str,
    pub(crate) keys: Keys,
    /// The certificate over the signing key, DER.
    signing_certificate: Vec<u8>,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) clock: Clock,
    /// The zone that local times of devices are seen in: that of the process.
    zone: jiff::tz::TimeZone,
    pub(crate) identity: Identity,
    pub(crate) pokes: Arc<Pokes>,
    pub(crate) components: Components,
    pub(crate) index: Index,
    pub(crate) waiters: Waiters,
    pub(crate) unsettled: Unsettled,
    removals: Removals,
    revisions: RevisionWatch,
    contacts: Contacts,
    credentials: Credentials,
    committer: Committer,
    graphs: GraphCache,
    windows: WindowCache,
    live: LiveCache,
    metrics: Arc<Metrics>,
    policies: PolicyCache,
    poll_waits: PollWait,
    query_places: QueryPlaces,
    tickets: Tickets,
    time: TimeSeal,
    trusted: TrustCache,
    stop: CancellationToken,
    fatal: OnceLock<String>,
}

impl App {
    /// Reads what is kept in memory, and starts following the site's revisions and writing messages.
    pub(crate) async fn open(parts: Parts) -> Outcome<Arc<Self>> {
        let Parts { db, database, keys, objects, clock, identity, components, stop } = parts;
        let issued = keys.ca.issue_signing(&identity.code, &keys.signing.public(), clock.wall());
        let issued = issued.tried("issue the signing certificate")?;
        let revisions = db.watch_revisions(REVISION_POLL_MAX);
        let index = Index::load(&db).await?;
        let (pokes, metrics) = (Arc::new(Pokes::default()), Arc::new(Metrics::default()));
        let writer = Writer {
            db: db.clone(),
            clock: clock.clone(),
            pokes: pokes.clone(),
            metrics: metrics.clone(),
        };
        let writers = if database == "sqlite" { 1 } else { WRITERS_POSTGRES };
        Ok(Arc::new(Self {
            signing_certificate: issued.certificate.to_vec(),
            time: TimeSeal::new(keys.signing.clone(), identity.epoch),
            committer: Committer::start(writer, writers),
            waiters: Waiters::default(),
            unsettled: Unsettled::default(),
            removals: Removals::default(),
            contacts: Contacts::default(),
            credentials: Credentials::default(),
            graphs: GraphCache::default(),
            windows: WindowCache::default(),
            live: LiveCache::default(),
            policies: PolicyCache::default(),
            poll_waits: PollWait::default(),
            query_places: QueryPlaces::default(),
            tickets: Tickets::default(),
            trusted: TrustCache::default(),
            db,
            database,
            keys,
            objects,
            clock,
            zone: jiff::tz::TimeZone::system(),
            identity,
            components,
            pokes,
            index,
            revisions,
            metrics,
            stop,
            fatal: OnceLock::new(),
        }))
    }

    /// Ends the process if the disk no longer keeps what it was given: what such a disk says it has
    /// written cannot be believed, by nobody and not by another try. The next start reads what is
    /// really there.
    pub(crate) fn end_if_fatal(&self, error: &ObjectError) {
        if error.is_fatal() {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "the disk is not to be trusted"
            );
            let _ = self.fatal.set(error.to_string());
            self.stop.cancel();
        }
    }

    /// Why the process ends by itself, if it does.
    pub(crate) fn fatal(&self) -> Option<&str> {
        self.fatal.get().map(String::as_str)
    }

    /// The site's time.
    pub(crate) fn now(&self) -> Wall {
        self.clock.wall()
    }

    /// A watch of the site's revisions.
    pub(crate) fn revisions(&self) -> RevisionWatch {
        self.revisions.clone()
    }

    /// Whether what is in memory is young enough to be answered: it was read within 5 s and holds
    /// everything that was there then.
    pub(crate) fn is_fresh(&self) -> bool {
        let latest = self.revisions.latest();
        self.revisions.is_fresh()
            && latest.is_some_and(|reading| reading.revision <= self.index.revision())
    }

    /// Moves what is in memory on to `revision`, wakes the polls that it concerns, and puts on the
    /// list what is to be decided. What cannot be read now is read by the task that follows.
    pub(crate) async fn follow(&self, revision: Revision) {
        if self.index.revision() < revision
            && let Err(error) = self.follow_newest().await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "memory falls behind");
        }
    }

    /// Moves what is in memory on to the newest revision.
    pub(crate) async fn follow_newest(&self) -> Outcome<()> {
        let moved = self.index.follow(&self.db).await?;
        for (collection, device) in &moved.members {
            self.unsettled.moved(*collection, *device);
            self.policies.forget(*device);
        }
        moved.devices.iter().for_each(|device| self.policies.forget(*device));
        for advertisement in &moved.advertisements {
            self.unsettled.changed(*advertisement);
        }
        if !moved.members.is_empty() || !moved.advertisements.is_empty() {
            self.removals.changed();
            self.pokes.settle.notify_one();
        }
        if moved.any {
            self.index.with_tags(|tag| self.waiters.wake_changed(tag));
        }
        Ok(())
    }
}

/// A cursor that no page of ours ended with.
pub(crate) fn bad_cursor() -> Refusal {
    Refusal::invalid("cursor", "a cursor is what a page's `next` says")
}
