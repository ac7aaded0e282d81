//! All collections of the site, ready for evaluation, from their documents and bindings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use muster_model::collection::CollectionSpec;
use muster_model::id::{CollectionId, DeviceId};
use muster_model::name::Name;
use muster_model::object::{Kind, Object, Spec};
use muster_model::rule::Rule;
use muster_site_core::membership::{Clauses, Collection, Definition, Graph, is_all};
use muster_site_core::occurrence::Revision;

use super::error::{AppError, Outcome, Tried};
use crate::store::{OBJECT_PAGE_MAX, ObjectRow, Read, Subject};

/// The collections as stored.
pub(crate) struct Collections {
    /// Each with its clauses, by id.
    pub(crate) all: Vec<Collection>,
    /// Ids by name.
    pub(crate) by_name: BTreeMap<Name, CollectionId>,
}

impl Collections {
    /// Loads all of them.
    pub(crate) async fn load(read: &mut Read) -> Outcome<Self> {
        let rows = objects(read, Kind::Collection).await?;
        let by_name: BTreeMap<Name, CollectionId> =
            rows.iter().map(|row| (row.name.clone(), CollectionId(row.id))).collect();
        let mut bound: BTreeMap<CollectionId, BTreeSet<DeviceId>> = BTreeMap::new();
        for binding in read.binding_list_all().await? {
            bound.entry(binding.collection).or_default().extend(binding.device);
        }
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            let id = CollectionId(row.id);
            let definition = match is_all(&row.name) {
                true => Definition::All,
                false => {
                    let Spec::Collection(spec) = object(&row)?.spec else { continue };
                    let members = bound.remove(&id).unwrap_or_default();
                    Definition::Clauses(clauses(&spec, members, &by_name))
                }
            };
            all.push(Collection { id, name: row.name, definition });
        }
        Ok(Self { all, by_name })
    }

    /// Their graph. What is stored was checked when it was applied, so it has no cycle.
    pub(crate) fn graph(self) -> Outcome<Graph> {
        Graph::new(self.all).tried("evaluate the collections")
    }
}

/// The graph of all collections that was put together last, and the revision that it is of.
#[derive(Default)]
pub(crate) struct GraphCache(Mutex<Option<(Revision, Arc<Graph>)>>);

impl GraphCache {
    /// The graph as it was committed at `committed`, the newest revision that `read` sees but for its
    /// own. Put together anew only when a collection has changed since the last time.
    pub(crate) async fn at(&self, read: &mut Read, committed: Revision) -> Outcome<Arc<Graph>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, graph)) = known
            && at <= committed
            && !collections_changed(read, at, committed).await?
        {
            self.hold(committed, &graph);
            return Ok(graph);
        }
        let graph = Arc::new(Collections::load(read).await?.graph()?);
        self.hold(committed, &graph);
        Ok(graph)
    }

    fn hold(&self, at: Revision, graph: &Arc<Graph>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_none_or(|(known, _)| *known < at) {
            *held = Some((at, graph.clone()));
        }
    }
}

/// Whether the change log names a collection after `at`, up to `committed`.
async fn collections_changed(
    read: &mut Read,
    mut at: Revision,
    committed: Revision,
) -> Outcome<bool> {
    while at < committed {
        let changes = read.change_list(at).await?;
        let Some(last) = changes.last() else { break };
        at = last.revision;
        let is_one = |change: &crate::store::Change| {
            matches!(change.subject, Subject::Collection(_)) && change.revision <= committed
        };
        if changes.iter().any(is_one) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The clauses of a stored spec. A link that leads nowhere cannot be stored; were one there, it would
/// be kept as a link to nobody, so that the collection fails closed.
fn clauses(
    spec: &CollectionSpec,
    members: BTreeSet<DeviceId>,
    by_name: &BTreeMap<Name, CollectionId>,
) -> Clauses {
    let nobody = CollectionId(uuid::Uuid::nil());
    let id = |name: &Name| by_name.get(name).copied().unwrap_or(nobody);
    let query = match spec.query.trim() {
        "" => None,
        text => Rule::parse(text).ok(),
    };
    Clauses {
        members,
        query,
        include: spec.include.iter().map(id).collect(),
        exclude: spec.exclude.iter().map(id).collect(),
        limit_to: Some(id(&spec.limit_to)),
    }
}

/// Every live object of a kind, by name.
pub(crate) async fn objects(read: &mut Read, kind: Kind) -> Outcome<Vec<ObjectRow>> {
    let mut rows: Vec<ObjectRow> = Vec::new();
    loop {
        let after = rows.last().map(|row| row.name.clone());
        let page = read.object_list(kind, after.as_ref(), OBJECT_PAGE_MAX).await?;
        if page.is_empty() {
            return Ok(rows);
        }
        rows.extend(page);
    }
}

/// The object that a row holds.
pub(crate) fn object(row: &ObjectRow) -> Outcome<Object> {
    let value: serde_json::Value =
        serde_json::from_str(&row.document).tried("read a stored document")?;
    Object::from_value(value).map_err(|problems| {
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        AppError::Fault("read a stored document", said.join("; ").into())
    })
}
