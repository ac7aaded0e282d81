//! The device's side of the device protocol: asks, checks signatures, answers in the words of the
//! machine.
//!
//! Talks to the one URL that the device was enrolled with; follows no redirect. What the site says is
//! believed because of its signature, whoever brings it; what the device says carries a ticket that it
//! signs once an hour. Decides nothing and keeps nothing: the driver hands each answer to the machine.

mod deliver;
mod enrol;
mod poll;
mod renew;
mod time;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use muster_host::client::{self, ClientError, Timeouts};
use muster_host::tls::TlsError;
use muster_host::trust::{Trust, TrustedNow, client_config};
use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{DeviceId, EpochId, Incarnation};
use muster_model::settings::{Setting, Settings};
use muster_model::sign::{Domain, PrivateKey, PublicKey};
use muster_model::wire::device::{SiteTime, Ticket};
use muster_model::wire::seal::{SealRefused, Sealed};
use muster_model::wire::{header, path};
use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, Response, StatusCode};
use tokio::sync::Notify;

use crate::contents::{FetchError, ObjectSource};
use crate::identity::{Enrolment, Identity, IdentityError};
use crate::trust_store::{TrustError, TrustStore};
pub use enrol::ask_for_identity;
pub use time::TrustedClock;

/// How long it may take to connect.
const CONNECT_MOST: Duration = Duration::from_secs(10);
/// How long the next bytes of any answer may take: more than the longest poll is held. That the other
/// end is gone is noticed within a minute, by pings.
const READ_MOST: Duration = Duration::from_secs(62 * 60);
/// How long a request that is not held may take in all.
const ANSWER_MOST: Duration = Duration::from_secs(60);
/// How long an object may take in all: the largest at 256 KiB/s.
const OBJECT_MOST: Duration = Duration::from_secs(5 * 60);
/// A ticket is sealed anew when less than this part of its life is left: clocks of two machines differ.
const TICKET_RENEWED_AT: u32 = 4;
/// Sealed documents that are small: receipts, problems, trust documents, answers to a renewal.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// Before the end of every certificate: at this time nothing has expired.
const UNDATED: Wall = Wall(0);

/// A question to the site that has no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// No answer, or a refusal.
    #[error("failed to ask the site")]
    Client(#[from] ClientError),
    /// It took too long.
    #[error("failed to ask the site: no answer within {0:?}")]
    TooSlow(Duration),
    /// TLS could not be set up.
    #[error("failed to set up TLS")]
    Tls(#[from] TlsError),
    /// A document is not signed by the site, or cannot be read.
    #[error("failed to believe {what}")]
    Seal {
        /// Which document.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: SealRefused,
    },
    /// A document could not be encoded.
    #[error("failed to encode {what}")]
    Encode {
        /// Which document.
        what: &'static str,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
    /// The identity cannot be used.
    #[error("failed to use the identity")]
    Identity(#[from] IdentityError),
    /// A trust document could not be taken.
    #[error("failed to take a trust document")]
    Trust(#[from] TrustError),
    /// A certificate in an answer is not base64.
    #[error("failed to read {what}: it is not base64")]
    Base64 {
        /// Which one.
        what: &'static str,
        /// What does not fit.
        #[source]
        source: base64::DecodeError,
    },
}

impl TransportError {
    /// Whether the process has to end: what was to be kept before acting may be lost.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Trust(TrustError::Save(error)) | Self::Identity(IdentityError::Save(error)) => {
                error.is_fatal()
            }
            _ => false,
        }
    }

    /// The status of the site's refusal; `None` if it was not reached.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Client(error) => error.problem().map(|problem| problem.status),
            _ => None,
        }
    }
}

/// The way to the site. Clones share everything.
#[derive(Clone, Debug)]
pub struct Transport(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    url: String,
    key: PrivateKey,
    device: DeviceId,
    time: TrustedClock,
    trust: TrustStore,
    /// The device's own settings, over the site's.
    own: Settings,
    now: Mutex<Current>,
    /// Told when renewal may have become due: trusted time is known, or the site's key is doubted.
    stirred: Notify,
}

/// What a renewal, a new epoch or a new policy changes.
#[derive(Debug)]
struct Current {
    client: reqwest::Client,
    signing: PublicKey,
    epoch: EpochId,
    incarnation: Incarnation,
    ticket_life: Duration,
    ticket: Option<(String, Wall)>,
    /// The newest trust document that a policy named.
    trust_number: u64,
    /// A signature did not fit: perhaps the site has replaced its signing key.
    doubted: bool,
}

impl Transport {
    /// The way to the site of `identity`.
    pub fn new(
        identity: &Identity,
        enrolment: &Enrolment,
        trust: TrustStore,
        time: TrustedClock,
        own: Settings,
    ) -> Result<Self, TransportError> {
        let key = identity.key()?;
        // The site vouched for it when it was stored with the identity. A start must not fail for its
        // date: a clock may be decades ahead, a device off for years. If it has expired, it is renewed.
        let at = time.trusted().unwrap_or(UNDATED);
        let (signing, doubted) = match enrolment.signing_key(at) {
            Ok(signing) => (signing, false),
            Err(_) => (enrolment.signing_key(UNDATED)?, true),
        };
        let current = Current {
            client: client_of(&key, enrolment, &time)?,
            signing,
            epoch: enrolment.epoch,
            incarnation: enrolment.incarnation,
            ticket_life: own.get(Setting::TicketLife).duration(),
            ticket: None,
            trust_number: 0,
            doubted,
        };
        Ok(Self(Arc::new(Shared {
            url: identity.site_url.trim_end_matches('/').to_owned(),
            key,
            device: enrolment.device,
            time,
            trust,
            own,
            now: Mutex::new(current),
            stirred: Notify::new(),
        })))
    }

