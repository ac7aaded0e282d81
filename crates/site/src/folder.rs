//! A site's folder: what `site init` makes once and `site run` finds.
//!
//! ```text
//! DATA/site.json     what was decided at init (SiteConfig); written last: with it the site is there
//! DATA/keys/         0700: ca.key, ca.crt, signing.key, local-admin
//! DATA/site.db       the database, unless it is PostgreSQL
//! DATA/content/      objects by digest, unless they are elsewhere
//! DATA/run/site.json where the running site answers
//! DATA/lock          held while it runs
//! ```
//!
//! Knows files and keys; makes no decision about the site itself.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use muster_host::pki::{Ca, PkiError};
use muster_host::publish::{
    PublishError, ReadError, create_private_dir, durable_publish, read_limited, read_private,
};
use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::sign::PrivateKey;
use serde::{Deserialize, Serialize};

use crate::store::{Location, SQLITE_FILE};

/// The version of `site.json`.
pub const CONFIG_FORMAT: u32 = 1;
/// Bytes of a configuration or key file that are read at most.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Characters of a site code.
const CODE_CHARS: usize = 3;

/// What was decided at `init`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SiteConfig {
    /// [`CONFIG_FORMAT`].
    pub format: u32,
    /// The three-character code.
    pub code: String,
    /// Where devices and people reach the site; the port is a real one.
    pub listen: SocketAddr,
    /// Where `/metrics` is served.
    pub metrics_listen: SocketAddr,
    /// The address put into certificates and tokens.
    pub url: String,
    /// A PostgreSQL URL; absent: SQLite in the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// `file:///DIR`; absent: `content` in the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The most bytes that the folder may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
}

/// Why a folder cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Something is there already.
    #[error("failed to make a site in {0}: the folder is not empty")]
    NotEmpty(PathBuf),
    /// There is no site in it.
    #[error(
        "failed to open the site in {0}: it holds no site.json; `muster site init` makes a site"
    )]
    NoSite(PathBuf),
    /// The configuration is not one that this version reads.
    #[error("failed to read {path}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A newer version has written it.
    #[error("failed to read {path}: it has format {found}, this version reads {CONFIG_FORMAT}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// An option that makes no sense.
    #[error("{option} is {value:?}: {allowed}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A folder could not be listed or made.
    #[error("failed to {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A key file does not hold a key.
    #[error("failed to read the key {0}: it is not 64 hex digits")]
    Key(PathBuf),
    /// A file could not be written.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The CA could not be made or read.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// The keys of a site.
pub struct Keys {
    /// The CA.
    pub ca: Ca,
    /// What policies, receipts and the time are signed with.
    pub signing: PrivateKey,
}

/// The folder of a site.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder at `data`, whatever is in it.
    pub fn at(data: impl Into<PathBuf>) -> Self {
        Self(data.into())
    }

    /// The path itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where keys lie.
    pub fn keys_dir(&self) -> PathBuf {
        self.0.join("keys")
    }

    /// Where the credential of the site's own administrator lies.
    pub fn local_admin(&self) -> PathBuf {
        self.keys_dir().join("local-admin")
    }

    fn config_path(&self) -> PathBuf {
        self.0.join("site.json")
    }

    fn signing_path(&self) -> PathBuf {
        self.keys_dir().join("signing.key")
    }

    /// Makes the folder, private to its owner; refuses one that holds anything. An empty one keeps its
    /// mode.
    pub fn make(&self) -> Result<(), FolderError> {
        let io = |what| move |source| FolderError::Io { what, path: self.0.clone(), source };
        match std::fs::read_dir(&self.0) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(FolderError::NotEmpty(self.0.clone()));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io("list the folder")(error)),
        }
        create_private_dir(&self.keys_dir())?;
        Ok(())
    }

    /// Writes the configuration. Durable on return; the last step of `init`.
    pub fn save_config(&self, config: &SiteConfig) -> Result<(), FolderError> {
        let path = self.config_path();
        let text = serde_json::to_vec_pretty(config)
            .map_err(|source| FolderError::Config { path: path.clone(), source })?;
        Ok(durable_publish(&path, &text)?)
    }

    /// Reads the configuration.
    pub fn config(&self) -> Result<SiteConfig, FolderError> {
        let path = self.config_path();
        if !path.exists() {
            return Err(FolderError::NoSite(self.0.clone()));
        }
        let bytes = read_limited(&path, FILE_BYTES_MAX)?;
        let config: SiteConfig = serde_json::from_slice(&bytes)
            .map_err(|source| FolderError::Config { path: path.clone(), source })?;
        if config.format > CONFIG_FORMAT {
            return Err(FolderError::Format { path, found: config.format });
        }
        Ok(config)
    }

    /// Makes and saves the keys. `seed` is fresh randomness for the signing key.
    pub fn make_keys(&self, code: &str, seed: [u8; 32], now: Wall) -> Result<Keys, FolderError> {
        let ca = Ca::create(code, now)?;
        ca.save(&self.keys_dir())?;
        let signing = PrivateKey::from_seed(seed);
        durable_publish(&self.signing_path(), hex::encode(signing.seed()).as_bytes())?;
        Ok(Keys { ca, signing })
    }

    /// Reads the keys; refuses files that others can read.
    pub fn keys(&self) -> Result<Keys, FolderError> {
        let ca = Ca::load(&self.keys_dir())?;
        let path = self.signing_path();
        let text = read_private(&path, FILE_BYTES_MAX)?;
        let mut seed = [0; 32];
        hex::decode_to_slice(text.trim_ascii(), &mut seed).map_err(|_| FolderError::Key(path))?;
        Ok(Keys { ca, signing: PrivateKey::from_seed(seed) })
    }

    /// Where the site keeps its rows.
    pub fn database(&self, config: &SiteConfig) -> Location {
        match &config.database {
            Some(url) => Location::Postgres(url.clone()),
            None => Location::Sqlite(self.0.join(SQLITE_FILE)),
        }
    }

    /// Where the site keeps content.
    pub fn content(&self, config: &SiteConfig) -> PathBuf {
        let named = config.content.as_deref().and_then(|url| url.strip_prefix("file://"));
        named.map_or_else(|| self.0.join("content"), PathBuf::from)
    }
}

