//! Devices whose polls are held open, and what wakes them.
//!
//! A waiter is one device's newest poll with the tag that it knows. [`Waiters::wake_changed`] is
//! called when the site's index has moved; it wakes those whose tag is another now. Holds no
//! connection and decides no policy. What is lost with it (a restart) costs a poll and nothing else.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_model::digest::Digest;
use muster_model::id::DeviceId;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Polls held open by one site process. At about 250 bytes each and 20 KiB for its connection this
/// is 2 GiB; a larger fleet has access points or more site processes.
pub(crate) const WAITERS_MAX: usize = 100_000;

/// How often a held poll looks for itself whether there is news, and counts as word from the device:
/// how old `last_contact` of a connected device may be, and how long a lost wake-up may go unnoticed.
const LOOK_AGAIN: Duration = Duration::from_secs(5 * 60);

/// All waiters of a process.
#[derive(Default)]
pub(crate) struct Waiters {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_device: HashMap<DeviceId, Waiting>,
    numbers: u64,
}

struct Waiting {
    number: u64,
    known: Option<Digest>,
    wake: oneshot::Sender<()>,
}

/// A held poll. Dropping it takes it out.
pub(crate) struct Waiter<'a> {
    waiters: &'a Waiters,
    device: DeviceId,
    number: u64,
    woken: oneshot::Receiver<()>,
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a poll of `device`, which knows `known`. An older poll of the same device is woken: its
    /// connection is one that the device has given up. `None`: [`WAITERS_MAX`] are held already.
    pub(crate) fn hold(&self, device: DeviceId, known: Option<Digest>) -> Option<Waiter<'_>> {
        let (wake, woken) = oneshot::channel();
        let mut inner = self.lock();
        if inner.by_device.len() >= WAITERS_MAX && !inner.by_device.contains_key(&device) {
            return None;
        }
        inner.numbers += 1;
        let number = inner.numbers;
        // Dropping the older one's sender is what wakes it.
        inner.by_device.insert(device, Waiting { number, known, wake });
        Some(Waiter { waiters: self, device, number, woken })
    }

    /// Wakes the waiters for whose device `tag` is not what they know.
    pub(crate) fn wake_changed(&self, tag: impl Fn(DeviceId) -> Option<Digest>) {
        let mut inner = self.lock();
        let changed = inner.by_device.extract_if(|device, waiting| tag(*device) != waiting.known);
        let changed: Vec<Waiting> = changed.map(|(_, waiting)| waiting).collect();
        drop(inner);
        for waiting in changed {
            // One that has gone meanwhile needs no waking.
            let _ = waiting.wake.send(());
        }
    }

    /// Wakes everyone: the process is about to end.
    pub(crate) fn wake_all(&self) {
        self.lock().by_device.clear();
    }

    /// How many polls are held.
    pub(crate) fn len(&self) -> usize {
        self.lock().by_device.len()
    }
}

impl Waiter<'_> {
    /// Returns when the poll should look again.
    async fn woken(&mut self) {
        let _ = (&mut self.woken).await;
    }

    /// Holds the poll for `wait` at most, and answers what `look` finds: when somebody wakes it, at the
    /// end, and each [`LOOK_AGAIN`] in between. `None`: there was nothing new.
    pub(crate) async fn held<T, E, Looking>(
        &mut self,
        wait: Duration,
        mut look: impl FnMut() -> Looking,
    ) -> Result<Option<T>, E>
    where
        Looking: Future<Output = Result<Option<T>, E>>,
    {
        let until = Instant::now() + wait;
        loop {
            let lap = until.min(Instant::now() + LOOK_AGAIN);
            let is_woken = tokio::time::timeout_at(lap, self.woken()).await.is_ok();
            let found = look().await?;
            if found.is_some() || is_woken || Instant::now() >= until {
                return Ok(found);
            }
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut inner = self.waiters.lock();
        if inner.by_device.get(&self.device).is_some_and(|held| held.number == self.number) {
            inner.by_device.remove(&self.device);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(n: u128) -> DeviceId {
        DeviceId(uuid::Uuid::from_u128(n))
    }

    #[tokio::test]
    async fn only_those_whose_tag_moved_are_woken() {
        let waiters = Waiters::default();
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        let mut concerned = waiters.hold(device(1), Some(old)).unwrap();
        let _other = waiters.hold(device(2), Some(old)).unwrap();
        waiters.wake_changed(|id| Some(if id == device(1) { new } else { old }));
        concerned.woken().await;
        assert_eq!(waiters.len(), 1);
    }

    #[tokio::test]
    async fn a_second_poll_of_a_device_ends_the_first_and_outlives_its_drop() {
        let waiters = Waiters::default();
        let mut first = waiters.hold(device(1), None).unwrap();
        let _second = waiters.hold(device(1), None).unwrap();
        first.woken().await;
        drop(first);
        assert_eq!(waiters.len(), 1);
    }

    /// Holds a poll for an hour; answers how long it took, and how often it looked. `news` is there from
    /// that look on.
    async fn hold(waiters: &Waiters, news: u32) -> (Duration, u32, Option<u32>) {
        let mut waiter = waiters.hold(device(1), None).unwrap();
        let (began, mut looks) = (Instant::now(), 0);
        let found = waiter.held(Duration::from_secs(3_600), || {
            looks += 1;
            std::future::ready(Ok::<_, ()>((looks >= news).then_some(looks)))
        });
        let found = found.await.unwrap();
        (began.elapsed(), looks, found)
    }

    #[tokio::test(start_paused = true)]
    async fn a_held_poll_finds_news_of_which_nobody_told_it() {
        let waiters = Waiters::default();
        assert_eq!(hold(&waiters, 3).await, (3 * LOOK_AGAIN, 3, Some(3)));
        assert_eq!(hold(&waiters, 99).await, (Duration::from_secs(3_600), 12, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_that_is_woken_for_nothing_comes_back_at_once() {
        let waiters = Waiters::default();
        let woken = async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            waiters.wake_all();
        };
        let (held, ()) = tokio::join!(hold(&waiters, 99), woken);
        assert_eq!(held, (Duration::from_secs(7), 1, None));
    }
}
