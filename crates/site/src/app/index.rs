//! What this process keeps in memory of every device: its tag's parts, its key, whether it belongs.
//!
//! Filled from one snapshot of the database and moved on by the change log, so it is always what the
//! database was at one revision. Answers "nothing new" and checks tickets without a look into the
//! database; a caller first asks whether the index is young enough ([`super::App::is_fresh`]).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use muster_model::digest::Digest;
use muster_model::id::{AdvertisementId, CollectionId, DeviceId, EpochId, Incarnation};
use muster_model::sign::PublicKey;
use muster_site_core::device::Admission;
use muster_site_core::ingest::StreamRow;
use muster_site_core::occurrence::Revision;
use muster_site_core::put_back::Lives;
use muster_site_core::targeting::{PolicyIndex, SiteVersions};

use super::error::Outcome;
use super::policy::site_versions;
use crate::store::{Db, DeviceRow, Read, SiteRow, Subject};

/// A device as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The key that its tickets and batches are signed with.
    pub(crate) key: PublicKey,
    /// Whether it may do anything at all.
    pub(crate) is_retired: bool,
    /// The highest life of its memory that was handed out.
    pub(crate) granted: Incarnation,
}

/// The index of one process.
pub(crate) struct Index {
    state: RwLock<State>,
    /// One reader of the change log at a time.
    following: tokio::sync::Mutex<()>,
}

struct State {
    policy: PolicyIndex,
    devices: HashMap<DeviceId, Known>,
    /// Of the few devices of which two histories were seen.
    lives: HashMap<DeviceId, Arc<Lives>>,
    credentials: Revision,
    revision: Revision,
}

/// What following the change log brought.
#[derive(Default)]
pub(crate) struct Moved {
    /// Anything at all.
    pub(crate) any: bool,
    /// Devices that joined or left a collection.
    pub(crate) members: Vec<(CollectionId, DeviceId)>,
    /// Devices that changed themselves.
    pub(crate) devices: Vec<DeviceId>,
    /// Advertisements that were edited or deleted.
    pub(crate) advertisements: Vec<AdvertisementId>,
}

