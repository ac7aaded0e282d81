//! Collections: applying one, and holding the rules of all against the devices.

use std::collections::{BTreeMap, BTreeSet};

use muster_model::collection::CollectionSpec;
use muster_model::id::{CollectionId, DeviceId};
use muster_model::name::Name;
use muster_model::object::Object;
use muster_model::plural::counted;
use muster_site_core::edit::{CollectionLookups, CollectionPlan, plan_collection};
use muster_site_core::membership::{Binding, Counts, Definition, Evaluated, Graph, diff};

use super::App;
use super::change::Change;
use super::error::{Outcome, Refusal};
use super::graph::Collections;
use crate::store::{DEVICE_PAGE_MAX, DeviceRow, MEMBER_PAGE_MAX, Read, Subject};

/// Plans a collection against what is there, `known`, which is the site's collections with those that
/// the same `apply` has planned already.
pub(crate) async fn plan(
    read: &mut Read,
    id: CollectionId,
    stored: Option<&Object>,
    object: &Object,
    spec: &CollectionSpec,
    known: &Collections,
) -> Outcome<CollectionPlan> {
    let mut bound = BTreeMap::new();
    for binding in read.binding_list(id).await? {
        bound.extend(binding.device.map(|device| (binding.name, device)));
    }
    let mut bearers: BTreeMap<&Name, Vec<DeviceId>> = BTreeMap::new();
    for name in spec.members.iter().filter(|name| !bound.contains_key(name)) {
        let found = read.device_find_name(name).await?.into_iter();
        let live = found.filter(|row| row.retired_at.is_none()).map(|row| row.device.id);
        bearers.insert(name, live.collect());
    }
    let lookups = CollectionLookups {
        by_name: &|name| known.by_name.get(name).copied(),
        devices: &|name| bearers.get(name).cloned().unwrap_or_default(),
        bound: &bound,
        others: known.all.clone(),
    };
    let plan = plan_collection(id, stored, object, spec, lookups);
    Ok(plan.map_err(|problems| Refusal::problems(&problems))?)
}

/// Writes what the member names of a plan stand for.
pub(crate) async fn write_bindings(
    change: &mut Change<'_>,
    id: CollectionId,
    plan: &CollectionPlan,
) -> Outcome<()> {
    let device = |binding: &Binding| match binding {
        Binding::Bound(device) => Some(*device),
        _ => None,
    };
    let bindings: Vec<(Name, Option<DeviceId>)> =
        plan.bindings.iter().map(|(name, binding)| (name.clone(), device(binding))).collect();
    Ok(change.tx.binding_replace(id, &bindings).await?)
}

/// Holds the rules of `changed` collections, and of those that depend on them, against every device,
/// and writes who joined and who left. Answers the counts of each.
pub(crate) async fn evaluate(
    change: &mut Change<'_>,
    graph: &Graph,
    changed: &BTreeSet<CollectionId>,
) -> Outcome<BTreeMap<CollectionId, Counts>> {
    let affected = dependents(graph, changed);
    let devices = all_devices(&mut change.tx).await?;
    let evaluated = graph.evaluate(devices.iter().map(|row| &row.device));
    let mut counts = BTreeMap::new();
    for (id, found) in evaluated.into_iter().filter(|(id, _)| affected.contains(id)) {
        counts.insert(id, found.counts);
        write_members(change, id, &found).await?;
    }
    Ok(counts)
}

async fn write_members(
    change: &mut Change<'_>,
    id: CollectionId,
    found: &Evaluated,
) -> Outcome<()> {
    let old = members(&mut change.tx, id).await?;
    let moved = diff(&old, &found.members);
    if !moved.is_empty() {
        let joins = moved.joins.into_iter().collect();
        let leaves = moved.leaves.into_iter().collect();
        change.tx.membership_change(id, &joins, &leaves, change.now).await?;
        change.concerns(Subject::Members(id.0));
    }
    change.tx.collection_evaluated(id, change.now, None).await?;
    Ok(())
}

/// `changed`, and every collection whose clauses lead there.
fn dependents(graph: &Graph, changed: &BTreeSet<CollectionId>) -> BTreeSet<CollectionId> {
    let mut affected = changed.clone();
    // Each collection stands after those that it names, so one pass finds them all.
    for collection in graph.collections() {
        if let Definition::Clauses(clauses) = &collection.definition {
            let mut links = clauses.include.iter().chain(&clauses.exclude).chain(&clauses.limit_to);
            if links.any(|link| affected.contains(link)) {
                affected.insert(collection.id);
            }
        }
    }
    affected
}

