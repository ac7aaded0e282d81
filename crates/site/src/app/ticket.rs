//! Session tickets: what lets a device poll and fetch without a signature each time (law 11).
//!
//! A ticket is sealed by the device's own key. It is verified once and then known by its exact bytes
//! until it expires; a device that was retired or is unknown is refused whatever its ticket says.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{DeviceId, EpochId, Incarnation};
use muster_model::sign::{Domain, PublicKey};
use muster_model::wire::device::Ticket;
use muster_model::wire::seal::Sealed;

/// How far ahead a ticket may expire: the longest `ticketLife`, and an hour for clocks that differ.
const TICKET_AHEAD_MAX: Duration = Duration::from_secs(25 * 3_600);
/// Verified tickets that are remembered, about 100 bytes each. Beyond it one is verified each time.
const TICKETS_MAX: usize = 1_000_000;
/// Remembered tickets below which nobody looks for expired ones.
const TICKETS_SWEEP_LEAST: usize = 1_024;
/// Characters of a ticket in its header; a whole one has about 550.
const TICKET_CHARS_MAX: usize = 2_048;

/// Why a ticket is refused. The device seals a new one, with the site's time and epoch, which came
/// with the refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TicketRefused {
    /// There is none.
    #[error("the request carries no ticket")]
    Missing,
    /// Not a ticket at all.
    #[error("the ticket cannot be read")]
    Unreadable,
    /// For another epoch of the site.
    #[error("the ticket is for another epoch of the site")]
    OtherEpoch,
    /// Its time is over, or it claims to be good for longer than any ticket is.
    #[error("the ticket is not good at the site's time")]
    OtherTime,
    /// Not signed by the device.
    #[error("the ticket is not signed by the device")]
    Signature,
    /// No such device.
    #[error("the site does not know the device of the ticket")]
    UnknownDevice,
}

/// The tickets that were verified.
#[derive(Default)]
pub(crate) struct Tickets {
    known: Mutex<Known>,
}

struct Known {
    by_digest: HashMap<Digest, (DeviceId, Wall)>,
    /// The number at which expired ones are looked for next.
    sweep_at: usize,
}

impl Default for Known {
    fn default() -> Self {
        Self { by_digest: HashMap::new(), sweep_at: TICKETS_SWEEP_LEAST }
    }
}

impl Tickets {
    /// The device that the ticket `text` speaks for. `key` answers a device's public key.
    pub(crate) fn check(
        &self,
        text: Option<&str>,
        epoch: EpochId,
        now: Wall,
        key: impl Fn(DeviceId) -> Option<PublicKey>,
    ) -> Result<DeviceId, TicketRefused> {
        let text = text.ok_or(TicketRefused::Missing)?;
        if text.len() > TICKET_CHARS_MAX {
            return Err(TicketRefused::Unreadable);
        }
        let digest = Digest::of(text.as_bytes());
        if let Some((device, expires)) = self.find(&digest) {
            return if now < expires { Ok(device) } else { Err(TicketRefused::OtherTime) };
        }
        let sealed = Sealed::from_header(text).map_err(|_| TicketRefused::Unreadable)?;
        let claimed: Ticket = sealed.peek().map_err(|_| TicketRefused::Unreadable)?;
        if claimed.epoch != epoch {
            return Err(TicketRefused::OtherEpoch);
        }
        if now >= claimed.expires || claimed.expires > now.plus(TICKET_AHEAD_MAX) {
            return Err(TicketRefused::OtherTime);
        }
        let key = key(claimed.device).ok_or(TicketRefused::UnknownDevice)?;
        let ticket: Ticket =
            sealed.open(&key, Domain::Ticket).map_err(|_| TicketRefused::Signature)?;
        self.remember(digest, ticket.device, ticket.expires, now);
        Ok(ticket.device)
    }

    fn find(&self, digest: &Digest) -> Option<(DeviceId, Wall)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.by_digest.get(digest).copied()
    }

    fn remember(&self, digest: Digest, device: DeviceId, expires: Wall, now: Wall) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.by_digest.len() >= known.sweep_at {
            known.by_digest.retain(|_, (_, expires)| now < *expires);
            known.sweep_at = (known.by_digest.len() * 2).max(TICKETS_SWEEP_LEAST);
        }
        if known.by_digest.len() < TICKETS_MAX {
            known.by_digest.insert(digest, (device, expires));
        }
    }
}

/// The life of the device's memory that the ticket `text` speaks for; the ticket was checked before.
pub(crate) fn incarnation_of(text: &str) -> Option<Incarnation> {
    let claimed: Ticket = Sealed::from_header(text).ok()?.peek().ok()?;
    Some(claimed.incarnation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_model::sign::PrivateKey;
    use std::cell::Cell;

    const NOW: Wall = Wall(1_000_000_000);

    fn epoch() -> EpochId {
        EpochId(uuid::Uuid::from_u128(1))
    }

    fn key() -> PrivateKey {
        PrivateKey::from_seed([9; 32])
    }

    fn ticket(change: impl FnOnce(&mut Ticket)) -> String {
        let mut ticket = Ticket {
            device: DeviceId(uuid::Uuid::from_u128(2)),
            incarnation: Incarnation(1),
            epoch: epoch(),
            expires: NOW.plus(Duration::from_secs(3_600)),
        };
        change(&mut ticket);
        Sealed::seal(&key(), Domain::Ticket, &ticket).unwrap().to_header()
    }

    #[track_caller]
    fn check(text: Option<&str>, now: Wall, expected: Result<(), TicketRefused>) {
        let found = Tickets::default().check(text, epoch(), now, |_| Some(key().public()));
        assert_eq!(found.map(|_| ()), expected);
    }

    #[test]
    fn a_ticket_is_good_for_its_site_epoch_time_and_key() {
        use TicketRefused::{Missing, OtherEpoch, OtherTime, Unreadable};
        check(Some(&ticket(|_| ())), NOW, Ok(()));
        check(None, NOW, Err(Missing));
        check(Some("AAAA"), NOW, Err(Unreadable));
        check(Some(&ticket(|_| ())), NOW.plus(Duration::from_secs(3_600)), Err(OtherTime));
        let ahead = ticket(|t| t.expires = NOW.plus(TICKET_AHEAD_MAX).plus(SECOND));
        check(Some(&ahead), NOW, Err(OtherTime));
        let foreign = ticket(|t| t.epoch = EpochId(uuid::Uuid::nil()));
        check(Some(&foreign), NOW, Err(OtherEpoch));
        let other = PrivateKey::from_seed([8; 32]).public();
        let found = Tickets::default().check(Some(&ticket(|_| ())), epoch(), NOW, |_| Some(other));
        assert_eq!(found, Err(TicketRefused::Signature));
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_ticket_is_verified_once_and_forgotten_at_its_end() {
        let (tickets, text, asked) = (Tickets::default(), ticket(|_| ()), Cell::new(0));
        let ask = |now| {
            tickets.check(Some(&text), epoch(), now, |_| {
                asked.set(asked.get() + 1);
                Some(key().public())
            })
        };
        ask(NOW).unwrap();
        ask(NOW.plus(SECOND)).unwrap();
        assert_eq!(asked.get(), 1);
        assert_eq!(ask(NOW.plus(Duration::from_secs(3_601))), Err(TicketRefused::OtherTime));
    }
}
