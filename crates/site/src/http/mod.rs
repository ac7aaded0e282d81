//! The HTTP face for people and scripts: `/api/v1`, health, the front page.
//!
//! A handler parses, calls one use case, and answers; who may call it stands in the route table
//! ([`endpoint`]). One file a noun.

mod accounting;
mod auth;
mod component;
mod content;
mod credential;
mod device;
mod endpoint;
mod extract;
mod front;
mod message;
mod object;
mod openapi;
mod order;
mod problem;
mod query;
mod set_aside;
mod site;
mod token;

use std::sync::Arc;

use axum::Router;

use self::endpoint::Endpoint;
use crate::app::App;

/// Every route of the API, by noun.
fn endpoints() -> Vec<Endpoint> {
    let nouns = [
        site::endpoints(),
        token::endpoints(),
        credential::endpoints(),
        object::endpoints(),
        content::endpoints(),
        order::endpoints(),
        accounting::endpoints(),
        device::endpoints(),
        message::endpoints(),
        query::endpoints(),
        component::endpoints(),
        set_aside::endpoints(),
    ];
    nouns.into_iter().flatten().collect()
}

/// The router of the main listener, with the device protocol beside the API.
pub(crate) fn router(app: &Arc<App>, device_protocol: Router) -> Router {
    let endpoints = endpoints();
    let description = openapi::describe(&endpoints);
    endpoint::router(endpoints, app)
        .merge(front::routes(description))
        .merge(device_protocol.with_state(()))
        .fallback(front::nothing_here)
        .method_not_allowed_fallback(front::nothing_here)
        .with_state(app.clone())
}

/// The router of the metrics listener.
pub(crate) fn metrics(app: &Arc<App>) -> Router {
    front::metrics_routes().with_state(app.clone())
}
