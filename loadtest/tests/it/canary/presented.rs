//! Every carrier of a credential, with a good one and with a bad one, on a cluster that logs all it can.
//!
//! Responsible for nothing being left out: each carrier of the public interface, the admin token, the password of Redis
//! and secrets in a policy. Must never weaken a filter of the log to pass.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis_delegation::{Chain, SecretKey, prove};
use portcullis_loadtest::client::{Answer, Client, Submission};
use portcullis_loadtest::cluster::{Member, Redis};
use portcullis_loadtest::credentials::{
    Credentials, Granted, RESOURCE, handed_on, now_seconds, principal_of, random_text, secret_key,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::astray;
use super::watch::Watch;
use crate::fixture::{Fixture, accepted, cluster, ended, start, until};

/// Seen in answers, in Redis and in the log: what is looked through can be looked through.
const MARK: &str = "mark-that-is-no-secret";

pub(super) struct Scene {
    pub(super) watch: Watch,
    credentials: Credentials,
    pub(super) cluster: Fixture,
    _redis: Redis,
}

/// A cluster that logs everything, with a Redis that wants a password.
async fn scene(transcripts: &std::path::Path) -> Scene {
    let mut watch = Watch::default();
    // Whoever sends its header from here is the balancer.
    let alb = json!({
        "signer": "arn:aws:elasticloadbalancing:eu-central-1:1:loadbalancer/app/front/1", "region": "eu-central-1",
        "subnets": ["127.0.0.1/32"], "principal_prefix": "alb:", "key_url": "http://127.0.0.1:1",
    });
    let patch = json!({ "alb": alb, "failed_attempts": { "per_minute": 1000 } });
    let credentials = Credentials::new(&patch).await.expect("credentials");
    watch.secret("API key", credentials.api_key());
    watch.secret("internal token", credentials.internal_token());
    let redis = Redis::start(false).await.expect("a redis");
    let password = random_text();
    redis.ask(&format!("CONFIG SET requirepass {password}")).await.expect("a password");
    watch.secret("password of redis", &password);
    let url = format!("redis://:{password}@{}", redis.address());
    let roles =
        ["anonymous", "registered", "paid"].map(|role| (role.to_owned(), json!({ "burst": 100_000, "hourly": -1 })));
    let builder = credentials.believed_by(cluster().redis_url(Some(url))).processors(1).transcripts(transcripts);
    let builder = builder.env("PORTCULLIS_LOG", "trace").policy(json!({
        "rate_limits": { "roles": serde_json::Map::from_iter(roles) },
    }));
    let cluster = start(builder).await;
    watch.secret("admin token", cluster.admin_token());
    Scene { watch, credentials, cluster, _redis: redis }
}

impl Scene {
    pub(super) fn client(&self) -> Client {
        self.cluster.gateway(0).with_header("x-request-id", MARK)
    }

    pub(super) fn with(&self, name: &str, value: &str) -> Client {
        self.client().with_header(name, value)
    }

    /// A chain of three: of bearer tokens if `bound` is `None`.
    fn chain(&self, principal: &str, bound: Option<&SecretKey>) -> Chain {
        let (first, second) = (secret_key().expect("a key"), secret_key().expect("a key"));
        let scope = self.cluster.scope();
        let granted = Granted { scope, principal, agent: "planner", holder: Some(&first), reason: MARK };
        let root = self.credentials.mint(&granted).expect("a root");
        let middle = handed_on(&root, &first, "searcher", Some(second.public_key()), MARK).expect("a chain");
        let key = bound.map(SecretKey::public_key);
        handed_on(&middle, &second, "reader", key, MARK).expect("a chain")
    }

    /// Says what came of it; the answer must not give a secret back either.
    pub(super) fn expect(&mut self, what: &str, answer: &Answer, status: u16) {
        assert_eq!(answer.status, status, "{what}: {}", answer.text);
        self.watch.heard(what, answer);
    }

    async fn reads(&mut self, what: &str, client: &Client, status: u16) {
        let answer = client.get("/v1/sessions/current").await.expect("an answer");
        self.expect(what, &answer, status);
    }

    /// A session and a delegation that a gateway made: the only answers that show a secret.
    async fn issued(&mut self, jwt: &str) -> (String, String) {
        let wish = json!({ "agent": "helper", "scopes": ["tasks:*"], "reason": MARK });
        let client = self.with("authorization", &format!("Bearer {jwt}"));
        let mut tokens = Vec::new();
        for (path, body) in [("/v1/sessions", json!({ "label": MARK })), ("/v1/delegations", wish)] {
            let answer = client.post(path, &body).await.expect("an answer");
            assert_eq!(answer.status, 201, "{path}: {}", answer.text);
            tokens.push(answer.body["token"].as_str().expect("a token").to_owned());
        }
        let delegation = tokens.pop().expect("a delegation");
        (tokens.pop().expect("a session"), delegation)
    }
}

/// Every carrier with a good credential.
async fn good(scene: &mut Scene) -> (String, Chain) {
    let jwt = scene.credentials.jwt("ada", &["paid"]).expect("a token");
    scene.watch.chain("JWT", &jwt);
    let (session, delegation) = scene.issued(&jwt).await;
    scene.watch.secret("session", session.trim_start_matches("gs_"));
    scene.watch.chain("minted delegation", &delegation);
    let chain = scene.chain(&principal_of("ada"), None);
    scene.watch.chain("chain", chain.presented());
    let (api_key, internal) = (scene.credentials.api_key().to_owned(), scene.credentials.internal_token().to_owned());
    let bearer = |token: &str| format!("Bearer {token}");
    let carriers = [
        ("JWT", "authorization", bearer(&jwt)),
        ("session", "authorization", bearer(&session)),
        ("delegation", "authorization", bearer(&delegation)),
        ("chain", "authorization", bearer(chain.presented())),
        ("API key as bearer", "authorization", bearer(&api_key)),
        ("API key", "x-api-key", api_key.clone()),
        ("internal token", "x-internal-token", internal),
        ("cookie", "cookie", format!("__Host-portcullis_session={session}")),
    ];
    for (what, header, value) in &carriers {
        let client = scene.with(header, value);
        scene.reads(what, &client, 200).await;
        let task_id = accepted(&client, &Submission::new("demo", json!(MARK))).await;
        let answer = ended(&client, &task_id).await;
        assert_eq!(answer.task_status(), "succeeded", "{what}");
        let path = format!("/v1/tasks/{task_id}/events?bearer_token={session}");
        let answer = scene.client().get(&path).await.expect("an answer");
        // Whose the task is not finds none.
        let own = matches!(*what, "JWT" | "session" | "delegation" | "chain" | "cookie");
        scene.expect("events", &answer, if own { 200 } else { 404 });
    }
    let holder = secret_key().expect("a key");
    let key: Value = serde_json::from_str(&holder.to_jwk_text().expect("a key")).expect("JSON");
    scene.watch.secret("key of an agent", key["d"].as_str().expect("the secret half"));
    let bound = scene.chain(&principal_of("ada"), Some(&holder));
    scene.watch.chain("bound chain", bound.presented());
    let target = format!("{RESOURCE}/v1/sessions/current").parse().expect("a target");
    let proof = prove(&holder, &bound, "GET", &target, now_seconds()).expect("a proof");
    scene.watch.chain("proof", &proof);
    let client = scene.with("authorization", &format!("DPoP {}", bound.presented())).with_header("dpop", &proof);
    scene.reads("DPoP", &client, 200).await;
    scene.reads("DPoP again", &client, 401).await;
    (session, chain)
}

/// Every carrier with a credential that is worth nothing, each with a secret of its own.
async fn bad(scene: &mut Scene) {
    let good = scene.chain("eve", None).presented().to_owned();
    scene.watch.chain("chain of eve", &good);
    let jwt = scene.credentials.jwt("eve", &[]).expect("a token");
    let without_signature = |token: &str| token.rsplit_once('.').expect("a signature").0.to_owned();
    let carriers: [(&str, &str, String); 13] = [
        ("bearer", "authorization", "Bearer ".to_owned()),
        ("unknown session", "authorization", "Bearer gs_".to_owned()),
        ("unknown API key", "authorization", "Bearer gk_robot001_".to_owned()),
        ("forged JWT", "authorization", format!("Bearer {}.", without_signature(&jwt))),
        ("forged chain", "authorization", format!("Bearer {}.", without_signature(&good))),
        ("development token", "authorization", "Bearer dev:nosuchtype:".to_owned()),
        ("Basic", "authorization", "Basic ".to_owned()),
        ("DPoP scheme", "authorization", "DPoP ".to_owned()),
        ("no scheme", "authorization", String::new()),
        ("wrong API key", "x-api-key", "gk_robot001_".to_owned()),
        ("wrong internal token", "x-internal-token", String::new()),
        ("wrong cookie", "cookie", "__Host-portcullis_session=gs_".to_owned()),
        ("balancer", "x-amzn-oidc-data", "eyJhbGciOiJFUzI1NiJ9.".to_owned()),
    ];
    for (what, header, before) in carriers {
        let secret = random_text();
        scene.watch.secret(what, &secret);
        let client = scene.with(header, &format!("{before}{secret}"));
        scene.reads(what, &client, 401).await;
        let answer = client.submit(&Submission::new("demo", json!(1))).await.expect("an answer");
        scene.expect(what, &answer, 401);
    }
    let [proof, query, elsewhere, twice] = [(); 4].map(|()| random_text());
    for (what, secret) in [("proof", &proof), ("query", &query), ("other query", &elsewhere), ("twice", &twice)] {
        scene.watch.secret(what, secret);
    }
    let client = scene.with("authorization", &format!("DPoP {good}")).with_header("dpop", &format!("a.b.{proof}"));
    scene.reads("proof", &client, 401).await;
    let path = format!("/v1/tasks/{}/events?bearer_token={query}", portcullis_lua::TaskId::generate());
    let answer = scene.client().get(&path).await.expect("an answer");
    scene.expect("query", &answer, 401);
    let answer = scene.client().get(&format!("/v1/nothing?access_token={elsewhere}")).await.expect("an answer");
    scene.expect("other query", &answer, 404);
    let client = scene.with("authorization", &format!("Bearer {twice}")).with_header("authorization", "Bearer other");
    scene.reads("twice", &client, 400).await;
    let wrong = random_text();
    scene.watch.secret("wrong admin token", &wrong);
    let answer = scene.cluster.admin(0).bearer(&wrong).get("/admin/queues").await.expect("an answer");
    scene.expect("wrong admin token", &answer, 401);
}

/// Over HTTP/2, whose frames are logged by a library that HTTP/1 has nothing to do with.
async fn over_http2(scene: &mut Scene, session: &str) {
    let address = scene.cluster.public_address(0);
    let stream = TcpStream::connect(address).await.expect("a connection");
    let connected = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut client, connection) = connected.expect("the gateway speaks HTTP/2");
    let mut driven = JoinSet::new();
    driven.spawn(async move { drop(connection.await) });
    let wrong = random_text();
    scene.watch.secret("bearer over HTTP/2", &wrong);
    for (token, status) in [(session, 200), (&wrong, 401)] {
        let request = Request::get(format!("http://{address}/v1/sessions/current?access_token={wrong}"));
        let request = request.header("authorization", format!("Bearer {token}")).header("x-api-key", &wrong);
        let answer = client.send_request(request.body(Empty::<Bytes>::new()).expect("a request"));
        assert_eq!(answer.await.expect("an answer").status().as_u16(), status);
    }
}

