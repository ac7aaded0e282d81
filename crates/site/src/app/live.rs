//! The live advertisements with what is pinned and which occurrences are open: what every policy is
//! compiled from.
//!
//! Kept in memory between compilations. A set is of one revision; before it is used in a snapshot, the
//! change log says which advertisements to read anew, so a policy never holds an older advertisement
//! than the tag it bears.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster_model::advertisement::AdvertisementSpec;
use muster_model::clock::Wall;
use muster_model::id::{AdvertisementId, CollectionId, PackageId};
use muster_model::name::Name;
use muster_model::object::{Object, Spec};
use muster_model::package::{PackageSpec, Program};
use muster_model::parameter::Values;
use muster_model::policy::{Due, PinnedPackage};
use muster_site_core::edit::{given_values, removal_values};
use muster_site_core::occurrence::Revision;
use muster_site_core::recurrence::rules;
use muster_site_core::targeting::{LiveAdvertisement, OpenOccurrence, Timing};

use super::error::{Outcome, Tried};
use super::graph::object;
use super::{dependency, parameter};
use crate::store::{AdvertisementRow, ObjectRow, PackageVersionRow, Read, Subject};

/// One live advertisement.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    /// As policies see it.
    pub(crate) advertisement: LiveAdvertisement,
    /// Its package, and those of what goes before.
    pub(crate) packages: BTreeSet<PackageId>,
    /// Its open occurrences by collection: usually one collection, two while it moves.
    pub(crate) open: BTreeMap<CollectionId, Vec<Due>>,
}

/// An advertisement, deleted or not, that removes what it installed where it is no longer one.
#[derive(Clone, Debug)]
pub(crate) struct Removing {
    /// What a policy offers for it: the removing program, from no assignment, for ever.
    pub(crate) removal: LiveAdvertisement,
    /// The grace time.
    pub(crate) after: Duration,
    /// The first revision from which on it has been of the package that it is of.
    pub(crate) since: u32,
    /// When it was deleted.
    pub(crate) deleted: Option<Wall>,
    /// When it expires.
    pub(crate) expires: Option<Wall>,
    packages: BTreeSet<PackageId>,
}

impl Removing {
    /// Whether it is advertised to nobody at `now`.
    pub(crate) fn is_over(&self, now: Wall) -> bool {
        self.deleted.is_some() || self.expires.is_some_and(|expires| expires <= now)
    }
}

/// The live advertisements at one revision.
#[derive(Clone, Default)]
pub(crate) struct LiveSet {
    at: Revision,
    by_id: HashMap<AdvertisementId, Arc<Live>>,
    by_collection: HashMap<CollectionId, BTreeSet<AdvertisementId>>,
    removing: BTreeMap<AdvertisementId, Arc<Removing>>,
}

impl LiveSet {
    /// The revision that it is of.
    pub(crate) fn revision(&self) -> Revision {
        self.at
    }

    /// The advertisements that remove what they installed, deleted ones among them.
    pub(crate) fn removing(&self) -> &BTreeMap<AdvertisementId, Arc<Removing>> {
        &self.removing
    }

    /// The advertisement of that id.
    pub(crate) fn get(&self, id: AdvertisementId) -> Option<&Arc<Live>> {
        self.by_id.get(&id)
    }

    /// What is open for a member of `collections`: the advertisements and their occurrences.
    pub(crate) fn offered(
        &self,
        collections: &[CollectionId],
    ) -> (BTreeMap<AdvertisementId, Arc<Live>>, Vec<OpenOccurrence>) {
        let mut live = BTreeMap::new();
        let mut open = Vec::new();
        for collection in collections {
            for id in self.by_collection.get(collection).into_iter().flatten() {
                let Some(one) = self.by_id.get(id) else { continue };
                live.insert(*id, one.clone());
                let dues = one.open.get(collection).into_iter().flatten();
                open.extend(
                    dues.map(|due| OpenOccurrence { advertisement: *id, due: due.clone() }),
                );
            }
        }
        (live, open)
    }

    /// The advertisements with a recurring assignment.
    pub(crate) fn recurring(&self) -> impl Iterator<Item = &Arc<Live>> {
        self.by_id.values().filter(|live| !live.advertisement.timing.recurrences.is_empty())
    }

    fn put_removing(&mut self, id: AdvertisementId, removing: Option<Removing>) {
        match removing {
            Some(removing) => _ = self.removing.insert(id, Arc::new(removing)),
            None => _ = self.removing.remove(&id),
        }
    }

