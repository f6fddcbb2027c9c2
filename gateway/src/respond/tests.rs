//! Statuses, bodies and headers of refusals.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::to_bytes;
use axum::http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use portcullis_config::UserType;
use portcullis_lua::Hop;
use serde_json::{Value, json};

use super::*;
use crate::admission::session::{identity_for_tests, known_for_tests};
use crate::answer_headers::{POLICY_REVISION, USER_TYPE};
use crate::caller::{Caller, Source};
use crate::policy_in_force::tests::policy_for_tests;
use crate::refusal::RequestFault;
use crate::state::Gateway;
use crate::state::tests::options_without_redis;

fn request_id() -> RequestId {
    RequestId::new(HeaderValue::from_static("r-1"))
}

/// A caller with the session `s-1`.
fn identity(user_type: &str) -> Identity {
    identity_for_tests(&Gateway::new(options_without_redis()), user_type, "s-1")
}

async fn body(response: Response) -> Value {
    serde_json::from_slice(&to_bytes(response.into_body(), 65536).await.unwrap()).unwrap()
}

/// A refusal whose headers nothing prepared.
fn problem_for(refused: &Refused, request_id: &RequestId, identity: Option<&Identity>) -> Response {
    super::problem_for(refused, request_id, identity, of_problem())
}

fn decided(reason: Reason, retry_after_ms: u64, name: Option<&str>) -> Refused {
    Refused { retry_after_ms, name: name.map(Into::into), ..Refused::new(Cause::Decided(reason), "Title", "Detail.") }
}

#[test]
fn every_reason_has_the_status_of_the_public_interface() {
    for reason in Reason::ALL {
        let expected = match reason.code() {
            "unauthenticated" => 401,
            "burst_limit" | "hourly_limit" | "rate_limit" | "budget_exhausted" => 429,
            "idempotency_mismatch" => 422,
            _ => 503,
        };
        assert_eq!(status(Cause::Decided(reason)).as_u16(), expected, "{reason:?}");
    }
    let others = [
        (Cause::Unauthenticated, 401, "unauthenticated", Some("session")),
        (Cause::Forbidden, 403, "forbidden", Some("session")),
        (Cause::Unattributable, 400, "invalid_request", Some("session")),
        (Cause::Invalid, 400, "invalid_request", Some("enqueue")),
        (Cause::BodyTimeout, 408, "invalid_request", Some("enqueue")),
        (Cause::PayloadTooLarge, 413, "payload_too_large", Some("enqueue")),
        (Cause::NotFound, 404, "not_found", None),
        (Cause::Draining, 503, "draining", None),
        (Cause::StreamLimit, 503, "stream_limit", Some("backpressure")),
        (Cause::Internal, 500, "internal_error", None),
        (Cause::UpstreamUnreachable, 502, "upstream_unreachable", None),
        (Cause::UpstreamInvalid, 502, "upstream_invalid", None),
        (Cause::UpstreamTimeout, 504, "upstream_timeout", None),
        (Cause::StoreUnavailable, 503, "store_unavailable", Some("circuit_breaker")),
    ];
    for (cause, expected, code, step) in others {
        let found = (status(cause).as_u16(), cause.code(), cause.step().map(Step::as_str));
        assert_eq!(found, (expected, code, step));
    }
}

#[tokio::test]
async fn a_rate_limit_names_the_limit_and_the_exact_wait() {
    let refused = decided(Reason::BurstLimit, 12_345, Some("burst"));
    let response = problem_for(&refused, &request_id(), Some(&identity("paid")));
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()[RETRY_AFTER], "13");
    assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    let expected = json!({
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Title", "status": 429, "detail": "Detail.", "code": "burst_limit", "step": "rate_limit",
        "retry_after": 12.345, "user_type": "paid", "session_id": "s-1", "request_id": "r-1",
        "limit": "burst", "violated-policies": ["burst"],
    });
    assert_eq!(body(response).await, expected);
}

#[tokio::test]
async fn a_budget_is_named_as_one() {
    let response = problem_for(&decided(Reason::BudgetExhausted, 1, Some("daily")), &request_id(), None);
    assert_eq!(response.headers()[RETRY_AFTER], "1");
    let body = body(response).await;
    assert_eq!((&body["budget"], &body["limit"]), (&json!("daily"), &Value::Null));
    assert_eq!(body["retry_after"], json!(0.001));
}

