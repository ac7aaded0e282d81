//! The route table of `/api/v1`: one entry a route, from which the router, the authorisation and the
//! OpenAPI description are all made. A route that is not in it does not exist, and one in it cannot
//! be reached by a role that its action is not for.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;
use muster_site_core::roles::Action;

use super::auth;
use crate::app::App;

/// Where the API begins.
pub(crate) const BASE: &str = "/api/v1";

/// One route.
pub(crate) struct Endpoint {
    /// The method.
    pub(crate) method: Method,
    /// The path below [`BASE`], with `{parameters}`.
    pub(crate) path: &'static str,
    /// What one must be allowed to do.
    pub(crate) action: Action,
    /// One line for the description.
    pub(crate) summary: &'static str,
    /// The name of the body's type, for the description.
    pub(crate) takes: Option<&'static str>,
    /// The name of the answer's type, for the description.
    pub(crate) answers: &'static str,
    /// Parameters of the query.
    pub(crate) query: &'static [&'static str],
    handler: MethodRouter<Arc<App>>,
}

impl Endpoint {
    /// A route that answers `answers`.
    pub(crate) fn new<H, T>(
        (method, path): (Method, &'static str),
        action: Action,
        summary: &'static str,
        answers: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        // A method that axum has no filter for is none of ours.
        let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
        let handler = on(filter, handler);
        Self { method, path, action, summary, takes: None, answers, query: &[], handler }
    }

    /// With a body of this type.
    pub(crate) fn takes(mut self, body: &'static str) -> Self {
        self.takes = Some(body);
        self
    }

    /// With these parameters in the query.
    pub(crate) fn query(mut self, parameters: &'static [&'static str]) -> Self {
        self.query = parameters;
        self
    }
}

/// The router over all `endpoints`.
pub(crate) fn router(endpoints: Vec<Endpoint>, app: &Arc<App>) -> Router<Arc<App>> {
    endpoints.into_iter().fold(Router::new(), |router, endpoint| {
        let guard = Guard { app: app.clone(), action: endpoint.action };
        let handler = endpoint.handler.layer(middleware::from_fn_with_state(guard, authorise));
        router.route(&format!("{BASE}{}", endpoint.path), handler)
    })
}

#[derive(Clone)]
struct Guard {
    app: Arc<App>,
    action: Action,
}

/// Lets through who may; the principal goes along with the request.
async fn authorise(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    match auth::admit(&guard.app, request.headers(), guard.action).await {
        Ok(who) => {
            if let Some(who) = who {
                request.extensions_mut().insert(who);
            }
            next.run(request).await
        }
        Err(refused) => refused.into_response(),
    }
}
