//! What is left of a request's place and holds when its gateway goes, and what a budget is charged.

use serde_json::json;

use super::application::Application;
use super::{before, guarded, head, read_to_end, read_until, send, until_in_flight};
use crate::fixture::{PATIENCE, SLACK_MS, redis_now_ms, start, until};

const LEASE_MS: u64 = 2000;

fn budget(estimate: u64) -> serde_json::Value {
    json!({
        "budgets": { "daily": { "per": "tenant", "unit": "tokens", "amount": 1000, "period": "day",
            "default_estimate": 1 } },
        "route_classes": { "work": { "estimate": { "tokens": estimate } } },
        "proxy": { "lease_ms": LEASE_MS },
    })
}

#[tokio::test]
async fn a_killed_gateways_places_and_holds_come_back() {
    let application = Application::start().await;
    let mut policy = json!({ "route_classes": { "work": { "patterns": ["/guarded/"], "max_concurrent": 9 } } });
    super::merge(&mut policy, &budget(100));
    let mut cluster = start(before(&application, policy).gateways(2)).await;
    let streams = [
        send(&cluster, &(head("GET", "/guarded/hang") + "\r\n")).await,
        send(&cluster, &(head("GET", "/guarded/hang") + "\r\n")).await,
    ];
    until_in_flight(&cluster, 2).await;
    let survivor = cluster.gateway(1).caller("paid", "bob");
    let held = async || {
        let limits = survivor.limits().await.ok()?;
        limits.body["budgets"][0]["held"].as_u64()
    };
    until("both hold their estimates", || async { (held().await? == 200).then_some(()) }).await;
    cluster.gateways()[0].kill().await.expect("killed");
    let killed_ms = redis_now_ms(&cluster).await;
    until_in_flight(&cluster, 0).await;
    let free_ms = redis_now_ms(&cluster).await;
    assert!(free_ms <= killed_ms + LEASE_MS + 1000 + SLACK_MS, "{} ms", free_ms - killed_ms);
    until("their holds are released", || async { (held().await? == 0).then_some(()) }).await;
    until("the application is told", || async { (application.running() == 0).then_some(()) }).await;
    drop(streams);
}

#[tokio::test]
async fn budgets_are_charged_what_the_application_reports() {
    let (cluster, _application) = guarded(9, &budget(100)).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let mut expected = 0;
    for (path, used) in
        [("usage", 7), ("usage-in-trailers", 9), ("ok", 100), ("status-404", 100), ("status-500", 0), ("reset", 0)]
    {
        client.get(&format!("/guarded/{path}")).await.expect("an answer");
        expected += used;
        until(&format!("{path} is accounted for"), || async {
            let budget = client.limits().await.ok()?.body["budgets"][0].clone();
            (budget["held"] == 0 && budget["spent"] == expected).then_some(())
        })
        .await;
    }
    let (cluster, application) = guarded(9, &budget(600)).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let stream = send(&cluster, &(head("GET", "/guarded/held") + "\r\n")).await;
    until_in_flight(&cluster, 1).await;
    let refused = client.get("/guarded/ok").await.expect("an answer");
    assert_eq!((refused.status, refused.code()), (429, "budget_exhausted"), "what is in flight is held");
    drop(stream);
    until_in_flight(&cluster, 0).await;
    assert_eq!(application.seen("/guarded/ok"), 0);
    assert_eq!(client.get("/guarded/ok").await.expect("an answer").status, 200, "who left has released it");
}

#[tokio::test]
async fn a_draining_gateway_finishes_answers_and_ends_what_has_no_end() {
    let application = Application::start().await;
    let mut policy = json!({ "route_classes": { "work": { "patterns": ["/guarded/"], "max_concurrent": 9 } } });
    super::merge(&mut policy, &json!({ "proxy": { "lease_ms": 600_000 } }));
    let mut cluster = start(before(&application, policy)).await;
    let mut held = send(&cluster, &(head("GET", "/guarded/held") + "\r\n")).await;
    let mut events = send(&cluster, &(head("GET", "/guarded/events") + "\r\n")).await;
    read_until(&mut events, "text/event-stream").await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut socket = send(&cluster, &(head("GET", "/guarded/socket") + upgrade)).await;
    read_until(&mut socket, "\r\n\r\n").await;
    until_in_flight(&cluster, 3).await;
    cluster.gateways()[0].terminate().expect("asked to drain");
    assert!(read_to_end(&mut events).await.ends_with("0\r\n\r\n"), "it ends, and its client comes again elsewhere");
    assert_eq!(read_to_end(&mut socket).await, "");
    until("the application is left with one", || async { (application.running() == 1).then_some(()) }).await;
    application.release(1);
    assert!(read_to_end(&mut held).await.ends_with("ok"), "what has an end is finished");
    let status = tokio::time::timeout(PATIENCE, cluster.gateways()[0].wait()).await.expect("in time").expect("it ends");
    assert!(status.success(), "{status}: {}", cluster.gateways()[0].stderr());
    until_in_flight(&cluster, 0).await;
}

#[tokio::test]
async fn an_outage_of_redis_refuses_what_is_guarded_and_nothing_else() {
    let application = Application::start().await;
    let policy = json!({ "route_classes": { "work": { "patterns": ["/guarded/"], "max_concurrent": 9 } } });
    let mut cluster = start(before(&application, policy)).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let mut held = send(&cluster, &(head("GET", "/guarded/held") + "\r\n")).await;
    until_in_flight(&cluster, 1).await;
    cluster.redis().expect("its own").pause().expect("frozen");
    application.release(1);
    assert!(read_until(&mut held, "ok").await.starts_with("HTTP/1.1 200"), "what was let through is finished");
    assert_eq!(client.get("/free/ok").await.expect("an answer").status, 200);
    let refused = client.get("/guarded/ok").await.expect("an answer");
    assert_eq!((refused.status, refused.code()), (503, "store_unavailable"));
    assert_eq!(application.seen("/guarded/ok"), 0);
    cluster.redis().expect("its own").resume().expect("awake");
    until_in_flight(&cluster, 0).await;
    until("it decides again", || async { (client.get("/guarded/ok").await.ok()?.status == 200).then_some(()) }).await;
}
