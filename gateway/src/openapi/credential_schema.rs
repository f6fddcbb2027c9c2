//! The bodies of the routes about credentials.
//!
//! Responsible for the schemas of what is asked for; those of answers come from the types they are written from. Must
//! never show an example that works as a credential.

use portcullis_delegation::{AUDIENCES_MAX, CONSTRAINTS_MAX, HOPS_MAX, PRESENTED_MAX, REASON_MAX, SCOPES_MAX};
use serde_json::{Map, Value, json};

use crate::right;

/// What a scope of a delegation is made of.
const SCOPE_PATTERN: &str = r"^(\*|[a-z0-9_.-]+(:[a-z0-9_.-]+)*(:\*)?)$";

/// All of them, by name.
pub(super) fn all() -> Map<String, Value> {
    let reason = json!({"type": "string", "minLength": 1, "maxLength": REASON_MAX});
    // What may be left out may be null as well.
    let name = json!({"type": ["string", "null"], "minLength": 1, "maxLength": 64});
    let schemas = [
        (
            "SessionWish",
            json!({
                "type": "object", "additionalProperties": false,
                "properties": {"client_type": name, "label": name},
            }),
        ),
        ("DelegationWish", delegation_wish(&reason)),
        (
            "DelegationToRevoke",
            json!({
                "type": "object", "additionalProperties": false, "required": ["chain"],
                "properties": {
                    "chain": {"type": "string", "maxLength": PRESENTED_MAX,
                        "description": "The delegation, as its agent presents it."},
                    "reason": {"type": ["string", "null"], "minLength": 1, "maxLength": REASON_MAX},
                },
            }),
        ),
        ("ResourceMetadata", resource_metadata()),
    ];
    schemas.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

fn delegation_wish(reason: &Value) -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["agent", "scopes", "reason"],
        "properties": {
            "agent": {"type": "string", "minLength": 1, "maxLength": 256, "description": "Who is to act."},
            "scopes": {
                "type": "array", "minItems": 1, "maxItems": SCOPES_MAX, "uniqueItems": true,
                "items": {"type": "string", "pattern": SCOPE_PATTERN},
                "description": format!("What it may do, no more than the caller may. Here: {}.", right::ALL.join(", ")),
            },
            "reason": reason,
            "audience": {"type": ["array", "null"], "minItems": 1, "maxItems": AUDIENCES_MAX,
                "items": {"type": "string"}, "description": "Where; left out: here."},
            "ttl_seconds": {"type": ["integer", "null"], "minimum": 1, "maximum": 3600},
            "max_depth": {"type": ["integer", "null"], "minimum": 1, "maximum": HOPS_MAX,
                "description": "Tokens of the longest chain; above 1 only with `key`."},
            "constraints": {"type": ["object", "null"], "maxProperties": CONSTRAINTS_MAX,
                "propertyNames": {"pattern": "^[a-z0-9_]{1,64}$"},
                "additionalProperties": {"type": "integer", "minimum": 0},
                "description": "Upper bounds; `calls_per_min` and `calls_per_hour` are kept here, others by tools."},
            "key": {
                "type": ["object", "null"], "required": ["kty", "crv", "x"], "additionalProperties": false,
                "properties": {"kty": {"const": "OKP"}, "crv": {"const": "Ed25519"}, "x": {"type": "string"}},
                "description": "The agent's public key (RFC 8037): the delegation is bound to it.",
            },
        },
    })
}

fn resource_metadata() -> Value {
    let texts = json!({"type": "array", "items": {"type": "string"}});
    json!({
        "type": "object",
        "required": ["resource", "authorization_servers", "scopes_supported", "bearer_methods_supported"],
        "properties": {
            "resource": {"type": "string"}, "jwks_uri": {"type": "string"}, "authorization_servers": texts,
            "scopes_supported": texts, "bearer_methods_supported": texts,
            "dpop_signing_alg_values_supported": texts,
        },
    })
}
