//! A whole site in this process, spoken to over its real TLS socket, and devices that are scripts.

mod device;

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_content::manifest::{Manifest, SignedManifest};
use muster_content::trust::{Publisher, TrustDocument};
use muster_host::bind::choose_port;
use muster_host::client::{Timeouts, http_client};
use muster_host::clock::Clock;
use muster_host::trust::{Trust, TrustedNow, client_config};
use muster_model::id::AdvertisementId;
use muster_model::name::Name;
use muster_model::package::PackageSpec;
use muster_model::sign::PrivateKey;
use muster_model::token::Token;
use muster_site::folder::Folder;
use muster_site::store::Location;
use muster_site::testing::TestDb;
use muster_site::{DeviceService, InitOptions, init, run_until};
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use device::*;

/// A running site.
pub(crate) struct Site {
    pub(crate) folder: TempDir,
    pub(crate) url: String,
    pub(crate) service: DeviceService,
    pub(crate) credential: String,
    http: reqwest::Client,
    stop: CancellationToken,
    ended: JoinHandle<()>,
    publisher: PrivateKey,
}

/// An answer: status and JSON.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Told {
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:#?}");
        self.body
    }

    /// The last word of a problem's type, and its sentence.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, kind: &str) -> String {
        assert_eq!(self.status, status, "{self:#?}");
        assert_eq!(self.body["type"], format!("urn:muster:problem:{kind}"), "{self:#?}");
        self.body["detail"].as_str().unwrap_or_default().to_owned()
    }
}

impl Site {
    /// A new site on SQLite.
    pub(crate) async fn start() -> Self {
        Self::on(None).await
    }

    /// A new site on this database, or on SQLite.
    pub(crate) async fn on(database: Option<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("site");
        let options = InitOptions { database, ..options(&data) };
        init(options).await.unwrap();
        Self::run(folder, data).await
    }

    /// A new site that may take so many bytes.
    pub(crate) async fn within(quota: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("site");
        init(InitOptions { quota: Some(quota), ..options(&data) }).await.unwrap();
        Self::run(folder, data).await
    }

    async fn run(folder: TempDir, data: PathBuf) -> Self {
        let login = muster_site::folder::local_credential(&data).unwrap();
        let stop = CancellationToken::new();
        let (sender, service) = oneshot::channel();
        let ending = stop.clone();
        let ended = tokio::spawn(async move {
            let beside = |service: DeviceService| {
                let _ = sender.send(service);
                axum::Router::new()
            };
            run_until(data, beside, Clock::from_env().unwrap(), ending).await.unwrap();
        });
        // The listener is bound before the device protocol is asked for.
        let service = service.await.unwrap();
        let tls = client_config(Trust::Pin(login.ca_pin), TrustedNow::unknown(), None).unwrap();
        Self {
            folder,
            url: login.url,
            service,
            credential: login.credential,
            http: http_client(tls, Timeouts::default()).unwrap(),
            stop,
            ended,
            publisher: PrivateKey::from_seed([42; 32]),
        }
    }

