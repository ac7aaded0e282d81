//! The site as its devices see it: what stands behind the device protocol.
//!
//! An access point's HTTP face calls it, in this process or, through the network, near the machines.
//! Each method takes what came, unread, and answers a document that is sealed for the device, or why
//! not. A ticket or a signature decides who asks, never the connection; the connection must only be
//! the device's own or an access point's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use muster_host::pki::{Peer, PeerKind};
use muster_model::digest::Digest;
use muster_model::id::DeviceId;
use muster_model::settings::Setting;
use muster_model::sign::Domain;
use muster_model::wire::batch::{Batch, BatchRefused};
use muster_model::wire::device::{Behind, EnrollRequest};
use muster_model::wire::seal::Sealed;
use muster_site_core::account::account;
use muster_site_core::ingest::Reading;
use serde::Serialize;

use super::App;
use super::component::Component;
use super::error::{AppError, Kind, Outcome, Refusal, Tried};
use super::index::Known;
use super::ingest::Ingested;
use super::metrics::Poll;
use super::policy::{SealedPolicy, site_row};
use super::put_back::Heard;
use super::ticket::incarnation_of;

/// Who asks.
#[derive(Clone, Debug, Default)]
pub struct Presented {
    /// The session ticket, as it stood in its header.
    pub ticket: Option<String>,
    /// The certificate of the connection, if it counts now.
    pub peer: Option<Peer>,
}

/// An answer for a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceReply {
    /// A JSON document.
    Document(Bytes),
    /// A JSON document and the tag to present next time.
    Tagged {
        /// Its tag.
        tag: Digest,
        /// The document.
        document: Bytes,
    },
    /// What the device has is the newest.
    NothingNew,
    /// An object's bytes.
    Object(Bytes),
    /// The batch does not follow what the site has.
    Behind(Bytes),
}

/// A refusal for a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRefusal {
    /// The HTTP status.
    pub status: u16,
    /// One word for programs.
    pub kind: &'static str,
    /// The sentence for people.
    pub detail: String,
    /// The limit that was reached.
    pub limit: Option<&'static str>,
}

type Answer = Result<DeviceReply, DeviceRefusal>;

/// The site's side of the device protocol.
#[derive(Clone)]
pub struct DeviceService(Arc<App>);

