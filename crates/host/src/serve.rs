//! The accept loop: HTTP/2 and HTTP/1.1 over TLS, each connection bounded in what it can cost.
//!
//! Sites and access points hand in a listener, a TLS configuration and a router. Each request carries
//! a [`Connection`]; handlers take a [`Peer`] (a certificate that counts now, else 401), a
//! [`PeerAnyTime`] (also an expired one: for renewal only) or the connection itself. Metrics are
//! served without TLS by [`serve_plain`], on loopback.
//!
//! A slow, silent or vanished client loses its connection; a handler that panics loses its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::FromRequestParts;
use http::request::Parts;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::clock::Clock;
use crate::pki::{Peer, Validity, peer_identity};
use crate::problem::Problem;
use crate::tls::ALPN_HTTP2;

/// A handshake takes two round trips; who needs longer is broken or hostile.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a new connection may wait with its first request.
pub const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long HTTP/1.1 headers may take, and an idle HTTP/1.1 connection may live.
pub const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections at once. One long poll of a device holds one; beyond this many a site needs access
/// points. Fewer where the process may not open as many files.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Files that are kept free of connections: database, content, logs, upstream.
const FILES_KEPT_FREE: usize = 128;
/// The headers of one request. A session ticket has about 300 bytes, a console's cookie less.
pub const HEADER_BYTES_MAX: u32 = 32 * 1024;
/// Requests at once on one HTTP/2 connection: an access point relays many devices on one.
pub const STREAMS_MAX: u32 = 256;
/// How often a quiet HTTP/2 connection is asked whether it is still there: below 55 s, so that no proxy
/// or NAT box on the way takes a held poll for an idle connection (60 s is common).
const PING_INTERVAL: Duration = Duration::from_secs(50);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long requests may finish once the role is to stop. Held polls should end by themselves then.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the loop rests when the process has no file left for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is known of the connection that a request came over. In every request's extensions.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The address at the other end: a relay or proxy perhaps, never an identity.
    pub remote: SocketAddr,
    /// Who showed a certificate of the site's CA, whatever its dates.
    pub peer: Option<Peer>,
    clock: Clock,
}

impl Connection {
    /// A connection that no socket stands behind: for calling a router in a test.
    pub fn new(remote: SocketAddr, peer: Option<Peer>, clock: Clock) -> Self {
        Self { remote, peer, clock }
    }

    /// The peer whose certificate counts at this moment. Judged anew at each call: a connection may
    /// outlive the certificate it began with.
    pub fn current_peer(&self) -> Option<&Peer> {
        let now = self.clock.wall();
        self.peer.as_ref().filter(|peer| peer.validity(now) == Validity::Current)
    }
}

/// A peer whose certificate may have expired. For the route that renews, and no other.
#[derive(Clone, Debug)]
pub struct PeerAnyTime(pub Peer);

fn connection(parts: &Parts) -> Result<&Arc<Connection>, Problem> {
    parts.extensions.get::<Arc<Connection>>().ok_or_else(Problem::unauthorized)
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        connection(parts)?.current_peer().cloned().ok_or_else(Problem::unauthorized)
    }
}

impl<S: Sync> FromRequestParts<S> for PeerAnyTime {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let peer = connection(parts)?.peer.clone();
        peer.map(PeerAnyTime).ok_or_else(Problem::unauthorized)
    }
}

impl<S: Sync> FromRequestParts<S> for Connection {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        connection(parts).map(|connection| Connection::clone(connection))
    }
}

/// Serves `router` over TLS until `stop`, then lets requests finish for [`DRAIN_TIMEOUT`].
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    clock: Clock,
    router: Router,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let server = Server { router, clock, stop };
    server
        .run(listener, move |server, stream, remote| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(Ok(stream)) = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await
                else {
                    return tracing::debug!(%remote, "the TLS handshake failed");
                };
                let (_, session) = stream.get_ref();
                let shown = session.peer_certificates().and_then(<[_]>::first);
                let peer = shown.and_then(|shown| match peer_identity(shown) {
                    Ok(peer) => Some(peer),
                    Err(error) => {
                        tracing::debug!(%remote, %error, "a certificate of ours is no client's");
                        None
                    }
                });
                let is_http2 = session.alpn_protocol() == Some(ALPN_HTTP2);
                server.drive(stream, is_http2, remote, peer).await;
            }
        })
        .await;
}