    /// Ends the site as SIGTERM does, and starts it again on the same folder.
    pub(crate) async fn restart(self) -> Self {
        let Site { folder, stop, ended, .. } = self;
        stop.cancel();
        ended.await.unwrap();
        let data = folder.path().join("site");
        Self::run(folder, data).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        credential: Option<&str>,
        body: Option<Value>,
    ) -> Told {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(credential) = credential {
            request = request.bearer_auth(credential);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.bytes().await.unwrap();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Told { status, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Told {
        self.send(Method::GET, &format!("/api/v1{path}"), Some(&self.credential), None).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Serialize) -> Told {
        let body = serde_json::to_value(body).unwrap();
        self.send(Method::POST, &format!("/api/v1{path}"), Some(&self.credential), Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Told {
        self.send(Method::DELETE, &format!("/api/v1{path}"), Some(&self.credential), None).await
    }

    pub(crate) async fn put(&self, path: &str, bytes: Vec<u8>) -> Told {
        let request = self.http.put(format!("{}/api/v1{path}", self.url)).body(bytes);
        let response = request.bearer_auth(&self.credential).send().await.unwrap();
        let status = response.status().as_u16();
        let body = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
        Told { status, body }
    }

    /// The ETag of what stands at `path`.
    pub(crate) async fn etag(&self, path: &str) -> String {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.credential);
        let response = request.send().await.unwrap();
        response.headers()["etag"].to_str().unwrap().to_owned()
    }

    pub(crate) async fn delete_matching(&self, path: &str, tag: &str) -> Told {
        let request = self.http.delete(format!("{}{path}", self.url)).header("if-match", tag);
        let response = request.bearer_auth(&self.credential).send().await.unwrap();
        let status = response.status().as_u16();
        let body = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
        Told { status, body }
    }

    /// The first server-sent event of a path.
    pub(crate) async fn first_event(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.credential);
        let mut response = request.send().await.unwrap();
        let mut text = String::new();
        loop {
            text.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
            if let Some(data) = text.lines().find_map(|line| line.strip_prefix("data: ")) {
                return serde_json::from_str(data).unwrap();
            }
        }
    }

    /// The page of the metrics listener.
    pub(crate) async fn metrics(&self) -> String {
        let config = Folder::at(self.folder.path().join("site")).config().unwrap();
        let mut stream = tokio::net::TcpStream::connect(config.metrics_listen).await.unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        page
    }

    /// One more process of the same site, with the same keys and database, on an address of its own.
    pub(crate) async fn second_process(&self) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (self.folder.path().join("site"), folder.path().join("site"));
        std::fs::create_dir_all(second.join("keys")).unwrap();
        for entry in std::fs::read_dir(first.join("keys")).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, second.join("keys").join(path.file_name().unwrap())).unwrap();
        }
        let mut config = Folder::at(&first).config().unwrap();
        for listen in [&mut config.listen, &mut config.metrics_listen] {
            listen.set_port(choose_port(listen.ip()).unwrap());
        }
        config.url = format!("https://{}", config.listen);
        config.content = Some(format!("file://{}", first.join("content").display()));
        Folder::at(&second).save_config(&config).unwrap();
        Self::run(folder, second).await
    }

    /// A token for devices.
    pub(crate) async fn token(&self, more: Value) -> Token {
        let mut request = json!({"role": "agent", "uses": 100, "ttl": "1h"});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.post("/tokens", request).await.ok();
        answer["token"].as_str().unwrap().parse().unwrap()
    }

    /// Makes the test's publisher the site's first one.
    pub(crate) async fn trust_publisher(&self) {
        let publisher = Publisher { name: Name::new("ada").unwrap(), key: self.publisher.public() };
        let document = TrustDocument::first(publisher).unwrap().sign(&self.publisher);
        self.post("/trust", document).await.ok();
    }

    /// Publishes a package without files.
    pub(crate) async fn publish(&self, name: &str, version: &str, program: Value) -> Told {
        let spec = json!({"version": version, "programs": [program]});
        self.publish_spec(name, spec).await
    }

    pub(crate) async fn publish_spec(&self, name: &str, spec: Value) -> Told {
        let parsed: PackageSpec = serde_json::from_value(spec.clone()).unwrap();
        let manifest = Manifest::new(Name::new(name).unwrap(), parsed, Vec::new()).unwrap();
        let signed = SignedManifest::sign(manifest.encode().unwrap(), &self.publisher);
        let digest = signed.digest();
        self.put(&format!("/objects/{digest}"), signed.payload.clone()).await.ok();
        let signatures: Vec<Value> = signed
            .signatures
            .iter()
            .map(|one| json!({"key": one.key, "signature": one.signature}))
            .collect();
        let document = document("Package", name, spec);
        let request = json!({"document": document, "manifest": digest, "signatures": signatures});
        self.post("/packages", request).await
    }

    /// Applies documents.
    pub(crate) async fn apply(&self, documents: Vec<Value>) -> Told {
        self.post("/apply", json!({"documents": documents})).await
    }

