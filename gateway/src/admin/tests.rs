//! The admin listener over a socket, with a Redis that is not there: what must hold whatever Redis does.

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_config::Policy;
use portcullis_lua::{Store, StoreOptions};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::server::Server;
use crate::{GatewayOptions, TrustedProxies};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

struct Answered {
    status: u16,
    head: String,
    body: String,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

struct Fixture {
    address: SocketAddr,
    _server: Server,
}

impl Fixture {
    async fn start() -> Self {
        // A port that was free a moment ago: nobody answers there.
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let store_timeout = Duration::from_millis(40);
        let redis = StoreOptions { url: format!("redis://{nobody}"), connections: 1, command_timeout: store_timeout };
        let mut policy = Policy::shipped("acme", "demo");
        policy.redis_url = Some("redis://user:canary@db:6379".to_owned());
        let (gateway, _) = Gateway::new(GatewayOptions {
            store: Store::open(&redis).unwrap(),
            scope: policy.scope().unwrap(),
            policy,
            policy_revision: 7,
            policy_source: "a test".to_owned(),
            admin_token: TOKEN.into(),
            instance: "gateway-1".to_owned(),
            trusted_proxies: TrustedProxies::default(),
            dev_tokens: false,
            drain: Duration::ZERO,
            store_timeout,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, _server: Server::start(listener, router(gateway)) }
    }

    async fn request(&self, method: &str, target: &str, authorization: &str) -> Answered {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {target} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n{authorization}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answered { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    async fn get(&self, target: &str) -> Answered {
        self.request("GET", target, &format!("Authorization: Bearer {TOKEN}\r\n")).await
    }
}

#[tokio::test]
async fn nothing_but_health_answers_without_the_token() {
    let fixture = Fixture::start().await;
    let guarded = [
        "/metrics",
        "/monitoring/system",
        "/admin/processors",
        "/admin/queues",
        "/admin/decisions",
        "/admin/circuit-breakers",
        "/admin/gateway/config",
        "/no/such/route",
    ];
    for target in guarded {
        for authorization in ["", "Authorization: Bearer dev:privileged:ada\r\n"] {
            let answer = fixture.request("GET", target, authorization).await;
            assert_eq!((answer.status, &answer.json()["code"]), (401, &Value::from("unauthenticated")), "{target}");
            assert!(answer.head.contains("\r\nwww-authenticate: bearer"), "{target}");
        }
    }
    for target in ["/healthz", "/readyz"] {
        assert_eq!(fixture.request("GET", target, "").await.status, 200, "{target}");
    }
}

#[tokio::test]
async fn unknown_routes_and_methods_are_the_same_nothing() {
    let fixture = Fixture::start().await;
    let authorization = format!("Authorization: Bearer {TOKEN}\r\n");
    for (method, target) in [("GET", "/no/such/route"), ("DELETE", "/admin/queues")] {
        let answer = fixture.request(method, target, &authorization).await;
        assert_eq!((answer.status, &answer.json()["code"]), (404, &Value::from("not_found")), "{method} {target}");
    }
}

#[tokio::test]
async fn metrics_are_there_when_redis_is_not() {
    let fixture = Fixture::start().await;
    let answer = fixture.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("\r\ncontent-type: text/plain; version=0.0.4"), "{}", answer.head);
    assert!(answer.body.contains("portcullis_build_info{"), "{}", answer.body);
    let unreadable = r#"portcullis_scope_readable{tenant="acme",project="demo"} 0"#;
    assert!(answer.body.contains(unreadable), "{}", answer.body);
}

#[tokio::test]
async fn monitoring_shows_what_the_gateway_knows_when_redis_is_gone() {
    let fixture = Fixture::start().await;
    let answer = fixture.get("/monitoring/system").await;
    assert_eq!(answer.status, 200);
    let document = answer.json();
    assert_eq!(document["config"]["revision"], 7);
    assert_eq!(document["gateway"]["instance"], "gateway-1");
    assert_eq!(document["store"]["answers"], false);
    assert!(document["store"]["error"].is_string() && document["queue"].is_null(), "{document}");
}

#[tokio::test]
async fn what_only_redis_knows_is_503_while_it_is_gone() {
    let fixture = Fixture::start().await;
    for target in ["/admin/processors", "/admin/queues", "/admin/decisions", "/admin/circuit-breakers"] {
        let answer = fixture.get(target).await;
        assert_eq!((answer.status, &answer.json()["code"]), (503, &Value::from("store_unavailable")), "{target}");
        assert!(answer.head.contains("\r\nretry-after: "), "{}", answer.head);
    }
}

#[tokio::test]
async fn bad_parameters_are_refused_by_name() {
    let fixture = Fixture::start().await;
    let answer = fixture.get("/admin/decisions?limit=1001&outcome=maybe&colour=red").await;
    let problem = answer.json();
    assert_eq!((answer.status, &problem["code"]), (400, &Value::from("invalid_request")));
    let paths: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|fault| fault["path"].clone()).collect();
    assert_eq!(paths, ["limit", "outcome", "colour"]);
}

#[tokio::test]
async fn the_configuration_is_shown_without_its_secrets() {
    let fixture = Fixture::start().await;
    let answer = fixture.get("/admin/gateway/config").await;
    let shown = answer.json();
    assert_eq!((answer.status, &shown["revision"], &shown["source"]), (200, &Value::from(7), &Value::from("a test")));
    assert_eq!(shown["config"]["redis_url"], "redis://***@db:6379");
    assert_eq!(shown["config"]["rate_limits"]["roles"]["anonymous"]["burst"], 10);
    assert!(!answer.body.contains("canary") && answer.head.contains("\r\ncache-control: no-store"), "{}", answer.head);
}