    fn put(&mut self, id: AdvertisementId, live: Option<Live>) {
        if let Some(old) = self.by_id.remove(&id) {
            for collection in old.open.keys() {
                if let Some(ids) = self.by_collection.get_mut(collection) {
                    ids.remove(&id);
                }
            }
        }
        let Some(live) = live else { return };
        for collection in live.open.keys() {
            self.by_collection.entry(*collection).or_default().insert(id);
        }
        self.by_id.insert(id, Arc::new(live));
    }
}

/// The newest set that was put together.
#[derive(Default)]
pub(crate) struct LiveCache(Mutex<Option<Arc<LiveSet>>>);

impl LiveCache {
    /// The live advertisements as the snapshot `read` has them.
    pub(crate) async fn at(&self, read: &mut Read) -> Outcome<Arc<LiveSet>> {
        let newest = read.revision_newest().await?;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let set = match known {
            Some(set) if set.at == newest => return Ok(set),
            // A snapshot older than the set: some other request was faster.
            Some(set) if set.at > newest => load(read, newest).await?,
            Some(set) => follow(read, &set, newest).await?,
            None => load(read, newest).await?,
        };
        let set = Arc::new(set);
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_none_or(|held| held.at < set.at) {
            *held = Some(set.clone());
        }
        Ok(set)
    }
}

async fn load(read: &mut Read, at: Revision) -> Outcome<LiveSet> {
    let mut set = LiveSet { at, ..LiveSet::default() };
    for row in read.advertisement_list_live().await? {
        let live = load_one(read, &row).await?;
        set.put(row.id, live);
        set.put_removing(row.id, load_removing(read, &row).await?);
    }
    for row in read.advertisement_list_deleted().await? {
        set.put_removing(row.id, load_removing(read, &row).await?);
    }
    Ok(set)
}

/// Moves `set` on to `newest` by reading anew what the change log names.
async fn follow(read: &mut Read, set: &LiveSet, newest: Revision) -> Outcome<LiveSet> {
    let mut stale = BTreeSet::new();
    let mut packages = BTreeSet::new();
    let mut after = set.at;
    loop {
        let changes = read.change_list(after).await?;
        let Some(last) = changes.last() else { break };
        after = last.revision;
        for change in &changes {
            match change.subject {
                Subject::Advertisement(id) => _ = stale.insert(AdvertisementId(id)),
                Subject::Package(id) => _ = packages.insert(PackageId(id)),
                _ => {}
            }
        }
    }
    let of_package = |live: &&Arc<Live>| !packages.is_disjoint(&live.packages);
    stale
        .extend(set.by_id.values().filter(of_package).map(|live| live.advertisement.advertisement));
    let of_package = |one: &&Arc<Removing>| !packages.is_disjoint(&one.packages);
    stale.extend(set.removing.values().filter(of_package).map(|one| one.removal.advertisement));
    let mut next = LiveSet { at: newest, ..set.clone() };
    for id in stale {
        let row = read.advertisement_load(id).await?;
        let removing = match &row {
            Some(row) => load_removing(read, row).await?,
            None => None,
        };
        next.put_removing(id, removing);
        let live = match row.filter(|row| row.deleted_at.is_none()) {
            Some(row) => load_one(read, &row).await?,
            None => None,
        };
        next.put(id, live);
    }
    Ok(next)
}

/// One advertisement; `None` if its object or package version is gone, which nothing deletes.
async fn load_one(read: &mut Read, row: &AdvertisementRow) -> Outcome<Option<Live>> {
    let Some((advertisement, packages)) = with_packages(read, row).await? else {
        return Ok(None);
    };
    let mut open: BTreeMap<CollectionId, Vec<Due>> = BTreeMap::new();
    for occurrence in read.occurrence_list(row.id).await? {
        for span in occurrence.spans.iter().filter(|span| span.is_open()) {
            let due = Due { occurrence: occurrence.occurrence.clone(), at: occurrence.due };
            open.entry(span.collection).or_default().push(due);
        }
    }
    Ok(Some(Live { advertisement, packages, open }))
}

/// An advertisement as policies and decisions see it, deleted or not.
pub(crate) async fn live_advertisement(
    read: &mut Read,
    row: &AdvertisementRow,
) -> Outcome<Option<LiveAdvertisement>> {
    Ok(with_packages(read, row).await?.map(|(live, _)| live))
}

