//! A whole processor on a store in memory.

mod policy;
mod leaving;

use std::future::pending;

use portcullis_lua::{FencingToken, Lease, Purpose};
use serde_json::{Value, json};

use super::*;
use crate::fake::{self, Contents, FakeStore};
use crate::handler::{AttemptContext, Echo, HandlerOutcome, OutputSink, Sleep};

const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// A running processor.
struct Case {
    store: Arc<FakeStore>,
    policy: ScopePolicy,
    shutdown: Shutdown,
    running: JoinSet<Ending>,
}

impl Case {
    fn start(contents: Contents, slots: u32, handlers: Handlers) -> Self {
        Self::start_under(contents, &slots_of(slots), handlers)
    }

    /// With the policy changed this much.
    fn start_under(contents: Contents, changes: &Value, handlers: Handlers) -> Self {
        let (store, policy) = (FakeStore::with(contents), fake::live(changes));
        let options =
            ProcessorOptions { instance: "test".to_owned(), slots: None, drain_limit: DRAIN_LIMIT, force_boot: false };
        let worker = worker_name(&options.instance);
        let tasks = Arc::clone(&store) as _;
        let processor = Processor::over(tasks, worker, fake::scope(), policy.clone(), handlers, options);
        let shutdown = Shutdown::new();
        let mut running = JoinSet::new();
        running.spawn(processor.run(shutdown.clone()));
        Self { store, policy, shutdown, running }
    }

    async fn settled(&self, count: usize) -> Vec<(u64, &'static str)> {
        self.store.until(|contents| contents.settled.len() >= count).await;
        let mut outcomes: Vec<_> = self.store.outcomes().into_iter().map(|(token, word)| (token.0, word)).collect();
        outcomes.sort_unstable();
        outcomes
    }

    async fn ending(mut self) -> Ending {
        let ended = timeout(Duration::from_secs(3600), self.running.join_next()).await;
        ended.expect("it ends").unwrap().unwrap()
    }
}

fn slots_of(slots: u32) -> Value {
    json!({"service_capacity": {"concurrent_requests_per_process": slots}})
}

fn waiting(tokens: impl IntoIterator<Item = u64>) -> Contents {
    Contents { waiting: tokens.into_iter().map(|token| fake::lease("chat", token)).collect(), ..Contents::default() }
}

fn ending(token: u64, purpose: Purpose) -> Lease {
    Lease { purpose, ..fake::lease("chat", token) }
}

/// A handler that ends when the test says so, and tells when it has begun.
fn gated() -> (Handlers, Arc<tokio::sync::Semaphore>, Arc<tokio::sync::Semaphore>) {
    let [begun, gate] = [0, 0].map(|permits| Arc::new(tokio::sync::Semaphore::new(permits)));
    let (begins, waits) = (Arc::clone(&begun), Arc::clone(&gate));
    let handlers = Handlers::new().with("*", move |_attempt: AttemptContext| {
        let (begins, waits) = (Arc::clone(&begins), Arc::clone(&waits));
        async move {
            begins.add_permits(1);
            waits.acquire().await.unwrap().forget();
            HandlerOutcome::json(&json!("done"))
        }
    });
    (handlers, begun, gate)
}

fn all_succeeded(tokens: impl IntoIterator<Item = u64>) -> Vec<(u64, &'static str)> {
    tokens.into_iter().map(|token| (token, "succeeded")).collect()
}

#[tokio::test(start_paused = true)]
async fn it_runs_everything_there_is_and_then_leaves() {
    let case = Case::start(waiting(1..=100), 4, Handlers::new().with("*", Echo));
    assert_eq!(case.settled(100).await, all_succeeded(1..=100));
    let store = Arc::clone(&case.store);
    assert!(store.read(|contents| contents.claims.iter().all(|&slots| slots <= 4)));
    case.shutdown.drain.cancel();
    assert_eq!(case.ending().await, Ending::Drained);
    assert_eq!(store.read(|contents| contents.left.len()), 1);
    assert!(store.read(|contents| contents.beats.last().unwrap().draining));
}

