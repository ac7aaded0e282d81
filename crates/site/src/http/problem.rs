//! Refusals and faults as problem documents (RFC 9457).
//!
//! `type` is one word, stable for ever; `detail` is the sentence for people; `hint`, `field`,
//! `document`, `limit` and `ids` stand beside them where they apply. A fault of the site is logged
//! with all its causes and answered with one sentence that names nothing.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::app::error::{AppError, Kind, Refusal};

/// The body of a refusal.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(serialize_with = "urn")]
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    ids: &'a [String],
}

/// As in every problem document of the house: see [`muster_host::problem`].
fn urn<S: serde::Serializer>(word: &str, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&format_args!("urn:muster:problem:{word}"))
}

/// Status, `type` and `title` of each kind of refusal.
fn shape(kind: Kind) -> (StatusCode, &'static str, &'static str) {
    match kind {
        Kind::Unauthorised => (StatusCode::UNAUTHORIZED, "unauthorised", "not logged on"),
        Kind::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "not allowed"),
        Kind::NotFound => (StatusCode::NOT_FOUND, "not-found", "not found"),
        Kind::Ambiguous => (StatusCode::CONFLICT, "ambiguous", "the name is ambiguous"),
        Kind::Conflict => (StatusCode::CONFLICT, "conflict", "contradicts what is there"),
        Kind::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "the input is wrong"),
        Kind::Limit => (StatusCode::PAYLOAD_TOO_LARGE, "limit", "more than a limit allows"),
        Kind::Stale => (StatusCode::PRECONDITION_FAILED, "stale", "changed meanwhile"),
        Kind::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "try again"),
        Kind::Full => (StatusCode::INSUFFICIENT_STORAGE, "disk-full", "no room left"),
    }
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        match self {
            AppError::Refused(refusal) => refusal.into_response(),
            fault => {
                tracing::error!(error = &fault as &dyn std::error::Error, "a request failed");
                let (status, word, title, detail) = told(&fault);
                respond(&Document {
                    r#type: word,
                    title,
                    status: status.as_u16(),
                    detail,
                    hint: None,
                    field: None,
                    document: None,
                    limit: None,
                    ids: &[],
                })
            }
        }
    }
}

/// What is told of a fault.
fn told(fault: &AppError) -> (StatusCode, &'static str, &'static str, &'static str) {
    match fault {
        AppError::Store(error) if error.is_transient() => {
            let (status, word, title) = shape(Kind::Busy);
            (status, word, title, "the database does not answer in time; try again")
        }
        AppError::Store(error) if error.is_disk_full() => {
            let detail = "the site has no room left for changes; what is committed stays readable";
            (StatusCode::INSUFFICIENT_STORAGE, "disk-full", "no room left", detail)
        }
        _ => {
            let detail = "the site failed; its log says why";
            (StatusCode::INTERNAL_SERVER_ERROR, "failed", "the site failed", detail)
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, word, title) = shape(self.kind);
        respond(&Document {
            r#type: word,
            title,
            status: status.as_u16(),
            detail: &self.detail,
            hint: self.hint.as_deref(),
            field: self.field.as_deref(),
            document: self.document,
            limit: self.limit,
            ids: &self.ids,
        })
    }
}

fn respond(document: &Document<'_>) -> Response {
    let status = StatusCode::from_u16(document.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(document).unwrap_or_default();
    let mut response = (status, body).into_response();
    let problem = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, problem);
    if status == StatusCode::UNAUTHORIZED {
        let bearer = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
    }
    response
}
