//! What handlers take out of a request, each with a refusal that names field or limit.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use muster_model::api::{PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::app::error::{AppError, Kind, Refusal};
use crate::app::{App, Who};

/// Bytes of one request's body. A thousand documents of 16 KiB.
pub(crate) const API_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A JSON body.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = AppError;

    async fn from_request(request: Request, _: &Arc<App>) -> Result<Self, AppError> {
        let bytes = body(request, "API_BODY_BYTES_MAX", API_BODY_BYTES_MAX).await?;
        // A request without a body says nothing, which is what every default says.
        let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
        let mut reader = serde_json::Deserializer::from_slice(&bytes);
        serde_path_to_error::deserialize(&mut reader).map(Self).map_err(|error| {
            let field = error.path().to_string();
            Refusal::invalid(field, error.into_inner().to_string()).into()
        })
    }
}

/// Which part of a list.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Window {
    limit: Option<u32>,
    /// Where the page before ended.
    pub(crate) cursor: Option<String>,
}

impl Window {
    /// How many items at most.
    pub(crate) fn limit(&self) -> u32 {
        self.limit.unwrap_or(PAGE_ITEMS_DEFAULT).clamp(1, PAGE_ITEMS_MAX)
    }
}

/// The principal that was let through: always there behind an action that nobody unknown may do.
pub(crate) struct By(pub(crate) Who);

impl FromRequestParts<Arc<App>> for By {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, AppError> {
        let who = parts.extensions.get::<Who>().cloned();
        who.map(Self)
            .ok_or_else(|| Refusal::new(Kind::Unauthorised, "credentials are required").into())
    }
}

/// The query of a request; an unknown or malformed parameter is a refusal.
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Asked<T> {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, AppError> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query.map(|Query(query)| Self(query)).map_err(|why| invalid("query", why))
    }
}

/// The parameters of a path.
pub(crate) struct At<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for At<T> {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, AppError> {
        let path = Path::<T>::from_request_parts(parts, app).await;
        path.map(|Path(path)| Self(path)).map_err(|why| invalid("path", why))
    }
}

fn invalid(field: &str, why: impl std::fmt::Display) -> AppError {
    Refusal::invalid(field, why.to_string()).into()
}

/// The whole body, if it has at most `most` bytes; otherwise a refusal that names `limit`.
pub(crate) async fn body(
    request: Request,
    limit: &'static str,
    most: usize,
) -> Result<Bytes, AppError> {
    let body = Limited::new(request.into_body(), most).collect().await;
    let body = body.map_err(|why| match why.downcast_ref::<LengthLimitError>() {
        Some(_) => {
            Refusal::new(Kind::Limit, format!("the body has more than {most} bytes")).limit(limit)
        }
        None => Refusal::invalid("body", why.to_string()),
    })?;
    Ok(body.to_bytes())
}

/// The revision that `If-Match` asks for; `None` if the request does not ask, or asks for any.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, AppError> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    if text == "*" {
        return Ok(None);
    }
    let revision = text.trim_matches('"').parse();
    let refused = || Refusal::invalid("If-Match", "an ETag is a number in quotes");
    Ok(Some(revision.map_err(|_| refused())?))
}
