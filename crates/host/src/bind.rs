//! Addresses to listen on: chosen once at `init`, bound at each start.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::{TcpListener, lookup_host};

/// Ports below this are for the privileged and the well known.
const PORT_MIN: u16 = 10_000;
/// How many ports are tried. So many taken ones in a row are no accident.
const PORTS_TRIED_MAX: u32 = 2_000;
const EPHEMERAL_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// What Linux uses where it does not say.
const EPHEMERAL_DEFAULT: RangeInclusive<u16> = 32_768..=60_999;

/// An address could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address does not lead to this machine, is taken, or is not allowed.
    #[error("failed to listen on {listen}")]
    Bind {
        /// The address as it was given.
        listen: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The name stands for no address.
    #[error("failed to listen on {listen}: the name has no address")]
    NoAddress {
        /// The address as it was given.
        listen: String,
    },
    /// No free port was found.
    #[error("failed to choose a port at {address}: {PORTS_TRIED_MAX} of them are taken")]
    NoPort {
        /// The address.
        address: IpAddr,
    },
}

/// Listens on `listen`: `host:port` or an address with a port. Sockets of a process that just ended
/// do not stand in the way.
pub async fn bind(listen: &str) -> Result<TcpListener, BindError> {
    let failed = |source| BindError::Bind { listen: listen.to_owned(), source };
    let mut addresses = lookup_host(listen).await.map_err(failed)?.peekable();
    if addresses.peek().is_none() {
        return Err(BindError::NoAddress { listen: listen.to_owned() });
    }
    TcpListener::bind(&addresses.collect::<Vec<_>>()[..]).await.map_err(failed)
}

/// A port at `address` that is free now and outside the kernel's ephemeral range, so that no
/// outgoing connection takes it while its owner is down. Not reserved: bind it soon, and keep it.
pub fn choose_port(address: IpAddr) -> Result<u16, BindError> {
    let ephemeral = fs::read_to_string(EPHEMERAL_RANGE).ok().and_then(|text| range_in(&text));
    let ephemeral = ephemeral.unwrap_or(EPHEMERAL_DEFAULT);
    let fixed: Vec<u16> = (PORT_MIN..=u16::MAX).filter(|port| !ephemeral.contains(port)).collect();
    // Everything may be ephemeral; then a port that could be taken is better than none.
    let ports = if fixed.is_empty() { (PORT_MIN..=u16::MAX).collect() } else { fixed };
    let start = random() as usize % ports.len();
    let candidates = ports.iter().cycle().skip(start).take(PORTS_TRIED_MAX as usize);
    candidates
        .copied()
        .find(|port| std::net::TcpListener::bind(SocketAddr::new(address, *port)).is_ok())
        .ok_or(BindError::NoPort { address })
}

/// Where to begin to look: two roles that choose at once should not look at the same ports.
fn random() -> u32 {
    let mut bytes = [0; 4];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => u32::from_le_bytes(bytes),
        Err(_) => std::process::id(),
    }
}

fn range_in(text: &str) -> Option<RangeInclusive<u16>> {
    let mut ends = text.split_whitespace().map(str::parse::<u16>);
    Some(ends.next()?.ok()?..=ends.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn the_kernels_range_is_two_numbers() {
        assert_eq!(range_in("32768\t60999\n"), Some(32_768..=60_999));
        assert_eq!(range_in("32768"), None);
    }

    #[tokio::test]
    async fn a_chosen_port_is_free_and_not_ephemeral() {
        let text = fs::read_to_string(EPHEMERAL_RANGE).unwrap();
        let port = choose_port(HERE).unwrap();
        assert!(!range_in(&text).unwrap().contains(&port), "{port}");
        bind(&format!("localhost:{port}")).await.unwrap();
    }

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let taken = bind("127.0.0.1:0").await.unwrap();
        let listen = taken.local_addr().unwrap().to_string();
        let refused = bind(&listen).await.unwrap_err();
        assert_eq!(refused.to_string(), format!("failed to listen on {listen}"));
    }
}
