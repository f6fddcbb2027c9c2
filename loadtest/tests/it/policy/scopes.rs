//! Many scopes on the same gateways: each decided under its own policy, and none touched by another.
//!
//! Responsible for what tenants may rely on of each other's absence. Must never let a scope's processors be real where
//! keys are compared: their heartbeats would change them.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use portcullis_config::Scope;
use portcullis_loadtest::Client;
use portcullis_loadtest::client::Submission;
use portcullis_loadtest::cluster::{open_store, stand_in_beat};
use portcullis_lua::{CompiledPolicy, PolicyStamp, ScopeStore};
use serde_json::{Value, json};

use super::operator::{accepted as body_of, decided_under, update, updated};
use crate::fixture::{Fixture, accepted, cluster, start};

/// Two scopes that no process of the cluster was started for.
const CHAT: (&str, &str) = ("acme", "chat");
const SEARCH: (&str, &str) = ("acme", "search");

/// The scope of the gateways themselves and the two others.
struct House {
    cluster: Fixture,
    own: (String, String),
}

impl House {
    /// Two gateways whose boot document allows bursts of three, and capacity in every scope that only time takes away.
    async fn open() -> Self {
        let boot = json!({ "rate_limits": { "roles": { "registered": { "burst": 3, "burst_window": 3600 } } } });
        let cluster = start(cluster().gateways(2).policy(boot)).await;
        let own = (cluster.scope().tenant().to_owned(), cluster.scope().project().to_owned());
        let house = Self { cluster, own };
        for scope in house.all() {
            let store = house.store(scope).await;
            store.heartbeat(&house.lasting(), &stand_in_beat("by-hand".to_owned(), 100)).await.expect("a heartbeat");
        }
        house
    }

    fn own(&self) -> (&str, &str) {
        (&self.own.0, &self.own.1)
    }

    fn all(&self) -> [(&str, &str); 3] {
        [self.own(), CHAT, SEARCH]
    }

    /// A policy under which a heartbeat outlasts the test.
    fn lasting(&self) -> CompiledPolicy {
        let mut policy = self.cluster.policy().clone();
        policy.monitoring.heartbeat_timeout_seconds = 3600;
        CompiledPolicy::new(&policy, PolicyStamp::NONE)
    }

    async fn store(&self, (tenant, project): (&str, &str)) -> ScopeStore {
        let scope = Scope::new(tenant, project).expect("good names");
        open_store(self.cluster.redis_url()).await.expect("redis").scope(&scope)
    }

    fn caller(&self, index: usize, (tenant, project): (&str, &str), user_type: &str) -> Client {
        self.cluster.gateway(index).of_scope(tenant, project, user_type, "ada")
    }

    /// Amends the policy of a scope through gateway 0; the answer.
    async fn amend(&self, (tenant, project): (&str, &str), mut patch: Value) -> Value {
        patch["tenant"] = json!(tenant);
        patch["project"] = json!(project);
        updated(&self.cluster.admin(0), &patch).await
    }

    /// What gateway `index` shows its operator of a scope.
    async fn shown(&self, index: usize, path: &str, (tenant, project): (&str, &str)) -> Value {
        let path = format!("{path}?tenant={tenant}&project={project}");
        body_of(self.cluster.admin(index).get(&path).await.expect("an answer"))
    }

    /// Every key of a scope but the gateways' reports, which they repeat, and the counts of decisions, which they write
    /// a while after.
    async fn dump(&self, (tenant, project): (&str, &str)) -> BTreeMap<String, String> {
        let probe = self.cluster.probe().await.expect("a connection");
        let mut dump = probe.dump(&format!("{{{tenant}:{project}}}")).await.expect("a dump");
        probe.close().await;
        dump.retain(|key, _| !key.ends_with(":gateway") && !key.contains(":statistics:") && !key.contains(":flush:"));
        assert!(!dump.is_empty());
        dump
    }
}

fn task() -> Submission {
    Submission::new("demo", json!(1))
}

fn burst(burst: u64) -> Value {
    json!({ "rate_limits": { "roles": { "registered": { "burst": burst } } } })
}

