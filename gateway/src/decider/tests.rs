//! What a policy decides about a request before the script is asked, and who asks what is revoked.

use bytes::Bytes;
use futures_util::future::join_all;
use portcullis_config::UserType;
use portcullis_lua::{PassTerms, RevokedMember, RevokedSet, TaskId, Verdict};
use serde_json::json;
use tokio::time::sleep;

use super::*;
use crate::policy_in_force::tests::policy_for_tests;
use crate::refusal::Cause;
use crate::state::Gateway;
use crate::state::tests::options_without_redis;

fn request(user_type: &str, kind: &str) -> AdmitRequest {
    AdmitRequest {
        task_id: TaskId::generate(),
        user_type: UserType::new(user_type).unwrap(),
        session_id: "s".to_owned(),
        principal: "p".to_owned(),
        actor: None,
        client_address: None,
        kind: kind.to_owned(),
        pass: None,
        cost: 1,
        deadline_ms: None,
        delay_ms: 0,
        max_attempts: 1,
        idempotency: None,
        estimates: Vec::new(),
        provenance: Provenance::default(),
        request_id: "r".to_owned(),
        traceparent: None,
        tracestate: None,
        content_type: "application/json".to_owned(),
        payload: Bytes::from_static(b"12345678"),
    }
}

fn decision(depth: u64) -> Decision {
    let verdict = Verdict::Admitted { task_id: TaskId::generate(), estimated_wait_ms: 0, assumed: false };
    Decision { verdict, depth, capacity: 1, limits: Vec::new(), budgets: Vec::new() }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_late_is_not_sent_in_this_round_nor_in_a_later_one() {
    let (policy, revoked) = (policy_for_tests(&json!({}), 1), RevocationView::default());
    let wish = Wish { send_until: Some(Instant::now() + Duration::from_secs(35)), ..Wish::default() };
    let mut asked = request("paid", "chat");
    let mut round = || askable(&mut asked, &wish, &policy, &revoked).map_err(|refused| refused.cause);
    assert_eq!(round(), Ok(()));
    tokio::time::advance(Duration::from_secs(35)).await;
    assert_eq!(round(), Ok(()));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(round(), Err(Cause::Unauthenticated));
}

#[test]
fn cost_and_attempts_are_those_of_the_policy_it_is_decided_under() {
    let (then, now) = (
        policy_for_tests(&json!({"kinds": {"report": {"cost": 5, "max_attempts": 2}}}), 1),
        policy_for_tests(&json!({"kinds": {"report": {"cost": 7}}, "queue": {"max_attempts": 4}}), 2),
    );
    let mut report = request("paid", "report");
    let mut fitted = |policy: &PolicyInForce, asked: Option<u32>| {
        fit(&mut report, &Wish { max_attempts: asked, ..Wish::default() }, policy).unwrap();
        (report.cost, report.max_attempts)
    };
    assert_eq!(fitted(&then, None), (5, 2));
    assert_eq!(fitted(&now, None), (7, 4));
    assert_eq!(fitted(&now, Some(1)), (7, 1), "what the caller asks for stays");
    let mut chat = request("paid", "chat");
    fit(&mut chat, &Wish::default(), &then).unwrap();
    assert_eq!(chat.cost, 1);
}

#[test]
fn a_user_type_the_policy_has_forgotten_is_nobody_and_a_body_beyond_its_bounds_is_refused() {
    let policy = policy_for_tests(&json!({"queue": {"max_payload_bytes": 7}}), 1);
    let fitted = |user_type: &str| fit(&mut request(user_type, "chat"), &Wish::default(), &policy);
    let cause = |user_type: &str| fitted(user_type).map_err(|refused| refused.cause);
    assert_eq!(cause("nobility"), Err(Cause::Unauthenticated));
    assert_eq!(cause("paid"), Err(Cause::PayloadTooLarge));
}

#[test]
fn everybody_hears_of_their_own_request_whoever_could_not_be_asked_about() {
    let policy = policy_for_tests(&json!({}), 1);
    let requests: Vec<AdmitRequest> = (1..=5).map(|cost| AdmitRequest { cost, ..request("paid", "chat") }).collect();
    let misfits = vec![(0, Refused::unauthenticated()), (3, Refused::not_found())];
    let decided =
        merged(&policy, tokio::time::Instant::now(), &requests, misfits, vec![decision(2), decision(3), decision(5)]);
    let heard: Vec<(u32, Result<u64, Cause>)> = decided
        .into_iter()
        .map(|decided| {
            let outcome = decided.outcome.map(|decision| decision.depth).map_err(|refused| refused.cause);
            (decided.cost, outcome)
        })
        .collect();
    let expected = [(1, Err(Cause::Unauthenticated)), (2, Ok(2)), (3, Ok(3)), (4, Err(Cause::NotFound)), (5, Ok(5))];
    assert_eq!(heard, expected);
}

#[test]
fn named_limits_that_may_apply_make_a_request_weigh_more() {
    let limit = |user_types| {
        let mut limit = json!({"per": "tenant", "unit": "requests", "limit": 9, "window_seconds": 1});
        limit["user_types"] = user_types;
        limit
    };
    let named = json!({"all": limit(json!(null)), "paid": limit(json!(["paid"]))});
    let policy = policy_for_tests(&json!({"rate_limits": {"named": named}}), 1);
    let weights = ["anonymous", "paid"].map(|user_type| weight(&request(user_type, "chat"), &policy));
    let payload = request("paid", "chat").payload.len();
    assert_eq!(weights, [payload + LIMIT_BYTES, payload + 2 * LIMIT_BYTES]);
}

#[test]
fn a_pass_lasts_and_weighs_as_it_asks_and_else_as_the_policy_says() {
    let policy = policy_for_tests(&json!({"proxy": {"lease_ms": 7000}, "kinds": {"report": {"cost": 5}}}), 1);
    let fitted = |lease_ms: u64, hits: u32, wish: Wish| {
        let mut request = request("paid", "report");
        request.pass = Some(PassTerms { lease_ms, throttled: true, hits });
        fit(&mut request, &wish, &policy).unwrap();
        (request.pass.unwrap().lease_ms, request.cost)
    };
    let own = || Wish { lease_ms: Some(600_000), ..Wish::default() };
    assert_eq!(fitted(1, 0, Wish::default()), (7000, 5));
    assert_eq!(fitted(1, 3, own()), (600_000, 15));
    assert_eq!(fitted(0, 3, own()), (0, 15), "a decision without a place stays one");
    assert_eq!(fitted(0, u32::MAX, Wish::default()).1, u32::MAX);
}

#[test]
fn whose_credential_is_revoked_is_nobody() {
    let member = |expires_ms, not_before_ms| RevokedMember {
        member: "t:hop".to_owned(),
        expires_ms,
        revoked_ms: 1_000,
        not_before_ms,
        ceiling: None,
        by: "somebody".to_owned(),
        reason: "lost".to_owned(),
    };
    let view = |members| {
        let (number, epoch) = (1, Some("e".to_owned()));
        RevocationView::of(RevokedSet { now_ms: 1_000, number, epoch, members, ..RevokedSet::default() })
    };
    let issued = |members: &[&str], issued_at_ms| Provenance {
        members: members.iter().map(|member| (*member).to_owned()).collect(),
        issued_at_ms,
        ..Provenance::default()
    };
    let (all, older) = (view(vec![member(3_600_000, None)]), view(vec![member(3_600_000, Some(500))]));
    let cause = |provenance: &Provenance, view| alive(provenance, view).map_err(|refused| refused.cause);
    let dead = Err(Cause::Unauthenticated);
    assert_eq!(cause(&issued(&["p:ada", "t:hop"], Some(900)), &all), dead);
    assert_eq!(cause(&issued(&["p:ada"], Some(900)), &all), Ok(()));
    assert_eq!(cause(&Provenance::default(), &all), Ok(()));
    assert_eq!(cause(&issued(&["t:hop"], Some(900)), &older), Ok(()), "issued after the revocation");
    assert_eq!(cause(&issued(&["t:hop"], None), &older), dead, "nobody knows when it was issued");
}

#[test]
fn limits_of_a_chain_make_a_request_weigh_more() {
    let policy = policy_for_tests(&json!({}), 1);
    let hop = |calls_per_min, calls_per_hour| Hop { calls_per_min, calls_per_hour, ..Hop::default() };
    let mut asked = request("paid", "chat");
    let alone = weight(&asked, &policy);
    asked.provenance.hops = [hop(Some(1), Some(2)), hop(None, Some(2)), hop(None, None)].into();
    assert_eq!(weight(&asked, &policy), alone + 3 * LIMIT_BYTES);
}

#[tokio::test(start_paused = true)]
async fn who_waits_while_another_asks_hears_what_that_one_hears_and_blames_redis_for_nothing() {
    let gateway = Gateway::new(options_without_redis());
    let decider = gateway.scopes().default_scope().decider();
    let CatchUp::Ask(turn) = decider.revocations.begin(News::unknown()).await.unwrap() else {
        panic!("nothing is known yet")
    };
    let waiting = join_all((0..9).map(|_| decider.learn_of(News::unknown())));
    let asking = async {
        sleep(Duration::from_secs(10)).await;
        assert!(!decider.breaker.is_open(), "waiting for others is no timeout");
        turn.was_in_vain();
    };
    let (heard, ()) = tokio::join!(waiting, asking);
    assert!(heard.iter().all(|heard| matches!(heard, Err(StoreError::Unavailable(_)))), "{heard:?}");
    assert!(!decider.breaker.is_open(), "none of them asked again");
}