/// Secrets in bodies: of a revocation, and of a policy.
async fn bodies(scene: &mut Scene, session: &str) {
    let chain = scene.chain(&principal_of("ada"), None);
    scene.watch.chain("revoked chain", chain.presented());
    let client = scene.with("authorization", &format!("Bearer {session}"));
    let revoke = json!({ "chain": chain.presented(), "reason": MARK });
    let answer = client.post("/v1/delegations/revoke", &revoke).await.expect("an answer");
    scene.expect("revoked", &answer, 204);
    let secret = random_text();
    scene.watch.secret("what is no chain", &secret);
    let answer = client.post("/v1/delegations/revoke", &json!({ "chain": secret })).await.expect("an answer");
    scene.expect("what is no chain", &answer, 404);
    let admin = scene.cluster.admin(0);
    // What is named there is kept, and shown to operators.
    for (what, secret) in [("revoked session", session), ("revoked token", chain.presented())] {
        let wish = json!({ "kind": what.trim_start_matches("revoked "), "id": secret, "reason": MARK });
        let answer = admin.post("/admin/revocations", &wish).await.expect("an answer");
        scene.expect(what, &answer, 400);
    }
    // So is why something is wished.
    let said = format!("as {session} asked");
    let change = json!({ "queue": { "lease_ms": 20_000 }, "reason": said });
    let answer = admin.post("/admin/gateway/update-config", &change).await.expect("an answer");
    scene.expect("reason of a change", &answer, 400);
    let wish = json!({ "agent": "helper", "scopes": ["quota:read"], "reason": said });
    let answer = client.post("/v1/delegations", &wish).await.expect("an answer");
    scene.expect("reason of a delegation", &answer, 400);
    let [password, api_key, nested, number] = [(); 4].map(|()| random_text());
    let patches = [
        ("password in a URL", &password, json!({ "redis_url": format!("redis://:{password}@127.0.0.1:6379") })),
        ("unknown key", &api_key, json!({ "api_key": api_key })),
        ("unknown nested key", &nested, json!({ "proxy": { "authorization": nested } })),
        ("in the place of a number", &number, json!({ "limits": { "max_queue_size": number } })),
    ];
    for (what, secret, patch) in patches {
        scene.watch.secret(what, secret);
        for route in ["validate-config", "update-config"] {
            let answer = admin.post(&format!("/admin/gateway/{route}"), &patch).await.expect("an answer");
            scene.watch.heard(what, &answer);
        }
    }
}

