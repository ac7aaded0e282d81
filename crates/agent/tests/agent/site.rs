//! A site for one device, as small as the device protocol allows: real TLS, real signatures, no store.
//!
//! Everything it serves can be changed while the agent runs, also into what no honest site would serve.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::map_response_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_content::manifest::{Manifest, SignedManifest};
use muster_content::tree::TreeBuilder;
use muster_content::trust::{Publisher, SignedTrust, TrustChange, TrustDocument};
use muster_host::clock::Clock;
use muster_host::pki::{Ca, PeerKind};
use muster_host::problem::Problem;
use muster_host::{serve, tls};
use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{AdvertisementId, DeviceId, EpochId, Incarnation, Sequence, TokenId};
use muster_model::message::{Body, Message, Report};
use muster_model::name::Name;
use muster_model::package::PackageSpec;
use muster_model::policy::{Due, KeySignature, Offer, Order, PinnedPackage, Policy};
use muster_model::settings::Settings;
use muster_model::sign::{Domain, PrivateKey, PublicKey};
use muster_model::token::{Token, TrustPin};
use muster_model::wire::batch::Batch;
use muster_model::wire::device::{
    Account, AccountEntry, Behind, EnrollAnswer, EnrollRequest, Receipt, RenewAnswer, RenewRequest,
    SiteTime, Ticket,
};
use muster_model::wire::seal::Sealed;
use muster_model::wire::{header, path};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What the site knows and serves.
pub struct Truth {
    /// Signs for the site.
    pub signing: PrivateKey,
    /// The key that the CA vouches for; another one is a stranger's.
    pub certified: PublicKey,
    /// Polls so far.
    pub polls: u32,
    /// Its epoch.
    pub epoch: EpochId,
    /// How far ahead of the machine its clock is.
    pub ahead: Duration,
    /// The life of certificates begins so long before now.
    pub certificate_age: Duration,
    /// The device's key, once it has enrolled.
    pub device: Option<PublicKey>,
    /// Renewals so far.
    pub renewals: u64,
    /// Requests whose ticket was refused.
    pub tickets_refused: u32,
    /// The trust documents, from number 1.
    pub documents: Vec<SignedTrust>,
    /// Objects by digest.
    pub objects: BTreeMap<Digest, Vec<u8>>,
    /// What is advertised.
    pub offers: Vec<Offer>,
    /// The site revision.
    pub revision: u64,
    /// What it has of each incarnation, in order.
    pub streams: BTreeMap<Incarnation, Vec<Message>>,
    heads: BTreeMap<Incarnation, Digest>,
    /// It takes no messages.
    pub deaf: bool,
    /// What it answers as the account.
    pub account: Vec<AccountEntry>,
    /// Incarnations that asked for the account.
    pub accounts_asked: BTreeSet<Incarnation>,
}

/// A running site.
pub struct Site {
    /// Where it listens.
    pub url: String,
    /// What it knows.
    pub truth: Arc<Mutex<Truth>>,
    ca: Arc<Ca>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
struct Desk {
    truth: Arc<Mutex<Truth>>,
    ca: Arc<Ca>,
    clock: Clock,
}

pub const DEVICE: DeviceId = DeviceId(Uuid::from_u128(0xd1));

/// A publisher of the tests.
pub fn publisher(seed: u8) -> (Publisher, PrivateKey) {
    let key = PrivateKey::from_seed([seed; 32]);
    let name = Name::new(format!("publisher {seed}")).unwrap();
    (Publisher { name, key: key.public() }, key)
}

impl Site {
    /// Starts a site whose first trust document names publisher 1.
    pub fn start() -> Self {
        let clock = Clock::from_env().unwrap();
        let ca = Arc::new(Ca::create("TST", clock.wall()).unwrap());
        let (first, key) = publisher(1);
        let truth = Arc::new(Mutex::new(Truth {
            signing: PrivateKey::from_seed([99; 32]),
            certified: PrivateKey::from_seed([99; 32]).public(),
            polls: 0,
            epoch: EpochId(Uuid::from_u128(1)),
            ahead: Duration::ZERO,
            certificate_age: Duration::ZERO,
            device: None,
            renewals: 0,
            tickets_refused: 0,
            documents: vec![TrustDocument::first(first).unwrap().sign(&key)],
            objects: BTreeMap::new(),
            offers: Vec::new(),
            revision: 1,
            streams: BTreeMap::new(),
            heads: BTreeMap::new(),
            deaf: false,
            account: Vec::new(),
            accounts_asked: BTreeSet::new(),
        }));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let desk = Desk { truth: truth.clone(), ca: ca.clone(), clock: clock.clone() };
        let listener =
            runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let identity = ca.issue_server(&["127.0.0.1".to_owned()], clock.wall()).unwrap();
        let certificate = tls::ServerCertificate::new(identity).unwrap();
        let config = tls::server_config(&certificate, ca.certificate(), &clock).unwrap();
        let serving = serve::serve(listener, config, clock, router(desk), CancellationToken::new());
        runtime.spawn(serving);
        Self { url, truth, ca, _runtime: runtime }
    }

