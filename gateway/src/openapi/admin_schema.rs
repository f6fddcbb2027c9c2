//! The bodies of the admin listener.
//!
//! Responsible for their schemas: what Redis tells comes from the types it is read into, the documents around it are
//! described as `admin/` puts them together. Must never leave out a member that an answer has: a test looks.

use portcullis_config::schema::of_documents;
use portcullis_config::{Fault, PolicyChange, Scope};
use portcullis_lua::{
    AuditEvent, BreakerView, DecisionEvent, Origin, ProcessorView, QueueView, ReplicaView, RevisionRecord,
    RevisionSummary,
};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::revocation_schema;
use super::schema::{NAME_PATTERN, generator, list, object, or_null, problem, reference};
use crate::admin::policy::request::{MAX_REASON, WHOLE};
use crate::degraded::Fallback;
use crate::identity::FetchFault;
use crate::identity::document::DocumentSource;

/// Points in time, ms since the epoch in Redis, RFC 3339 in answers.
const TIMES: [(&str, &str); 5] = [
    ("last_heartbeat_ms", "last_heartbeat_at"),
    ("policy_since_ms", "policy_since_at"),
    ("at_ms", "at"),
    ("since_ms", "since_at"),
    ("last_heard_ms", "last_heard_at"),
];

/// All of them, by name.
pub(super) fn all() -> Map<String, Value> {
    let mut generator = generator();
    let parts = Parts::of(&mut generator);
    let problem = problem(&mut generator);
    let mut schemas = generator.take_definitions(true);
    for schema in schemas.values_mut() {
        name_times(schema);
    }
    let queue = &mut schemas["QueueView"];
    queue["properties"]["depth"] = count();
    if let Some(required) = queue["required"].as_array_mut() {
        required.push(json!("depth"));
    }
    schemas.insert("Problem".to_owned(), problem);
    schemas.insert("OpenApi".to_owned(), json!({"type": "object", "required": ["openapi", "info", "paths"]}));
    state(&parts, &mut schemas);
    policy(&parts, &mut schemas);
    revocation_schema::insert(&mut schemas);
    requests(&mut schemas);
    schemas
}

/// References to the schemas of types.
struct Parts {
    scope: Value,
    processor: Value,
    queue: Value,
    breaker: Value,
    decision: Value,
    fault: Value,
    change: Value,
    origin: Value,
    summary: Value,
    replica: Value,
    event: Value,
    document_source: Value,
    fetch_fault: Value,
    fallback: Value,
}

impl Parts {
    fn of(generator: &mut SchemaGenerator) -> Self {
        fn part<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
            reference::<T>(generator)
        }
        part::<RevisionRecord>(generator);
        Self {
            scope: part::<Scope>(generator),
            processor: part::<ProcessorView>(generator),
            queue: part::<QueueView>(generator),
            breaker: part::<BreakerView>(generator),
            decision: part::<DecisionEvent>(generator),
            fault: part::<Fault>(generator),
            change: part::<PolicyChange>(generator),
            origin: part::<Origin>(generator),
            summary: part::<RevisionSummary>(generator),
            replica: part::<ReplicaView>(generator),
            event: part::<AuditEvent>(generator),
            document_source: part::<DocumentSource>(generator),
            fetch_fault: part::<FetchFault>(generator),
            fallback: part::<Fallback>(generator),
        }
    }
}

/// What a scope and its gateway are doing.
fn state(parts: &Parts, schemas: &mut Map<String, Value>) {
    let by_type = json!({"type": "object", "additionalProperties": count()});
    let by_code = json!({"type": "object", "additionalProperties": by_type});
    let store =
        object([("breaker", json!({"enum": ["open", "closed"]})), ("answers", flag()), ("error", maybe_text())]);
    let gateway = object([("instance", text()), ("version", text()), ("draining", flag()), ("event_streams", count())]);
    let config = object([("revision", count()), ("source", text()), ("fault", maybe_text())]);
    let pressure = object([
        ("pressure", json!({"type": "number"})),
        ("depth", count()),
        ("capacity", count()),
        ("slots", count()),
        ("thresholds", by_type.clone()),
        ("hard_limit", count()),
    ]);
    let hour = object([("hour_at", time()), ("admitted", by_type), ("refused", by_code.clone())]);
    let number = json!({"type": ["number", "null"]});
    let latencies = object([
        ("admit", or_null(&object([("calls", count()), ("mean_ms", number.clone())]))),
        ("service_ms", number),
        ("oldest_wait_ms", json!({"type": ["integer", "null"], "minimum": 0})),
    ]);
    let system = object([
        ("scope", parts.scope.clone()),
        ("degraded", list(&parts.fallback)),
        ("gateway", gateway),
        ("config", config),
        ("queue", or_null(&parts.queue)),
        ("pressure", or_null(&pressure)),
        ("processors", or_null(&list(&parts.processor))),
        ("circuit_breakers", or_null(&list(&parts.breaker))),
        ("throttling", or_null(&object([("hours", list(&hour))]))),
        ("local_refusals", or_null(&by_code)),
        ("store", store.clone()),
        ("latencies", latencies),
    ]);
    let breakers = object([("circuit_breakers", list(&parts.breaker)), ("store", store)]);
    let maybe_time = json!({"type": ["string", "null"], "format": "date-time"});
    let provider = object([
        ("issuer", text()),
        ("kind", json!({"enum": ["jwt", "alb"]})),
        ("source", parts.document_source.clone()),
        ("keys", count()),
        ("last_ok_at", maybe_time.clone()),
        ("last_error_at", maybe_time),
        ("last_error_code", or_null(&parts.fetch_fault)),
        ("degraded", list(&parts.fallback)),
    ]);
    let providers = object([("gateway", text()), ("providers", list(&provider))]);
    schemas.insert("IdentityProviders".to_owned(), providers);
    schemas.insert("System".to_owned(), system);
    schemas.insert("Processors".to_owned(), object([("processors", list(&parts.processor))]));
    schemas.insert("Decisions".to_owned(), object([("decisions", list(&parts.decision))]));
    schemas.insert("CircuitBreakers".to_owned(), breakers);
}

