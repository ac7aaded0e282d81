//! Being a site as a process: making one once ([`init`]), running it ([`run`]).

mod init;
mod run;

use muster_host::bind::BindError;
use muster_host::lock::LockError;
use muster_host::objects::ObjectError;
use muster_host::pki::PkiError;
use muster_host::role::RoleError;
use muster_host::run_file::RunFileError;
use muster_host::tls::TlsError;

pub use self::init::{InitOptions, init};
pub(crate) use self::run::Room;
pub use self::run::{RunningSite, run, run_until};
use crate::app::error::AppError;
use crate::folder::{Folder, FolderError, SiteConfig};
use crate::store::{Options, StoreError};

/// Why a site could not be made or run.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// Its folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Which of its components are paused.
    #[error(transparent)]
    Components(#[from] muster_host::components::ComponentError),
    /// Another process uses the folder.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Its database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database holds a site already.
    #[error("failed to make the site: the database holds site {0} already; give it an empty one")]
    DatabaseTaken(String),
    /// The database holds no site.
    #[error("failed to run the site: its database is empty")]
    DatabaseEmpty,
    /// The database is of another site than the folder.
    #[error("failed to run the site: the folder is of site {folder}, the database of {database}")]
    DatabaseForeign {
        /// The folder's code.
        folder: String,
        /// The database's code.
        database: String,
    },
    /// Its content.
    #[error(transparent)]
    Content(#[from] ObjectError),
    /// The room of its content.
    #[error(transparent)]
    Measure(#[from] muster_host::quota::MeasureError),
    /// Its certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Its address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Its run file.
    #[error(transparent)]
    RunFile(#[from] RunFileError),
    /// Its start as a role.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// A file could not be written.
    #[error(transparent)]
    Publish(#[from] muster_host::publish::PublishError),
    /// The disk failed to keep what it was given; the process must not go on with it.
    #[error("failed to go on: {0}")]
    Fatal(String),
    /// What it keeps in memory could not be read, or something was refused.
    #[error("failed to {0}")]
    App(&'static str, #[source] Box<dyn std::error::Error + Send + Sync>),
}

fn database(folder: &Folder, config: &SiteConfig) -> Options {
    Options { location: folder.database(config), bytes_max: config.quota }
}

/// The host of `https://HOST:PORT/...`.
fn host_of(url: &str) -> Option<&str> {
    let authority = url.strip_prefix("https://")?.split('/').next()?;
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    (!host.is_empty()).then_some(host)
}

fn app<E: std::error::Error + Send + Sync + 'static>(
    what: &'static str,
) -> impl FnOnce(E) -> SiteError {
    move |error| SiteError::App(what, Box::new(error))
}

fn app_error(what: &'static str) -> impl FnOnce(AppError) -> SiteError {
    app(what)
}
