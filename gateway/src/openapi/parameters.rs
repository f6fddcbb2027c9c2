//! The parameters of operations.
//!
//! Responsible for their names, places and bounds, the latter from the code that checks them. Must never bound what is
//! not refused beyond the bound.

use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Required, Schema};

use super::schema::{EVENT_ID_PATTERN, KIND_PATTERN, NAME_PATTERN};
use crate::admin::audit::{AUDIT_EVENTS, MAX_EXPORTED, MAX_FILTER, STREAM_ID_PATTERN, STREAMS};
use crate::admin::decisions::{DEFAULT_EVENTS, MAX_EVENTS, OUTCOMES as DECISIONS, STEPS};
use crate::admin::policy::REVISIONS;
use crate::admin::policy::request::MAX_WAIT_SECONDS as MAX_CHANGE_WAIT_SECONDS;
use crate::admin::revocations::REVOCATIONS;
use crate::decide::{MAX_LEASE_SECONDS, OUTCOMES, Profile};
use crate::idempotency_key::MAX_BYTES as MAX_KEY_BYTES;
use crate::prefer::MAX_WAIT_SECONDS;

macro_rules! parameters {
    ($($(#[$doc:meta])* $name:ident = $list:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) enum $name {}

        impl IntoParams for $name {
            fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                $list
            }
        }
    )+};
}

parameters! {
    /// Which task.
    TaskIdPath = vec![parameter(ParameterIn::Path, "id", "The task's id, a ULID.", string(Some(ULID_PATTERN)))];
    /// How a task is to be submitted.
    SubmitHeader = submit();
    /// From where on to follow a task.
    EventsHeader = vec![parameter(
        ParameterIn::Header,
        "Last-Event-ID",
        "Id of the last event that was received; the stream goes on after it.",
        string(Some(EVENT_ID_PATTERN)),
    )];
    /// Which proxy asks, about which request, on which terms.
    DecideQuery = decide();
    /// Which pass.
    PassIdPath = vec![parameter(ParameterIn::Path, "pass_id", "The pass's id, a ULID.", string(Some(ULID_PATTERN)))];
    /// How a pass ended.
    EndingQuery = vec![parameter(
        ParameterIn::Query,
        "outcome",
        "What became of the request; breakers hear nothing if it is not given.",
        one_of(OUTCOMES.map(|(name, _)| name)),
    )];
    /// With tasks of which kind.
    LimitsQuery = vec![parameter(
        ParameterIn::Query,
        "kind",
        "Also what applies to tasks of this kind only.",
        string(Some(KIND_PATTERN)),
    )];
    /// Which scope.
    ScopeQuery = scope();
    /// Which decisions.
    DecisionQuery = decisions();
    /// How many revisions, of which scope.
    RevisionsQuery = limited(REVISIONS);
    /// Which audit events, of which scope.
    AuditQuery = audit();
    /// Which part of which chain.
    ExportQuery = export();
    /// How many revocations, of which scope.
    RevocationsQuery = limited(REVOCATIONS);
    /// Which revision.
    RevisionPath = vec![parameter(ParameterIn::Path, "n", "Number of the revision.", whole(0, u32::MAX))];
    /// How long to wait for the replicas.
    ChangeQuery = vec![parameter(
        ParameterIn::Query,
        "wait",
        "Longest time to wait until all replicas hold the new policy, seconds.",
        whole(0, MAX_CHANGE_WAIT_SECONDS),
    )];
}

const ULID_PATTERN: &str = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$";

fn submit() -> Vec<Parameter> {
    let key = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(MAX_KEY_BYTES));
    let wait = format!("`wait=N` (RFC 7240): hold the answer up to N seconds, at most {MAX_WAIT_SECONDS}.");
    vec![
        parameter(
            ParameterIn::Header,
            "Idempotency-Key",
            "The same key with the same body is the same task: draft-ietf-httpapi-idempotency-key-header.",
            key.build(),
        ),
        parameter(ParameterIn::Header, "Prefer", &wait, string(None)),
        parameter(ParameterIn::Header, "traceparent", "W3C trace context, carried to the handler.", string(None)),
    ]
}

