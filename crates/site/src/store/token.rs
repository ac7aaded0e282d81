//! Tokens: let a device, an access point, a process or a person in, once or a few times.
//!
//! Only the hash of a token's secret is kept. Using one is a single statement that counts down under
//! the row's lock, so two at once cannot both take the last use.

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{CollectionId, TokenId};

use super::db::{Read, Tx};
use super::error::StoreError;
use super::row::Row;
use super::sql::sql;

/// Tokens in one answer of a list.
pub const TOKEN_LIST_MAX: u32 = 10_000;

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Its id, which is no secret.
    pub id: TokenId,
    /// `agent`, `access-point`, `site`, `admin`, `child-site`.
    pub role: String,
    /// The name that its bearer gets; unresolved member names of it bind to that bearer.
    pub name: Option<String>,
    /// The hash of its secret.
    pub secret: Digest,
    /// How often it may still be used.
    pub uses_left: u64,
    /// Not good from then on.
    pub expires_at: Wall,
    /// Its bearers wait for a person's word.
    pub hold: bool,
    /// Its bearers become members of this collection.
    pub collection: Option<CollectionId>,
    /// When it was made.
    pub created_at: Wall,
    /// By whom.
    pub created_by: String,
    /// When it was revoked.
    pub revoked_at: Option<Wall>,
}

impl Read {
    /// A token, good or not.
    pub async fn token_load(&mut self, id: TokenId) -> Result<Option<TokenRow>, StoreError> {
        let statement = sql("token_load", "SELECT * FROM token WHERE id = $1");
        self.one(statement.bind(id), token).await
    }

    /// The tokens that are good at `now`, the newest first.
    pub async fn token_list(&mut self, now: Wall) -> Result<Vec<TokenRow>, StoreError> {
        let statement = sql(
            "token_list",
            "SELECT * FROM token WHERE uses_left > 0 AND expires_at > $1 AND revoked_at IS NULL
             ORDER BY created_at DESC, id LIMIT $2",
        );
        self.all(statement.bind(now).bind(TOKEN_LIST_MAX), token).await
    }
}

impl Tx {
    /// Writes a new token.
    pub async fn token_insert(&mut self, row: &TokenRow) -> Result<(), StoreError> {
        let statement = sql(
            "token_insert",
            "INSERT INTO token (id, role, name, secret, uses_left, expires_at, hold, collection,
             created_at, created_by, revoked_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        );
        let statement = statement
            .bind(row.id)
            .bind(&row.role)
            .bind(row.name.as_ref())
            .bind(row.secret)
            .bind(row.uses_left)
            .bind(row.expires_at)
            .bind(row.hold)
            .bind(row.collection)
            .bind(row.created_at)
            .bind(&row.created_by)
            .bind(row.revoked_at);
        self.run(statement).await.map(drop)
    }

    /// Uses a token once, if its secret has that hash and it is good at `now`; answers it as it is
    /// afterwards. `None`: nothing was used, and nobody is told which part was wrong.
    pub async fn token_use(
        &mut self,
        id: TokenId,
        secret: Digest,
        now: Wall,
    ) -> Result<Option<TokenRow>, StoreError> {
        let statement = sql(
            "token_use",
            "UPDATE token SET uses_left = uses_left - 1
             WHERE id = $1 AND secret = $2 AND uses_left > 0 AND expires_at > $3
             AND revoked_at IS NULL RETURNING *",
        );
        self.one(statement.bind(id).bind(secret).bind(now), token).await
    }

    /// Revokes a token; answers whether there was one to revoke.
    pub async fn token_revoke(&mut self, id: TokenId, at: Wall) -> Result<bool, StoreError> {
        let statement = sql(
            "token_revoke",
            "UPDATE token SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL",
        );
        Ok(self.run(statement.bind(id).bind(at)).await? == 1)
    }
}

fn token(row: &Row) -> Result<TokenRow, StoreError> {
    Ok(TokenRow {
        id: row.get("id")?,
        role: row.get("role")?,
        name: row.maybe("name")?,
        secret: row.get("secret")?,
        uses_left: row.get("uses_left")?,
        expires_at: row.get("expires_at")?,
        hold: row.get("hold")?,
        collection: row.maybe("collection")?,
        created_at: row.get("created_at")?,
        created_by: row.get("created_by")?,
        revoked_at: row.maybe("revoked_at")?,
    })
}
