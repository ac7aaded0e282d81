//! The advertisements of an `apply`.

use muster_model::id::AdvertisementId;
use muster_model::object::{Kind as ObjectKind, Object, Spec};
use muster_site_core::edit::Change as Difference;
use uuid::Uuid;

use super::super::error::{Outcome, Refusal};
use super::super::{advertisement, object as objects};
use super::{Applied, Applying, applied, at, describe, which};

impl Applying<'_> {
    pub(super) async fn advertisements(&mut self, documents: &[Object]) -> Outcome<()> {
        for (i, document) in documents.iter().enumerate() {
            if let Spec::Advertisement(_) = &document.spec {
                let item = self.advertisement(document).await.map_err(|error| at(error, i))?;
                self.items.insert(i, item);
            }
        }
        Ok(())
    }

    async fn advertisement(&mut self, document: &Object) -> Outcome<Applied> {
        let Spec::Advertisement(spec) = &document.spec else {
            return Err(Refusal::invalid("kind", "not an advertisement").into());
        };
        let found = which(&mut self.change.tx, ObjectKind::Advertisement, document).await?;
        let is_new = found.is_none();
        let in_other_set =
            found.as_ref().is_some_and(|row| self.set.is_some() && row.set_name != self.set);
        let stored = match found {
            Some(row) => advertisement::load(&mut self.change.tx, row).await?,
            None => None,
        };
        let (plan, package) =
            advertisement::plan(&mut self.change, stored.as_ref(), document, spec, &self.known)
                .await?;
        let mut item = applied(document, stored.as_ref().map(|stored| stored.object.id), "");
        describe(&mut item, &plan.change);
        item.warnings = plan.warnings.clone();
        if let Some(newest) = &plan.newest {
            item.notes.push(format!("pinned {}, newest {newest}", plan.package.version));
        }
        let (Some(package), true) = (package, plan.change != Difference::Unchanged || in_other_set)
        else {
            return Ok(item);
        };
        if self.dry_run || !is_new {
            let note = advertisement::forecast_note(&mut self.change, stored.as_ref(), &plan);
            item.notes.push(note.await?);
        }
        self.written = true;
        let id = stored.as_ref().map_or_else(Uuid::now_v7, |stored| stored.object.id);
        match &stored {
            Some(stored) => {
                let row = stored.object.clone();
                objects::update(&mut self.change, row, document, self.set.as_deref()).await?;
            }
            None => {
                objects::insert(&mut self.change, id, document, self.set.as_deref()).await?;
                item.id = (!self.dry_run).then_some(id);
            }
        }
        if plan.change != Difference::Unchanged {
            let id = AdvertisementId(id);
            advertisement::write(&mut self.change, id, stored.as_ref(), document, &plan, package)
                .await?;
        }
        Ok(item)
    }
}
