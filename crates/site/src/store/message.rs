//! Status messages of devices, each once, under `(device, incarnation, sequence)`.
//!
//! The exact bytes are kept, so the chain that the device signed can be checked again at any time.
//! Messages are written by [`Tx::ingest_write`](super::ingest), which holds the lock of their stream.

use std::collections::BTreeMap;

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{AdvertisementId, DeviceId, Incarnation, Sequence};
use muster_model::message::{Body, Severity};
use muster_site_core::ingest::Accepted;
use muster_site_core::obligation::Place;

use super::arg::{Arg, Kind, ToArg};
use super::db::{Read, Tx};
use super::error::StoreError;
use super::row::Row;
use super::sql::{many, sql, sql_of};

/// Messages in one page of a list.
pub const MESSAGE_PAGE_MAX: u32 = 1_000;

/// A message as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    /// Who spoke.
    pub device: DeviceId,
    /// The place in the device's streams.
    pub place: Place,
    /// When the site took it, in the site's time.
    pub received: Wall,
    /// The device's wall clock.
    pub wall: Wall,
    /// The device's trusted time.
    pub trusted: Wall,
    /// The number.
    pub code: u16,
    /// How much it matters.
    pub severity: Severity,
    /// The component that spoke.
    pub component: String,
    /// The advertisement that it is about.
    pub advertisement: Option<AdvertisementId>,
    /// It spoke of an obligation that had ended.
    pub late: bool,
    /// The chain after it.
    pub chain: Digest,
    /// Its exact bytes, which are JSON.
    pub body: String,
}

/// Which messages. Every part that is given must hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageFilter {
    /// Of this device.
    pub device: Option<DeviceId>,
    /// About this advertisement.
    pub advertisement: Option<AdvertisementId>,
    /// At least this severe.
    pub severity: Option<Severity>,
}

/// Where a page of messages ended: what the next one goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageCursor {
    /// When the last one was taken.
    pub received: Wall,
    /// Whose it was.
    pub device: DeviceId,
    /// Its place.
    pub place: Place,
}

/// In which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageOrder {
    /// The newest first: a look back.
    NewestFirst,
    /// The oldest first: following. Commits of several processes may become visible out of order
    /// within their last seconds, so a follower starts some seconds back and leaves out what it has.
    OldestFirst,
}

impl MessageRow {
    /// Where a page that ends with this message ends.
    pub fn cursor(&self) -> MessageCursor {
        MessageCursor { received: self.received, device: self.device, place: self.place }
    }
}

impl Read {
    /// A page of messages by the time they were taken.
    pub async fn message_list(
        &mut self,
        filter: &MessageFilter,
        order: MessageOrder,
        after: Option<MessageCursor>,
        limit: u32,
    ) -> Result<Vec<MessageRow>, StoreError> {
        let (compare, direction) = match order {
            MessageOrder::NewestFirst => ("<", "DESC"),
            MessageOrder::OldestFirst => (">", "ASC"),
        };
        let after = after.unwrap_or(MessageCursor {
            received: Wall(if order == MessageOrder::NewestFirst { i64::MAX } else { i64::MIN }),
            device: DeviceId(uuid::Uuid::nil()),
            place: Place { incarnation: Incarnation(0), sequence: Sequence(0) },
        });
        let mut conditions =
            vec![format!("(received, device, incarnation, sequence) {compare} ($1, $2, $3, $4)")];
        let mut condition = |column: &str| {
            conditions.push(format!("{column} = ${}", conditions.len() + 5));
        };
        filter.device.iter().for_each(|_| condition("device"));
        filter.advertisement.iter().for_each(|_| condition("advertisement"));
        // The words of severity are few: they stand in the text, so that the plan knows them.
        match filter.severity {
            None | Some(Severity::Info) => {}
            Some(Severity::Warning) => conditions.push("severity <> 'info'".to_owned()),
            Some(Severity::Error) => conditions.push("severity = 'error'".to_owned()),
        }
        let text = format!(
            "SELECT * FROM message WHERE {} ORDER BY received {direction}, device {direction},
             incarnation {direction}, sequence {direction} LIMIT $5",
            conditions.join(" AND ")
        );
        let mut statement = sql_of("message_list", text)
            .bind(after.received)
            .bind(after.device)
            .bind(after.place.incarnation)
            .bind(after.place.sequence)
            .bind(limit.min(MESSAGE_PAGE_MAX));
        if let Some(device) = filter.device {
            statement = statement.bind(device);
        }
        if let Some(advertisement) = filter.advertisement {
            statement = statement.bind(advertisement);
        }
        self.all(statement, message).await
    }

