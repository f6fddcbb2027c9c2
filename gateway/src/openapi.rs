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
mod revocation_schema;

use std::sync::LazyLock;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use crate::admin::offer::AdminOffer;
use crate::admission::session::Identity;
use crate::credential::{API_KEY, INTERNAL_TOKEN, SESSION_COOKIES};
use crate::respond::not_modified;
use crate::{admin, decide, delegations, digest, events, health, limits, sessions, tasks, well_known};

pub(crate) use parameters::{
    AuditQuery, ChangeQuery, DecideQuery, DecisionQuery, EndingQuery, EventsHeader, ExportQuery, LimitsQuery,
    PassIdPath, RevisionPath, RevisionsQuery, RevocationsQuery, ScopeQuery, SubmitHeader, TaskIdPath,
};
pub(crate) use refusals::{
    Asking, Changing, Deciding, EndingPass, EndingSession, Following, Metering, Minting, Open, OpeningSession, Reading,
    Revoking, Submitting, Surveying, TakingBack, TaskOf, Unguarded, Validating,
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
        admin::circuit_breakers, admin::providers::list, admin::policy::validate, admin::policy::update,
        admin::policy::reset, admin::policy::config, admin::policy::revisions, admin::policy::revision,
        admin::policy::rollback, admin::policy::convergence, admin::revocations::list, admin::revocations::revoke,
        admin::revocations::acknowledge, admin::audit::events, admin::audit::export, admin_document,
        health::healthz, health::readyz
    )
)]
struct AdminApi;

const PUBLIC: &str = "Admission control for expensive requests. A path that is not listed here is passed on to the \
    application behind the gateway, if there is one: its answers are the application's, its refusals those of \
    `components.responses`. Every refusal is problem details (RFC 9457).";

const ADMIN: &str = "For operators: the bearer of the admin token, and in their own scope privileged callers whose \
    credential was given for `admin`. What is about a scope is about the default one unless the request says \
    otherwise. Every refusal is problem details (RFC 9457).";

/// A document as it is served.
#[derive(Debug)]
pub(crate) struct Document {
    bytes: Bytes,
    /// Names these bytes (RFC 9110 §8.8.3).
    etag: HeaderValue,
}

static PUBLIC_DOCUMENT: LazyLock<Document> = LazyLock::new(|| Document::of(&public()));

impl Document {
    pub(crate) fn of(document: &Value) -> Self {
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
pub(crate) async fn admin_document(State(admin): admin::Shared, headers: HeaderMap) -> Response {
    admin.document().answer(&headers)
}

/// The credentials of callers.
fn credentials() -> Value {
    json!({
        "bearer": {"type": "http", "scheme": "bearer"},
        "internal_token": {"type": "apiKey", "in": "header", "name": INTERNAL_TOKEN.as_str()},
        "session": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIES[0]},
        "session_insecure": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIES[1]},
        "api_key": {"type": "apiKey", "in": "header", "name": API_KEY.as_str()},
    })
}

fn public() -> Value {
    let mut credentials = credentials();
    credentials[EVENTS_BEARER] = json!({
        "type": "apiKey", "in": "query", "name": "bearer_token",
        "description": "On `/v1/tasks/{id}/events` only: an `EventSource` cannot set a header.",
    });
    let mut document = complete(PublicApi::openapi(), schema::public(), credentials, true);
    document["components"]["responses"] = refusals::of_the_application();
    // One handler answers both methods, and names of operations are unique.
    document["paths"]["/v1/decide"]["post"]["operationId"] = json!("decide_by_post");
    document
}

/// The description of the operations of the admin listener that are offered.
pub(crate) fn administration(offer: &AdminOffer) -> Value {
    let mut accepted = json!({
        "admin_token": {"type": "http", "scheme": "bearer", "description": "`PORTCULLIS_ADMIN_TOKEN`: every scope."},
    });
    // Of a privileged caller with the scope `admin`.
    for (name, credential) in credentials().as_object().into_iter().flatten() {
        accepted[name] = credential.clone();
    }
    let mut document = complete(AdminApi::openapi(), admin_schema::all(), accepted, false);
    if let Some(paths) = document["paths"].as_object_mut() {
        for operations in paths.values_mut().filter_map(Value::as_object_mut) {
            operations.retain(|_, operation| {
                let name = operation["operationId"].as_str().unwrap_or_default();
                health::CHECKS.contains(&name) || offer.has(name)
            });
        }
        paths.retain(|_, operations| operations.as_object().is_some_and(|operations| !operations.is_empty()));
    }
    document
}

/// The names of the operations of the admin listener that can be left out, in order.
pub(crate) fn admin_operations() -> Vec<String> {
    let document = serde_json::to_value(AdminApi::openapi()).unwrap_or_default();
    let operations = document["paths"].as_object().into_iter().flat_map(Map::values).filter_map(Value::as_object);
    let names = operations.flat_map(Map::values).filter_map(|operation| operation["operationId"].as_str());
    let mut names: Vec<String> = names.filter(|name| !health::CHECKS.contains(name)).map(str::to_owned).collect();
    names.sort_unstable();
    names
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
