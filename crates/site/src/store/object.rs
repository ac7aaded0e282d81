//! Objects as administrators wrote them: packages, collections, advertisements.
//!
//! The document is kept as it was accepted. Names are unique among the live objects of a kind, and
//! so are their looks; both are indexes, so two administrators cannot race past a check.

use muster_model::clock::Wall;
use muster_model::name::Name;
use muster_model::object::Kind as ObjectKind;
use muster_site_core::occurrence::Revision;
use uuid::Uuid;

use super::db::{Read, Tx};
use super::error::StoreError;
use super::row::Row;
use super::sql::sql;

/// Objects in one page of a list.
pub const OBJECT_PAGE_MAX: u32 = 1_000;

/// An object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRow {
    /// Its id, for ever; a `PackageId`, `CollectionId` or `AdvertisementId` by kind.
    pub id: Uuid,
    /// What it is.
    pub kind: ObjectKind,
    /// What it is called.
    pub name: Name,
    /// The site revision that last changed it: its version for `If-Match`.
    pub changed: Revision,
    /// The whole document, as JSON.
    pub document: String,
    /// The set that it was applied with (`--set`).
    pub set_name: Option<String>,
    /// When it was first applied.
    pub created_at: Wall,
    /// When it last changed.
    pub changed_at: Wall,
    /// When it was deleted; it stays readable, and its name is free again.
    pub archived_at: Option<Wall>,
}

impl Read {
    /// The object of that id, deleted or not.
    pub async fn object_load(&mut self, id: Uuid) -> Result<Option<ObjectRow>, StoreError> {
        let statement = sql("object_load", "SELECT * FROM object WHERE id = $1");
        self.one(statement.bind(id), object).await
    }

    /// The live object of that kind and name.
    pub async fn object_find(
        &mut self,
        kind: ObjectKind,
        name: &Name,
    ) -> Result<Option<ObjectRow>, StoreError> {
        let statement = sql(
            "object_find",
            "SELECT * FROM object WHERE kind = $1 AND name = $2 AND archived_at IS NULL",
        );
        self.one(statement.bind(kind).bind(name), object).await
    }

    /// The object of that kind and name that was deleted last, for the error that names it.
    pub async fn object_find_deleted(
        &mut self,
        kind: ObjectKind,
        name: &Name,
    ) -> Result<Option<ObjectRow>, StoreError> {
        let statement = sql(
            "object_find_deleted",
            "SELECT * FROM object WHERE kind = $1 AND name = $2 AND archived_at IS NOT NULL
             ORDER BY archived_at DESC, id DESC LIMIT 1",
        );
        self.one(statement.bind(kind).bind(name), object).await
    }

    /// The live object of that kind that looks like `name`, for the error that names it.
    pub async fn object_find_look(
        &mut self,
        kind: ObjectKind,
        name: &Name,
    ) -> Result<Option<ObjectRow>, StoreError> {
        let statement = sql(
            "object_find_look",
            "SELECT * FROM object WHERE kind = $1 AND look = $2 AND archived_at IS NULL",
        );
        self.one(statement.bind(kind).bind(name.look()), object).await
    }

    /// A page of the live objects of a kind by name, after the name `after`.
    pub async fn object_list(
        &mut self,
        kind: ObjectKind,
        after: Option<&Name>,
        limit: u32,
    ) -> Result<Vec<ObjectRow>, StoreError> {
        let statement = sql(
            "object_list",
            "SELECT * FROM object WHERE kind = $1 AND name > $2 AND archived_at IS NULL
             ORDER BY name LIMIT $3",
        );
        let after = after.map_or("", Name::as_str);
        let statement = statement.bind(kind).bind(after).bind(limit.min(OBJECT_PAGE_MAX));
        self.all(statement, object).await
    }

    /// The live objects that were applied with a set, by kind and name.
    pub async fn object_list_set(&mut self, set: &str) -> Result<Vec<ObjectRow>, StoreError> {
        let statement = sql(
            "object_list_set",
            "SELECT * FROM object WHERE set_name = $1 AND archived_at IS NULL
             ORDER BY kind, name",
        );
        self.all(statement.bind(set), object).await
    }
}

impl Tx {
    /// Writes a new object. [`StoreError::Taken`]: its name, or one that looks like it, is taken.
    pub async fn object_insert(&mut self, row: &ObjectRow) -> Result<(), StoreError> {
        let statement = sql(
            "object_insert",
            "INSERT INTO object (id, kind, name, look, changed_revision, document, set_name,
             created_at, changed_at, archived_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        );
        let statement = statement
            .bind(row.id)
            .bind(row.kind)
            .bind(&row.name)
            .bind(row.name.look())
            .bind(row.changed)
            .bind(&row.document)
            .bind(row.set_name.as_ref())
            .bind(row.created_at)
            .bind(row.changed_at)
            .bind(row.archived_at);
        self.run(statement).await.map(drop)
    }

    /// Replaces what can change of an object: name, document, set, times, and whether it is
    /// archived. [`StoreError::Taken`]: its new name, or one that looks like it, is taken.
    pub async fn object_update(&mut self, row: &ObjectRow) -> Result<(), StoreError> {
        let statement = sql(
            "object_update",
            "UPDATE object SET name = $2, look = $3, changed_revision = $4, document = $5,
             set_name = $6, changed_at = $7, archived_at = $8 WHERE id = $1",
        );
        let statement = statement
            .bind(row.id)
            .bind(&row.name)
            .bind(row.name.look())
            .bind(row.changed)
            .bind(&row.document)
            .bind(row.set_name.as_ref())
            .bind(row.changed_at)
            .bind(row.archived_at);
        self.run(statement).await.map(drop)
    }
}

fn object(row: &Row) -> Result<ObjectRow, StoreError> {
    Ok(ObjectRow {
        id: row.get("id")?,
        kind: row.get("kind")?,
        name: row.get("name")?,
        changed: row.get("changed_revision")?,
        document: row.get("document")?,
        set_name: row.maybe("set_name")?,
        created_at: row.get("created_at")?,
        changed_at: row.get("changed_at")?,
        archived_at: row.maybe("archived_at")?,
    })
}
