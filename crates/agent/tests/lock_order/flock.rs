//! flock(2) as the code uses it: exclusive, owned by whoever holds the open file, handed on without a
//! gap, let go when its owner ends.

use shuttle::sync::{Arc, Condvar, Mutex};

/// One file's lock.
#[derive(Clone, Default)]
pub(crate) struct Flock(Arc<(Mutex<bool>, Condvar)>);

/// The lock, held.
pub(crate) struct Held(Flock);

impl Flock {
    /// `RunFolder::lock`, `FolderLock::take`: does not wait.
    pub(crate) fn try_lock(&self) -> Option<Held> {
        let mut held = self.0.0.lock().unwrap();
        (!std::mem::replace(&mut *held, true)).then(|| Held(self.clone()))
    }

    /// `RunFolder::wait`: blocks. `None` if the process of `life` was killed meanwhile.
    pub(crate) fn wait(&self, life: &Life) -> Option<Held> {
        let mut held = self.0.0.lock().unwrap();
        while *held {
            if life.is_over() {
                return None;
            }
            held = self.0.1.wait(held).unwrap();
        }
        *held = true;
        Some(Held(self.clone()))
    }

    /// Lets those who wait look whether they still live.
    pub(crate) fn wake(&self) {
        let _held = self.0.0.lock().unwrap();
        self.0.1.notify_all();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.0.0.0.lock().unwrap() = false;
        self.0.0.1.notify_all();
    }
}

/// The life of one process; its threads end with it.
#[derive(Clone, Default)]
pub(crate) struct Life(Arc<Mutex<bool>>);

impl Life {
    /// kill -9.
    pub(crate) fn end(&self) {
        *self.0.lock().unwrap() = true;
    }

    pub(crate) fn is_over(&self) -> bool {
        *self.0.lock().unwrap()
    }
}
