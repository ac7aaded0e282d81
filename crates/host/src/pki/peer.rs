//! Who is at the other end, as its certificate says. The chain was checked by TLS before.

use muster_model::clock::Wall;
use muster_model::id::{DeviceId, PrincipalId};
use muster_model::sign::PublicKey;
use rustls::pki_types::CertificateDer;
use uuid::Uuid;
use x509_parser::x509::X509Name;

use super::identity::key_of;
use super::{PkiError, Serial, life_of, parse, renew_at};

/// The kinds of holders of client certificates.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PeerKind {
    /// A managed machine.
    Device,
    /// A relay near the machines.
    AccessPoint,
    /// One more process of the site.
    SiteProcess,
}

impl PeerKind {
    const ALL: [PeerKind; 3] = [PeerKind::Device, PeerKind::AccessPoint, PeerKind::SiteProcess];

    /// The organizational unit in the certificate.
    pub(super) fn unit(self) -> &'static str {
        match self {
            PeerKind::Device => "device",
            PeerKind::AccessPoint => "access-point",
            PeerKind::SiteProcess => "site-process",
        }
    }
}

/// The holder of a client certificate that leads to the site's CA.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// What it is.
    pub kind: PeerKind,
    /// Who it is.
    pub id: Uuid,
    /// Its public key.
    pub key: PublicKey,
    /// The serial number of the certificate it showed.
    pub serial: Serial,
    /// The first instant of the certificate's life.
    pub not_before: Wall,
    /// The last instant of the certificate's life.
    pub not_after: Wall,
}

/// Where an instant lies to a certificate's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Validity {
    /// Before it: the clock that issued it was ahead of the one that judges.
    NotYet,
    /// Within it.
    Current,
    /// After it.
    Expired,
}

impl Peer {
    /// The device's id, if it is a device.
    pub fn device(&self) -> Option<DeviceId> {
        (self.kind == PeerKind::Device).then_some(DeviceId(self.id))
    }

    /// The access point's id, if it is one.
    pub fn access_point(&self) -> Option<PrincipalId> {
        (self.kind == PeerKind::AccessPoint).then_some(PrincipalId(self.id))
    }

    /// How the certificate stands at `at`.
    pub fn validity(&self, at: Wall) -> Validity {
        match () {
            () if at < self.not_before => Validity::NotYet,
            () if at > self.not_after => Validity::Expired,
            () => Validity::Current,
        }
    }

    /// When the holder is to ask for the next certificate.
    pub fn renew_at(&self) -> Wall {
        renew_at(self.not_before, self.not_after)
    }
}

/// Reads who a client certificate of ours speaks for. Does not verify it.
pub fn peer_identity(certificate: &CertificateDer<'_>) -> Result<Peer, PkiError> {
    let parsed = parse(certificate)?;
    let unit = unit_of(parsed.subject());
    let kind = PeerKind::ALL.into_iter().find(|kind| Some(kind.unit()) == unit);
    let id = common_name_of(parsed.subject()).and_then(|name| name.parse().ok());
    let (not_before, not_after) = life_of(certificate)?;
    Ok(Peer {
        kind: kind.ok_or(PkiError::Certificate("its unit is no kind of client"))?,
        id: id.ok_or(PkiError::Certificate("its common name is no id"))?,
        key: key_of(parsed.public_key().raw)
            .ok_or(PkiError::Certificate("its key is not Ed25519"))?,
        serial: parsed
            .raw_serial()
            .try_into()
            .map(Serial)
            .map_err(|_| PkiError::Certificate("its serial number has not 16 bytes"))?,
        not_before,
        not_after,
    })
}

/// The only organizational unit of a name.
pub(super) fn unit_of<'a>(name: &'a X509Name<'_>) -> Option<&'a str> {
    let mut units = name.iter_organizational_unit();
    let only = units.next()?;
    units.next().is_none().then(|| only.as_str().ok()).flatten()
}

fn common_name_of<'a>(name: &'a X509Name<'_>) -> Option<&'a str> {
    let mut names = name.iter_common_name();
    let only = names.next()?;
    names.next().is_none().then(|| only.as_str().ok()).flatten()
}
