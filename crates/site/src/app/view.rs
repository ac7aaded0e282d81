//! Objects as `get` answers them: the manifest with its id and status.

use muster_model::api::Page;
use muster_model::clock::Wall;
use muster_model::id::{AdvertisementId, CollectionId, PackageId};
use muster_model::name::Name;
use muster_model::object::{Kind as ObjectKind, Spec};
use muster_site_core::occurrence::in_order;
use muster_site_core::recurrence::Here;
use serde_json::{Value, json};
use uuid::Uuid;

use super::App;
use super::error::{Outcome, Refusal};
use super::graph::object;
use super::object::with_id;
use crate::store::{ObjectRow, Read};

impl App {
    /// A page of the live objects of a kind, by name.
    pub(crate) async fn object_page(
        &self,
        kind: ObjectKind,
        cursor: Option<&str>,
        limit: u32,
    ) -> Outcome<Page<Value>> {
        let after = match cursor {
            Some(text) => Some(Name::new(text).map_err(|_| super::bad_cursor())?),
            None => None,
        };
        let mut read = self.db.read().await?;
        let rows = read.object_list(kind, after.as_ref(), limit).await?;
        let next = (rows.len() == limit as usize).then(|| rows.last()).flatten();
        let next = next.map(|row| row.name.to_string());
        let mut items = Vec::with_capacity(rows.len());
        for row in &rows {
            items.push(self.view(&mut read, row).await?);
        }
        Ok(Page { items, next })
    }

    /// One object, deleted or not, and its revision.
    pub(crate) async fn object_view(&self, kind: ObjectKind, id: Uuid) -> Outcome<(Value, u64)> {
        let mut read = self.db.read().await?;
        let row = read.object_load(id).await?.filter(|row| row.kind == kind);
        let row = row.ok_or_else(|| Refusal::not_found(kind.word(), id))?;
        Ok((self.view(&mut read, &row).await?, row.changed.0))
    }

    async fn view(&self, read: &mut Read, row: &ObjectRow) -> Outcome<Value> {
        let mut value = with_id(row)?;
        let status = match row.kind {
            ObjectKind::Package => package_status(read, PackageId(row.id)).await?,
            ObjectKind::Collection => collection_status(read, CollectionId(row.id)).await?,
            ObjectKind::Advertisement => {
                advertisement_status(read, AdvertisementId(row.id), &self.here()).await?
            }
            ObjectKind::MaintenanceWindow => window_status(read, row, self.now()).await?,
        };
        if let (Some(fields), Some(mut status)) = (value.as_object_mut(), status) {
            if let Some(at) = row.archived_at {
                status["deletedAt"] = json!(at);
            }
            fields.insert("status".to_owned(), status);
        }
        Ok(value)
    }
}

async fn package_status(read: &mut Read, id: PackageId) -> Outcome<Option<Value>> {
    let versions = read.package_version_list(id).await?;
    let Some(newest) = versions.first() else { return Ok(None) };
    let objects = read.package_object_list(id, &newest.version).await?;
    let digests: Vec<_> = objects.iter().map(|object| object.digest).collect();
    let all: Vec<Value> = versions
        .iter()
        .map(|one| {
            json!({
                "version": one.version,
                "manifest": one.manifest,
                "publishedAt": one.published_at,
                "publishedBy": one.published_by,
                "contentBytes": one.content_bytes,
                "signatures": one.signatures,
                "revoked": one.revoked,
            })
        })
        .collect();
    Ok(Some(json!({
        "versions": versions.len(),
        "newest": newest.version,
        "manifest": newest.manifest,
        "publishedAt": newest.published_at,
        "revoked": newest.revoked,
        "contentBytes": newest.content_bytes,
        "objects": digests,
        "published": all,
    })))
}

async fn collection_status(read: &mut Read, id: CollectionId) -> Outcome<Option<Value>> {
    let Some(row) = read.collection_load(id).await? else { return Ok(None) };
    let bindings = read.binding_list(id).await?;
    let unresolved: Vec<Name> =
        bindings.into_iter().filter(|one| one.device.is_none()).map(|one| one.name).collect();
    Ok(Some(json!({
        "members": row.members,
        "version": row.membership_version,
        "evaluatedAt": row.evaluated_at,
        "error": row.error,
        "unresolved": unresolved,
    })))
}

/// When it begins next where that is the same everywhere: times of the devices' own zones are theirs.
async fn window_status(read: &mut Read, row: &ObjectRow, now: Wall) -> Outcome<Option<Value>> {
    let Spec::MaintenanceWindow(spec) = object(row)?.spec else { return Ok(None) };
    let Some(window) = spec.window(&row.name) else { return Ok(None) };
    let members = match read.object_find(ObjectKind::Collection, &spec.collection).await? {
        Some(found) => read.collection_load(CollectionId(found.id)).await?.map(|row| row.members),
        None => None,
    };
    let zone = window.zone_name();
    let next = window.next_span(now);
    Ok(Some(json!({
        "members": members,
        "zone": zone.as_deref().unwrap_or("of each device"),
        "next": next.map(|(begins, ends)| json!({"begins": begins, "ends": ends})),
    })))
}

async fn advertisement_status(
    read: &mut Read,
    id: AdvertisementId,
    here: &Here<'_>,
) -> Outcome<Option<Value>> {
    let now = here.now;
    let Some(row) = read.advertisement_load(id).await? else { return Ok(None) };
    let occurrences = read.occurrence_list(id).await?;
    let shown = in_order(&occurrences, here);
    let targeted = match shown.as_slice() {
        [] => 0,
        shown => read.accounting_sums(id, shown).await?.targeted,
    };
    let standing = match &row {
        row if row.deleted_at.is_some() => "deleted",
        row if row.expires.is_some_and(|expires| expires <= now) => "expired",
        row if row.stopped.is_some() => "stopped",
        _ => "live",
    };
    let occurrences: Vec<Value> = occurrences
        .iter()
        .map(|one| json!({"occurrence": one.occurrence, "due": one.due, "open": one.is_open()}))
        .collect();
    Ok(Some(json!({
        "revision": row.revision,
        "pinned": {"version": row.version, "manifest": row.manifest},
        "standing": standing,
        "stopped": row.stopped,
        "targeted": targeted,
        "occurrences": occurrences,
    })))
}
