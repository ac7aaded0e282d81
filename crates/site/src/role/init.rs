//! `muster site init`: a site that was not there before.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use muster_host::bind::choose_port;
use muster_host::clock::Clock;
use muster_host::pki::server_names;
use muster_host::publish::durable_publish;
use muster_host::role::RoleError;
use muster_model::collection::{ALL, CollectionSpec};
use muster_model::id::{CollectionId, EpochId, PrincipalId};
use muster_model::name::{Name, NotAName};
use muster_model::object::{Metadata, Object, Spec};
use muster_model::settings::Settings;
use muster_site_core::roles::Principal;
use uuid::Uuid;

use super::{SiteError, app, database, host_of};
use crate::app::draw;
use crate::app::token::principal;
use crate::folder::{
    CONFIG_FORMAT, Folder, FolderError, SiteConfig, check_code, check_content, url_of,
};
use crate::store::{Db, ObjectRow, SiteRow, Subject};

/// The principal of whoever can read the site's own folder.
const LOCAL_ADMIN: &str = "local administrator";

/// What a new site is to be.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// An empty folder, or one that does not exist.
    pub data: PathBuf,
    /// The three-character code.
    pub code: String,
    /// Where to listen; port 0 is chosen once and kept.
    pub listen: String,
    /// A PostgreSQL URL; absent: SQLite in the folder.
    pub database: Option<String>,
    /// `file:///DIR`; absent: a folder in the folder.
    pub content: Option<String>,
    /// The address in certificates and tokens; absent: from `listen`.
    pub url: Option<String>,
    /// The most bytes that the folder may hold.
    pub quota: Option<u64>,
}

/// Makes a site. Refuses a folder or database that holds anything; the configuration is written last,
/// so a folder that has one is whole.
pub async fn init(options: InitOptions) -> Result<SiteConfig, SiteError> {
    let clock = Clock::from_env().map_err(RoleError::from)?;
    let config = plan(&options)?;
    let folder = Folder::at(&options.data);
    folder.make()?;
    let keys =
        folder.make_keys(&config.code, draw::seed().map_err(app("draw keys"))?, clock.wall())?;
    let credential = draw::secret().map_err(app("draw a credential"))?;
    durable_publish(&folder.local_admin(), credential.as_bytes())?;
    let db = Db::open(database(&folder, &config)).await?;
    let filled = fill(&db, &config, &credential, &clock).await;
    db.close().await;
    filled?;
    drop(keys);
    folder.save_config(&config)?;
    Ok(config)
}

/// Checks the options, and chooses what they leave open.
fn plan(options: &InitOptions) -> Result<SiteConfig, SiteError> {
    check_code(&options.code)?;
    if let Some(content) = &options.content {
        check_content(content)?;
    }
    let refused = |allowed| FolderError::Option {
        option: "--listen",
        value: options.listen.clone(),
        allowed,
    };
    let mut listen: SocketAddr = options
        .listen
        .parse()
        .map_err(|_| refused("an address and port, like 0.0.0.0:8443 or [::]:8443"))?;
    if listen.port() == 0 {
        listen.set_port(choose_port(listen.ip())?);
    }
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let metrics_listen = SocketAddr::new(loopback, choose_port(loopback)?);
    let hostname = server_names("localhost").get(1).cloned().unwrap_or("localhost".to_owned());
    let url = match &options.url {
        Some(url) if url.starts_with("https://") && host_of(url).is_some() => {
            url.trim_end_matches('/').to_owned()
        }
        Some(url) => {
            let allowed = "an address like https://muster.example:8443";
            return Err(FolderError::Option { option: "--url", value: url.clone(), allowed }.into());
        }
        None => url_of(listen, &hostname),
    };
    Ok(SiteConfig {
        format: CONFIG_FORMAT,
        code: options.code.clone(),
        listen,
        metrics_listen,
        url,
        database: options.database.clone(),
        content: options.content.clone(),
        quota: options.quota,
    })
}

/// Writes what every site has from its first moment: its row, the collection of all devices, and the
/// administrator who can read its folder.
async fn fill(
    db: &Db,
    config: &SiteConfig,
    credential: &str,
    clock: &Clock,
) -> Result<(), SiteError> {
    let now = clock.wall();
    let mut tx = db.begin().await?;
    let revision = tx.revision_take().await?;
    if let Some(site) = tx.site_load().await? {
        return Err(SiteError::DatabaseTaken(site.code));
    }
    tx.site_insert(&SiteRow {
        code: config.code.clone(),
        epoch: EpochId(Uuid::now_v7()),
        url: config.url.clone(),
        created_at: now,
        settings: Settings::default(),
        settings_version: 0,
        trust_number: 0,
        halted: None,
        halt_version: 0,
    })
    .await?;
    let everyone = Uuid::now_v7();
    let document = everyone_document().map_err(app("name the collection of all devices"))?;
    tx.object_insert(&ObjectRow {
        id: everyone,
        kind: document.kind(),
        name: document.metadata.name.clone(),
        changed: revision,
        document: document.to_value().to_string(),
        set_name: None,
        created_at: now,
        changed_at: now,
        archived_at: None,
    })
    .await?;
    tx.collection_insert(CollectionId(everyone)).await?;
    let id = PrincipalId(Uuid::now_v7());
    let name = Name::new(LOCAL_ADMIN).map_err(app("name the administrator"))?;
    let row = principal(id, Principal::Administrator, name, credential, "site init", now);
    tx.principal_insert(&row).await?;
    tx.change_insert(&[Subject::Site, Subject::Collection(everyone), Subject::Credential(id.0)])
        .await?;
    Ok(tx.commit().await?)
}

fn everyone_document() -> Result<Object, NotAName> {
    let name = Name::new(ALL)?;
    let spec = CollectionSpec {
        parameters: Default::default(),
        members: Vec::new(),
        query: String::new(),
        include: Vec::new(),
        exclude: Vec::new(),
        limit_to: name.clone(),
    };
    let metadata = Metadata { name, labels: Default::default(), formerly: None };
    Ok(Object { metadata, spec: Spec::Collection(spec) })
}
