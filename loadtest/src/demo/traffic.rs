//! The traffic of the demonstration: real callers of all four user types, through every gateway.
//!
//! Responsible for bringing about each answer a newcomer should see once. Must never judge what it gets: that is
//! `expectation.rs`, which reads the observations made here.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::client::{Answer, CALLERS, Client, Submission};
use crate::cluster::Cluster;
use crate::demo::ledger::Ledger;
use crate::error::HarnessError;

/// Requests of the anonymous burst, all at once.
pub const BURST: usize = 24;
/// Refusals to see of each user type under pressure.
const REFUSALS: usize = 3;
/// Far more than the demonstration's capacity: reaching it means that pressure refuses nobody.
const OFFERS_MAX: usize = 60;
const SLOW_MS: u64 = 1500;
const PIECES: u64 = 5;
const END_LIMIT: Duration = Duration::from_secs(90);

/// What happened, beside what the ledger counts.
#[derive(Debug, Default)]
pub struct Observations {
    /// Depth each user type reached before pressure refused it, lowest type first.
    pub depths: Vec<(String, u64)>,
    /// Admitted and refused for the burst limit in the anonymous burst.
    pub burst: (usize, usize),
    /// Status and code of the answer to a wrong credential.
    pub wrong_credential: (u16, String),
    /// Tasks the same idempotency key was answered with.
    pub replay: Vec<String>,
    /// Names of the events of the followed task, in order.
    pub followed: Vec<String>,
    /// Final status of the followed task.
    pub followed_end: String,
    /// Final status and attempts of the task whose first attempt fails.
    pub retried: (String, u64),
    /// Final status of the task its caller cancelled.
    pub cancelled: String,
    /// Accepted tasks that reached no end.
    pub lost: Vec<String>,
}

/// Brings about everything.
pub async fn send(cluster: &Cluster, ledger: &mut Ledger) -> Result<Observations, HarnessError> {
    let mut seen = Observations::default();
    pressure(cluster, ledger, &mut seen).await?;
    until_drained(ledger).await?;
    burst(cluster, ledger, &mut seen).await?;
    wrong_credential(cluster, ledger, &mut seen).await?;
    replay(cluster, ledger, &mut seen).await?;
    follow(cluster, ledger, &mut seen).await?;
    retry(cluster, ledger, &mut seen).await?;
    cancel(cluster, ledger, &mut seen).await?;
    collect_ends(ledger, &mut seen).await;
    Ok(seen)
}

fn caller(cluster: &Cluster, gateway: usize, user_type: &str) -> Client {
    let anyone = cluster.gateway(gateway);
    if user_type == CALLERS[0] { anyone } else { anyone.caller(user_type, &format!("{user_type}-demo")) }
}

async fn submit(ledger: &mut Ledger, user_type: &str, by: &Client, what: &Submission) -> Result<Answer, HarnessError> {
    let answer = by.submit(what).await?;
    ledger.record(user_type, by, &answer);
    Ok(answer)
}

/// Fills the cluster with slow work. The lower a type, the earlier it is turned away; nobody gets past the hard limit.
async fn pressure(cluster: &Cluster, ledger: &mut Ledger, seen: &mut Observations) -> Result<(), HarnessError> {
    let slow = Submission::new("slow", json!({ "ms": SLOW_MS }));
    let highest = CALLERS[CALLERS.len() - 1];
    for offer in 0..OFFERS_MAX {
        let answer = submit(ledger, highest, &caller(cluster, offer, highest), &slow).await?;
        let (depth, capacity) = (number(&answer, "depth"), number(&answer, "capacity"));
        if depth as f64 >= (capacity as f64 * cluster.policy().backpressure.anonymous_pressure_threshold).floor() {
            seen.depths.push((CALLERS[0].to_owned(), depth));
            break;
        }
    }
    for user_type in CALLERS {
        let (mut refusals, mut deepest) = (0, 0);
        for offer in 0..OFFERS_MAX {
            let answer = submit(ledger, user_type, &caller(cluster, offer, user_type), &slow).await?;
            if answer.is_accepted() {
                deepest = number(&answer, "depth");
            } else {
                refusals += 1;
            }
            if refusals == REFUSALS {
                break;
            }
        }
        if user_type != CALLERS[0] {
            seen.depths.push((user_type.to_owned(), deepest));
        }
    }
    Ok(())
}

async fn until_drained(ledger: &Ledger) -> Result<(), HarnessError> {
    for task in ledger.accepted() {
        task.caller.until_ended(&task.task_id, END_LIMIT).await?;
    }
    Ok(())
}

