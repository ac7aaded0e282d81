//! Streams of messages: how far each was taken, and what is missing for good.
//!
//! Whoever takes messages of a device, or decides something about its obligations, first locks the
//! device's streams, all of them and in one order: an older life's messages may come in through a
//! relay while the newer one speaks, and both may move the same obligation.

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{DeviceId, Incarnation, Sequence};
use muster_site_core::ingest::{Gap, StreamRow};

use super::arg::{Arg, Kind, ToArg, maybe_json};
use super::db::{Read, Tx};
use super::error::StoreError;
use super::row::Row;
use super::sql::{many, sql};

/// Streams in one page of a list.
pub const STREAM_PAGE_MAX: u32 = 10_000;

/// Messages that a device no longer holds and the site never had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GapRow {
    /// Whose.
    pub device: DeviceId,
    /// Which life of its memory.
    pub incarnation: Incarnation,
    /// Which messages.
    pub gap: Gap,
    /// When that was learnt, in the site's time.
    pub at: Wall,
}

impl Read {
    /// The streams of one device, by incarnation.
    pub async fn stream_list(&mut self, device: DeviceId) -> Result<Vec<StreamRow>, StoreError> {
        let statement =
            sql("stream_list", "SELECT * FROM stream WHERE device = $1 ORDER BY incarnation");
        self.all(statement.bind(device), stream).await
    }

    /// The streams of many devices, by device and incarnation.
    pub async fn stream_list_many(
        &mut self,
        devices: &[DeviceId],
    ) -> Result<Vec<StreamRow>, StoreError> {
        let rows = devices.iter().map(|device| [device.to_arg()]).collect();
        let tail = "SELECT s.* FROM k JOIN stream s ON s.device = k.device";
        let many = many("stream_list_many", [("device", Kind::Id)], rows, tail);
        let mut streams = self.all_many(many, stream).await?;
        streams.sort_by_key(|row| (row.device, row.incarnation));
        Ok(streams)
    }

    /// All streams with two histories, mended ones too: few of a site's.
    pub async fn stream_list_doubted(&mut self) -> Result<Vec<StreamRow>, StoreError> {
        let text = "SELECT * FROM stream WHERE fork IS NOT NULL ORDER BY device, incarnation";
        self.all(sql("stream_list_doubted", text), stream).await
    }

    /// A page of all streams, by device and incarnation, each with the end of what was forgotten of
    /// it (see [`Tx::message_forget`]).
    pub async fn stream_page(
        &mut self,
        after: Option<(DeviceId, Incarnation)>,
    ) -> Result<Vec<(StreamRow, Sequence)>, StoreError> {
        let statement = sql(
            "stream_page",
            "SELECT * FROM stream WHERE (device, incarnation) > ($1, $2)
             ORDER BY device, incarnation LIMIT $3",
        );
        let (device, incarnation) =
            after.map_or((uuid::Uuid::nil(), Incarnation(0)), |(d, i)| (d.0, i));
        let statement = statement.bind(device).bind(incarnation).bind(STREAM_PAGE_MAX);
        self.all(statement, |row| Ok((stream(row)?, row.get("forgotten")?))).await
    }

    /// What is missing of the streams of many devices for good.
    pub async fn gap_list_many(&mut self, devices: &[DeviceId]) -> Result<Vec<GapRow>, StoreError> {
        let rows = devices.iter().map(|device| [device.to_arg()]).collect();
        let tail = "SELECT g.* FROM k JOIN gap g ON g.device = k.device";
        let many = many("gap_list_many", [("device", Kind::Id)], rows, tail);
        let mut gaps = self.all_many(many, gap).await?;
        gaps.sort_by_key(|row| (row.device, row.incarnation, row.gap.first));
        Ok(gaps)
    }

    /// What is missing of a device's streams for good, the oldest first.
    pub async fn gap_list(&mut self, device: DeviceId) -> Result<Vec<GapRow>, StoreError> {
        let statement =
            sql("gap_list", "SELECT * FROM gap WHERE device = $1 ORDER BY incarnation, first");
        self.all(statement.bind(device), gap).await
    }

    /// Gaps in all, and messages missing in them.
    pub async fn gap_count(&mut self) -> Result<(u64, u64), StoreError> {
        let statement = sql(
            "gap_count",
            "SELECT count(*) AS gaps,
             CAST(coalesce(sum(last - first + 1), 0) AS BIGINT) AS missing FROM gap",
        );
        let count = self.one(statement, |row| Ok((row.get("gaps")?, row.get("missing")?))).await?;
        Ok(count.unwrap_or_default())
    }
}