fn decide() -> Vec<Parameter> {
    let names = Profile::NAMES.map(|(name, _)| name);
    let header = |name, description| parameter(ParameterIn::Header, name, description, string(None));
    vec![
        parameter(ParameterIn::Query, "profile", "Which proxy asks; `plain` if not given.", one_of(names)),
        parameter(
            ParameterIn::Query,
            "lease_seconds",
            "Longest time for which a place among the passes in flight is wanted; none if not given. For the \
                operator's own proxies (`PORTCULLIS_DECIDE_CIDRS`) only.",
            whole(1, MAX_LEASE_SECONDS as u32),
        ),
        header("X-Original-URI", "The request asked about, as nginx says it."),
        header("X-Original-Method", "Its method, as nginx says it."),
        header("X-Forwarded-Uri", "The request asked about, as Traefik and Caddy say it."),
        header("X-Forwarded-Method", "Its method, as Traefik and Caddy say it."),
    ]
}

fn scope() -> Vec<Parameter> {
    let of = |name, description| parameter(ParameterIn::Query, name, description, string(Some(NAME_PATTERN)));
    vec![of("tenant", "Tenant of the scope."), of("project", "Project of the scope.")]
}

fn limited((usual, most): (u32, u32)) -> Vec<Parameter> {
    let description = format!("How many of the newest; {usual} if not given.");
    let mut list = scope();
    list.push(parameter(ParameterIn::Query, "limit", &description, whole(1, most)));
    list
}

fn decisions() -> Vec<Parameter> {
    let mut list = limited((DEFAULT_EVENTS, MAX_EVENTS));
    list.push(parameter(ParameterIn::Query, "outcome", "Only those with this outcome.", one_of(DECISIONS)));
    let steps = STEPS.iter().map(|step| step.as_str());
    list.push(parameter(ParameterIn::Query, "step", "Only those this step refused.", one_of(steps)));
    list
}

fn audit() -> Vec<Parameter> {
    let words =
        || ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(MAX_FILTER)).build();
    let mut list = limited(AUDIT_EVENTS);
    list.push(parameter(ParameterIn::Query, "event", "Only those of this name, such as `principal.revoked`.", words()));
    list.push(parameter(ParameterIn::Query, "by", "Only those of this author, such as `agent:indexer`.", words()));
    list
}

fn export() -> Vec<Parameter> {
    let mut list = scope();
    let streams = STREAMS.map(|(name, _)| name);
    let chains = "Which chain; `audit`, of what was changed, if not given. `decision` has what was decided, `counted` \
        how often it was decided without asking Redis, `ended` how what agents asked for ended.";
    list.push(parameter(ParameterIn::Query, "stream", chains, one_of(streams)));
    list.push(parameter(
        ParameterIn::Query,
        "after",
        "Id of the entry to go on after; from the oldest if not given.",
        string(Some(STREAM_ID_PATTERN)),
    ));
    let limit = "Most entries; all if not given.";
    list.push(parameter(ParameterIn::Query, "limit", limit, whole(1, MAX_EXPORTED)));
    list
}

fn parameter(place: ParameterIn, name: &str, description: &str, schema: Object) -> Parameter {
    let schema = RefOr::T(Schema::Object(schema));
    let new = ParameterBuilder::new().parameter_in(place).name(name).description(Some(description));
    new.required(Required::False).schema(Some(schema)).build()
}

fn string(pattern: Option<&str>) -> Object {
    ObjectBuilder::new().schema_type(Type::String).pattern(pattern).build()
}

fn one_of(words: impl IntoIterator<Item = &'static str>) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).build()
}

fn whole(least: u32, most: u32) -> Object {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(least)).maximum(Some(most)).build()
}
