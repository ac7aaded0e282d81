//! Trust documents: who may publish, numbered without a hole, each kept as it was signed.

use muster_model::clock::Wall;
use muster_model::digest::Digest;

use super::db::{Read, Tx};
use super::error::StoreError;
use super::row::Row;
use super::sql::sql;

/// A trust document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustRow {
    /// Its number, from 1.
    pub number: u64,
    /// The digest of the document.
    pub digest: Digest,
    /// The sealed document, as JSON.
    pub document: String,
    /// When the site took it.
    pub at: Wall,
    /// From whom.
    pub principal: String,
}

impl Read {
    /// The document of that number.
    pub async fn trust_load(&mut self, number: u64) -> Result<Option<TrustRow>, StoreError> {
        let statement = sql("trust_load", "SELECT * FROM trust_document WHERE number = $1");
        self.one(statement.bind(number), trust).await
    }

    /// The newest document; `None` while there is no publisher.
    pub async fn trust_newest(&mut self) -> Result<Option<TrustRow>, StoreError> {
        let text = "SELECT * FROM trust_document ORDER BY number DESC LIMIT 1";
        self.one(sql("trust_newest", text), trust).await
    }
}

impl Tx {
    /// Keeps the next document. [`StoreError::Taken`]: that number is another's.
    pub async fn trust_insert(&mut self, row: &TrustRow) -> Result<(), StoreError> {
        let statement = sql(
            "trust_insert",
            "INSERT INTO trust_document (number, digest, document, at, principal)
             VALUES ($1, $2, $3, $4, $5)",
        );
        let statement = statement
            .bind(row.number)
            .bind(row.digest)
            .bind(&row.document)
            .bind(row.at)
            .bind(&row.principal);
        self.run(statement).await.map(drop)
    }
}

fn trust(row: &Row) -> Result<TrustRow, StoreError> {
    Ok(TrustRow {
        number: row.get("number")?,
        digest: row.get("digest")?,
        document: row.get("document")?,
        at: row.get("at")?,
        principal: row.get("principal")?,
    })
}