    /// The newest message of a device with that number. Looks back through the device's messages until
    /// it finds one: for one device at a time.
    pub async fn message_newest(
        &mut self,
        device: DeviceId,
        code: u16,
    ) -> Result<Option<MessageRow>, StoreError> {
        let statement = sql(
            "message_newest",
            "SELECT * FROM message WHERE device = $1 AND code = $2
             ORDER BY incarnation DESC, sequence DESC LIMIT 1",
        );
        self.one(statement.bind(device).bind(code), message).await
    }

    /// The newest message of one stream, at or before `until`, that tells the facts of its machine.
    pub async fn message_facts(
        &mut self,
        device: DeviceId,
        incarnation: Incarnation,
        until: Sequence,
    ) -> Result<Option<MessageRow>, StoreError> {
        let statement = sql(
            "message_facts",
            "SELECT * FROM message WHERE device = $1 AND incarnation = $2 AND sequence <= $3
             AND code IN ($4, $5) ORDER BY sequence DESC LIMIT 1",
        );
        let statement = statement.bind(device).bind(incarnation).bind(until);
        let codes = (Body::STARTED, Body::FACTS_CHANGED);
        self.one(statement.bind(codes.0).bind(codes.1), message).await
    }

    /// The messages of one stream in order, after `after`: what a check of the ledger replays.
    pub async fn message_replay(
        &mut self,
        device: DeviceId,
        incarnation: Incarnation,
        after: Sequence,
        limit: u32,
    ) -> Result<Vec<MessageRow>, StoreError> {
        let statement = sql(
            "message_replay",
            "SELECT * FROM message WHERE device = $1 AND incarnation = $2 AND sequence > $3
             ORDER BY sequence LIMIT $4",
        );
        let statement =
            statement.bind(device).bind(incarnation).bind(after).bind(limit.min(MESSAGE_PAGE_MAX));
        self.all(statement, message).await
    }

    /// The messages at `places` that the site still has.
    pub async fn message_load_many(
        &mut self,
        places: &[(DeviceId, Place)],
    ) -> Result<Vec<MessageRow>, StoreError> {
        let rows = places
            .iter()
            .map(|(device, at)| [device.to_arg(), at.incarnation.to_arg(), at.sequence.to_arg()])
            .collect();
        let tail = "SELECT message.* FROM k JOIN message ON message.device = k.device
             AND message.incarnation = k.incarnation AND message.sequence = k.sequence";
        let columns = [("device", Kind::Id), ("incarnation", Kind::Int), ("sequence", Kind::Int)];
        self.all_many(many("message_load_many", columns, rows, tail), message).await
    }

    /// The streams that hold messages taken before `before`, each with the last such message, at
    /// most `most`: what [`Tx::message_forget`] is then called with, stream by stream.
    pub async fn message_old_list(
        &mut self,
        before: Wall,
        most: u32,
    ) -> Result<Vec<(DeviceId, Place)>, StoreError> {
        let statement = sql(
            "message_old_list",
            "SELECT device, incarnation, max(sequence) AS sequence FROM
             (SELECT device, incarnation, sequence FROM message WHERE received < $1
              ORDER BY received LIMIT $2) old
             GROUP BY device, incarnation ORDER BY device, incarnation",
        );
        self.all(statement.bind(before).bind(most), |row| {
            let place =
                Place { incarnation: row.get("incarnation")?, sequence: row.get("sequence")? };
            Ok((row.get("device")?, place))
        })
        .await
    }