/// What fails because Redis is away, and what is said when it comes back.
async fn outage(scene: &mut Scene, session: &str, chain: &Chain) {
    let clients = [session, chain.presented()].map(|token| scene.with("authorization", &format!("Bearer {token}")));
    for client in &clients {
        let probe = scene.cluster.probe().await.expect("a connection");
        probe.command("CLIENT", ["KILL", "TYPE", "normal", "SKIPME", "yes"]).await.expect("killed");
        probe.close().await;
        let answer = client.submit(&Submission::new("demo", json!(1))).await.expect("an answer");
        scene.watch.heard("without redis", &answer);
        until("redis is back", || async {
            let answer = client.submit(&Submission::new("demo", json!(1))).await.ok()?;
            (answer.status == 202).then_some(())
        })
        .await;
    }
}

/// Everything that can be read of the cluster.
async fn look(scene: &mut Scene) {
    let admin = scene.cluster.admin(0);
    let document = admin.get("/openapi.json").await.expect("an answer");
    // Whatever can be read there, whichever routes there are.
    let paths = document.body["paths"].as_object().expect("paths").iter();
    let readable = paths.filter(|(path, operations)| operations.get("get").is_some() && !path.contains('{'));
    let mut pages: Vec<String> = readable.map(|(path, _)| path.clone()).collect();
    assert!(pages.len() > 10, "hardly any pages: {pages:?}");
    pages.extend(["decision", "counted", "ended"].map(|stream| format!("/admin/audit/export?stream={stream}")));
    pages.extend(["/admin/decisions?limit=1000", "/admin/audit?limit=1000"].map(str::to_owned));
    for path in &pages {
        let answer = admin.get(path).await.expect("an answer");
        scene.expect(path, &answer, 200);
    }
    let processor = scene.cluster.health(Member::Processor(0)).expect("it runs");
    let answer = processor.bearer(scene.cluster.admin_token()).get("/metrics").await.expect("an answer");
    scene.expect("metrics of the processor", &answer, 200);
    let probe = scene.cluster.probe().await.expect("a connection");
    for (key, content) in probe.dump("").await.expect("a dump") {
        scene.watch.saw(&format!("redis: {}", key.split(':').nth(2).unwrap_or("?")), format!("{key} {content}"));
    }
}