#[tokio::test]
async fn pressure_is_reduced_capacity_and_an_unknown_wait_is_a_second() {
    let response = problem_for(&decided(Reason::NoLiveProcessors, 0, None), &request_id(), None);
    assert_eq!((response.status().as_u16(), &response.headers()[RETRY_AFTER]), (503, &HeaderValue::from_static("1")));
    let body = body(response).await;
    assert_eq!(body["type"], json!(REDUCED_CAPACITY));
    assert_eq!(body["violated-policies"], json!(["no_live_processors"]));
    assert_eq!(body["retry_after"], json!(1.0));
}

#[tokio::test]
async fn what_waiting_does_not_help_says_nothing_about_waiting() {
    for refused in [Refused::not_found(), Refused::unauthenticated(), decided(Reason::IdempotencyMismatch, 0, None)] {
        let response = problem_for(&refused, &request_id(), None);
        assert!(!response.headers().contains_key(RETRY_AFTER));
        let body = body(response).await;
        assert_eq!((&body["retry_after"], &body["type"]), (&Value::Null, &json!("about:blank")));
    }
    let unauthenticated = problem_for(&Refused::unauthenticated(), &request_id(), None);
    assert_eq!(unauthenticated.headers()[WWW_AUTHENTICATE], "Bearer");
}

#[tokio::test]
async fn faults_are_listed_with_their_paths() {
    let refused = Refused::invalid(vec![RequestFault::new("kind", "is required")]);
    let body = body(problem_for(&refused, &request_id(), None)).await;
    assert_eq!(body["errors"], json!([{"path": "kind", "message": "is required"}]));
}

#[tokio::test]
async fn every_answer_says_who_was_served_under_which_policy() {
    let policy = policy_for_tests(&json!({}), 7);
    let identity = identity("anonymous");
    let response = finish(Answered::of("ok".into_response()), &request_id(), Some(&identity), || policy, false);
    let headers = response.headers();
    assert_eq!(headers[REQUEST_ID], "r-1");
    assert_eq!(headers[SESSION_ID], "s-1");
    assert_eq!(headers[USER_TYPE], "anonymous");
    assert_eq!(headers[POLICY_REVISION], "7");
    assert_eq!(headers[RATELIMIT_POLICY], r#""burst";q=10;w=60, "hourly";q=120;w=3600"#);
    assert!(!headers.contains_key(RATELIMIT) && !headers.contains_key(CONNECTION));
}

#[tokio::test]
async fn the_policy_of_an_agent_names_every_limit_that_its_chain_brings_along() {
    let hop = |per_min, per_hour| Hop { calls_per_min: per_min, calls_per_hour: per_hour, ..Hop::default() };
    let hops = [hop(Some(5), None), hop(Some(5), Some(9))];
    let caller = Caller { hops: hops.clone().into(), ..identity("paid").caller().clone() };
    let agent = known_for_tests(&Gateway::new(options_without_redis()), caller);
    let policy = policy_for_tests(&json!({"rate_limits": {"paid": {"burst": 3, "burst_window": 7, "hourly": -1}}}), 7);
    let response = finish(Answered::of("ok".into_response()), &request_id(), Some(&agent), || policy, false);
    let named = r#""burst";q=3;w=7, "chain:0:calls_per_min";q=5;w=60, "chain:1:calls_per_min";q=5;w=60, "#;
    let named = format!(r#"{named}"chain:1:calls_per_hour";q=9;w=3600"#);
    assert_eq!(response.headers()[RATELIMIT_POLICY], named);
}

#[tokio::test]
async fn a_refusal_is_written_out_with_the_caller_it_is_told_to() {
    let policy = policy_for_tests(&json!({}), 0);
    let limits = [LimitState { name: "burst".into(), limit: 10, window_ms: 60_000, remaining: 0, reset_ms: 1500 }];
    let limits: Arc<[LimitState]> = limits.into();
    let refused = Refused { limits: limits.into(), ..decided(Reason::BurstLimit, 1500, Some("burst")) };
    let identity = identity("paid");
    let response = finish(Answered::of(refused.into_response()), &request_id(), Some(&identity), || policy, true);
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()[RATELIMIT], r#""burst";r=0;t=2"#);
    assert_eq!(response.headers()[CONNECTION], "close");
    assert_eq!(body(response).await["session_id"], json!("s-1"));
}

#[tokio::test]
async fn what_is_prepared_for_a_user_type_says_nothing_of_one_refusal_in_another() {
    let policy = policy_for_tests(&json!({}), 7);
    let limits = [LimitState { name: "burst".into(), limit: 10, window_ms: 60_000, remaining: 0, reset_ms: 1500 }];
    let limits: Arc<[LimitState]> = limits.into();
    let full = Refused { limits: limits.into(), ..decided(Reason::BurstLimit, 1500, Some("burst")) };
    let gateway = Gateway::new(options_without_redis());
    let vouched = |session: &str| {
        let user_type = UserType::new("paid").unwrap();
        let (principal, session) = ("ada".to_owned(), session.to_owned());
        known_for_tests(&gateway, Caller::new(principal, user_type, session, Source::Vouched))
    };
    let told = |refused: &Refused, session: &str, policy: &Arc<PolicyInForce>| {
        let response = finish(Err(refused.clone()), &request_id(), Some(&vouched(session)), || policy.clone(), false);
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let headers = response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value)));
        headers.collect::<BTreeMap<_, _>>()
    };
    let always = [CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS, REQUEST_ID, USER_TYPE, POLICY_REVISION, RATELIMIT_POLICY];
    let cases = [
        (&full, "s-1", &[SESSION_ID, RETRY_AFTER, RATELIMIT][..]),
        (&decided(Reason::HardLimit, 1, None), "s-2", &[SESSION_ID, RETRY_AFTER]),
        (&Refused::not_found(), "s-3", &[SESSION_ID]),
        (&full, "of\nno header", &[RETRY_AFTER, RATELIMIT]),
    ];
    for (refused, session, own) in cases {
        let (first, fresh) = (told(refused, session, &policy), policy_for_tests(&json!({}), 7));
        let names: BTreeSet<_> = always.iter().chain(own).map(HeaderName::as_str).collect();
        assert_eq!(first.keys().map(String::as_str).collect::<BTreeSet<_>>(), names);
        assert!(first.values().all(|value| !value.is_empty()), "{first:?}");
        assert_eq!(first.get("x-session-id").is_some_and(|value| value == session), own.contains(&SESSION_ID));
        assert_eq!(first, told(refused, session, &fresh), "whatever was answered before");
    }
    // A type that the policy has forgotten is refused in the same words.
    let forgotten = identity("nobility");
    let response = finish(Err(full), &request_id(), Some(&forgotten), || policy.clone(), false);
    let said = [USER_TYPE, POLICY_REVISION].map(|name| response.headers()[name].to_str().unwrap().to_owned());
    assert_eq!(said, ["nobility", "7"]);
    assert!(!response.headers().contains_key(RATELIMIT_POLICY) && response.headers().contains_key(CONTENT_TYPE));
}