    /// The chain stored at each of `places` that the site has, whether the message was taken or set
    /// aside.
    pub async fn message_chain_many(
        &mut self,
        places: &[(DeviceId, Place)],
    ) -> Result<Vec<(DeviceId, Place, Digest)>, StoreError> {
        let rows = places
            .iter()
            .map(|(device, at)| [device.to_arg(), at.incarnation.to_arg(), at.sequence.to_arg()])
            .collect();
        let tail = "SELECT t.device, t.incarnation, t.sequence, t.chain FROM k JOIN
             (SELECT device, incarnation, sequence, chain FROM message
              UNION ALL
              SELECT device, incarnation, sequence, chain FROM set_aside WHERE device IS NOT NULL) t
             ON t.device = k.device AND t.incarnation = k.incarnation
             AND t.sequence = k.sequence";
        let columns = [("device", Kind::Id), ("incarnation", Kind::Int), ("sequence", Kind::Int)];
        let read = |row: &Row| {
            let place =
                Place { incarnation: row.get("incarnation")?, sequence: row.get("sequence")? };
            Ok((row.get("device")?, place, row.get("chain")?))
        };
        self.all_many(many("message_chain_many", columns, rows, tail), read).await
    }
}

impl Read {
    /// When the first message of a stream was taken that is still here, in the site's time.
    pub async fn message_first_received(
        &mut self,
        device: DeviceId,
        incarnation: Incarnation,
    ) -> Result<Option<Wall>, StoreError> {
        let text = "SELECT received FROM message WHERE device = $1 AND incarnation = $2
             ORDER BY sequence LIMIT 1";
        let statement = sql("message_first_received", text).bind(device).bind(incarnation);
        self.one(statement, |row| row.get("received")).await
    }

    /// When the newest message of a stream was taken, in the site's time.
    pub async fn message_last_received(
        &mut self,
        device: DeviceId,
        incarnation: Incarnation,
    ) -> Result<Option<Wall>, StoreError> {
        let text = "SELECT received FROM message WHERE device = $1 AND incarnation = $2
             ORDER BY sequence DESC LIMIT 1";
        let statement = sql("message_last_received", text).bind(device).bind(incarnation);
        self.one(statement, |row| row.get("received")).await
    }

    /// The chains stored with a stream's messages `first` to `last`, taken or set aside.
    pub async fn message_chain_range(
        &mut self,
        device: DeviceId,
        incarnation: Incarnation,
        (first, last): (Sequence, Sequence),
    ) -> Result<BTreeMap<Sequence, Digest>, StoreError> {
        // A batch that forked its stream stands at a place of it, and is none of its messages.
        let text = "SELECT sequence, chain FROM message
             WHERE device = $1 AND incarnation = $2 AND sequence >= $3 AND sequence <= $4
             UNION ALL
             SELECT sequence, chain FROM set_aside
             WHERE device = $1 AND incarnation = $2 AND sequence >= $3 AND sequence <= $4
             AND reason <> 'forked'";
        let statement = sql("message_chain_range", text).bind(device).bind(incarnation);
        let statement = statement.bind(first).bind(last);
        let read = |row: &Row| Ok((row.get("sequence")?, row.get("chain")?));
        Ok(self.all(statement, read).await?.into_iter().collect())
    }
}

/// A message to be written, with the stream that it belongs to.
pub type NewMessage<'a> = (DeviceId, Incarnation, &'a Accepted);