#[tokio::test]
async fn each_scope_is_decided_under_its_own_policy_and_counts_for_itself() {
    let house = House::open().await;
    // Its caller's scope has no document yet: it is decided under the one the gateways were started with.
    let answer = house.caller(1, CHAT, "registered").submit(&task()).await.expect("an answer");
    assert!(answer.is_accepted(), "{}", answer.text);
    assert_eq!(decided_under(&answer), 0);

    house.amend(CHAT, burst(2)).await;
    house.amend(SEARCH, burst(4)).await;
    let tokens = json!({ "unit": "tokens", "amount": 50, "period": "month", "per": "tenant", "default_estimate": 0 });
    let gold = json!({ "gold": { "falls_back_to": "paid" } });
    house.amend(SEARCH, json!({ "budgets": { "tokens": tokens }, "user_types": gold })).await;
    for (scope, most, used, revision) in [(house.own(), 3, 0, 0), (CHAT, 2, 1, 1), (SEARCH, 4, 0, 2)] {
        for number in used..most {
            let answer = house.caller(number, scope, "registered").submit(&task()).await.expect("an answer");
            assert!(answer.is_accepted(), "{scope:?} {number}: {}", answer.text);
            assert_eq!(decided_under(&answer), revision, "{scope:?}");
        }
        for index in 0..2 {
            let refusal = house.caller(index, scope, "registered").submit(&task()).await.expect("an answer");
            assert_eq!(refusal.code(), "burst_limit", "{scope:?}: {}", refusal.text);
            assert_eq!(decided_under(&refusal), revision, "{scope:?}");
        }
        for index in 0..2 {
            let queue = house.shown(index, "/admin/queues", scope).await;
            assert_eq!(queue["queued"], json!(most), "{scope:?}: {queue}");
            let decisions = house.shown(index, "/admin/decisions", scope).await;
            let admitted = decisions["decisions"].as_array().expect("a list").iter();
            let admitted = admitted.filter(|decision| decision["outcome"] == json!("admitted")).count();
            assert_eq!(admitted, most, "{scope:?}: {decisions}");
        }
    }

    let costly = task().field("estimate", json!({ "tokens": 60 }));
    for (scope, code) in [(house.own(), ""), (CHAT, ""), (SEARCH, "budget_exhausted")] {
        let answer = house.caller(1, scope, "paid").submit(&costly).await.expect("an answer");
        assert_eq!((answer.is_accepted(), answer.code()), (code.is_empty(), code), "{scope:?}: {}", answer.text);
    }
    for (scope, code) in [(house.own(), "unauthenticated"), (CHAT, "unauthenticated"), (SEARCH, "")] {
        let answer = house.caller(1, scope, "gold").submit(&task()).await.expect("an answer");
        assert_eq!((answer.is_accepted(), answer.code()), (code.is_empty(), code), "{scope:?}: {}", answer.text);
    }
}

#[tokio::test]
async fn what_happens_in_one_scope_changes_no_key_of_another() {
    let house = House::open().await;
    for scope in house.all() {
        for index in 0..2 {
            accepted(&house.caller(index, scope, "paid"), &task()).await;
        }
    }
    let others = [house.own(), SEARCH];
    let mut before = Vec::new();
    for scope in others {
        before.push((house.dump(scope).await, house.shown(1, "/admin/gateway/config", scope).await));
    }

    house.amend(CHAT, json!({ "limits": { "max_queue_size": 3 }, "reason": "only theirs" })).await;
    let client = house.caller(1, CHAT, "paid");
    let task_id = accepted(&client, &task()).await;
    assert_eq!(client.submit(&task()).await.expect("an answer").code(), "queue_full");
    client.cancel(&task_id).await.expect("an answer");
    let wrong = json!({ "tenant": CHAT.0, "project": CHAT.1, "limits": { "max_queue_size": -1 } });
    assert_eq!(update(&house.cluster.admin(1), &wrong).await.status, 400);

    for (scope, (dump, config)) in others.into_iter().zip(before) {
        assert_eq!(house.dump(scope).await, dump, "{scope:?}");
        assert_eq!(house.shown(1, "/admin/gateway/config", scope).await, config, "{scope:?}");
        accepted(&house.caller(0, scope, "paid"), &task()).await;
    }
    assert_eq!(house.shown(0, "/admin/gateway/config", CHAT).await["revision"], json!(1));
    assert_eq!(house.shown(0, "/admin/gateway/config/revisions", CHAT).await["revisions"][0]["reason"], "only theirs");
    for scope in others {
        assert_eq!(house.shown(0, "/admin/gateway/config/revisions", scope).await["revisions"], json!([]));
    }
}

