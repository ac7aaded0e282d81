//! Deleting objects: they are withdrawn and archived; their accounting stays readable.

use muster_model::id::{AdvertisementId, CollectionId, PackageId};
use muster_model::name::Name;
use muster_model::object::{Kind as ObjectKind, Spec};
use muster_model::state::Word;
use muster_site_core::edit::check_delete;
use uuid::Uuid;

use super::change::{Change, Code};
use super::error::{Outcome, Refusal};
use super::graph::{object, objects};
use super::object::{about, live_row, subject};
use super::{App, Who};
use crate::store::{ObjectRow, Read};

impl App {
    /// Deletes an object; refuses, by name, while others need it.
    pub(crate) async fn object_delete(
        &self,
        who: &Who,
        kind: ObjectKind,
        id: Uuid,
        expected: Option<u64>,
    ) -> Outcome<()> {
        let mut change = Change::begin(self, who).await?;
        let row = live_row(&mut change.tx, kind, id, expected).await?;
        archive(&mut change, row).await?;
        change.commit().await?;
        Ok(())
    }
}

/// Archives a live object and withdraws what it offers.
pub(crate) async fn archive(change: &mut Change<'_>, mut row: ObjectRow) -> Outcome<()> {
    let users = users(&mut change.tx, row.kind, row.id, &row.name).await?;
    check_delete(row.kind, &row.name, users).map_err(|why| Refusal::conflict(why.to_string()))?;
    match row.kind {
        ObjectKind::Advertisement => withdraw(change, AdvertisementId(row.id)).await?,
        ObjectKind::Collection => disband(change, CollectionId(row.id)).await?,
        ObjectKind::MaintenanceWindow => {
            let collection = super::window::collection_of(&mut change.tx, &object(&row)?).await?;
            super::window::tell(change, row.id, collection.as_slice()).await?;
        }
        ObjectKind::Package => {}
    }
    row.archived_at = Some(change.now);
    row.changed_at = change.now;
    row.changed = change.revision;
    change.tx.object_update(&row).await?;
    change.concerns(subject(row.kind, row.id));
    let said = format!("{} `{}` deleted", row.kind.word(), row.name);
    change.say(Code::ObjectDeleted, about(row.kind, row.id), said);
    Ok(())
}

/// Closes every occurrence and takes the advertisement out of every policy. What each device makes
/// of it, it says itself; for those that cannot, the site decides afterwards, in portions.
async fn withdraw(change: &mut Change<'_>, id: AdvertisementId) -> Outcome<()> {
    super::advertisement::offer_changed(change, id).await?;
    for row in change.tx.occurrence_list(id).await?.iter().filter(|row| row.is_open()) {
        change.tx.occurrence_span_close(id, &row.occurrence, change.revision).await?;
    }
    if let Some(mut row) = change.tx.advertisement_load(id).await? {
        row.deleted_at = Some(change.now);
        change.tx.advertisement_update(&row).await?;
    }
    Ok(())
}

/// Ends every membership: intervals stay, and with them who was targeted.
async fn disband(change: &mut Change<'_>, id: CollectionId) -> Outcome<()> {
    let members = super::collection::members(&mut change.tx, id).await?;
    let now = change.now;
    change.tx.membership_change(id, &Default::default(), &members, now).await?;
    change.tx.binding_replace(id, &[]).await?;
    change.concerns(crate::store::Subject::Members(id.0));
    Ok(())
}

/// Who names an object and still lives.
async fn users(
    read: &mut Read,
    kind: ObjectKind,
    id: Uuid,
    name: &Name,
) -> Outcome<Vec<(ObjectKind, Name)>> {
    let rows = match kind {
        ObjectKind::Package => read.advertisement_list_package(PackageId(id)).await?,
        ObjectKind::Collection => read.advertisement_list_collection(CollectionId(id)).await?,
        ObjectKind::Advertisement | ObjectKind::MaintenanceWindow => return Ok(Vec::new()),
    };
    let mut rows = rows;
    if kind == ObjectKind::Package {
        let dependents = super::dependency::dependents(read, PackageId(id)).await?;
        rows.extend(dependents.into_iter().map(|(row, _)| row));
    }
    let mut users = Vec::new();
    for row in rows {
        let found = read.object_load(row.id.0).await?;
        users.extend(found.map(|found| (ObjectKind::Advertisement, found.name)));
    }
    if kind == ObjectKind::Collection {
        for row in objects(read, ObjectKind::Collection).await? {
            let Spec::Collection(spec) = object(&row)?.spec else { continue };
            if row.id != id && spec.links().contains(&name) {
                users.push((ObjectKind::Collection, row.name));
            }
        }
        for row in objects(read, ObjectKind::MaintenanceWindow).await? {
            let Spec::MaintenanceWindow(spec) = object(&row)?.spec else { continue };
            if spec.collection == *name {
                users.push((ObjectKind::MaintenanceWindow, row.name));
            }
        }
    }
    Ok(users)
}

/// How many devices deleting the object would withdraw something from.
pub(crate) async fn withdrawn_by(read: &mut Read, row: &ObjectRow) -> Outcome<u64> {
    if row.kind != ObjectKind::Advertisement {
        return Ok(0);
    }
    let id = AdvertisementId(row.id);
    let occurrences = read.occurrence_list(id).await?;
    let occurrences: Vec<_> =
        occurrences.into_iter().map(|one| one.occurrence).filter(|one| !one.is_removal()).collect();
    if occurrences.is_empty() {
        return Ok(0);
    }
    let sums = read.accounting_sums(id, &occurrences).await?;
    let ended = |word: &Word| word.is_terminal();
    let ended: i64 =
        sums.rows.0.iter().filter(|(word, _)| ended(word)).map(|(_, count)| *count).sum();
    Ok(sums.targeted.saturating_sub(u64::try_from(ended).unwrap_or(0)))
}
