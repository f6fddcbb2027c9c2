//! What passes, what ends here, and what is said in its place.

use axum::http::Uri;

use super::*;
use crate::admission::session::identity_for_tests;
use crate::client_address::TrustedProxies;
use crate::state::Gateway;
use crate::state::tests::options_without_redis;

fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for &(name, value) in lines {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}

fn forwarded(proxies: u8, uri: &'static str, headers: &HeaderMap) -> Forwarded {
    let proxies = TrustedProxies { count: proxies, networks: Vec::new() };
    Forwarded::of(&proxies, "10.0.0.1:4000".parse().unwrap(), &Uri::from_static(uri), headers)
}

/// What the application gets of these fields.
fn passed_on(lines: &[(&'static str, &'static str)], proxies: u8) -> HeaderMap {
    let gateway = Gateway::new(options_without_redis());
    let identity = identity_for_tests(&gateway, "paid", "session-1");
    let mut headers = fields(lines);
    let websocket = asks_for_websocket(&headers);
    let forwarded = forwarded(proxies, "/", &headers);
    of_request(&mut headers, &identity, &HeaderValue::from_static("request-1"), forwarded, websocket);
    headers
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join("|")
}

#[tokio::test]
async fn what_belongs_to_one_connection_ends_here() {
    let passed = passed_on(
        &[
            ("connection", "close, X-Private"),
            ("connection", "content-length"),
            ("x-private", "1"),
            ("content-length", "3"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic abc"),
            ("te", "gzip, Trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("trailer", "x-checksum"),
            ("via", "1.0 fred"),
            ("accept", "text/html"),
        ],
        0,
    );
    for name in
        ["connection", "x-private", "keep-alive", "proxy-connection", "proxy-authorization", "transfer-encoding"]
    {
        assert_eq!(text(&passed, name), "", "{name}");
    }
    assert_eq!(text(&passed, "upgrade"), "");
    assert_eq!(text(&passed, "te"), "trailers");
    assert_eq!(text(&passed, "content-length"), "3", "a message keeps what frames it");
    assert_eq!((text(&passed, "trailer"), text(&passed, "accept")), ("x-checksum".into(), "text/html".into()));
    assert_eq!(text(&passed, "via"), "1.0 fred|1.1 portcullis");
}

#[tokio::test]
async fn nobody_but_the_gateway_says_who_calls() {
    let passed = passed_on(
        &[
            ("x-user-type", "privileged"),
            ("x_user_type", "privileged"),
            ("x-session_id", "forged"),
            ("x-principal", "root"),
            ("x-actor", "forged"),
            ("x-tenant", "other"),
            ("x-fencing-token", "7"),
            ("x-original-url", "/admin"),
            ("x-rewrite-url", "/admin"),
            ("x-pass-id", "1"),
            ("x-route-class", "bypass"),
            ("x-portcullis-anything", "1"),
            ("x_admit_status", "200"),
            ("x-forwarded-user", "root"),
            ("x_forwarded-email", "root"),
            ("x-request-id", "forged"),
            ("forwarded", "for=1.2.3.4"),
        ],
        0,
    );
    assert_eq!(text(&passed, "x-user-type"), "paid");
    assert_eq!((text(&passed, "x-principal"), text(&passed, "x-session-id")), ("session-1".into(), "session-1".into()));
    assert_eq!((text(&passed, "x-tenant"), text(&passed, "x-project")), ("acme".into(), "demo".into()));
    assert_eq!(text(&passed, "x-request-id"), "request-1");
    let known = ["x-user-type", "x-session-id", "x-principal", "x-tenant", "x-project", "x-request-id", "via"];
    let forwarded = ["x-forwarded-for", "x-forwarded-proto", "x-real-ip"];
    for name in passed.keys() {
        assert!(known.contains(&name.as_str()) || forwarded.contains(&name.as_str()), "{name}");
    }
}

#[tokio::test]
async fn credentials_stay_here_and_other_cookies_do_not() {
    let passed = passed_on(
        &[
            ("authorization", "Bearer secret"),
            ("x-internal-token", "secret"),
            ("x-api-key", "secret"),
            ("dpop", "secret"),
            ("x_api_key", "secret"),
            ("x-amzn-oidc-data", "secret"),
            ("cookie", "a=1; portcullis_session=secret; b=2"),
            ("cookie", "__Host-portcullis_session=secret"),
            ("cookie", "c=\"3\";d=4"),
        ],
        0,
    );
    assert_eq!(text(&passed, "cookie"), "a=1; b=2; c=\"3\"; d=4");
    assert!(passed.values().all(|value| !value.to_str().unwrap().contains("secret")), "{passed:?}");
}

#[tokio::test]
async fn addresses_are_those_that_the_operators_proxies_wrote() {
    let spoofed = [
        ("x-forwarded-for", "127.0.0.1, 9.9.9.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("x-real-ip", "127.0.0.1"),
        ("host", "shop.example"),
    ];
    let passed = passed_on(&spoofed, 0);
    assert_eq!((text(&passed, "x-forwarded-for"), text(&passed, "x-real-ip")), ("10.0.0.1".into(), "10.0.0.1".into()));
    assert_eq!(text(&passed, "x-forwarded-proto"), "http");
    let passed = passed_on(&spoofed, 1);
    assert_eq!(text(&passed, "x-forwarded-for"), "9.9.9.9, 10.0.0.1");
    assert_eq!((text(&passed, "x-real-ip"), text(&passed, "x-forwarded-proto")), ("9.9.9.9".into(), "https".into()));
    assert_eq!(
        (text(&passed, "host"), text(&passed, "x-forwarded-host")),
        ("shop.example".into(), "shop.example".into())
    );
}

#[test]
fn the_target_says_the_host_where_it_has_one() {
    let mut headers = fields(&[("host", "other.example")]);
    forwarded(0, "http://user:password@shop.example:81/path", &headers).write(&mut headers);
    assert_eq!(text(&headers, "host"), "shop.example:81");
}

#[tokio::test]
async fn only_a_websocket_is_switched_to() {
    let asked = [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket"), ("sec-websocket-key", "k")];
    let passed = passed_on(&asked, 0);
    assert_eq!((text(&passed, "connection"), text(&passed, "upgrade")), ("upgrade".into(), "websocket".into()));
    assert_eq!(text(&passed, "sec-websocket-key"), "k");
    for lines in [
        &[("connection", "upgrade"), ("upgrade", "h2c")][..],
        &[("upgrade", "websocket")],
        &[("connection", "upgrade"), ("upgrade", "websocket, h2c")],
        &[("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")],
    ] {
        assert!(!asks_for_websocket(&fields(lines)), "{lines:?}");
        assert_eq!(text(&passed_on(lines, 0), "upgrade"), "");
    }
}

#[tokio::test]
async fn a_trace_is_passed_on_whole_or_not_at_all() {
    let sent = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let passed = passed_on(&[sent, ("tracestate", "a=1"), ("tracestate", "b=2")], 0);
    assert_eq!((text(&passed, "traceparent"), text(&passed, "tracestate")), (sent.1.into(), "a=1,b=2".into()));
    let passed = passed_on(&[("traceparent", "nonsense"), ("tracestate", "a=1")], 0);
    assert!(text(&passed, "traceparent").starts_with("00-") && text(&passed, "tracestate").is_empty());
    let passed = passed_on(&[("tracestate", "a=1")], 0);
    assert_eq!((text(&passed, "traceparent"), text(&passed, "tracestate")), (String::new(), String::new()));
}

#[test]
fn an_answer_keeps_what_is_the_applications() {
    let mut headers = fields(&[
        ("connection", "x-private"),
        ("x-private", "1"),
        ("transfer-encoding", "chunked"),
        ("x-user-type", "privileged"),
        ("ratelimit", "\"own\";r=1"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("retry-after", "7"),
        ("x-usage-tokens", "5"),
    ]);
    of_answer(&mut headers, false);
    assert_eq!(headers.keys_len(), 3);
    assert_eq!((text(&headers, "set-cookie"), text(&headers, "retry-after")), ("a=1|b=2".into(), "7".into()));
}

#[test]
fn an_application_cannot_set_the_session() {
    let mut headers = fields(&[
        ("set-cookie", "a=1; Path=/"),
        ("set-cookie", "__Host-portcullis_session=forged; Path=/; Secure"),
        ("set-cookie", " portcullis_session =forged"),
        ("set-cookie", "b=portcullis_session=1"),
        ("set-cookie", "portcullis_session"),
    ]);
    of_answer(&mut headers, false);
    assert_eq!(text(&headers, "set-cookie"), "a=1; Path=/|b=portcullis_session=1");
}

#[test]
fn trailers_cannot_change_what_was_said_before_them() {
    let mut trailers =
        fields(&[("x-checksum", "1"), ("content-length", "9"), ("x-user-type", "paid"), ("set-cookie", "a")]);
    of_trailers(&mut trailers);
    assert_eq!((trailers.len(), text(&trailers, "x-checksum")), (1, "1".into()));
}
