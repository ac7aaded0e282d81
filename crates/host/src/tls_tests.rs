//! Both ends of a connection over real sockets: who is let in, as whom, and at what time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Redirect;
use axum::routing::get;
use muster_model::clock::Wall;
use muster_model::sign::PrivateKey;
use rustls::HandshakeKind;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::bind::bind;
use crate::client::{ClientError, Timeouts, http_client, read_body, send};
use crate::clock::Clock;
use crate::pki::{Ca, ClientIdentity, Peer, PeerKind, ServerIdentity, server_names};
use crate::serve::{DRAIN_TIMEOUT, HEADER_BYTES_MAX, PeerAnyTime, serve, serve_plain};
use crate::tls::{ServerCertificate, server_config};
use crate::trust::{Trust, TrustedNow, client_config};

const YEAR: Duration = Duration::from_secs(365 * 86_400);
const DEVICE: Uuid = Uuid::from_u128(42);

fn now() -> Wall {
    Clock::from_env().unwrap().wall()
}

fn ago(time: Duration) -> Wall {
    Wall(now().0 - time.as_millis() as i64)
}

fn device_key() -> PrivateKey {
    PrivateKey::from_seed([7; 32])
}

/// A site of one server on loopback.
struct Site {
    ca: Ca,
    certificate: ServerCertificate,
    address: SocketAddr,
    stop: CancellationToken,
    served: JoinHandle<()>,
    held: Arc<Notify>,
}

impl Site {
    async fn start() -> Self {
        let ca = Ca::create("ABC", now()).unwrap();
        let identity = ca.issue_server(&server_names("localhost"), now()).unwrap();
        Self::start_as(ca, identity).await
    }

    async fn start_as(ca: Ca, identity: ServerIdentity) -> Self {
        let clock = Clock::from_env().unwrap();
        let certificate = ServerCertificate::new(identity).unwrap();
        let tls = server_config(&certificate, ca.certificate(), &clock).unwrap();
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, held) = (CancellationToken::new(), Arc::new(Notify::new()));
        let router = router(Arc::clone(&held));
        let served = tokio::spawn(serve(listener, tls, clock, router, stop.clone()));
        Self { ca, certificate, address, stop, served, held }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    fn trust(&self) -> Trust {
        Trust::Ca(self.ca.certificate().clone())
    }

    fn device(&self, issued_at: Wall) -> ClientIdentity {
        device_of(&self.ca, issued_at)
    }

    /// What the server answers to `path`, asked by a client with this trust, time and identity.
    async fn ask(
        &self,
        path: &str,
        trust: Trust,
        time: Option<Wall>,
        identity: Option<ClientIdentity>,
    ) -> Result<String, ClientError> {
        let tls = client_config(trust, TrustedNow::new(move || time), identity).unwrap();
        let client = http_client(tls, Timeouts::default()).unwrap();
        let response = send(client.get(self.url(path))).await?;
        Ok(String::from_utf8(read_body(response, 1000).await?.to_vec()).unwrap())
    }
}

fn device_of(ca: &Ca, issued_at: Wall) -> ClientIdentity {
    let key = device_key();
    let issued = ca.issue_client(PeerKind::Device, DEVICE, &key.public(), issued_at).unwrap();
    ClientIdentity::new(&key, issued.certificate)
}

fn router(held: Arc<Notify>) -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/peer", get(|peer: Peer| async move { peer.id.to_string() }))
        .route("/renew", get(|PeerAnyTime(peer): PeerAnyTime| async move { peer.id.to_string() }))
        .route(
            "/version",
            get(|request: Request| async move { format!("{:?}", request.version()) }),
        )
        .route("/elsewhere", get(|| async { Redirect::temporary("/") }))
        .route("/large", get(|| async { "x".repeat(1001) }))
        .route(
            "/held",
            get(|| async move {
                held.notify_one();
                held.notified().await;
                "let go"
            }),
        )
}

