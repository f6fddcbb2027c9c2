//! Processes that were stopped while somebody was revoked, and go on for longer than what they know may be old.
//!
//! Responsible for the first thing they do then. Must never let a process hear of the revocation before it goes on.

use std::time::Duration;

use portcullis_loadtest::client::{Answer, Client, Submission};
use portcullis_loadtest::cluster::Member as Place;
use portcullis_loadtest::credentials::principal_of;
use portcullis_lua::{Member, TaskStatus};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::cast::{Cast, boundless, read, revoke};
use crate::fixture::{accepted, cluster, ended, impatient_cluster, record, until};

/// Longer than what is known of revocations may be old.
const FROZEN: Duration = Duration::from_secs(7);
/// How long Redis has to be silent until tokens of issuers count by what was known before: less than the gateway is
/// stopped, and far longer than it takes to connect again, on any machine.
const AWAY_MS: &str = "6500";
/// How many requests of each wait in the sockets of the process that is stopped.
const WAITING: usize = 8;
/// Callers who keep it busy until it is stopped.
const BUSY: usize = 16;
/// How often a processor is stopped until it was just then waiting for work.
const TIMES: usize = 20;

async fn ask(client: Client, submits: bool) -> Answer {
    let answer = if submits {
        client.submit(&Submission::new("demo", json!(1))).await
    } else {
        client.get("/v1/sessions/current").await
    };
    answer.expect("an answer")
}

async fn keep_busy(client: Client) {
    let task = Submission::new("demo", json!(1));
    while client.submit(&task).await.is_ok() {}
}

/// What happens to a gateway's way to Redis beside its being stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// Its connections are gone when it goes on.
    Cut,
    /// Redis was away when it was stopped.
    Shut,
}

#[tokio::test]
async fn a_gateway_that_was_stopped_lets_nobody_pass_who_was_revoked_meanwhile() {
    lets_nobody_pass(Way::Open).await;
}

#[tokio::test]
async fn nor_does_one_that_has_lost_its_connections_to_redis_meanwhile() {
    lets_nobody_pass(Way::Cut).await;
}

#[tokio::test]
async fn nor_does_one_that_was_stopped_while_redis_was_away_for_a_moment() {
    lets_nobody_pass(Way::Shut).await;
}

async fn lets_nobody_pass(way: Way) {
    let policy = json!({ "rate_limits": boundless() });
    let builder = impatient_cluster().gateways(2).env("PORTCULLIS_STORE_AWAY_MS", AWAY_MS).policy(policy);
    let mut cast = Cast::on(builder.append_only(true)).await;
    cast.cluster.stand_in(1000).await.expect("capacity");
    let ada = principal_of("ada");
    let crew = cast.crew(&ada);
    let jwt = cast.credentials.jwt("ada", &["paid"]).expect("a token");
    let tokens = [jwt, cast.log_in_at_last("ada").await, crew.reading.presented().to_owned()];
    let bob = cast.cluster.gateway(0).bearer(&cast.log_in_at_last("bob").await);
    let clients = tokens.each_ref().map(|token| cast.cluster.gateway(0).bearer(token));
    for client in clients.iter().chain([&bob]) {
        for submits in [false, true] {
            until("it is served", || async {
                [200, 202].contains(&ask(client.clone(), submits).await.status).then_some(())
            })
            .await;
        }
    }

    // It has commands on their way to Redis when it is stopped.
    let busy: JoinSet<()> = (0..BUSY).map(|_| keep_busy(bob.clone())).collect();
    if way == Way::Shut {
        cast.cluster.redis().expect("its own").stop().await.expect("stopped");
        until("it is noticed", || async { (ask(bob.clone(), true).await.code() == "store_unavailable").then_some(()) })
            .await;
    }
    cast.cluster.member(Place::Gateway(0)).expect("there").pause().expect("frozen");
    if way == Way::Shut {
        cast.cluster.redis().expect("its own").start_again().await.expect("started again");
    }
    let (store, probe) = (cast.cluster.store().await.expect("a store"), cast.cluster.probe().await.expect("a probe"));
    revoke(&store, Member::Principal(&ada)).await;
    let mut waiting = JoinSet::new();
    for number in 0..WAITING {
        for (whose, client) in clients.iter().enumerate() {
            let client = client.clone();
            waiting.spawn(async move { (whose, ask(client, number % 2 == 1).await) });
        }
    }
    // The freeze itself: nothing happens that could be waited for.
    sleep(FROZEN).await;
    if way == Way::Cut {
        for kind in ["normal", "pubsub"] {
            probe.command("CLIENT", ["KILL", "TYPE", kind, "SKIPME", "yes"]).await.expect("killed");
        }
    }
    cast.cluster.member(Place::Gateway(0)).expect("there").resume().expect("awake again");
    while let Some(answered) = waiting.join_next().await {
        let (whose, answer) = answered.expect("no panic");
        let turned_away = [401, 503].contains(&answer.status);
        assert!(turned_away, "{whose}: {} {}", answer.status, answer.text);
    }
    drop(busy);
    for client in &clients {
        for submits in [false, true] {
            let answer = ask(client.clone(), submits).await;
            assert!([401, 503].contains(&answer.status), "{} {}", answer.status, answer.text);
            until("it is known", || async { (ask(client.clone(), submits).await.status == 401).then_some(()) }).await;
        }
    }
    until("others are served", || async { (read(&bob).await == 200).then_some(()) }).await;
}

#[tokio::test]
async fn a_processor_that_was_stopped_with_a_task_in_hand_does_not_run_it_for_who_was_revoked_meanwhile() {
    let policy = json!({ "rate_limits": boundless(), "queue": { "lease_ms": 60_000 } });
    let mut cast = Cast::on(cluster().slots(1).processors(1).policy(policy)).await;
    let store = cast.cluster.store().await.expect("a store");
    let compiled = cast.cluster.compiled_policy();
    let (adas, bobs) = (cast.log_in("ada").await, cast.log_in("bob").await);
    let [ada, bob] = [&adas, &bobs].map(|token| cast.cluster.gateway(0).bearer(token));
    let task = Submission::new("demo", json!(1));
    ended(&bob, &accepted(&bob, &task).await).await;
    let mut in_hand = None;
    for _ in 0..TIMES {
        cast.cluster.member(Place::Processor(0)).expect("there").pause().expect("frozen");
        let task_id = accepted(&ada, &task).await;
        // Its wait for work was still under way: Redis has claimed for it.
        let queues = store.queues(&compiled).await.expect("an answer");
        if queues.running == 1 {
            in_hand = Some(task_id);
            break;
        }
        cast.cluster.member(Place::Processor(0)).expect("there").resume().expect("awake again");
        ended(&ada, &task_id).await;
    }
    let task_id = in_hand.expect("it was never stopped while it waited");
    revoke(&store, Member::Principal(&principal_of("ada"))).await;
    // The freeze itself: nothing happens that could be waited for.
    sleep(FROZEN).await;
    cast.cluster.member(Place::Processor(0)).expect("there").resume().expect("awake again");
    let record = until("it has ended", || async {
        let record = record(&store, &task_id).await;
        record.status.is_terminal().then_some(record)
    })
    .await;
    assert_eq!((record.status, record.attempts.len()), (TaskStatus::Cancelled, 0), "{:?}", record.attempts);
    assert_eq!(record.error.expect("a reason").code, "revoked");
    assert_eq!(ended(&bob, &accepted(&bob, &task).await).await.task_status(), "succeeded");
}
