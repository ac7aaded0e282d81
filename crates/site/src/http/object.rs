//! `/packages`, `/collections`, `/advertisements`, `/maintenance-windows`: lists, single objects, delete, rename; `/apply` and
//! `/resolve`.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, header};
use muster_model::api::{
    ApplyAnswer, ApplyRequest, PublishAnswer, PublishRequest, RenameRequest, Resolve, Resolved,
};
use muster_model::object::Kind;
use muster_site_core::roles::Action;
use uuid::Uuid;

use super::endpoint::Endpoint;
use super::extract::{Asked, At, By, Json, Window, if_match};
use crate::app::App;
use crate::app::error::Outcome;

type Site = State<Arc<App>>;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let mut endpoints = vec![
        Endpoint::new(
            (Method::POST, "/apply"),
            Action::ObjectRead,
            "Make the site hold what documents say, all of them or none; each needs its own permission",
            "ApplyAnswer",
            apply,
        )
        .takes("ApplyRequest"),
        Endpoint::new(
            (Method::GET, "/schema"),
            Action::ObjectRead,
            "The JSON Schema (2020-12) of the documents that `apply` takes",
            "Schema",
            schema,
        ),
        Endpoint::new(
            (Method::POST, "/resolve"),
            Action::ObjectRead,
            "The id that a name stands for",
            "Resolved",
            resolve,
        )
        .takes("Resolve"),
        Endpoint::new(
            (Method::POST, "/packages"),
            Action::PackagePublish,
            "Publish a version of a package whose objects were uploaded",
            "PublishAnswer",
            publish,
        )
        .takes("PublishRequest"),
    ];
    for kind in Kind::ALL {
        let (list, one, rename) = paths(kind);
        endpoints.push(
            Endpoint::new(
                (Method::GET, list),
                Action::ObjectRead,
                "The objects of this kind, by name",
                "Page",
                move |site: Site, asked: Asked<Window>| page(site, asked, kind),
            )
            .query(&["limit", "cursor"]),
        );
        endpoints.push(Endpoint::new(
            (Method::GET, one),
            Action::ObjectRead,
            "One object with its id and status; its ETag is for If-Match",
            "Object",
            move |site: Site, at: At<Uuid>| view(site, at, kind),
        ));
        endpoints.push(Endpoint::new(
            (Method::DELETE, one),
            Action::ObjectDelete,
            "Withdraw and archive an object; its accounting stays readable",
            "null",
            move |site: Site, by: By, at: At<Uuid>, headers: HeaderMap| {
                delete(site, by, at, headers, kind)
            },
        ));
        endpoints.push(
            Endpoint::new(
                (Method::POST, rename),
                Action::ObjectRename,
                "Give an object another name; its id and history stay",
                "null",
                move |site: Site,
                      by: By,
                      at: At<Uuid>,
                      headers: HeaderMap,
                      body: Json<RenameRequest>| {
                    rename_object(site, by, at, headers, body, kind)
                },
            )
            .takes("RenameRequest"),
        );
    }
    endpoints
}

/// The paths of a kind: list, one, rename.
fn paths(kind: Kind) -> (&'static str, &'static str, &'static str) {
    match kind {
        Kind::Package => ("/packages", "/packages/{id}", "/packages/{id}/rename"),
        Kind::Collection => ("/collections", "/collections/{id}", "/collections/{id}/rename"),
        Kind::Advertisement => {
            ("/advertisements", "/advertisements/{id}", "/advertisements/{id}/rename")
        }
        Kind::MaintenanceWindow => (
            "/maintenance-windows",
            "/maintenance-windows/{id}",
            "/maintenance-windows/{id}/rename",
        ),
    }
}

async fn apply(
    State(app): Site,
    By(who): By,
    Json(request): Json<ApplyRequest>,
) -> Outcome<Answer<ApplyAnswer>> {
    Ok(Answer(app.apply(&who, request).await?))
}

async fn schema() -> Answer<serde_json::Value> {
    Answer(muster_model::schema::schema())
}

async fn resolve(State(app): Site, Json(request): Json<Resolve>) -> Outcome<Answer<Resolved>> {
    let (id, name) = app.resolve(&request.kind, &request.name).await?;
    Ok(Answer(Resolved { id, name }))
}

async fn publish(
    State(app): Site,
    By(who): By,
    Json(request): Json<PublishRequest>,
) -> Outcome<Answer<PublishAnswer>> {
    Ok(Answer(app.package_publish(&who, request).await?))
}

async fn page(State(app): Site, Asked(window): Asked<Window>, kind: Kind) -> Outcome<Response> {
    let page = app.object_page(kind, window.cursor.as_deref(), window.limit()).await?;
    Ok(Answer(page).into_response())
}

async fn view(State(app): Site, At(id): At<Uuid>, kind: Kind) -> Outcome<Response> {
    let (object, revision) = app.object_view(kind, id).await?;
    let mut response = Answer(object).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

async fn delete(
    State(app): Site,
    By(who): By,
    At(id): At<Uuid>,
    headers: HeaderMap,
    kind: Kind,
) -> Outcome<Answer<()>> {
    app.object_delete(&who, kind, id, if_match(&headers)?).await?;
    Ok(Answer(()))
}

async fn rename_object(
    State(app): Site,
    By(who): By,
    At(id): At<Uuid>,
    headers: HeaderMap,
    Json(request): Json<RenameRequest>,
    kind: Kind,
) -> Outcome<Answer<()>> {
    app.object_rename(&who, kind, id, request.name, if_match(&headers)?).await?;
    Ok(Answer(()))
}
