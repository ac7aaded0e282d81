//! `muster site run`: the process that serves a site.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use muster_host::bind::bind;
use muster_host::clock::Clock;
use muster_host::failpoint::Role;
use muster_host::lock::FolderLock;
use muster_host::objects::open_store;
use muster_host::pki::server_names;
use muster_host::quota::{ByteSize, Quota, folder_bytes};
use muster_host::role::{begin, stop_on_signals};
use muster_host::run_file::RunFile;
use muster_host::serve::{serve, serve_plain};
use muster_host::tls::{ServerCertificate, server_config};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{SiteError, app_error, database, host_of};
use crate::app::component::Components;
use crate::app::device_service::DeviceService;
use crate::app::{App, Identity, Parts};
use crate::folder::{Folder, Keys, SiteConfig};
use crate::store::Db;
use crate::{http, tasks};

/// The name of the running site's file below `run/`.
const RUN_FILE: &str = "site";

/// Where a running site answers: `DATA/run/site.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunningSite {
    /// Its address.
    pub url: String,
    /// Its metrics.
    pub metrics_url: String,
    /// Its process.
    pub pid: u32,
    /// The pin of its CA.
    pub ca_pin: String,
}

/// Runs the site in `data` until SIGTERM. `beside` makes the routes of the device protocol over the
/// site's side of it.
pub async fn run(
    data: impl Into<PathBuf>,
    beside: impl FnOnce(DeviceService) -> Router,
) -> Result<(), SiteError> {
    let clock = begin(Role::Site)?;
    let stop = stop_on_signals()?;
    run_until(data.into(), beside, clock, stop).await
}

/// As [`run`], with the clock and the end in the caller's hands.
pub async fn run_until(
    data: PathBuf,
    beside: impl FnOnce(DeviceService) -> Router,
    clock: Clock,
    stop: CancellationToken,
) -> Result<(), SiteError> {
    let folder = Folder::at(&data);
    let config = folder.config()?;
    let _lock = FolderLock::take(&data, "site run")?;
    let keys = folder.keys()?;
    let host = host_of(&config.url).unwrap_or("localhost").to_owned();
    let identity = keys.ca.issue_server(&server_names(&host), clock.wall())?;
    let renew_at = identity.renew_at;
    let certificate = ServerCertificate::new(identity)?;
    let tls = server_config(&certificate, keys.ca.certificate(), &clock)?;
    let running = RunningSite::of(&config, &keys);
    let (app, room) = open(&folder, &config, keys, &clock, &stop).await?;
    let listener = bind(&config.listen.to_string()).await?;
    let metrics = bind(&config.metrics_listen.to_string()).await?;
    let server = tasks::Server { certificate, host, renew_at };
    let tasks = tasks::start(&app, server, room, &stop);
    let figures = serve_plain(metrics, clock.clone(), http::metrics(&app), stop.clone());
    tasks.spawn(figures);
    tasks.close();
    let router = http::router(&app, beside(DeviceService::new(app.clone())));
    let _run_file = RunFile::publish(&data, RUN_FILE, &running)?;
    tracing::info!(code = config.code, url = config.url, "the site answers");
    serve(listener, tls, clock, router, stop).await;
    tasks.wait().await;
    app.contacts_flush().await.map_err(app_error("write the last contacts"))?;
    app.db.close().await;
    match app.fatal() {
        Some(why) => Err(SiteError::Fatal(why.to_owned())),
        None => Ok(()),
    }
}

impl RunningSite {
    fn of(config: &SiteConfig, keys: &Keys) -> Self {
        Self {
            url: config.url.clone(),
            metrics_url: format!("http://{}/metrics", config.metrics_listen),
            pid: std::process::id(),
            ca_pin: keys.ca.pin().to_string(),
        }
    }
}

/// Opens everything that a site keeps.
async fn open(
    folder: &Folder,
    config: &SiteConfig,
    keys: Keys,
    clock: &Clock,
    stop: &CancellationToken,
) -> Result<(Arc<App>, Option<Room>), SiteError> {
    let content = folder.content(config);
    let content = std::path::absolute(&content).unwrap_or(content);
    let room = Room::of(folder, config, &content)?;
    let quota = room.as_ref().map(|room| room.quota.clone());
    let objects = open_store(&format!("file://{}", content.display()), quota)?;
    let db = Db::open(database(folder, config)).await?;
    let site = db.read().await?.site_load().await?.ok_or(SiteError::DatabaseEmpty)?;
    if site.code != config.code {
        let (folder, database) = (config.code.clone(), site.code);
        return Err(SiteError::DatabaseForeign { folder, database });
    }
    let components = Components::open(folder.path())?;
    let parts = Parts {
        db,
        database: if config.database.is_some() { "postgresql" } else { "sqlite" },
        keys,
        objects,
        clock: clock.clone(),
        identity: Identity { code: site.code, epoch: site.epoch },
        components,
        stop: stop.clone(),
    };
    let app = App::open(parts).await.map_err(app_error("read the site"))?;
    Ok((app, room))
}

/// How much of its quota a site's folder holds. Content is counted as it comes; the rest of the folder
/// (the database first of all) is measured now and then.
pub(crate) struct Room {
    pub(crate) quota: Arc<Quota>,
    /// The folder that is measured.
    pub(crate) folder: PathBuf,
}

impl Room {
    fn of(folder: &Folder, config: &SiteConfig, content: &Path) -> Result<Option<Self>, SiteError> {
        let Some(limit) = config.quota else { return Ok(None) };
        let inside = content.starts_with(folder.path());
        let measured = if inside { folder.path() } else { content };
        let used = if measured.exists() { folder_bytes(measured)? } else { 0 };
        let quota = Arc::new(Quota::new(ByteSize(limit), used));
        Ok(Some(Self { quota, folder: measured.to_path_buf() }))
    }
}
