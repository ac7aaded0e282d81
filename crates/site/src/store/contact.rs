//! When each device was last heard of, and what it knows.
//!
//! Polls are answered from memory; the shell notes contacts here in groups, some seconds late. A
//! contact that was lost in a crash makes a device look silent until its next poll, nothing else.

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{CollectionId, DeviceId};
use muster_site_core::occurrence::Revision;

use super::arg::{Kind, ToArg};
use super::db::{Read, Tx};
use super::error::StoreError;
use super::row::Row;
use super::sql::{many, sql};

/// The last contact of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContactRow {
    /// Whose.
    pub device: DeviceId,
    /// When, in the site's time.
    pub at: Wall,
    /// The site revision of the policy that it is known to hold.
    pub revision: Revision,
    /// The tag of that policy.
    pub tag: Option<Digest>,
}

impl Read {
    /// The last contacts of `devices`; none of who was never heard of.
    pub async fn contact_load_many(
        &mut self,
        devices: &[DeviceId],
    ) -> Result<Vec<ContactRow>, StoreError> {
        let rows = devices.iter().map(|device| [device.to_arg()]).collect();
        let tail = "SELECT c.* FROM k JOIN contact c ON c.device = k.device";
        self.all_many(many("contact_load_many", [("device", Kind::Id)], rows, tail), contact).await
    }

    /// How many members of a collection hold a policy of `revision` or later: "known by 48,212".
    pub async fn contact_known(
        &mut self,
        collection: CollectionId,
        revision: Revision,
    ) -> Result<u64, StoreError> {
        let statement = sql(
            "contact_known",
            "SELECT count(*) AS count FROM membership m JOIN contact c ON c.device = m.device
             WHERE m.collection = $1 AND m.until_revision IS NULL AND c.revision >= $2",
        );
        let statement = statement.bind(collection).bind(revision);
        Ok(self.one(statement, |row| row.get("count")).await?.unwrap_or(0))
    }
}

impl Tx {
    /// Notes contacts. Time and known revision never go back; the tag is that of the newer revision.
    pub async fn contact_note_many(&mut self, contacts: &[ContactRow]) -> Result<(), StoreError> {
        let rows = contacts
            .iter()
            .map(|contact| {
                [
                    contact.device.to_arg(),
                    contact.at.to_arg(),
                    contact.revision.to_arg(),
                    contact.tag.to_arg(),
                ]
            })
            .collect();
        let columns = [
            ("device", Kind::Id),
            ("at", Kind::Int),
            ("revision", Kind::Int),
            ("tag", Kind::Bytes),
        ];
        let tail = "INSERT INTO contact (device, at, revision, tag)
            SELECT device, at, revision, tag FROM k WHERE true
            ON CONFLICT (device) DO UPDATE SET
            at = CASE WHEN excluded.at > contact.at THEN excluded.at ELSE contact.at END,
            tag = CASE WHEN excluded.revision >= contact.revision
                       THEN excluded.tag ELSE contact.tag END,
            revision = CASE WHEN excluded.revision >= contact.revision
                            THEN excluded.revision ELSE contact.revision END";
        self.run_many(many("contact_note_many", columns, rows, tail)).await.map(drop)
    }
}

fn contact(row: &Row) -> Result<ContactRow, StoreError> {
    Ok(ContactRow {
        device: row.get("device")?,
        at: row.get("at")?,
        revision: row.get("revision")?,
        tag: row.maybe("tag")?,
    })
}
