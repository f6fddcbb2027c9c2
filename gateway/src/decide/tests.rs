//! Decisions with a Redis that is not there: what must hold whatever Redis does.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::http::Request;
use portcullis_config::Component;
use serde_json::{Value, json};

use super::asker::DecideAskers;
use super::*;
use crate::client_address::TrustedProxies;
use crate::public::Public;
use crate::state::GatewayOptions;
use crate::state::tests::options_without_redis;

/// A gateway whose policy guards link previews.
fn gateway() -> Arc<Gateway> {
    let document =
        json!({ "tenant": "acme", "project": "demo", "guarded_rest_patterns": ["^/resources/link-preview$"] });
    let boot = portcullis_config::parse_value(document, Component::Ingress, &|_| None).expect("a sound document");
    Gateway::new(GatewayOptions { boot, ..options_without_redis() })
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Status, and what it really was.
    fn statuses(&self) -> (u16, Option<&str>, Option<&str>) {
        (self.status, self.header("x-admit-status"), self.header("x-admit-code"))
    }
}

async fn ask(gateway: &Arc<Gateway>, method: &str, uri: &str, headers: &[(&str, &str)]) -> Answer {
    let request = Request::builder().method(method).uri(uri).header("host", "gateway");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let peer = ([203, 0, 113, 7], 4000).into();
    let answer = Public::new(gateway.clone()).answer(request.body(Body::empty()).unwrap(), peer).await;
    let (parts, body) = answer.into_parts();
    let body = serde_json::from_slice(&to_bytes(body, 1 << 20).await.unwrap()).unwrap_or_default();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

const PROFILES: [&str; 6] = [
    "/v1/decide",
    "/v1/decide?profile=plain",
    "/v1/decide?profile=nginx",
    "/v1/decide/envoy/resources/link-preview",
    "/v1/decide?profile=traefik",
    "/v1/decide?profile=caddy",
];

#[tokio::test]
async fn what_takes_no_gates_goes_on_and_nothing_a_client_wrote_stands_in_for_what_is_said() {
    let gateway = gateway();
    let spoofed = [("x-user-type", "privileged"), ("x-actor", "root"), ("x-principal", "root"), ("x-pass-id", "x")];
    let credential = [("authorization", "Bearer dev:paid:ada")];
    let asked = [("x-original-uri", "/news"), ("x-forwarded-uri", "/news")];
    let headers = [&spoofed[..], &credential, &asked].concat();
    for path in PROFILES.map(|path| path.replace("/resources/link-preview", "/news")) {
        for method in ["GET", "POST", "DELETE", "PROPFIND"] {
            let answer = ask(&gateway, method, &path, &headers).await;
            assert_eq!(answer.statuses(), (200, None, None), "{method} {path}");
            let told = ["x-user-type", "x-principal", "x-actor", "x-pass-id", "x-tenant", "x-route-class"];
            let told = told.map(|name| answer.header(name).unwrap());
            assert_eq!(told, ["paid", "dev:ada", "", "", "acme", "read"], "{method} {path}");
            assert!(answer.header("x-session-id").is_some() && answer.header("x-policy-revision").is_some());
        }
    }
}

#[tokio::test]
async fn a_decision_that_cannot_be_made_is_a_no_in_words_that_each_proxy_understands() {
    let gateway = gateway();
    for (path, expected) in PROFILES.into_iter().zip([503, 503, 403, 429, 503, 503]) {
        let guarded = [("x-original-uri", "/resources/link-preview"), ("x-forwarded-uri", "/resources/link-preview")];
        for headers in [&guarded[..], &[]] {
            let answer = ask(&gateway, "GET", path, headers).await;
            assert_eq!(answer.statuses(), (expected, Some("503"), Some("store_unavailable")), "{path} {headers:?}");
            assert!(answer.header("retry-after").is_some(), "{path}");
            assert_eq!((&answer.body["code"], &answer.body["status"]), (&"store_unavailable".into(), &503.into()));
        }
    }
}

#[tokio::test]
async fn a_credential_that_fails_is_401_to_every_proxy() {
    let gateway = gateway();
    for path in PROFILES {
        let answer = ask(&gateway, "GET", path, &[("authorization", "Bearer nonsense")]).await;
        assert_eq!(answer.statuses(), (401, Some("401"), Some("unauthenticated")), "{path}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer error=\"invalid_token\""), "{path}");
    }
}

