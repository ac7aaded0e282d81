//! `apply`: documents become objects, all of them in one transaction or none.
//!
//! A dry run does the very same and takes it back before the commit, so what it says is what would
//! happen.

mod advertisements;
mod collections;
mod windows;

use std::collections::{BTreeMap, BTreeSet};

use muster_model::api::{APPLY_DOCUMENTS_MAX, Applied, ApplyAnswer, ApplyRequest};
use muster_model::digest::Digest;
use muster_model::id::{CollectionId, PackageId};
use muster_model::name::Name;
use muster_model::object::{Kind as ObjectKind, Object, Spec};
use muster_model::package::PackageSpec;
use muster_model::plural::counted;
use muster_site_core::edit::{Change as Difference, FieldChange, Which, identify};
use muster_site_core::membership::Graph;
use muster_site_core::roles::{Action, allowed};
use uuid::Uuid;

use super::change::Change;
use super::error::{AppError, Kind, Outcome, Refusal};
use super::graph::{Collections, object};
use super::live::package_spec;
use super::{App, Who, object as objects, package};
use crate::store::{ObjectRow, Read};

impl App {
    /// Applies documents, or says what applying them would do.
    pub(crate) async fn apply(&self, who: &Who, request: ApplyRequest) -> Outcome<ApplyAnswer> {
        let documents = read_documents(who, &request)?;
        let mut change = Change::begin(self, who).await?;
        let mut applying = Applying {
            known: Collections::load(&mut change.tx).await?,
            change,
            set: request.set.clone(),
            dry_run: request.dry_run,
            items: BTreeMap::new(),
            evaluate: BTreeMap::new(),
            graph: None,
            values_changed: BTreeSet::new(),
            written: false,
        };
        applying.check_revisions(&request, &documents).await?;
        applying.packages(&documents).await?;
        applying.collections(&documents).await?;
        applying.windows(&documents).await?;
        applying.advertisements(&documents).await?;
        for collection in std::mem::take(&mut applying.values_changed) {
            super::parameter::changed(&mut applying.change, collection).await?;
        }
        let mut items: Vec<Applied> = std::mem::take(&mut applying.items).into_values().collect();
        if request.prune {
            items.extend(applying.prune(&documents).await?);
        }
        let Applying { change, written, dry_run, .. } = applying;
        if dry_run || !written {
            return Ok(ApplyAnswer { items, revision: None });
        }
        let revision = change.commit().await?;
        Ok(ApplyAnswer { items, revision: Some(revision.0) })
    }
}

/// Every document as an object that the asker may write; no object stands in it twice.
fn read_documents(who: &Who, request: &ApplyRequest) -> Outcome<Vec<Object>> {
    if request.documents.len() > APPLY_DOCUMENTS_MAX {
        let detail =
            format!("{} documents; at most {APPLY_DOCUMENTS_MAX}", request.documents.len());
        return Err(Refusal::new(Kind::Limit, detail).limit("APPLY_DOCUMENTS_MAX").into());
    }
    let mut documents = Vec::with_capacity(request.documents.len());
    let mut names = BTreeSet::new();
    for (i, document) in request.documents.iter().enumerate() {
        let found = Object::from_value(document.clone())
            .map_err(|problems| Refusal::problems(&problems).at(i))?;
        let (kind, name) = (found.kind(), &found.metadata.name);
        if !names.insert((kind.word(), name.clone())) {
            let detail = format!("{} `{name}` stands twice in what is applied", kind.word());
            return Err(Refusal::invalid("metadata.name", detail).at(i).into());
        }
        if !request.dry_run && !allowed(who.role, action(kind)) {
            let detail = format!("the role {} may not apply a {}", who.role, kind.word());
            return Err(Refusal::new(Kind::Forbidden, detail).at(i).into());
        }
        if !request.dry_run && is_emergency(&found) && !may_override(who) {
            let detail = format!("the role {} may not override maintenance windows", who.role);
            let hint = "`emergency: true` asks for the permission `advertisement.emergency`";
            return Err(Refusal::new(Kind::Forbidden, detail).hint(hint).at(i).into());
        }
        documents.push(found);
    }
    Ok(documents)
}

