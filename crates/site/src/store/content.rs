//! What the site's content store holds, by digest: so that quota, clean-up and `status.objects` need
//! no walk over its files.

use muster_model::clock::Wall;
use muster_model::digest::Digest;

use super::arg::{Kind, ToArg};
use super::db::{Read, Tx};
use super::error::StoreError;
use super::row::Row;
use super::sql::{many, sql};

/// Objects in one answer of [`Read::content_unused_list`].
pub const CONTENT_PAGE_MAX: u32 = 1_000;

/// An object of the content store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRow {
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
    /// When it was stored.
    pub stored_at: Wall,
}

impl Read {
    /// Those of `digests` that are stored.
    pub async fn content_load_many(
        &mut self,
        digests: &[Digest],
    ) -> Result<Vec<ContentRow>, StoreError> {
        let rows = digests.iter().map(|digest| [digest.to_arg()]).collect();
        let tail = "SELECT c.* FROM k JOIN content c ON c.digest = k.digest";
        self.all_many(many("content_load_many", [("digest", Kind::Bytes)], rows, tail), content)
            .await
    }

    /// Bytes stored in all.
    pub async fn content_bytes(&mut self) -> Result<u64, StoreError> {
        let text = "SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) AS bytes FROM content";
        let bytes = self.one(sql("content_bytes", text), |row| row.get("bytes")).await?;
        Ok(bytes.unwrap_or(0))
    }

    /// Objects stored before `before` that no package version needs, at most [`CONTENT_PAGE_MAX`].
    pub async fn content_unused_list(
        &mut self,
        before: Wall,
    ) -> Result<Vec<ContentRow>, StoreError> {
        let statement = sql(
            "content_unused_list",
            "SELECT c.* FROM content c WHERE c.stored_at < $1
             AND NOT EXISTS (SELECT 1 FROM package_object o WHERE o.digest = c.digest)
             AND NOT EXISTS (SELECT 1 FROM package_version v WHERE v.manifest = c.digest)
             ORDER BY c.digest LIMIT $2",
        );
        self.all(statement.bind(before).bind(CONTENT_PAGE_MAX), content).await
    }
}

impl Tx {
    /// Notes objects that are durably stored. One that is known stays as it was.
    pub async fn content_insert_many(&mut self, rows: &[ContentRow]) -> Result<(), StoreError> {
        let columns = [("digest", Kind::Bytes), ("bytes", Kind::Int), ("stored_at", Kind::Int)];
        let values = rows
            .iter()
            .map(|row| [(&row.digest).to_arg(), row.bytes.to_arg(), row.stored_at.to_arg()])
            .collect();
        let tail = "INSERT INTO content (digest, bytes, stored_at)
                    SELECT digest, bytes, stored_at FROM k WHERE true
                    ON CONFLICT (digest) DO NOTHING";
        self.run_many(many("content_insert_many", columns, values, tail)).await.map(drop)
    }

    /// Forgets objects that are no longer stored.
    pub async fn content_delete_many(&mut self, digests: &[Digest]) -> Result<(), StoreError> {
        let rows = digests.iter().map(|digest| [digest.to_arg()]).collect();
        let tail = "DELETE FROM content WHERE digest IN (SELECT digest FROM k)";
        let many = many("content_delete_many", [("digest", Kind::Bytes)], rows, tail);
        self.run_many(many).await.map(drop)
    }
}

fn content(row: &Row) -> Result<ContentRow, StoreError> {
    Ok(ContentRow {
        digest: row.get("digest")?,
        bytes: row.get("bytes")?,
        stored_at: row.get("stored_at")?,
    })
}
