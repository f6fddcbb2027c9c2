//! What the application is told about a request, whatever the client says.

use serde_json::json;

use super::application::Application;
use super::{before, head, read_until, send};
use crate::fixture::start;

/// The value of a field in a head that was received; each once.
fn field<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

#[tokio::test]
async fn who_calls_is_said_by_the_gateway_alone() {
    let application = Application::start().await;
    let cluster = start(before(&application, json!({}))).await;
    let forged = "X-User-Type: privileged\r\nX_User_Type: privileged\r\nX-Principal: root\r\nX-Actor: root\r\n\
        X-Session-Id: forged\r\nX-Forwarded-For: 127.0.0.1, 10.0.0.1\r\nX-Real-IP: 10.0.0.1\r\n\
        Forwarded: for=1.1.1.1\r\nX-Forwarded-Host: evil.example\r\nX-Original-URL: /admin\r\n\
        X-Request-Id: mine-1\r\nX-Internal-Token: secret\r\nX-Api-Key: secret\r\n\
        Cookie: portcullis_session=secret; theme=dark\r\nConnection: close, X-Nominated\r\n\
        X-Nominated: 1\r\nProxy-Authorization: Basic secret\r\nX-Own: kept\r\n\r\n";
    let mut stream = send(&cluster, &(head("GET", "/who?a=b%20c") + forged)).await;
    let answer = read_until(&mut stream, "ok").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!((field(&answer, "x-user-type"), field(&answer, "x-request-id")), (vec!["paid"], vec!["mine-1"]));
    let seen = application.head("/who");
    assert!(seen.starts_with("GET /who?a=b%20c HTTP/1.1\r\n"), "{seen}");
    let scope = cluster.scope();
    for (name, value) in [
        ("host", "shop.example"),
        ("x-forwarded-host", "shop.example"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("x-user-type", "paid"),
        ("x-principal", "dev:ada"),
        ("x-tenant", scope.tenant()),
        ("x-project", scope.project()),
        ("x-request-id", "mine-1"),
        ("cookie", "theme=dark"),
        ("x-own", "kept"),
    ] {
        assert_eq!(field(&seen, name), [value], "{name}: {seen}");
    }
    for name in ["x_user_type", "x-actor", "authorization", "forwarded", "x-original-url", "x-nominated", "connection"]
    {
        assert!(field(&seen, name).is_empty(), "{name}: {seen}");
    }
    assert!(!seen.contains("secret") && !seen.contains("forged") && !seen.contains("Bearer"), "{seen}");
    assert_eq!(field(&seen, "x-session-id"), field(&answer, "x-session-id"));
}

#[tokio::test]
async fn what_trusted_proxies_wrote_is_handed_on_and_nothing_before_it() {
    let application = Application::start().await;
    let cluster = start(before(&application, json!({})).env("TRUSTED_PROXY_COUNT", "1")).await;
    let written = "X-Forwarded-For: 6.6.6.6, 203.0.113.9\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n";
    let target = head("GET", "http://shop.example:81/way").replace("Host: shop.example", "Host: shop.example:81");
    let mut stream = send(&cluster, &(target + written)).await;
    read_until(&mut stream, "ok").await;
    let seen = application.head("/way");
    assert_eq!(field(&seen, "x-forwarded-for"), ["203.0.113.9, 127.0.0.1"]);
    assert_eq!((field(&seen, "x-forwarded-proto"), field(&seen, "x-real-ip")), (vec!["https"], vec!["203.0.113.9"]));
    assert_eq!(field(&seen, "host"), ["shop.example:81"]);
}

#[tokio::test]
async fn an_answers_own_fields_are_kept_and_those_of_its_connection_are_not() {
    let application = Application::start().await;
    let cluster = start(before(&application, json!({}))).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let answer = client.get("/private-fields").await.expect("an answer");
    assert_eq!((answer.header("x-private"), answer.header("set-cookie")), (None, Some("a=1")));
    assert_eq!(answer.header("x-user-type"), Some("paid"), "not what the application says");
}

#[tokio::test]
async fn some_requests_are_never_the_applications() {
    let application = Application::start().await;
    let cluster = start(before(&application, json!({}))).await;
    let client = cluster.gateway(0);
    for path in ["/v1/tasks/none", "/v1/sessions", "/v1/delegations", "/v1/tasks/a/b/c"] {
        assert_eq!(client.get(path).await.expect("an answer").status, 404, "{path}");
    }
    let stranger = client.bearer("nonsense").get("/anything").await.expect("an answer");
    assert_eq!((stranger.status, stranger.code()), (401, "unauthenticated"));
    let mut stream = send(&cluster, &(head("TRACE", "/trace") + "Connection: close\r\n\r\n")).await;
    assert!(read_until(&mut stream, "invalid_request").await.starts_with("HTTP/1.1 400"));
    assert_eq!(application.seen(""), 0);
}
