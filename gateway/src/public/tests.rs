//! The public listener with a Redis that is not there: what must hold whatever Redis does.

use axum::body::to_bytes;
use axum::http::HeaderMap;
use bytes::Bytes;
use portcullis_config::UserType;
use portcullis_lua::{Reason, Refusal};
use serde_json::{Value, json};

use super::*;
use crate::refusal_memory::Subject;
use crate::state::tests::options_without_redis;

const ID: &str = "01JD7Y5M3T0000000000000000";
const SOUND: &str = r#"{"kind":"chat","payload":1}"#;

/// Every route under the session layer, one that is none, and one under another method.
fn routes() -> Vec<(&'static str, String)> {
    vec![
        ("POST", "/v1/tasks".to_owned()),
        ("GET", format!("/v1/tasks/{ID}")),
        ("DELETE", format!("/v1/tasks/{ID}")),
        ("GET", format!("/v1/tasks/{ID}/events")),
        ("GET", "/v1/limits".to_owned()),
        ("GET", "/no/such/route".to_owned()),
        ("PUT", "/v1/limits".to_owned()),
    ]
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn gateway() -> Arc<Gateway> {
    Gateway::new(options_without_redis())
}

#[tokio::test]
async fn who_shows_what_is_worth_nothing_is_named_in_no_answer_whoever_found_that_out() {
    let public = Public::new(gateway());
    let named = async |cause: Cause| {
        let identity = session::identity_for_tests(&public.gateway, "paid", "s");
        let answer = Err(Refused::new(cause, "", ""));
        public.named(identity, Unspent::nothing(), answer).await.0.is_some()
    };
    assert!(named(Cause::Decided(Reason::BurstLimit)).await);
    assert!(!named(Cause::Unauthenticated).await && !named(Cause::Decided(Reason::ProofUsed)).await);
}

/// A policy that lists an origin.
fn shared_with_an_app() -> crate::GatewayOptions {
    let boot = json!({"tenant": "acme", "project": "demo", "cors": {"allowed_origins": ["https://app.example"]}});
    let boot = portcullis_config::parse_value(boot, portcullis_config::Component::Ingress, &|_| None).unwrap();
    crate::GatewayOptions { boot, ..options_without_redis() }
}

async fn ask(
    gateway: &Arc<Gateway>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("host", "gateway.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let peer = ([203, 0, 113, 7], 4000).into();
    let answer = Public::new(gateway.clone()).answer(request.body(body.into()).unwrap(), peer).await;
    let (parts, body) = answer.into_parts();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body: to_bytes(body, 1 << 20).await.unwrap() }
}

#[tokio::test]
async fn no_route_serves_a_credential_that_fails_and_all_say_it_alike() {
    let credentials = [
        ("authorization", "Bearer nonsense"),
        ("authorization", "Basic YTpi"),
        ("x-internal-token", "0123456789abcdef0123456789abcdef"),
        ("x-api-key", ""),
        ("cookie", "__Host-portcullis_session=x"),
    ];
    let mut bodies = std::collections::HashSet::new();
    for (method, path) in routes() {
        // Each would turn an address away that has failed too often.
        let gateway = gateway();
        for credential in credentials {
            let answer = ask(&gateway, method, &path, &[credential, ("x-request-id", "r")], SOUND).await;
            assert_eq!((answer.status, answer.header("x-user-type")), (401, ""), "{method} {path} {credential:?}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            bodies.insert(answer.body);
        }
    }
    assert_eq!(bodies.len(), 1);
}

#[tokio::test]
async fn whether_a_user_type_is_known_is_not_said_while_redis_does_not_say_it() {
    let answer = ask(&gateway(), "GET", "/v1/limits", &[("authorization", "Bearer dev:nobility:ada")], "").await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "store_unavailable"));
}

#[tokio::test]
async fn a_token_in_the_query_is_looked_at_on_event_streams_only() {
    let gateway = gateway();
    let answer = ask(&gateway, "GET", &format!("/v1/tasks/{ID}/events?bearer_token=nonsense"), &[], "").await;
    assert_eq!(answer.status, 401);
    let answer = ask(&gateway, "GET", "/no/such/route?bearer_token=nonsense", &[], "").await;
    assert_eq!((answer.status, answer.header("x-user-type")), (404, "anonymous"));
}

#[tokio::test]
async fn nothing_but_health_is_answered_to_an_address_that_is_not_listed() {
    let mut options = shared_with_an_app();
    options.identity.document.ip_allow.public = vec!["192.0.2.0/24".parse().unwrap()];
    let gateway = Gateway::new(options);
    let metadata = "/.well-known/oauth-protected-resource".to_owned();
    let asked = routes().into_iter().chain([("GET", metadata.clone()), ("GET", format!("{metadata}/jwks.json"))]);
    for (method, path) in asked.chain([("GET", "/openapi.json".to_owned()), ("GET", "/v1/decide".to_owned())]) {
        let answer = ask(&gateway, method, &path, &[], SOUND).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "ip_refused"), "{method} {path}");
    }
    let preflight = [("origin", "https://app.example"), ("access-control-request-method", "POST")];
    let preflight = ask(&gateway, "OPTIONS", "/v1/tasks", &preflight, "").await;
    assert_eq!((preflight.status, preflight.code().as_str()), (403, "ip_refused"));
    assert_eq!(ask(&gateway, "GET", "/healthz", &[], "").await.status, 200);
}

