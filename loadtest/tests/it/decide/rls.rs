//! Envoy's rate limit service over gRPC, asked as Envoy asks.

use std::net::SocketAddr;
use std::pin::pin;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis_gateway::envoy_rls::SHOULD_RATE_LIMIT;
use portcullis_gateway::envoy_rls::message::{
    Code, Entry, RateLimitDescriptor, RateLimitRequest, RateLimitResponse, Unit,
};
use portcullis_loadtest::cluster::Builder;
use prost::Message;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::asked;
use crate::fixture::{Fixture, cluster, start, until};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const INVALID_ARGUMENT: i32 = 3;
const UNAVAILABLE: i32 = 14;

/// A connection as Envoy keeps one.
pub(super) struct Envoy {
    sender: SendRequest<Full<Bytes>>,
    _connection: JoinSet<()>,
}

impl Envoy {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        let mut running = JoinSet::new();
        running.spawn(async move {
            // How it ends does not matter here.
            let _ = connection.await;
        });
        Self { sender, _connection: running }
    }

    /// The answer, or the gRPC status and its message.
    pub(super) async fn ask(
        &self,
        hits: u32,
        descriptors: &[&[(&str, &str)]],
    ) -> Result<RateLimitResponse, (i32, String)> {
        let entry = |(key, value): &(&str, &str)| Entry { key: (*key).to_owned(), value: (*value).to_owned() };
        let descriptor = |entries: &&[(&str, &str)]| RateLimitDescriptor {
            entries: entries.iter().map(entry).collect(),
            ..RateLimitDescriptor::default()
        };
        let descriptors = descriptors.iter().map(descriptor).collect();
        let question = RateLimitRequest { domain: "envoy".to_owned(), descriptors, hits_addend: hits };
        let mut message = BytesMut::new();
        message.put_u8(0);
        message.put_u32(u32::try_from(question.encoded_len()).expect("short"));
        question.encode(&mut message).expect("room");
        let request = Request::post(format!("http://rls{SHOULD_RATE_LIMIT}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {TOKEN}"))
            .body(Full::new(message.freeze()))
            .expect("a request");
        let answer = self.sender.clone().send_request(request).await.expect("an answer");
        let mut fields = answer.headers().clone();
        let body = answer.into_body().collect().await.expect("all of it");
        fields.extend(body.trailers().cloned().unwrap_or_default());
        let text = |name: &str| fields.get(name).map_or("", |value| value.to_str().expect("text")).to_owned();
        match text("grpc-status").parse().expect("a status") {
            0 => Ok(RateLimitResponse::decode(&body.to_bytes()[5..]).expect("an answer")),
            status => Err((status, text("grpc-message"))),
        }
    }
}

/// A gateway that serves it, and a connection to it.
pub(super) async fn served() -> (Fixture, Envoy) {
    served_under(asked()).await
}

async fn served_under(builder: Builder) -> (Fixture, Envoy) {
    served_with_patience(builder, "1000").await
}

/// A gateway that waits so many ms for Redis.
async fn served_with_patience(builder: Builder, store_timeout_ms: &str) -> (Fixture, Envoy) {
    let builder = builder
        .env("PORTCULLIS_RLS_LISTEN", "127.0.0.1:0")
        .env("PORTCULLIS_RLS_TOKEN", TOKEN)
        .env("PORTCULLIS_DRAIN_SECONDS", "0");
    let mut cluster = start(builder.env("PORTCULLIS_STORE_TIMEOUT_MS", store_timeout_ms)).await;
    let address = cluster.gateways()[0].address("rls").expect("announced");
    (cluster, Envoy::connect(address).await)
}

fn field<'a>(answer: &'a RateLimitResponse, name: &str) -> &'a str {
    let found = answer.response_headers_to_add.iter().find(|field| field.key == name);
    found.map_or("", |field| field.value.as_str())
}