#[tokio::test]
async fn a_task_of_one_scope_does_not_exist_in_another() {
    let house = House::open().await;
    let owner = house.caller(0, CHAT, "paid");
    let task_id = accepted(&owner, &task().header("idempotency-key", "k")).await;
    for scope in [house.own(), SEARCH] {
        let stranger = house.caller(0, scope, "paid");
        let [foreign, missing] = [task_id.as_str(), "01ARZ3NDEKTSV4RRFFQ69G5FAV"];
        for answer in [stranger.task(foreign).await, stranger.cancel(foreign).await, stranger.task(missing).await] {
            let answer = answer.expect("an answer");
            assert_eq!((answer.status, answer.code()), (404, "not_found"), "{}", answer.text);
        }
        let error = stranger.events(foreign, None).await.expect_err("no stream of a foreign task");
        assert!(error.to_string().contains("404"), "{error}");
        let own = accepted(&stranger, &task().header("idempotency-key", "k")).await;
        assert_ne!(own, task_id, "an idempotency key belongs to its scope");
    }
    assert_eq!(owner.task(&task_id).await.expect("an answer").task_status(), "queued");
}

#[tokio::test]
async fn gateways_follow_every_scope_they_serve_and_the_admin_interface_addresses_any() {
    let cluster = start(cluster().gateways(2)).await;
    let [admin, other] = [cluster.admin(0), cluster.admin(1)];
    for (tenant, project) in [CHAT, SEARCH] {
        for index in 0..2 {
            let limits = cluster.gateway(index).of_scope(tenant, project, "paid", "ada").limits().await;
            assert_eq!(limits.expect("an answer").status, 200);
        }
        let patch = json!({ "tenant": tenant, "project": project, "limits": { "max_queue_size": 9 } });
        // Nothing is decided meanwhile: the message reaches the other gateway by itself.
        let answer = admin.post("/admin/gateway/update-config?wait=60", &patch).await.expect("an answer");
        let convergence = body_of(answer)["convergence"].clone();
        assert_eq!(convergence["converged"], json!(true), "{convergence}");
        let replicas = convergence["replicas"].as_array().expect("a list");
        let held: Vec<_> = replicas.iter().map(|replica| (&replica["role"], &replica["revision"])).collect();
        assert_eq!(held, [(&json!("gateway"), &json!(1)); 2], "{convergence}");
    }
    // A scope nobody has come from yet can be prepared before they do.
    let patch = json!({ "tenant": "newcomer", "project": "x", "user_types": { "gold": { "falls_back_to": "paid" } } });
    updated(&admin, &patch).await;
    let gold = cluster.gateway(1).of_scope("newcomer", "x", "gold", "midas").limits().await.expect("an answer");
    assert_eq!((gold.status, decided_under(&gold)), (200, 1), "{}", gold.text);

    let paths =
        ["/admin/gateway/config", "/admin/queues", "/admin/decisions", "/admin/processors", "/monitoring/system"];
    for path in paths {
        let answer = other.get(&format!("{path}?tenant=acme&project=chat")).await.expect("an answer");
        assert_eq!((answer.status, decided_under(&answer)), (200, 1), "{path}: {}", answer.text);
        let answer = other.get(path).await.expect("an answer");
        assert_eq!((answer.status, decided_under(&answer)), (200, 0), "{path}: {}", answer.text);
        let answer = other.get(&format!("{path}?tenant=a%20b&project=chat")).await.expect("an answer");
        assert_eq!((answer.status, answer.code()), (400, "invalid_request"), "{path}: {}", answer.text);
    }
}

#[tokio::test]
async fn two_hundred_scopes_on_one_gateway_have_a_policy_each() {
    const SCOPES: u64 = 200;
    /// Enough to be many at once for one gateway, few enough for two cores.
    const AT_ONCE: usize = 16;
    let cluster = start(cluster()).await;
    let (gateway, admin) = (cluster.gateway(0), cluster.admin(0));
    let shown = async |number: u64| {
        let client = gateway.of_scope("many", &format!("p{number}"), "registered", "ada");
        let answer = client.limits().await.expect("an answer");
        assert_eq!(answer.status, 200, "{number}: {}", answer.text);
        answer.body["limits"][0]["limit"].as_u64().expect("a burst")
    };
    let first = stream::iter(0..SCOPES).map(&shown).buffer_unordered(AT_ONCE).collect::<Vec<u64>>().await;
    assert!(first.iter().all(|burst| *burst == 100), "the shipped burst: {first:?}");
    let stored = stream::iter(0..SCOPES).map(async |number| {
        let mut patch = burst(number + 1);
        patch["tenant"] = json!("many");
        patch["project"] = json!(format!("p{number}"));
        assert_eq!(updated(&admin, &patch).await["revision"], json!(1));
    });
    stored.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    let bursts = stream::iter(0..SCOPES).map(&shown).buffered(AT_ONCE).collect::<Vec<u64>>().await;
    assert_eq!(bursts, (1..=SCOPES).collect::<Vec<_>>());
}
