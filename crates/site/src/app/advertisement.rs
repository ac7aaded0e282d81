//! Advertisements: planning and writing one, following the newest version, letting devices know.

use std::collections::BTreeSet;

use muster_model::advertisement::{AdvertisementSpec, Track};
use muster_model::id::{AdvertisementId, CollectionId, PackageId};
use muster_model::object::{Kind as ObjectKind, Object, Spec};
use muster_model::package::Achieves;
use muster_model::plural::{counted, verb};
use muster_site_core::edit::{
    self, AdvertisementLookups, AdvertisementPlan, Change as Difference, PublishedVersion, Rival,
    forecast, plan_advertisement,
};
use muster_site_core::obligation::ObligationRow;
use muster_site_core::occurrence::OccurrenceRow;

use super::change::Change;
use super::error::{Outcome, Refusal};
use super::graph::{Collections, object};
use super::live::live_advertisement;
use super::{collection, dependency, object as objects, package, parameter, removal, window};
use crate::store::{
    AdvertisementRevisionRow, AdvertisementRow, DEVICE_PAGE_MAX, OBLIGATION_PAGE_MAX, ObjectRow,
    Read, Subject,
};

/// An advertisement as stored, with everything that an edit looks at.
pub(crate) struct Stored {
    pub(crate) object: ObjectRow,
    pub(crate) row: AdvertisementRow,
    pub(crate) edit: edit::AdvertisementRow,
}

/// Loads an advertisement with its occurrences.
pub(crate) async fn load(read: &mut Read, object_row: ObjectRow) -> Outcome<Option<Stored>> {
    let id = AdvertisementId(object_row.id);
    let Some(row) = read.advertisement_load(id).await? else { return Ok(None) };
    let Some(live) = live_advertisement(read, &row).await? else { return Ok(None) };
    let edit = edit::AdvertisementRow {
        object: object(&object_row)?,
        revision: row.revision,
        package: live.package,
        collection: row.collection,
        occurrences: read.occurrence_list(id).await?,
    };
    Ok(Some(Stored { object: object_row, row, edit }))
}

/// Plans an advertisement against what is there.
pub(crate) async fn plan(
    change: &mut Change<'_>,
    stored: Option<&Stored>,
    object: &Object,
    spec: &AdvertisementSpec,
    known: &Collections,
) -> Outcome<(AdvertisementPlan, Option<PackageId>)> {
    let now = change.now;
    let zone = change.zone();
    let read = &mut *change.tx;
    let package = read.object_find(ObjectKind::Package, &spec.package.name).await?;
    let package_id = package.as_ref().map(|row| PackageId(row.id));
    let versions = match package_id {
        Some(id) => Some(package::versions(read, id, &spec.package.name).await?),
        None => None,
    };
    let collection = known.by_name.get(&spec.collection).copied();
    let members = match collection {
        Some(id) => read.collection_load(id).await?.map_or(0, |row| row.members),
        None => 0,
    };
    let platforms = match collection {
        Some(id) if names_platform(versions.as_deref(), spec) => platforms(read, id).await?,
        _ => Vec::new(),
    };
    let own = stored.map(|stored| stored.row.id);
    let rivals =
        rivals(read, package_id, own, collection, &aims(versions.as_deref(), spec)).await?;
    let windows = window::of_collection(read, &spec.collection, None).await?;
    let grace = window::grace(read).await?;
    let values = match collection {
        Some(id) => parameter::values(read, id).await?,
        None => Default::default(),
    };
    let plan = {
        // The closure must not live across a wait.
        let lookups = AdvertisementLookups {
            values: &values,
            versions: versions.as_deref(),
            collection,
            members,
            members_on: &|platform| {
                let on = platforms.iter().filter(|facts| facts.is_platform(platform));
                on.count() as u64
            },
            rivals: &rivals,
            windows: &windows,
            grace,
            now,
            zone: &zone,
        };
        plan_advertisement(stored.map(|stored| &stored.edit), object, spec, &lookups)
    };
    let plan = plan.map_err(|problems| Refusal::problems(&problems))?;
    // What is pinned already may be edited while what goes before it is revoked.
    let kept = stored.is_some_and(|row| row.edit.package.manifest == plan.package.manifest);
    let pinned = dependency::pin(read, &plan.package.name, &plan.program, kept).await?;
    pinned.map_err(|problem| Refusal::problems(&[problem]))?;
    Ok((plan, package_id))
}

