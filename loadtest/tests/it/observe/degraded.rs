//! Fallbacks are said where somebody looks: each is caused, seen everywhere it should be, and gone when it is over.
//!
//! Responsible for the state that a gateway shows, not for what it does meanwhile: the tests of each failure are about
//! that. Must never expect one to be there at once, only in the end, nor to be the only one.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_loadtest::client::{Answer, Client, Submission};
use portcullis_loadtest::cluster::Member;
use portcullis_loadtest::credentials::Credentials;
use portcullis_lua::{About, NewRevision, Origin, PolicyStamp, Retention, Revised, StoredPolicy, TaskId};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::fixture::{Fixture, accepted, cluster, ended, impatient_cluster, redis_now_ms, start, until};
use crate::policy::deaf::cut_pubsub;

/// The names in a list of an answer.
fn names(list: &Value) -> BTreeSet<String> {
    let list = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    list.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
}

/// What a gateway says of itself to whoever asks whether it is ready.
async fn ready(client: &Client) -> BTreeSet<String> {
    let answer = client.get("/readyz").await.expect("an answer");
    assert_eq!((answer.status, answer.text.lines().next()), (200, Some("ready")), "it stays ready: {}", answer.text);
    let line = answer.text.lines().nth(1).and_then(|line| line.strip_prefix("degraded: ")).unwrap_or_default();
    line.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

async fn read(admin: &Client, path: &str) -> Answer {
    let answer = admin.get(path).await.expect("an answer");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer
}

/// Waits until a fallback is in use, or is not, as operators see it: in the document and in the metrics.
async fn operators_see(cluster: &Fixture, name: &str, in_use: bool) {
    let (admin, value) = (cluster.admin(0), u8::from(in_use));
    until(&format!("{name} is {value} in the document"), || async {
        let listed = names(&read(&admin, "/monitoring/system").await.body["degraded"]).contains(name);
        (listed == in_use).then_some(())
    })
    .await;
    let line = format!("portcullis_degraded{{reason=\"{name}\"}} {value}");
    until(&line, || async { read(&admin, "/metrics").await.text.lines().any(|each| each == line).then_some(()) }).await;
}

/// The same of one that a gateway knows of by itself, which everybody is told of.
async fn all_see(cluster: &Fixture, client: &Client, name: &str, in_use: bool) {
    until(&format!("readiness says whether it is {name}"), || async {
        (ready(client).await.contains(name) == in_use).then_some(())
    })
    .await;
    operators_see(cluster, name, in_use).await;
}

/// What callers are told with their limits.
async fn limits(client: &Client) -> BTreeSet<String> {
    names(&client.limits().await.expect("an answer").body["degraded"])
}

#[tokio::test]
async fn a_lost_subscription_is_said_until_it_is_back() {
    let cluster = start(cluster()).await;
    let (client, probe) = (cluster.gateway(0), cluster.probe().await.expect("a connection"));
    all_see(&cluster, &client, "subscription_lost", false).await;
    assert!(!limits(&client).await.contains("subscription_lost"));
    cut_pubsub(&probe).await;
    all_see(&cluster, &client, "subscription_lost", true).await;
    assert!(limits(&client).await.contains("subscription_lost"));
    probe.command("ACL", ["SETUSER", "default", "+subscribe", "+psubscribe", "+ssubscribe"]).await.expect("allowed");
    all_see(&cluster, &client, "subscription_lost", false).await;
}

#[tokio::test]
async fn an_outage_is_said_with_all_that_comes_of_it_until_redis_is_back() {
    let mut cluster = start(impatient_cluster()).await;
    let client = cluster.gateway(0);
    let of_outage = ["store_unavailable", "subscription_lost", "revocations_stale", "statistics_delayed"];
    for name in of_outage {
        all_see(&cluster, &client, name, false).await;
    }
    // No attempt has been measured; only Redis can tell.
    operators_see(&cluster, "service_time_unmeasured", true).await;
    cluster.redis().expect("its own").stop().await.expect("stopped");
    until("it is refused", || async {
        let answer = client.submit(&Submission::new("demo", json!(1))).await.ok()?;
        (answer.code() == "store_unavailable").then_some(())
    })
    .await;
    for name in of_outage {
        all_see(&cluster, &client, name, true).await;
    }
    operators_see(&cluster, "service_time_unmeasured", false).await;
    let late = cluster.add_gateway().await.expect("it starts without redis");
    assert!(ready(&late).await.contains("policy_unconfirmed"));
    cluster.redis().expect("its own").start_again().await.expect("started again");
    for name in of_outage {
        all_see(&cluster, &client, name, false).await;
    }
    operators_see(&cluster, "service_time_unmeasured", true).await;
    until("nothing is left of it", || async { ready(&late).await.is_empty().then_some(()) }).await;
}

/// Stores a document as it is, whatever is wrong with it.
async fn store(cluster: &Fixture, seen: PolicyStamp, lease: Value) -> StoredPolicy {
    let store = cluster.store().await.expect("a store");
    let (tenant, project) = (cluster.scope().tenant(), cluster.scope().project());
    let (origin, changed) = (Origin::Update, Vec::new());
    let new = NewRevision {
        document: json!({ "tenant": tenant, "project": project, "queue": lease }),
        about: About { origin, actor: "a test".to_owned(), reason: None, rolled_back_to: None, changed },
        write_id: TaskId::generate().to_string(),
    };
    match store.revise(seen, Retention::of(cluster.policy()), &new).await.expect("an answer") {
        Revised::Stored(stored) => stored,
        Revised::Conflict { current } => panic!("{current:?} is stored"),
    }
}

#[tokio::test]
async fn a_policy_that_cannot_be_put_in_force_is_said_until_one_can() {
    let cluster = start(cluster()).await;
    let client = cluster.gateway(0);
    let unknown = store(&cluster, PolicyStamp::NONE, json!({ "no_such_key": 1 })).await;
    all_see(&cluster, &client, "policy_unusable", true).await;
    store(&cluster, unknown.stamp, json!({ "lease_ms": 20_000 })).await;
    all_see(&cluster, &client, "policy_unusable", false).await;
}

#[tokio::test]
async fn lost_revocations_are_said_until_they_are_acknowledged() {
    let cluster = start(cluster()).await;
    let (client, admin) = (cluster.gateway(0), cluster.admin(0));
    let wish = json!({ "kind": "principal", "id": "eve", "reason": "left" });
    assert_eq!(admin.post("/admin/revocations", &wish).await.expect("an answer").status, 200);
    all_see(&cluster, &client, "revocations_lost", false).await;
    cluster.probe().await.expect("a connection").command("FLUSHALL", []).await.expect("emptied");
    all_see(&cluster, &client, "revocations_lost", true).await;
    let reason = json!({ "reason": "looked" });
    assert_eq!(admin.post("/admin/revocations/acknowledge", &reason).await.expect("an answer").status, 200);
    all_see(&cluster, &client, "revocations_lost", false).await;
}

#[tokio::test]
async fn an_issuer_that_cannot_be_reached_is_said_until_it_can() {
    // Nobody else gets this address, and until it is opened nobody listens.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let url = format!("http://{}/keys", socket.local_addr().expect("an address"));
    let issuer = json!({
        "issuer": "https://away.example", "jwks_url": url, "audiences": ["gateway"], "algorithms": ["RS256"],
        "principal_prefix": "away:",
    });
    let credentials = Credentials::new(&json!({ "issuers": [issuer] })).await.expect("credentials");
    let cluster = start(credentials.believed_by(cluster())).await;
    let client = cluster.gateway(0);
    all_see(&cluster, &client, "issuer_keys_missing", false).await;
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let (head, claims) = (json!({ "alg": "RS256", "kid": "k" }), json!({ "iss": "https://away.example" }));
    let user = client.bearer(&format!("{}.{}.{}", part(head), part(claims), URL_SAFE_NO_PAD.encode([0; 256])));
    let answer = user.get("/v1/limits").await.expect("an answer");
    assert_eq!((answer.status, answer.code()), (503, "identity_unavailable"), "{}", answer.text);
    all_see(&cluster, &client, "issuer_keys_missing", true).await;
    let providers = read(&cluster.admin(0), "/admin/identity/providers").await;
    assert_eq!(providers.body["providers"][0]["degraded"], json!(["issuer_keys_missing"]), "{}", providers.text);
    // Others are served as ever.
    assert_eq!(client.with_header("x-api-key", credentials.api_key()).limits().await.expect("an answer").status, 200);

    let keys = reqwest::get(credentials.jwks_url()).await.expect("keys");
    let keys = keys.text().await.expect("a key set");
    let app = axum::Router::new().route("/keys", axum::routing::get(async || keys));
    let (listener, mut serving) = (socket.listen(128).expect("a listener"), JoinSet::new());
    serving.spawn(async move { drop(axum::serve(listener, app).await) });
    // None of its users comes.
    all_see(&cluster, &client, "issuer_keys_missing", false).await;
    assert_eq!(user.get("/v1/limits").await.expect("an answer").status, 401);
}

#[tokio::test]
async fn a_processor_that_falls_silent_is_said_until_it_is_heard_again() {
    let policy = json!({ "monitoring": { "heartbeat_timeout_seconds": 1 } });
    let mut cluster = start(cluster().processors(2).policy(policy)).await;
    operators_see(&cluster, "heartbeat_stale", false).await;
    cluster.member(Member::Processor(0)).expect("it runs").pause().expect("frozen");
    operators_see(&cluster, "heartbeat_stale", true).await;
    // The other one sweeps it out, and is heard often: whoever looks once in a while still sees it.
    let (store, policy) = (cluster.store().await.expect("a store"), cluster.compiled_policy());
    let since_ms = redis_now_ms(&cluster).await;
    until("the other is heard again and again", || async {
        let processors = store.processors(&policy).await.expect("an answer");
        let heard_ms = processors.iter().map(|processor| processor.last_heartbeat_ms).max()?;
        (heard_ms >= since_ms + 3000).then_some(())
    })
    .await;
    operators_see(&cluster, "heartbeat_stale", true).await;
    cluster.member(Member::Processor(0)).expect("it runs").resume().expect("awake again");
    operators_see(&cluster, "heartbeat_stale", false).await;
}

#[tokio::test]
async fn a_wait_that_rests_on_an_assumption_says_so_until_an_attempt_has_been_measured() {
    let backpressure = json!({ "capacity_buffer": 0.1, "queue_depth_multiplier": 6.0 });
    let cluster = start(cluster().processors(1).slots(1).policy(json!({ "backpressure": backpressure }))).await;
    let client = cluster.gateway(0).caller("privileged", "ada");
    let (slow, assumed) = (Submission::new("slow", json!({ "ms": 60_000 })), json!(["service_time_unmeasured"]));
    operators_see(&cluster, "service_time_unmeasured", true).await;
    // More than there is room for.
    let (mut tasks, mut refused) = (Vec::new(), None);
    for _ in 0..12 {
        let answer = client.submit(&slow).await.expect("an answer");
        match answer.status {
            202 => tasks.push(answer),
            _ => refused = Some(answer),
        }
    }
    let refused = refused.expect("a full queue");
    assert_eq!((refused.status, &refused.body["degraded"]), (503, &assumed), "{}", refused.text);
    for task in &tasks {
        let waits = task.body["estimated_wait_ms"].as_u64().expect("a wait") > 0;
        let expected = if waits { assumed.clone() } else { Value::Null };
        assert_eq!(task.body.get("degraded").cloned().unwrap_or_default(), expected, "{}", task.text);
    }
    assert!(tasks.iter().any(|task| !task.body["degraded"].is_null()), "nobody waited");
    for task in &tasks {
        client.cancel(task.task_id()).await.expect("an answer");
        ended(&client, task.task_id()).await;
    }
    let quick = accepted(&client, &Submission::new("demo", json!(1))).await;
    assert_eq!(ended(&client, &quick).await.task_status(), "succeeded");
    operators_see(&cluster, "service_time_unmeasured", false).await;
    let mut answers = Vec::new();
    for _ in 0..12 {
        answers.push(client.submit(&slow).await.expect("an answer"));
    }
    assert!(answers.iter().any(|answer| answer.status == 503) && answers.iter().any(Answer::is_accepted));
    assert!(answers.iter().all(|answer| answer.body.get("degraded").is_none()), "it has been measured");
}