#[tokio::test]
async fn identity_headers_of_a_client_mean_nothing() {
    let gateway = gateway();
    let plain = ask(&gateway, "GET", "/no/such/route", &[], "").await;
    let spoofed = [
        ("x-user-type", "privileged"),
        ("x-session-id", "mine"),
        ("x-tenant", "other"),
        ("x-principal", "root"),
        ("x-forwarded-for", "127.0.0.1"),
        ("user-agent", "another"),
    ];
    let spoofing = ask(&gateway, "GET", "/no/such/route", &spoofed, "").await;
    for name in ["x-user-type", "x-session-id"] {
        assert_eq!(plain.header(name), spoofing.header(name));
    }
    assert_eq!(spoofing.header("x-user-type"), "anonymous");
    let dev = [("authorization", "Bearer dev:paid:ada"), ("x-user-type", "privileged")];
    assert_eq!(ask(&gateway, "GET", "/no/such/route", &dev, "").await.header("x-user-type"), "paid");
}

#[tokio::test]
async fn whatever_is_not_there_is_the_same_nothing() {
    let gateway = gateway();
    let nothing = [
        ("GET", "/no/such/route"),
        ("GET", "/v1/tasks/malformed"),
        ("DELETE", "/v1/tasks/%ff"),
        ("GET", "/v1/tasks/malformed/events"),
        ("PUT", "/v1/tasks"),
        ("GET", "/v1/tasks/"),
    ];
    let mut bodies = std::collections::HashSet::new();
    for (method, path) in nothing {
        let answer = ask(&gateway, method, path, &[("x-request-id", "r")], "").await;
        assert_eq!(answer.status, 404, "{method} {path}");
        let mut headers: Vec<_> = answer.headers.keys().map(ToString::to_string).collect();
        headers.sort();
        bodies.insert((headers, answer.body));
    }
    assert_eq!(bodies.len(), 1);
}

#[tokio::test]
async fn without_redis_every_question_is_refused_with_a_time_to_come_again() {
    let gateway = gateway();
    for (method, path) in &routes()[..5] {
        let answer = ask(&gateway, method, path, &[], SOUND).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "store_unavailable"), "{method} {path}");
        assert_eq!(answer.header("retry-after"), "1");
        assert_eq!(answer.header("x-policy-revision"), "0");
        assert_eq!(answer.header("ratelimit-policy"), r#""burst";q=10;w=60, "hourly";q=120;w=3600"#);
        assert_eq!(answer.header("ratelimit"), "", "nothing was decided");
    }
}

#[tokio::test]
async fn a_faulty_body_is_refused_with_its_faults() {
    let gateway = gateway();
    let answer = ask(&gateway, "POST", "/v1/tasks", &[], r#"{"kind":"chat"}"#).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"));
    assert_eq!(answer.json()["errors"], json!([{"path": "payload", "message": "is required"}]));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_whether_announced_or_not() {
    let gateway = gateway();
    let most = gateway.scopes().default_scope().policy().policy().queue.max_payload_bytes as usize;
    let large = format!(r#"{{"kind":"chat","payload":"{}"}}"#, "x".repeat(most + 20_000));
    let announced = ask(&gateway, "POST", "/v1/tasks", &[("content-length", &large.len().to_string())], "").await;
    assert_eq!((announced.status, announced.code().as_str()), (413, "payload_too_large"));
    let chunks = large.as_bytes().chunks(4096).map(|chunk| Ok::<_, std::io::Error>(Bytes::copy_from_slice(chunk)));
    let chunks: Vec<_> = chunks.collect();
    // One that has not found out yet that its Redis is not there.
    let gateway = self::gateway();
    let streamed = ask(&gateway, "POST", "/v1/tasks", &[], Body::from_stream(futures_util::stream::iter(chunks))).await;
    assert_eq!((streamed.status, streamed.code().as_str()), (413, "payload_too_large"));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let gateway = gateway();
    let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
    let answer = ask(&gateway, "POST", "/v1/tasks", &[], never).await;
    assert_eq!((answer.status, answer.code().as_str()), (408, "invalid_request"));
}

#[tokio::test]
async fn a_gateway_that_may_have_missed_a_change_of_policy_asks_instead_of_repeating_a_refusal() {
    let gateway = gateway();
    let headers = [("authorization", "Bearer dev:paid:ada")];
    let session = ask(&gateway, "GET", "/no/such/route", &headers, "").await.header("x-session-id").to_owned();
    let scope = gateway.scopes().default_scope();
    let paid = UserType::new("paid").unwrap();
    let subject = Subject { scope: scope.number(), session_id: &session, user_type: &paid, class: "" };
    let reason = Reason::BurstLimit;
    let refusal = Refusal { reason, name: None, retry_after_ms: 30_000, pressure_ms: 0, backlog_ms: 0, assumed: false };
    gateway.refusal_memory().remember(
        subject,
        1,
        &refusal,
        &Arc::default(),
        scope.policy().stamp(),
        tokio::time::Instant::now(),
    );
    assert!(gateway.refusal_memory().session(subject, scope.policy().stamp()).is_some(), "it is remembered");
    let answer = ask(&gateway, "POST", "/v1/tasks", &headers, SOUND).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "store_unavailable"));
    let counted = &scope.tally().next_flush().expect("a count").entries;
    assert_eq!((counted.len(), counted[0].code.as_str(), counted[0].count), (1, "store_unavailable", 1));
    assert_eq!(counted[0].unrecorded, 1, "no script told anybody of it");
}

#[tokio::test]
async fn a_caller_of_another_scope_waits_for_nobody_while_redis_is_away() {
    let gateway = gateway();
    let headers = [("authorization", "Bearer dev:acme/other:paid:ada")];
    for (method, path) in routes() {
        let answer = ask(&gateway, method, &path, &headers, SOUND).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "store_unavailable"), "{method} {path}");
        assert_eq!((answer.header("retry-after"), answer.header("x-user-type")), ("1", ""));
    }
    assert_eq!(gateway.scopes().served().len(), 1);
}