#[tokio::test]
async fn a_caller_is_let_through_as_often_as_its_limit_says_and_told_when_to_come_back() {
    let (_cluster, envoy) = served().await;
    let ada: [&[(&str, &str)]; 3] = [
        &[("user_type", "paid"), ("principal", "ada")],
        &[("remote_address", "203.0.113.7"), ("path", "/work/1"), ("method", "POST")],
        &[("generic_key", "any")],
    ];
    for remaining in [2, 1, 0] {
        let answer = envoy.ask(0, &ada).await.expect("a decision");
        assert_eq!((answer.overall_code, answer.statuses.len()), (Code::Ok.into(), 3));
        for status in &answer.statuses {
            let limit = status.current_limit.as_ref().expect("a limit");
            assert_eq!((limit.name.as_str(), limit.requests_per_unit, limit.unit), ("burst", 3, Unit::Hour.into()));
            assert_eq!((status.code, status.limit_remaining), (Code::Ok.into(), remaining));
            assert!(status.duration_until_reset.is_some_and(|reset| (1..=3700).contains(&reset.seconds)));
        }
        assert!(field(&answer, "ratelimit").contains(&format!("\"burst\";r={remaining}")));
        assert!(answer.raw_body.is_empty() && !field(&answer, "x-policy-revision").is_empty());
    }
    let refused = envoy.ask(0, &ada).await.expect("a decision");
    assert_eq!(refused.overall_code, i32::from(Code::OverLimit));
    assert!(refused.statuses.iter().all(|status| status.code == i32::from(Code::OverLimit)));
    assert!((3000..=3700).contains(&field(&refused, "retry-after").parse::<u64>().expect("seconds")));
    let problem: Value = serde_json::from_slice(&refused.raw_body).expect("a problem");
    assert_eq!((&problem["code"], &problem["status"]), (&json!("burst_limit"), &json!(429)));
    let bob = envoy.ask(0, &[&[("user_type", "paid"), ("principal", "bob"), ("kind", "work")]]).await;
    assert_eq!(bob.expect("a decision").overall_code, i32::from(Code::Ok), "another caller has limits of its own");
}

#[tokio::test]
async fn a_session_has_one_limit_by_whichever_way_it_comes() {
    let (cluster, envoy) = served().await;
    let ada = cluster.gateway(0).caller("paid", "ada").with_header("x-original-uri", "/work/1");
    let answer = ada.with_header("x-original-method", "POST").get("/v1/decide").await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text);
    let session = answer.header("x-session-id").expect("a session");
    let entries = [("user_type", "paid"), ("session", session), ("kind", "work")];
    let heavy = envoy.ask(3, &[&entries]).await.expect("a decision");
    assert_eq!(heavy.overall_code, i32::from(Code::OverLimit), "two are left, and it counts as three");
    let fitting = envoy.ask(2, &[&entries]).await.expect("a decision");
    assert_eq!((fitting.overall_code, fitting.statuses[0].limit_remaining), (Code::Ok.into(), 0));
    let refused = ada.with_header("x-original-method", "POST").get("/v1/decide").await.expect("an answer");
    assert_eq!((refused.status, refused.code()), (429, "burst_limit"));
}

#[tokio::test]
async fn a_question_about_several_requests_is_expected_to_use_what_they_all_do() {
    let budget = |unit: &str, default_estimate: u64| {
        json!({ "per": "principal", "unit": unit, "amount": 1000, "period": "day",
            "default_estimate": default_estimate })
    };
    let work = json!({ "patterns": ["^/work/"], "methods": ["POST"], "max_concurrent": 100, "throttled": false,
        "estimate": { "tokens": 100 } });
    let read = json!({ "patterns": ["^/work/"], "methods": ["GET"], "max_concurrent": 100, "throttled": false });
    let (_cluster, envoy) = served_under(cluster().policy(json!({
        "budgets": { "tokens": budget("tokens", 1), "dollars": budget("dollars", 70) },
        "route_classes": { "work": work, "work-read": read },
    })))
    .await;
    let post = |principal| [("user_type", "paid"), ("principal", principal), ("path", "/work/1"), ("method", "POST")];
    let asked = async |principal: &'static str, hits: u32| {
        let answer = envoy.ask(hits, &[&post(principal)]).await.expect("a decision");
        let problem: Value = serde_json::from_slice(&answer.raw_body).unwrap_or_default();
        problem["budget"].as_str().map(str::to_owned)
    };
    assert_eq!(asked("ada", 11).await.as_deref(), Some("tokens"), "11 times the 100 of its class");
    assert_eq!(asked("ada", 9).await, None);
    assert_eq!(asked("ada", 2).await.as_deref(), Some("tokens"), "9 of 10 are spent");
    assert_eq!(asked("ada", 1).await, None);
    let get = [("user_type", "paid"), ("principal", "bob"), ("kind", "work-read")];
    let decided = async |hits: u32| envoy.ask(hits, &[&get]).await.expect("a decision").overall_code;
    assert_eq!(decided(15).await, i32::from(Code::OverLimit), "15 times the 70 of the budget");
    assert_eq!(decided(14).await, i32::from(Code::Ok));
    assert_eq!(decided(1).await, i32::from(Code::OverLimit));

    let unsaid = [("user_type", "paid"), ("path", "/work/1")];
    let (status, message) = envoy.ask(0, &[&unsaid]).await.unwrap_err();
    assert_eq!((status, message.contains("method")), (3, true), "two classes by the method: {message}");
}

