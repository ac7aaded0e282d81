//! Tells when something changed on the device itself that a person waits for: a request was left, or
//! somebody logged on or off (inotify(7)).
//!
//! Only hastens the look that the driver takes every few seconds anyway: where the kernel cannot watch,
//! nothing is lost but promptness.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;
use tokio::sync::mpsc;

/// Larger than any one event: 16 bytes and a name of 255.
const EVENTS_BYTES: usize = 4096;
/// The watcher holds a buffer of events.
const WATCHER_STACK_BYTES: usize = 64 * 1024;

/// Somewhere to watch: a folder, and the one name in it that matters, if not all do.
pub(crate) type Place = (PathBuf, Option<PathBuf>);

/// Watches in a small thread of its own, until the process ends; a letter for each change, or for
/// several.
pub(crate) fn watch(places: Vec<Place>) -> mpsc::Receiver<()> {
    let (changed, changes) = mpsc::channel(1);
    let watcher = std::thread::Builder::new().name("nearby".to_owned());
    let watched = watcher.stack_size(WATCHER_STACK_BYTES).spawn(move || {
        if let Err(error) = tell(&places, &changed) {
            tracing::debug!(%error, "the device is not watched");
        }
    });
    if let Err(error) = watched {
        tracing::debug!(%error, "the device is not watched");
    }
    changes
}

fn tell(places: &[Place], changed: &mpsc::Sender<()>) -> Result<(), Errno> {
    let events = init(CreateFlags::CLOEXEC)?;
    let flags = WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE;
    let watches: Vec<(i32, Option<&Path>)> = places
        .iter()
        .filter_map(|(folder, name)| {
            Some((add_watch(&events, folder, flags).ok()?, name.as_deref()))
        })
        .collect();
    let mut buffer = [MaybeUninit::uninit(); EVENTS_BYTES];
    let mut reader = Reader::new(&events as &OwnedFd, &mut buffer);
    while !changed.is_closed() {
        let event = match reader.next() {
            Ok(event) => event,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error),
        };
        let name = event.file_name().map(|name| Path::new(OsStr::from_bytes(name.to_bytes())));
        let matters = |(watch, wanted): &(i32, Option<&Path>)| {
            *watch == event.wd() && (wanted.is_none() || *wanted == name)
        };
        if watches.iter().any(matters) {
            // One letter is enough.
            let _ = changed.try_send(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    #[test]
    fn what_matters_is_told_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let place = (dir.path().to_owned(), Some(PathBuf::from("sessions")));
        let mut changes = watch(vec![place]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // The watch begins a moment after the thread: write until it is told.
        let mut told = false;
        for n in 0..200 {
            fs::write(dir.path().join("sessions"), format!("{n}")).unwrap();
            let waited =
                async { tokio::time::timeout(Duration::from_millis(50), changes.recv()).await };
            if runtime.block_on(waited).is_ok() {
                told = true;
                break;
            }
        }
        assert!(told);
        while changes.try_recv().is_ok() {}
        fs::write(dir.path().join("other"), "").unwrap();
        fs::remove_file(dir.path().join("sessions")).unwrap();
        assert_eq!(runtime.block_on(changes.recv()), Some(()));
        assert!(changes.try_recv().is_err(), "another file is nobody's business");
    }
}
