//! Every way an attempt can end.

use std::future::pending;

use portcullis_lua::{FencingToken, Renewal, TaskResult};
use serde_json::{Value, json};

use super::*;
use crate::fake::{self, Contents, FakeStore, word};
use crate::lease::Leases;

const MS: Duration = Duration::from_millis(1);

/// Runs one attempt of kind `chat` with renewal around it, and what is left in the store.
struct Case {
    store: Arc<FakeStore>,
    runner: Runner,
    lease: Lease,
}

impl Case {
    fn new(handlers: Handlers) -> Self {
        Self::under(handlers, &json!({}))
    }

    /// With the policy changed this much.
    fn under(handlers: Handlers, changes: &Value) -> Self {
        let store = FakeStore::with(Contents::default());
        let runner = fake::runner(&store, handlers, fake::live(changes));
        Self { store, runner, lease: fake::lease("chat", 1) }
    }

    async fn run(&self) -> Option<Outcome> {
        self.run_claimed_at(Instant::now()).await
    }

    async fn run_claimed_at(&self, sent: Instant) -> Option<Outcome> {
        let (leases, stop) = (Leases::default(), CancellationToken::new());
        let held = leases.hold(&self.lease, sent, 1000);
        self.runner.clock.note(sent, self.lease.claimed_ms);
        tokio::select! {
            biased;
            outcome = self.runner.run(&self.lease, &held) => outcome,
            () = leases.keep(self.store.as_ref(), &self.runner.policy, &stop) => unreachable!("nobody stops it"),
        }
    }
}

/// A handler that never answers and says on the returned token when it has been told to end.
fn endless() -> (Handlers, CancellationToken) {
    let told = CancellationToken::new();
    let tell = told.clone();
    let handlers = Handlers::new().with("chat", move |attempt: AttemptContext| {
        let tell = tell.clone();
        tokio::spawn(async move {
            attempt.cancelled.cancelled().await;
            tell.cancel();
        });
        pending::<HandlerOutcome>()
    });
    (handlers, told)
}

fn answering(answer: HandlerOutcome) -> Handlers {
    Handlers::new().with("chat", move |_| {
        let answer = answer.clone();
        async move { answer }
    })
}