#[tokio::test(start_paused = true)]
async fn it_never_runs_more_than_its_slots_and_refills_each_at_once() {
    let (handlers, begun, gate) = gated();
    let case = Case::start(waiting(1..=5), 2, handlers);
    begun.acquire_many(2).await.unwrap().forget();
    assert_eq!(case.store.read(|contents| contents.waiting.len()), 3);
    let started = Instant::now();
    for _ in 0..3 {
        gate.add_permits(1);
        begun.acquire().await.unwrap().forget();
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    gate.add_permits(2);
    assert_eq!(case.settled(5).await, all_succeeded(1..=5));
}

#[tokio::test(start_paused = true)]
async fn it_can_be_drained_while_redis_has_never_answered() {
    let case = Case::start(Contents { outage: true, ..Contents::default() }, 1, Handlers::new().with("*", Echo));
    tokio::time::sleep(Duration::from_secs(3)).await;
    case.shutdown.drain.cancel();
    assert_eq!(case.ending().await, Ending::Drained);
}

#[tokio::test(start_paused = true)]
async fn an_idle_processor_starts_new_work_at_once_and_hardly_asks_meanwhile() {
    let changes = json!({"queue": {"lease_ms": 10_000}});
    let case = Case::start_under(Contents::default(), &changes, Handlers::new().with("*", Echo));
    tokio::time::sleep(Duration::from_secs(30)).await;
    let asked = case.store.read(|contents| contents.claims.len());
    assert!(asked <= 32, "{asked} claims in 30 s");
    let arrived = Instant::now();
    case.store.change(|contents| contents.waiting.push_back(fake::lease("chat", 1)));
    assert_eq!(case.settled(1).await, all_succeeded([1]));
    assert_eq!(arrived.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_lost_wake_up_costs_a_second_at_most() {
    let contents = Contents { wakes_nobody: true, ..Contents::default() };
    let case = Case::start(contents, 1, Handlers::new().with("*", Echo));
    tokio::time::sleep(Duration::from_secs(3)).await;
    case.store.change(|contents| contents.waiting.push_back(fake::lease("chat", 1)));
    let arrived = Instant::now();
    assert_eq!(case.settled(1).await, all_succeeded([1]));
    assert!(arrived.elapsed() <= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_as_many_tasks_as_it_has_room_for_and_not_while_it_has_none() {
    let (handlers, begun, gate) = gated();
    let case = Case::start(waiting([1]), 2, handlers);
    begun.acquire().await.unwrap().forget();
    case.store.until(|contents| !contents.waits.is_empty()).await;
    assert!(case.store.read(|contents| contents.waits.iter().all(|&slots| slots == 1)));
    case.store.change(|contents| contents.waiting.push_back(fake::lease("chat", 2)));
    begun.acquire().await.unwrap().forget();
    let full = case.store.read(|contents| (contents.waits.len(), contents.claims.len()));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(case.store.read(|contents| (contents.waits.len(), contents.claims.len())), full);
    gate.add_permits(2);
    case.store.until(|contents| contents.waits.last() == Some(&2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_delayed_task_is_claimed_when_it_is_due() {
    let changes = json!({"queue": {"lease_ms": 10_000}});
    let contents = Contents { wakes_nobody: true, next_due_ms: Some(300), ..Contents::default() };
    let case = Case::start_under(contents, &changes, Handlers::new().with("*", Echo));
    case.store.until(|contents| !contents.waits.is_empty()).await;
    let told = Instant::now();
    case.store.change(|contents| contents.waiting.push_back(fake::lease("chat", 1)));
    assert_eq!(case.settled(1).await, all_succeeded([1]));
    assert_eq!(told.elapsed(), Duration::from_millis(300));
}

#[tokio::test(start_paused = true)]
async fn more_slots_are_asked_for_at_once_by_an_idle_processor() {
    let case = Case::start(Contents::default(), 1, Handlers::new().with("*", Echo));
    case.store.until(|contents| !contents.waits.is_empty()).await;
    let raised = Instant::now();
    case.policy.adopt(fake::stored(1, &slots_of(4)));
    case.store.until(|contents| contents.waits.last() == Some(&4)).await;
    assert_eq!(raised.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_idle_processor_leaves_at_once_and_hands_back_what_it_was_given_meanwhile() {
    let contents = Contents { wakes_nobody: true, ..Contents::default() };
    let case = Case::start(contents, 2, Handlers::new().with("*", Echo));
    case.store.until(|contents| !contents.waits.is_empty()).await;
    case.store.change(|contents| contents.waiting.push_back(fake::lease("chat", 1)));
    let (store, told) = (Arc::clone(&case.store), Instant::now());
    case.shutdown.drain.cancel();
    assert_eq!(case.ending().await, Ending::Drained);
    assert_eq!(told.elapsed(), Duration::ZERO);
    assert_eq!(store.outcomes(), [(FencingToken(1), "handed back")]);
}

#[tokio::test(start_paused = true)]
async fn tasks_that_a_claim_took_are_run_however_late_it_is_answered() {
    let changes = json!({"queue": {"lease_ms": 10_000}});
    for late_ms in [3_000, 6_000, 12_000] {
        let contents = Contents { claim_hangs: true, ..waiting([1]) };
        let case = Case::start_under(contents, &changes, Handlers::new().with("*", Echo));
        case.store.until(|contents| contents.waiting.is_empty()).await;
        tokio::time::sleep(Duration::from_millis(late_ms)).await;
        case.store.change(|contents| contents.claim_hangs = false);
        // What half a lease ago was granted is renewed first: only Redis knows whether it still holds.
        assert_eq!(case.settled(1).await, all_succeeded([1]), "after {late_ms} ms of its lease");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_late_answer_was_told_of_revocations_is_not_relied_on() {
    for (late_ms, asked) in [(1000, Some(0)), (3000, None)] {
        let mut lease = fake::lease("chat", 1);
        lease.envelope.members = vec!["p:ada".to_owned()];
        let contents = Contents { waiting: [lease].into(), claim_hangs: true, ..Contents::default() };
        let case = Case::start(contents, 1, Handlers::new().with("*", Echo));
        case.store.until(|contents| contents.waiting.is_empty()).await;
        tokio::time::sleep(Duration::from_millis(late_ms)).await;
        case.store.change(|contents| contents.claim_hangs = false);
        case.settled(1).await;
        assert_eq!(case.store.read(|contents| contents.revocations_asked.clone()), [asked], "{late_ms} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn it_does_not_stay_for_a_claim_that_is_never_answered() {
    for contents in [Contents::default(), waiting([1])] {
        let case = Case::start(Contents { claim_hangs: true, ..contents }, 1, Handlers::new().with("*", Echo));
        case.store.until(|contents| !contents.claims.is_empty() && contents.waiting.is_empty()).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let told = Instant::now();
        case.shutdown.drain.cancel();
        assert_eq!(case.ending().await, Ending::Drained);
        assert_eq!(told.elapsed(), Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn what_must_not_run_is_settled_at_once() {
    let mut contents = Contents::default();
    contents.waiting.push_back(ending(1, Purpose::Expire));
    contents.waiting.push_back(ending(4, Purpose::Unreadable));
    contents.lapsed = vec![ending(2, Purpose::Bury), ending(3, Purpose::Cancel)];
    let case = Case::start(contents, 1, Handlers::new().with("*", |_| async { panic!("must not run") }));
    assert_eq!(case.settled(4).await, [(1, "expired"), (2, "dead"), (3, "cancelled"), (4, "dead")]);
}

#[tokio::test(start_paused = true)]
async fn it_is_back_at_work_within_a_second_of_a_long_outage() {
    let case = Case::start(waiting([1]), 2, Handlers::new().with("*", Echo));
    case.settled(1).await;
    for round in 0..3 {
        case.store.change(|contents| contents.outage = true);
        tokio::time::sleep(Duration::from_secs(20)).await;
        case.store.change(|contents| {
            contents.outage = false;
            contents.waiting.push_back(fake::lease("chat", 2 + round));
        });
        let back = Instant::now();
        case.settled(2 + round as usize).await;
        assert!(back.elapsed() < Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_finished_work_is_settled_before_anything_is_reclaimed() {
    let (handlers, begun, gate) = gated();
    let case = Case::start(waiting([1]), 1, handlers);
    begun.acquire().await.unwrap().forget();
    case.store.change(|contents| contents.outage = true);
    gate.add_permits(1);
    tokio::time::sleep(Duration::from_secs(20)).await;
    case.store.change(|contents| {
        contents.outage = false;
        contents.lapsed = vec![ending(2, Purpose::Bury)];
    });
    case.store.until(|contents| contents.settled.len() == 2).await;
    assert_eq!(case.store.outcomes(), [(FencingToken(1), "succeeded"), (FencingToken(2), "dead")]);
}

#[tokio::test(start_paused = true)]
async fn failing_attempts_are_settled_with_a_backoff_and_succeed_later() {
    let mut first = fake::lease("chat", 1);
    first.payload = r#"{"ms":5,"fail_times":1}"#.into();
    let second = Lease { attempt: 2, token: FencingToken(2), ..first.clone() };
    let contents = Contents { waiting: [first, second].into(), ..Contents::default() };
    let case = Case::start(contents, 1, Handlers::new().with("*", Sleep));
    assert_eq!(case.settled(2).await, [(1, "retry"), (2, "succeeded")]);
}
