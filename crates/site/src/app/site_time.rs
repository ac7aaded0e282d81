//! The site's signed time, sent with every answer to a device (law 12).
//!
//! Sealed once a second, whatever the traffic: a signature costs more than the answer that it
//! stands on.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use muster_model::clock::Wall;
use muster_model::id::EpochId;
use muster_model::sign::{Domain, PrivateKey};
use muster_model::wire::device::SiteTime;
use muster_model::wire::seal::Sealed;

/// How long one sealed time is sent. Devices measure hours and years with it.
const SEALED_FOR: Duration = Duration::from_secs(1);

/// Seals the time, and remembers the newest.
pub(crate) struct TimeSeal {
    key: PrivateKey,
    epoch: EpochId,
    newest: Mutex<Option<(Wall, HeaderValue)>>,
}

impl TimeSeal {
    pub(crate) fn new(key: PrivateKey, epoch: EpochId) -> Self {
        Self { key, epoch, newest: Mutex::new(None) }
    }

    /// The sealed time for a header, at most [`SEALED_FOR`] old. `None` cannot happen with a time
    /// that serialises, which every one does.
    pub(crate) fn at(&self, now: Wall) -> Option<HeaderValue> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((sealed, header)) = &*newest
            && now >= *sealed
            && now.since(*sealed) < SEALED_FOR
        {
            return Some(header.clone());
        }
        let document = SiteTime { time: now, epoch: self.epoch };
        let sealed = Sealed::seal(&self.key, Domain::SiteTime, &document).ok()?;
        let header = HeaderValue::from_maybe_shared(Bytes::from(sealed.to_header())).ok()?;
        *newest = Some((now, header.clone()));
        Some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seal_serves_one_second() {
        let key = PrivateKey::from_seed([4; 32]);
        let seal = TimeSeal::new(key.clone(), EpochId(uuid::Uuid::nil()));
        let first = seal.at(Wall(10_000)).unwrap();
        assert_eq!(seal.at(Wall(10_999)).unwrap(), first);
        for later in [Wall(11_000), Wall(9_000)] {
            let header = seal.at(later).unwrap();
            let sealed = Sealed::from_header(header.to_str().unwrap()).unwrap();
            let time: SiteTime = sealed.open(&key.public(), Domain::SiteTime).unwrap();
            assert_eq!(time.time, later);
        }
    }
}