    /// What it knows. Not to be held while the agent is waited for.
    pub fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap()
    }

    /// A token with its pins.
    pub fn token(&self) -> Token {
        let truth = self.truth();
        let pin = truth.documents.last().map(|document| TrustPin {
            number: truth.documents.len() as u64,
            digest: Digest::of(&document.payload),
        });
        let id = TokenId(Uuid::from_u128(3));
        Token { id, secret: "s".into(), ca: self.ca.pin(), trust: pin }
    }

    /// Publishes a package of one program that is a script, signed by `key`.
    pub fn publish(&self, name: &str, script: &str, more: &str, key: &PrivateKey) -> PinnedPackage {
        let mut truth = self.truth();
        let objects = &mut truth.objects;
        let mut tree = TreeBuilder::new(|digest: Digest, bytes: &[u8]| {
            objects.insert(digest, bytes.to_vec());
            Ok(())
        });
        tree.add_file("go.sh", 0o755, script.as_bytes()).unwrap();
        let spec = format!(
            r#"{{"version": "1", "programs": [{{"name": "go", "commandLine": "sh go.sh" {more}}}]}}"#
        );
        let spec: PackageSpec = serde_json::from_str(&spec).unwrap();
        let name = Name::new(name).unwrap();
        let manifest = Manifest::new(name.clone(), spec, tree.finish().unwrap()).unwrap();
        let signed = SignedManifest::sign(manifest.encode().unwrap(), key);
        let digest = signed.digest();
        truth.objects.insert(digest, signed.payload);
        let signatures = signed
            .signatures
            .iter()
            .map(|one| KeySignature { key: one.key, signature: one.signature })
            .collect();
        PinnedPackage { name, version: "1".into(), manifest: digest, signatures }
    }

    /// Advertises a package; answers which advertisement that is.
    pub fn advertise(&self, package: PinnedPackage) -> AdvertisementId {
        let mut truth = self.truth();
        truth.revision += 1;
        let advertisement = AdvertisementId(Uuid::from_u128(0xa0 + u128::from(truth.revision)));
        let due = Due {
            occurrence: "a1#1".parse().unwrap(),
            at: Some(muster_model::advertisement::At::Now),
        };
        truth.offers.push(Offer {
            advertisement,
            name: Name::new(format!("ad {}", package.name)).unwrap(),
            revision: 1,
            package,
            program: Name::new("go").unwrap(),
            occurrences: vec![due],
            expires: None,
            recurrences: Vec::new(),
            late: Default::default(),
            splay: Default::default(),
            offline_for: Default::default(),
            notice: None,
            emergency: false,
            stopped: None,
            revoked: None,
            conflict: None,
            superseded: None,
            achieves: Default::default(),
            supersedes: Vec::new(),
            dependencies: Vec::new(),
            parameters: Default::default(),
        });
        advertisement
    }

    /// Changes what is advertised.
    pub fn edit(&self, edit: impl FnOnce(&mut Vec<Offer>)) {
        let mut truth = self.truth();
        truth.revision += 1;
        edit(&mut truth.offers);
    }

    /// Stops everything and ends what runs.
    pub fn stop_all(&self) {
        let order = Order { by: "the test".into(), reason: String::new(), kill: true };
        self.edit(|offers| offers.iter_mut().for_each(|one| one.stopped = Some(order.clone())));
    }

    /// Adds a publisher by the next trust document, signed by `signer`.
    pub fn add_publisher(&self, seed: u8, signer: &PrivateKey) {
        let mut truth = self.truth();
        let newest = truth.documents.last().unwrap();
        let newest = TrustDocument::parse(&newest.payload).unwrap();
        let next = newest.next(&[TrustChange::Add(publisher(seed).0)]).unwrap();
        truth.documents.push(next.sign(signer));
    }

