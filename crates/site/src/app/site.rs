//! The site itself: what it is, its settings, halting and resuming everything.

use std::collections::BTreeMap;

use muster_model::api::{OrderAnswer, OrderRequest, SiteView};
use muster_model::collection::ALL;
use muster_model::id::CollectionId;
use muster_model::name::Name;
use muster_model::object::Kind as ObjectKind;
use muster_model::policy::Order;
use muster_model::settings::{Setting, Settings, Value};

use super::change::{About, Change, Code};
use super::error::{Outcome, Refusal};
use super::policy::site_row;
use super::{App, Who};
use crate::store::{Read, Subject};

impl App {
    /// What the site is and how it stands.
    pub(crate) async fn site_view(&self) -> Outcome<SiteView> {
        let mut read = self.db.read().await?;
        let site = site_row(&mut read).await?;
        let halted = site.halted.map(|order| match order.reason.is_empty() {
            true => format!("by {}", order.by),
            false => format!("by {}: {}", order.by, order.reason),
        });
        Ok(SiteView {
            code: site.code,
            url: site.url,
            epoch: site.epoch,
            revision: read.revision_newest().await?.0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            database: self.database.to_owned(),
            trust: site.trust_number,
            devices: read.device_counts().await?.into_iter().collect(),
            halted,
            set_aside: read.set_aside_count().await?,
        })
    }

    /// Every setting with the value that holds.
    pub(crate) async fn settings_view(&self) -> Outcome<BTreeMap<&'static str, Value>> {
        let mut read = self.db.read().await?;
        let site = site_row(&mut read).await?;
        Ok(values(&site.settings))
    }

    /// Changes settings, all of them or none.
    pub(crate) async fn settings_change(
        &self,
        who: &Who,
        changes: BTreeMap<String, Value>,
    ) -> Outcome<BTreeMap<&'static str, Value>> {
        let mut change = Change::begin(self, who).await?;
        let mut site = site_row(&mut change.tx).await?;
        let before = site.settings.clone();
        for (name, value) in &changes {
            site.settings.set(name, *value).map_err(|why| {
                Refusal::invalid(format!("changes.{name}"), why.to_string())
                    .hint("`muster describe settings` lists names and ranges")
            })?;
        }
        let now = values(&site.settings);
        if site.settings == before {
            return Ok(now);
        }
        site.settings_version += 1;
        change.tx.site_update(&site).await?;
        change.concerns(Subject::Site);
        let said: Vec<String> =
            changes.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        change.say(Code::SettingsChanged, About::default(), said.join(", "));
        change.commit().await?;
        Ok(now)
    }

    /// Stops everything: nothing starts on any device until [`App::site_resume`].
    pub(crate) async fn site_halt(&self, who: &Who, request: OrderRequest) -> Outcome<OrderAnswer> {
        let order = Order { by: who.name.clone(), reason: request.reason, kill: request.kill };
        let said = format!("everything halted: {}", order.reason);
        self.set_halt(who, Some(order), Code::SiteHalted, said).await
    }

    /// Lets everything go on.
    pub(crate) async fn site_resume(&self, who: &Who) -> Outcome<OrderAnswer> {
        self.set_halt(who, None, Code::SiteResumed, "everything may go on".to_owned()).await
    }

    async fn set_halt(
        &self,
        who: &Who,
        order: Option<Order>,
        code: Code,
        said: String,
    ) -> Outcome<OrderAnswer> {
        let mut change = Change::begin(self, who).await?;
        let mut site = site_row(&mut change.tx).await?;
        site.halted = order;
        site.halt_version += 1;
        change.tx.site_update(&site).await?;
        change.concerns(Subject::Site);
        change.say(code, About::default(), said);
        let everyone = all_collection(&mut change.tx).await?;
        let revision = change.commit().await?;
        self.reach(revision, &[everyone]).await
    }
}

/// The collection of every admitted device.
pub(crate) async fn all_collection(read: &mut Read) -> Outcome<CollectionId> {
    let name = Name::new(ALL).map_err(|why| Refusal::invalid("name", why.to_string()))?;
    let found = read.object_find(ObjectKind::Collection, &name).await?;
    let found = found.ok_or_else(|| Refusal::not_found("collection", ALL))?;
    Ok(CollectionId(found.id))
}

fn values(settings: &Settings) -> BTreeMap<&'static str, Value> {
    Setting::ALL.iter().map(|setting| (setting.name(), settings.value(*setting))).collect()
}
