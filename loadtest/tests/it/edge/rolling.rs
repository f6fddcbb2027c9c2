//! Every gateway is restarted, one after another, behind a real balancer and under load: no request fails, be it for a
//! gateway or for the application behind it, no task is lost, and a stream of events goes on where it was.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::{Method, Uri};
use portcullis_loadtest::Client;
use portcullis_loadtest::client::{Event, Submission};
use portcullis_loadtest::cluster::Member;
use portcullis_lua::TaskStatus;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::balancer::{Balancer, Kind, Network};
use crate::fixture::{Fixture, cluster, record, start, until};

const GATEWAYS: usize = 3;
const CALLERS: usize = 4;
/// Between two requests of a caller: what is tested is the restart, not the machine.
const PAUSE: Duration = Duration::from_millis(10);
/// Of a request for the application: more than one piece.
const BODY: usize = 100_000;

/// Three gateways that drain for long enough that a balancer on a busy machine notices.
async fn behind(network: Network, application: SocketAddr) -> Fixture {
    let policy = json!({
        "rate_limits": { "roles": { "privileged": { "hourly": -1, "burst": 1_000_000, "burst_window": 60 } } },
        "backpressure": { "queue_depth_multiplier": 10_000.0 },
        "route_classes": { "work": { "patterns": ["^/work/"], "max_concurrent": 1000, "throttled": false } },
    });
    let builder = cluster().policy(policy).processors(2).slots(8).env("PORTCULLIS_DRAIN_SECONDS", "3");
    let builder = builder.env("UPSTREAM_URL", &format!("http://{application}"));
    start(network.gateways(builder, GATEWAYS)).await
}

/// Submits one task after another until told to stop; the accepted ones, and everything else that happened.
async fn submit(client: Client, stop: CancellationToken) -> (Vec<String>, Vec<String>) {
    let (mut accepted, mut failed) = (Vec::new(), Vec::new());
    while !stop.is_cancelled() {
        match client.submit(&Submission::new("demo", json!(1))).await {
            Ok(answer) if answer.status == 202 => accepted.push(answer.task_id().to_owned()),
            Ok(answer) => failed.push(format!("{} {}", answer.status, answer.text)),
            Err(error) => failed.push(format!("{error:?}")),
        }
        tokio::time::sleep(PAUSE).await;
    }
    (accepted, failed)
}

