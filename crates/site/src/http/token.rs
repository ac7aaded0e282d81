//! `/tokens` and `/login`.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::Method;
use muster_model::api::{LoginAnswer, LoginRequest, TokenAnswer, TokenRequest};
use muster_site_core::roles::Action;

use super::endpoint::Endpoint;
use super::extract::{By, Json};
use crate::app::App;
use crate::app::error::Outcome;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::new(
            (Method::POST, "/tokens"),
            Action::TokenCreate,
            "Make a token; its secret is in the answer and nowhere else",
            "TokenAnswer",
            create,
        )
        .takes("TokenRequest"),
        Endpoint::new(
            (Method::POST, "/login"),
            Action::LogOn,
            "A credential for a token",
            "LoginAnswer",
            log_on,
        )
        .takes("LoginRequest"),
    ]
}

async fn create(
    State(app): State<Arc<App>>,
    By(who): By,
    Json(request): Json<TokenRequest>,
) -> Outcome<Answer<TokenAnswer>> {
    Ok(Answer(app.token_create(&who, request).await?))
}

async fn log_on(
    State(app): State<Arc<App>>,
    Json(request): Json<LoginRequest>,
) -> Outcome<Answer<LoginAnswer>> {
    Ok(Answer(app.log_on(request).await?))
}