#[tokio::test]
async fn a_question_with_faults_is_no_yes() {
    let gateway = gateway();
    for (path, expected) in [
        ("/v1/decide?profile=squid", 400),
        ("/v1/decide?lease_seconds=60", 400),
        ("/v1/decide?profile=nginx&lease_seconds=60", 403),
    ] {
        let answer = ask(&gateway, "GET", path, &[]).await;
        assert_eq!(answer.statuses(), (expected, Some("400"), Some("invalid_request")), "{path}");
    }
    let two = [("authorization", "Bearer dev:paid:a"), ("authorization", "Bearer dev:paid:b")];
    assert_eq!(ask(&gateway, "GET", "/v1/decide?profile=nginx", &two).await.statuses().0, 403);
}

#[tokio::test]
async fn what_is_no_pass_is_nothing() {
    let gateway = gateway();
    for (method, path) in [
        ("DELETE", "/v1/decide/malformed"),
        ("DELETE", "/v1/decide/"),
        ("GET", "/v1/decide/01JD7Y5M3T0000000000000000"),
    ] {
        assert_eq!((ask(&gateway, method, path, &[]).await.statuses()), (404, None, None), "{method} {path}");
    }
}

/// What is the same in every answer that says the same.
fn essence(answer: &Answer) -> (u16, HeaderMap, Value) {
    let (mut headers, mut body) = (answer.headers.clone(), answer.body.clone());
    headers.remove("x-request-id");
    body["request_id"] = Value::Null;
    (answer.status, headers, body)
}

#[tokio::test]
async fn a_place_is_held_and_ended_by_the_operators_own_proxies_and_by_nobody_else() {
    let credential = [("authorization", "Bearer dev:paid:ada")];
    let path = "/v1/decide/01JD7Y5M3T0000000000000000";
    for (named, is_one) in [(None, false), (Some("198.51.100.0/24"), false), (Some("203.0.113.0/24"), true)] {
        let trusted_proxies = TrustedProxies { count: 1, networks: Vec::new() };
        let named = named.map(|network| network.parse().unwrap());
        let decide_askers = DecideAskers::named(named.into_iter().collect(), trusted_proxies.count);
        let gateway = Gateway::new(GatewayOptions { trusted_proxies, decide_askers, ..options_without_redis() });
        let held = ask(&gateway, "GET", "/v1/decide?lease_seconds=60", &credential).await;
        let fault = held.body["errors"][0]["path"].as_str();
        assert_eq!((held.status, fault), if is_one { (503, None) } else { (400, Some("lease_seconds")) });
        let missing = ask(&gateway, "DELETE", "/v1/decide/malformed", &credential).await;
        for (query, looked_for) in [("", 503), ("?outcome=failed", 503), ("?outcome=nonsense", 400), ("?x=1", 400)] {
            let ended = ask(&gateway, "DELETE", &format!("{path}{query}"), &credential).await;
            if is_one {
                assert_eq!(ended.status, looked_for, "{query}: {}", ended.body);
            } else {
                assert_eq!(essence(&ended), essence(&missing), "{query}");
            }
        }
    }
}

#[tokio::test]
async fn whoever_asked_before_the_listener_closed_is_answered() {
    let gateway = gateway();
    gateway.drain_state().leave();
    gateway.drain_state().close();
    let answer = ask(&gateway, "GET", "/v1/decide/envoy/news", &[]).await;
    assert_eq!((answer.statuses(), answer.header("connection")), ((200, None, None), Some("close")));
}
