//! The collections of an `apply`: planned in an order in which each finds what it names, then
//! evaluated together.

use std::collections::BTreeSet;

use muster_model::collection::CollectionSpec;
use muster_model::id::CollectionId;
use muster_model::name::Name;
use muster_model::object::{Kind as ObjectKind, Object, Spec};
use muster_model::plural::counted;
use muster_site_core::edit::{Change as Difference, CollectionPlan, compare};
use muster_site_core::membership::is_all;
use uuid::Uuid;

use super::super::error::Outcome;
use super::super::graph::object;
use super::super::{collection, object as objects};
use super::{Applied, Applying, applied, at, describe, which};
use crate::store::Subject;

impl Applying<'_> {
    /// Collections may name each other in any order: those whose links are there come first.
    pub(super) async fn collections(&mut self, documents: &[Object]) -> Outcome<()> {
        let mut pending: Vec<(usize, &Object, &CollectionSpec)> = documents
            .iter()
            .enumerate()
            .filter_map(|(i, document)| match &document.spec {
                Spec::Collection(spec) => Some((i, document, spec)),
                _ => None,
            })
            .collect();
        while !pending.is_empty() {
            let waits = |spec: &CollectionSpec| {
                let missing = |name: &&Name| !self.known.by_name.contains_key(name);
                spec.links().iter().any(missing)
            };
            // When all wait, the first one's links lead nowhere: planning it says so.
            let next = pending.iter().position(|(_, _, spec)| !waits(spec)).unwrap_or(0);
            let (i, document, spec) = pending.remove(next);
            self.collection(i, document, spec).await.map_err(|error| at(error, i))?;
        }
        self.evaluate_collections().await
    }

    async fn collection(
        &mut self,
        i: usize,
        document: &Object,
        spec: &CollectionSpec,
    ) -> Outcome<()> {
        let found = which(&mut self.change.tx, ObjectKind::Collection, document).await?;
        let id = CollectionId(found.as_ref().map_or_else(Uuid::now_v7, |row| row.id));
        let stored = found.as_ref().map(object).transpose()?;
        if is_all(&document.metadata.name)
            && compare(stored.as_ref(), document) == Difference::Unchanged
        {
            // `export` names it, so its own words are taken back.
            self.items.insert(i, applied(document, Some(id.0), "unchanged"));
            return Ok(());
        }
        let read = &mut *self.change.tx;
        let plan = collection::plan(read, id, stored.as_ref(), document, spec, &self.known).await?;
        let before = stored.as_ref().and_then(|stored| match &stored.spec {
            Spec::Collection(spec) => Some(&spec.parameters),
            _ => None,
        });
        if before.is_some_and(|before| *before != spec.parameters) {
            self.values_changed.insert(id);
        }
        let mut item = applied(document, found.as_ref().map(|row| row.id), "");
        describe(&mut item, &plan.change);
        let is_new = found.is_none();
        let in_other_set =
            found.as_ref().is_some_and(|row| self.set.is_some() && row.set_name != self.set);
        if plan.change != Difference::Unchanged || in_other_set {
            match found {
                Some(row) => {
                    let (old, new) = (row.name.clone(), &document.metadata.name);
                    objects::update(&mut self.change, row, document, self.set.as_deref()).await?;
                    if old != *new {
                        let kind = ObjectKind::Collection;
                        objects::rename_in_users(&mut self.change, kind, &old, new).await?;
                    }
                }
                None => {
                    objects::insert(&mut self.change, id.0, document, self.set.as_deref()).await?;
                    self.change.tx.collection_insert(id).await?;
                    item.id = (!self.dry_run).then_some(id.0);
                }
            }
            self.written = true;
        }
        self.put(i, id, item, plan, is_new).await
    }

    /// Takes a planned collection in: what comes after sees it.
    async fn put(
        &mut self,
        i: usize,
        id: CollectionId,
        item: Applied,
        plan: CollectionPlan,
        is_new: bool,
    ) -> Outcome<()> {
        let bound_before =
            if is_new { Vec::new() } else { self.change.tx.binding_list(id).await? };
        collection::write_bindings(&mut self.change, id, &plan).await?;
        let bound_after = self.change.tx.binding_list(id).await?;
        let is_changed = plan.change != Difference::Unchanged || bound_before != bound_after;
        if is_changed {
            self.written = true;
            self.change.concerns(Subject::Collection(id.0));
        }
        let unresolved: Vec<Name> = plan.unresolved().cloned().collect();
        let mut item = item;
        if is_changed {
            self.evaluate.insert(id, (i, unresolved));
            self.graph = Some(plan.graph);
        } else {
            let row = self.change.tx.collection_load(id).await?;
            item.notes.push(counted(row.map_or(0, |row| row.members), "member"));
            item.warnings.extend(unresolved_warning(&unresolved));
        }
        self.known.by_name.retain(|_, known| *known != id);
        self.known.by_name.insert(plan.collection.name.clone(), id);
        self.known.all.retain(|one| one.id != id);
        self.known.all.push(plan.collection);
        self.items.insert(i, item);
        Ok(())
    }

    async fn evaluate_collections(&mut self) -> Outcome<()> {
        let Some(graph) = self.graph.take() else { return Ok(()) };
        let changed: BTreeSet<CollectionId> = self.evaluate.keys().copied().collect();
        let counts = collection::evaluate(&mut self.change, &graph, &changed).await?;
        for (id, (i, unresolved)) in &self.evaluate {
            let (Some(counts), Some(item)) = (counts.get(id), self.items.get_mut(i)) else {
                continue;
            };
            item.notes.push(collection::sentence(counts));
            item.warnings.extend(unresolved_warning(unresolved));
        }
        Ok(())
    }
}

/// A warning about member names that no device bears.
fn unresolved_warning(names: &[Name]) -> Option<String> {
    let shown: Vec<&str> = names.iter().map(Name::as_str).collect();
    let hint = "a name binds at the next apply, or through a token made for it";
    (!names.is_empty()).then(|| format!("no device bears {}; {hint}", shown.join(", ")))
}
