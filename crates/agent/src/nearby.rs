//! Tells when something changed on the device itself that a person waits for: a request was left, somebody
//! logged on or off, a component was paused, a fact was written (inotify(7)).
//!
//! Only hastens the look that the driver takes every minute anyway: where the kernel cannot watch,
//! nothing is lost but promptness.

use std::ffi::OsStr;
use std::io;
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
/// several. What changes after the return is told; the first letter is there at once, for what changed
/// before it.
pub(crate) fn watch(places: &[Place]) -> mpsc::Receiver<()> {
    let (changed, changes) = mpsc::channel(1);
    let _ = changed.try_send(());
    let told = watches_of(places).map_err(io::Error::from).and_then(|(events, watches)| {
        let watcher = std::thread::Builder::new().name("nearby".to_owned());
        let watcher = watcher.stack_size(WATCHER_STACK_BYTES);
        watcher.spawn(move || {
            if let Err(error) = tell(&events, &watches, &changed) {
                tracing::debug!(%error, "the device is watched no more");
            }
        })
    });
    if let Err(error) = told {
        tracing::debug!(%error, "the device is not watched");
    }
    changes
}

/// A watched folder, and the name in it that matters.
type Watch = (i32, Option<PathBuf>);

fn watches_of(places: &[Place]) -> Result<(OwnedFd, Vec<Watch>), Errno> {
    let events = init(CreateFlags::CLOEXEC)?;
    let flags = WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE;
    let watch =
        |(folder, name): &Place| Some((add_watch(&events, folder, flags).ok()?, name.clone()));
    let watches = places.iter().filter_map(watch).collect();
    Ok((events, watches))
}

fn tell(events: &OwnedFd, watches: &[Watch], changed: &mpsc::Sender<()>) -> Result<(), Errno> {
    let mut buffer = [MaybeUninit::uninit(); EVENTS_BYTES];
    let mut reader = Reader::new(events, &mut buffer);
    while !changed.is_closed() {
        let event = match reader.next() {
            Ok(event) => event,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error),
        };
        let name = event.file_name().map(|name| Path::new(OsStr::from_bytes(name.to_bytes())));
        let matters = |(watch, wanted): &Watch| {
            *watch == event.wd() && (wanted.is_none() || wanted.as_deref() == name)
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

    #[test]
    fn what_matters_is_told_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let place = (dir.path().to_owned(), Some(PathBuf::from("sessions")));
        let mut changes = watch(&[place]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(changes.try_recv(), Ok(()), "what changed before");
        assert!(changes.try_recv().is_err());
        fs::write(dir.path().join("sessions"), "ada").unwrap();
        assert_eq!(runtime.block_on(changes.recv()), Some(()));
        while changes.try_recv().is_ok() {}
        fs::write(dir.path().join("other"), "").unwrap();
        fs::remove_file(dir.path().join("sessions")).unwrap();
        assert_eq!(runtime.block_on(changes.recv()), Some(()));
        assert!(changes.try_recv().is_err(), "another file is nobody's business");
    }
}