/// How `muster login --data` lets in who can read the site's own folder.
#[derive(Clone, Debug)]
pub struct LocalCredential {
    /// Where the running site answers, or will.
    pub url: String,
    /// The pin of its CA.
    pub ca_pin: Digest,
    /// The site's code.
    pub code: String,
    /// The credential of the site's own administrator.
    pub credential: String,
}

/// Reads what `muster login --data` needs.
pub fn local_credential(data: &Path) -> Result<LocalCredential, FolderError> {
    let folder = Folder::at(data);
    let config = folder.config()?;
    let credential = read_private(&folder.local_admin(), FILE_BYTES_MAX)?;
    let credential = String::from_utf8_lossy(credential.trim_ascii()).into_owned();
    let ca_pin = Ca::load(&folder.keys_dir())?.pin();
    Ok(LocalCredential { url: config.url, ca_pin, code: config.code, credential })
}

/// Checks a site code: three capital letters or digits.
pub fn check_code(code: &str) -> Result<(), FolderError> {
    let fits = code.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    if fits && code.len() == CODE_CHARS {
        return Ok(());
    }
    let allowed = "a site code has exactly three characters, A to Z and 0 to 9";
    Err(FolderError::Option { option: "--code", value: code.to_owned(), allowed })
}

/// Checks where content is to be kept.
pub fn check_content(url: &str) -> Result<(), FolderError> {
    match url.strip_prefix("file://") {
        Some(path) if path.starts_with('/') => Ok(()),
        _ => Err(FolderError::Option {
            option: "--content",
            value: url.to_owned(),
            allowed: "this version keeps content in a folder: file:///DIR",
        }),
    }
}

/// The address of a site that listens on `listen`: the address itself, or this machine's name where
/// it listens on every address.
pub fn url_of(listen: SocketAddr, hostname: &str) -> String {
    let host = match listen.ip() {
        ip if ip.is_unspecified() => hostname.to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    format!("https://{host}:{}", listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_holds_anything_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::at(temp.path().join("site"));
        folder.make().unwrap();
        assert!(matches!(folder.make(), Err(FolderError::NotEmpty(_))));
        assert!(matches!(folder.config(), Err(FolderError::NoSite(_))));
    }

    #[test]
    fn keys_read_back_and_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::at(temp.path().join("site"));
        folder.make().unwrap();
        let made = folder.make_keys("ABC", [5; 32], Wall(1_700_000_000_000)).unwrap();
        let read = folder.keys().unwrap();
        assert_eq!(read.ca.pin(), made.ca.pin());
        assert_eq!(read.signing.public(), made.signing.public());
        let mode = folder.signing_path().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::set_permissions(folder.signing_path(), PermissionsExt::from_mode(0o644)).unwrap();
        assert!(folder.keys().is_err());
    }

    #[test]
    fn codes_and_addresses() {
        check_code("A1C").unwrap();
        for bad in ["", "AB", "ABCD", "abc", "A-C", "ÄBC"] {
            assert!(check_code(bad).is_err(), "{bad}");
        }
        let url = |listen: &str| url_of(listen.parse().unwrap(), "host.example");
        assert_eq!(url("127.0.0.1:8443"), "https://127.0.0.1:8443");
        assert_eq!(url("[::1]:8443"), "https://[::1]:8443");
        assert_eq!(url("0.0.0.0:8443"), "https://host.example:8443");
    }
}
