//! Who is a member of what, as intervals of site revisions that are never deleted.
//!
//! Members change only under a revision, so what a process has fed its memory from is named by one
//! number. The number of members stands in the collection's row, changed with them.

use std::collections::BTreeSet;

use muster_model::clock::Wall;
use muster_model::id::{CollectionId, DeviceId};
use muster_site_core::occurrence::{Interval, Revision};

use super::arg::{Arg, Kind, ToArg};
use super::db::{Read, Tx};
use super::error::StoreError;
use super::row::Row;
use super::sql::{many, sql};

/// Members in one page.
pub const MEMBER_PAGE_MAX: u32 = 10_000;

const COLUMNS: [(&str, Kind); 4] =
    [("collection", Kind::Id), ("device", Kind::Id), ("revision", Kind::Int), ("at", Kind::Int)];

impl Read {
    /// A page of a collection's members now, by id, after `after`.
    pub async fn membership_list(
        &mut self,
        collection: CollectionId,
        after: Option<DeviceId>,
        limit: u32,
    ) -> Result<Vec<DeviceId>, StoreError> {
        let statement = sql(
            "membership_list",
            "SELECT device FROM membership WHERE collection = $1 AND device > $2
             AND until_revision IS NULL ORDER BY device LIMIT $3",
        );
        let statement = statement
            .bind(collection)
            .bind(after.map_or(uuid::Uuid::nil(), |device| device.0))
            .bind(limit.min(MEMBER_PAGE_MAX));
        self.all(statement, |row| row.get("device")).await
    }

    /// Every pair (device, collection) now, in pages by device and collection: what a process fills
    /// its memory from when it starts.
    pub async fn membership_page(
        &mut self,
        after: Option<(DeviceId, CollectionId)>,
    ) -> Result<Vec<(DeviceId, CollectionId)>, StoreError> {
        let statement = sql(
            "membership_page",
            "SELECT device, collection FROM membership WHERE (device, collection) > ($1, $2)
             AND until_revision IS NULL ORDER BY device, collection LIMIT $3",
        );
        let nil = uuid::Uuid::nil();
        let (device, collection) = after.map_or((nil, nil), |(d, c)| (d.0, c.0));
        let statement = statement.bind(device).bind(collection).bind(MEMBER_PAGE_MAX);
        self.all(statement, |row| Ok((row.get("device")?, row.get("collection")?))).await
    }

    /// The collections of each of `devices` now.
    pub async fn membership_of_many(
        &mut self,
        devices: &[DeviceId],
    ) -> Result<Vec<(DeviceId, CollectionId)>, StoreError> {
        let rows = devices.iter().map(|device| [device.to_arg()]).collect();
        let tail = "SELECT m.device, m.collection FROM k JOIN membership m
                    ON m.device = k.device AND m.until_revision IS NULL";
        let many = many("membership_of_many", [("device", Kind::Id)], rows, tail);
        self.all_many(many, |row| Ok((row.get("device")?, row.get("collection")?))).await
    }

    /// Every interval of one device, the oldest first.
    pub async fn membership_intervals(
        &mut self,
        device: DeviceId,
        collections: &[CollectionId],
    ) -> Result<Vec<Interval>, StoreError> {
        let rows = collections.iter().map(|id| [id.to_arg(), device.to_arg()]).collect();
        let tail = "SELECT m.* FROM k JOIN membership m
                    ON m.collection = k.collection AND m.device = k.device";
        let columns = [("collection", Kind::Id), ("device", Kind::Id)];
        let many = many("membership_intervals", columns, rows, tail);
        let mut intervals = self.all_many(many, interval).await?;
        intervals.sort_by_key(|interval| interval.from);
        Ok(intervals)
    }

    /// The devices that joined or left a collection after `after`, each with whether it is a member
    /// now: what a process that has followed up to `after` must change in its memory.
    pub async fn membership_changed(
        &mut self,
        collection: CollectionId,
        after: Revision,
    ) -> Result<Vec<(DeviceId, bool)>, StoreError> {
        let statement = sql(
            "membership_changed",
            "SELECT device,
             CAST(max(CASE WHEN until_revision IS NULL THEN 1 ELSE 0 END) AS BIGINT) AS member
             FROM membership WHERE collection = $1 AND device IN
             (SELECT device FROM membership WHERE collection = $1 AND from_revision > $2
              UNION
              SELECT device FROM membership WHERE collection = $1 AND until_revision > $2)
             GROUP BY device ORDER BY device",
        );
        let statement = statement.bind(collection).bind(after);
        self.all(statement, |row| {
            let is_member = row.get("member")?;
            Ok((row.get("device")?, is_member))
        })
        .await
    }
}

impl Tx {
    /// Ends the intervals of `leaves` and begins those of `joins`, at this transaction's revision and `at`,
    /// and moves the collection's number of members and membership version. A leave of somebody who
    /// is no member, or a join of somebody who is, changes nothing. Answers how many joined and left.
    pub async fn membership_change(
        &mut self,
        collection: CollectionId,
        joins: &BTreeSet<DeviceId>,
        leaves: &BTreeSet<DeviceId>,
        at: Wall,
    ) -> Result<(u64, u64), StoreError> {
        const OPERATION: &str = "membership_change";
        let revision = self.revision_take().await?;
        let rows = |devices: &BTreeSet<DeviceId>| -> Vec<[Arg<'static>; 4]> {
            let row = |device: &DeviceId| {
                [collection.to_arg(), device.to_arg(), revision.to_arg(), at.to_arg()]
            };
            devices.iter().map(row).collect()
        };
        let leave = "UPDATE membership SET until_revision = k.revision FROM k
                     WHERE membership.collection = k.collection AND membership.device = k.device
                     AND membership.until_revision IS NULL";
        let left = self.run_many(many(OPERATION, COLUMNS, rows(leaves), leave)).await?;
        let join = "INSERT INTO membership (collection, device, from_revision, from_at)
                    SELECT collection, device, revision, at FROM k WHERE true
                    ON CONFLICT DO NOTHING";
        let joined = self.run_many(many(OPERATION, COLUMNS, rows(joins), join)).await?;
        if joined + left > 0 {
            let statement = sql(
                OPERATION,
                "UPDATE collection SET members = members + $2 - $3, membership_version = $4
                 WHERE id = $1",
            );
            let statement = statement.bind(collection).bind(joined).bind(left).bind(revision);
            self.run(statement).await?;
        }
        Ok((joined, left))
    }
}

fn interval(row: &Row) -> Result<Interval, StoreError> {
    Ok(Interval {
        collection: row.get("collection")?,
        device: row.get("device")?,
        from: row.get("from_revision")?,
        until: row.maybe("until_revision")?,
    })
}
