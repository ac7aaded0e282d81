//! Stop, resume, run again, halt, revoke: somebody's word, and how far it has gone.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::Method;
use muster_model::api::{
    OrderAnswer, OrderRequest, RerunAnswer, RerunRequest, RevokeRequest, SignAnswer, SignRequest,
};
use muster_model::id::{AdvertisementId, PackageId};
use muster_site_core::roles::Action;

use super::endpoint::Endpoint;
use super::extract::{At, By, Json};
use crate::app::App;
use crate::app::error::Outcome;

type Site = State<Arc<App>>;
type Ordered = Outcome<Answer<OrderAnswer>>;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::new(
            (Method::POST, "/advertisements/{id}/stop"),
            Action::AdvertisementStop,
            "Nothing of the advertisement starts until it is resumed",
            "OrderAnswer",
            stop,
        )
        .takes("OrderRequest"),
        Endpoint::new(
            (Method::POST, "/advertisements/{id}/resume"),
            Action::AdvertisementResume,
            "Let a stopped advertisement go on",
            "OrderAnswer",
            resume,
        ),
        Endpoint::new(
            (Method::POST, "/advertisements/{id}/rerun"),
            Action::AdvertisementRerun,
            "Open a manual occurrence for exactly the chosen devices",
            "RerunAnswer",
            rerun,
        )
        .takes("RerunRequest"),
        Endpoint::new(
            (Method::POST, "/packages/{id}/revoke"),
            Action::PackageRevoke,
            "Nothing of this version starts any more",
            "OrderAnswer",
            revoke,
        )
        .takes("RevokeRequest"),
        Endpoint::new(
            (Method::POST, "/halt"),
            Action::SiteHalt,
            "Stop everything",
            "OrderAnswer",
            halt,
        )
        .takes("OrderRequest"),
        Endpoint::new(
            (Method::POST, "/packages/{id}/sign"),
            Action::PackagePublish,
            "Add signatures to a published version, whose bytes stay",
            "SignAnswer",
            sign,
        )
        .takes("SignRequest"),
        Endpoint::new(
            (Method::POST, "/resume"),
            Action::SiteResume,
            "Let everything go on",
            "OrderAnswer",
            resume_all,
        ),
    ]
}

async fn stop(
    State(app): Site,
    By(who): By,
    At(id): At<AdvertisementId>,
    Json(request): Json<OrderRequest>,
) -> Ordered {
    Ok(Answer(app.advertisement_stop(&who, id, request).await?))
}

async fn resume(State(app): Site, By(who): By, At(id): At<AdvertisementId>) -> Ordered {
    Ok(Answer(app.advertisement_resume(&who, id).await?))
}

async fn rerun(
    State(app): Site,
    By(who): By,
    At(id): At<AdvertisementId>,
    Json(request): Json<RerunRequest>,
) -> Outcome<Answer<RerunAnswer>> {
    Ok(Answer(app.advertisement_rerun(&who, id, request).await?))
}

async fn revoke(
    State(app): Site,
    By(who): By,
    At(id): At<PackageId>,
    Json(request): Json<RevokeRequest>,
) -> Ordered {
    Ok(Answer(app.package_revoke(&who, id, request).await?))
}

async fn sign(
    State(app): Site,
    By(who): By,
    At(id): At<PackageId>,
    Json(request): Json<SignRequest>,
) -> Outcome<Answer<SignAnswer>> {
    Ok(Answer(app.package_sign(&who, id, request).await?))
}

async fn halt(State(app): Site, By(who): By, Json(request): Json<OrderRequest>) -> Ordered {
    Ok(Answer(app.site_halt(&who, request).await?))
}

async fn resume_all(State(app): Site, By(who): By) -> Ordered {
    Ok(Answer(app.site_resume(&who).await?))
}
