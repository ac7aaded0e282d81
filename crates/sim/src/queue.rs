//! What is going to happen, in the order of virtual time. Events of one instant come in the order in
//! which they were asked for, so that one seed is one history.

use std::collections::BTreeMap;

/// Milliseconds since the world began.
pub(crate) type Time = u64;

/// Pending events.
pub(crate) struct Queue<E> {
    now: Time,
    asked: u64,
    pending: BTreeMap<(Time, u64), E>,
}

impl<E> Queue<E> {
    /// An empty queue at the beginning of time.
    pub(crate) fn new() -> Self {
        Self { now: 0, asked: 0, pending: BTreeMap::new() }
    }

    /// Now.
    pub(crate) fn now(&self) -> Time {
        self.now
    }

    /// `event` happens after `delay` milliseconds.
    pub(crate) fn after(&mut self, delay: u64, event: E) {
        self.asked += 1;
        self.pending.insert((self.now.saturating_add(delay), self.asked), event);
    }

    /// Moves time on to the next event.
    pub(crate) fn next(&mut self) -> Option<E> {
        let ((time, _), event) = self.pending.pop_first()?;
        self.now = time;
        Some(event)
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self::new()
    }
}