impl DeviceService {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self(app)
    }

    /// The site's time, sealed for its header.
    pub fn site_time(&self) -> Option<HeaderValue> {
        self.0.time.at(self.0.now())
    }

    /// An identity for a token.
    pub async fn enroll(&self, body: Bytes) -> Answer {
        let request: EnrollRequest = json(&body)?;
        let answer = self.0.enroll(request).await.map_err(told)?;
        self.sealed(Domain::Enrolment, &answer)
    }

    /// A new certificate.
    pub async fn renew(&self, body: Bytes) -> Answer {
        let sealed: Sealed = json(&body)?;
        let answer = self.0.renew(sealed).await.map_err(told)?;
        self.sealed(Domain::Enrolment, &answer)
    }

    /// The policy, if its tag is not `known`; otherwise waits for one up to `wait`, and no longer than
    /// the site's setting says.
    pub async fn policy(&self, who: Presented, known: Option<Digest>, wait: Duration) -> Answer {
        let answer = self.poll(who, known, wait).await;
        self.0.metrics.poll(match &answer {
            Ok(DeviceReply::NothingNew) => Poll::Nothing,
            Ok(_) => Poll::New,
            Err(_) => Poll::Refused,
        });
        answer
    }

    async fn poll(&self, who: Presented, known: Option<Digest>, wait: Duration) -> Answer {
        let app = &self.0;
        let (device, _) = self.admit(&who).await?;
        // A second machine is told that the device is held, like the first one.
        self.heard(&who, device).await?;
        // Held before the tag is looked at, so a change in between wakes it.
        let mut waiter = match wait {
            Duration::ZERO => None,
            _ => app.waiters.hold(device, known),
        };
        if let Some(answer) = self.newer(device, known).await? {
            return Ok(answer);
        }
        // As many polls as the process can hold may be held already: this one comes back sooner.
        let Some(waiter) = waiter.as_mut() else {
            return Ok(DeviceReply::NothingNew);
        };
        let wait = wait.min(app.poll_most(device).await.map_err(told)?);
        let found = waiter.held(wait, || self.newer(device, known)).await?;
        Ok(found.unwrap_or(DeviceReply::NothingNew))
    }

    /// The policy, if it is another than the device has.
    async fn newer(
        &self,
        device: DeviceId,
        known: Option<Digest>,
    ) -> Result<Option<DeviceReply>, DeviceRefusal> {
        let app = &self.0;
        let held = if app.is_fresh() { app.index.tag(device) } else { None };
        if let (Some((tag, revision)), Some(known)) = (held, known)
            && tag == known
        {
            app.contacts.note(device, app.now(), Some((tag, revision)));
            return Ok(None);
        }
        let found = app.policy(device, held.map(|(tag, _)| tag)).await.map_err(told)?;
        let SealedPolicy { tag, revision, document } = found;
        let is_known = known == Some(tag);
        app.contacts.note(device, app.now(), is_known.then_some((tag, revision)));
        if is_known {
            return Ok(None);
        }
        Ok(Some(DeviceReply::Tagged { tag, document }))
    }

    /// Takes a batch; answers a receipt for what is committed.
    pub async fn messages(&self, who: Presented, body: Bytes) -> Answer {
        let app = &self.0;
        let (device, known) = self.admit(&who).await?;
        app.contacts.note(device, app.now(), None);
        if app.components.is_paused(Component::StatusMessages) {
            let detail = "the site takes no messages while the component is paused; try again";
            return Err(refusal(503, "paused", detail));
        }
        let batch = Batch::decode(&body).map_err(|why| batch_refused(&why))?;
        if batch.header.device != device {
            let detail = "the batch is of another device than the ticket";
            return Err(refusal(403, "other-device", detail));
        }
        let chains = batch.verify(&known.key).map_err(|why| batch_refused(&why))?;
        let reading = Reading::new(batch, chains);
        let heard = app.device_says(device, reading.header.incarnation).await.map_err(told)?;
        if heard == Heard::Watched {
            return Err(watched());
        }
        app.open_reported(&reading).await.map_err(told)?;
        let doubted = app.index.lives(device).map(|_| reading.clone());
        let ingested = app.committer.take(reading, body).await.map_err(told)?;
        match ingested {
            Ingested::Taken(stream) => {
                if let Some(reading) = doubted {
                    app.device_went_on(&reading).await.map_err(told)?;
                }
                self.sealed(Domain::Receipt, &stream.receipt(app.identity.epoch))
            }
            Ingested::Behind(through) => {
                let behind = Behind { epoch: app.identity.epoch, through };
                Ok(DeviceReply::Behind(write(&behind)?))
            }
            Ingested::Forked(reading) => {
                if let Err(error) = app.device_forked(&reading).await {
                    tracing::error!(error = &error as &dyn std::error::Error, "device not held");
                }
                Err(forked())
            }
            Ingested::Watched => Err(watched()),
            Ingested::UnknownIncarnation { said, granted } => {
                let detail = format!(
                    "incarnation {said} was never handed out, only up to {granted}, or refused"
                );
                Err(refusal(422, "unknown-incarnation", detail))
            }
            Ingested::UnknownDevice => Err(unknown_device()),
        }
    }

    /// The account of the device: what it is given back when it lost its memory.
    pub async fn account(&self, who: Presented) -> Answer {
        let app = &self.0;
        let (device, _) = self.admit(&who).await?;
        match self.heard(&who, device).await? {
            Heard::Speaks => {}
            Heard::Watched => return Err(watched()),
            Heard::Doubted => return Err(forked()),
        }
        let read = async {
            let mut read = app.db.read().await?;
            let rows = read.obligation_list_device(device).await?;
            let found = read.device_load(device).await?;
            Outcome::Ok((rows, found))
        };
        let (rows, found) = read.await.map_err(told)?;
        let found = found.ok_or_else(unknown_device)?;
        // For the life that asks: its first messages may be still on their way.
        let asking = who.ticket.as_deref().and_then(incarnation_of);
        let (incarnation, epoch) = (asking.unwrap_or(found.incarnation), app.identity.epoch);
        self.sealed(Domain::Account, &account(device, incarnation, epoch, &rows))
    }

    /// An object that a package needs.
    pub async fn content(&self, who: Presented, digest: Digest) -> Answer {
        self.admit(&who).await?;
        let bytes = self.0.object_get(digest).await.map_err(told)?;
        self.0.metrics.content(bytes.len());
        Ok(DeviceReply::Object(bytes))
    }

    /// A trust document, as its publishers signed it.
    pub async fn trust(&self, who: Presented, number: u64) -> Answer {
        self.admit(&who).await?;
        let document = self.0.trust_document(number).await.map_err(told)?;
        Ok(DeviceReply::Document(document.into()))
    }

    /// The device that asks: its ticket is good, it belongs here, and the connection is its own or an
    /// access point's.
    async fn admit(&self, who: &Presented) -> Result<(DeviceId, Known), DeviceRefusal> {
        let app = &self.0;
        if !app.is_fresh() {
            app.follow_newest().await.map_err(told)?;
        }
        let key = |id| app.index.device(id).map(|known| known.key);
        let ticket = who.ticket.as_deref();
        let checked = app.tickets.check(ticket, app.identity.epoch, app.now(), key);
        let device = checked.map_err(|why| refusal(401, "ticket", why.to_string()))?;
        let known = app.index.device(device).ok_or_else(unknown_device)?;
        if known.is_retired {
            let detail = "the device was retired";
            return Err(refusal(403, "retired", detail));
        }
        match &who.peer {
            Some(peer) if peer.kind == PeerKind::AccessPoint => Ok((device, known)),
            Some(peer) if peer.device() == Some(device) => Ok((device, known)),
            _ => {
                let detail = "the connection is neither the device's own nor an access point's";
                Err(refusal(401, "connection", detail))
            }
        }
    }

    /// What is made of the life of its memory in which a device asks, as its ticket says, which is good.
    async fn heard(&self, who: &Presented, device: DeviceId) -> Result<Heard, DeviceRefusal> {
        match who.ticket.as_deref().and_then(incarnation_of) {
            Some(life) => self.0.device_asks(device, life).await.map_err(told),
            None => Ok(Heard::Speaks),
        }
    }

    fn sealed<T: Serialize>(&self, domain: Domain, document: &T) -> Answer {
        let sealed = Sealed::seal(&self.0.keys.signing, domain, document);
        let sealed = sealed.tried("seal an answer").map_err(told)?;
        Ok(DeviceReply::Document(write(&sealed)?))
    }
}

