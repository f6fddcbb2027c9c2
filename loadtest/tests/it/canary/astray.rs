//! Credentials where none belongs, or in a request that is none.
//!
//! Responsible for ways that nobody takes on purpose: the query, the address of another request, bodies and heads that
//! cannot be read, the operators' listener. Must never be about what a gateway makes of them beyond its status.

use portcullis_loadtest::client::Client;
use portcullis_loadtest::credentials::random_text;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::presented::Scene;
use crate::fixture::PATIENCE;

/// Every byte of it as browsers would write one that has another meaning.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |all, byte| format!("{all}%{byte:02X}"))
}

/// A secret of its own for each of them, which is watched from now on.
fn fresh(scene: &mut Scene, what: &str) -> String {
    let secret = random_text();
    scene.watch.secret(what, &secret);
    secret
}

/// Addresses with a credential in them: of the request itself, and of one that another proxy asks about.
pub(super) async fn in_addresses(scene: &mut Scene, session: &str) {
    let stream = format!("/v1/tasks/{}/events", portcullis_lua::TaskId::generate());
    let wrong = fresh(scene, "percent-encoded in a query");
    for (token, status) in [(session, 404), (wrong.as_str(), 401)] {
        let path = format!("{stream}?bearer_token={}", percent_encoded(token));
        let answer = scene.client().get(&path).await.expect("an answer");
        scene.expect("percent-encoded in a query", &answer, status);
    }
    let bearer = format!("Bearer {session}");
    for (what, target, status) in [
        ("address that is asked about", "/app?access_token=", 200),
        ("fragment of an address", "/app#access_token=", 400),
    ] {
        let secret = fresh(scene, what);
        let asking = scene.with("x-original-method", "GET").with_header("x-original-uri", &format!("{target}{secret}"));
        let answer = asking.with_header("authorization", &bearer).get("/v1/decide").await.expect("an answer");
        scene.expect(what, &answer, status);
        let answer = asking.with_header("authorization", "Bearer x").get("/v1/decide").await.expect("an answer");
        scene.expect(what, &answer, 401);
    }
}

/// Bodies that name a credential, or break off behind one.
pub(super) async fn in_bodies(scene: &mut Scene, session: &str) {
    let client = scene.with("authorization", &format!("Bearer {session}"));
    for path in ["/v1/tasks", "/v1/delegations"] {
        let secret = fresh(scene, "member that is not known");
        let body = json!({ "kind": "demo", "payload": 1, "agent": "helper", "authorization": secret });
        let answer = client.post(path, &body).await.expect("an answer");
        scene.expect("member that is not known", &answer, 400);
        // A text is JSON, and no body of this interface.
        let secret = fresh(scene, "body that is a text");
        let answer = client.post(path, &json!(secret)).await.expect("an answer");
        scene.expect("body that is a text", &answer, 400);
    }
}

/// What is shown to the operators' listener, and asked of it.
pub(super) async fn at_the_operators_door(scene: &mut Scene, operator: &Client) {
    for (name, before) in [
        ("x-internal-token", ""),
        ("x-api-key", "gk_robot001_"),
        ("cookie", "__Host-portcullis_session=gs_"),
        ("authorization", "DPoP "),
        ("authorization", "Basic "),
    ] {
        let secret = fresh(scene, name);
        let stranger = scene.cluster.admin_listener(0);
        let answer = stranger.with_header(name, &format!("{before}{secret}")).get("/admin/queues").await;
        scene.expect(name, &answer.expect("an answer"), 401);
    }
    for path in ["/admin/queues?access_token=", "/admin/decisions?limit=", "/admin/audit/export?after="] {
        let secret = fresh(scene, path);
        let answer = operator.get(&format!("{path}{secret}")).await.expect("an answer");
        scene.expect(path, &answer, 400);
    }
}

/// Heads that are no HTTP, with a credential in them.
pub(super) async fn in_broken_heads(scene: &mut Scene) {
    let address = scene.cluster.public_address(0);
    for (what, head) in [
        (
            "before a line that is none",
            "GET /v1/limits HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\nno field\r\n",
        ),
        ("in a line that is none", "GET /v1/limits HTTP/1.1\r\nHost: h\r\nAuthorization Bearer {}\r\n"),
        ("of an unknown version", "GET /v1/limits?access_token={} HTTP/9.9\r\nHost: h\r\n"),
        ("in a target that is none", "GET /v1/limits?access token={} HTTP/1.1\r\nHost: h\r\n"),
        ("in the authority", "GET http://user:{}@h/v1/limits HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"),
    ] {
        let secret = fresh(scene, what);
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let bytes = head.replace("{}", &secret) + "\r\n";
        stream.write_all(bytes.as_bytes()).await.expect("written");
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection ends");
        read.expect("read");
        scene.watch.saw(what, String::from_utf8_lossy(&answer));
    }
}
