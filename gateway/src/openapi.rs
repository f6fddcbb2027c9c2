//! What the two listeners serve, as documents of OpenAPI 3.1.
//!
//! Responsible for putting them together from the annotations at the handlers, the types of the answers and the tables
//! of refusals, and for serving them. Must never state what a table or a type of the code states: a document that is
//! written a second time is wrong by the second change.

mod refusals;
mod parameters;
mod header;
mod schema;
mod credential_schema;
mod admin_schema;

use std::sync::LazyLock;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use crate::admission::session::Identity;
use crate::credential::{API_KEY, INTERNAL_TOKEN, SESSION_COOKIES};
use crate::respond::not_modified;
use crate::{admin, decide, delegations, digest, events, health, limits, sessions, tasks, well_known};

pub(crate) use parameters::{
    AuditQuery, ChangeQuery, DecideQuery, DecisionQuery, EndingQuery, EventsHeader, LimitsQuery, PassIdPath,
    RevisionPath, RevisionsQuery, ScopeQuery, SubmitHeader, TaskIdPath,
};
pub(crate) use refusals::{
    Asking, Changing, Deciding, EndingPass, EndingSession, Finding, Following, Minting, Open, OpeningSession, Reading,
    Rolling, Submitting, Surveying, TakingBack, TaskOf, Unguarded, Validating,
};

/// The credential that only event streams take.
const EVENTS_BEARER: &str = "events_bearer";

/// Routes that have no caller and the headers of no policy.
const WITHOUT_CALLER: [&str; 2] = ["health", "discovery"];

/// The routes of the public listener.
#[derive(OpenApi)]
#[openapi(
    info(title = "Portcullis", description = PUBLIC),
    paths(
        tasks::submit, tasks::show, tasks::cancel, events::follow, limits::show, decide::decide, decide::end,
        sessions::open, sessions::current, sessions::end, delegations::mint, delegations::revoke, well_known::answer,
        public_document, health::healthz, health::readyz
    )
)]
struct PublicApi;

/// The routes of the admin listener.
#[derive(OpenApi)]
#[openapi(
    info(title = "Portcullis: administration", description = ADMIN),
    paths(
        admin::metrics_text, admin::system, admin::processors, admin::queues, admin::recent_decisions,
        admin::circuit_breakers, admin::policy::validate, admin::policy::update, admin::policy::reset,
        admin::policy::config, admin::policy::revisions, admin::policy::revision, admin::policy::rollback,
        admin::policy::convergence, admin::policy::audit, admin_document, health::healthz, health::readyz
    )
)]
struct AdminApi;

const PUBLIC: &str = "Admission control for expensive requests. A path that is not listed here is passed on to the \
    application behind the gateway, if there is one: its answers are the application's, its refusals those of \
    `components.responses`. Every refusal is problem details (RFC 9457).";

const ADMIN: &str = "For operators. What is about a scope is about the default one unless the request says otherwise. \
    Every refusal is problem details (RFC 9457).";

/// A document as it is served.
#[derive(Debug)]
struct Document {
    bytes: Bytes,
    /// Names these bytes (RFC 9110 §8.8.3).
    etag: HeaderValue,
}

static PUBLIC_DOCUMENT: LazyLock<Document> = LazyLock::new(|| Document::of(&public()));
static ADMIN_DOCUMENT: LazyLock<Document> = LazyLock::new(|| Document::of(&administration()));

impl Document {
    fn of(document: &Value) -> Self {
        let bytes = Bytes::from(document.to_string());
        let etag = HeaderValue::from_str(&format!("\"{}\"", digest::body_hex(&bytes)));
        // Quotes around hexadecimal digits.
        Self { bytes, etag: etag.unwrap_or(HeaderValue::from_static("\"\"")) }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let known = known.flat_map(|list| list.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
        let mut known = known.filter(|tag| *tag == "*" || tag.as_bytes() == self.etag.as_bytes());
        let mut response = if known.next().is_some() {
            not_modified()
        } else {
            let mut response = Response::new(Body::from(self.bytes.clone()));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        };
        response.headers_mut().insert(ETAG, self.etag.clone());
        // The answer names its caller, so nobody else may be given it; whoever kept it asks whether it is still so.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        response
    }
}

/// The document of the public listener.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "read_openapi", tag = "description", summary = "This document",
    responses((status = 200, description = "OpenAPI 3.1", body = ref("#/components/schemas/OpenApi")),
        (status = 304, description = "It is still the one named in `If-None-Match`"), Reading)
)]
pub(crate) async fn public_document(_: Identity, headers: HeaderMap) -> Response {
    PUBLIC_DOCUMENT.answer(&headers)
}

/// The document of the admin listener.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "read_openapi", tag = "description", summary = "This document",
    responses((status = 200, description = "OpenAPI 3.1", body = ref("#/components/schemas/OpenApi")),
        (status = 304, description = "It is still the one named in `If-None-Match`"), Unguarded)
)]
pub(crate) async fn admin_document(headers: HeaderMap) -> Response {
    ADMIN_DOCUMENT.answer(&headers)
}

fn public() -> Value {
    let credentials = json!({
        "bearer": {"type": "http", "scheme": "bearer"},
        "internal_token": {"type": "apiKey", "in": "header", "name": INTERNAL_TOKEN.as_str()},
        "session": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIES[0]},
        "session_insecure": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIES[1]},
        "api_key": {"type": "apiKey", "in": "header", "name": API_KEY.as_str()},
        EVENTS_BEARER: {
            "type": "apiKey", "in": "query", "name": "bearer_token",
            "description": "On `/v1/tasks/{id}/events` only: an `EventSource` cannot set a header.",
        },
    });
    let mut document = complete(PublicApi::openapi(), schema::public(), credentials, true);
    document["components"]["responses"] = refusals::of_the_application();
    // One handler answers both methods, and names of operations are unique.
    document["paths"]["/v1/decide"]["post"]["operationId"] = json!("decide_by_post");
    document
}

fn administration() -> Value {
    let credentials = json!({"admin_token": {"type": "http", "scheme": "bearer"}});
    complete(AdminApi::openapi(), admin_schema::all(), credentials, false)
}

/// Adds what every operation has: headers, credentials, and the schemas it names. Where there are callers, one who
/// presents nothing is known by its address.
fn complete(api: utoipa::openapi::OpenApi, schemas: Map<String, Value>, credentials: Value, callers: bool) -> Value {
    // Types that are made to be written as JSON.
    let mut document = serde_json::to_value(api).unwrap_or_default();
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    let names: Vec<&String> = credentials.as_object().into_iter().flat_map(Map::keys).collect();
    let accepted = |events: bool| -> Value {
        let usable = names.iter().filter(|name| events || **name != EVENTS_BEARER);
        let nothing = callers.then(|| json!({}));
        nothing.into_iter().chain(usable.map(|name| json!({name.as_str(): []}))).collect()
    };
    for (path, operations) in document["paths"].as_object_mut().into_iter().flatten() {
        for operation in operations.as_object_mut().into_iter().flat_map(Map::values_mut) {
            if WITHOUT_CALLER.iter().any(|tag| operation["tags"][0] == *tag) {
                operation["security"] = json!([]);
                continue;
            }
            operation["security"] = accepted(path.ends_with("/events"));
            header::attach(operation, callers);
        }
    }
    let mut components = json!({"headers": header::components(callers), "parameters": header::parameters()});
    components["schemas"] = Value::Object(schemas);
    components["securitySchemes"] = credentials;
    document["components"] = components;
    document
}

#[cfg(test)]
mod tests;