/// Whether any version's program of that name asks for a platform.
fn names_platform(versions: Option<&[PublishedVersion]>, spec: &AdvertisementSpec) -> bool {
    let program = |one: &PublishedVersion| {
        one.spec.program(spec.program.as_str()).is_some_and(|program| program.platform.is_some())
    };
    versions.is_some_and(|versions| versions.iter().any(program))
}

/// The facts of a collection's members.
async fn platforms(read: &mut Read, id: CollectionId) -> Outcome<Vec<muster_model::facts::Facts>> {
    let members: Vec<_> = collection::members(read, id).await?.into_iter().collect();
    let mut found = Vec::with_capacity(members.len());
    for page in members.chunks(DEVICE_PAGE_MAX as usize) {
        let rows = read.device_load_many(page).await?;
        found.extend(rows.into_iter().map(|row| row.device.facts));
    }
    Ok(found)
}

/// What the versions' programs of that name achieve.
fn aims(versions: Option<&[PublishedVersion]>, spec: &AdvertisementSpec) -> Vec<Achieves> {
    let versions = versions.into_iter().flatten();
    let programs = versions.filter_map(|one| one.spec.program(spec.program.as_str()));
    programs.map(|program| program.achieves).collect()
}

/// Other live advertisements of the package that achieve something else than `aims`, each with how
/// many members it shares. Those that agree are no rivals, and nobody counts their members.
async fn rivals(
    read: &mut Read,
    package: Option<PackageId>,
    own: Option<AdvertisementId>,
    collection: Option<CollectionId>,
    aims: &[Achieves],
) -> Outcome<Vec<Rival>> {
    let (Some(package), Some(collection)) = (package, collection) else { return Ok(Vec::new()) };
    let mut rivals = Vec::new();
    let mut mine: Option<BTreeSet<_>> = None;
    for row in read.advertisement_list_package(package).await? {
        let Some(live) = live_advertisement(read, &row).await? else { continue };
        if Some(row.id) == own || aims.iter().all(|aim| *aim == live.achieves) {
            continue;
        }
        if mine.is_none() {
            mine = Some(collection::members(read, collection).await?);
        }
        let theirs = collection::members(read, row.collection).await?;
        let shared = mine.iter().flatten().filter(|device| theirs.contains(device)).count() as u64;
        rivals.push(Rival { live, shared });
    }
    Ok(rivals)
}

/// Writes a plan that changes something. `id` is that of the object, which is written already.
pub(crate) async fn write(
    change: &mut Change<'_>,
    id: AdvertisementId,
    stored: Option<&Stored>,
    document: &Object,
    plan: &AdvertisementPlan,
    package: PackageId,
) -> Outcome<()> {
    let Spec::Advertisement(spec) = &document.spec else { return Ok(()) };
    let row = AdvertisementRow {
        id,
        revision: plan.revision,
        package,
        version: plan.package.version.clone(),
        manifest: plan.package.manifest,
        program: plan.program.name.clone(),
        collection: plan.collection,
        expires: spec.expires,
        stopped: stored.and_then(|stored| stored.row.stopped.clone()),
        deleted_at: None,
    };
    match stored {
        Some(_) => change.tx.advertisement_update(&row).await?,
        None => change.tx.advertisement_insert(&row).await?,
    }
    let revision = AdvertisementRevisionRow {
        advertisement: id,
        revision: plan.revision,
        document: objects::text(document)?,
        version: row.version.clone(),
        manifest: row.manifest,
        at: change.now,
        principal: change.by.clone(),
    };
    change.tx.advertisement_revision_insert(&revision).await?;
    let old = stored.map_or(&[][..], |stored| &stored.edit.occurrences);
    write_occurrences(change, old, &plan.occurrences.rows(id, old, change.revision)).await?;
    let collections: BTreeSet<CollectionId> =
        [Some(plan.collection), plan.occurrences.moved_from].into_iter().flatten().collect();
    tell(change, id, collections.into_iter().collect()).await
}