fn code(outcome: Option<Outcome>) -> String {
    match outcome {
        Some(Outcome::Retry { error, .. } | Outcome::Failed { error, .. }) => error.code,
        other => panic!("{other:?} has no code"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_the_outcome_and_its_output_is_there_first() {
    let handlers = Handlers::new().with("*", |attempt: AttemptContext| async move {
        attempt.output.send("half").await.unwrap();
        attempt.output.send("whole").await.unwrap();
        HandlerOutcome::json(&json!({ "number": attempt.number, "deadline_ms": attempt.deadline_ms }))
    });
    let mut case = Case::new(handlers);
    case.lease.deadline_ms = Some(case.lease.claimed_ms + 50);
    let Some(Outcome::Succeeded { result, .. }) = case.run().await else { panic!("it succeeds") };
    assert_eq!(result.body, r#"{"number":1,"deadline_ms":1700000000055}"#);
    assert_eq!(case.store.read(|contents| contents.output.clone()), ["half", "whole"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_handler_it_is_left_for_another_processor() {
    let case = Case::new(Handlers::new().with("report", |_| async { HandlerOutcome::retry("x", "y") }));
    assert_eq!(code(case.run().await), "no_handler");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failed_attempt() {
    let case = Case::new(Handlers::new().with("chat", |_| async { panic!("handler bug, on purpose") }));
    assert_eq!(code(case.run().await), "handler_panicked");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_it_as_expired() {
    let (handlers, told) = endless();
    let mut case = Case::new(handlers);
    case.lease.deadline_ms = Some(case.lease.claimed_ms + 5000);
    let started = Instant::now();
    assert_eq!(word(&case.run().await.unwrap()), "expired");
    assert!((4998 * MS..=5000 * MS).contains(&started.elapsed()), "{:?}", started.elapsed());
    told.cancelled().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_after_its_deadline() {
    let mut case = Case::new(Handlers::new().with("chat", |_| async { panic!("must not run") }));
    case.lease.deadline_ms = Some(case.lease.claimed_ms);
    assert_eq!(word(&case.run().await.unwrap()), "expired");
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_under_a_lease_that_may_have_lapsed() {
    let case = Case::new(Handlers::new().with("chat", |_| async { panic!("must not run") }));
    let sent = Instant::now();
    tokio::time::sleep(950 * MS).await;
    assert_eq!(word(&case.run_claimed_at(sent).await.unwrap()), "handed back");
}

#[tokio::test(start_paused = true)]
async fn the_timeout_ends_it_as_worth_another_try() {
    let (handlers, told) = endless();
    let case = Case::new(handlers);
    let started = Instant::now();
    assert_eq!(code(case.run().await), "handler_timeout");
    assert_eq!(started.elapsed().as_millis(), u128::from(fake::policy().queue.attempt_timeout_ms));
    told.cancelled().await;
}

#[tokio::test(start_paused = true)]
async fn a_kind_has_a_timeout_and_a_backoff_of_its_own() {
    let own = json!({"kinds": {"chat": {"attempt_timeout_ms": 3000, "retry": {"initial_ms": 40_000}}}});
    let (handlers, _told) = endless();
    let mut case = Case::under(handlers, &own);
    let started = Instant::now();
    let Some(Outcome::Retry { after_ms, .. }) = case.run().await else { panic!("it times out") };
    assert_eq!(started.elapsed(), 3000 * MS);
    assert!((20_000..=40_000).contains(&after_ms), "{after_ms}");
    case.lease.envelope.kind = "report".to_owned();
    let Some(Outcome::Retry { after_ms, .. }) = case.run().await else { panic!("it has no handler") };
    assert!(after_ms <= 500, "{after_ms}");
}

#[tokio::test(start_paused = true)]
async fn a_new_policy_leaves_a_running_attempt_its_bounds_and_has_its_say_about_the_next() {
    let (handlers, _told) = endless();
    let case = Case::under(handlers, &json!({"queue": {"attempt_timeout_ms": 3000}}));
    let started = Instant::now();
    let change = async {
        tokio::time::sleep(1000 * MS).await;
        let queue = json!({"attempt_timeout_ms": 1500, "retry": {"initial_ms": 40_000}});
        case.runner.policy.adopt(fake::stored(1, &json!({"queue": queue})));
    };
    let (outcome, ()) = tokio::join!(case.run(), change);
    assert_eq!(started.elapsed(), 3000 * MS);
    let Some(Outcome::Retry { error, after_ms }) = outcome else { panic!("{outcome:?}") };
    assert!(error.detail.contains("3000 ms"), "{}", error.detail);
    assert!(after_ms >= 20_000, "{after_ms}");
    let next = Instant::now();
    assert_eq!(code(case.run().await), "handler_timeout");
    assert_eq!(next.elapsed(), 1500 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_result_may_be_as_large_as_its_handler_was_told() {
    let handlers = Handlers::new().with("chat", |attempt: AttemptContext| async move {
        tokio::time::sleep(500 * MS).await;
        let body = vec![b'x'; attempt.max_result_bytes as usize].into();
        let result = TaskResult { content_type: "text/plain".to_owned(), body };
        HandlerOutcome::Succeeded { result, usage: Vec::new() }
    });
    let case = Case::under(handlers, &json!({"queue": {"max_result_bytes": 100}}));
    let change = async {
        tokio::time::sleep(100 * MS).await;
        case.runner.policy.adopt(fake::stored(1, &json!({"queue": {"max_result_bytes": 10}})));
    };
    let (outcome, ()) = tokio::join!(case.run(), change);
    assert_eq!(word(&outcome.unwrap()), "succeeded");
    let Some(Outcome::Succeeded { result, .. }) = case.run().await else { panic!("it succeeds") };
    assert_eq!(result.body.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_ends_it_within_a_second() {
    let (handlers, told) = endless();
    let case = Case::new(handlers);
    case.store.change(|contents| contents.renewals.insert(FencingToken(1), Renewal::Cancelled));
    let started = Instant::now();
    assert_eq!(word(&case.run().await.unwrap()), "cancelled");
    assert!(started.elapsed() < 1000 * MS);
    told.cancelled().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_ends_it_and_settles_nothing() {
    let (handlers, told) = endless();
    let case = Case::new(handlers);
    case.store.change(|contents| contents.renewals.insert(FencingToken(1), Renewal::Lost));
    assert!(case.run().await.is_none());
    told.cancelled().await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_the_lease_ends_it_and_settles_nothing() {
    let (handlers, told) = endless();
    let case = Case::new(handlers);
    case.store.change(|contents| contents.outage = true);
    assert!(case.run().await.is_none());
    told.cancelled().await;
}

#[tokio::test(start_paused = true)]
async fn stale_output_ends_it_and_settles_nothing() {
    let handlers = Handlers::new().with("chat", |attempt: AttemptContext| async move {
        let _ = attempt.output.send("zombie").await;
        pending().await
    });
    let case = Case::new(handlers);
    case.store.change(|contents| contents.stale.insert(FencingToken(1)));
    assert!(case.run().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_drain_time_hands_it_back() {
    let (handlers, told) = endless();
    let case = Case::new(handlers);
    let cutoff = case.runner.cutoff.clone();
    tokio::spawn(async move {
        tokio::time::sleep(3000 * MS).await;
        cutoff.cancel();
    });
    assert_eq!(word(&case.run().await.unwrap()), "handed back");
    told.cancelled().await;
}

#[tokio::test(start_paused = true)]
async fn results_are_bounded_for_every_handler() {
    let policy = json!({"queue": {"max_result_bytes": 4}});
    let result = |body: &'static str| HandlerOutcome::Succeeded {
        result: TaskResult { content_type: "text/plain".to_owned(), body: body.into() },
        usage: vec![("tokens".to_owned(), 3)],
    };
    let fits = Case::under(answering(result("1234")), &policy).run().await;
    assert_eq!(word(&fits.unwrap()), "succeeded");
    let outcome = Case::under(answering(result("12345")), &policy).run().await;
    let Some(Outcome::Failed { error, usage }) = outcome else { panic!("{outcome:?}") };
    assert_eq!((error.code.as_str(), usage.len()), ("result_too_large", 1));
}

#[tokio::test(start_paused = true)]
async fn a_wish_to_wait_counts_where_it_is_longer_than_the_backoff() {
    let retry = |after| HandlerOutcome::Retry { error: error("busy", "later"), after };
    for (asked, at_least_ms, at_most_ms) in
        [(None, 250, 500), (Some(MS), 250, 500), (Some(90_000 * MS), 90_000, 90_000)]
    {
        let outcome = Case::new(answering(retry(asked))).run().await;
        let Some(Outcome::Retry { after_ms, .. }) = outcome else { panic!("{outcome:?}") };
        assert!((at_least_ms..=at_most_ms).contains(&after_ms), "{after_ms} for {asked:?}");
    }
}
