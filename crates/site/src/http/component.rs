//! `/components`: parts of the site that a person holds still.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::Method;
use muster_model::api::{ComponentState, Page};
use muster_site_core::roles::Action;

use super::endpoint::Endpoint;
use super::extract::{At, By};
use crate::app::App;
use crate::app::error::Outcome;

type Site = State<Arc<App>>;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::new(
            (Method::GET, "/components"),
            Action::ComponentRead,
            "Parts of this process of the site, and whether they are held still",
            "Page",
            list,
        ),
        Endpoint::new(
            (Method::POST, "/components/{name}/pause"),
            Action::ComponentWrite,
            "Hold a part still; nothing is lost",
            "Page",
            pause,
        ),
        Endpoint::new(
            (Method::POST, "/components/{name}/resume"),
            Action::ComponentWrite,
            "Let a part go on",
            "Page",
            resume,
        ),
    ]
}

type Components = Outcome<Answer<Page<ComponentState>>>;

async fn list(State(app): Site) -> Components {
    Ok(Answer(app.component_list()))
}

async fn pause(State(app): Site, By(who): By, At(name): At<String>) -> Components {
    app.component_set(&who, &name, true).await?;
    Ok(Answer(app.component_list()))
}

async fn resume(State(app): Site, By(who): By, At(name): At<String>) -> Components {
    app.component_set(&who, &name, false).await?;
    Ok(Answer(app.component_list()))
}
