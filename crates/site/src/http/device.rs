//! `/devices`.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::Method;
use muster_model::api::{DeviceView, Page, RenameRequest};
use muster_model::id::DeviceId;
use muster_site_core::roles::Action;

use super::endpoint::Endpoint;
use super::extract::{Asked, At, By, Json, Window};
use crate::app::App;
use crate::app::error::Outcome;

type Site = State<Arc<App>>;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::new((Method::GET, "/devices"), Action::DeviceRead, "The devices", "Page", page)
            .query(&["limit", "cursor"]),
        Endpoint::new(
            (Method::GET, "/devices/{id}"),
            Action::DeviceRead,
            "One device with its streams",
            "DeviceView",
            view,
        ),
        Endpoint::new(
            (Method::POST, "/devices/{id}/approve"),
            Action::DeviceApprove,
            "Admit a device that waits, or clear a suspicion",
            "null",
            approve,
        ),
        Endpoint::new(
            (Method::POST, "/devices/{id}/retire"),
            Action::DeviceRetire,
            "End a device for good; what it owes is lost(retired)",
            "null",
            retire,
        ),
        Endpoint::new(
            (Method::POST, "/devices/{id}/rename"),
            Action::ObjectRename,
            "Call a device something else",
            "null",
            rename,
        )
        .takes("RenameRequest"),
    ]
}

async fn page(State(app): Site, Asked(window): Asked<Window>) -> Outcome<Answer<Page<DeviceView>>> {
    Ok(Answer(app.device_page(window.cursor.as_deref(), window.limit()).await?))
}

async fn view(State(app): Site, At(id): At<DeviceId>) -> Outcome<Answer<DeviceView>> {
    Ok(Answer(app.device_view(id).await?))
}

async fn approve(State(app): Site, By(who): By, At(id): At<DeviceId>) -> Outcome<Answer<()>> {
    Ok(Answer(app.device_approve(&who, id).await?))
}

async fn retire(State(app): Site, By(who): By, At(id): At<DeviceId>) -> Outcome<Answer<()>> {
    Ok(Answer(app.device_retire(&who, id).await?))
}

async fn rename(
    State(app): Site,
    By(who): By,
    At(id): At<DeviceId>,
    Json(request): Json<RenameRequest>,
) -> Outcome<Answer<()>> {
    Ok(Answer(app.device_rename(&who, id, request.name).await?))
}