    /// Every report about `advertisement`, over all incarnations.
    pub fn reports(&self, advertisement: AdvertisementId) -> Vec<Report> {
        let truth = self.truth();
        let bodies = truth.streams.values().flatten().map(|message| &message.body);
        let reports = bodies.filter_map(|body| match body {
            Body::Obligation(report) if report.advertisement == advertisement => Some(report),
            _ => None,
        });
        reports.cloned().collect()
    }
}

impl Desk {
    fn now(&self) -> Wall {
        self.clock.wall().plus(self.truth.lock().unwrap().ahead)
    }

    fn seal<T: Serialize>(&self, domain: Domain, document: &T) -> Response {
        let key = self.truth.lock().unwrap().signing.clone();
        let sealed = Sealed::seal(&key, domain, document).unwrap();
        axum::Json(sealed).into_response()
    }

    /// A client certificate whose life has begun some time ago.
    fn certificate(&self, key: &PublicKey) -> String {
        let age = self.truth.lock().unwrap().certificate_age;
        let begun = Wall(self.now().0 - age.as_millis() as i64);
        let issued = self.ca.issue_client(PeerKind::Device, DEVICE.0, key, begun).unwrap();
        STANDARD.encode(&*issued.certificate)
    }

    fn signing_certificate(&self) -> String {
        let key = self.truth.lock().unwrap().certified;
        STANDARD.encode(&*self.ca.issue_signing("TST", &key, self.now()).unwrap().certificate)
    }

    /// The ticket of a request, if it is the device's and of this epoch.
    fn ticket(&self, headers: &HeaderMap) -> Result<Ticket, Response> {
        let mut truth = self.truth.lock().unwrap();
        let sealed = headers.get(header::TICKET).and_then(|ticket| ticket.to_str().ok());
        let sealed = sealed.and_then(|ticket| Sealed::from_header(ticket).ok());
        let ticket = sealed
            .zip(truth.device)
            .and_then(|(sealed, key)| sealed.open::<Ticket>(&key, Domain::Ticket).ok());
        ticket.filter(|ticket| ticket.epoch == truth.epoch).ok_or_else(|| {
            truth.tickets_refused += 1;
            Problem::new(StatusCode::UNAUTHORIZED, "ticket", "ticket").into_response()
        })
    }
}

fn router(desk: Desk) -> Router {
    let numbered = |path: &str| format!("{path}/{{name}}");
    Router::new()
        .route(path::ENROLL, post(enroll))
        .route(path::RENEW, post(renew))
        .route(path::POLICY, get(policy))
        .route(path::MESSAGES, post(messages))
        .route(path::ACCOUNT, get(account))
        .route(&numbered(path::CONTENT), get(content))
        .route(&numbered(path::TRUST), get(trust))
        .layer(map_response_with_state(desk.clone(), tell_time))
        .with_state(desk)
}

async fn tell_time(State(desk): State<Desk>, mut response: Response) -> Response {
    let time = desk.now();
    let truth = desk.truth.lock().unwrap();
    let told = SiteTime { time, epoch: truth.epoch };
    let sealed = Sealed::seal(&truth.signing, Domain::SiteTime, &told).unwrap();
    response.headers_mut().insert(header::SITE_TIME, sealed.to_header().parse().unwrap());
    response
}

async fn enroll(State(desk): State<Desk>, body: Bytes) -> Response {
    let request: EnrollRequest = serde_json::from_slice(&body).unwrap();
    desk.truth.lock().unwrap().device = Some(request.key);
    let newest = desk.truth.lock().unwrap().documents.last().cloned();
    let answer = EnrollAnswer {
        device: DEVICE,
        certificate: desk.certificate(&request.key),
        ca: STANDARD.encode(&**desk.ca.certificate()),
        signing_certificate: desk.signing_certificate(),
        site: "TST".into(),
        epoch: desk.truth.lock().unwrap().epoch,
        incarnation: Incarnation(1),
        next_incarnation: Incarnation(2),
        trust: newest.map(|document| serde_json::to_value(document).unwrap()),
        held: false,
    };
    desk.seal(Domain::Enrolment, &answer)
}

async fn renew(State(desk): State<Desk>, body: Bytes) -> Response {
    let sealed: Sealed = serde_json::from_slice(&body).unwrap();
    let key = desk.truth.lock().unwrap().device.unwrap();
    let request: RenewRequest = sealed.open(&key, Domain::Renewal).unwrap();
    desk.truth.lock().unwrap().renewals += 1;
    let answer = RenewAnswer {
        certificate: desk.certificate(&key),
        signing_certificate: desk.signing_certificate(),
        epoch: desk.truth.lock().unwrap().epoch,
        next_incarnation: Incarnation(request.incarnation.0 + 1),
        generation: request.generation + 1,
    };
    desk.seal(Domain::Enrolment, &answer)
}

