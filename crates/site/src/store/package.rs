//! Published package versions: immutable, named by the digest of their manifest, and revocable.

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::PackageId;
use muster_model::policy::{KeySignature, Order};
use muster_site_core::occurrence::Revision;

use super::arg::{Kind, ToArg, json, maybe_json};
use super::db::{Read, Tx};
use super::error::StoreError;
use super::row::Row;
use super::sql::{many, sql};

/// One published version of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageVersionRow {
    /// The package.
    pub package: PackageId,
    /// The version, compared byte for byte.
    pub version: String,
    /// The digest of the manifest.
    pub manifest: Digest,
    /// The package's spec, as JSON.
    pub spec: String,
    /// The publishers' signatures over the manifest.
    pub signatures: Vec<KeySignature>,
    /// The size of all content.
    pub content_bytes: u64,
    /// The site revision that published it: the order of a package's versions.
    pub published: Revision,
    /// When.
    pub published_at: Wall,
    /// Who.
    pub published_by: String,
    /// Nothing of it starts any more.
    pub revoked: Option<Order>,
}

/// A stored object that a package version needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackageObject {
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
}

impl Read {
    /// A version of a package.
    pub async fn package_version_load(
        &mut self,
        package: PackageId,
        version: &str,
    ) -> Result<Option<PackageVersionRow>, StoreError> {
        let statement = sql(
            "package_version_load",
            "SELECT * FROM package_version WHERE package = $1 AND version = $2",
        );
        self.one(statement.bind(package).bind(version), package_version).await
    }

    /// The version whose manifest has that digest.
    pub async fn package_version_find(
        &mut self,
        manifest: Digest,
    ) -> Result<Option<PackageVersionRow>, StoreError> {
        let statement =
            sql("package_version_find", "SELECT * FROM package_version WHERE manifest = $1");
        self.one(statement.bind(manifest), package_version).await
    }

    /// The versions of a package, the newest published first.
    pub async fn package_version_list(
        &mut self,
        package: PackageId,
    ) -> Result<Vec<PackageVersionRow>, StoreError> {
        let statement = sql(
            "package_version_list",
            "SELECT * FROM package_version WHERE package = $1
             ORDER BY published_revision DESC, version DESC",
        );
        self.all(statement.bind(package), package_version).await
    }

    /// The stored objects of a version, in the order of its manifest.
    pub async fn package_object_list(
        &mut self,
        package: PackageId,
        version: &str,
    ) -> Result<Vec<PackageObject>, StoreError> {
        let statement = sql(
            "package_object_list",
            "SELECT digest, bytes FROM package_object WHERE package = $1 AND version = $2
             ORDER BY position",
        );
        let read =
            |row: &Row| Ok(PackageObject { digest: row.get("digest")?, bytes: row.get("bytes")? });
        self.all(statement.bind(package).bind(version), read).await
    }
}

impl Tx {
    /// Writes a new version with the stored objects that it needs. [`StoreError::Taken`]: the
    /// package has that version; the caller compares manifests before it calls that an error.
    pub async fn package_version_insert(
        &mut self,
        row: &PackageVersionRow,
        objects: &[PackageObject],
    ) -> Result<(), StoreError> {
        const OPERATION: &str = "package_version_insert";
        let statement = sql(
            OPERATION,
            "INSERT INTO package_version (package, version, manifest, spec, signatures,
             content_bytes, published_revision, published_at, published_by, revoked)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        );
        let statement = statement
            .bind(row.package)
            .bind(&row.version)
            .bind(row.manifest)
            .bind(&row.spec)
            .bind(json(OPERATION, &row.signatures)?)
            .bind(row.content_bytes)
            .bind(row.published)
            .bind(row.published_at)
            .bind(&row.published_by)
            .bind(maybe_json(OPERATION, row.revoked.as_ref())?);
        self.run(statement).await?;
        let rows = objects.iter().zip(0_u64..).map(|(object, position)| {
            [
                row.package.to_arg(),
                row.version.as_str().to_arg(),
                position.to_arg(),
                (&object.digest).to_arg(),
                object.bytes.to_arg(),
            ]
        });
        let columns = [
            ("package", Kind::Id),
            ("version", Kind::Text),
            ("position", Kind::Int),
            ("digest", Kind::Bytes),
            ("bytes", Kind::Int),
        ];
        let tail = "INSERT INTO package_object (package, version, position, digest, bytes)
                    SELECT package, version, position, digest, bytes FROM k";
        self.run_many(many(OPERATION, columns, rows.collect(), tail)).await.map(drop)
    }

    /// Replaces the signatures over a version's manifest.
    pub async fn package_version_sign(
        &mut self,
        package: PackageId,
        version: &str,
        signatures: &[KeySignature],
    ) -> Result<(), StoreError> {
        const OPERATION: &str = "package_version_sign";
        let statement = sql(
            OPERATION,
            "UPDATE package_version SET signatures = $3 WHERE package = $1 AND version = $2",
        );
        let statement = statement.bind(package).bind(version).bind(json(OPERATION, &signatures)?);
        self.run(statement).await.map(drop)
    }

    /// Sets or clears the revocation of a version; answers whether the package has that version.
    pub async fn package_version_revoke(
        &mut self,
        package: PackageId,
        version: &str,
        revoked: Option<&Order>,
    ) -> Result<bool, StoreError> {
        const OPERATION: &str = "package_version_revoke";
        let statement = sql(
            OPERATION,
            "UPDATE package_version SET revoked = $3 WHERE package = $1 AND version = $2",
        );
        let statement = statement.bind(package).bind(version).bind(maybe_json(OPERATION, revoked)?);
        Ok(self.run(statement).await? == 1)
    }
}

pub(super) fn package_version(row: &Row) -> Result<PackageVersionRow, StoreError> {
    Ok(PackageVersionRow {
        package: row.get("package")?,
        version: row.get("version")?,
        manifest: row.get("manifest")?,
        spec: row.get("spec")?,
        signatures: row.json("signatures")?,
        content_bytes: row.get("content_bytes")?,
        published: row.get("published_revision")?,
        published_at: row.get("published_at")?,
        published_by: row.get("published_by")?,
        revoked: row.maybe_json("revoked")?,
    })
}
