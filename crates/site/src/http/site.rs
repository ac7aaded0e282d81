//! `/site`, `/settings`, `/trust`, `/doctor`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::Method;
use muster_model::api::{Finding, Page, SiteView, TrustView};
use muster_model::settings;
use muster_site_core::roles::Action;
use serde::Deserialize;
use serde_json::Value;

use super::endpoint::Endpoint;
use super::extract::{By, Json};
use crate::app::App;
use crate::app::error::Outcome;

type Site = State<Arc<App>>;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::new(
            (Method::GET, "/site"),
            Action::SettingsRead,
            "What the site is and how it stands",
            "SiteView",
            view,
        ),
        Endpoint::new(
            (Method::GET, "/settings"),
            Action::SettingsRead,
            "Every setting with the value that holds",
            "Settings",
            settings,
        ),
        Endpoint::new(
            (Method::PATCH, "/settings"),
            Action::SettingsWrite,
            "Change settings, all of them or none",
            "Settings",
            change,
        )
        .takes("SettingsChange"),
        Endpoint::new(
            (Method::GET, "/trust"),
            Action::TrustRead,
            "The newest trust document",
            "TrustView",
            trust,
        ),
        Endpoint::new(
            (Method::POST, "/trust"),
            Action::TrustWrite,
            "Propose the next trust document; its signatures decide",
            "TrustView",
            take_trust,
        )
        .takes("SignedTrust"),
        Endpoint::new(
            (Method::GET, "/doctor"),
            Action::SettingsRead,
            "What a person would look at first",
            "Page",
            doctor,
        ),
    ]
}

async fn view(State(app): Site) -> Outcome<Answer<SiteView>> {
    Ok(Answer(app.site_view().await?))
}

async fn settings(State(app): Site) -> Outcome<Answer<BTreeMap<&'static str, settings::Value>>> {
    Ok(Answer(app.settings_view().await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsChange {
    changes: BTreeMap<String, settings::Value>,
}

async fn change(
    State(app): Site,
    By(who): By,
    Json(SettingsChange { changes }): Json<SettingsChange>,
) -> Outcome<Answer<BTreeMap<&'static str, settings::Value>>> {
    Ok(Answer(app.settings_change(&who, changes).await?))
}

async fn trust(State(app): Site) -> Outcome<Answer<TrustView>> {
    Ok(Answer(app.trust_view().await?))
}

async fn take_trust(
    State(app): Site,
    By(who): By,
    Json(document): Json<Value>,
) -> Outcome<Answer<TrustView>> {
    Ok(Answer(app.trust_take(&who, document).await?))
}

async fn doctor(State(app): Site) -> Outcome<Answer<Page<Finding>>> {
    Ok(Answer(app.doctor().await?))
}