impl Index {
    /// Fills an index from one snapshot.
    pub(crate) async fn load(db: &Db) -> Outcome<Self> {
        let state = load(db).await?;
        Ok(Self { state: RwLock::new(state), following: tokio::sync::Mutex::new(()) })
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The revision that the index is at.
    pub(crate) fn revision(&self) -> Revision {
        self.read().revision
    }

    /// The device, if the index knows it.
    pub(crate) fn device(&self, id: DeviceId) -> Option<Known> {
        self.read().devices.get(&id).copied()
    }

    /// The lives of the device's memory whose histories were doubted; `None` of nearly every device.
    pub(crate) fn lives(&self, id: DeviceId) -> Option<Arc<Lives>> {
        self.read().lives.get(&id).cloned()
    }

    /// The tag of a device, and the revision that it is of.
    pub(crate) fn tag(&self, id: DeviceId) -> Option<(Digest, Revision)> {
        let state = self.read();
        state.policy.tag(id).map(|tag| (tag, state.revision))
    }

    /// Runs `look` with a function that answers tags, under one lock.
    pub(crate) fn with_tags<T>(
        &self,
        look: impl FnOnce(&dyn Fn(DeviceId) -> Option<Digest>) -> T,
    ) -> T {
        let state = self.read();
        look(&|id| state.policy.tag(id))
    }

    /// The version of the site's settings.
    pub(crate) fn settings_version(&self) -> u64 {
        self.read().policy.site().settings
    }

    /// The revision of the last change of any credential.
    pub(crate) fn credentials_revision(&self) -> Revision {
        self.read().credentials
    }

    /// Reads the change log and moves on. Answers what changed. Idempotent: two callers at once do
    /// the work once.
    pub(crate) async fn follow(&self, db: &Db) -> Outcome<Moved> {
        let _turn = self.following.lock().await;
        let mut moved = Moved::default();
        loop {
            let mut read = db.read().await?;
            let after = self.revision();
            let changes = read.change_list(after).await?;
            let Some(last) = changes.last() else { return Ok(moved) };
            let revision = last.revision;
            let subjects: HashSet<Subject> = changes.iter().map(|change| change.subject).collect();
            let mut news = News::default();
            for subject in subjects {
                news.look_up(&mut read, subject, after).await?;
            }
            moved.any = true;
            moved.members.extend(news.members.iter().map(|(one, device, _)| (*one, *device)));
            moved.devices.extend(news.devices.iter().map(|(row, ..)| row.device.id));
            moved.advertisements.append(&mut news.advertisements);
            self.take(news, revision);
        }
    }

    fn take(&self, news: News, revision: Revision) {
        let mut guard = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        if let Some(site) = news.site {
            state.policy.site_changed(site_versions(&site));
        }
        for (id, version) in news.offers {
            state.policy.collection_offered_changed(id, version);
        }
        for (device, collections, lives) in news.devices {
            match lives == Lives::default() {
                true => state.lives.remove(&device.device.id),
                false => state.lives.insert(device.device.id, Arc::new(lives)),
            };
            take_device(state, &device, collections);
        }
        for (collection, device, is_member) in news.members {
            let one = [collection];
            let (joins, leaves): (&[_], &[_]) = if is_member { (&one, &[]) } else { (&[], &one) };
            state.policy.membership_changed(device, joins, leaves);
        }
        if news.credentials {
            state.credentials = revision;
        }
        state.revision = revision;
    }
}

/// What was read anew for some entries of the change log: what holds in the snapshot, so taking it
/// twice, or a little early, does no harm.
#[derive(Default)]
struct News {
    site: Option<SiteRow>,
    offers: Vec<(CollectionId, u64)>,
    devices: Vec<(DeviceRow, Vec<CollectionId>, Lives)>,
    /// Who joined or left which collection: whether it is a member now.
    members: Vec<(CollectionId, DeviceId, bool)>,
    advertisements: Vec<AdvertisementId>,
    credentials: bool,
}

impl News {
    async fn look_up(&mut self, read: &mut Read, subject: Subject, after: Revision) -> Outcome<()> {
        match subject {
            Subject::Site => self.site = read.site_load().await?,
            Subject::Collection(id) => {
                let row = read.collection_load(CollectionId(id)).await?;
                self.offers.extend(row.map(|row| (row.id, row.policy_version)));
            }
            Subject::Members(id) => {
                let id = CollectionId(id);
                let changed = read.membership_changed(id, after).await?;
                self.members.extend(changed.into_iter().map(|(device, now)| (id, device, now)));
            }
            Subject::Device(id) => {
                let id = DeviceId(id);
                if let Some(row) = read.device_load(id).await? {
                    let found = read.membership_of_many(&[id]).await?;
                    let collections = found.into_iter().map(|(_, collection)| collection);
                    let lives = Lives::of(&read.stream_list(id).await?);
                    self.devices.push((row, collections.collect(), lives));
                }
            }
            // Its change moves the policy version of its collection, which is a subject of its own.
            Subject::Advertisement(id) => self.advertisements.push(AdvertisementId(id)),
            Subject::Credential(_) => self.credentials = true,
            Subject::Package(_) | Subject::Window(_) => {}
        }
        Ok(())
    }
}

fn take_device(state: &mut State, row: &DeviceRow, collections: Vec<CollectionId>) {
    let is_retired = row.device.admission == Admission::Retired;
    let granted = row.next_incarnation;
    state.devices.insert(row.device.id, Known { key: row.key, is_retired, granted });
    match is_retired {
        true => state.policy.device_removed(row.device.id),
        false => state.policy.device_changed(row.device.id, row.own_version, collections),
    }
}

async fn load(db: &Db) -> Outcome<State> {
    let mut read = db.read().await?;
    let revision = read.revision_newest().await?;
    let site = read.site_load().await?;
    let nobody = EpochId(uuid::Uuid::nil());
    let site = site
        .as_ref()
        .map_or(SiteVersions { epoch: nobody, settings: 0, trust: 0, halt: 0 }, site_versions);
    let mut state = State {
        policy: PolicyIndex::new(site),
        devices: HashMap::new(),
        lives: HashMap::new(),
        credentials: revision,
        revision,
    };
    for row in read.collection_list().await? {
        state.policy.collection_offered_changed(row.id, row.policy_version);
    }
    let mut doubted: HashMap<DeviceId, Vec<StreamRow>> = HashMap::new();
    for stream in read.stream_list_doubted().await? {
        doubted.entry(stream.device).or_default().push(stream);
    }
    let lives =
        doubted.into_iter().map(|(device, streams)| (device, Arc::new(Lives::of(&streams))));
    state.lives = lives.collect();
    let mut members: HashMap<DeviceId, Vec<CollectionId>> = HashMap::new();
    let mut after = None;
    loop {
        let page = read.membership_page(after).await?;
        let Some(last) = page.last() else { break };
        after = Some(*last);
        for (device, collection) in page {
            members.entry(device).or_default().push(collection);
        }
    }
    let mut after = None;
    loop {
        let page = read.device_list(after, u32::MAX).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.device.id);
        for row in &page {
            let collections = members.remove(&row.device.id).unwrap_or_default();
            take_device(&mut state, row, collections);
        }
    }
    Ok(state)
}
