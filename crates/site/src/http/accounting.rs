//! `/advertisements/{id}/accounting`, `wait`, `why`; `/accounting/verify`.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::Method;
use muster_model::api::{
    AccountingAnswer, Finding, PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX, Page, WaitAnswer, WhyAnswer,
};
use muster_model::id::{AdvertisementId, DeviceId};
use muster_model::message::Occurrence;
use muster_model::state::Word;
use muster_site_core::roles::Action;
use serde::Deserialize;

use super::endpoint::Endpoint;
use super::extract::{Asked, At};
use crate::app::App;
use crate::app::accounting::Asked as Wanted;
use crate::app::error::Outcome;

type Site = State<Arc<App>>;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::new(
            (Method::GET, "/advertisements/{id}/accounting"),
            Action::AccountingRead,
            "Where each targeted device stands; the states always sum to `targeted`",
            "AccountingAnswer",
            accounting,
        )
        .query(&["state", "occurrence", "all", "limit", "cursor"]),
        Endpoint::new(
            (Method::GET, "/advertisements/{id}/wait"),
            Action::AccountingRead,
            "Whether a condition holds now: complete, settled, succeeded>=95%",
            "WaitAnswer",
            wait,
        )
        .query(&["for"]),
        Endpoint::new(
            (Method::GET, "/advertisements/{id}/why"),
            Action::WhyRead,
            "Why a device stands where it stands, and what happens next",
            "WhyAnswer",
            why,
        )
        .query(&["device"]),
        Endpoint::new(
            (Method::GET, "/accounting/verify"),
            Action::AccountingVerify,
            "Check every invariant on the live site",
            "Page",
            verify,
        ),
    ]
}

#[derive(Deserialize)]
struct Query {
    state: Option<Word>,
    occurrence: Option<Occurrence>,
    #[serde(default)]
    all: bool,
    limit: Option<u32>,
    cursor: Option<String>,
}

async fn accounting(
    State(app): Site,
    At(id): At<AdvertisementId>,
    Asked(query): Asked<Query>,
) -> Outcome<Answer<AccountingAnswer>> {
    let wanted = Wanted {
        state: query.state,
        occurrence: query.occurrence,
        all: query.all,
        limit: query.limit.unwrap_or(PAGE_ITEMS_DEFAULT).clamp(1, PAGE_ITEMS_MAX),
        cursor: query.cursor,
    };
    Ok(Answer(app.accounting(id, &wanted).await?))
}

#[derive(Deserialize)]
struct Condition {
    r#for: String,
}

async fn wait(
    State(app): Site,
    At(id): At<AdvertisementId>,
    Asked(Condition { r#for }): Asked<Condition>,
) -> Outcome<Answer<WaitAnswer>> {
    Ok(Answer(app.wait_for(id, &r#for).await?))
}

#[derive(Deserialize)]
struct OfDevice {
    device: DeviceId,
}

async fn why(
    State(app): Site,
    At(id): At<AdvertisementId>,
    Asked(OfDevice { device }): Asked<OfDevice>,
) -> Outcome<Answer<WhyAnswer>> {
    Ok(Answer(app.why(id, device).await?))
}

async fn verify(State(app): Site) -> Outcome<Answer<Page<Finding>>> {
    Ok(Answer(app.verify().await?))
}
