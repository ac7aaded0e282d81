//! `/query`: questions in SQL.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::Method;
use muster_model::api::{QueryAnswer, QueryRequest};
use muster_site_core::roles::Action;

use super::endpoint::Endpoint;
use super::extract::Json;
use crate::app::App;
use crate::app::error::Outcome;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::new(
            (Method::POST, "/query"),
            Action::QueryRead,
            "One `select` over the tables that the reference lists; changes nothing",
            "QueryAnswer",
            query,
        )
        .takes("QueryRequest"),
    ]
}

async fn query(
    State(app): State<Arc<App>>,
    Json(request): Json<QueryRequest>,
) -> Outcome<Answer<QueryAnswer>> {
    Ok(Answer(app.query(request).await?))
}