/// Holds the question for a moment, as a site would for longer.
async fn policy(State(desk): State<Desk>, headers: HeaderMap) -> Result<Response, Response> {
    desk.ticket(&headers)?;
    desk.truth.lock().unwrap().polls += 1;
    for _ in 0..10 {
        let known = headers.get(IF_NONE_MATCH).and_then(|tag| tag.to_str().ok());
        let (policy, tag) = current(&desk);
        if known != Some(&tag) {
            let mut response = desk.seal(Domain::Policy, &policy);
            response.headers_mut().insert(ETAG, tag.parse().unwrap());
            return Ok(response);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(StatusCode::NOT_MODIFIED.into_response())
}

fn current(desk: &Desk) -> (Policy, String) {
    let issued = desk.now();
    let truth = desk.truth.lock().unwrap();
    let epoch = truth.epoch.0;
    let trust = truth.documents.len() as u64;
    let parts = [&truth.revision.to_le_bytes()[..], &trust.to_le_bytes(), epoch.as_bytes()];
    let tag = Digest::of_parts("test", &parts);
    let policy = Policy {
        format: 1,
        device: DEVICE,
        epoch: truth.epoch,
        revision: truth.revision,
        tag,
        issued,
        trust,
        settings: Settings::default(),
        held: None,
        put_back: None,
        halted: None,
        advertisements: truth.offers.clone(),
        windows: Vec::new(),
    };
    (policy, format!("\"{tag}\""))
}

async fn messages(
    State(desk): State<Desk>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Response> {
    desk.ticket(&headers)?;
    let batch = Batch::decode(&body).unwrap();
    let mut truth = desk.truth.lock().unwrap();
    if truth.deaf {
        let refused = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "busy");
        return Err(refused.into_response());
    }
    let chains = batch.verify(&truth.device.unwrap()).unwrap();
    let (incarnation, epoch) = (batch.header.incarnation, truth.epoch);
    let stream = truth.streams.entry(incarnation).or_default();
    let through = stream.len() as u64;
    if batch.header.first.0 > through + 1 {
        let behind = Behind { epoch, through: Sequence(through) };
        let body = serde_json::to_vec(&behind).unwrap();
        let json = [(CONTENT_TYPE, "application/json")];
        return Ok((StatusCode::CONFLICT, json, body).into_response());
    }
    for (n, bytes) in batch.messages.iter().enumerate() {
        if batch.header.first.0 + n as u64 > through {
            stream.push(serde_json::from_slice(bytes).unwrap());
        }
    }
    let through = Sequence(stream.len() as u64);
    if batch.header.last == through {
        truth.heads.insert(incarnation, *chains.last().unwrap());
    }
    let head = truth.heads[&incarnation];
    let receipt = Receipt { epoch, device: DEVICE, incarnation, through, head };
    drop(truth);
    Ok(desk.seal(Domain::Receipt, &receipt))
}

async fn account(State(desk): State<Desk>, headers: HeaderMap) -> Result<Response, Response> {
    let ticket = desk.ticket(&headers)?;
    let mut truth = desk.truth.lock().unwrap();
    truth.accounts_asked.insert(ticket.incarnation);
    let account = Account {
        device: DEVICE,
        incarnation: ticket.incarnation,
        epoch: truth.epoch,
        obligations: truth.account.clone(),
    };
    drop(truth);
    Ok(desk.seal(Domain::Account, &account))
}

async fn content(
    State(desk): State<Desk>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Response, Response> {
    desk.ticket(&headers)?;
    let object = desk.truth.lock().unwrap().objects.get(&name.parse().unwrap()).cloned();
    let missing = || Problem::new(StatusCode::NOT_FOUND, "not-found", "none").into_response();
    object.map(IntoResponse::into_response).ok_or_else(missing)
}

async fn trust(
    State(desk): State<Desk>,
    headers: HeaderMap,
    Path(number): Path<usize>,
) -> Result<Response, Response> {
    desk.ticket(&headers)?;
    let document = desk.truth.lock().unwrap().documents.get(number - 1).cloned();
    let missing = || Problem::new(StatusCode::NOT_FOUND, "not-found", "none").into_response();
    document.map(|document| axum::Json(document).into_response()).ok_or_else(missing)
}
