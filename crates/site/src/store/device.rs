//! Devices: identity, admission, what they say of themselves.
//!
//! A device's row changes rarely. What changes with every poll stands in `contact`, what changes
//! with every batch in `stream`.

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::facts::Facts;
use muster_model::id::{DeviceId, Incarnation, TokenId};
use muster_model::name::Name;
use muster_model::settings::Settings;
use muster_model::sign::PublicKey;
use muster_site_core::device::{Admission, Device};

use super::arg::{Arg, Kind, ToArg, json};
use super::db::{Read, Tx};
use super::error::StoreError;
use super::row::Row;
use super::sql::{many, sql, sql_of};

/// Devices in one page of a list.
pub const DEVICE_PAGE_MAX: u32 = 10_000;

/// A device.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceRow {
    /// Id, name, admission, facts: what decisions see of it.
    pub device: Device,
    /// The key that it speaks with.
    pub key: PublicKey,
    /// Its own settings, over the site's.
    pub settings: Settings,
    /// Moves when something of its own changes that its policy tells it.
    pub own_version: u64,
    /// The newest incarnation that was heard.
    pub incarnation: Incarnation,
    /// The highest incarnation that was handed out.
    pub next_incarnation: Incarnation,
    /// Counts renewals.
    pub generation: u64,
    /// The serial of its newest certificate, in hex.
    pub certificate_serial: String,
    /// When that certificate ends.
    pub certificate_until: Wall,
    /// What binds the identity to the machine.
    pub machine: Option<Digest>,
    /// The token that let it in.
    pub token: Option<TokenId>,
    /// When.
    pub enrolled_at: Wall,
    /// When it was retired.
    pub retired_at: Option<Wall>,
}

impl Read {
    /// A device, retired or not.
    pub async fn device_load(&mut self, id: DeviceId) -> Result<Option<DeviceRow>, StoreError> {
        let statement = sql("device_load", "SELECT * FROM device WHERE id = $1");
        self.one(statement.bind(id), device).await
    }

    /// Those of `ids` that exist.
    pub async fn device_load_many(
        &mut self,
        ids: &[DeviceId],
    ) -> Result<Vec<DeviceRow>, StoreError> {
        let rows = ids.iter().map(|id| [id.to_arg()]).collect();
        let tail = "SELECT d.* FROM k JOIN device d ON d.id = k.id";
        self.all_many(many("device_load_many", [("id", Kind::Id)], rows, tail), device).await
    }

    /// The device that speaks with `key`: what makes enrolment idempotent.
    pub async fn device_find_key(
        &mut self,
        key: &PublicKey,
    ) -> Result<Option<DeviceRow>, StoreError> {
        let statement = sql("device_find_key", "SELECT * FROM device WHERE key = $1");
        self.one(statement.bind(key.0.as_slice()), device).await
    }

    /// The devices of that name, retired ones last. Names need not be unique.
    pub async fn device_find_name(&mut self, name: &Name) -> Result<Vec<DeviceRow>, StoreError> {
        let statement = sql(
            "device_find_name",
            "SELECT * FROM device WHERE name = $1
             ORDER BY CASE WHEN retired_at IS NULL THEN 0 ELSE 1 END, id",
        );
        self.all(statement.bind(name), device).await
    }

    /// The devices, not retired, that run on a machine with that digest.
    pub async fn device_find_machine(
        &mut self,
        machine: Digest,
    ) -> Result<Vec<DeviceRow>, StoreError> {
        let statement = sql(
            "device_find_machine",
            "SELECT * FROM device WHERE machine = $1 AND retired_at IS NULL ORDER BY id",
        );
        self.all(statement.bind(machine), device).await
    }

    /// A page of all devices by id, after `after`.
    pub async fn device_list(
        &mut self,
        after: Option<DeviceId>,
        limit: u32,
    ) -> Result<Vec<DeviceRow>, StoreError> {
        let statement =
            sql("device_list", "SELECT * FROM device WHERE id > $1 ORDER BY id LIMIT $2");
        let after = after.map_or(uuid::Uuid::nil(), |id| id.0);
        self.all(statement.bind(after).bind(limit.min(DEVICE_PAGE_MAX)), device).await
    }

    /// Devices by admission.
    pub async fn device_counts(&mut self) -> Result<Vec<(String, u64)>, StoreError> {
        let text = "SELECT admission, count(*) AS count FROM device GROUP BY admission
                    ORDER BY admission";
        let statement = sql("device_counts", text);
        self.all(statement, |row| Ok((row.get("admission")?, row.get("count")?))).await
    }

    /// Devices whose facts changed since rules were last held against them, with the number of the
    /// facts that were read. What is in this list survives a crash.
    pub async fn device_list_unevaluated(
        &mut self,
        limit: u32,
    ) -> Result<Vec<(DeviceRow, u64)>, StoreError> {
        let statement = sql(
            "device_list_unevaluated",
            "SELECT * FROM device WHERE facts_version <> evaluated_version ORDER BY id LIMIT $1",
        );
        let read = |row: &Row| Ok((device(row)?, row.get("facts_version")?));
        self.all(statement.bind(limit.min(DEVICE_PAGE_MAX)), read).await
    }
}

