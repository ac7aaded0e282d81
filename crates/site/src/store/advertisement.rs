//! Advertisements as they run: what is pinned, for whom, and whether somebody stopped them.
//!
//! The document stands in `object`; this row is what policy is compiled from, and one row a revision
//! keeps what each revision said.

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{AdvertisementId, CollectionId, PackageId};
use muster_model::name::Name;
use muster_model::policy::Order;

use super::arg::maybe_json;
use super::db::{Read, Tx};
use super::error::StoreError;
use super::row::Row;
use super::sql::sql;

/// An advertisement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertisementRow {
    /// Its id; also that of its object.
    pub id: AdvertisementId,
    /// Its own revision, from 1.
    pub revision: u32,
    /// The package.
    pub package: PackageId,
    /// The pinned version.
    pub version: String,
    /// The digest of the pinned manifest.
    pub manifest: Digest,
    /// The program.
    pub program: Name,
    /// For whom.
    pub collection: CollectionId,
    /// From then on nothing starts.
    pub expires: Option<Wall>,
    /// Somebody stopped it.
    pub stopped: Option<Order>,
    /// When it was deleted; its accounting stays.
    pub deleted_at: Option<Wall>,
}

/// What one revision of an advertisement said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertisementRevisionRow {
    /// The advertisement.
    pub advertisement: AdvertisementId,
    /// Which revision of it.
    pub revision: u32,
    /// The whole document, as JSON.
    pub document: String,
    /// The version that it pinned.
    pub version: String,
    /// The digest of that version's manifest.
    pub manifest: Digest,
    /// When it was made.
    pub at: Wall,
    /// By whom.
    pub principal: String,
}

impl Read {
    /// The advertisement of that id, deleted or not.
    pub async fn advertisement_load(
        &mut self,
        id: AdvertisementId,
    ) -> Result<Option<AdvertisementRow>, StoreError> {
        let statement = sql("advertisement_load", "SELECT * FROM advertisement WHERE id = $1");
        self.one(statement.bind(id), advertisement).await
    }

    /// Every advertisement that is not deleted, by id.
    pub async fn advertisement_list_live(&mut self) -> Result<Vec<AdvertisementRow>, StoreError> {
        let text = "SELECT * FROM advertisement WHERE deleted_at IS NULL ORDER BY id";
        self.all(sql("advertisement_list_live", text), advertisement).await
    }

    /// Every advertisement that was deleted, by id.
    pub async fn advertisement_list_deleted(
        &mut self,
    ) -> Result<Vec<AdvertisementRow>, StoreError> {
        let text = "SELECT * FROM advertisement WHERE deleted_at IS NOT NULL ORDER BY id";
        self.all(sql("advertisement_list_deleted", text), advertisement).await
    }

    /// The live advertisements of a package, of whatever version: who is met by a revocation.
    pub async fn advertisement_list_package(
        &mut self,
        package: PackageId,
    ) -> Result<Vec<AdvertisementRow>, StoreError> {
        let statement = sql(
            "advertisement_list_package",
            "SELECT * FROM advertisement WHERE package = $1 AND deleted_at IS NULL ORDER BY id",
        );
        self.all(statement.bind(package), advertisement).await
    }

    /// The live advertisements for a collection: who is in the way of its deletion.
    pub async fn advertisement_list_collection(
        &mut self,
        collection: CollectionId,
    ) -> Result<Vec<AdvertisementRow>, StoreError> {
        let statement = sql(
            "advertisement_list_collection",
            "SELECT * FROM advertisement WHERE collection = $1 AND deleted_at IS NULL ORDER BY id",
        );
        self.all(statement.bind(collection), advertisement).await
    }

    /// What each revision said, the oldest first.
    pub async fn advertisement_revision_list(
        &mut self,
        id: AdvertisementId,
    ) -> Result<Vec<AdvertisementRevisionRow>, StoreError> {
        let statement = sql(
            "advertisement_revision_list",
            "SELECT * FROM advertisement_revision WHERE advertisement = $1 ORDER BY revision",
        );
        self.all(statement.bind(id), advertisement_revision).await
    }
}

impl Tx {
    /// Writes a new advertisement; its object and package version are there already.
    pub async fn advertisement_insert(&mut self, row: &AdvertisementRow) -> Result<(), StoreError> {
        let text = "INSERT INTO advertisement (id, revision, package, version, manifest, program,
                    collection, expires, stopped, deleted_at)
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        self.advertisement_write("advertisement_insert", text, row).await
    }

    /// Replaces the row.
    pub async fn advertisement_update(&mut self, row: &AdvertisementRow) -> Result<(), StoreError> {
        let text = "UPDATE advertisement SET revision = $2, package = $3, version = $4,
                    manifest = $5, program = $6, collection = $7, expires = $8, stopped = $9,
                    deleted_at = $10 WHERE id = $1";
        self.advertisement_write("advertisement_update", text, row).await
    }

    async fn advertisement_write(
        &mut self,
        operation: &'static str,
        text: &'static str,
        row: &AdvertisementRow,
    ) -> Result<(), StoreError> {
        let statement = sql(operation, text)
            .bind(row.id)
            .bind(row.revision)
            .bind(row.package)
            .bind(&row.version)
            .bind(row.manifest)
            .bind(&row.program)
            .bind(row.collection)
            .bind(row.expires)
            .bind(maybe_json(operation, row.stopped.as_ref())?)
            .bind(row.deleted_at);
        self.run(statement).await.map(drop)
    }

    /// Keeps what a revision says. [`StoreError::Taken`]: that revision was kept before.
    pub async fn advertisement_revision_insert(
        &mut self,
        row: &AdvertisementRevisionRow,
    ) -> Result<(), StoreError> {
        let statement = sql(
            "advertisement_revision_insert",
            "INSERT INTO advertisement_revision (advertisement, revision, document, version,
             manifest, at, principal) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        );
        let statement = statement
            .bind(row.advertisement)
            .bind(row.revision)
            .bind(&row.document)
            .bind(&row.version)
            .bind(row.manifest)
            .bind(row.at)
            .bind(&row.principal);
        self.run(statement).await.map(drop)
    }
}

fn advertisement(row: &Row) -> Result<AdvertisementRow, StoreError> {
    Ok(AdvertisementRow {
        id: row.get("id")?,
        revision: row.get("revision")?,
        package: row.get("package")?,
        version: row.get("version")?,
        manifest: row.get("manifest")?,
        program: row.get("program")?,
        collection: row.get("collection")?,
        expires: row.maybe("expires")?,
        stopped: row.maybe_json("stopped")?,
        deleted_at: row.maybe("deleted_at")?,
    })
}

fn advertisement_revision(row: &Row) -> Result<AdvertisementRevisionRow, StoreError> {
    Ok(AdvertisementRevisionRow {
        advertisement: row.get("advertisement")?,
        revision: row.get("revision")?,
        document: row.get("document")?,
        version: row.get("version")?,
        manifest: row.get("manifest")?,
        at: row.get("at")?,
        principal: row.get("principal")?,
    })
}
