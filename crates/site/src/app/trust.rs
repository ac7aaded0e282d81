//! Whom the site believes: the chain of trust documents that publishers signed.

use std::sync::{Mutex, PoisonError};

use muster_content::trust::{Accepted, SignedTrust, Trust};
use muster_model::api::TrustView;
use serde_json::Value;

use super::change::{About, Change, Code};
use super::error::{AppError, Kind, Outcome, Refusal, Tried};
use super::policy::site_row;
use super::{App, Who};
use crate::store::{Read, Subject, TrustRow};

/// The newest state of trust that was put together, by its number.
#[derive(Default)]
pub(crate) struct TrustCache(Mutex<Option<Trust>>);

impl App {
    /// Whom the site believes now.
    pub(crate) async fn trust(&self) -> Outcome<Trust> {
        let mut read = self.db.read().await?;
        self.trust_at(&mut read).await
    }

    /// Whom the site believes in this snapshot. Documents never change, so what was put together
    /// before is only moved on.
    async fn trust_at(&self, read: &mut Read) -> Outcome<Trust> {
        let newest = site_row(read).await?.trust_number;
        let held = self.trusted.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut trust = held.filter(|held| held.number() <= newest).unwrap_or(Trust::unpinned());
        for number in trust.number() + 1..=newest {
            let row = read.trust_load(number).await?;
            let Some(row) = row else { break };
            let signed: SignedTrust =
                serde_json::from_str(&row.document).tried("read a trust document")?;
            if let Accepted::Newer(next) = trust.accept(&signed).tried("follow a trust document")? {
                trust = next;
            }
        }
        *self.trusted.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(trust.clone());
        Ok(trust)
    }

    /// The newest document.
    pub(crate) async fn trust_view(&self) -> Outcome<TrustView> {
        let mut read = self.db.read().await?;
        let row = read.trust_newest().await?;
        let document = row.as_ref().map(|row| serde_json::from_str(&row.document));
        Ok(TrustView {
            number: row.map_or(0, |row| row.number),
            document: document.transpose().tried("read a trust document")?,
        })
    }

    /// The document of that number, as it was signed.
    pub(crate) async fn trust_document(&self, number: u64) -> Outcome<String> {
        let mut read = self.db.read().await?;
        let row = read.trust_load(number).await?;
        let row = row.ok_or_else(|| {
            Refusal::new(Kind::NotFound, format!("there is no trust document {number}"))
        })?;
        Ok(row.document)
    }

    /// Takes the next document; its signatures decide. The newest one again changes nothing.
    pub(crate) async fn trust_take(&self, who: &Who, document: Value) -> Outcome<TrustView> {
        let signed: SignedTrust = serde_json::from_value(document.clone())
            .map_err(|why| Refusal::invalid("document", why.to_string()))?;
        let mut change = Change::begin(self, who).await?;
        let held = self.trust_at(&mut change.tx).await?;
        let next = held.accept(&signed).map_err(refused)?;
        let Accepted::Newer(next) = next else {
            drop(change);
            return self.trust_view().await;
        };
        let Some(taken) = next.document() else {
            return Err(Refusal::invalid("document", "it holds no document").into());
        };
        let row = TrustRow {
            number: taken.number(),
            digest: taken.digest(),
            document: serde_json::to_string(&signed).tried("write a trust document")?,
            at: change.now,
            principal: change.by.clone(),
        };
        change.tx.trust_insert(&row).await?;
        let mut site = site_row(&mut change.tx).await?;
        site.trust_number = row.number;
        change.tx.site_update(&site).await?;
        change.concerns(Subject::Site);
        let names: Vec<&str> = taken.publishers().iter().map(|one| one.name.as_str()).collect();
        let said = format!("trust document {}: publishers {}", row.number, names.join(", "));
        change.say(Code::TrustChanged, About::default(), said);
        change.commit().await?;
        Ok(TrustView { number: row.number, document: Some(document) })
    }
}

fn refused(why: muster_content::trust::TrustRefused) -> AppError {
    Refusal::conflict(super::package::chain(&why))
        .hint("each document is signed by a publisher of the one before")
        .into()
}
