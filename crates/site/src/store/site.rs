//! The site itself: who it is, its settings, and whether everything is halted.

use muster_model::clock::Wall;
use muster_model::id::EpochId;
use muster_model::policy::Order;
use muster_model::settings::Settings;

use super::arg::{json, maybe_json};
use super::db::{Read, Tx};
use super::error::StoreError;
use super::row::Row;
use super::sql::sql;

/// The one row of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRow {
    /// Its three characters.
    pub code: String,
    /// Drawn anew at `init` and at each restore.
    pub epoch: EpochId,
    /// The name that stands in certificates and tokens.
    pub url: String,
    /// When `init` was run.
    pub created_at: Wall,
    /// Settings that differ from their defaults.
    pub settings: Settings,
    /// Moves when a setting changes.
    pub settings_version: u64,
    /// The newest trust document; 0 while there is none.
    pub trust_number: u64,
    /// Everything is halted.
    pub halted: Option<Order>,
    /// Moves when everything is halted or resumed.
    pub halt_version: u64,
}

impl Read {
    /// The site's row; `None` in a database that `init` has not filled.
    pub async fn site_load(&mut self) -> Result<Option<SiteRow>, StoreError> {
        self.one(sql("site_load", "SELECT * FROM site"), site).await
    }
}

impl Tx {
    /// Writes the row of a new site. [`StoreError::Taken`]: there is one.
    pub async fn site_insert(&mut self, row: &SiteRow) -> Result<(), StoreError> {
        let text = "INSERT INTO site (one, code, epoch, url, created_at, settings,
                    settings_version, trust_number, halted, halt_version)
                    VALUES (1, $1, $2, $3, $4, $5, $6, $7, $8, $9)";
        self.site_write("site_insert", text, row).await
    }

    /// Replaces the row. Load it after [`Tx::revision_take`], so that no other change comes between.
    pub async fn site_update(&mut self, row: &SiteRow) -> Result<(), StoreError> {
        let text = "UPDATE site SET code = $1, epoch = $2, url = $3, created_at = $4,
                    settings = $5, settings_version = $6, trust_number = $7, halted = $8,
                    halt_version = $9";
        self.site_write("site_update", text, row).await
    }

    async fn site_write(
        &mut self,
        operation: &'static str,
        text: &'static str,
        row: &SiteRow,
    ) -> Result<(), StoreError> {
        let statement = sql(operation, text)
            .bind(&row.code)
            .bind(row.epoch)
            .bind(&row.url)
            .bind(row.created_at)
            .bind(json(operation, &row.settings)?)
            .bind(row.settings_version)
            .bind(row.trust_number)
            .bind(maybe_json(operation, row.halted.as_ref())?)
            .bind(row.halt_version);
        self.run(statement).await.map(drop)
    }
}

fn site(row: &Row) -> Result<SiteRow, StoreError> {
    Ok(SiteRow {
        code: row.get("code")?,
        epoch: row.get("epoch")?,
        url: row.get("url")?,
        created_at: row.get("created_at")?,
        settings: row.json("settings")?,
        settings_version: row.get("settings_version")?,
        trust_number: row.get("trust_number")?,
        halted: row.maybe_json("halted")?,
        halt_version: row.get("halt_version")?,
    })
}
