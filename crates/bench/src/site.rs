//! The site under load, as its folder tells it: address, CA, epoch, database.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_host::clock::Clock;
use muster_host::pki::{Ca, ClientIdentity, PeerKind, server_names};
use muster_host::trust::{Trust, TrustedNow, client_config};
use muster_model::digest::Digest;
use muster_model::id::EpochId;
use muster_model::sign::PrivateKey;
use muster_site::folder::Folder;
use muster_site::store::{Db, Location};
use rustls::ClientConfig;
use uuid::Uuid;

use crate::connection::Target;
use crate::error::BenchError;

/// A site whose folder this process may read.
pub(crate) struct Site {
    location: Location,
    url: String,
    ca: Ca,
    /// Devices address their tickets to it.
    pub(crate) epoch: EpochId,
    /// The clock that the site's process reads, too.
    pub(crate) clock: Clock,
}

impl Site {
    /// Reads the folder; the site may run or not.
    pub(crate) async fn open(data: &Path) -> Result<Self, BenchError> {
        let folder = Folder::at(data);
        let config = folder.config()?;
        let location = folder.database(&config);
        let db = Db::open(location.clone()).await?;
        let row = db.read().await?.site_load().await?;
        db.close().await;
        Ok(Self {
            location,
            url: config.url,
            ca: Ca::load(&folder.keys_dir())?,
            epoch: row.ok_or(BenchError::NoSite)?.epoch,
            clock: Clock::from_env()?,
        })
    }

    /// The database.
    pub(crate) async fn database(&self) -> Result<Db, BenchError> {
        Ok(Db::open(self.location.clone()).await?)
    }

    /// The site as a server: its address, and TLS that shows an access point's certificate, whose
    /// holder may hand on what any device says.
    pub(crate) fn target(&self) -> Result<Target, BenchError> {
        let seed = Digest::of_parts("muster/bench/access-point", &[self.epoch.0.as_bytes()]);
        let key = PrivateKey::from_seed(*seed.as_bytes());
        let id = Uuid::from_u128(1);
        let now = self.clock.wall();
        let issued = self.ca.issue_client(PeerKind::AccessPoint, id, &key.public(), now)?;
        let identity = ClientIdentity::new(&key, issued.certificate);
        Target::new(&self.url, self.tls(Some(identity))?)
    }

    /// Another server on this machine, with a certificate of [`write_certificate`](Self::write_certificate).
    pub(crate) fn other(&self, url: &str) -> Result<Target, BenchError> {
        Target::new(url, self.tls(None)?)
    }

    fn tls(&self, identity: Option<ClientIdentity>) -> Result<ClientConfig, BenchError> {
        let trust = Trust::Ca(self.ca.certificate().clone());
        Ok(client_config(trust, TrustedNow::unknown(), identity)?)
    }

    /// Writes `server.crt` and `server.key` into `dir`, as PEM: the same kind of key and chain that
    /// the site itself serves with.
    pub(crate) fn write_certificate(&self, dir: &Path) -> Result<(), BenchError> {
        let identity = self.ca.issue_server(&server_names("localhost"), self.clock.wall())?;
        let chain: String = identity.chain.iter().map(|one| pem("CERTIFICATE", one)).collect();
        let key = pem("PRIVATE KEY", identity.key.secret_der());
        for (name, text) in [("server.crt", chain), ("server.key", key)] {
            let path = dir.join(name);
            std::fs::write(&path, text).map_err(|source| BenchError::Write { path, source })?;
        }
        Ok(())
    }
}

/// DER as PEM (RFC 7468, section 3), on one line: what reads it here does not mind.
fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}
