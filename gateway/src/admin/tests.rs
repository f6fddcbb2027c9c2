//! The admin listener over a socket, with a Redis that is not there: what must hold whatever Redis does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_config::{Component, parse_value};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::GatewayOptions;
use crate::server::Server;
use crate::state::tests::options_without_redis;

mod operators;
mod offered;

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

    fn code(&self) -> Value {
        self.json()["code"].clone()
    }

    /// The paths of the faults listed.
    fn paths(&self) -> Vec<String> {
        let faults = self.json()["errors"].as_array().cloned().unwrap_or_default();
        faults.iter().map(|fault| fault["path"].as_str().unwrap().to_owned()).collect()
    }
}

struct Fixture {
    address: SocketAddr,
    gateway: Arc<Gateway>,
    _server: Server,
}

impl Fixture {
    async fn start() -> Self {
        Self::of(|_| {}).await
    }

    /// With options that differ from those of a gateway without Redis.
    async fn of(change: impl FnOnce(&mut GatewayOptions)) -> Self {
        let document = json!({"tenant": "acme", "project": "demo", "redis_url": "redis://user:canary@db:6379"});
        let boot = parse_value(document, Component::Ingress, &|_| None).unwrap();
        let mut options = GatewayOptions { boot, ..options_without_redis() };
        change(&mut options);
        let gateway = Gateway::new(options);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::start(listener, router(Arc::clone(&gateway)), Duration::from_secs(75));
        Self { address, gateway, _server: server }
    }