    /// A published package `hello`, a collection of everybody called `d*` by name, and an
    /// advertisement of one to the other. Answers the advertisement's id.
    pub(crate) async fn advertise(&self, name: &str, members: &[&str]) -> AdvertisementId {
        self.apply(vec![
            document("Collection", name, json!({"members": members})),
            document("Advertisement", name, advertisement(name)),
        ])
        .await
        .ok();
        self.id("advertisement", name).await.parse().unwrap()
    }

    pub(crate) async fn id(&self, kind: &str, name: &str) -> String {
        let found = self.post("/resolve", json!({"kind": kind, "name": name})).await.ok();
        found["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn accounting(&self, id: AdvertisementId) -> Value {
        let found = self.get(&format!("/advertisements/{id}/accounting")).await.ok();
        let sum: u64 =
            found["states"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
        assert_eq!(sum, found["targeted"].as_u64().unwrap(), "{found:#}");
        found
    }

    /// The accounting once its states are these.
    pub(crate) async fn settled(&self, id: AdvertisementId, states: Value) -> Value {
        eventually(async || {
            let found = self.accounting(id).await;
            (found["states"] == states).then_some(found)
        })
        .await
    }

    /// A credential of this role.
    pub(crate) async fn log_on(&self, role: &str) -> String {
        let request = json!({"role": role, "uses": 1, "ttl": "1h"});
        let made = self.post("/tokens", request).await.ok();
        let token: Token = made["token"].as_str().unwrap().parse().unwrap();
        let body = Some(json!({"token": token.claim()}));
        let answer = self.send(Method::POST, "/api/v1/login", None, body).await.ok();
        answer["credential"].as_str().unwrap().to_owned()
    }

    /// A site with one publisher and its package `hello`, version 1.
    pub(crate) async fn with_hello() -> Self {
        let site = Self::start().await;
        site.publish_hello().await;
        site
    }

    /// Gives the site its first publisher, and its package `hello`, version 1.
    pub(crate) async fn publish_hello(&self) {
        self.trust_publisher().await;
        self.publish("hello", "1", go()).await.ok();
    }

    /// Every invariant holds.
    pub(crate) async fn verify(&self) {
        let found = self.get("/accounting/verify").await.ok();
        let broken: Vec<&Value> =
            found["items"].as_array().unwrap().iter().filter(|one| one["ok"] != true).collect();
        assert!(broken.is_empty(), "{broken:#?}");
    }
}

fn options(data: &Path) -> InitOptions {
    InitOptions {
        data: data.to_path_buf(),
        code: "ABC".to_owned(),
        listen: "127.0.0.1:0".to_owned(),
        database: None,
        content: None,
        url: None,
        quota: None,
    }
}

/// Looks until `found` is there; the site does what it decided by itself soon after a commit.
pub(crate) async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut turns = tokio::time::interval(Duration::from_millis(20));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "it never came");
        turns.tick().await;
    }
}

/// Makes two tests of `async fn NAME(site: Site)`: one on SQLite, one on PostgreSQL.
macro_rules! on_both {
    ($($name:ident),*) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::harness::Site::start().await).await;
            })*
        }
        mod on_postgresql {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let database = Some(crate::harness::postgres().await);
                super::$name(crate::harness::Site::on(database).await).await;
            })*
        }
    };
}
pub(crate) use on_both;

/// A database of its own on the tests' PostgreSQL server, for a site that opens it by itself.
pub(crate) async fn postgres() -> String {
    let test = TestDb::postgres().await;
    match &test.location {
        Location::Postgres(url) => url.clone(),
        other => panic!("{other:?}"),
    }
}

/// The program that most tests advertise.
pub(crate) fn go() -> Value {
    json!({"name": "go", "commandLine": "sh go.sh"})
}

/// An advertisement's spec: `hello`'s program `go`, now, for the collection of the same name.
pub(crate) fn advertisement(collection: &str) -> Value {
    json!({
        "package": "hello",
        "program": "go",
        "collection": collection,
        "assignments": [{"name": "first", "at": "now"}],
    })
}

pub(crate) fn document(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "muster/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}
