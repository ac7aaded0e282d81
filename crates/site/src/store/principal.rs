//! Principals: people, pipelines, access points and site processes, and how they prove themselves.
//!
//! A person or pipeline shows a secret, of which only the hash is kept; an access point or process
//! speaks with a key. Devices are not here: their identity is a row of `device`.

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::PrincipalId;
use muster_model::name::Name;
use muster_model::sign::PublicKey;

use super::db::{Read, Tx};
use super::error::StoreError;
use super::row::Row;
use super::sql::sql;

/// Principals in one answer of a list.
pub const PRINCIPAL_LIST_MAX: u32 = 10_000;

/// A principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalRow {
    /// Its id, for ever.
    pub id: PrincipalId,
    /// The word of its role.
    pub role: String,
    /// What it is called in messages.
    pub name: Name,
    /// The hash of the secret that it shows.
    pub secret: Option<Digest>,
    /// The key that it speaks with.
    pub key: Option<PublicKey>,
    /// Where devices reach it, if it is an access point.
    pub url: Option<String>,
    /// When it was made.
    pub created_at: Wall,
    /// By whom.
    pub created_by: String,
    /// Not good from then on.
    pub expires_at: Option<Wall>,
    /// When it was revoked.
    pub revoked_at: Option<Wall>,
}

impl Read {
    /// A principal, good or not.
    pub async fn principal_load(
        &mut self,
        id: PrincipalId,
    ) -> Result<Option<PrincipalRow>, StoreError> {
        let statement = sql("principal_load", "SELECT * FROM principal WHERE id = $1");
        self.one(statement.bind(id), principal).await
    }

    /// The principal whose secret has that hash, if it is good at `now`.
    pub async fn principal_find_secret(
        &mut self,
        secret: Digest,
        now: Wall,
    ) -> Result<Option<PrincipalRow>, StoreError> {
        let statement = sql(
            "principal_find_secret",
            "SELECT * FROM principal WHERE secret = $1 AND revoked_at IS NULL
             AND (expires_at IS NULL OR expires_at > $2)",
        );
        self.one(statement.bind(secret).bind(now), principal).await
    }

    /// The principal that speaks with `key`, good or not.
    pub async fn principal_find_key(
        &mut self,
        key: &PublicKey,
    ) -> Result<Option<PrincipalRow>, StoreError> {
        let statement = sql("principal_find_key", "SELECT * FROM principal WHERE key = $1");
        self.one(statement.bind(key.0.as_slice()), principal).await
    }

    /// The principals that show a secret and are good at `now`, by name.
    pub async fn principal_list_secret(
        &mut self,
        now: Wall,
    ) -> Result<Vec<PrincipalRow>, StoreError> {
        let statement = sql(
            "principal_list_secret",
            "SELECT * FROM principal WHERE secret IS NOT NULL AND revoked_at IS NULL
             AND (expires_at IS NULL OR expires_at > $1) ORDER BY name, id LIMIT $2",
        );
        self.all(statement.bind(now).bind(PRINCIPAL_LIST_MAX), principal).await
    }

    /// The principals of a role that are not revoked, by name.
    pub async fn principal_list(&mut self, role: &str) -> Result<Vec<PrincipalRow>, StoreError> {
        let statement = sql(
            "principal_list",
            "SELECT * FROM principal WHERE role = $1 AND revoked_at IS NULL
             ORDER BY name, id LIMIT $2",
        );
        self.all(statement.bind(role).bind(PRINCIPAL_LIST_MAX), principal).await
    }
}

impl Tx {
    /// Writes a new principal. [`StoreError::Taken`]: its secret or key is another's.
    pub async fn principal_insert(&mut self, row: &PrincipalRow) -> Result<(), StoreError> {
        let text = "INSERT INTO principal (id, role, name, secret, key, url, created_at,
                    created_by, expires_at, revoked_at)
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        self.principal_write("principal_insert", text, row).await
    }

    /// Replaces a principal.
    pub async fn principal_update(&mut self, row: &PrincipalRow) -> Result<(), StoreError> {
        let text = "UPDATE principal SET role = $2, name = $3, secret = $4, key = $5, url = $6,
                    created_at = $7, created_by = $8, expires_at = $9, revoked_at = $10
                    WHERE id = $1";
        self.principal_write("principal_update", text, row).await
    }

    async fn principal_write(
        &mut self,
        operation: &'static str,
        text: &'static str,
        row: &PrincipalRow,
    ) -> Result<(), StoreError> {
        let statement = sql(operation, text)
            .bind(row.id)
            .bind(&row.role)
            .bind(&row.name)
            .bind(row.secret)
            .bind(row.key.as_ref().map(|key| key.0.as_slice()))
            .bind(row.url.as_ref())
            .bind(row.created_at)
            .bind(&row.created_by)
            .bind(row.expires_at)
            .bind(row.revoked_at);
        self.run(statement).await.map(drop)
    }
}

fn principal(row: &Row) -> Result<PrincipalRow, StoreError> {
    Ok(PrincipalRow {
        id: row.get("id")?,
        role: row.get("role")?,
        name: row.get("name")?,
        secret: row.maybe("secret")?,
        key: row.maybe("key")?,
        url: row.maybe("url")?,
        created_at: row.get("created_at")?,
        created_by: row.get("created_by")?,
        expires_at: row.maybe("expires_at")?,
        revoked_at: row.maybe("revoked_at")?,
    })
}