#[tokio::test]
async fn an_answer_names_the_policy_it_was_decided_under_not_the_next_one() {
    let (now, then) = (policy_for_tests(&json!({}), 8), policy_for_tests(&json!({}), 7));
    let revision = |response: Response| {
        let finished = finish(Answered::of(response), &request_id(), Some(&identity("paid")), || now.clone(), false);
        finished.headers()[POLICY_REVISION].to_str().unwrap().to_owned()
    };
    assert_eq!(revision("ok".into_response()), "8");
    let mut decided = "ok".into_response();
    set_policy(&mut decided, then.clone());
    assert_eq!(revision(decided), "7");
    let refused = Refused { policy: Some(then), ..Refused::not_found() };
    assert_eq!(revision(refused.into_response()), "7");
}

#[tokio::test]
async fn a_revision_conflict_names_the_revision_that_is_stored() {
    let policy = policy_for_tests(&json!({}), 8);
    let response = finish(Err(Refused::revision_conflict(8)), &request_id(), None, || policy, false);
    assert_eq!(response.status(), 409);
    let problem = body(response).await;
    assert_eq!((&problem["code"], &problem["current"]), (&json!("revision_conflict"), &json!(8)));
}

#[test]
fn a_request_id_is_taken_over_only_if_it_is_harmless() {
    let id = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, value.parse().unwrap());
        RequestId::of(&headers).as_str().to_owned()
    };
    assert_eq!(id("abc-1.2_X"), "abc-1.2_X");
    for value in ["", "a b", "a\"b", "\u{e9}", &"x".repeat(65)] {
        let new = id(value);
        assert!(new != value && new.len() == 26, "{value:?} gave {new:?}");
    }
}