impl Tx {
    /// Writes a new device. [`StoreError::Taken`]: a device speaks with that key already.
    pub async fn device_insert(&mut self, row: &DeviceRow) -> Result<(), StoreError> {
        let text = "INSERT INTO device (id, name, key, admission, held, facts, settings,
                    own_version, incarnation, next_incarnation, generation, certificate_serial,
                    certificate_until, machine, token, enrolled_at, retired_at, facts_version,
                    evaluated_version)
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
                    $16, $17, 1, 0)";
        self.device_write("device_insert", text, row).await
    }

    /// A device, locked until this transaction ends.
    pub async fn device_lock(&mut self, id: DeviceId) -> Result<Option<DeviceRow>, StoreError> {
        let lock = self.dialect().for_update("device");
        let text = format!("SELECT * FROM device WHERE id = $1{lock}");
        self.one(sql_of("device_lock", text).bind(id), device).await
    }

    /// Replaces a device's row, and puts it on the list of the unevaluated. The row was read by
    /// [`Tx::device_lock`] in this transaction, so nothing came between.
    pub async fn device_update(&mut self, row: &DeviceRow) -> Result<(), StoreError> {
        let text = "UPDATE device SET name = $2, key = $3, admission = $4, held = $5, facts = $6,
                    settings = $7, own_version = $8, incarnation = $9, next_incarnation = $10,
                    generation = $11, certificate_serial = $12, certificate_until = $13,
                    machine = $14, token = $15, enrolled_at = $16, retired_at = $17,
                    facts_version = facts_version + 1 WHERE id = $1";
        self.device_write("device_update", text, row).await
    }

    async fn device_write(
        &mut self,
        operation: &'static str,
        text: &'static str,
        row: &DeviceRow,
    ) -> Result<(), StoreError> {
        let held = match &row.device.admission {
            Admission::Held { order } => Some(json(operation, order)?),
            _ => None,
        };
        let statement = sql(operation, text)
            .bind(row.device.id)
            .bind(&row.device.name)
            .bind(row.key.0.as_slice())
            .bind(row.device.admission.word())
            .bind(held)
            .bind(json(operation, &row.device.facts)?)
            .bind(json(operation, &row.settings)?)
            .bind(row.own_version)
            .bind(row.incarnation)
            .bind(row.next_incarnation)
            .bind(row.generation)
            .bind(&row.certificate_serial)
            .bind(row.certificate_until)
            .bind(row.machine)
            .bind(row.token)
            .bind(row.enrolled_at)
            .bind(row.retired_at);
        self.run(statement).await.map(drop)
    }

    /// Replaces the facts of devices, and puts those devices on the list of the unevaluated.
    pub async fn device_facts_set_many(
        &mut self,
        facts: &[(DeviceId, &Facts)],
    ) -> Result<(), StoreError> {
        const OPERATION: &str = "device_facts_set_many";
        let row = |(id, facts): &(DeviceId, &Facts)| -> Result<[Arg<'static>; 2], StoreError> {
            Ok([id.to_arg(), json(OPERATION, *facts)?.to_arg()])
        };
        let rows = facts.iter().map(row).collect::<Result<Vec<_>, _>>()?;
        let tail = "UPDATE device SET facts = k.facts, facts_version = facts_version + 1
                    FROM k WHERE device.id = k.id AND device.facts <> k.facts";
        let columns = [("id", Kind::Id), ("facts", Kind::Text)];
        self.run_many(many(OPERATION, columns, rows, tail)).await.map(drop)
    }

    /// Takes devices off the list of the unevaluated, unless their facts changed again since the
    /// number that was read.
    pub async fn device_evaluated_many(
        &mut self,
        evaluated: &[(DeviceId, u64)],
    ) -> Result<(), StoreError> {
        let rows = evaluated.iter().map(|(id, version)| [id.to_arg(), version.to_arg()]).collect();
        let tail = "UPDATE device SET evaluated_version = k.version FROM k
                    WHERE device.id = k.id";
        let columns = [("id", Kind::Id), ("version", Kind::Int)];
        self.run_many(many("device_evaluated_many", columns, rows, tail)).await.map(drop)
    }

    /// Notes that newer incarnations were heard; an older one changes nothing.
    pub async fn device_incarnation_heard_many(
        &mut self,
        heard: &[(DeviceId, Incarnation)],
    ) -> Result<(), StoreError> {
        let rows = heard.iter().map(|(id, number)| [id.to_arg(), number.to_arg()]).collect();
        let tail = "UPDATE device SET incarnation = k.incarnation FROM k
                    WHERE device.id = k.id AND device.incarnation < k.incarnation";
        let columns = [("id", Kind::Id), ("incarnation", Kind::Int)];
        self.run_many(many("device_incarnation_heard_many", columns, rows, tail)).await.map(drop)
    }
}

fn device(row: &Row) -> Result<DeviceRow, StoreError> {
    let word: String = row.get("admission")?;
    let admission = match word.as_str() {
        "pending" => Admission::Pending,
        "admitted" => Admission::Admitted,
        "held" => Admission::Held { order: row.json("held")? },
        "retired" => Admission::Retired,
        other => return Err(row.damaged("admission", format!("{other:?}"))),
    };
    let device =
        Device { id: row.get("id")?, name: row.get("name")?, admission, facts: row.json("facts")? };
    Ok(DeviceRow {
        device,
        key: row.get("key")?,
        settings: row.json("settings")?,
        own_version: row.get("own_version")?,
        incarnation: row.get("incarnation")?,
        next_incarnation: row.get("next_incarnation")?,
        generation: row.get("generation")?,
        certificate_serial: row.get("certificate_serial")?,
        certificate_until: row.get("certificate_until")?,
        machine: row.maybe("machine")?,
        token: row.maybe("token")?,
        enrolled_at: row.get("enrolled_at")?,
        retired_at: row.maybe("retired_at")?,
    })
}