/// The removal that an advertisement declares, as policies see it. Its program is what the advertisement
/// chose among the signed ones; assignments, expiry and emergency are of what was advertised.
async fn load_removing(read: &mut Read, row: &AdvertisementRow) -> Outcome<Option<Removing>> {
    let Some((stored, spec)) = document(read, row).await? else { return Ok(None) };
    let Some(removal) = spec.removal.clone() else { return Ok(None) };
    let program = removal.program.clone();
    let found = of_program(read, row, stored.name, &spec, &program, removal_values).await?;
    let Some((live, packages)) = found else { return Ok(None) };
    let timing = Timing { splay: spec.splay, ..Timing::default() };
    // Nobody can resume what is deleted.
    let stopped = live.stopped.clone().filter(|_| row.deleted_at.is_none());
    let live = LiveAdvertisement { expires: None, notice: None, emergency: false, timing, ..live };
    let live = LiveAdvertisement { stopped, ..live };
    let mut since = row.revision;
    for revision in read.advertisement_revision_list(row.id).await?.iter().rev() {
        let document = serde_json::from_str(&revision.document).tried("read a revision")?;
        match Object::from_value(document).map(|object| object.spec) {
            Ok(Spec::Advertisement(old)) if old.package.name == spec.package.name => {
                since = revision.revision;
            }
            _ => break,
        }
    }
    Ok(Some(Removing {
        since,
        removal: live,
        after: removal.after.duration(),
        deleted: row.deleted_at,
        expires: row.expires,
        packages,
    }))
}

/// The same, with every package that bears on it: its own and those of what goes before.
async fn with_packages(
    read: &mut Read,
    row: &AdvertisementRow,
) -> Outcome<Option<(LiveAdvertisement, BTreeSet<PackageId>)>> {
    let Some((stored, spec)) = document(read, row).await? else { return Ok(None) };
    of_program(read, row, stored.name, &spec, &row.program, given_values).await
}

async fn document(
    read: &mut Read,
    row: &AdvertisementRow,
) -> Outcome<Option<(ObjectRow, AdvertisementSpec)>> {
    let Some(stored) = read.object_load(row.id.0).await? else { return Ok(None) };
    match object(&stored)?.spec {
        Spec::Advertisement(spec) => Ok(Some((stored, spec))),
        _ => Ok(None),
    }
}

/// One program of the pinned version under what the advertisement says. `values`: which of the values of
/// advertisement and collection it is given.
async fn of_program(
    read: &mut Read,
    row: &AdvertisementRow,
    name: Name,
    spec: &AdvertisementSpec,
    program: &Name,
    values: fn(&Program, &Values, &Values) -> Values,
) -> Outcome<Option<(LiveAdvertisement, BTreeSet<PackageId>)>> {
    let version = read.package_version_load(row.package, &row.version).await?;
    let package = read.object_load(row.package.0).await?;
    let (Some(version), Some(package)) = (version, package) else { return Ok(None) };
    let programs = package_spec(&version)?;
    let found = programs.program(program.as_str());
    let before = match found {
        Some(found) => dependency::pinned(read, &package.name, found).await?,
        None => Default::default(),
    };
    let collection = parameter::values(read, row.collection).await?;
    let parameters = found.map(|found| values(found, &spec.parameters, &collection));
    let live = LiveAdvertisement {
        advertisement: row.id,
        name,
        revision: row.revision,
        collection: row.collection,
        achieves: found.map(|found| found.achieves).unwrap_or_default(),
        supersedes: programs.supersedes.clone(),
        package: PinnedPackage {
            name: package.name,
            version: version.version,
            manifest: version.manifest,
            signatures: version.signatures,
        },
        program: program.clone(),
        expires: row.expires,
        offline_for: spec.offline_for,
        notice: spec.notice,
        emergency: spec.emergency,
        timing: Timing {
            late: spec.late,
            splay: spec.splay,
            recurrences: rules(spec.named_assignments()),
        },
        stopped: row.stopped.clone(),
        revoked: version.revoked.or(before.revoked),
        dependencies: before.pinned,
        parameters: parameters.unwrap_or_default(),
    };
    let packages = before.packages.into_iter().chain([row.package]).collect();
    Ok(Some((live, packages)))
}

/// What the manifest of a published version says.
pub(crate) fn package_spec(version: &PackageVersionRow) -> Outcome<PackageSpec> {
    serde_json::from_str(&version.spec).tried("read a published package's spec")
}
