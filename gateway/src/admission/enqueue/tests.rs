//! Bodies and headers of submissions, sound and faulty.

use axum::http::HeaderName;

use portcullis_lua::{Provenance, TaskId};

use super::*;

fn policy() -> Policy {
    let mut policy = Policy::shipped("t", "p");
    policy.queue.max_payload_bytes = 32;
    policy.queue.max_delay_ms = 1000;
    policy.queue.max_attempts = 3;
    policy.queue.max_attempts_limit = 5;
    policy
}

fn submit(body: &str, header_lines: &[(&'static str, &str)]) -> Result<Submission, Refused> {
    let mut headers = HeaderMap::new();
    for (name, value) in header_lines {
        headers.append(HeaderName::from_static(name), value.parse().unwrap());
    }
    submission(&headers, &Bytes::from(body.to_owned()), "ada", &policy())
}

/// The paths of the faults, in order.
fn faults(body: &str, header_lines: &[(&'static str, &str)]) -> Vec<String> {
    let refused = submit(body, header_lines).unwrap_err();
    assert_eq!(refused.cause, Cause::Invalid);
    refused.faults.into_iter().map(|fault| fault.path).collect()
}

#[test]
fn a_minimal_body_leaves_the_attempts_to_the_policy() {
    let submission = submit(r#"{"kind":"chat","payload":{"a": [1, 2]}}"#, &[]).unwrap();
    assert_eq!((submission.kind.as_str(), &submission.payload[..]), ("chat", &br#"{"a": [1, 2]}"#[..]));
    assert_eq!((submission.deadline_ms, submission.delay_ms, submission.max_attempts), (None, 0, None));
    assert_eq!((submission.estimates.len(), submission.idempotency, submission.trace), (0, None, None));
}

#[test]
fn a_full_body_is_read() {
    let body =
        r#"{"estimate":{"tokens":7},"max_attempts":5,"delay_ms":1000,"deadline_ms":1,"payload":"x","kind":"a.b_c-1"}"#;
    let submission = submit(body, &[("content-type", "Application/JSON; charset=utf-8")]).unwrap();
    assert_eq!((submission.kind.as_str(), &submission.payload[..]), ("a.b_c-1", &b"\"x\""[..]));
    assert_eq!((submission.deadline_ms, submission.delay_ms, submission.max_attempts), (Some(1), 1000, Some(5)));
    assert_eq!(submission.estimates, [("tokens".to_owned(), 7)]);
}

#[test]
fn any_json_value_is_a_payload_byte_for_byte() {
    for payload in ["null", "0", "-1.50e3", "\"\\u00e9\"", "[ ]", "{\"b\":1,\"a\":2,\"b\":3}"] {
        let submission = submit(&format!(r#"{{"kind":"k","payload": {payload} }}"#), &[]).unwrap();
        assert_eq!(submission.payload, payload.as_bytes());
    }
}

#[test]
fn all_faults_are_reported_at_once_with_their_paths() {
    let body = r#"{"kind":"Chat!","lane":"c","deadline_ms":0,"delay_ms":1001,"max_attempts":6,
                   "estimate":{"tokens":-1},"priority":9,"kind":"k"}"#;
    let paths = faults(body, &[("idempotency-key", "")]);
    let expected = [
        "Idempotency-Key",
        "kind",
        "lane",
        "deadline_ms",
        "delay_ms",
        "max_attempts",
        "estimate.tokens",
        "priority",
        "kind",
        "payload",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn a_lane_is_refused_in_words() {
    let refused = submit(r#"{"kind":"k","payload":1,"lane":"c"}"#, &[]).unwrap_err();
    assert_eq!(refused.faults.len(), 1);
    assert!(refused.faults[0].message.contains("does not order lanes"));
}

#[test]
fn numbers_are_whole_and_in_range() {
    for (field, value) in [
        ("deadline_ms", "1.5"),
        ("deadline_ms", "-1"),
        ("deadline_ms", "\"1\""),
        ("deadline_ms", "null"),
        ("deadline_ms", "4503599627370497"),
        ("delay_ms", "18446744073709551616"),
        ("max_attempts", "0"),
        ("max_attempts", "true"),
    ] {
        assert_eq!(faults(&format!(r#"{{"kind":"k","payload":1,"{field}":{value}}}"#), &[]), [field], "{value}");
    }
}

#[test]
fn kinds_have_a_shape() {
    let long = "k".repeat(65);
    for kind in ["", "-a", ".a", "A", "a b", "a/b", "\u{e9}", &long] {
        assert_eq!(faults(&format!(r#"{{"kind":"{kind}","payload":1}}"#), &[]), ["kind"], "{kind}");
    }
    assert_eq!(faults(r#"{"kind":7,"payload":1}"#, &[]), ["kind"]);
    assert!(submit(&format!(r#"{{"kind":"{}","payload":1}}"#, "k".repeat(64)), &[]).is_ok());
}

#[test]
fn what_is_no_json_object_has_one_fault() {
    for body in ["", "[]", "7", "{\"kind\":", "{\"kind\":\"k\",\"payload\":1} x", "\u{feff}{}"] {
        assert_eq!(faults(body, &[]), ["body"], "{body}");
    }
}

#[test]
fn another_content_type_is_named_and_the_body_left_unread() {
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(faults("kind=k", &form), ["Content-Type"]);
    assert_eq!(faults(r#"{"kind":"k","payload":1}"#, &[("content-type", "text/json")]), ["Content-Type"]);
}

#[test]
fn a_large_payload_is_its_own_refusal_after_faults() {
    let body = |size: usize| format!(r#"{{"kind":"k","payload":"{}"}}"#, "x".repeat(size - 2));
    assert!(submit(&body(32), &[]).is_ok());
    assert_eq!(submit(&body(33), &[]).unwrap_err().cause, Cause::PayloadTooLarge);
    assert_eq!(faults(&body(33).replace("kind", "kin"), &[]), ["kin", "kind"]);
    assert_eq!(max_body_bytes(&policy()), 32 + 16 * 1024);
}

#[test]
fn idempotency_keys_belong_to_their_principal_and_quotes_do_not_matter() {
    let body = r#"{"kind":"k","payload":1}"#;
    let key = |value: &str| submit(body, &[("idempotency-key", value)]).unwrap().idempotency.unwrap();
    assert_eq!(key("abc").key_hash, digest::hex(&["ada", "abc"]));
    assert_eq!(key("abc"), key("\"abc\""));
    assert_ne!(key("abc").key_hash, key("abd").key_hash);
    assert_eq!(key("abc").body_hash, digest::body_hex(body.as_bytes()));
    let long = "k".repeat(256);
    for values in [vec![("idempotency-key", long.as_str())], vec![("idempotency-key", "a"), ("idempotency-key", "b")]] {
        assert_eq!(faults(body, &values), ["Idempotency-Key"]);
    }
}

#[test]
fn the_trace_goes_along_with_the_task() {
    let body = r#"{"kind":"k","payload":1}"#;
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace = submit(body, &[("traceparent", good), ("tracestate", "a=1")]).unwrap().trace.unwrap();
    assert_eq!((trace.traceparent.as_str(), trace.tracestate.as_deref()), (good, Some("a=1")));
}

#[test]
fn a_policy_with_narrower_bounds_refuses_what_was_read_before() {
    let submission = submit(r#"{"kind":"k","payload":"12345678","delay_ms":1000,"max_attempts":5}"#, &[]).unwrap();
    let request = AdmitRequest {
        task_id: TaskId::generate(),
        user_type: portcullis_config::UserType::anonymous(),
        session_id: "s".to_owned(),
        principal: "p".to_owned(),
        actor: None,
        client_address: None,
        kind: submission.kind,
        pass: None,
        cost: 1,
        deadline_ms: None,
        delay_ms: submission.delay_ms,
        max_attempts: 1,
        idempotency: None,
        estimates: Vec::new(),
        provenance: Provenance::default(),
        request_id: "r".to_owned(),
        traceparent: None,
        tracestate: None,
        content_type: PAYLOAD_CONTENT_TYPE.to_owned(),
        payload: submission.payload,
    };
    let refused = |change: fn(&mut Policy)| {
        let mut policy = policy();
        change(&mut policy);
        within_bounds(&request, submission.max_attempts, &policy).map_err(|refused| {
            let paths: Vec<_> = refused.faults.into_iter().map(|fault| fault.path).collect();
            (refused.cause, paths.join(" "))
        })
    };
    assert_eq!(refused(|_| {}), Ok(()));
    assert_eq!(refused(|policy| policy.queue.max_payload_bytes = 9), Err((Cause::PayloadTooLarge, String::new())));
    let narrower = refused(|policy| {
        policy.queue.max_delay_ms = 999;
        policy.queue.max_attempts_limit = 4;
    });
    assert_eq!(narrower, Err((Cause::Invalid, "delay_ms max_attempts".to_owned())));
}
