//! The maintenance windows and freezes of an `apply`.

use std::collections::BTreeSet;

use muster_model::id::CollectionId;
use muster_model::object::{Kind as ObjectKind, Object, Spec};
use muster_site_core::edit::Change as Difference;
use uuid::Uuid;

use super::super::error::{Outcome, Refusal};
use super::super::graph::object;
use super::super::{object as objects, window};
use super::{Applied, Applying, applied, at, describe, which};

impl Applying<'_> {
    /// After the collections and before the advertisements, whose warnings look at them.
    pub(super) async fn windows(&mut self, documents: &[Object]) -> Outcome<()> {
        for (i, document) in documents.iter().enumerate() {
            if let Spec::MaintenanceWindow(_) = &document.spec {
                let item = self.window(document).await.map_err(|error| at(error, i))?;
                self.items.insert(i, item);
            }
        }
        Ok(())
    }

    async fn window(&mut self, document: &Object) -> Outcome<Applied> {
        let Spec::MaintenanceWindow(spec) = &document.spec else {
            return Err(Refusal::invalid("kind", "not a maintenance window").into());
        };
        let kind = ObjectKind::MaintenanceWindow;
        let found = which(&mut self.change.tx, kind, document).await?;
        let stored = found.as_ref().map(object).transpose()?;
        let own = found.as_ref().map(|row| row.id);
        let change = &mut self.change;
        let plan = window::plan(change, stored.as_ref(), own, document, spec, &self.known).await?;
        let mut item = applied(document, own, "");
        describe(&mut item, &plan.change);
        item.warnings = plan.warnings.clone();
        let in_other_set =
            found.as_ref().is_some_and(|row| self.set.is_some() && row.set_name != self.set);
        if plan.change == Difference::Unchanged && !in_other_set {
            return Ok(item);
        }
        self.written = true;
        let id = own.unwrap_or_else(Uuid::now_v7);
        let mut concerned: BTreeSet<CollectionId> = [plan.collection].into();
        match found {
            Some(row) => {
                if let Some(stored) = &stored {
                    concerned.extend(window::collection_of(&mut self.change.tx, stored).await?);
                }
                objects::update(&mut self.change, row, document, self.set.as_deref()).await?;
            }
            None => {
                objects::insert(&mut self.change, id, document, self.set.as_deref()).await?;
                item.id = (!self.dry_run).then_some(id);
            }
        }
        if plan.change != Difference::Unchanged {
            let concerned: Vec<CollectionId> = concerned.into_iter().collect();
            window::tell(&mut self.change, id, &concerned).await?;
        }
        Ok(item)
    }
}
