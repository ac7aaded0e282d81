//! `/objects`: uploading what a package needs, by digest.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{Method, header};
use muster_model::api::{MissingAnswer, MissingRequest};
use muster_model::digest::Digest;
use muster_site_core::roles::Action;

use super::endpoint::Endpoint;
use super::extract::{At, Json, body};
use crate::app::App;
use crate::app::content::UPLOAD_BYTES_MAX;
use crate::app::error::Outcome;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::new(
            (Method::POST, "/objects/missing"),
            Action::ContentWrite,
            "Which of these objects the site lacks",
            "MissingAnswer",
            missing,
        )
        .takes("MissingRequest"),
        Endpoint::new(
            (Method::PUT, "/objects/{digest}"),
            Action::ContentWrite,
            "Store an object under its digest; durable when answered",
            "null",
            put,
        )
        .takes("bytes"),
        Endpoint::new(
            (Method::GET, "/objects/{digest}"),
            Action::ContentRead,
            "The bytes of an object",
            "bytes",
            get,
        ),
    ]
}

async fn missing(
    State(app): State<Arc<App>>,
    Json(request): Json<MissingRequest>,
) -> Outcome<Answer<MissingAnswer>> {
    Ok(Answer(app.objects_missing(request).await?))
}

async fn put(
    State(app): State<Arc<App>>,
    At(digest): At<Digest>,
    request: Request,
) -> Outcome<Answer<()>> {
    let bytes = body(request, "UPLOAD_BYTES_MAX", UPLOAD_BYTES_MAX).await?;
    app.object_put(digest, bytes).await?;
    Ok(Answer(()))
}

async fn get(State(app): State<Arc<App>>, At(digest): At<Digest>) -> Outcome<Response> {
    let bytes = app.object_get(digest).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}