impl App {
    /// The longest time that a poll is held.
    pub(super) async fn poll_wait(&self) -> Outcome<Duration> {
        let version = self.index.settings_version();
        if let Some(wait) = self.poll_waits.get(version) {
            return Ok(wait);
        }
        let mut read = self.db.read().await?;
        let site = site_row(&mut read).await?;
        let wait = site.settings.get(Setting::PollWait).duration();
        self.poll_waits.put(site.settings_version, wait);
        Ok(wait)
    }
}

/// The setting `pollWait`, by the version of the settings.
#[derive(Default)]
pub(crate) struct PollWait(std::sync::Mutex<Option<(u64, Duration)>>);

impl PollWait {
    fn get(&self, version: u64) -> Option<Duration> {
        let held = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        held.filter(|(of, _)| *of == version).map(|(_, wait)| wait)
    }

    fn put(&self, version: u64, wait: Duration) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some((version, wait));
    }
}

fn json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, DeviceRefusal> {
    serde_json::from_slice(body).map_err(|why| refusal(400, "malformed", why.to_string()))
}

fn write<T: Serialize>(document: &T) -> Result<Bytes, DeviceRefusal> {
    serde_json::to_vec(document).map(Bytes::from).tried("write an answer").map_err(told)
}

fn refusal(status: u16, kind: &'static str, detail: impl Into<String>) -> DeviceRefusal {
    DeviceRefusal { status, kind, detail: detail.into(), limit: None }
}

fn forked() -> DeviceRefusal {
    let detail = "the site has another history of this stream; the device is held";
    refusal(422, "forked", detail)
}

fn watched() -> DeviceRefusal {
    let detail = "the device looks put back to a snapshot, and its word is taken once no older life \
                  of it has spoken for a while; try again";
    refusal(503, "watched", detail)
}

fn unknown_device() -> DeviceRefusal {
    refusal(403, "unknown-device", "the site does not know the device")
}

fn batch_refused(why: &BatchRefused) -> DeviceRefusal {
    let detail = why.to_string();
    match why {
        BatchRefused::TooManyBytes(_) => {
            DeviceRefusal { limit: Some("BATCH_BYTES_MAX"), ..refusal(413, "limit", detail) }
        }
        BatchRefused::TooManyMessages => {
            DeviceRefusal { limit: Some("BATCH_MESSAGES_MAX"), ..refusal(413, "limit", detail) }
        }
        BatchRefused::Signature => refusal(403, "signature", detail),
        _ => refusal(400, "malformed", detail),
    }
}

/// What a device is told of an error of ours.
fn told(error: AppError) -> DeviceRefusal {
    match error {
        AppError::Refused(why) => {
            let Refusal { kind, detail, limit, .. } = *why;
            let (status, kind) = match kind {
                Kind::Unauthorised => (401, "unauthorised"),
                Kind::Forbidden => (403, "forbidden"),
                Kind::NotFound => (404, "not-found"),
                Kind::Ambiguous | Kind::Conflict | Kind::Stale => (422, "conflict"),
                Kind::Invalid => (400, "malformed"),
                Kind::Limit => (413, "limit"),
                Kind::Busy => (503, "busy"),
                Kind::Full => (507, "disk-full"),
            };
            DeviceRefusal { status, kind, detail, limit }
        }
        AppError::Store(error) if error.is_disk_full() => {
            refusal(507, "disk-full", "the site has no room left")
        }
        error => {
            tracing::error!(error = &error as &dyn std::error::Error, "a device was not answered");
            refusal(503, "busy", "the site could not answer; try again")
        }
    }
}