/// Holds every rule against some devices only, and writes what changed. Devices that were retired
/// leave everything.
pub(crate) async fn evaluate_devices(
    change: &mut Change<'_>,
    graph: &Graph,
    devices: &[DeviceRow],
) -> Outcome<()> {
    let ids: Vec<DeviceId> = devices.iter().map(|row| row.device.id).collect();
    let mut old: BTreeMap<DeviceId, BTreeSet<CollectionId>> = BTreeMap::new();
    for (device, collection) in change.tx.membership_of_many(&ids).await? {
        old.entry(device).or_default().insert(collection);
    }
    type Moves = (BTreeSet<DeviceId>, BTreeSet<DeviceId>);
    let mut moves: BTreeMap<CollectionId, Moves> = BTreeMap::new();
    for row in devices {
        let device = &row.device;
        let moved = diff(&old.remove(&device.id).unwrap_or_default(), &graph.memberships(device));
        moved.joins.iter().for_each(|id| _ = moves.entry(*id).or_default().0.insert(device.id));
        moved.leaves.iter().for_each(|id| _ = moves.entry(*id).or_default().1.insert(device.id));
    }
    for (id, (joins, leaves)) in &moves {
        change.tx.membership_change(*id, joins, leaves, change.now).await?;
        change.concerns(Subject::Members(id.0));
    }
    Ok(())
}

/// Devices in one evaluation.
const EVALUATED_MAX: u32 = 1_000;

impl App {
    /// Holds the rules against devices whose facts changed since the last time. What was not done
    /// before a crash is still on the list.
    pub(crate) async fn evaluate_pending(&self) -> Outcome<()> {
        loop {
            let pending = self.db.read().await?.device_list_unevaluated(EVALUATED_MAX).await?;
            if pending.is_empty() {
                return Ok(());
            }
            let mut change = Change::begin_by_site(self).await?;
            // Read anew under the revision lock: memberships change under it alone.
            let pending = change.tx.device_list_unevaluated(EVALUATED_MAX).await?;
            let graph = change.graph_before().await?;
            let (rows, versions): (Vec<_>, Vec<_>) = pending.into_iter().unzip();
            evaluate_devices(&mut change, &graph, &rows).await?;
            let ids = rows.iter().map(|row| row.device.id);
            let evaluated: Vec<(DeviceId, u64)> = ids.zip(versions).collect();
            change.tx.device_evaluated_many(&evaluated).await?;
            change.commit().await?;
        }
    }
}

/// The members of a collection now.
pub(crate) async fn members(read: &mut Read, id: CollectionId) -> Outcome<BTreeSet<DeviceId>> {
    let mut found = BTreeSet::new();
    loop {
        let page = read.membership_list(id, found.last().copied(), MEMBER_PAGE_MAX).await?;
        if page.is_empty() {
            return Ok(found);
        }
        found.extend(page);
    }
}

/// Every device that is not retired.
async fn all_devices(read: &mut Read) -> Outcome<Vec<DeviceRow>> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = read.device_list(after, DEVICE_PAGE_MAX).await?;
        let Some(last) = page.last() else { return Ok(rows) };
        after = Some(last.device.id);
        rows.extend(page.into_iter().filter(|row| row.retired_at.is_none()));
    }
}

/// The counts of each clause as a sentence: what `apply` prints.
pub(crate) fn sentence(counts: &Counts) -> String {
    let mut clauses = vec![format!("{} by name", counts.named)];
    if counts.query > 0 || counts.query_unknown > 0 {
        clauses.push(format!("{} by query", counts.query));
    }
    if counts.query_unknown > 0 {
        clauses.push(format!("{} where the query cannot be decided", counts.query_unknown));
    }
    if counts.included > 0 {
        clauses.push(format!("{} by include", counts.included));
    }
    if counts.limited > 0 {
        clauses.push(format!("limitTo takes away {}", counts.limited));
    }
    if counts.excluded > 0 {
        clauses.push(format!("exclude takes away {}", counts.excluded));
    }
    format!("{}: {}", counted(counts.members, "member"), clauses.join("; "))
}
