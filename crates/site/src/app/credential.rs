//! Who is logged on, and the tokens that still let somebody in: lists, and their end. Secrets are
//! never told.

use muster_model::api::{CredentialView, Page, TokenView};
use muster_model::id::{PrincipalId, TokenId};

use super::change::{About, Change, Code};
use super::error::{Outcome, Refusal};
use super::{App, Who};
use crate::store::{PrincipalRow, Subject};

impl App {
    /// The log-ons that are good, by name.
    pub(crate) async fn credential_list(&self, who: &Who) -> Outcome<Page<CredentialView>> {
        let mut read = self.db.read().await?;
        let rows = read.principal_list_secret(self.now()).await?;
        let view = |row: PrincipalRow| CredentialView {
            own: row.id == who.id,
            id: row.id,
            name: row.name.to_string(),
            role: row.role,
            created: row.created_at,
            created_by: row.created_by,
            expires: row.expires_at,
        };
        Ok(Page { items: rows.into_iter().map(view).collect(), next: None })
    }

    /// Ends a log-on: its credential is good for nothing from the next request on, whichever process
    /// it goes to, within a second.
    pub(crate) async fn credential_revoke(&self, who: &Who, id: PrincipalId) -> Outcome<()> {
        let mut change = Change::begin(self, who).await?;
        let row = change.tx.principal_load(id).await?.filter(|row| row.secret.is_some());
        let row = row.ok_or_else(|| Refusal::not_found("credential", id))?;
        if row.expires_at.is_none() {
            let detail = format!("{} is whoever can read the site's own folder", row.name);
            let hint = "it ends with access to that folder";
            return Err(Refusal::conflict(detail).hint(hint).into());
        }
        if row.revoked_at.is_some() {
            return Ok(());
        }
        let said = match who.id == id {
            true => format!("{} logged off", row.name),
            false => format!("the log-on of {} ({}) ended", row.name, row.role),
        };
        let revoked_at = Some(change.now);
        change.tx.principal_update(&PrincipalRow { revoked_at, ..row }).await?;
        change.concerns(Subject::Credential(id.0));
        change.say(Code::LoggedOff, About::default(), said);
        change.commit().await?;
        Ok(())
    }

    /// Ends the log-on that asks. Whoever can read the site's own folder stays who they are.
    pub(crate) async fn log_off(&self, who: &Who) -> Outcome<()> {
        let mut read = self.db.read().await?;
        let row = read.principal_load(who.id).await?;
        drop(read);
        match row.is_some_and(|row| row.expires_at.is_some()) {
            true => self.credential_revoke(who, who.id).await,
            false => Ok(()),
        }
    }

    /// The tokens that still let somebody in, the newest first.
    pub(crate) async fn token_list(&self) -> Outcome<Page<TokenView>> {
        let mut read = self.db.read().await?;
        let rows = read.token_list(self.now()).await?.into_iter();
        let items = rows.map(|row| TokenView {
            id: row.id,
            role: row.role,
            name: row.name,
            uses_left: row.uses_left,
            hold: row.hold,
            created: row.created_at,
            created_by: row.created_by,
            expires: row.expires_at,
        });
        Ok(Page { items: items.collect(), next: None })
    }

    /// Makes a token void; whom it has let in stays.
    pub(crate) async fn token_revoke(&self, who: &Who, id: TokenId) -> Outcome<()> {
        let mut change = Change::begin(self, who).await?;
        if change.tx.token_load(id).await?.is_none() {
            return Err(Refusal::not_found("token", id).into());
        }
        if !change.tx.token_revoke(id, change.now).await? {
            return Ok(());
        }
        change.concerns(Subject::Credential(id.0));
        change.say(Code::TokenRevoked, About::default(), format!("token {id} revoked"));
        change.commit().await?;
        Ok(())
    }
}
