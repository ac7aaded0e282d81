//! Why a run was given up.

use std::path::PathBuf;

use http::StatusCode;

/// A run that brought no figure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// The site's folder could not be read.
    #[error("failed to read the site's folder")]
    Folder(#[from] muster_site::folder::FolderError),
    /// The site's database could not be opened, read or written.
    #[error("failed to use the site's database")]
    Store(#[from] muster_site::store::StoreError),
    /// `init` has not filled the site's database.
    #[error("the site's database holds no site")]
    NoSite,
    /// The clock could not be read.
    #[error("failed to set up the clock")]
    Clock(#[from] muster_host::clock::ClockError),
    /// A certificate could not be made.
    #[error("failed to issue a certificate")]
    Pki(#[from] muster_host::pki::PkiError),
    /// TLS could not be set up.
    #[error("failed to set up TLS")]
    Tls(#[from] muster_host::tls::TlsError),
    /// An address that nobody can connect to.
    #[error("failed to take {0} for an https address with host, port and path")]
    Url(String),
    /// No connection.
    #[error("failed to connect to {address}")]
    Connect {
        /// Where to.
        address: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A connection that broke, or an answer that is no HTTP.
    #[error("failed to get an answer from {address}")]
    Ask {
        /// From where.
        address: String,
        /// Why not.
        #[source]
        source: hyper::Error,
    },
    /// A value that cannot stand in a header.
    #[error("failed to put a value into the header {0}")]
    Header(&'static str),
    /// Another answer than the one that is measured.
    #[error("{address} answered {status} instead of {expected}: {body}")]
    Answer {
        /// Who.
        address: String,
        /// What.
        status: StatusCode,
        /// What the run measures.
        expected: StatusCode,
        /// What it said.
        body: String,
    },
    /// An answer with the right status that says something else.
    #[error("{address} answered {found}, expected {expected}")]
    Content {
        /// Who.
        address: String,
        /// What it said.
        found: String,
        /// What a site says.
        expected: &'static str,
    },
    /// A document could not be written as JSON.
    #[error("failed to write a document")]
    Json(#[from] serde_json::Error),
    /// A task of the generator ended early.
    #[error("a task of the generator ended early")]
    Task(#[from] tokio::task::JoinError),
    /// A process that is not there to be measured.
    #[error("failed to read the CPU time of process {pid}")]
    Process {
        /// Which.
        pid: u32,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("failed to write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A SQLite file could not be read or written.
    #[error("failed to use {path}")]
    Sqlite {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
    /// Nothing to do: a range without devices, or no advertisement to report about.
    #[error("nothing to measure: {0}")]
    Empty(&'static str),
}
