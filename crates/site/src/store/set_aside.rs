//! Messages and batches kept apart, each with its bytes, reason and sender, until a person looks.
//!
//! One bad item never blocks the next: its place in the stream is consumed, its bytes wait here. An
//! item that is dropped keeps its row without the bytes, so that no place of a stream is without an
//! account.

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::DeviceId;
use muster_site_core::obligation::Place;

use super::arg::{Arg, Kind, ToArg};
use super::db::{Read, Tx};
use super::error::StoreError;
use super::row::Row;
use super::sql::{many, sql};

/// Items in one page of a list.
pub const SET_ASIDE_PAGE_MAX: u32 = 1_000;

/// An item to be set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSetAside {
    /// One word: `unreadable`, `stray`, `forked`, ...
    pub reason: String,
    /// The reason in full.
    pub detail: String,
    /// Who sent it: a device's or access point's id, or an address.
    pub sender: String,
    /// The device in whose stream it stands, and where; `None` for what belongs to no stream.
    pub place: Option<(DeviceId, Place)>,
    /// The chain after it.
    pub chain: Option<Digest>,
    /// What came.
    pub bytes: Vec<u8>,
}

/// An item that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAsideRow {
    /// Its number, for people.
    pub number: u64,
    /// Reason, sender, place and bytes; the bytes are empty once it is dropped.
    pub item: NewSetAside,
    /// When it first came, in the site's time.
    pub at: Wall,
    /// How often it came: a sender that has no receipt sends again.
    pub seen: u64,
    /// What was done with it: `taken` or `dropped`; `None`: it waits.
    pub resolution: Option<String>,
    /// When.
    pub resolved_at: Option<Wall>,
}

impl NewSetAside {
    /// What makes it one item however often it comes.
    fn digest(&self) -> Digest {
        let place = self
            .place
            .map(|(device, place)| format!("{device}/{}/{}", place.incarnation, place.sequence));
        let place = place.unwrap_or_else(|| self.sender.clone());
        Digest::of_parts(
            "muster/set-aside/v1",
            &[self.reason.as_bytes(), place.as_bytes(), &self.bytes],
        )
    }
}

impl Read {
    /// A page of the items that wait, by number, after `after`.
    pub async fn set_aside_list(
        &mut self,
        after: u64,
        limit: u32,
    ) -> Result<Vec<SetAsideRow>, StoreError> {
        let statement = sql(
            "set_aside_list",
            "SELECT * FROM set_aside WHERE resolution IS NULL AND number > $1
             ORDER BY number LIMIT $2",
        );
        self.all(statement.bind(after).bind(limit.min(SET_ASIDE_PAGE_MAX)), set_aside).await
    }

    /// An item, whatever became of it.
    pub async fn set_aside_load(&mut self, number: u64) -> Result<Option<SetAsideRow>, StoreError> {
        let statement = sql("set_aside_load", "SELECT * FROM set_aside WHERE number = $1");
        self.one(statement.bind(number), set_aside).await
    }

    /// Every place of a device's streams that an item stands for.
    pub async fn set_aside_places(
        &mut self,
        device: DeviceId,
    ) -> Result<Vec<SetAsideRow>, StoreError> {
        let statement = sql(
            "set_aside_places",
            "SELECT * FROM set_aside WHERE device = $1 ORDER BY incarnation, sequence",
        );
        self.all(statement.bind(device), set_aside).await
    }

    /// Items that wait.
    pub async fn set_aside_count(&mut self) -> Result<u64, StoreError> {
        let text = "SELECT count(*) AS count FROM set_aside WHERE resolution IS NULL";
        let count = self.one(sql("set_aside_count", text), |row| row.get("count")).await?;
        Ok(count.unwrap_or(0))
    }
}

impl Tx {
    /// Keeps items apart; one that came before is counted again, once more for each time.
    pub async fn set_aside_insert_many(
        &mut self,
        at: Wall,
        items: &[NewSetAside],
    ) -> Result<(), StoreError> {
        let mut rows: Vec<(Digest, [Arg<'_>; 10])> =
            items.iter().map(|item| (item.digest(), args(item, at))).collect();
        // One statement may not meet one row twice.
        rows.sort_by_key(|(digest, _)| *digest);
        rows.dedup_by_key(|(digest, _)| *digest);
        let columns = [
            ("digest", Kind::Bytes),
            ("reason", Kind::Text),
            ("detail", Kind::Text),
            ("sender", Kind::Text),
            ("device", Kind::Id),
            ("incarnation", Kind::Int),
            ("sequence", Kind::Int),
            ("chain", Kind::Bytes),
            ("bytes", Kind::Bytes),
            ("at", Kind::Int),
        ];
        let tail = "INSERT INTO set_aside (digest, reason, detail, sender, device, incarnation,
                    sequence, chain, bytes, at, seen)
                    SELECT digest, reason, detail, sender, device, incarnation, sequence, chain,
                    bytes, at, 1 FROM k WHERE true
                    ON CONFLICT (digest) DO UPDATE SET seen = set_aside.seen + 1";
        let rows = rows.into_iter().map(|(_, args)| args).collect();
        self.run_many(many("set_aside_insert_many", columns, rows, tail)).await.map(drop)
    }

    /// Settles an item that waits: `taken` after its message was taken, or `dropped`, which forgets
    /// the bytes. Answers whether it waited.
    pub async fn set_aside_resolve(
        &mut self,
        number: u64,
        resolution: &str,
        at: Wall,
    ) -> Result<bool, StoreError> {
        let statement = sql(
            "set_aside_resolve",
            "UPDATE set_aside SET resolution = $2, resolved_at = $3, bytes = NULL
             WHERE number = $1 AND resolution IS NULL",
        );
        Ok(self.run(statement.bind(number).bind(resolution).bind(at)).await? == 1)
    }
}

fn args(item: &NewSetAside, at: Wall) -> [Arg<'_>; 10] {
    let place = item.place.map(|(_, place)| place);
    [
        item.digest().to_arg(),
        item.reason.as_str().to_arg(),
        item.detail.as_str().to_arg(),
        item.sender.as_str().to_arg(),
        item.place.map(|(device, _)| device).to_arg(),
        place.map(|place| place.incarnation).to_arg(),
        place.map(|place| place.sequence).to_arg(),
        item.chain.to_arg(),
        (&item.bytes).to_arg(),
        at.to_arg(),
    ]
}

fn set_aside(row: &Row) -> Result<SetAsideRow, StoreError> {
    let device: Option<DeviceId> = row.maybe("device")?;
    let place = match device {
        Some(device) => {
            let place =
                Place { incarnation: row.get("incarnation")?, sequence: row.get("sequence")? };
            Some((device, place))
        }
        None => None,
    };
    let bytes: Option<Vec<u8>> = row.maybe("bytes")?;
    let item = NewSetAside {
        reason: row.get("reason")?,
        detail: row.get("detail")?,
        sender: row.get("sender")?,
        place,
        chain: row.maybe("chain")?,
        bytes: bytes.unwrap_or_default(),
    };
    Ok(SetAsideRow {
        number: row.get("number")?,
        item,
        at: row.get("at")?,
        seen: row.get("seen")?,
        resolution: row.maybe("resolution")?,
        resolved_at: row.maybe("resolved_at")?,
    })
}
