//! Collections as they are evaluated: versions, number of members, bindings of member names.
//!
//! The clauses stand in the object's document. A member name is bound to a device once, and never
//! binds by itself to a stranger who later claims that name.

use muster_model::clock::Wall;
use muster_model::id::{CollectionId, DeviceId};
use muster_model::name::Name;
use muster_site_core::occurrence::Revision;

use super::arg::{Kind, ToArg};
use super::db::{Read, Tx};
use super::error::StoreError;
use super::row::Row;
use super::sql::{many, sql};

/// A collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectionRow {
    /// Its id; also that of its object.
    pub id: CollectionId,
    /// Moves when what is offered to it changes, never when its members do.
    pub policy_version: u64,
    /// The revision that last changed its members.
    pub membership_version: Revision,
    /// Its members now.
    pub members: u64,
    /// When its rules were last held against the devices.
    pub evaluated_at: Option<Wall>,
    /// Why they could not be.
    pub error: Option<String>,
}

/// A member name of a collection, and the device that it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingRow {
    /// The collection.
    pub collection: CollectionId,
    /// The name as it stands in the document.
    pub name: Name,
    /// The device; `None` is unresolved.
    pub device: Option<DeviceId>,
}

impl Read {
    /// A collection.
    pub async fn collection_load(
        &mut self,
        id: CollectionId,
    ) -> Result<Option<CollectionRow>, StoreError> {
        let statement = sql("collection_load", "SELECT * FROM collection WHERE id = $1");
        self.one(statement.bind(id), collection).await
    }

    /// Every collection, by id.
    pub async fn collection_list(&mut self) -> Result<Vec<CollectionRow>, StoreError> {
        self.all(sql("collection_list", "SELECT * FROM collection ORDER BY id"), collection).await
    }

    /// The member names of a collection, by name.
    pub async fn binding_list(
        &mut self,
        collection: CollectionId,
    ) -> Result<Vec<BindingRow>, StoreError> {
        let statement =
            sql("binding_list", "SELECT * FROM binding WHERE collection = $1 ORDER BY name");
        self.all(statement.bind(collection), binding).await
    }

    /// The member names of every collection.
    pub async fn binding_list_all(&mut self) -> Result<Vec<BindingRow>, StoreError> {
        let text = "SELECT * FROM binding ORDER BY collection, name";
        self.all(sql("binding_list_all", text), binding).await
    }
}

impl Tx {
    /// Writes a new, empty collection; its object is there already.
    pub async fn collection_insert(&mut self, id: CollectionId) -> Result<(), StoreError> {
        let revision = self.revision_take().await?;
        let statement = sql(
            "collection_insert",
            "INSERT INTO collection (id, policy_version, membership_version, members)
             VALUES ($1, 0, $2, 0)",
        );
        self.run(statement.bind(id).bind(revision)).await.map(drop)
    }

    /// What is offered to `collections` changes in this transaction: their policy version becomes
    /// its revision, so every member's tag changes. One statement, however many members.
    pub async fn collection_offer_changed(
        &mut self,
        collections: &[CollectionId],
    ) -> Result<(), StoreError> {
        let revision = self.revision_take().await?;
        let rows = collections.iter().map(|id| [id.to_arg(), revision.to_arg()]).collect();
        let tail = "UPDATE collection SET policy_version = k.version FROM k
                    WHERE collection.id = k.id";
        let columns = [("id", Kind::Id), ("version", Kind::Int)];
        self.run_many(many("collection_offer_changed", columns, rows, tail)).await.map(drop)
    }

    /// Notes that a collection was evaluated, or why it could not be.
    pub async fn collection_evaluated(
        &mut self,
        id: CollectionId,
        at: Wall,
        error: Option<&str>,
    ) -> Result<(), StoreError> {
        let statement = sql(
            "collection_evaluated",
            "UPDATE collection SET evaluated_at = $2, error = $3 WHERE id = $1",
        );
        self.run(statement.bind(id).bind(at).bind(error)).await.map(drop)
    }

    /// Replaces the member names of a collection.
    pub async fn binding_replace(
        &mut self,
        collection: CollectionId,
        bindings: &[(Name, Option<DeviceId>)],
    ) -> Result<(), StoreError> {
        const OPERATION: &str = "binding_replace";
        let statement = sql(OPERATION, "DELETE FROM binding WHERE collection = $1");
        self.run(statement.bind(collection)).await?;
        let rows = bindings
            .iter()
            .map(|(name, device)| [collection.to_arg(), name.to_arg(), device.to_arg()])
            .collect();
        let columns = [("collection", Kind::Id), ("name", Kind::Text), ("device", Kind::Id)];
        let tail = "INSERT INTO binding (collection, name, device)
                    SELECT collection, name, device FROM k";
        self.run_many(many(OPERATION, columns, rows, tail)).await.map(drop)
    }

    /// Binds a name that is unresolved, in every collection that has it: the device came through a
    /// token made for that name. Answers the collections.
    pub async fn binding_resolve(
        &mut self,
        name: &Name,
        device: DeviceId,
    ) -> Result<Vec<CollectionId>, StoreError> {
        let statement = sql(
            "binding_resolve",
            "UPDATE binding SET device = $2 WHERE name = $1 AND device IS NULL
             RETURNING collection",
        );
        self.all(statement.bind(name).bind(device), |row| row.get("collection")).await
    }
}

fn collection(row: &Row) -> Result<CollectionRow, StoreError> {
    Ok(CollectionRow {
        id: row.get("id")?,
        policy_version: row.get("policy_version")?,
        membership_version: row.get("membership_version")?,
        members: row.get("members")?,
        evaluated_at: row.maybe("evaluated_at")?,
        error: row.maybe("error")?,
    })
}

fn binding(row: &Row) -> Result<BindingRow, StoreError> {
    Ok(BindingRow {
        collection: row.get("collection")?,
        name: row.get("name")?,
        device: row.maybe("device")?,
    })
}
