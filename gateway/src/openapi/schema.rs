//! The bodies of the public listener.
//!
//! Responsible for their schemas: those of answers come from the types they are written from; a submission and a
//! problem, which are read and written byte by byte, are described here, with the bounds of the code that does so. Must
//! never bound what a policy bounds: that may change while the document stands.

use portcullis_config::UserType;
use portcullis_lua::TaskStatus;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::credential_schema;
use crate::admin::decisions::STEPS;
use crate::admission::economics::{MAX_ESTIMATE, MAX_UNITS};
use crate::admission::enqueue::MAX_DEADLINE_MS;
use crate::degraded::Fallback;
use crate::delegations::DelegationView;
use crate::limits::LimitsView;
use crate::refusal::{Cause, RequestFault};
use crate::respond::PROBLEM_TYPES;
use crate::sessions::{CurrentView, OpenedView};
use crate::task_view::TaskView;

/// Names of task kinds.
pub(super) const KIND_PATTERN: &str = "^[a-z0-9][a-z0-9._-]{0,63}$";

/// Names of tenants and projects.
pub(super) const NAME_PATTERN: &str = "^[A-Za-z0-9._-]{1,64}$";

/// Ids of events: number of the attempt and number within it.
pub(super) const EVENT_ID_PATTERN: &str = "^[0-9]{1,9}-[0-9]{1,20}$";

/// Units of estimates.
const UNIT_PATTERN: &str = "^[a-z][a-z0-9_]{0,63}$";

/// All of them, by name.
pub(super) fn public() -> Map<String, Value> {
    let mut generator = generator();
    let status = reference::<TaskStatus>(&mut generator);
    let user_type = reference::<UserType>(&mut generator);
    reference::<TaskView<'_>>(&mut generator);
    reference::<LimitsView<'_>>(&mut generator);
    reference::<OpenedView<'_>>(&mut generator);
    reference::<CurrentView<'_>>(&mut generator);
    reference::<DelegationView<'_>>(&mut generator);
    let fallback = reference::<Fallback>(&mut generator);
    let problem = problem(&mut generator);
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Submission".to_owned(), submission());
    schemas.insert("Accepted".to_owned(), accepted(&status, &user_type, &fallback));
    schemas.insert("Problem".to_owned(), problem);
    schemas.extend(credential_schema::all());
    schemas.insert("TaskEvent".to_owned(), event());
    schemas.insert("OpenApi".to_owned(), json!({"type": "object", "required": ["openapi", "info", "paths"]}));
    schemas
}

/// Makes schemas of what is written, not of what is read.
pub(super) fn generator() -> SchemaGenerator {
    let components = |settings: &mut SchemaSettings| settings.definitions_path = "/components/schemas".into();
    SchemaSettings::draft2020_12().with(components).for_serialize().into_generator()
}

/// Where the schema of a type stands, or itself if it has no name.
pub(super) fn reference<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

/// An object that always has all of these.
pub(super) fn object<const N: usize>(properties: [(&str, Value); N]) -> Value {
    let names: Vec<&str> = properties.iter().map(|(name, _)| *name).collect();
    let properties: Map<String, Value> =
        properties.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    json!({"type": "object", "required": names, "properties": properties})
}

/// A list of these.
pub(super) fn list(of: &Value) -> Value {
    json!({"type": "array", "items": of})
}

