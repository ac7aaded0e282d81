//! What stands behind the device protocol: the owning site, in this process or further up.
//!
//! Called by [`crate::router`] with what a device sent, within limits but otherwise unread. An
//! upstream answers documents that are signed for the device; whoever passes them on can delay, not
//! alter.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use muster_host::pki::Peer;
use muster_model::digest::Digest;
use serde::Serialize;

/// Who asks: the session ticket that came with the request and the certificate of the connection.
#[derive(Clone, Debug, Default)]
pub struct Presented {
    /// The ticket, as it stood in its header.
    pub ticket: Option<String>,
    /// The certificate that the other end of the connection proved to own.
    pub peer: Option<Peer>,
}

/// An answer that is not a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// 200 with a JSON document.
    Document(Bytes),
    /// 200 with a JSON document and the tag to present next time.
    Tagged {
        /// Its tag.
        tag: Digest,
        /// The document.
        document: Bytes,
    },
    /// 304: what the device has is the newest.
    NothingNew,
    /// 200 with an object's bytes.
    Object(Bytes),
    /// 409: the batch does not follow what the site has. A `Behind`.
    Behind(Bytes),
}

/// A refusal: becomes a problem document (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The HTTP status.
    #[serde(serialize_with = "number")]
    pub status: StatusCode,
    /// One word for programs, stable for ever.
    #[serde(rename = "type", serialize_with = "urn")]
    pub kind: String,
    /// The kind, for people.
    pub title: &'static str,
    /// The sentence for people.
    pub detail: String,
    /// The limit that was reached, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
}

fn number<S: serde::Serializer>(status: &StatusCode, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u16(status.as_u16())
}

/// As in every problem document of the house: see [`muster_host::problem`].
fn urn<S: serde::Serializer>(kind: &str, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&format_args!("urn:muster:problem:{kind}"))
}

impl Refusal {
    /// A refusal with this status, word and sentence.
    pub fn new(status: StatusCode, kind: impl Into<String>, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("refused");
        Self { status, kind: kind.into(), title, detail: detail.into(), limit: None }
    }

    /// A body that is longer than the limit of this name.
    pub fn too_long(limit: &str, most: usize) -> Self {
        let detail = format!("the body has more than {most} bytes ({limit})");
        Self {
            limit: Some(limit.to_owned()),
            ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, "limit", detail)
        }
    }
}

/// The owning site as an access point sees it. Every method is safe to call again with the same
/// arguments: the site answers the same, or says what it has.
#[async_trait]
pub trait Upstream: Send + Sync + 'static {
    /// The site's time, sealed for its header; sent with every answer. `None` only while the site has
    /// not been heard yet.
    fn site_time(&self) -> Option<HeaderValue>;
    /// An identity for a token. `body` is an `EnrollRequest` as JSON.
    async fn enroll(&self, body: Bytes) -> Result<Reply, Refusal>;
    /// A new certificate. `body` is a sealed `RenewRequest`; the certificate of the connection may
    /// have expired.
    async fn renew(&self, body: Bytes) -> Result<Reply, Refusal>;
    /// The policy, if its tag is not `known`; otherwise waits for one up to `wait`.
    async fn policy(
        &self,
        who: Presented,
        known: Option<Digest>,
        wait: Duration,
    ) -> Result<Reply, Refusal>;
    /// Takes a batch; answers only what is durable.
    async fn messages(&self, who: Presented, batch: Bytes) -> Result<Reply, Refusal>;
    /// The account of the device.
    async fn account(&self, who: Presented) -> Result<Reply, Refusal>;
    /// An object.
    async fn content(&self, who: Presented, digest: Digest) -> Result<Reply, Refusal>;
    /// A trust document.
    async fn trust(&self, who: Presented, number: u64) -> Result<Reply, Refusal>;
}