/// Writes what differs between the occurrences as they were and as they are from now on.
pub(crate) async fn write_occurrences(
    change: &mut Change<'_>,
    old: &[OccurrenceRow],
    new: &[OccurrenceRow],
) -> Outcome<()> {
    for row in new {
        let Some(was) = old.iter().find(|was| was.occurrence == row.occurrence) else {
            change.tx.occurrence_insert(row, change.now).await?;
            continue;
        };
        let (id, occurrence) = (row.advertisement, &row.occurrence);
        if was.due != row.due {
            change.tx.occurrence_due_set(id, occurrence, row.due).await?;
        }
        if was.spans.iter().any(|span| span.is_open() && !row.spans.contains(span)) {
            change.tx.occurrence_span_close(id, occurrence, change.revision).await?;
        }
        for span in row.spans.iter().filter(|span| span.opened == change.revision) {
            change.tx.occurrence_span_open(id, occurrence, span).await?;
        }
    }
    Ok(())
}

/// What is offered to the advertisement's collection changes.
pub(crate) async fn offer_changed(change: &mut Change<'_>, id: AdvertisementId) -> Outcome<()> {
    let Some(row) = change.tx.advertisement_load(id).await? else { return Ok(()) };
    tell(change, id, vec![row.collection]).await
}

/// Moves the policy version of `collections`: one statement, however many devices; and the own versions
/// of those that are named one by one.
async fn tell(
    change: &mut Change<'_>,
    id: AdvertisementId,
    collections: Vec<CollectionId>,
) -> Outcome<()> {
    change.tx.collection_offer_changed(&collections).await?;
    // A device that is named, for a run again or a removal, need not be a member.
    let named = change.tx.obligation_named_open(id).await?;
    removal::tell(change, &named.into_iter().collect()).await?;
    change.concerns(Subject::Advertisement(id.0));
    collections.iter().for_each(|one| change.concerns(Subject::Collection(one.0)));
    Ok(())
}

/// Pins the newest version in each live advertisement of the package that says `track: latest`.
pub(crate) async fn track_latest(change: &mut Change<'_>, package: PackageId) -> Outcome<()> {
    let known = Collections::load(&mut change.tx).await?;
    for row in change.tx.advertisement_list_package(package).await? {
        let Some(found) = change.tx.object_load(row.id.0).await? else { continue };
        let document = object(&found)?;
        let Spec::Advertisement(spec) = &document.spec else { continue };
        if spec.track != Some(Track::Latest) {
            continue;
        }
        let stored = load(&mut change.tx, found).await?;
        let (plan, _) = plan(change, stored.as_ref(), &document, spec, &known).await?;
        if plan.change != Difference::Unchanged {
            write(change, row.id, stored.as_ref(), &document, &plan, package).await?;
        }
    }
    Ok(())
}

/// What an edit means for devices, as a sentence.
pub(crate) async fn forecast_note(
    change: &mut Change<'_>,
    stored: Option<&Stored>,
    plan: &AdvertisementPlan,
) -> Outcome<String> {
    let read = &mut *change.tx;
    let after = collection::members(read, plan.collection).await?;
    let (mut rows, before) = match stored {
        None => (Vec::new(), BTreeSet::new()),
        Some(stored) => {
            let before = collection::members(read, stored.row.collection).await?;
            (all_rows(read, &stored.edit).await?, before)
        }
    };
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let found = forecast(&plan.occurrences, &rows, &before, &after);
    Ok(format!(
        "{} {}, {} {} again, {} {} withdrawn",
        counted(found.start, "device"),
        verb(found.start, "starts", "start"),
        found.rerun,
        verb(found.rerun, "runs", "run"),
        found.withdraw,
        verb(found.withdraw, "is", "are")
    ))
}

/// Every obligation of an advertisement that has a row.
async fn all_rows(read: &mut Read, stored: &edit::AdvertisementRow) -> Outcome<Vec<ObligationRow>> {
    let mut rows: Vec<ObligationRow> = Vec::new();
    for occurrence in &stored.occurrences {
        let (id, occurrence) = (occurrence.advertisement, &occurrence.occurrence);
        let mut after = None;
        loop {
            let page =
                read.obligation_list(id, occurrence, None, after, OBLIGATION_PAGE_MAX).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.device);
            rows.extend(page);
        }
    }
    Ok(rows)
}
