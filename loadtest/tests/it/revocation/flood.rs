//! A principal is revoked while its sessions and agents keep three gateways busy.
//!
//! Responsible for the order of things: of the revocation, by Redis's clock, and of everything that was enqueued. Must
//! never stop the load before it has been refused everywhere for a while.

use std::sync::Arc;
use std::time::Duration;

use portcullis_loadtest::client::{Client, Submission};
use portcullis_loadtest::credentials::principal_of;
use portcullis_lua::ScopeStore;
use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cast::{Cast, boundless};
use crate::fixture::{SLACK_MS, cluster, until};
use crate::policy::deaf::cut_pubsub;

const GATEWAYS: usize = 3;
/// Requests of the revoked in a second, over all gateways.
const RATE: u32 = 200;
/// How long the load goes on after the last gateway must have heard.
const AFTERMATH: Duration = Duration::from_secs(2);
/// Answers that may be on their way.
const ANSWERS: usize = 100_000;

/// One answer.
#[derive(Debug)]
struct Told {
    sent: Instant,
    status: u16,
    revoked: bool,
    submission: bool,
    task_id: String,
}

/// Somebody who sends.
#[derive(Clone)]
struct Caller {
    client: Client,
    revoked: bool,
    submission: bool,
}

impl Caller {
    async fn send(&self) -> Told {
        let sent = Instant::now();
        let answer = if self.submission {
            self.client.submit(&Submission::new("demo", json!(1))).await
        } else {
            self.client.get("/v1/sessions/current").await
        };
        let answer = answer.expect("an answer");
        let task_id = answer.task_id().to_owned();
        Told { sent, status: answer.status, revoked: self.revoked, submission: self.submission, task_id }
    }
}

/// Who sends: the revoked by a session, an agent and an agent at depth 2, to every gateway; somebody else by a session
/// and an agent. Each does all of this: submit (`true`) and read (`false`).
async fn callers(cast: &Cast, does: &[bool]) -> Vec<Caller> {
    let (ada, bob) = (principal_of("ada"), principal_of("bob"));
    let of_ada = [
        cast.log_in("ada").await,
        cast.agent(&ada, "helper").presented().to_owned(),
        cast.crew(&ada).reading.presented().to_owned(),
    ];
    let of_bob = [cast.log_in("bob").await, cast.crew(&bob).reading.presented().to_owned()];
    let everywhere = |token| (0..GATEWAYS).map(move |gateway| (token, gateway, true));
    let once = |(gateway, token)| (token, gateway, false);
    let placed = of_ada.iter().flat_map(everywhere).chain(of_bob.iter().enumerate().map(once));
    let mut callers = Vec::new();
    for (token, gateway, revoked) in placed {
        for &submission in does {
            callers.push(Caller { client: cast.cluster.gateway(gateway).bearer(token), revoked, submission });
        }
    }
    callers
}

/// Lets each caller send in turn until told to stop; every answer.
async fn load(callers: Vec<Caller>, warm: Arc<Notify>, stop: CancellationToken) -> Vec<Told> {
    let (tell, mut told) = mpsc::channel(ANSWERS);
    let revoked = callers.iter().filter(|caller| caller.revoked).count();
    // Those who are not revoked come on top.
    let pace = Duration::from_secs(1) * u32::try_from(revoked).expect("few") / RATE / callers.len() as u32;
    let (mut ticks, mut sending) = (tokio::time::interval(pace), JoinSet::new());
    for turn in 0.. {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => break,
        }
        let (caller, tell) = (callers[turn % callers.len()].clone(), tell.clone());
        sending.spawn(async move { tell.send(caller.send().await).await.expect("heard") });
        while let Some(joined) = sending.try_join_next() {
            joined.expect("no panic");
        }
        if turn == 4 * callers.len() {
            warm.notify_one();
        }
    }
    while let Some(joined) = sending.join_next().await {
        joined.expect("no panic");
    }
    drop(tell);
    let mut all = Vec::new();
    while let Some(one) = told.recv().await {
        all.push(one);
    }
    all
}

/// What came of it.
struct Seen {
    told: Vec<Told>,
    /// When the revocation had been answered, here.
    answered: Instant,
    /// When it was made, by Redis's clock.
    revoked_ms: u64,
}

async fn revoke_under_load(cast: &Cast, store: &ScopeStore, does: &[bool], longest: Duration) -> Seen {
    let callers = callers(cast, does).await;
    let (warm, stop) = (Arc::new(Notify::new()), CancellationToken::new());
    let loading = tokio::spawn(load(callers, warm.clone(), stop.clone()));
    warm.notified().await;
    let wish = json!({ "kind": "principal", "id": principal_of("ada"), "reason": "stolen" });
    let revoked = cast.cluster.admin(0).post("/admin/revocations", &wish).await.expect("an answer");
    assert_eq!((revoked.status, &revoked.body["changed"]), (200, &json!(1)), "{}", revoked.text);
    let answered = Instant::now();
    tokio::time::sleep(longest + AFTERMATH).await;
    stop.cancel();
    let told = loading.await.expect("no panic");
    let events = store.audit(100).await.expect("audit events");
    let revocation = events.iter().find(|event| event.event == "principal.revoked").expect("it is told of");
    Seen { told, answered, revoked_ms: revocation.at_ms }
}

