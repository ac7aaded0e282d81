//! The HTTP face of the device protocol: the routes of [`muster_model::wire::path`].
//!
//! Reads a request within named limits, hands it to the [`Upstream`], and puts the site's signed time
//! on every answer. Looks into no document and believes no ticket: that is the site's work. Serves
//! the site's own port and, in a process of its own, an access point's.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use muster_host::serve::Connection;
use muster_model::digest::Digest;
use muster_model::wire::batch::BATCH_BYTES_MAX;
use muster_model::wire::header as device_header;
use muster_model::wire::path;
use tower::util::MapResponseLayer;

use crate::upstream::{Presented, Refusal, Reply, Upstream};

/// Bytes of an enrolment or renewal: a certificate request and at most 256 facts of a device.
pub const ENROLMENT_BYTES_MAX: usize = 256 * 1024;
/// The longest time that a poll is held open, whatever the device prefers. Pings of both ends keep the
/// connection from falling silent meanwhile (`muster_host::serve`, `muster_host::client`).
pub const POLL_WAIT_MAX: Duration = Duration::from_secs(60 * 60);
/// The same over HTTP/1.1, which has no pings: below the idle time-outs that proxies and NAT boxes
/// commonly have (60 s).
pub const SILENT_WAIT_MAX: Duration = Duration::from_secs(50);
/// How long a poll is held when the device says nothing.
pub const POLL_WAIT_DEFAULT: Duration = SILENT_WAIT_MAX;

type Up = State<Arc<dyn Upstream>>;
type Answer = Result<Reply, Refusal>;

/// The routes of the device protocol over `upstream`.
pub fn router(upstream: Arc<dyn Upstream>) -> Router {
    let teller = upstream.clone();
    Router::new()
        .route(path::ENROLL, post(enroll))
        .route(path::RENEW, post(renew))
        .route(path::POLICY, get(policy))
        .route(path::MESSAGES, post(messages))
        .route(path::ACCOUNT, get(account))
        .route(&format!("{}/{{digest}}", path::CONTENT), get(content))
        .route(&format!("{}/{{number}}", path::TRUST), get(trust))
        .layer(MapResponseLayer::new(move |answer| tell_time(&*teller, answer)))
        .with_state(upstream)
}

async fn enroll(State(upstream): Up, request: Request) -> Answer {
    let body = read(request, "ENROLMENT_BYTES_MAX", ENROLMENT_BYTES_MAX).await?;
    upstream.enroll(body).await
}

async fn renew(State(upstream): Up, request: Request) -> Answer {
    let body = read(request, "ENROLMENT_BYTES_MAX", ENROLMENT_BYTES_MAX).await?;
    upstream.renew(body).await
}

async fn policy(State(upstream): Up, request: Request) -> Answer {
    let who = presented(&request)?;
    let headers = request.headers();
    let most = match request.version() {
        Version::HTTP_2 => POLL_WAIT_MAX,
        _ => SILENT_WAIT_MAX,
    };
    upstream.policy(who, known(headers)?, wait(headers).min(most)).await
}

async fn messages(State(upstream): Up, request: Request) -> Answer {
    let who = presented(&request)?;
    let batch = read(request, "BATCH_BYTES_MAX", BATCH_BYTES_MAX).await?;
    upstream.messages(who, batch).await
}

async fn account(State(upstream): Up, request: Request) -> Answer {
    upstream.account(presented(&request)?).await
}

async fn content(State(upstream): Up, Path(digest): Path<String>, request: Request) -> Answer {
    let who = presented(&request)?;
    let digest = digest.parse().map_err(|why| malformed(format!("{why}")))?;
    upstream.content(who, digest).await
}

async fn trust(State(upstream): Up, Path(number): Path<String>, request: Request) -> Answer {
    let who = presented(&request)?;
    let number =
        number.parse().map_err(|_| malformed("a trust document has a number".to_owned()))?;
    upstream.trust(who, number).await
}

/// Adds the site's time to whatever is answered, refusals included: a device whose clock is years
/// wrong learns it from its first answer.
fn tell_time(upstream: &dyn Upstream, mut answer: Response) -> Response {
    if let Some(time) = upstream.site_time() {
        answer.headers_mut().insert(device_header::SITE_TIME, time);
    }
    answer
}

/// Who asks. An expired certificate gets no further than enrolment and renewal.
fn presented(request: &Request) -> Result<Presented, Refusal> {
    let connection = request.extensions().get::<Arc<Connection>>();
    let peer = connection.and_then(|connection| connection.current_peer().cloned());
    if peer.is_none() && connection.is_some_and(|connection| connection.peer.is_some()) {
        let detail = "the certificate is not good at the site's time; only its renewal is answered";
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "certificate-expired", detail));
    }
    let ticket = request.headers().get(device_header::TICKET);
    let ticket = ticket.and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok(Presented { ticket, peer })
}

/// The tag that the device has: `If-None-Match` (RFC 9110, section 13.1.2) with exactly one.
fn known(headers: &HeaderMap) -> Result<Option<Digest>, Refusal> {
    let Some(value) = headers.get(header::IF_NONE_MATCH) else { return Ok(None) };
    let tag = value.to_str().unwrap_or_default().trim_matches('"');
    tag.parse().map(Some).map_err(|why| malformed(format!("If-None-Match: {why}")))
}

/// How long the device would wait: `Prefer: wait=SECONDS` (RFC 7240, section 4.3). What is not
/// understood is passed over, as that RFC asks.
fn wait(headers: &HeaderMap) -> Duration {
    let prefer = headers.get(device_header::PREFER).and_then(|value| value.to_str().ok());
    let seconds = prefer.and_then(|text| {
        let preferences = text.split(',').map(str::trim);
        preferences.filter_map(|one| one.strip_prefix("wait=")).find_map(|n| n.parse().ok())
    });
    seconds.map_or(POLL_WAIT_DEFAULT, Duration::from_secs)
}

/// The whole body, if it has at most `most` bytes; otherwise a refusal that names `limit`.
async fn read(request: Request, limit: &str, most: usize) -> Result<Bytes, Refusal> {
    let body = Limited::new(request.into_body(), most).collect().await;
    let body = body.map_err(|why| match why.downcast_ref::<LengthLimitError>() {
        Some(_) => Refusal::too_long(limit, most),
        None => malformed(format!("the body cannot be read: {why}")),
    })?;
    Ok(body.to_bytes())
}

fn malformed(detail: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "malformed", detail)
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        match self {
            Reply::Document(document) => typed(StatusCode::OK, JSON, document),
            Reply::Tagged { tag, document } => {
                let mut response = typed(StatusCode::OK, JSON, document);
                if let Ok(value) = HeaderValue::from_str(&format!("\"{tag}\"")) {
                    response.headers_mut().insert(header::ETAG, value);
                }
                response
            }
            Reply::NothingNew => StatusCode::NOT_MODIFIED.into_response(),
            Reply::Object(bytes) => typed(StatusCode::OK, OCTETS, bytes),
            Reply::Behind(document) => typed(StatusCode::CONFLICT, JSON, document),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        typed(self.status, PROBLEM, body.into())
    }
}

fn typed(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response {
    (status, [(header::CONTENT_TYPE, content_type)], Body::from(body)).into_response()
}

#[cfg(test)]
mod tests;
