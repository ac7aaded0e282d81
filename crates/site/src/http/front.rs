//! What is not of the API: the front page, health, the description, metrics, and the answer to every
//! path that does not exist.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header;
use muster_site_core::roles::Action;
use serde_json::Value;

use super::auth;
use super::endpoint::BASE;
use crate::app::App;
use crate::app::error::{AppError, Kind, Outcome, Refusal};

const FRONT: &str = "Muster: the site answers. Its API is described at /api/v1/openapi.json.\n";
/// The Prometheus text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4";

/// The routes that anyone may ask, and `/readyz`.
pub(super) fn routes(description: Value) -> Router<Arc<App>> {
    let described = move || {
        let description = description.clone();
        async move { axum::Json(description) }
    };
    Router::new()
        .route("/", get(|| async { FRONT }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route(&format!("{BASE}/openapi.json"), get(described))
}

/// The route of the metrics listener.
pub(super) fn metrics_routes() -> Router<Arc<App>> {
    Router::new().route("/metrics", get(metrics))
}

async fn ready(State(app): State<Arc<App>>, request: Request) -> Outcome<Response> {
    auth::admit(&app, request.headers(), Action::ReadinessRead).await?;
    match app.is_fresh() {
        true => Ok("ready\n".into_response()),
        false => Err(Refusal::new(Kind::Busy, "the database was not read for 5 s").into()),
    }
}

async fn metrics(State(app): State<Arc<App>>) -> Outcome<Response> {
    let page = app.metrics_page().await?;
    Ok(([(header::CONTENT_TYPE, METRICS_TYPE)], page).into_response())
}

/// Stands behind every path and method that does not exist. Who is not logged on learns nothing from
/// it about which ones do.
pub(super) async fn nothing_here(State(app): State<Arc<App>>, request: Request) -> AppError {
    match auth::admit(&app, request.headers(), Action::ReadinessRead).await {
        Ok(_) => {
            let (method, path) = (request.method(), request.uri().path());
            Refusal::new(Kind::NotFound, format!("there is no {method} {path}")).into()
        }
        Err(refused) => refused,
    }
}