fn is_emergency(document: &Object) -> bool {
    matches!(&document.spec, Spec::Advertisement(spec) if spec.emergency)
}

fn may_override(who: &Who) -> bool {
    allowed(who.role, Action::AdvertisementEmergency)
}

/// What one must be allowed to do to apply an object of that kind.
fn action(kind: ObjectKind) -> Action {
    match kind {
        ObjectKind::Package => Action::PackagePublish,
        ObjectKind::Collection => Action::CollectionWrite,
        ObjectKind::Advertisement => Action::AdvertisementWrite,
        ObjectKind::MaintenanceWindow => Action::WindowWrite,
    }
}

/// An `apply` under way.
struct Applying<'a> {
    change: Change<'a>,
    /// The collections as stored, and those planned so far in their place.
    known: Collections,
    set: Option<String>,
    dry_run: bool,
    /// What became of each document, by its place.
    items: BTreeMap<usize, Applied>,
    /// Collections to evaluate, with the places of their documents and unresolved names.
    evaluate: BTreeMap<CollectionId, (usize, Vec<Name>)>,
    graph: Option<Graph>,
    /// Collections that give other values to parameters than before.
    values_changed: BTreeSet<CollectionId>,
    written: bool,
}

impl Applying<'_> {
    /// Refuses a document that was made from another revision of its object than the newest: what
    /// somebody else wrote meanwhile would be lost.
    async fn check_revisions(
        &mut self,
        request: &ApplyRequest,
        documents: &[Object],
    ) -> Outcome<()> {
        for (i, document) in documents.iter().enumerate() {
            let seen = request.documents.get(i).and_then(Object::expected_revision);
            let Some(seen) = seen else { continue };
            let (kind, name) = (document.kind(), &document.metadata.name);
            let row = which(&mut self.change.tx, kind, document).await?;
            let newest = row.map(|row| row.changed.0);
            if newest == Some(seen) {
                continue;
            }
            let detail = match newest {
                Some(newest) => format!(
                    "{} `{name}` changed meanwhile: the document is of revision {seen}, the object \
                     of {newest}",
                    kind.word()
                ),
                None => format!("{} `{name}` is not there any more", kind.word()),
            };
            let hint = "`muster diff` shows what would change; get it again, or take \
                        metadata.revision out to overwrite it";
            let refusal = Refusal::new(Kind::Stale, detail).hint(hint).at(i);
            return Err(Refusal { field: Some("metadata.revision".to_owned()), ..refusal }.into());
        }
        Ok(())
    }

    /// A package is published before; here its document is compared with what was.
    async fn packages(&mut self, documents: &[Object]) -> Outcome<()> {
        for (i, document) in documents.iter().enumerate() {
            let Spec::Package(spec) = &document.spec else { continue };
            let applied = self.package(document, spec).await.map_err(|error| at(error, i))?;
            self.items.insert(i, applied);
        }
        Ok(())
    }

    async fn package(&mut self, document: &Object, spec: &PackageSpec) -> Outcome<Applied> {
        let name = &document.metadata.name;
        let read = &mut *self.change.tx;
        let found = read.object_find(ObjectKind::Package, name).await?;
        let version = match &found {
            Some(row) => read.package_version_load(PackageId(row.id), &spec.version).await?,
            None => None,
        };
        let Some(version) = version else {
            if self.dry_run {
                let change = if found.is_some() { "updated" } else { "created" };
                package::suppose_published(&mut self.change, document, spec).await?;
                return Ok(applied(document, found.map(|row| row.id), change));
            }
            let detail = format!("{name}@{} is not published", spec.version);
            let hint = "muster package publish FILE signs and publishes it; so does muster apply";
            return Err(Refusal::invalid("spec.version", detail).hint(hint).into());
        };
        let plain = PackageSpec { content: None, ..spec.clone() };
        let named = spec.content.as_ref().and_then(|content| content.parse::<Digest>().ok());
        if package_spec(&version)? != plain || named.is_some_and(|one| one != version.manifest) {
            let detail = format!("{name}@{} is published, and says something else", spec.version);
            let hint = "a published version never changes: give this one a version of its own";
            return Err(Refusal::conflict(detail).hint(hint).into());
        }
        let row = found.filter(|row| self.set.is_some() && row.set_name != self.set);
        let id = row.as_ref().map(|row| row.id);
        if let Some(row) = row {
            let document = object(&row)?;
            objects::update(&mut self.change, row, &document, self.set.as_deref()).await?;
            self.written = true;
        }
        Ok(applied(document, id.or(Some(version.package.0)), "unchanged"))
    }

    /// Deletes what the same set applied before and does not name now; refuses, by name and number,
    /// if that would withdraw anything.
    async fn prune(&mut self, documents: &[Object]) -> Outcome<Vec<Applied>> {
        let Some(set) = self.set.clone() else {
            let detail = "prune looks only at what the same set applied before: name it";
            return Err(Refusal::invalid("set", detail).into());
        };
        let named = |row: &ObjectRow| {
            documents.iter().any(|one| one.kind() == row.kind && one.metadata.name == row.name)
        };
        let mut rows = self.change.tx.object_list_set(&set).await?;
        rows.retain(|row| !named(row));
        // Who uses comes before what is used.
        rows.sort_by_key(|row| match row.kind {
            ObjectKind::Advertisement => 0,
            ObjectKind::MaintenanceWindow => 1,
            ObjectKind::Collection => 2,
            ObjectKind::Package => 3,
        });
        let mut items = Vec::new();
        for row in rows {
            let withdrawn = super::delete::withdrawn_by(&mut self.change.tx, &row).await?;
            if withdrawn > 0 {
                let (kind, name) = (row.kind.word(), &row.name);
                let many = counted(withdrawn, "device");
                let detail = format!("pruning {kind} `{name}` would withdraw it from {many}");
                let hint = format!("`muster delete {kind} {name}` does it");
                return Err(Refusal::conflict(detail).hint(hint).into());
            }
            let (kind, name, id) = (row.kind, row.name.clone(), row.id);
            super::delete::archive(&mut self.change, row).await?;
            self.written = true;
            items.push(Applied {
                kind,
                name,
                id: Some(id),
                change: "deleted".to_owned(),
                differences: Vec::new(),
                notes: Vec::new(),
                warnings: Vec::new(),
            });
        }
        Ok(items)
    }
}

