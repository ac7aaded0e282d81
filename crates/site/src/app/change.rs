//! A change of what the site defines: one transaction under the revision lock, with its entry in the
//! change log and its audit messages, all or nothing.

use std::sync::Arc;

use muster_model::clock::Wall;
use muster_model::id::{AdvertisementId, DeviceId};
use muster_model::message::Severity;
use muster_site_core::membership::Graph;
use muster_site_core::occurrence::Revision;

use super::error::Outcome;
use super::{App, Who};
use crate::store::{SiteMessage, Subject, Tx};

/// The component that speaks in the site's own messages.
const COMPONENT: &str = "site";

/// Numbers of the site's own messages, stable for ever. SMS 2.0 used 30000 and above for audit
/// messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    ObjectCreated = 30_000,
    ObjectChanged = 30_001,
    ObjectDeleted = 30_002,
    ObjectRenamed = 30_003,
    VersionPublished = 30_010,
    VersionRevoked = 30_011,
    VersionSigned = 30_012,
    AdvertisementStopped = 30_020,
    AdvertisementResumed = 30_021,
    AdvertisementRerun = 30_022,
    AdvertisementRemoval = 30_023,
    SiteHalted = 30_030,
    SiteResumed = 30_031,
    SettingsChanged = 30_032,
    TrustChanged = 30_033,
    ComponentPaused = 30_034,
    ComponentResumed = 30_035,
    TokenCreated = 30_040,
    LoggedOn = 30_041,
    LoggedOff = 30_042,
    TokenRevoked = 30_043,
    DeviceEnrolled = 30_050,
    DeviceApproved = 30_051,
    DeviceHeld = 30_052,
    DeviceRetired = 30_053,
    DeviceRenamed = 30_054,
    DevicePutBack = 30_055,
    SetAsideRetried = 30_060,
    SetAsideDropped = 30_061,
}

/// What a message is about, beside its sentence.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct About {
    pub(crate) advertisement: Option<AdvertisementId>,
    pub(crate) device: Option<DeviceId>,
}

impl From<DeviceId> for About {
    fn from(device: DeviceId) -> Self {
        Self { device: Some(device), ..Self::default() }
    }
}

impl From<AdvertisementId> for About {
    fn from(advertisement: AdvertisementId) -> Self {
        Self { advertisement: Some(advertisement), ..Self::default() }
    }
}

/// An open change.
pub(crate) struct Change<'a> {
    app: &'a App,
    /// The transaction; holds the revision lock.
    pub(crate) tx: Tx,
    /// The revision that the change takes.
    pub(crate) revision: Revision,
    /// The site's time, one for the whole change.
    pub(crate) now: Wall,
    /// Who makes it: a principal's name, or `site`.
    pub(crate) by: String,
    subjects: Vec<Subject>,
    said: Vec<SiteMessage>,
}

impl<'a> Change<'a> {
    /// Begins a change by a person or pipeline.
    pub(crate) async fn begin(app: &'a App, who: &Who) -> Outcome<Self> {
        Self::open(app, who.name.clone()).await
    }

    /// Begins a change that the site makes by itself.
    pub(crate) async fn begin_by_site(app: &'a App) -> Outcome<Self> {
        Self::open(app, "site".to_owned()).await
    }

    async fn open(app: &'a App, by: String) -> Outcome<Self> {
        let mut tx = app.db.begin().await?;
        let revision = tx.revision_take().await?;
        let now = app.now();
        Ok(Self { app, tx, revision, now, by, subjects: Vec::new(), said: Vec::new() })
    }

    /// All collections as they were before this change: not for a change that has edited one.
    pub(crate) async fn graph_before(&mut self) -> Outcome<Arc<Graph>> {
        let committed = Revision(self.revision.0.saturating_sub(1));
        self.app.graphs.at(&mut self.tx, committed).await
    }

    /// The zone that local times of devices are seen in.
    pub(crate) fn zone(&self) -> jiff::tz::TimeZone {
        self.app.zone.clone()
    }

    /// What every process must read anew.
    pub(crate) fn concerns(&mut self, subject: Subject) {
        if !self.subjects.contains(&subject) {
            self.subjects.push(subject);
        }
    }

    /// An audit message; written with the change.
    pub(crate) fn say(&mut self, code: Code, about: impl Into<About>, text: impl Into<String>) {
        self.say_severe(code, Severity::Info, about, text);
    }

    /// As [`Change::say`], for what a person should look at.
    pub(crate) fn say_severe(
        &mut self,
        code: Code,
        severity: Severity,
        about: impl Into<About>,
        text: impl Into<String>,
    ) {
        let About { advertisement, device } = about.into();
        self.said.push(SiteMessage {
            at: self.now,
            code: code as u16,
            severity,
            component: COMPONENT.to_owned(),
            principal: self.by.clone(),
            advertisement,
            device,
            text: text.into(),
        });
    }

    /// Commits, and follows the change in this process's memory: who asks next sees it.
    pub(crate) async fn commit(mut self) -> Outcome<Revision> {
        self.tx.site_message_insert(&self.said).await?;
        self.tx.change_insert(&self.subjects).await?;
        self.tx.commit().await?;
        self.app.follow(self.revision).await;
        Ok(self.revision)
    }
}