/// Policies and their changes.
fn policy(parts: &Parts, schemas: &mut Map<String, Value>) {
    let paths = list(&text());
    let (document, faults) = (json!({"type": "object"}), list(&parts.fault));
    let validation = object([
        ("scope", parts.scope.clone()),
        ("revision", count()),
        ("valid", flag()),
        ("errors", faults.clone()),
        ("warnings", faults.clone()),
        ("changed", paths.clone()),
        ("changes", list(&parts.change)),
        ("effective", or_null(&document)),
    ]);
    let mut convergence = object([
        ("revision", count()),
        ("converged", flag()),
        ("replicas", or_null(&list(&parts.replica))),
        ("waiting_for", or_null(&paths)),
    ]);
    convergence["properties"]["error"] = text();
    let change = object([
        ("scope", parts.scope.clone()),
        ("revision", count()),
        ("changed", paths.clone()),
        ("restart_required", paths.clone()),
        ("without_effect", paths.clone()),
        ("warnings", faults),
        ("dry_run", flag()),
        ("convergence", or_null(&json!({"$ref": "#/components/schemas/Convergence"}))),
    ]);
    let mut config = object([
        ("scope", parts.scope.clone()),
        ("revision", count()),
        ("stored_revision", json!({"type": ["integer", "null"], "minimum": 0})),
        ("fault", maybe_text()),
        ("source", text()),
        ("origin", or_null(&parts.origin)),
        ("actor", maybe_text()),
        ("at", or_null(&time())),
        ("document", document.clone()),
        ("effective", document),
    ]);
    let of_its_author = [("reason", text()), ("rolled_back_to", count()), ("changed", paths)];
    for (name, schema) in of_its_author {
        config["properties"][name] = schema;
    }
    for (name, schema) in [
        ("Validation", validation),
        ("Convergence", convergence),
        ("Change", change),
        ("Config", config),
        ("Revisions", object([("revisions", list(&parts.summary))])),
        ("Audit", object([("events", list(&parts.event))])),
    ] {
        schemas.insert(name.to_owned(), schema);
    }
}

/// What changes a policy.
fn requests(schemas: &mut Map<String, Value>) {
    let name = json!({"type": ["string", "null"], "pattern": NAME_PATTERN});
    let own = json!({
        "tenant": name, "project": name,
        "expected_revision": {
            "type": ["integer", "null"], "minimum": 0,
            "description": "The revision its author has seen; nothing changes if it is another one.",
        },
        "reason": {"type": ["string", "null"], "minLength": 1, "maxLength": MAX_REASON},
        "dry_run": {"type": ["boolean", "null"], "description": "Only say what would happen."},
    });
    let mut update = json!({
        "type": "object", "properties": own,
        "description": "Beside its own members a merge patch (RFC 7396) of the document in force, or the whole of a \
            document that replaces it.",
    });
    for name in WHOLE {
        update["properties"][name] = json!({"$ref": "#/components/schemas/PolicyDocument"});
    }
    let reset = json!({"type": "object", "properties": own, "additionalProperties": false});
    let mut rollback = reset.clone();
    rollback["properties"]["revision"] = json!({"type": "integer", "minimum": 0});
    rollback["required"] = json!(["revision"]);
    schemas.insert("Update".to_owned(), update);
    schemas.insert("Reset".to_owned(), reset);
    schemas.insert("Rollback".to_owned(), rollback);
    let anything = "As for an update. Whatever is wrong with it is what the answer says.";
    schemas.insert("Candidate".to_owned(), json!({"type": "object", "description": anything}));
    let mut document = of_documents();
    at_home(&mut document);
    let parts = document.as_object_mut().and_then(|document| {
        document.shift_remove("$schema");
        document.shift_remove("$defs")
    });
    for (name, definition) in parts.as_ref().and_then(Value::as_object).into_iter().flatten() {
        schemas.insert(policy_part(name), definition.clone());
    }
    schemas.insert("PolicyDocument".to_owned(), document);
}

/// Lets the references of the policy's schema hold in a document that it is only a part of.
fn at_home(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(target)) = members.get_mut("$ref") {
                let whole = "#/components/schemas/PolicyDocument";
                *target = match target.strip_prefix("#/$defs/") {
                    Some(rest) => format!("#/components/schemas/{}", policy_part(rest)),
                    None => format!("{whole}{}", target.trim_start_matches('#')),
                };
            }
            members.values_mut().for_each(at_home);
        }
        Value::Array(items) => items.iter_mut().for_each(at_home),
        _ => {}
    }
}

fn policy_part(name: &str) -> String {
    format!("Policy.{name}")
}

/// Names points in time as the answers do.
fn name_times(schema: &mut Value) {
    for (from, to) in TIMES {
        let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
        let Some(properties) = properties else { return };
        let Some(described) = properties.shift_remove(from) else { continue };
        let mut time = time();
        time["description"] = described["description"].clone();
        properties.insert(to.to_owned(), time);
        let required = schema.get_mut("required").and_then(Value::as_array_mut);
        for name in required.into_iter().flatten().filter(|name| *name == from) {
            *name = json!(to);
        }
    }
}

fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn maybe_text() -> Value {
    json!({"type": ["string", "null"]})
}

fn flag() -> Value {
    json!({"type": "boolean"})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}