/// Has the application read and work, until told to stop; how often it did, and everything else that happened.
async fn ask_application(client: Client, stop: CancellationToken) -> (usize, Vec<String>) {
    let body = Value::String("x".repeat(BODY));
    let (mut served, mut failed) = (0, Vec::new());
    while !stop.is_cancelled() {
        for (answer, expected) in [
            (client.get("/free/page").await, "GET /free/page ".to_owned()),
            (client.post("/work/page", &body).await, format!("POST /work/page {body}")),
        ] {
            match answer {
                Ok(answer) if answer.status == 200 && answer.text == expected => served += 1,
                Ok(answer) => failed.push(format!("{} {:.200}", answer.status, answer.text)),
                Err(error) => failed.push(format!("{error:?}")),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    (served, failed)
}

/// An application that answers with what it was sent; its address. It ends with the set.
async fn echo(running: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router =
        Router::new().fallback(async |method: Method, uri: Uri, body: String| format!("{method} {uri} {body}"));
    running.spawn(async move {
        // It serves until it is dropped.
        let _ = axum::serve(listener, router).await;
    });
    address
}

/// Restarts every gateway as an orchestrator does: SIGTERM, wait, start, and on when it serves.
async fn restart_all(cluster: &mut Fixture) {
    for index in 0..GATEWAYS {
        let gateway = &mut cluster.gateways()[index];
        gateway.terminate().expect("asked to drain");
        let status = gateway.wait().await.expect("it ends");
        assert!(status.success(), "{status}: {}", cluster.gateways()[index].stderr());
        cluster.start_again(Member::Gateway(index)).await.expect("it starts again");
        let admin = cluster.admin(index);
        until("the balancer sends it requests again", || async {
            let metrics = admin.get("/metrics").await.ok()?.text;
            metrics.contains(r#"route="/v1/tasks""#).then_some(())
        })
        .await;
    }
}

/// Restarts every gateway under load behind this balancer.
async fn nothing_fails_behind(kind: Kind) {
    let (network, mut application) = (Network::new(), JoinSet::new());
    let mut cluster = behind(network, echo(&mut application).await).await;
    let balancer = Balancer::start(kind, network, GATEWAYS).await;
    let (stop, mut callers, mut askers) = (CancellationToken::new(), JoinSet::new(), JoinSet::new());
    for number in 0..CALLERS {
        let client = balancer.client().caller("privileged", &format!("ada-{number}"));
        until("the balancer has found its gateways", || async {
            (client.limits().await.ok()?.status == 200).then_some(())
        })
        .await;
        callers.spawn(submit(client, stop.clone()));
        askers.spawn(ask_application(balancer.client().caller("privileged", &format!("eve-{number}")), stop.clone()));
    }
    restart_all(&mut cluster).await;
    stop.cancel();
    let (tasks, failed): (Vec<_>, Vec<_>) = callers.join_all().await.into_iter().unzip();
    let (tasks, failed) = (tasks.concat(), failed.concat());
    assert!(failed.is_empty(), "{} of {} failed: {failed:?}", failed.len(), tasks.len() + failed.len());
    assert!(tasks.len() > 100, "only {} were sent", tasks.len());
    let (served, failed): (Vec<_>, Vec<_>) = askers.join_all().await.into_iter().unzip();
    let (served, failed) = (served.iter().sum::<usize>(), failed.concat());
    assert!(failed.is_empty(), "{} of {} failed: {failed:?}", failed.len(), served + failed.len());
    assert!(served > 100, "only {served} were sent");
    let store = cluster.store().await.expect("a store");
    until("every task has run", || async {
        let queues = store.queues(&cluster.compiled_policy()).await.ok()?;
        (queues.queued + queues.running == 0).then_some(())
    })
    .await;
    for task_id in &tasks {
        assert_eq!(record(&store, task_id).await.status, TaskStatus::Succeeded, "{task_id}");
    }
}

#[tokio::test]
async fn nothing_fails_behind_nginx() {
    nothing_fails_behind(Kind::Nginx).await;
}

#[tokio::test]
async fn nothing_fails_behind_haproxy() {
    nothing_fails_behind(Kind::Haproxy).await;
}

#[tokio::test]
async fn nothing_fails_behind_haproxy_that_speaks_http_2() {
    nothing_fails_behind(Kind::HaproxyHttp2).await;
}

/// Follows a task through the balancer to its end, coming back whenever the stream ends; its events, and how often it
/// had to.
async fn follow(client: Client, task_id: String) -> (Vec<Event>, usize) {
    let (mut seen, mut connected) = (Vec::<Event>::new(), 0);
    loop {
        let last = seen.last().map(|event| event.id.clone());
        let mut reader = client.events(&task_id, last.as_deref()).await.expect("a stream");
        connected += 1;
        while let Some(event) = reader.next().await.expect("an end, not a break") {
            seen.push(event);
        }
        if seen.last().is_some_and(|event| event.name == "done") {
            return (seen, connected);
        }
    }
}

#[tokio::test]
async fn a_stream_of_events_goes_on_over_restarts_without_gap_or_repeat() {
    let (network, mut application) = (Network::new(), JoinSet::new());
    let mut cluster = behind(network, echo(&mut application).await).await;
    let balancer = Balancer::start(Kind::Haproxy, network, GATEWAYS).await;
    let client = balancer.client().caller("privileged", "ada");
    let long = json!({ "ms": 600_000, "output": 6000 });
    let task_id = until("the balancer has found its gateways", || async {
        let answer = client.submit(&Submission::new("slow", long.clone())).await.ok()?;
        answer.is_accepted().then(|| answer.task_id().to_owned())
    })
    .await;
    let following = tokio::spawn(follow(client.clone(), task_id.clone()));
    let (stop, load) = (CancellationToken::new(), balancer.client().caller("privileged", "eve"));
    let submitting = tokio::spawn(submit(load, stop.clone()));
    restart_all(&mut cluster).await;
    stop.cancel();
    let (others, failed) = submitting.await.expect("no panic");
    assert!(!others.is_empty() && failed.is_empty(), "{failed:?}");
    assert_eq!(client.cancel(&task_id).await.expect("an answer").status, 200);
    let (seen, connected) = following.await.expect("no panic");
    assert!(connected >= 2, "its gateway was restarted");
    let whole = client.events(&task_id, None).await.expect("a stream").until_done().await.expect("events");
    assert_eq!(seen, whole, "what was seen piece by piece is what there was");
    assert!(whole.iter().filter(|event| event.name == "output").count() > 10);
}

#[tokio::test]
async fn behind_a_balancer_a_client_is_its_own_address_whatever_it_writes() {
    let (network, mut application) = (Network::new(), JoinSet::new());
    let cluster = behind(network, echo(&mut application).await).await;
    for kind in [Kind::Nginx, Kind::Haproxy] {
        let balancer = Balancer::start(kind, network, GATEWAYS).await;
        let session = async |forwarded: &str| {
            let client = balancer.client().with_header("x-forwarded-for", forwarded).with_header("x-user-type", "paid");
            until("the balancer has found its gateways", || async {
                let answer = client.limits().await.ok().filter(|answer| answer.status == 200)?;
                assert_eq!(answer.header("x-user-type"), Some("anonymous"));
                answer.header("x-session-id").map(str::to_owned)
            })
            .await
        };
        let mut sessions = Vec::new();
        for forwarded in ["203.0.113.1", "203.0.113.2, 198.51.100.9", "junk", "127.0.0.1"] {
            sessions.push(session(forwarded).await);
        }
        sessions.dedup();
        assert_eq!(sessions.len(), 1, "{kind:?}");
        // Whoever stands in front is believed, and only about the last hop: another hop is another caller.
        let direct =
            cluster.gateway(0).with_header("x-forwarded-for", "203.0.113.1").limits().await.expect("an answer");
        assert_ne!(direct.header("x-session-id"), Some(sessions[0].as_str()));
    }
}
