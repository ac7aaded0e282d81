//! The HTTP client of agents, access points, site processes and the command line.
//!
//! Talks TLS to one site and nobody else: no redirect is followed, no proxy is taken from the
//! environment, no body is unpacked. Every answer is read with a limit; every refusal is a
//! [`Problem`].

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{StatusCode, header};
use reqwest::Response;
use reqwest::redirect::Policy;
use rustls::ClientConfig;

use crate::problem::{PROBLEM_TYPE, Problem};
use crate::tls::http_protocols;

/// A problem document has some hundred bytes; more than this is not one.
pub const PROBLEM_BYTES_MAX: usize = 64 * 1024;
/// How long an idle connection is kept for the next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// How often a connection with an open request is asked whether it is still there: a poll that is
/// held for an hour must notice that the other end is gone.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long to wait for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// For the connection and its handshake.
    pub connect: Duration,
    /// For the next bytes of an answer. Longer than a long poll is held.
    pub read: Duration,
}

impl Default for Timeouts {
    /// 10 s to connect, 90 s for the next bytes: for requests that are not held.
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), read: Duration::from_secs(90) }
    }
}

/// A request did not bring what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The client could not be made.
    #[error("failed to set up the HTTP client")]
    Build(#[source] reqwest::Error),
    /// No answer: not reachable, not trusted, cut off, or too slow. Whether the request took effect
    /// is unknown.
    #[error("failed to reach {url}")]
    Send {
        /// What was asked for, without credentials.
        url: String,
        /// What the library said.
        #[source]
        source: reqwest::Error,
    },
    /// The answer broke off.
    #[error("failed to read the answer of {url}")]
    Read {
        /// What was asked for.
        url: String,
        /// What the library said.
        #[source]
        source: reqwest::Error,
    },
    /// The answer is larger than it may be.
    #[error("failed to read the answer of {url}: it is larger than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The answer is not what this version of the protocol says.
    #[error("failed to understand the answer of {url}")]
    Malformed {
        /// What was asked for.
        url: String,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
    /// The server refused, and says why.
    #[error("{url} refused: {problem}")]
    Refused {
        /// What was asked for.
        url: String,
        /// Its reason.
        problem: Box<Problem>,
        /// When it wants to be asked again (`Retry-After`, in seconds).
        retry_after: Option<Duration>,
    },
}

impl ClientError {
    /// The server's reason, if it answered with a refusal.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            ClientError::Refused { problem, .. } => Some(problem),
            _ => None,
        }
    }

    /// Whether the same request may succeed later: no answer, or one that says so.
    pub fn is_transient(&self) -> bool {
        match self {
            ClientError::Send { .. } | ClientError::Read { .. } => true,
            ClientError::Refused { problem, .. } => {
                matches!(problem.status, 408 | 425 | 429 | 500 | 502 | 503 | 504 | 507)
            }
            _ => false,
        }
    }
}

/// A client over `tls`, which says whom it trusts and who it is.
pub fn http_client(
    mut tls: ClientConfig,
    timeouts: Timeouts,
) -> Result<reqwest::Client, ClientError> {
    tls.alpn_protocols = http_protocols();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true)
        .no_proxy()
        .redirect(Policy::none())
        .referer(false)
        .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")))
        .tcp_nodelay(true)
        .connect_timeout(timeouts.connect)
        .read_timeout(timeouts.read)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build()
        .map_err(ClientError::Build)
}

/// Sends the request; an answer of status 2xx or 304 is handed on, any other is
/// [`ClientError::Refused`] (a redirect, too: none is followed).
pub async fn send(request: reqwest::RequestBuilder) -> Result<Response, ClientError> {
    let response = request.send().await.map_err(|source| ClientError::Send {
        url: source.url().map_or_else(String::new, ToString::to_string),
        source: source.without_url(),
    })?;
    match response.status() {
        status if status.is_success() || status == StatusCode::NOT_MODIFIED => Ok(response),
        _ => Err(refusal(response).await),
    }
}

/// The whole body, at most `max` bytes.
pub async fn read_body(mut response: Response, max: usize) -> Result<Bytes, ClientError> {
    let url = response.url().to_string();
    if response.content_length().is_some_and(|length| length > max as u64) {
        return Err(ClientError::TooLarge { url, limit: max });
    }
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= max => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Err(ClientError::TooLarge { url, limit: max }),
            Ok(None) => return Ok(body.freeze()),
            Err(source) => return Err(ClientError::Read { url, source: source.without_url() }),
        }
    }
}

/// The body as JSON, at most `max` bytes of it.
pub async fn read_json<T: serde::de::DeserializeOwned>(
    response: Response,
    max: usize,
) -> Result<T, ClientError> {
    let url = response.url().to_string();
    let body = read_body(response, max).await?;
    serde_json::from_slice(&body).map_err(|source| ClientError::Malformed { url, source })
}

/// The problem in a refusal. A server or proxy that sends none gets one made of its status. For a
/// caller that has to see the answer's status or headers before; others use [`send`].
pub async fn refusal(response: Response) -> ClientError {
    let (status, url) = (response.status(), response.url().to_string());
    let headers = response.headers();
    let retry_after = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|value| value.parse().ok()).map(Duration::from_secs);
    let media = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes().to_vec());
    let is_problem = media.is_some_and(|media| media.starts_with(PROBLEM_TYPE.as_bytes()));
    let stated = match is_problem {
        true => read_json::<Problem>(response, PROBLEM_BYTES_MAX).await.ok(),
        false => None,
    };
    let plain = || {
        let reason = status.canonical_reason().unwrap_or("an unknown status");
        Problem::new(status, "http", format!("{} {reason}", status.as_u16()))
    };
    // The status line counts, whatever the document says of it.
    let problem = Problem { status: status.as_u16(), ..stated.unwrap_or_else(plain) };
    ClientError::Refused { url, problem: Box::new(problem), retry_after }
}
