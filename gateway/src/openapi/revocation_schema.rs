//! The bodies of the routes about revocations.
//!
//! Responsible for their schemas, with the bounds of the code that checks them. Must never leave out a member that an
//! answer has: a test looks.

use serde_json::{Map, Value, json};

use super::schema::{NAME_PATTERN, list, object};
use crate::admin::revocations::{CEILING, KINDS, MAX_ID, MAX_REASON};

/// Adds them by name.
pub(super) fn insert(schemas: &mut Map<String, Value>) {
    let (count, text, time) = (
        json!({"type": "integer", "minimum": 0}),
        json!({"type": "string"}),
        json!({"type": "string", "format": "date-time"}),
    );
    let maybe_time = json!({"type": ["string", "null"], "format": "date-time"});
    let kinds: Vec<&str> = KINDS.into_iter().chain([CEILING]).collect();
    let revocation = object([
        ("kind", json!({"enum": kinds, "description": "`ceiling`: the principal counts as no more than `user_type`."})),
        ("id", json!({"type": "string", "description": "Of a long name, its digest."})),
        ("user_type", json!({"type": ["string", "null"]})),
        ("revoked_at", time.clone()),
        ("until", time),
        ("not_before", maybe_time),
        ("by", text.clone()),
        ("reason", text),
    ]);
    let number = json!({"type": "integer", "minimum": 0, "description": "Grows with every revocation of the scope."});
    let lost = json!({
        "type": "boolean",
        "description": "Redis lost revocations: delegated callers are refused until this is acknowledged.",
    });
    let revocations = object([
        ("number", number.clone()),
        ("lost", lost.clone()),
        ("total", count.clone()),
        ("revocations", list(&revocation)),
    ]);
    let changed =
        json!({"type": "integer", "minimum": 0, "description": "0: as much was revoked before, and for as long."});
    let revoked = object([
        ("number", number.clone()),
        ("changed", changed),
        ("kind", json!({"enum": KINDS})),
        ("id", json!({"type": "string"})),
    ]);
    for (name, schema) in [
        ("Revocations", revocations),
        ("Revoked", revoked),
        ("Acknowledged", object([("number", number), ("lost", lost)])),
        ("RevocationWish", wish()),
        ("Acknowledgement", acknowledgement()),
    ] {
        schemas.insert(name.to_owned(), schema);
    }
}

fn wish() -> Value {
    let mut wish = acknowledgement();
    wish["required"] = json!(["kind", "id", "reason"]);
    wish["properties"]["kind"] = json!({"enum": KINDS});
    wish["properties"]["id"] = json!({
        "type": "string", "minLength": 1, "maxLength": MAX_ID,
        "description": "A principal's or agent's name; the id of a session, or the SHA-256 of its token in hexadecimal \
            digits; the id of a delegation or of an API key; the thumbprint of a key. Never a credential. \
            `sha256:…`, as a name of more than 64 bytes is shown, stands for that name.",
    });
    wish
}

fn acknowledgement() -> Value {
    let name = json!({"type": ["string", "null"], "pattern": NAME_PATTERN});
    json!({
        "type": "object", "additionalProperties": false, "required": ["reason"],
        "properties": {
            "tenant": name, "project": name,
            "reason": {"type": "string", "minLength": 1, "maxLength": MAX_REASON},
        },
    })
}