#[tokio::test]
async fn readiness_fails_first_and_whoever_comes_in_is_served_to_the_end() {
    let gateway = gateway();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(&gateway, "GET", path, &[], "").await.status, 200, "{path} needs no Redis");
        assert_eq!(ask(&gateway, "POST", path, &[], "").await.code(), "not_found");
    }
    gateway.drain_state().leave();
    let unready = ask(&gateway, "GET", "/readyz", &[("x-request-id", "probe-1")], "").await;
    assert_eq!(
        (unready.status, unready.header("connection"), unready.header("x-request-id")),
        (503, "close", "probe-1")
    );
    assert_eq!(ask(&gateway, "GET", "/healthz", &[], "").await.status, 200);
    let served = ask(&gateway, "POST", "/v1/tasks", &[], SOUND).await;
    assert_eq!((served.code().as_str(), served.header("connection")), ("store_unavailable", "close"));
    gateway.drain_state().close();
    let served = ask(&gateway, "POST", "/v1/tasks", &[], SOUND).await;
    assert_eq!(served.code(), "store_unavailable", "whoever came in before the listener closed is served");
}

#[tokio::test]
async fn contradictions_about_the_caller_are_refused() {
    let gateway = gateway();
    let twice = [("authorization", "Bearer dev:paid:a"), ("authorization", "Bearer dev:paid:b")];
    let answer = ask(&gateway, "GET", "/v1/limits", &twice, "").await;
    assert_eq!((answer.status, answer.json()["step"].as_str()), (400, Some("session")));
}

#[tokio::test]
async fn pages_are_told_by_the_policy_in_force_and_a_preflight_is_nobodys() {
    let gateway = Gateway::new(shared_with_an_app());
    let page = ("origin", "https://app.example");
    let preflight = [page, ("access-control-request-method", "POST"), ("authorization", "Bearer nonsense")];
    let answer = ask(&gateway, "OPTIONS", "/v1/tasks", &preflight, "").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, page.1));
    assert!(!answer.header("x-request-id").is_empty());
    assert_eq!((answer.header("x-user-type"), answer.header("vary")), ("", PREFLIGHT_VARIES));
    for (path, headers, status) in [
        ("/v1/tasks", vec![page], 404),
        ("/v1/limits", vec![page], 503),
        ("/v1/limits", vec![page, ("authorization", "Bearer nonsense")], 401),
    ] {
        let answer = ask(&gateway, "GET", path, &headers, "").await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, page.1), "{path}");
        assert!(answer.header("access-control-expose-headers").contains("RateLimit"), "{path}");
    }
    let stranger = ask(&gateway, "GET", "/v1/limits", &[("origin", "https://app.example.evil")], "").await;
    assert_eq!((stranger.header("access-control-allow-origin"), stranger.header("vary")), ("", "Origin"));
}

const PREFLIGHT_VARIES: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

#[tokio::test]
async fn a_request_that_names_two_hosts_is_refused_before_anybody_is_resolved() {
    let answer = ask(&gateway(), "GET", "/v1/limits", &[("host", "other.example")], "").await;
    assert_eq!((answer.status, answer.code().as_str(), answer.header("x-user-type")), (400, "invalid_request", ""));
    assert_eq!(answer.json()["errors"], json!([{"path": "Host", "message": "must be given once"}]));
}

#[test]
fn no_label_has_an_id_in_it() {
    let cases = [
        ("/v1/tasks", "/v1/tasks"),
        ("/v1/tasks/01JD7Y5M3T0000000000000000", "/v1/tasks/{id}"),
        ("/v1/tasks/01JD7Y5M3T0000000000000000/events", "/v1/tasks/{id}/events"),
        ("/v1/limits", "/v1/limits"),
        ("/v1/anything/else", "other"),
        ("/", "other"),
    ];
    for (path, label) in cases {
        assert_eq!(route_name(path), label);
    }
}
