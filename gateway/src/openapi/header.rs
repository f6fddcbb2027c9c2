//! The headers of answers and requests.
//!
//! Responsible for which answer has which of them. Must never describe the headers of one operation only: those stand
//! with it.

use serde_json::{Map, Value, json};

/// Headers of every answer under a policy.
const ALWAYS: [&str; 2] = ["X-Request-Id", "X-Policy-Revision"];

/// Headers of every answer to a caller who was resolved.
const TO_CALLERS: [&str; 3] = ["X-Session-ID", "X-User-Type", "RateLimit-Policy"];

/// What the headers mean, for `components.headers`; with `callers`, those that name them too.
pub(super) fn components(callers: bool) -> Value {
    let mut headers = json!({
        "X-Request-Id": {
            "description": "Names the request in answers, logs, decisions and tasks: the client's own, if it is 1 to \
                64 of A-Z, a-z, 0-9, '.', '_' and '-', else a new one.",
            "required": true, "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
        },
        "X-Policy-Revision": {
            "description": "Revision of the policy the answer was given under; 0 is the one the gateway started with.",
            "required": true, "schema": {"type": "integer", "minimum": 0},
        },
        "Retry-After": {
            "description": "Seconds until it is worth another try, rounded up.",
            "required": true, "schema": {"type": "integer", "minimum": 1},
        },
        "WWW-Authenticate": {
            "description": "A scheme that would be accepted.", "required": true, "schema": {"type": "string"},
        },
    });
    if callers {
        headers["X-Session-ID"] = json!({
            "description": "The session the caller's limits are counted on.", "schema": {"type": "string"},
        });
        headers["X-User-Type"] =
            json!({"description": "The tier the caller is served as.", "schema": {"type": "string"}});
        headers["RateLimit-Policy"] = json!({
            "description": "The caller's limits: draft-ietf-httpapi-ratelimit-headers-11.",
            "schema": {"type": "string"},
        });
        headers["RateLimit"] = json!({
            "description": "What is left of them, where that was looked at.", "schema": {"type": "string"},
        });
    }
    headers
}

/// The headers any request may have.
pub(super) fn parameters() -> Value {
    json!({
        "X-Request-Id": {
            "name": "X-Request-Id", "in": "header", "schema": {"type": "string"},
            "description": "Names the request, if it is 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'.",
        },
    })
}

/// Adds to an operation and its answers the headers that all have.
pub(super) fn attach(operation: &mut Value, callers: bool) {
    for (status, response) in operation["responses"].as_object_mut().into_iter().flatten() {
        let mut names: Vec<&str> = ALWAYS.to_vec();
        if callers && status != "401" {
            names.extend(TO_CALLERS);
            if ["200", "202", "429", "503"].contains(&status.as_str()) {
                names.push("RateLimit");
            }
        }
        match status.as_str() {
            "429" | "503" => names.push("Retry-After"),
            "401" => names.push("WWW-Authenticate"),
            _ => {}
        }
        let refer = |name: &str| (name.to_owned(), json!({"$ref": format!("#/components/headers/{name}")}));
        let mut headers: Map<String, Value> = names.into_iter().map(refer).collect();
        headers.extend(response["headers"].as_object().cloned().unwrap_or_default());
        response["headers"] = Value::Object(headers);
    }
    let mut parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    parameters.push(json!({"$ref": "#/components/parameters/X-Request-Id"}));
    operation["parameters"] = Value::Array(parameters);
}