impl Tx {
    /// Locks every stream of `devices` until this transaction ends, and answers them. Locks are taken
    /// by device and incarnation, so two groups of devices wait for each other but never for ever;
    /// `devices` are sorted here.
    pub async fn stream_lock_many(
        &mut self,
        devices: impl IntoIterator<Item = DeviceId>,
    ) -> Result<Vec<StreamRow>, StoreError> {
        let mut devices: Vec<DeviceId> = devices.into_iter().collect();
        devices.sort();
        devices.dedup();
        let rows = devices.iter().map(|device| [device.to_arg()]).collect();
        let lock = self.dialect().for_update("s");
        let tail = format!(
            "SELECT s.* FROM stream s JOIN k ON k.device = s.device
             ORDER BY s.device, s.incarnation{lock}"
        );
        self.all_many(many("stream_lock_many", [("device", Kind::Id)], rows, tail), stream).await
    }

    /// Writes new streams; one that is there stays as it is. A device's first stream is written when
    /// it is enrolled, so that there is something to lock.
    pub async fn stream_insert_many(&mut self, rows: &[StreamRow]) -> Result<(), StoreError> {
        self.stream_put("stream_insert_many", rows, "NOTHING").await
    }

    /// Writes streams as they are after taking messages; the streams of their devices are locked.
    pub async fn stream_write_many(&mut self, rows: &[StreamRow]) -> Result<(), StoreError> {
        let update = "UPDATE SET through = excluded.through, head = excluded.head,
                      waiting = excluded.waiting, fork = excluded.fork";
        self.stream_put("stream_write_many", rows, update).await
    }

    async fn stream_put(
        &mut self,
        operation: &'static str,
        rows: &[StreamRow],
        on_conflict: &str,
    ) -> Result<(), StoreError> {
        let row = |row: &StreamRow| -> Result<[Arg<'static>; 6], StoreError> {
            Ok([
                row.device.to_arg(),
                row.incarnation.to_arg(),
                row.through.to_arg(),
                row.head.to_arg(),
                row.waiting.to_arg(),
                maybe_json(operation, row.fork.as_ref())?.to_arg(),
            ])
        };
        let rows = rows.iter().map(row).collect::<Result<Vec<_>, _>>()?;
        let columns = [
            ("device", Kind::Id),
            ("incarnation", Kind::Int),
            ("through", Kind::Int),
            ("head", Kind::Bytes),
            ("waiting", Kind::Int),
            ("fork", Kind::Text),
        ];
        let tail = format!(
            "INSERT INTO stream (device, incarnation, through, head, waiting, fork, forgotten)
             SELECT device, incarnation, through, head, waiting, fork, 0 FROM k WHERE true
             ON CONFLICT (device, incarnation) DO {on_conflict}"
        );
        self.run_many(many(operation, columns, rows, tail)).await.map(drop)
    }

    /// Names what is missing for good.
    pub async fn gap_insert_many(&mut self, gaps: &[GapRow]) -> Result<(), StoreError> {
        let rows = gaps
            .iter()
            .map(|row| {
                [
                    row.device.to_arg(),
                    row.incarnation.to_arg(),
                    row.gap.first.to_arg(),
                    row.gap.last.to_arg(),
                    row.at.to_arg(),
                ]
            })
            .collect();
        let columns = [
            ("device", Kind::Id),
            ("incarnation", Kind::Int),
            ("first", Kind::Int),
            ("last", Kind::Int),
            ("at", Kind::Int),
        ];
        let tail = "INSERT INTO gap (device, incarnation, first, last, at)
                    SELECT device, incarnation, first, last, at FROM k";
        self.run_many(many("gap_insert_many", columns, rows, tail)).await.map(drop)
    }
}

fn stream(row: &Row) -> Result<StreamRow, StoreError> {
    let head: Digest = row.get("head")?;
    Ok(StreamRow {
        device: row.get("device")?,
        incarnation: row.get("incarnation")?,
        through: row.get("through")?,
        head,
        waiting: row.get("waiting")?,
        fork: row.maybe_json("fork")?,
    })
}

fn gap(row: &Row) -> Result<GapRow, StoreError> {
    Ok(GapRow {
        device: row.get("device")?,
        incarnation: row.get("incarnation")?,
        gap: Gap { first: row.get("first")?, last: row.get("last")? },
        at: row.get("at")?,
    })
}