/// Serves `router` without TLS until `stop`: metrics, on a loopback listener. There are no peers.
pub async fn serve_plain(
    listener: TcpListener,
    clock: Clock,
    router: Router,
    stop: CancellationToken,
) {
    let server = Server { router, clock, stop };
    server
        .run(listener, |server, stream, remote| async move {
            server.drive(stream, false, remote, None).await;
        })
        .await;
}

#[derive(Clone)]
struct Server {
    router: Router,
    clock: Clock,
    stop: CancellationToken,
}

impl Server {
    async fn run<F>(
        self,
        listener: TcpListener,
        handle: impl Fn(Server, TcpStream, SocketAddr) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(connections_max()));
        let connections = TaskTracker::new();
        let cut = CancellationToken::new();
        while let Some((stream, remote, place)) = self.accept(&listener, &places).await {
            let connection = handle(self.clone(), stream, remote);
            let cut = cut.clone();
            connections.spawn(async move {
                cut.run_until_cancelled_owned(connection).await;
                drop(place);
            });
        }
        drop(listener);
        connections.close();
        if timeout(DRAIN_TIMEOUT, connections.wait()).await.is_err() {
            tracing::info!(connections = connections.len(), "requests did not finish in time");
            cut.cancel();
            connections.wait().await;
        }
    }

    /// The next connection, with its place among the [`CONNECTIONS_MAX`]; `None` when it is time to
    /// stop. While all places are taken, new connections wait in the kernel's queue.
    async fn accept(
        &self,
        listener: &TcpListener,
        places: &Arc<Semaphore>,
    ) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
        let next = async {
            let place = Arc::clone(places).acquire_owned().await.ok()?;
            loop {
                match listener.accept().await {
                    Ok((stream, remote)) => {
                        // Small answers must not wait for the acknowledgement of earlier ones.
                        let _ = stream.set_nodelay(true);
                        return Some((stream, remote, place));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        self.stop.run_until_cancelled(next).await?
    }

    async fn drive<S>(self, stream: S, is_http2: bool, remote: SocketAddr, peer: Option<Peer>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let spoke = Arc::new(AtomicBool::new(false));
        let connection = Arc::new(Connection { remote, peer, clock: self.clock });
        let service = {
            let (router, spoke) = (self.router, Arc::clone(&spoke));
            hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
                spoke.store(true, Ordering::Relaxed);
                request.extensions_mut().insert(Arc::clone(&connection));
                router.clone().call(request)
            })
        };
        let builder = builder(is_http2);
        let mut served = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            ended = &mut served => return note(remote, ended),
            () = silence(&spoke) => return tracing::debug!(%remote, "no request came"),
            () = self.stop.cancelled() => served.as_mut().graceful_shutdown(),
        }
        note(remote, served.await);
    }
}

/// Ends when no request came in time, and never once one has come.
async fn silence(spoke: &AtomicBool) {
    tokio::time::sleep(FIRST_REQUEST_TIMEOUT).await;
    if spoke.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

fn note(remote: SocketAddr, ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(%remote, error = &*error, "a connection broke");
    }
}

fn builder(is_http2: bool) -> auto::Builder<TokioExecutor> {
    let builder = auto::Builder::new(TokioExecutor::new());
    // Told by ALPN and not guessed from the first bytes, which would wait for them without limit.
    let mut builder = if is_http2 { builder.http2_only() } else { builder.http1_only() };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// [`CONNECTIONS_MAX`], or what the process's limit of open files leaves.
fn connections_max() -> usize {
    let files = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    let files = files.map_or(u64::MAX, |(soft, _)| soft);
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    files.saturating_sub(FILES_KEPT_FREE).max(files / 4).clamp(1, CONNECTIONS_MAX)
}