#[tokio::test]
async fn no_credential_is_seen_in_any_log_metric_event_key_value_or_answer() {
    let transcripts = tempfile::tempdir().expect("a directory");
    let mut scene = scene(transcripts.path()).await;
    let (session, chain) = good(&mut scene).await;
    bad(&mut scene).await;
    over_http2(&mut scene, &session).await;
    bodies(&mut scene, &session).await;
    astray::in_addresses(&mut scene, &session).await;
    astray::in_bodies(&mut scene, &session).await;
    let operator = scene.cluster.admin(0);
    astray::at_the_operators_door(&mut scene, &operator).await;
    astray::in_broken_heads(&mut scene).await;
    outage(&mut scene, &session, &chain).await;
    look(&mut scene).await;
    for process in [Member::Gateway(0), Member::Processor(0)] {
        let process = scene.cluster.member(process).expect("it runs");
        process.terminate().expect("told to end");
        process.wait().await.expect("ended");
    }
    scene.watch.read(transcripts.path());
    for place in ["gateway-0", "processor-0"] {
        assert!(scene.watch.places_of("TRACE").contains(&place), "{place} did not log all it can");
    }
    assert_eq!(scene.watch.places_of("a credential was refused"), ["gateway-0"], "it tells of what was presented");
    let marked = scene.watch.places_of(MARK);
    for place in ["/admin/audit/export", "/admin/audit/export?stream=decision", "redis: decision", "redis: done", "JWT"]
    {
        assert!(marked.contains(&place), "nothing can be found in {place}: {marked:?}");
    }
    scene.watch.is_silent();
}