    async fn request(&self, method: &str, target: &str, headers: &str, body: &str) -> Answered {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n{headers}");
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answered { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    async fn get(&self, target: &str) -> Answered {
        self.request("GET", target, &format!("Authorization: Bearer {TOKEN}\r\n"), "").await
    }

    async fn post(&self, target: &str, body: &Value) -> Answered {
        let headers = format!("Authorization: Bearer {TOKEN}\r\n");
        self.request("POST", target, &headers, &body.to_string()).await
    }
}

#[tokio::test]
async fn nothing_but_health_answers_without_the_token() {
    let fixture = Fixture::start().await;
    let guarded = [
        "/metrics",
        "/admin/audit",
        "/admin/audit/export",
        "/admin/revocations",
        "/admin/revocations/acknowledge",
        "/admin/gateway/config/revisions",
        "/admin/gateway/config/revisions/1",
        "/admin/gateway/config/convergence",
        "/admin/gateway/update-config",
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
            for method in ["GET", "POST"] {
                let answer = fixture.request(method, target, authorization, "").await;
                assert_eq!((answer.status, answer.code()), (401, Value::from("unauthenticated")), "{target}");
                assert!(answer.head.contains("\r\nwww-authenticate: bearer"), "{target}");
                assert!(answer.head.contains("\r\nx-content-type-options: nosniff"), "{target}");
            }
        }
    }
    for target in ["/healthz", "/readyz"] {
        assert_eq!(fixture.request("GET", target, "", "").await.status, 200, "{target}");
    }
}

#[tokio::test]
async fn unknown_routes_and_methods_are_the_same_nothing() {
    let fixture = Fixture::start().await;
    let authorization = format!("Authorization: Bearer {TOKEN}\r\n");
    let all = [
        ("GET", "/no/such/route"),
        ("DELETE", "/admin/queues"),
        ("GET", "/admin/gateway/update-config"),
        ("GET", "/admin/gateway/config/revisions/one"),
        ("GET", "/admin/gateway/config/revisions/-1"),
    ];
    for (method, target) in all {
        let answer = fixture.request(method, target, &authorization, "").await;
        assert_eq!((answer.status, answer.code()), (404, Value::from("not_found")), "{method} {target}");
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
    assert_eq!(document["config"]["revision"], 0);
    assert_eq!(document["gateway"]["instance"], "gateway-1");
    assert_eq!(document["store"]["answers"], false);
    assert!(document["store"]["error"].is_string() && document["queue"].is_null(), "{document}");
}

#[tokio::test]
async fn what_only_redis_knows_is_503_while_it_is_gone() {
    let fixture = Fixture::start().await;
    let all = [
        "/admin/processors",
        "/admin/queues",
        "/admin/decisions",
        "/admin/circuit-breakers",
        "/admin/audit",
        "/admin/audit/export?stream=decision",
        "/admin/revocations",
        "/admin/gateway/config/revisions",
        "/admin/gateway/config/revisions/1",
        "/admin/gateway/config/convergence",
        "/admin/queues?tenant=globex",
    ];
    for target in all {
        let answer = fixture.get(target).await;
        assert_eq!((answer.status, answer.code()), (503, Value::from("store_unavailable")), "{target}");
        assert!(answer.head.contains("\r\nretry-after: "), "{}", answer.head);
    }
}

#[tokio::test]
async fn bad_parameters_are_refused_by_name() {
    let fixture = Fixture::start().await;
    let all: [(&str, &[&str]); 8] = [
        ("/admin/decisions?limit=1001&outcome=maybe&colour=red", &["limit", "outcome", "colour"]),
        ("/admin/audit?limit=0&limit=1", &["limit", "limit"]),
        ("/admin/audit?event=&by=", &["event", "by"]),
        ("/admin/audit/export?stream=all&after=newest&limit=0&event=x", &["stream", "after", "limit", "event"]),
        ("/admin/revocations?limit=1001&kind=agent", &["limit", "kind"]),
        ("/admin/gateway/config?tenant=a%7Db&project=", &["tenant", "project"]),
        ("/admin/gateway/config/revisions?limit=201", &["limit"]),
        ("/monitoring/system?limit=5", &["limit"]),
    ];
    for (target, paths) in all {
        let answer = fixture.get(target).await;
        assert_eq!((answer.status, answer.code()), (400, Value::from("invalid_request")), "{target}");
        assert_eq!(answer.paths(), paths, "{target}");
    }
}

#[tokio::test]
async fn the_configuration_is_shown_without_its_secrets() {
    let fixture = Fixture::start().await;
    let answer = fixture.get("/admin/gateway/config").await;
    let shown = answer.json();
    assert_eq!((answer.status, &shown["revision"], &shown["stored_revision"]), (200, &json!(0), &Value::Null));
    assert_eq!(shown["effective"]["rate_limits"]["roles"]["anonymous"]["burst"], 10);
    assert!(!answer.body.contains("canary") && answer.head.contains("\r\ncache-control: no-store"), "{}", answer.head);
    assert!(answer.head.contains("\r\nx-policy-revision: 0"), "{}", answer.head);
    assert!(answer.head.contains("\r\nx-content-type-options: nosniff"), "{}", answer.head);
    let other = json!({"redis_url": "redis://other:canary@db"});
    let answer = fixture.post("/admin/gateway/validate-config", &other).await;
    assert_eq!(answer.paths(), ["redis_url"], "a credential is not stored");
    assert!(!answer.body.contains("canary"), "{}", answer.body);
}

#[tokio::test]
async fn a_change_with_faults_is_refused_with_all_of_them_whatever_redis_does() {
    let fixture = Fixture::start().await;
    let answer = fixture.post("/admin/gateway/update-config?wait=61", &json!({"reason": "", "config": 5})).await;
    assert_eq!((answer.status, answer.code()), (400, Value::from("invalid_request")));
    assert_eq!(answer.paths(), ["wait", "reason", "config"]);
    let answer = fixture.post("/admin/gateway/update-config", &json!({"tenant": "a b", "dry_run": "no"})).await;
    assert_eq!((answer.status, answer.paths()), (400, vec!["dry_run".to_owned(), "tenant".to_owned()]));
    let body = json!({"reason": "", "queue": {"lease_ms": "soon"}});
    let answer = fixture.post("/admin/gateway/update-config", &body).await;
    assert_eq!((answer.status, answer.paths()), (400, vec!["reason".to_owned(), "queue.lease_ms".to_owned()]));
    let answer = fixture.post("/admin/gateway/config/rollback", &json!({"limits": {}})).await;
    assert_eq!((answer.status, answer.paths()), (400, vec!["revision".to_owned(), "limits".to_owned()]));
    let answer = fixture.post("/admin/gateway/reset-config", &json!({"revision": 1})).await;
    assert_eq!((answer.status, answer.paths()), (400, vec!["revision".to_owned()]));
    let large = json!({"reason": "a".repeat(1024 * 1024)});
    assert_eq!(fixture.post("/admin/gateway/update-config", &large).await.code(), "payload_too_large");
}

#[tokio::test]
async fn no_change_is_made_while_redis_is_gone() {
    let fixture = Fixture::start().await;
    let all = [
        ("update-config", json!({"queue": {"lease_ms": 20_000}})),
        ("update-config", json!({"queue": {"lease_ms": 20_000}, "dry_run": true})),
        ("reset-config", json!({})),
        ("config/rollback", json!({"revision": 1})),
        ("../revocations", json!({"kind": "principal", "id": "ada", "reason": "left"})),
        ("../revocations/acknowledge", json!({"reason": "restored"})),
    ];
    for (route, body) in all {
        let target = format!("/admin/gateway/{route}").replace("gateway/../", "");
        let answer = fixture.post(&target, &body).await;
        assert_eq!((answer.status, answer.code()), (503, Value::from("store_unavailable")), "{route}");
    }
    assert_eq!(fixture.get("/admin/gateway/config").await.json()["revision"], 0);
}

#[tokio::test]
async fn a_document_is_judged_by_what_is_held_while_redis_is_gone() {
    let fixture = Fixture::start().await;
    let answer = fixture.post("/admin/gateway/validate-config", &json!({"queue": {"lease_ms": 20_000}})).await;
    let shown = answer.json();
    assert_eq!((answer.status, &shown["valid"], &shown["errors"]), (200, &json!(true), &json!([])), "{shown}");
    assert_eq!(shown["changed"], json!(["queue.lease_ms"]));
    assert_eq!(
        (&shown["effective"]["queue"]["lease_ms"], &shown["effective"]["redis_url"]),
        (&json!(20_000), &json!(null))
    );

    let body = json!({"expected_revision": 3, "reason": 5, "queue": {"lease_ms": "soon"}, "colour": "red"});
    let answer = fixture.post("/admin/gateway/validate-config", &body).await;
    let shown = answer.json();
    assert_eq!((answer.status, &shown["valid"], &shown["effective"]), (200, &json!(false), &Value::Null));
    assert_eq!(answer.paths().len(), 4, "{shown}");
    for path in ["reason", "expected_revision", "queue.lease_ms", "colour"] {
        assert!(answer.paths().iter().any(|found| found == path), "{path}: {shown}");
    }
}