/// The status of a refusal; 0 if there was no answer at all.
fn refused(answer: Result<String, ClientError>) -> u16 {
    match answer.unwrap_err() {
        ClientError::Refused { problem, .. } => problem.status,
        ClientError::Send { .. } => 0,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_anonymous_are_served_what_needs_no_name() {
    let site = Site::start().await;
    assert_eq!(site.ask("/", site.trust(), None, None).await.unwrap(), "hello");
    assert_eq!(refused(site.ask("/peer", site.trust(), None, None).await), 401);
    assert_eq!(refused(site.ask("/renew", site.trust(), None, None).await), 401);
}

#[tokio::test]
async fn a_device_is_who_its_certificate_says() {
    let site = Site::start().await;
    for path in ["/peer", "/renew"] {
        let answer = site.ask(path, site.trust(), Some(now()), Some(site.device(now()))).await;
        assert_eq!(answer.unwrap(), DEVICE.to_string());
    }
}

#[tokio::test]
async fn a_certificate_out_of_date_reaches_renewal_and_nothing_else() {
    let site = Site::start().await;
    for issued_at in [ago(2 * YEAR), now().plus(2 * YEAR)] {
        let identity = site.device(issued_at);
        let peer = site.ask("/peer", site.trust(), None, Some(identity.clone())).await;
        assert_eq!(refused(peer), 401);
        let renewed = site.ask("/renew", site.trust(), None, Some(identity)).await;
        assert_eq!(renewed.unwrap(), DEVICE.to_string());
    }
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused_whatever_its_date() {
    let site = Site::start().await;
    let stranger = Ca::create("ABC", now()).unwrap();
    for issued_at in [now(), ago(2 * YEAR)] {
        let identity = device_of(&stranger, issued_at);
        assert_eq!(refused(site.ask("/renew", site.trust(), None, Some(identity)).await), 0);
    }
}

#[tokio::test]
async fn a_server_certificate_makes_no_client() {
    let site = Site::start().await;
    let server = site.ca.issue_server(&server_names("localhost"), now()).unwrap();
    let identity = ClientIdentity { certificate: server.chain[0].clone(), key: server.key };
    assert_eq!(refused(site.ask("/", site.trust(), None, Some(identity)).await), 0);
}

#[tokio::test]
async fn a_pin_is_enough_to_know_the_site() {
    let site = Site::start().await;
    let pin = Trust::Pin(site.ca.pin());
    assert_eq!(site.ask("/", pin, None, None).await.unwrap(), "hello");
}

#[tokio::test]
async fn another_pin_or_ca_is_refused() {
    let site = Site::start().await;
    let stranger = Ca::create("ABC", now()).unwrap();
    for trust in [Trust::Pin(stranger.pin()), Trust::Ca(stranger.certificate().clone())] {
        assert_eq!(refused(site.ask("/", trust, None, None).await), 0);
    }
}

#[tokio::test]
async fn showing_the_pinned_ca_is_not_being_signed_by_it() {
    let genuine = Ca::create("ABC", now()).unwrap();
    let evil = Ca::create("ABC", now()).unwrap();
    let mut identity = evil.issue_server(&server_names("localhost"), now()).unwrap();
    identity.chain = vec![identity.chain[0].clone(), genuine.certificate().clone()];
    let pin = Trust::Pin(genuine.pin());
    let site = Site::start_as(evil, identity).await;
    assert_eq!(refused(site.ask("/", pin, None, None).await), 0);
}

#[tokio::test]
async fn a_server_under_another_name_is_refused() {
    let ca = Ca::create("ABC", now()).unwrap();
    let identity = ca.issue_server(&["elsewhere.example".to_owned()], now()).unwrap();
    let site = Site::start_as(ca, identity).await;
    for trust in [site.trust(), Trust::Pin(site.ca.pin())] {
        assert_eq!(refused(site.ask("/", trust, None, None).await), 0);
    }
}

#[tokio::test]
async fn a_devices_certificate_makes_no_server() {
    let ca = Ca::create("ABC", now()).unwrap();
    let ClientIdentity { certificate, key } = device_of(&ca, now());
    let chain = vec![certificate, ca.certificate().clone()];
    let site = Site::start_as(ca, ServerIdentity { chain, key, renew_at: now() }).await;
    assert_eq!(refused(site.ask("/", site.trust(), None, None).await), 0);
}

#[tokio::test]
async fn an_access_point_is_a_server_and_a_client() {
    let ca = Ca::create("ABC", now()).unwrap();
    let key = device_key();
    let issued = ca.issue_access_point(DEVICE, &server_names("localhost"), &key.public(), now());
    let issued = issued.unwrap();
    let (certificate, root) = (issued.certificate.clone(), ca.certificate().clone());
    let server = ServerIdentity::of_access_point(&key, certificate, root, issued.renew_at());
    let site = Site::start_as(ca, server).await;
    let client = ClientIdentity::new(&key, issued.certificate);
    let answer = site.ask("/peer", site.trust(), Some(now()), Some(client)).await;
    assert_eq!(answer.unwrap(), DEVICE.to_string());
}

#[tokio::test]
async fn servers_are_judged_by_trusted_time_and_not_by_the_wall_clock() {
    let ca = Ca::create("ABC", ago(3 * YEAR)).unwrap();
    let expired = ca.issue_server(&server_names("localhost"), ago(2 * YEAR)).unwrap();
    let site = Site::start_as(ca, expired).await;
    // The wall clock says two years late. Trusted time, and the lack of it, say otherwise.
    for accepted in [None, Some(ago(2 * YEAR)), Some(ago(30 * YEAR))] {
        assert_eq!(site.ask("/", site.trust(), accepted, None).await.unwrap(), "hello");
    }
    assert_eq!(refused(site.ask("/", site.trust(), Some(now()), None).await), 0);
}

#[tokio::test]
async fn clients_speak_http_2() {
    let site = Site::start().await;
    assert_eq!(site.ask("/version", site.trust(), None, None).await.unwrap(), "HTTP/2.0");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let site = Site::start().await;
    assert_eq!(refused(site.ask("/elsewhere", site.trust(), None, None).await), 307);
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_refused() {
    let site = Site::start().await;
    let answer = site.ask("/large", site.trust(), None, None).await;
    assert!(matches!(answer, Err(ClientError::TooLarge { limit: 1000, .. })));
}

#[tokio::test]
async fn headers_beyond_the_limit_are_refused() {
    let site = Site::start().await;
    let large = "x".repeat(3 * HEADER_BYTES_MAX as usize);
    let tls = client_config(site.trust(), TrustedNow::unknown(), None).unwrap();
    let client = http_client(tls, Timeouts::default()).unwrap();
    let answer = send(client.get(site.url("/")).header("x-large", &large)).await;
    assert_eq!(refused(answer.map(|_| String::new())), 431);
    let mut stream = connect(&site, &device_connector(&site)).await;
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx: {large}\r\n\r\n");
    // The server may hang up while this is still being written; it must not answer the request.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(!answer.contains("hello"), "{answer}");
}

async fn connect(site: &Site, connector: &TlsConnector) -> TlsStream<TcpStream> {
    let socket = TcpStream::connect(site.address).await.unwrap();
    connector.connect(ServerName::try_from("localhost").unwrap(), socket).await.unwrap()
}

/// A connection without a client library: what kind of handshake it took, the certificate shown, and the answer
/// to one plain HTTP/1.1 request.
async fn raw(site: &Site, connector: &TlsConnector) -> (HandshakeKind, CertificateDer<'static>) {
    let mut stream = connect(site, connector).await;
    let request = b"GET /peer HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with(&DEVICE.to_string()), "{answer}");
    let (_, session) = stream.get_ref();
    let shown = session.peer_certificates().unwrap()[0].clone().into_owned();
    (session.handshake_kind().unwrap(), shown)
}

fn device_connector(site: &Site) -> TlsConnector {
    let identity = Some(site.device(now()));
    Arc::new(client_config(site.trust(), TrustedNow::unknown(), identity).unwrap()).into()
}

#[tokio::test]
async fn a_resumed_session_still_knows_its_device() {
    let site = Site::start().await;
    let connector = device_connector(&site);
    assert_eq!(raw(&site, &connector).await.0, HandshakeKind::Full);
    assert_eq!(raw(&site, &connector).await.0, HandshakeKind::Resumed);
}

#[tokio::test]
async fn new_connections_see_the_new_certificate() {
    let site = Site::start().await;
    let before = raw(&site, &device_connector(&site)).await.1;
    let next = site.ca.issue_server(&server_names("localhost"), now()).unwrap();
    let expected = next.chain[0].clone();
    site.certificate.replace(next).unwrap();
    let after = raw(&site, &device_connector(&site)).await.1;
    assert!(before != after && after == expected);
}

#[tokio::test]
async fn a_key_that_does_not_fit_its_certificate_is_not_served() {
    let site = Site::start().await;
    let mut mixed = site.ca.issue_server(&server_names("localhost"), now()).unwrap();
    mixed.key = site.ca.issue_server(&server_names("localhost"), now()).unwrap().key;
    assert!(site.certificate.replace(mixed).is_err());
}

#[tokio::test]
async fn a_request_under_way_finishes_when_the_role_is_to_stop() {
    let site = Arc::new(Site::start().await);
    let asking = Arc::clone(&site);
    let answer = tokio::spawn(async move { asking.ask("/held", asking.trust(), None, None).await });
    site.held.notified().await;
    site.stop.cancel();
    site.held.notify_one();
    assert_eq!(answer.await.unwrap().unwrap(), "let go");
    let site = Arc::into_inner(site).unwrap();
    site.served.await.unwrap();
    assert!(TcpStream::connect(site.address).await.is_err());
}

/// Waits until the server ends the connection, with time paused: it jumps to the next deadline
/// whenever everybody waits, and the server's must be the next.
async fn ended(connection: &mut (impl AsyncRead + Unpin)) {
    let mut sent = Vec::new();
    let reading = connection.read_to_end(&mut sent);
    assert!(timeout(10 * DRAIN_TIMEOUT, reading).await.is_ok(), "the server waits for ever");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_let_go() {
    let clock = Clock::from_env().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(|| async { "hello" }));
    tokio::spawn(serve_plain(listener, clock, router, CancellationToken::new()));
    let mut silent = TcpStream::connect(address).await.unwrap();
    ended(&mut silent).await;
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    ended(&mut slow).await;
    let mut later = TcpStream::connect(address).await.unwrap();
    later.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost:").await.unwrap();
    ended(&mut later).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_shakes_hands_is_let_go() {
    let site = Site::start().await;
    let mut silent = TcpStream::connect(site.address).await.unwrap();
    ended(&mut silent).await;
}

#[tokio::test]
async fn a_client_that_shakes_hands_and_asks_nothing_is_let_go() {
    let site = Site::start().await;
    for protocol in [b"h2".as_slice(), b"http/1.1"] {
        let mut tls = client_config(site.trust(), TrustedNow::unknown(), None).unwrap();
        tls.alpn_protocols = vec![protocol.to_vec()];
        let mut silent = connect(&site, &Arc::new(tls).into()).await;
        tokio::time::pause();
        ended(&mut silent).await;
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_hold_up_the_stop() {
    let site = Arc::new(Site::start().await);
    let asking = Arc::clone(&site);
    let answer = tokio::spawn(async move { asking.ask("/held", asking.trust(), None, None).await });
    site.held.notified().await;
    site.stop.cancel();
    tokio::time::pause();
    let stopped_at = Instant::now();
    assert_eq!(refused(answer.await.unwrap()), 0);
    assert!(stopped_at.elapsed() < 2 * DRAIN_TIMEOUT);
    Arc::into_inner(site).unwrap().served.await.unwrap();
}
