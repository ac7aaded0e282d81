//! `/credentials`, `/logout`, and the tokens that there are.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::Method;
use muster_model::api::{CredentialView, Page, TokenView};
use muster_model::id::{PrincipalId, TokenId};
use muster_site_core::roles::Action;

use super::endpoint::Endpoint;
use super::extract::{At, By};
use crate::app::App;
use crate::app::error::Outcome;

type Site = State<Arc<App>>;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::new(
            (Method::GET, "/credentials"),
            Action::CredentialRead,
            "Who is logged on, without the secrets",
            "Page",
            list,
        ),
        Endpoint::new(
            (Method::DELETE, "/credentials/{id}"),
            Action::CredentialRevoke,
            "End a log-on",
            "null",
            revoke,
        ),
        Endpoint::new(
            (Method::POST, "/logout"),
            Action::LogOff,
            "End the log-on that asks",
            "null",
            log_off,
        ),
        Endpoint::new(
            (Method::GET, "/tokens"),
            Action::TokenRead,
            "Tokens that still let somebody in, without their secrets",
            "Page",
            tokens,
        ),
        Endpoint::new(
            (Method::DELETE, "/tokens/{id}"),
            Action::TokenRevoke,
            "Make a token void; whom it has let in stays",
            "null",
            revoke_token,
        ),
    ]
}

async fn list(State(app): Site, By(who): By) -> Outcome<Answer<Page<CredentialView>>> {
    Ok(Answer(app.credential_list(&who).await?))
}

async fn revoke(State(app): Site, By(who): By, At(id): At<PrincipalId>) -> Outcome<Answer<()>> {
    Ok(Answer(app.credential_revoke(&who, id).await?))
}

async fn log_off(State(app): Site, By(who): By) -> Outcome<Answer<()>> {
    Ok(Answer(app.log_off(&who).await?))
}

async fn tokens(State(app): Site) -> Outcome<Answer<Page<TokenView>>> {
    Ok(Answer(app.token_list().await?))
}

async fn revoke_token(State(app): Site, By(who): By, At(id): At<TokenId>) -> Outcome<Answer<()>> {
    Ok(Answer(app.token_revoke(&who, id).await?))
}
