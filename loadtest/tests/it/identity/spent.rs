//! Proofs of possession that were used: what any of them opens again, on any route, at any gateway.
//!
//! Responsible for one request being let through by a proof, however many come with it, when and where. Must never list
//! the routes by itself, nor take a refusal for one of the proof without having seen its first use get further.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use portcullis_delegation::Narrowing;
use portcullis_loadtest::client::{Answer, Client, Submission};
use portcullis_loadtest::cluster::Member;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::agent::{Agent, bound, narrowing};
use super::behind::application;
use super::routes::{Route, is_public, routes_of};
use super::terms::{Terms, with_api_key};
use crate::audit::counted::told as told_of;
use crate::fixture::{Fixture, ended, start, until};

/// Of one of them a class has a pool, one takes no gates, one throttles nobody.
const APPLICATION: [&str; 3] = ["/work/report", "/free/hook", "/else/where"];

fn policy() -> Value {
    json!({
        "route_classes": { "work": { "patterns": ["^/work/"], "max_concurrent": 10 } },
        "bypass_throttling_patterns": ["^/free/"],
        "rate_limits": { "roles": { "privileged": { "burst": 100_000, "hourly": -1 } } },
        "writes": { "per_minute": 3, "per_hour": 100 },
    })
}

/// What an answer says of its refusal, without what tells this request from others.
fn told(answer: &Answer) -> Value {
    let mut body = answer.body.clone();
    if let Some(body) = body.as_object_mut() {
        body.remove("request_id");
    }
    let headers = ["x-user-type", "x-session-id", "www-authenticate", "ratelimit", "retry-after"];
    json!({ "status": answer.status, "body": body, "headers": headers.map(|name| answer.header(name)) })
}

#[tokio::test]
async fn no_route_lets_anybody_in_twice_by_one_proof() {
    let reached = Arc::<AtomicUsize>::default();
    let (url, _serving) = application(reached.clone()).await;
    let terms = Terms::new().api_key("operator", "acme:ada", "privileged");
    let cluster = start(terms.cluster().env("UPSTREAM_URL", &url).policy(policy()).processors(1)).await;
    let public = cluster.gateway(0);
    let ada = with_api_key(&public, "operator");
    let agent = Agent::of(&ada, "tuner", &["*"], json!({})).await;
    let submitted = agent.submit(&public).await;
    let task_id = submitted.body["task_id"].as_str().unwrap_or_else(|| panic!("a task: {}", submitted.text)).to_owned();
    ended(&ada, &task_id).await;

    let admin = cluster.admin_listener(0);
    let mut routes = routes_of(&ada).await;
    for path in APPLICATION {
        routes.extend(["GET", "POST", "DELETE"].map(|method| Route::new(method, path)));
    }
    let admin_routes = routes_of(&cluster.admin(0)).await;
    let (mut further, mut forwarded) = (0, 0);
    for (listener, routes) in [(&public, routes), (&admin, admin_routes)] {
        let worthless = told(&bound(listener, &agent.chain, "a.b.c").get("/v1/limits").await.expect("an answer"));
        for route in routes.iter().filter(|route| !is_public(route)) {
            let proof = agent.proof(route.method, &route.filled(&task_id));
            let client = bound(listener, &agent.chain, &proof);
            let first = route.ask(&client, &task_id).await;
            forwarded += usize::from(first.text == "reached");
            let again = route.ask(&client, &task_id).await;
            assert_eq!(told(&again), worthless, "{route:?}, first {}: {}", first.status, first.text);
            further += usize::from(first.status != 401);
            let may_be_nobodys = listener.base() == admin.base();
            assert!(may_be_nobodys || first.status != 401, "{route:?}: {}", first.text);
        }
    }
    assert!(further > 30, "hardly anybody got further: {further}");
    assert!(forwarded >= APPLICATION.len() * 3, "{forwarded}");
    assert_eq!(reached.load(Ordering::SeqCst), forwarded, "no proof reached the application twice");
}

