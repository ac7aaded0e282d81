//! The description of the API (OpenAPI 3.1), made from the route table that the router is made from:
//! it cannot name a route that is not there, nor leave one out.

use serde_json::{Map, Value, json};

use super::endpoint::{BASE, Endpoint};

/// The whole description.
pub(super) fn describe(endpoints: &[Endpoint]) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in endpoints {
        let path = paths.entry(format!("{BASE}{}", endpoint.path)).or_insert_with(|| json!({}));
        path[endpoint.method.as_str().to_lowercase()] = operation(endpoint);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Muster",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Paths are built from ids; a name is resolved first. Errors are problem \
                documents (RFC 9457). Lists are pages: {\"items\": [...], \"next\": CURSOR}.",
        },
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "responses": {"Problem": {
                "description": "a problem document",
                "content": {"application/problem+json": {"schema": problem()}},
            }},
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let mut parameters: Vec<Value> = endpoint
        .path
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| parameter(name, "path"))
        .collect();
    parameters.extend(endpoint.query.iter().map(|name| parameter(name, "query")));
    let mut operation = json!({
        "summary": endpoint.summary,
        "operationId": operation_id(endpoint),
        "x-muster-action": endpoint.action.name(),
        "parameters": parameters,
        "responses": {
            "200": {"description": endpoint.answers, "content": content(endpoint.answers)},
            "default": {"$ref": "#/components/responses/Problem"},
        },
    });
    if let Some(body) = endpoint.takes {
        operation["requestBody"] =
            json!({"required": true, "description": body, "content": content(body)});
    }
    operation
}

/// `get-advertisements-id-accounting`.
fn operation_id(endpoint: &Endpoint) -> String {
    let path = endpoint.path.replace(['{', '}'], "").replace('/', "-");
    format!("{}{path}", endpoint.method.as_str().to_lowercase())
}

fn parameter(name: &str, place: &str) -> Value {
    json!({
        "name": name,
        "in": place,
        "required": place == "path",
        "schema": {"type": "string"},
    })
}

fn content(name: &str) -> Value {
    match name {
        "bytes" => json!({"application/octet-stream": {}}),
        "text/event-stream" => json!({"text/event-stream": {}}),
        name => json!({"application/json": {"schema": {"title": name}}}),
    }
}

fn problem() -> Value {
    json!({
        "type": "object",
        "required": ["type", "title", "status"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "hint": {"type": "string"},
            "field": {"type": "string"},
            "document": {"type": "integer"},
            "limit": {"type": "string"},
            "ids": {"type": "array", "items": {"type": "string"}},
        },
    })
}