    /// The device's key, for batches.
    pub fn key(&self) -> &PrivateKey {
        &self.0.key
    }

    /// Trusted time, as the site's word and the boot clock tell it.
    pub fn time(&self) -> &TrustedClock {
        &self.0.time
    }

    async fn object(&self, digest: Digest, max: usize) -> Result<Bytes, TransportError> {
        let url = self.url(&format!("{}/{digest}", path::CONTENT));
        within(OBJECT_MOST, async {
            let (response, _) = self.ask(|client| client.get(&url)).await?;
            Ok(client::read_body(answered(response).await?, max).await?)
        })
        .await
    }

    /// Sends a request with the ticket. An answer that says that the ticket is not good is answered by a
    /// new one, once. Whatever the status is, the site's signed time in the answer is learnt.
    async fn ask(
        &self,
        request: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<(Response, Option<Wall>), TransportError> {
        let mut tries = 0;
        loop {
            let ticket = self.ticket()?;
            let client = self.current().client.clone();
            let sent = request(&client).header(header::TICKET, ticket).send().await;
            let response = sent.map_err(|source| ClientError::Send {
                url: source.url().map_or_else(String::new, ToString::to_string),
                source: source.without_url(),
            })?;
            let told = self.told_time(response.headers());
            tries += 1;
            if response.status() != StatusCode::UNAUTHORIZED || tries > 1 {
                return Ok((response, told.map(|told| told.time)));
            }
            let refused = client::refusal(response).await;
            if refused.problem().is_none_or(|problem| problem.name() != "ticket") {
                return Err(refused.into());
            }
            let mut current = self.current();
            current.ticket = None;
            if let Some(told) = told {
                current.epoch = told.epoch;
            }
        }
    }

    /// The site's time in an answer, if the site signed it; trusted time moves with it.
    fn told_time(&self, headers: &HeaderMap) -> Option<SiteTime> {
        let sealed = Sealed::from_header(headers.get(header::SITE_TIME)?.to_str().ok()?).ok()?;
        let told = sealed.open::<SiteTime>(&self.current().signing, Domain::SiteTime).ok()?;
        if self.0.time.learn(told.time) {
            self.0.stirred.notify_one();
        }
        Some(told)
    }

    /// The ticket in use, or a new one.
    fn ticket(&self) -> Result<String, TransportError> {
        let at = self.0.time.wall();
        let mut current = self.current();
        let spare = current.ticket_life / TICKET_RENEWED_AT;
        if let Some((ticket, expires)) = &current.ticket
            && at.plus(spare) < *expires
        {
            return Ok(ticket.clone());
        }
        let expires = at.plus(current.ticket_life);
        let (device, epoch, incarnation) = (self.0.device, current.epoch, current.incarnation);
        let ticket = Ticket { device, incarnation, epoch, expires };
        let sealed = Sealed::seal(&self.0.key, Domain::Ticket, &ticket)
            .map_err(|source| TransportError::Encode { what: "the ticket", source })?
            .to_header();
        current.ticket = Some((sealed.clone(), expires));
        Ok(sealed)
    }

    fn open<T: serde::de::DeserializeOwned>(
        &self,
        sealed: &Sealed,
        domain: Domain,
        what: &'static str,
    ) -> Result<T, TransportError> {
        let signing = self.current().signing;
        sealed.open(&signing, domain).map_err(|source| {
            if matches!(source, SealRefused::Signature(_)) {
                self.current().doubted = true;
                self.0.stirred.notify_one();
            }
            TransportError::Seal { what, source }
        })
    }

    /// Waits until renewal may have become due.
    pub(crate) async fn stirred(&self) {
        self.0.stirred.notified().await;
    }

    /// Whether a document bore a signature that is not the site's; the doubt is laid to rest.
    pub(crate) fn take_doubt(&self) -> bool {
        std::mem::take(&mut self.current().doubted)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.0.url)
    }

    /// Nothing is awaited while it is locked.
    fn current(&self) -> MutexGuard<'_, Current> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ObjectSource for Transport {
    async fn get(&self, digest: Digest, max: usize) -> Result<Vec<u8>, FetchError> {
        self.object(digest, max).await.map(Into::into).map_err(|error| match error {
            TransportError::Client(ClientError::TooLarge { .. }) => FetchError::TooLarge,
            error if error.status() == Some(404) => FetchError::NotFound(crate::chain_of(&error)),
            error => FetchError::Unavailable(crate::chain_of(&error)),
        })
    }
}

fn client_of(
    key: &PrivateKey,
    enrolment: &Enrolment,
    time: &TrustedClock,
) -> Result<reqwest::Client, TransportError> {
    let time = time.clone();
    let now = TrustedNow::new(move || time.trusted());
    let (trust, identity) = (Trust::Ca(enrolment.ca.certificate()), enrolment.client_identity(key));
    let tls = client_config(trust, now, Some(identity))?;
    Ok(client::http_client(tls, Timeouts { connect: CONNECT_MOST, read: READ_MOST })?)
}

/// An answer of status 2xx or 304; any other is the site's refusal.
async fn answered(response: Response) -> Result<Response, TransportError> {
    match response.status() {
        status if status.is_success() || status == StatusCode::NOT_MODIFIED => Ok(response),
        _ => Err(client::refusal(response).await.into()),
    }
}

async fn within<T>(
    most: Duration,
    question: impl Future<Output = Result<T, TransportError>>,
) -> Result<T, TransportError> {
    match tokio::time::timeout(most, question).await {
        Ok(answer) => answer,
        Err(_) => Err(TransportError::TooSlow(most)),
    }
}