/// One anonymous session at every gateway at once. The refusals under pressure before it must have cost it nothing.
async fn burst(cluster: &Cluster, ledger: &mut Ledger, seen: &mut Observations) -> Result<(), HarnessError> {
    let task = Submission::new("demo", json!({ "hello": "world" }));
    let callers: Vec<Client> = (0..BURST).map(|index| cluster.gateway(index)).collect();
    let answers = join_all(callers.iter().map(|caller| caller.submit(&task))).await;
    for (caller, answer) in callers.iter().zip(answers) {
        let answer = answer?;
        ledger.record(CALLERS[0], caller, &answer);
        seen.burst.0 += usize::from(answer.is_accepted());
        seen.burst.1 += usize::from(answer.code() == "burst_limit");
    }
    Ok(())
}

async fn wrong_credential(cluster: &Cluster, ledger: &mut Ledger, seen: &mut Observations) -> Result<(), HarnessError> {
    let impostor = cluster.gateway(0).bearer("not-a-credential");
    let answer = submit(ledger, "(wrong credential)", &impostor, &Submission::new("demo", json!(null))).await?;
    seen.wrong_credential = (answer.status, answer.code().to_owned());
    Ok(())
}

/// The same request at both gateways: a client that saw its connection break and asked again.
async fn replay(cluster: &Cluster, ledger: &mut Ledger, seen: &mut Observations) -> Result<(), HarnessError> {
    let key = format!("demo-{:016x}", rand::random::<u64>());
    let order = Submission::new("demo", json!({ "order": 4711 })).header("idempotency-key", key);
    for gateway in 0..2 {
        let answer = submit(ledger, CALLERS[1], &caller(cluster, gateway, CALLERS[1]), &order).await?;
        seen.replay.push(answer.task_id().to_owned());
    }
    Ok(())
}

/// A task whose output is read while it runs, at the gateway that did not take it in.
async fn follow(cluster: &Cluster, ledger: &mut Ledger, seen: &mut Observations) -> Result<(), HarnessError> {
    let story = Submission::new("slow", json!({ "ms": 500, "output": PIECES }));
    let answer = submit(ledger, CALLERS[2], &caller(cluster, 0, CALLERS[2]), &story).await?;
    let elsewhere = caller(cluster, 1, CALLERS[2]);
    let mut reader = elsewhere.events(answer.task_id(), None).await?;
    let events = tokio::time::timeout(END_LIMIT, reader.until_done()).await;
    let events = events.map_err(|_| HarnessError::Timeout(END_LIMIT, "the followed task is done".to_owned()))??;
    seen.followed = events.into_iter().map(|event| event.name).collect();
    let end = elsewhere.until_ended(answer.task_id(), END_LIMIT).await?;
    end.task_status().clone_into(&mut seen.followed_end);
    Ok(())
}

async fn retry(cluster: &Cluster, ledger: &mut Ledger, seen: &mut Observations) -> Result<(), HarnessError> {
    let by = caller(cluster, 1, CALLERS[2]);
    let shaky = Submission::new("slow", json!({ "ms": 50, "fail_times": 1 }));
    let answer = submit(ledger, CALLERS[2], &by, &shaky).await?;
    let end = by.until_ended(answer.task_id(), END_LIMIT).await?;
    seen.retried = (end.task_status().to_owned(), number(&end, "attempt"));
    Ok(())
}

async fn cancel(cluster: &Cluster, ledger: &mut Ledger, seen: &mut Observations) -> Result<(), HarnessError> {
    let by = caller(cluster, 0, CALLERS[3]);
    let answer = submit(ledger, CALLERS[3], &by, &Submission::new("slow", json!({ "ms": 60_000 }))).await?;
    by.cancel(answer.task_id()).await?;
    let end = by.until_ended(answer.task_id(), END_LIMIT).await?;
    end.task_status().clone_into(&mut seen.cancelled);
    Ok(())
}

async fn collect_ends(ledger: &mut Ledger, seen: &mut Observations) {
    for task in ledger.accepted().to_vec() {
        match task.caller.until_ended(&task.task_id, END_LIMIT).await {
            Ok(answer) => ledger.record_end(&task.user_type, answer.task_status()),
            Err(_) => seen.lost.push(task.task_id),
        }
    }
}

fn number(answer: &Answer, field: &str) -> u64 {
    answer.body[field].as_u64().unwrap_or_default()
}

/// Output pieces the followed task writes.
#[must_use]
pub fn pieces() -> usize {
    PIECES as usize
}