/// Whoever sends this request with one proof, so many times at once over all gateways.
async fn at_once(cluster: &Fixture, agent: &Agent, route: &Route, body: Option<&Value>) -> Vec<Answer> {
    // A query is not part of what is proven.
    let proof = agent.proof(route.method, route.path.split('?').next().unwrap_or_default());
    let clients: Vec<Client> = (0..50).map(|index| bound(&cluster.gateway(index), &agent.chain, &proof)).collect();
    let answers = clients.iter().map(|client| async move {
        match body {
            Some(body) => client.post(&route.path, body).await.expect("an answer"),
            None => route.ask(client, "").await,
        }
    });
    join_all(answers).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_with_one_proof_over_three_gateways_one_gets_further_whatever_it_asks_for() {
    let reached = Arc::<AtomicUsize>::default();
    let (url, _serving) = application(reached.clone()).await;
    let terms = Terms::new().api_key("operator", "acme:ada", "privileged");
    let mut cluster = start(terms.cluster().env("UPSTREAM_URL", &url).policy(policy()).gateways(3)).await;
    cluster.stand_in(1000).await.expect("capacity");
    let agent = Agent::of(&with_api_key(&cluster.gateway(0), "operator"), "tuner", &["*"], json!({})).await;
    let reads = Some("quota:read".parse().expect("scopes"));
    let helper = agent.narrowed(Narrowing { scopes: reads, ..narrowing("helper") });
    let helper = json!({ "chain": helper.presented(), "reason": "done" });
    let faulty = json!({ "kind": "demo" });
    let unknown = json!({ "kind": "demo", "payload": 1, "deadline_ms": 0 });
    let mut asked = vec![
        (Route::new("POST", "/v1/tasks"), None, 202),
        (Route::new("POST", "/v1/tasks"), Some(&faulty), 400),
        (Route::new("POST", "/v1/tasks"), Some(&unknown), 400),
        (Route::new("GET", "/v1/decide"), None, 200),
        (Route::new("GET", "/v1/decide?profile=nobody"), None, 400),
        (Route::new("GET", "/v1/limits"), None, 200),
        (Route::new("GET", "/v1/sessions/current"), None, 200),
        (Route::new("POST", "/v1/sessions"), None, 403),
        (Route::new("POST", "/v1/delegations/revoke"), Some(&helper), 204),
        (Route::new("GET", "/nothing/like/it"), None, 200),
    ];
    asked.extend(APPLICATION.map(|path| (Route::new("POST", path), None, 200)));
    for (route, body, expected) in &asked {
        let answers = at_once(&cluster, &agent, route, *body).await;
        let count = |status| answers.iter().filter(|answer| answer.status == status).count();
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!((count(*expected), count(401)), (1, 49), "{route:?}: {statuses:?}");
    }
    let decided = cluster.store().await.expect("a store").decisions(10_000).await.expect("decisions");
    assert_eq!(decided.iter().filter(|event| event.task_id.is_some()).count(), 1, "one task");
    assert_eq!(reached.load(Ordering::SeqCst), APPLICATION.len() + 1, "one request of each sort");
    let fresh = agent.post(&cluster.gateway(0), "/v1/delegations/revoke", &helper).await;
    assert_eq!(fresh.status, 204, "of three writes that agents have one was made: {}", fresh.text);
}

#[tokio::test]
async fn a_proof_that_was_refused_lets_nobody_in_later_at_a_gateway_that_never_saw_it_either() {
    let terms = Terms::new().api_key("adaskey1", "acme:ada", "paid");
    let policy = json!({ "rate_limits": { "roles": { "paid": { "burst": 2, "burst_window": 3600, "hourly": -1 } } } });
    let mut cluster = start(terms.cluster().policy(policy).gateways(2)).await;
    cluster.stand_in(100).await.expect("capacity");
    let ada = with_api_key(&cluster.gateway(0), "adaskey1");
    let scopes = ["tasks:submit:demo", "routes:call:guarded"];
    let agent = Agent::of(&ada, "planner", &scopes, json!({})).await;
    let task = Submission::new("demo", json!(1));
    let mut used = Vec::new();
    let mut refused = async |expected: u16, task: &Submission, cluster: &Fixture| {
        let proof = agent.lasting_proof("POST", "/v1/tasks");
        let answer = bound(&cluster.gateway(0), &agent.chain, &proof).submit(task).await.expect("an answer");
        assert_eq!(answer.status, expected, "{}", answer.text);
        used.push(proof);
    };
    refused(400, &Submission::new("no such kind!", json!(1)), &cluster).await;
    refused(403, &Submission::new("other", json!(1)), &cluster).await;
    refused(202, &task, &cluster).await;
    refused(202, &task, &cluster).await;
    // By the script, and from memory, for as long as that lasts.
    for _ in 0..5 {
        refused(429, &task, &cluster).await;
    }
    for member in [Member::Gateway(0), Member::Gateway(1)] {
        cluster.member(member).expect("a gateway").kill().await.expect("it is gone");
        cluster.start_again(member).await.expect("a gateway");
    }
    let roomy = json!({ "rate_limits": { "roles": { "paid": { "burst": 100_000 } } } });
    let updated = cluster.admin(0).post("/admin/gateway/update-config", &roomy).await.expect("an answer");
    assert_eq!(updated.status, 200, "{}", updated.text);
    let fresh = async || (agent.submit(&cluster.gateway(1)).await.status == 202).then_some(());
    until("there is room again", fresh).await;
    for proof in &used {
        for index in [0, 1] {
            let answer = bound(&cluster.gateway(index), &agent.chain, proof).submit(&task).await.expect("an answer");
            assert_eq!(answer.status, 401, "{}", answer.text);
        }
    }
    for index in [0, 1] {
        let causes = refused_credentials(&cluster, index).await;
        assert_eq!(causes, BTreeMap::from([("proof_replayed".to_owned(), used.len())]), "none for its age");
    }
    assert_eq!(agent.submit(&cluster.gateway(0)).await.status, 202, "and there is still room");
}

/// How many credentials this gateway has refused since its start, by cause.
async fn refused_credentials(cluster: &Fixture, index: usize) -> BTreeMap<String, usize> {
    let metrics = cluster.admin(index).get("/metrics").await.expect("metrics").text;
    let lines = metrics.lines().filter_map(|line| line.strip_prefix(r#"portcullis_credentials_refused_total{cause=""#));
    let causes = lines.map(|rest| {
        let (cause, count) = rest.split_once(r#""} "#).expect("a cause and a count");
        (cause.to_owned(), count.parse().expect("a count"))
    });
    causes.collect()
}

#[tokio::test]
async fn a_proof_of_a_user_type_that_is_gone_lets_nobody_in_when_it_is_back() {
    let gold = |declared: Value| json!({ "user_types": { "gold": declared } });
    let declared = || gold(json!({ "falls_back_to": "paid" }));
    let terms = Terms::new().api_key("adaskey1", "acme:ada", "gold");
    let mut cluster = start(terms.cluster().policy(declared())).await;
    cluster.stand_in(100).await.expect("capacity");
    let gateway = cluster.gateway(0);
    let agent = Agent::of(&with_api_key(&gateway, "adaskey1"), "planner", &["*"], json!({})).await;
    let update = async |change: Value| {
        let updated = cluster.admin(0).post("/admin/gateway/update-config", &change).await.expect("an answer");
        assert_eq!(updated.status, 200, "{}", updated.text);
    };
    let shown = async |proof: &str| {
        let task = Submission::new("demo", json!(1));
        bound(&gateway, &agent.chain, proof).submit(&task).await.expect("an answer").status
    };
    assert_eq!(agent.submit(&gateway).await.status, 202);
    update(gold(Value::Null)).await;
    let proof = agent.lasting_proof("POST", "/v1/tasks");
    assert_eq!(shown(&proof).await, 401, "nobody has limits for it");
    update(declared()).await;
    assert_eq!(agent.submit(&gateway).await.status, 202);
    assert_eq!(refused_credentials(&cluster, 0).await, BTreeMap::new());
    assert_eq!(shown(&proof).await, 401);
    assert_eq!(refused_credentials(&cluster, 0).await, BTreeMap::from([("proof_replayed".to_owned(), 1)]));
}

#[tokio::test]
async fn every_answer_is_told_of_once_whoever_found_that_its_proof_was_used() {
    let terms = Terms::new().api_key("adaskey1", "acme:ada", "paid");
    let policy = json!({ "rate_limits": { "roles": { "paid": { "burst": 2, "burst_window": 3600, "hourly": -1 } } } });
    let mut cluster = start(terms.cluster().policy(policy)).await;
    cluster.stand_in(100).await.expect("capacity");
    let gateway = cluster.gateway(0);
    let ada = with_api_key(&gateway, "adaskey1");
    let agent = Agent::of(&ada, "planner", &["tasks:submit:demo", "routes:call:guarded"], json!({})).await;
    let submission = |kind: &str| json!({ "kind": kind, "payload": 1 });
    let mut answers = BTreeMap::<String, u64>::new();
    let mut ask = async |method: &str, path: &str, body: Value| {
        let client = agent.at(&gateway, method, path);
        for _ in 0..2 {
            let answer = if method == "GET" { client.get(path).await } else { client.post(path, &body).await };
            let answer = answer.expect("an answer");
            let cause = if answer.status == 202 { "admitted" } else { answer.code() };
            *answers.entry(cause.to_owned()).or_default() += 1;
        }
    };
    for kind in ["demo", "demo", "no such kind!", "other", "demo", "demo", "demo"] {
        ask("POST", "/v1/tasks", submission(kind)).await;
    }
    for _ in 0..2 {
        ask("GET", "/v1/decide", Value::Null).await;
    }
    let refused = [("burst_limit", 5), ("insufficient_scope", 1), ("invalid_request", 1), ("unauthenticated", 9)];
    let all = refused.into_iter().chain([("admitted", 2)]);
    let expected: BTreeMap<_, _> = all.map(|(code, count)| (code.to_owned(), count)).collect();
    assert_eq!(answers, expected);
    let store = cluster.store().await.expect("a store");
    until("every answer has been told of", || async {
        (told_of(&store).await.values().sum::<u64>() >= 18).then_some(())
    })
    .await;
    assert_eq!(told_of(&store).await, expected);
}

/// What one Redis server is asked, from now on.
struct Overheard(BufReader<TcpStream>);

impl Overheard {
    async fn of(cluster: &mut Fixture) -> Self {
        let address = cluster.redis().expect("a server").address();
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(b"MONITOR\r\n").await.expect("it is sent");
        let mut overheard = Self(BufReader::new(stream));
        assert_eq!(overheard.line().await, "+OK");
        overheard
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.expect("a line");
        line.trim_end().to_owned()
    }

    /// How many commands about proofs came from clients, and how many from scripts, until now.
    async fn about_proofs(&mut self, cluster: &mut Fixture) -> (usize, usize) {
        let end = format!("until-{}", rand::random::<u64>());
        cluster.redis().expect("a server").ask(&format!("ECHO {end}")).await.expect("an answer");
        let (mut clients, mut scripts) = (0, 0);
        loop {
            let line = self.line().await;
            if line.contains(&end) {
                return (clients, scripts);
            }
            if line.contains(r#"] "SET" "#) && line.contains("}:once:") {
                *if line.contains(" lua] ") { &mut scripts } else { &mut clients } += 1;
            }
        }
    }
}

#[tokio::test]
async fn what_asks_for_a_decision_costs_redis_no_command_of_its_own_for_the_proof() {
    let terms = Terms::new().api_key("adaskey1", "acme:ada", "paid");
    let mut cluster = start(terms.cluster()).await;
    cluster.stand_in(100).await.expect("capacity");
    let gateway = cluster.gateway(0);
    let agent = Agent::of(&with_api_key(&gateway, "adaskey1"), "planner", &["*"], json!({})).await;
    let mut overheard = Overheard::of(&mut cluster).await;
    for _ in 0..10 {
        assert_eq!(agent.submit(&gateway).await.status, 202);
        assert_eq!(agent.get(&gateway, "/v1/decide").await.status, 200);
    }
    assert_eq!(overheard.about_proofs(&mut cluster).await, (0, 20));
    for _ in 0..10 {
        assert_eq!(agent.get(&gateway, "/v1/limits").await.status, 200);
    }
    assert_eq!(overheard.about_proofs(&mut cluster).await, (10, 0));
}
