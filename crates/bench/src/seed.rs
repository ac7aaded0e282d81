//! Devices put into the database of a site that does not run.
//!
//! The rows are those that the enrolment route writes; a hundred thousand enrolments one by one
//! would only take longer. Rules have not been held against these devices: the site does that once
//! it is started, as after any change of facts.

use muster_model::clock::Wall;
use muster_model::name::Name;
use muster_model::settings::Settings;
use muster_site::store::DeviceRow;
use muster_site_core::device::{Admission, Device as Registered};
use muster_site_core::ingest::StreamRow;

use crate::device::{Device, Devices, INCARNATION};
use crate::error::BenchError;
use crate::site::Site;

/// Devices in one transaction.
const DEVICES_A_COMMIT: usize = 10_000;

/// Registers `devices`; durable on return. None of them may be registered already.
pub(crate) async fn seed(site: &Site, devices: Devices) -> Result<(), BenchError> {
    let db = site.database().await?;
    let now = site.clock.wall();
    let all: Vec<Device> = devices.iter().collect();
    for piece in all.chunks(DEVICES_A_COMMIT) {
        let mut tx = db.begin().await?;
        let mut streams = Vec::with_capacity(piece.len());
        for device in piece {
            tx.device_insert(&row(*device, now)?).await?;
            streams.push(StreamRow::new(device.id(), INCARNATION));
        }
        tx.stream_insert_many(&streams).await?;
        tx.commit().await?;
    }
    db.close().await;
    Ok(())
}

fn row(device: Device, now: Wall) -> Result<DeviceRow, BenchError> {
    let name = Name::new(device.name()).map_err(|_| BenchError::Empty("a name that is none"))?;
    Ok(DeviceRow {
        device: Registered {
            id: device.id(),
            name,
            admission: Admission::Admitted,
            facts: device.facts(),
        },
        key: device.key().public(),
        settings: Settings::default(),
        own_version: 1,
        incarnation: INCARNATION,
        next_incarnation: muster_model::id::Incarnation(INCARNATION.0 + 1),
        generation: 0,
        certificate_serial: String::new(),
        certificate_until: now,
        machine: None,
        token: None,
        enrolled_at: now,
        retired_at: None,
    })
}