/// The stored object that a document means: by its name, else by the one it had before.
async fn which(read: &mut Read, kind: ObjectKind, document: &Object) -> Outcome<Option<ObjectRow>> {
    let metadata = &document.metadata;
    let mut found: BTreeMap<Name, ObjectRow> = BTreeMap::new();
    for name in [Some(&metadata.name), metadata.formerly.as_ref()].into_iter().flatten() {
        let row = read.object_find(kind, name).await?;
        found.extend(row.map(|row| (name.clone(), row)));
    }
    let which = identify(metadata, |name| found.get(name).map(|row| row.name.clone()));
    Ok(match which {
        Which::New => None,
        Which::Same(name) | Which::Renamed { id: name, .. } => found.remove(&name),
    })
}

fn applied(document: &Object, id: Option<Uuid>, change: &str) -> Applied {
    Applied {
        kind: document.kind(),
        name: document.metadata.name.clone(),
        id,
        change: change.to_owned(),
        differences: Vec::new(),
        notes: Vec::new(),
        warnings: Vec::new(),
    }
}

fn describe(item: &mut Applied, change: &Difference) {
    let (word, fields): (&str, &[FieldChange]) = match change {
        Difference::Created => ("created", &[]),
        Difference::Unchanged => ("unchanged", &[]),
        Difference::Updated { fields } => ("updated", fields),
    };
    item.change = word.to_owned();
    let shown = |value: &Option<serde_json::Value>| match value {
        Some(value) => value.to_string(),
        None => "(absent)".to_owned(),
    };
    let line =
        |one: &FieldChange| format!("{}: {} -> {}", one.field, shown(&one.old), shown(&one.new));
    item.differences = fields.iter().map(line).collect();
}

/// The same error, with the place of its document.
fn at(error: AppError, document: usize) -> AppError {
    match error {
        AppError::Refused(refusal) => refusal.at(document).into(),
        other => other,
    }
}
