//! Tells when the network came up or changed: a new address or a new route, as the kernel announces
//! them (rtnetlink(7)). A laptop that is opened must not wait for a back-off to end.
//!
//! Listens to the kernel only. Where that is not permitted nothing is told, and back-off does the rest.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use tokio::sync::mpsc;

/// Groups of rtnetlink(7): addresses of IPv4, routes of IPv4 and IPv6. New IPv6 addresses come with
/// their routes.
const GROUPS: u32 = 0x10 | 0x40 | 0x400;
/// Announcements of something new, by their number in the header: RTM_NEWADDR, RTM_NEWROUTE.
const NEWS: [u16; 2] = [20, 24];
/// Larger than any single announcement.
const ANNOUNCEMENT_BYTES_MAX: usize = 8 * 1024;
/// A network that comes up announces many things one after the other; they are one change.
const SETTLES_IN: Duration = Duration::from_secs(1);
/// The watcher holds one announcement.
const WATCHER_STACK_BYTES: usize = 64 * 1024;

/// Watches in a small thread of its own, until the process ends; a letter for each change, at
/// most one a second.
pub(crate) fn watch() -> mpsc::Receiver<()> {
    let (changed, changes) = mpsc::channel(1);
    let watched = announcements().and_then(|socket| {
        let watcher = std::thread::Builder::new().name("link".to_owned());
        watcher.stack_size(WATCHER_STACK_BYTES).spawn(move || tell(&socket, &changed))
    });
    if let Err(error) = watched {
        tracing::debug!(%error, "the network is not watched");
    }
    changes
}

fn announcements() -> io::Result<OwnedFd> {
    // No protocol number is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    Ok(socket)
}

fn tell(socket: &OwnedFd, changed: &mpsc::Sender<()>) {
    let told = || -> Result<(), Errno> {
        while !changed.is_closed() {
            if next(socket)? {
                settle(socket)?;
                // One letter is enough.
                let _ = changed.try_send(());
            }
        }
        Ok(())
    };
    if let Err(error) = told() {
        tracing::debug!(%error, "the network is no longer watched");
    }
}

/// Whether the next announcement is of something new.
fn next(socket: &OwnedFd) -> Result<bool, Errno> {
    let mut buffer = [0; ANNOUNCEMENT_BYTES_MAX];
    match recv(socket, &mut buffer, RecvFlags::empty()) {
        Ok((_, bytes)) => Ok(is_news(&buffer[..bytes.min(ANNOUNCEMENT_BYTES_MAX)])),
        Err(Errno::INTR) => Ok(false),
        // Too many at once for the socket's queue: something changed.
        Err(Errno::NOBUFS) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Takes what else is announced in the next moments.
fn settle(socket: &OwnedFd) -> Result<(), Errno> {
    let end = Instant::now() + SETTLES_IN;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Ok(()),
            Ok(_) => {
                next(socket)?;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The header of netlink(7): length (u32), type (u16), in the machine's byte order.
fn is_news(announcement: &[u8]) -> bool {
    let kind = announcement.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
    kind.is_some_and(|kind| NEWS.contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u16) -> Vec<u8> {
        [&16_u32.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10]].concat()
    }

    #[test]
    fn new_addresses_and_routes_are_news_and_their_end_is_not() {
        for (kind, news) in [(20, true), (24, true), (21, false), (25, false), (3, false)] {
            assert_eq!(is_news(&header(kind)), news, "{kind}");
        }
        assert!(!is_news(&[1, 2, 3]));
    }

    #[tokio::test]
    async fn a_new_address_is_told() {
        let mut changes = watch();
        let address = ["address", "add", "127.9.9.9/32", "dev", "lo"];
        let added = std::process::Command::new("ip").args(address).output();
        if changes.is_closed() || !added.is_ok_and(|added| added.status.success()) {
            println!("skipped: addresses cannot be changed here");
            return;
        }
        let told = tokio::time::timeout(Duration::from_secs(30), changes.recv()).await;
        let remove = ["address", "delete", "127.9.9.9/32", "dev", "lo"];
        let _ = std::process::Command::new("ip").args(remove).status();
        assert_eq!(told, Ok(Some(())));
    }
}
