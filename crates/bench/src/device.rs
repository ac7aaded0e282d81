//! Devices by number: key, id, name and facts follow from it, so that two runs mean the same ones.

use std::str::FromStr;
use std::time::Duration;

use http::HeaderValue;
use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::facts::Facts;
use muster_model::id::{DeviceId, EpochId, Incarnation};
use muster_model::sign::{Domain, PrivateKey};
use muster_model::wire::device::Ticket;
use muster_model::wire::seal::Sealed;
use uuid::Uuid;

use crate::error::BenchError;

/// Ids ascend with the number, as UUIDs of version 7 do with the time of enrolment.
const FIRST_ID: u128 = 0x0190_0000_0000_7000_8000_0000_0000_0000;
/// The devices' incarnation: the first, none has lost its memory.
pub(crate) const INCARNATION: Incarnation = Incarnation(1);
/// How long a ticket is good: longer than any run.
const TICKET_LIFE: Duration = Duration::from_secs(12 * 3_600);

/// A device that the generator stands in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Device(u32);

impl Device {
    /// Its id.
    pub(crate) fn id(self) -> DeviceId {
        DeviceId(Uuid::from_u128(FIRST_ID + u128::from(self.0)))
    }

    /// Its key.
    pub(crate) fn key(self) -> PrivateKey {
        let seed = Digest::of_parts("muster/bench/device", &[&self.0.to_le_bytes()]);
        PrivateKey::from_seed(*seed.as_bytes())
    }

    /// Its name.
    pub(crate) fn name(self) -> String {
        format!("bench-{:07}", self.0)
    }

    /// What it says of itself.
    pub(crate) fn facts(self) -> Facts {
        Facts {
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            name: self.name(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            isolation: "unit".to_owned(),
            root: "/".to_owned(),
            machine: None,
            extra: Default::default(),
        }
    }

    /// Its session ticket, as it stands in the header.
    pub(crate) fn ticket(self, epoch: EpochId, now: Wall) -> Result<HeaderValue, BenchError> {
        let ticket = Ticket {
            device: self.id(),
            incarnation: INCARNATION,
            epoch,
            expires: now.plus(TICKET_LIFE),
        };
        let sealed = Sealed::seal(&self.key(), Domain::Ticket, &ticket)?;
        let text = sealed.to_header();
        HeaderValue::from_str(&text).map_err(|_| BenchError::Header("muster-ticket"))
    }
}

/// A range of devices, never empty: `0..100000` on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Devices {
    from: u32,
    to: u32,
}

impl Devices {
    /// Every one, in order.
    pub(crate) fn iter(self) -> impl Iterator<Item = Device> {
        (self.from..self.to).map(Device)
    }

    /// The one with the least id.
    pub(crate) fn first(self) -> Device {
        Device(self.from)
    }

    /// The one with the greatest id.
    pub(crate) fn last(self) -> Device {
        Device(self.to - 1)
    }
}

impl FromStr for Devices {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text
            .split_once("..")
            .and_then(|(from, to)| Some(Self { from: from.parse().ok()?, to: to.parse().ok()? }));
        let range = numbers.filter(|range| range.from < range.to);
        range.ok_or_else(|| format!("devices are written FROM..TO, such as 0..1000, not {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_a_range_are_in_the_order_of_their_ids() {
        let devices: Devices = "8..12".parse().unwrap();
        let ids: Vec<DeviceId> = devices.iter().map(Device::id).collect();
        assert!(ids.is_sorted() && ids.len() == 4);
        assert_eq!((ids[0], ids[3]), (devices.first().id(), devices.last().id()));
    }

    #[test]
    fn a_range_without_devices_is_refused() {
        for bad in ["5..5", "6..5", "5", "a..b", "1..=4"] {
            assert!(bad.parse::<Devices>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_ticket_opens_with_the_devices_key_alone() {
        let (device, other) = (Device(1), Device(2));
        let epoch = EpochId(Uuid::from_u128(3));
        let text = device.ticket(epoch, Wall(0)).unwrap();
        let sealed = Sealed::from_header(text.to_str().unwrap()).unwrap();
        let ticket: Ticket = sealed.open(&device.key().public(), Domain::Ticket).unwrap();
        assert_eq!((ticket.device, ticket.epoch), (device.id(), epoch));
        assert!(sealed.open::<Ticket>(&other.key().public(), Domain::Ticket).is_err());
    }
}