impl Tx {
    /// Writes messages whose streams are locked and that are not there yet.
    pub async fn message_insert_many(
        &mut self,
        received: Wall,
        messages: &[NewMessage<'_>],
    ) -> Result<(), StoreError> {
        const OPERATION: &str = "message_insert_many";
        let row = |(device, incarnation, accepted): &NewMessage<'_>| {
            // Taken messages are JSON, so their bytes are text.
            let body = std::str::from_utf8(&accepted.bytes).map_err(|why| StoreError::Damaged {
                operation: OPERATION,
                column: "body".to_owned(),
                detail: why.to_string(),
            })?;
            Ok([
                device.to_arg(),
                incarnation.to_arg(),
                accepted.sequence.to_arg(),
                received.to_arg(),
                accepted.message.wall.to_arg(),
                accepted.message.trusted.to_arg(),
                accepted.status.code.to_arg(),
                accepted.late.to_arg(),
                accepted.status.severity.word().to_arg(),
                accepted.status.component.to_arg(),
                accepted.message.body.advertisement().to_arg(),
                accepted.chain.to_arg(),
                body.to_owned().to_arg(),
            ])
        };
        let rows = messages.iter().map(row).collect::<Result<Vec<[Arg<'_>; 13]>, StoreError>>()?;
        let columns = [
            ("device", Kind::Id),
            ("incarnation", Kind::Int),
            ("sequence", Kind::Int),
            ("received", Kind::Int),
            ("wall", Kind::Int),
            ("trusted", Kind::Int),
            ("code", Kind::Int),
            ("late", Kind::Int),
            ("severity", Kind::Text),
            ("component", Kind::Text),
            ("advertisement", Kind::Id),
            ("chain", Kind::Bytes),
            ("body", Kind::Text),
        ];
        self.add_many(OPERATION, "message", columns, rows).await
    }

    /// Marks what a device reported after `from`, in lives below `below`, as late: it was put back to a
    /// snapshot, and that counts no more. Its streams are locked.
    pub async fn message_undo(
        &mut self,
        device: DeviceId,
        from: Place,
        below: Incarnation,
    ) -> Result<u64, StoreError> {
        let text = "UPDATE message SET late = 1 WHERE device = $1 AND incarnation < $4
             AND (incarnation > $2 OR (incarnation = $2 AND sequence > $3))
             AND advertisement IS NOT NULL";
        let statement = sql("message_undo", text).bind(device).bind(from.incarnation);
        self.run(statement.bind(from.sequence).bind(below)).await
    }

    /// Forgets messages of one stream up to `through`, and notes in the stream how far it is
    /// forgotten, so that a check of the ledger knows where to begin. The stream is locked. Answers
    /// how many.
    pub async fn message_forget(
        &mut self,
        device: DeviceId,
        incarnation: Incarnation,
        through: Sequence,
    ) -> Result<u64, StoreError> {
        const OPERATION: &str = "message_forget";
        let statement = sql(
            OPERATION,
            "DELETE FROM message WHERE device = $1 AND incarnation = $2 AND sequence <= $3",
        );
        let gone = self.run(statement.bind(device).bind(incarnation).bind(through)).await?;
        let statement = sql(
            OPERATION,
            "UPDATE stream SET forgotten = $3
             WHERE device = $1 AND incarnation = $2 AND forgotten < $3",
        );
        self.run(statement.bind(device).bind(incarnation).bind(through)).await?;
        Ok(gone)
    }
}

fn message(row: &Row) -> Result<MessageRow, StoreError> {
    Ok(MessageRow {
        device: row.get("device")?,
        place: Place { incarnation: row.get("incarnation")?, sequence: row.get("sequence")? },
        received: row.get("received")?,
        wall: row.get("wall")?,
        trusted: row.get("trusted")?,
        code: row.get("code")?,
        severity: row.get("severity")?,
        component: row.get("component")?,
        advertisement: row.maybe("advertisement")?,
        late: row.get("late")?,
        chain: row.get("chain")?,
        body: row.get("body")?,
    })
}