/// Everything that was enqueued for this principal, by Redis's clock.
async fn admitted_ms(store: &ScopeStore, principal: &str) -> Vec<u64> {
    let events = store.decisions(1_000_000).await.expect("decisions");
    let admitted = events.iter().filter(|event| event.principal == principal && event.outcome == "admitted");
    admitted.map(|event| event.at_ms).collect()
}

fn good(one: &Told) -> bool {
    (200..300).contains(&one.status)
}

/// Nothing of the revoked was enqueued later than they were revoked; of others, something was.
async fn judge_admissions(store: &ScopeStore, seen: &Seen) {
    let admitted = || seen.told.iter().filter(|one| one.revoked && one.submission && good(one));
    assert!(admitted().count() > 0, "they were admitted before");
    let (ada, bob) = (principal_of("ada"), principal_of("bob"));
    let late: Vec<u64> = admitted_ms(store, &ada).await.into_iter().filter(|at_ms| *at_ms > seen.revoked_ms).collect();
    assert!(late.is_empty(), "enqueued after {}: {late:?}", seen.revoked_ms);
    for one in admitted() {
        assert!(one.sent <= seen.answered, "admitted although it was sent after the revocation was answered");
        let id = portcullis_lua::TaskId::parse(&one.task_id).expect("an id");
        let task = store.task(&id).await.expect("an answer").expect("it is known");
        assert!(task.created_ms <= seen.revoked_ms, "{} was made {} ms late", id, task.created_ms - seen.revoked_ms);
    }
    assert!(admitted_ms(store, &bob).await.iter().any(|at_ms| *at_ms > seen.revoked_ms));
}

/// The revoked were answered nowhere for longer than this; others everywhere.
fn judge_answers(seen: &Seen, longest: Duration) {
    let of_revoked = || seen.told.iter().filter(|one| one.revoked);
    assert!(of_revoked().all(|one| good(one) || one.status == 401), "nothing but yes and no");
    let last = of_revoked().filter(|one| good(one)).map(|one| one.sent).max().expect("some were good");
    let after = last.saturating_duration_since(seen.answered);
    assert!(after <= longest + Duration::from_millis(SLACK_MS), "somebody was let read {after:?} later");
    let refused = of_revoked().filter(|one| one.sent > seen.answered && one.status == 401).count();
    assert!(refused > 100, "the load went on: {refused}");
    assert!(seen.told.iter().filter(|one| !one.revoked).all(good), "nobody else is touched");
}

async fn busy() -> (Cast, ScopeStore) {
    let policy = json!({ "rate_limits": boundless(), "limits": { "max_queue_size": 1_000_000 } });
    let mut cast = Cast::on(cluster().gateways(GATEWAYS).policy(policy)).await;
    cast.cluster.stand_in(1_000_000).await.expect("capacity");
    let store = cast.cluster.store().await.expect("a store");
    (cast, store)
}

/// Nobody hears anything any more, after everybody did.
async fn deafen(cast: &Cast) {
    let probe = cast.cluster.probe().await.expect("a connection");
    until("every gateway listens", || async {
        let clients: String = probe.command("CLIENT", ["LIST", "TYPE", "PUBSUB"]).await.ok()?.convert().ok()?;
        (clients.lines().count() >= GATEWAYS).then_some(())
    })
    .await;
    cut_pubsub(&probe).await;
}

#[tokio::test]
async fn nothing_is_enqueued_after_a_revocation_was_answered_and_within_a_second_nobody_reads() {
    let (cast, store) = busy().await;
    let longest = Duration::from_secs(1);
    let seen = revoke_under_load(&cast, &store, &[true, false], longest).await;
    judge_admissions(&store, &seen).await;
    judge_answers(&seen, longest);
}

#[tokio::test]
async fn without_messages_nothing_is_enqueued_either_and_within_three_seconds_nobody_reads() {
    let (cast, store) = busy().await;
    deafen(&cast).await;
    let longest = Duration::from_secs(3);
    let seen = revoke_under_load(&cast, &store, &[true, false], longest).await;
    judge_admissions(&store, &seen).await;
    judge_answers(&seen, longest);
}

#[tokio::test]
async fn gateways_that_are_told_by_no_message_and_no_admission_ask_by_themselves() {
    let (cast, store) = busy().await;
    deafen(&cast).await;
    let longest = Duration::from_secs(3);
    let seen = revoke_under_load(&cast, &store, &[false], longest).await;
    judge_answers(&seen, longest);
}
