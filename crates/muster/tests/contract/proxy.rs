//! Another port before a server, which can be cut.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Passes bytes on, until the test's process ends.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    is_cut: bool,
    open: Vec<TcpStream>,
}

impl Proxy {
    /// Listens before `server`, an address with a port.
    pub(crate) fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (state, server) = (Arc::new(Mutex::new(State::default())), server.to_owned());
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let mut state = shared.lock().unwrap();
                let Some(server) = TcpStream::connect(&server).ok().filter(|_| !state.is_cut)
                else {
                    continue;
                };
                let both = (client.try_clone().unwrap(), server.try_clone().unwrap());
                state.open.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                std::thread::spawn(move || pass_on(client, server));
                std::thread::spawn(move || pass_on(both.1, both.0));
            }
        });
        Self { port, state }
    }

    /// Cuts every connection, and lets no new one through until it is healed.
    pub(crate) fn cut(&self, is_cut: bool) {
        let mut state = self.state.lock().unwrap();
        state.is_cut = is_cut;
        for stream in state.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Passes on what comes, until one end closes.
pub(crate) fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
}
