//! Messages of the site itself: who changed what, written with the change, so there is no change
//! without its message and no message without its change.
//!
//! Known by its place `(revision, item)`. Messages of devices are in `message`.

use muster_model::clock::Wall;
use muster_model::id::{AdvertisementId, DeviceId};
use muster_model::message::Severity;
use muster_site_core::occurrence::Revision;

use super::arg::{Arg, Kind, ToArg};
use super::db::{Read, Tx};
use super::error::StoreError;
use super::row::Row;
use super::sql::{many, sql, sql_of};

/// Messages in one page of a list.
pub const SITE_MESSAGE_PAGE_MAX: u32 = 1_000;

/// What the site or one of its people did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteMessage {
    /// When, in the site's time.
    pub at: Wall,
    /// The number.
    pub code: u16,
    /// How much it matters.
    pub severity: Severity,
    /// The component that did it.
    pub component: String,
    /// Who wanted it; the site's own decisions name the component again.
    pub principal: String,
    /// The advertisement that it is about.
    pub advertisement: Option<AdvertisementId>,
    /// The device that it is about.
    pub device: Option<DeviceId>,
    /// The sentence for people.
    pub text: String,
}

/// A message of the site with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteMessageRow {
    /// The revision that it was written with.
    pub revision: Revision,
    /// Which of that revision's.
    pub item: u64,
    /// What it says.
    pub message: SiteMessage,
}

impl Read {
    /// A page of the site's messages, the newest first, before the place `before`; about one device
    /// or advertisement if one is given.
    pub async fn site_message_list(
        &mut self,
        device: Option<DeviceId>,
        advertisement: Option<AdvertisementId>,
        before: Option<(Revision, u64)>,
        limit: u32,
    ) -> Result<Vec<SiteMessageRow>, StoreError> {
        let mut text = "SELECT * FROM site_message WHERE (revision, item) < ($1, $2)".to_owned();
        let mut number = 3;
        let mut condition = |column: &str| {
            number += 1;
            text.push_str(&format!(" AND {column} = ${number}"));
        };
        device.iter().for_each(|_| condition("device"));
        advertisement.iter().for_each(|_| condition("advertisement"));
        text.push_str(" ORDER BY revision DESC, item DESC LIMIT $3");
        let (revision, item) = before.unwrap_or((Revision(i64::MAX as u64), 0));
        let mut statement = sql_of("site_message_list", text)
            .bind(revision)
            .bind(item)
            .bind(limit.min(SITE_MESSAGE_PAGE_MAX));
        if let Some(device) = device {
            statement = statement.bind(device);
        }
        if let Some(advertisement) = advertisement {
            statement = statement.bind(advertisement);
        }
        self.all(statement, site_message).await
    }

    /// The site's messages after a revision, the oldest first: what a follower asks for.
    pub async fn site_message_after(
        &mut self,
        after: Revision,
        limit: u32,
    ) -> Result<Vec<SiteMessageRow>, StoreError> {
        let statement = sql(
            "site_message_after",
            "SELECT * FROM site_message WHERE revision > $1 ORDER BY revision, item LIMIT $2",
        );
        self.all(statement.bind(after).bind(limit.min(SITE_MESSAGE_PAGE_MAX)), site_message).await
    }
}

impl Tx {
    /// Writes messages under this transaction's revision. Call it once a transaction, with all.
    pub async fn site_message_insert(
        &mut self,
        messages: &[SiteMessage],
    ) -> Result<Revision, StoreError> {
        let revision = self.revision_take().await?;
        let row = |(message, item): (&'_ SiteMessage, u64)| -> [Arg<'_>; 10] {
            [
                revision.to_arg(),
                item.to_arg(),
                message.at.to_arg(),
                message.code.to_arg(),
                message.severity.word().to_arg(),
                message.component.clone().to_arg(),
                message.principal.clone().to_arg(),
                message.advertisement.to_arg(),
                message.device.to_arg(),
                message.text.clone().to_arg(),
            ]
        };
        let columns = [
            ("revision", Kind::Int),
            ("item", Kind::Int),
            ("at", Kind::Int),
            ("code", Kind::Int),
            ("severity", Kind::Text),
            ("component", Kind::Text),
            ("principal", Kind::Text),
            ("advertisement", Kind::Id),
            ("device", Kind::Id),
            ("text", Kind::Text),
        ];
        let tail = "INSERT INTO site_message (revision, item, at, code, severity, component,
                    principal, advertisement, device, text)
                    SELECT revision, item, at, code, severity, component, principal,
                    advertisement, device, text FROM k";
        let rows = messages.iter().zip(0_u64..).map(row).collect();
        self.run_many(many("site_message_insert", columns, rows, tail)).await?;
        Ok(revision)
    }
}

fn site_message(row: &Row) -> Result<SiteMessageRow, StoreError> {
    let message = SiteMessage {
        at: row.get("at")?,
        code: row.get("code")?,
        severity: row.get("severity")?,
        component: row.get("component")?,
        principal: row.get("principal")?,
        advertisement: row.maybe("advertisement")?,
        device: row.maybe("device")?,
        text: row.get("text")?,
    };
    Ok(SiteMessageRow { revision: row.get("revision")?, item: row.get("item")?, message })
}