/// One of these, or null.
pub(super) fn or_null(schema: &Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

/// The body of a refusal.
pub(super) fn problem(generator: &mut SchemaGenerator) -> Value {
    let mut codes: Vec<&str> = Vec::new();
    for code in Cause::all().map(Cause::code) {
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    let types: Vec<&str> = PROBLEM_TYPES.into_iter().chain(["about:blank"]).collect();
    let steps: Vec<Option<&str>> = STEPS.iter().map(|step| Some(step.as_str())).chain([None]).collect();
    let mut schema = object([
        ("type", json!({"type": "string", "format": "uri", "enum": types})),
        ("title", json!({"type": "string"})),
        ("status", json!({"type": "integer", "minimum": 400, "maximum": 599})),
        ("detail", json!({"type": "string"})),
        ("code", json!({"type": "string", "enum": codes})),
        ("step", json!({"description": "The step that refused.", "enum": steps})),
        (
            "retry_after",
            json!({
                "description": "Seconds until it is worth another try; null where waiting does not help.",
                "type": ["number", "null"], "exclusiveMinimum": 0,
            }),
        ),
        ("user_type", json!({"type": ["string", "null"]})),
        ("session_id", json!({"type": ["string", "null"]})),
        ("request_id", json!({"type": "string"})),
    ]);
    schema["description"] = json!("Why a request was turned away: problem details (RFC 9457).");
    let faults = list(&reference::<RequestFault>(generator));
    let extensions = [
        ("degraded", degraded(&reference::<Fallback>(generator))),
        ("limit", json!({"type": "string", "description": "The limit that is exhausted."})),
        ("budget", json!({"type": "string", "description": "The budget that is exhausted."})),
        (
            "violated-policies",
            json!({
                "type": "array", "items": {"type": "string"},
                "description": "As draft-ietf-httpapi-ratelimit-headers-11 has them.",
            }),
        ),
        ("errors", faults),
        ("current", json!({"type": "integer", "minimum": 0, "description": "Revision that is stored."})),
    ];
    for (name, extension) in extensions {
        schema["properties"][name] = extension;
    }
    schema
}

fn submission() -> Value {
    let estimate = json!({
        "type": "object", "maxProperties": MAX_UNITS, "propertyNames": {"pattern": UNIT_PATTERN},
        "additionalProperties": {"type": "integer", "minimum": 0, "maximum": MAX_ESTIMATE},
        "description": "What the task will use, by unit; a budget without an estimate holds its own.",
    });
    let attempts = "Runs it may use; the policy has the usual number and the most.";
    json!({
        "type": "object", "required": ["kind", "payload"], "additionalProperties": false,
        "properties": {
            "kind": {"type": "string", "pattern": KIND_PATTERN, "description": "What sort of task it is."},
            "payload": {"description": "Any JSON: the handler gets it as it stands. The policy has the most bytes."},
            "deadline_ms": {
                "type": "integer", "minimum": 1, "maximum": MAX_DEADLINE_MS,
                "description": "From now until the task is worth nothing any more, ms.",
            },
            "delay_ms": {
                "type": "integer", "minimum": 0,
                "description": "From now until it may start, ms; the policy has the most.",
            },
            "max_attempts": {"type": "integer", "minimum": 1, "maximum": u32::MAX, "description": attempts},
            "estimate": estimate,
        },
        "examples": examples(),
    })
}

/// Submissions as they might be sent.
pub(super) fn examples() -> Vec<Value> {
    vec![
        json!({"kind": "chat", "payload": {"prompt": "Say hello."}}),
        json!({
            "kind": "report", "payload": [1, 2], "deadline_ms": 30_000, "delay_ms": 0, "max_attempts": 3,
            "estimate": {"tokens": 1200},
        }),
    ]
}

/// One server-sent event.
fn event() -> Value {
    object([
        ("id", json!({"type": "string", "pattern": EVENT_ID_PATTERN})),
        ("event", json!({"enum": ["status", "output", "done"]})),
        (
            "data",
            json!({
                "type": "string",
                "description": "JSON for `status`, the piece itself for `output`, the task as JSON for `done`.",
            }),
        ),
    ])
}

/// What is said of an answer that rests on fallbacks.
fn degraded(fallback: &Value) -> Value {
    let described = "The fallbacks that the wait rests on; left out where it rests on what was measured.";
    json!({"type": "array", "items": fallback, "description": described})
}

fn accepted(status: &Value, user_type: &Value, fallback: &Value) -> Value {
    let count = json!({"type": "integer", "minimum": 0});
    let mut schema = object([
        ("task_id", json!({"type": "string"})),
        ("status", or_null(status)),
        ("user_type", user_type.clone()),
        ("session_id", json!({"type": "string"})),
        ("depth", count.clone()),
        ("capacity", count),
        (
            "estimated_wait_ms",
            json!({
                "description": "Until a processor takes it; null when this repeats an earlier request.",
                "type": ["integer", "null"], "minimum": 0,
            }),
        ),
    ]);
    schema["properties"]["degraded"] = degraded(fallback);
    schema["description"] = json!(
        "A task that was accepted. The status is null if it repeats a request whose task has been forgotten by now."
    );
    schema
}
