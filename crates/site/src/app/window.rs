//! Maintenance windows and freezes: planning and writing one, and all of them for the policies.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster_model::id::CollectionId;
use muster_model::name::Name;
use muster_model::object::{Kind as ObjectKind, Object, Spec};
use muster_model::package::Program;
use muster_model::settings::Setting;
use muster_model::window::{MaintenanceWindowSpec, WINDOWS_MAX, Window};
use muster_site_core::edit::{WindowLookups, WindowPlan, plan_window};
use muster_site_core::occurrence::Revision;
use uuid::Uuid;

use super::change::Change;
use super::error::{Outcome, Refusal};
use super::graph::{Collections, object, objects};
use super::live::package_spec;
use super::policy::site_row;
use crate::store::{Read, Subject};

/// Every window and freeze of the site, by collection.
#[derive(Default)]
pub(crate) struct WindowSet(BTreeMap<CollectionId, Vec<Window>>);

impl WindowSet {
    /// Those of some collections, by name, each once. Beyond [`WINDOWS_MAX`] the rest is left out:
    /// windows before freezes, because a device with fewer windows starts less.
    pub(crate) fn of(&self, collections: &[CollectionId]) -> Vec<Window> {
        let mut found: Vec<Window> =
            collections.iter().filter_map(|id| self.0.get(id)).flatten().cloned().collect();
        found.sort_by(|a, b| {
            let freezes_first = |one: &Window| one.effect == muster_model::window::Effect::Window;
            (freezes_first(a), &a.name).cmp(&(freezes_first(b), &b.name))
        });
        found.truncate(WINDOWS_MAX);
        found
    }

    async fn load(read: &mut Read) -> Outcome<Self> {
        let rows = objects(read, ObjectKind::MaintenanceWindow).await?;
        let mut set = Self::default();
        if rows.is_empty() {
            return Ok(set);
        }
        let collections = Collections::load(read).await?.by_name;
        for row in rows {
            let Spec::MaintenanceWindow(spec) = object(&row)?.spec else { continue };
            let collection = collections.get(&spec.collection);
            if let (Some(id), Some(window)) = (collection, spec.window(&row.name)) {
                set.0.entry(*id).or_default().push(window);
            }
        }
        Ok(set)
    }
}

/// The windows that were read last, and the revision that they are of.
#[derive(Default)]
pub(crate) struct WindowCache(Mutex<Option<(Revision, Arc<WindowSet>)>>);

impl WindowCache {
    /// The windows as the snapshot `read` has them. Read anew only when one has changed since.
    pub(crate) async fn at(&self, read: &mut Read) -> Outcome<Arc<WindowSet>> {
        let newest = read.revision_newest().await?;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let set = match known {
            Some((at, set)) if at == newest => return Ok(set),
            Some((at, set)) if at < newest && !changed(read, at).await? => set,
            // None yet, changed since, or a snapshot older than the set.
            _ => Arc::new(WindowSet::load(read).await?),
        };
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_none_or(|(at, _)| *at < newest) {
            *held = Some((newest, set.clone()));
        }
        Ok(set)
    }
}

/// Whether the change log names a window, or the whole site, after `at`.
async fn changed(read: &mut Read, mut at: Revision) -> Outcome<bool> {
    loop {
        let changes = read.change_list(at).await?;
        let Some(last) = changes.last() else { return Ok(false) };
        at = last.revision;
        let concerns = |subject| matches!(subject, Subject::Window(_) | Subject::Site);
        if changes.iter().any(|change| concerns(change.subject)) {
            return Ok(true);
        }
    }
}

/// The windows of one collection as this transaction has them, without the one called `but`.
pub(crate) async fn of_collection(
    read: &mut Read,
    collection: &Name,
    but: Option<Uuid>,
) -> Outcome<Vec<Window>> {
    let mut found = Vec::new();
    for row in objects(read, ObjectKind::MaintenanceWindow).await? {
        let Spec::MaintenanceWindow(spec) = object(&row)?.spec else { continue };
        if spec.collection == *collection && Some(row.id) != but {
            found.extend(spec.window(&row.name));
        }
    }
    Ok(found)
}

/// How long a program has between TERM and KILL, by the site's settings.
pub(crate) async fn grace(read: &mut Read) -> Outcome<Duration> {
    Ok(site_row(read).await?.settings.get(Setting::TermGrace).duration())
}

/// Plans a window against what is there. `own` is its id, if it has one.
pub(crate) async fn plan(
    change: &mut Change<'_>,
    stored: Option<&Object>,
    own: Option<Uuid>,
    object: &Object,
    spec: &MaintenanceWindowSpec,
    known: &Collections,
) -> Outcome<WindowPlan> {
    let now = change.now;
    let read = &mut *change.tx;
    let collection = known.by_name.get(&spec.collection).copied();
    let programs = match collection {
        Some(id) => advertised(read, id).await?,
        None => Vec::new(),
    };
    let lookups = WindowLookups {
        collection,
        others: &of_collection(read, &spec.collection, own).await?,
        programs: &programs,
        grace: grace(read).await?,
        now,
    };
    let plan = plan_window(stored, object, spec, &lookups);
    Ok(plan.map_err(|problems| Refusal::problems(&problems))?)
}

/// What is advertised to a collection and is no emergency, with its program.
async fn advertised(read: &mut Read, id: CollectionId) -> Outcome<Vec<(Name, Program)>> {
    let mut found = Vec::new();
    for row in read.advertisement_list_collection(id).await? {
        let Some(stored) = read.object_load(row.id.0).await? else { continue };
        let Spec::Advertisement(spec) = object(&stored)?.spec else { continue };
        let version = read.package_version_load(row.package, &row.version).await?;
        let (Some(version), false) = (version, spec.emergency) else { continue };
        let program = package_spec(&version)?.program(row.program.as_str()).cloned();
        found.extend(program.map(|program| (stored.name, program)));
    }
    Ok(found)
}

/// What is offered to the collections that a window is, or was, for changes.
pub(crate) async fn tell(
    change: &mut Change<'_>,
    id: Uuid,
    collections: &[CollectionId],
) -> Outcome<()> {
    change.tx.collection_offer_changed(collections).await?;
    change.concerns(Subject::Window(id));
    collections.iter().for_each(|one| change.concerns(Subject::Collection(one.0)));
    Ok(())
}

/// The collection that a stored window is for.
pub(crate) async fn collection_of(
    read: &mut Read,
    document: &Object,
) -> Outcome<Option<CollectionId>> {
    let Spec::MaintenanceWindow(spec) = &document.spec else { return Ok(None) };
    let found = read.object_find(ObjectKind::Collection, &spec.collection).await?;
    Ok(found.map(|row| CollectionId(row.id)))
}
