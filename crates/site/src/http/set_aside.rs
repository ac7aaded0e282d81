//! `/set-aside`: what could not be taken, with its bytes and reason.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::Method;
use muster_model::api::{Page, SetAsideView};
use muster_site_core::roles::Action;

use super::endpoint::Endpoint;
use super::extract::{Asked, At, By, Window};
use crate::app::App;
use crate::app::error::Outcome;

type Site = State<Arc<App>>;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::new(
            (Method::GET, "/set-aside"),
            Action::SetAsideRead,
            "Items that wait for a person",
            "Page",
            page,
        )
        .query(&["limit", "cursor"]),
        Endpoint::new(
            (Method::GET, "/set-aside/{id}"),
            Action::SetAsideRead,
            "One item with its bytes",
            "SetAsideView",
            view,
        ),
        Endpoint::new(
            (Method::POST, "/set-aside/{id}/retry"),
            Action::SetAsideWrite,
            "Take an item after all",
            "null",
            retry,
        ),
        Endpoint::new(
            (Method::DELETE, "/set-aside/{id}"),
            Action::SetAsideWrite,
            "Forget an item's bytes; that it was there stays on record",
            "null",
            drop_item,
        ),
    ]
}

async fn page(
    State(app): Site,
    Asked(window): Asked<Window>,
) -> Outcome<Answer<Page<SetAsideView>>> {
    Ok(Answer(app.set_aside_page(window.cursor.as_deref(), window.limit()).await?))
}

async fn view(State(app): Site, At(id): At<String>) -> Outcome<Answer<SetAsideView>> {
    Ok(Answer(app.set_aside_view(&id).await?))
}

async fn retry(State(app): Site, By(who): By, At(id): At<String>) -> Outcome<Answer<()>> {
    Ok(Answer(app.set_aside_retry(&who, &id).await?))
}

async fn drop_item(State(app): Site, By(who): By, At(id): At<String>) -> Outcome<Answer<()>> {
    Ok(Answer(app.set_aside_drop(&who, &id).await?))
}