#[tokio::test]
async fn pressure_and_classes_count_as_anywhere() {
    let (_cluster, envoy) = served().await;
    let overloaded = envoy.ask(0, &[&[("path", "/guarded/1"), ("method", "GET")]]).await.expect("a decision");
    assert_eq!(overloaded.overall_code, i32::from(Code::OverLimit));
    let problem: Value = serde_json::from_slice(&overloaded.raw_body).expect("a problem");
    assert_eq!((&problem["code"], &problem["status"]), (&json!("no_live_processors"), &json!(503)));
    for _ in 0..10 {
        let read = envoy.ask(0, &[&[("path", "/free"), ("user_type", "paid")]]).await.expect("a decision");
        assert_eq!(read.overall_code, i32::from(Code::Ok), "it takes no gates");
    }
    let (status, message) = envoy.ask(0, &[&[("user_type", "nobility")]]).await.unwrap_err();
    assert_eq!((status, message.contains("user_type")), (3, true), "{message}");
}

#[tokio::test]
async fn a_principal_that_is_revoked_is_so_by_whichever_way_it_comes() {
    let (cluster, envoy) = served().await;
    let guarded = [("user_type", "paid"), ("principal", "acme:ada"), ("kind", "work")];
    let read = [("user_type", "paid"), ("principal", "acme:ada"), ("path", "/free")];
    let by_agent = [("user_type", "paid"), ("principal", "acme:bob"), ("agent", "doomed"), ("kind", "work")];
    for entries in [&guarded, &read] {
        assert_eq!(envoy.ask(0, &[entries]).await.expect("a decision").overall_code, i32::from(Code::Ok));
    }
    for (kind, id) in [("principal", "acme:ada"), ("agent", "doomed")] {
        let wish = json!({ "kind": kind, "id": id, "reason": "left" });
        let answer = cluster.admin(0).post("/admin/revocations", &wish).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    for entries in [&guarded[..], &read[..], &by_agent[..]] {
        let refused = envoy.ask(0, &[entries]).await.expect("a decision, not a fault that lets it pass");
        assert_eq!(refused.overall_code, i32::from(Code::OverLimit), "{entries:?}");
        let problem: Value = serde_json::from_slice(&refused.raw_body).expect("a problem");
        assert_eq!(problem["code"], "unauthenticated");
    }
    let bob = [("user_type", "paid"), ("principal", "acme:bob"), ("kind", "work")];
    assert_eq!(envoy.ask(0, &[&bob]).await.expect("a decision").overall_code, i32::from(Code::Ok));
}

#[tokio::test]
async fn without_redis_there_is_no_decision_and_then_there_is_again() {
    let (mut cluster, envoy) = served().await;
    let ada = [("user_type", "paid"), ("principal", "ada"), ("kind", "work")];
    cluster.redis().expect("a server").pause().expect("frozen");
    for _ in 0..3 {
        assert_eq!(envoy.ask(0, &[&ada]).await.unwrap_err().0, UNAVAILABLE);
    }
    cluster.redis().expect("a server").resume().expect("thawed");
    let answer = until("decisions are made again", || async { envoy.ask(0, &[&ada]).await.ok() }).await;
    assert_eq!(answer.overall_code, i32::from(Code::Ok));
}

#[tokio::test]
async fn a_gateway_that_drains_answers_what_was_asked_and_goes() {
    let (mut cluster, envoy) = served_with_patience(asked(), "20000").await;
    let address = cluster.gateways()[0].address("rls").expect("announced");
    cluster.redis().expect("a server").pause().expect("frozen");
    let ada: [&[(&str, &str)]; 1] = [&[("user_type", "privileged"), ("principal", "ada"), ("kind", "work")]];
    let mut asked = pin!(envoy.ask(0, &ada));
    // Questions of a connection are read in order: when this one is answered, which takes no Redis, the other has come.
    let other = async { envoy.ask(0, &[&[("nonsense", "1")]]).await.unwrap_err().0 };
    tokio::select! {
        biased;
        answer = &mut asked => panic!("Redis was not asked: {answer:?}"),
        status = other => assert_eq!(status, INVALID_ARGUMENT),
    }
    cluster.gateways()[0].terminate().expect("told to go");
    until("nobody is listened to any more", || async { TcpStream::connect(address).await.is_err().then_some(()) })
        .await;
    cluster.redis().expect("a server").resume().expect("thawed");
    assert_eq!(asked.await.expect("a decision").overall_code, i32::from(Code::Ok));
    let gateway = &mut cluster.gateways()[0];
    assert!(gateway.wait().await.expect("it ends").success(), "{}", gateway.stderr());
}
