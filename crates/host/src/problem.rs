//! Problem documents (RFC 9457): the one form of every refusal over HTTP.
//!
//! Made by the servers of a site and an access point, read by every client. What people need stands
//! here; what only the operator may see (sources, paths) goes to the log instead.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

/// The media type of a problem document.
pub const PROBLEM_TYPE: &str = "application/problem+json";
/// Every `type` begins with this; the rest is the problem's stable name.
const TYPE_PREFIX: &str = "urn:muster:problem:";

/// Why a request was refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// The stable name of the kind of problem, for programs: `urn:muster:problem:not-found`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem, for people; the same for every one of this kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<str>>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Box<str>>,
    /// The field of the request that is wrong, as a path: `spec.programs[0].attempts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<Box<str>>,
    /// The document of an `apply` that is wrong, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<u32>,
}

impl Problem {
    /// A problem of the kind `name` (lower case, words joined by hyphens).
    pub fn new(status: StatusCode, name: &str, title: impl Into<String>) -> Self {
        Self {
            kind: format!("{TYPE_PREFIX}{name}"),
            title: title.into(),
            status: status.as_u16(),
            detail: None,
            hint: None,
            field: None,
            document: None,
        }
    }

    /// The answer to whoever showed no credentials that count. Names nothing.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "credentials are required")
    }

    /// Says what is wrong with this request.
    pub fn detail(mut self, detail: impl Into<Box<str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Says what to do next.
    pub fn hint(mut self, hint: impl Into<Box<str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Names the field that is wrong.
    pub fn field(mut self, field: impl Into<Box<str>>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Names the document of an `apply` that is wrong, counted from 0.
    pub fn document(mut self, document: u32) -> Self {
        self.document = Some(document);
        self
    }

    /// The stable name, without what every name begins with.
    pub fn name(&self) -> &str {
        self.kind.strip_prefix(TYPE_PREFIX).unwrap_or(&self.kind)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.title)?;
        if let Some(field) = &self.field {
            write!(f, " ({field})")?;
        }
        self.detail.iter().try_for_each(|detail| write!(f, ": {detail}"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self)).into_response();
        let media = HeaderValue::from_static(PROBLEM_TYPE);
        response.headers_mut().insert(header::CONTENT_TYPE, media);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_where_and_what_next() {
        let problem =
            Problem::new(StatusCode::BAD_REQUEST, "out-of-range", "a value is out of range")
                .detail("5 is more than 3")
                .field("spec.programs[0].attempts")
                .hint("give 1 to 3");
        assert_eq!(
            serde_json::to_string(&problem).unwrap(),
            r#"{"type":"urn:muster:problem:out-of-range","title":"a value is out of range","status":400,"detail":"5 is more than 3","hint":"give 1 to 3","field":"spec.programs[0].attempts"}"#
        );
        assert_eq!(problem.name(), "out-of-range");
        assert_eq!(
            problem.to_string(),
            "a value is out of range (spec.programs[0].attempts): 5 is more than 3"
        );
    }
}
