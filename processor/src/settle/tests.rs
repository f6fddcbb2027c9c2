//! Batches, outages, refusals and stale tokens.

use std::ops::RangeInclusive;
use std::time::Duration;

use portcullis_lua::{FencingToken, TaskResult};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;
use crate::fake::{self, Contents, FakeStore};
use crate::lease::Leases;

/// Longer than any test, in its time.
const LONG_MS: u64 = 3_600_000;

struct Case {
    store: Arc<FakeStore>,
    leases: Leases,
    ended: mpsc::Sender<Ended>,
    settling: JoinSet<()>,
}

impl Case {
    fn new(contents: Contents) -> Self {
        let store = FakeStore::with(contents);
        let (ended, receiver) = mpsc::channel(WAITING);
        let mut settling = JoinSet::new();
        settling.spawn(Settler::new(Arc::clone(&store) as Arc<dyn TaskStore>, receiver).run());
        Self { store, leases: Leases::default(), ended, settling }
    }

    async fn end(&self, token: u64) {
        self.end_as(token, Outcome::Expired, 1000).await;
    }

    async fn end_as(&self, token: u64, outcome: Outcome, lease_ms: u64) {
        let lease = fake::lease("chat", token);
        let held = self.leases.hold(&lease, Instant::now(), lease_ms);
        self.ended.send(Ended::new(lease, outcome, held)).await.unwrap();
    }

    /// Has Redis refuse these, and ends them under leases that last as long as the test.
    async fn end_stubborn(&self, tokens: RangeInclusive<u64>, outcome: &Outcome) {
        self.store.change(|contents| contents.refused.extend(tokens.clone().map(FencingToken)));
        for token in tokens {
            self.end_as(token, outcome.clone(), LONG_MS).await;
        }
    }

    /// How many leases are being kept.
    async fn kept(&self) -> usize {
        let (policy, stop) = (fake::live(&serde_json::json!({})), tokio_util::sync::CancellationToken::new());
        let store = FakeStore::default();
        self.leases.renew_now();
        _ = tokio::time::timeout(Duration::from_millis(1), self.leases.keep(&store, &policy, &stop)).await;
        store.read(|contents| contents.renew_calls.iter().sum())
    }

    /// Waits for the settler to finish what it has; its tokens in the order they were settled.
    async fn tokens(mut self) -> Vec<u64> {
        drop(self.ended);
        self.settling.join_next().await.unwrap().unwrap();
        self.store.outcomes().into_iter().map(|(token, _)| token.0).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn what_gathers_during_a_call_goes_together() {
    let case = Case::new(Contents { settle_hangs: true, ..Contents::default() });
    case.end(1).await;
    case.store.until(|contents| contents.settle_calls == 1).await;
    for token in 2..=20 {
        case.end(token).await;
    }
    case.store.change(|contents| contents.settle_hangs = false);
    case.store.until(|contents| contents.settled.len() == 20).await;
    assert_eq!(case.store.read(|contents| contents.batches.clone()), [1, 16, 3]);
    assert_eq!(case.tokens().await, (1..=20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_any_length_loses_no_settlement() {
    let case = Case::new(Contents { outage: true, ..Contents::default() });
    for token in 1..=5 {
        case.end(token).await;
    }
    tokio::time::sleep(Duration::from_secs(20)).await; // twenty leases long
    assert!(case.store.read(|contents| contents.settle_calls) > 5);
    case.store.change(|contents| contents.outage = false);
    let mut tokens = case.tokens().await;
    tokens.sort_unstable();
    assert_eq!(tokens, [1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_settlement_holds_up_nobody_and_is_given_up_with_its_lease() {
    let case = Case::new(Contents { settle_hangs: true, ..Contents::default() });
    case.store.change(|contents| contents.refused.insert(FencingToken(3)));
    for token in 1..=5 {
        case.end(token).await;
    }
    case.store.change(|contents| contents.settle_hangs = false);
    case.store.until(|contents| contents.settled.len() == 4).await;
    let started = Instant::now();
    assert_eq!(case.tokens().await.len(), 4);
    assert!(started.elapsed() <= Duration::from_millis(900 + 2 * 500), "kept until the lease lapsed, and no longer");
}

#[tokio::test(start_paused = true)]
async fn a_refused_settlement_is_sent_again_while_its_lease_lasts() {
    let case = Case::new(Contents::default());
    case.store.change(|contents| contents.refused.insert(FencingToken(1)));
    case.end(1).await;
    case.store.until(|contents| contents.batches.len() == 3).await;
    case.store.change(|contents| contents.refused.clear());
    assert_eq!(case.tokens().await, [1]);
}

fn work() -> Outcome {
    let result = TaskResult { content_type: "text/plain".to_owned(), body: Bytes::from_static(b"done") };
    Outcome::Succeeded { result, usage: Vec::new() }
}

#[tokio::test(start_paused = true)]
async fn however_many_are_refused_for_long_the_others_are_settled_and_none_is_lost() {
    let case = Case::new(Contents::default());
    case.end_stubborn(1..=40, &Outcome::Expired).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    for token in 41..=45 {
        case.end(token).await;
    }
    let arrived = Instant::now();
    case.store.until(|contents| contents.settled.len() == 5).await;
    assert_eq!(arrived.elapsed(), Duration::ZERO);
    assert_eq!(case.kept().await, 40, "their leases are renewed");
    case.store.change(|contents| contents.refused.clear());
    let mut tokens = case.tokens().await;
    tokens.sort_unstable();
    assert_eq!(tokens, (1..=45).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn those_that_are_refused_for_long_are_hardly_sent() {
    let case = Case::new(Contents::default());
    case.end_stubborn(1..=40, &work()).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let calls = || case.store.read(|contents| contents.settle_calls);
    let before = calls();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let each = (calls() - before) / 40;
    assert!((29..=61).contains(&each), "{each} in a minute");
}

#[tokio::test(start_paused = true)]
async fn there_is_a_bound_to_what_is_set_aside_and_finished_work_is_the_last_to_go() {
    let case = Case::new(Contents::default());
    case.end_stubborn(1..=100, &Outcome::Expired).await;
    case.end(101).await;
    case.store.until(|contents| contents.settled.len() == 1).await;
    assert_eq!(case.kept().await, aside::ASIDE, "the other leases may lapse");
    case.end_stubborn(201..=210, &work()).await;
    case.end(102).await;
    case.store.until(|contents| contents.settled.len() == 2).await;
    assert_eq!(case.kept().await, aside::ASIDE);
    case.store.change(|contents| contents.refused.clear());
    let tokens = case.tokens().await;
    assert_eq!((tokens.len(), tokens.iter().filter(|&&token| token > 200).count()), (2 + aside::ASIDE, 10));
}

#[tokio::test(start_paused = true)]
async fn finished_work_is_never_let_go_while_its_lease_is_ours() {
    let case = Case::new(Contents::default());
    let all = aside::ASIDE as u64 + 10;
    case.end_stubborn(1..=all, &work()).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(case.kept().await, all as usize);
    case.store.change(|contents| contents.refused.clear());
    let mut tokens = case.tokens().await;
    tokens.sort_unstable();
    assert_eq!(tokens, (1..=all).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_stale_settlement_is_not_repeated() {
    let case = Case::new(Contents::default());
    case.store.change(|contents| contents.stale.insert(FencingToken(1)));
    case.end(1).await;
    case.end(2).await;
    assert_eq!(case.tokens().await, [2]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_until_it_is_settled() {
    let case = Case::new(Contents { settle_hangs: true, ..Contents::default() });
    let policy = fake::live(&serde_json::json!({}));
    let stop = tokio_util::sync::CancellationToken::new();
    case.end(1).await;
    tokio::select! {
        () = case.leases.keep(case.store.as_ref(), &policy, &stop) => unreachable!("nobody stops it"),
        () = case.store.until(|contents| contents.renew_calls.len() == 3) => {}
    }
    case.store.change(|contents| contents.settle_hangs = false);
    let leases = case.leases.clone();
    assert_eq!(case.tokens().await, [1]);
    let store = FakeStore::default();
    let _ = tokio::time::timeout(Duration::from_secs(5), leases.keep(&store, &policy, &stop)).await;
    assert!(store.read(|contents| contents.renew_calls.is_empty()), "settled leases are renewed no more");
}

#[test]
fn what_must_not_run_is_settled_by_its_purpose() {
    let words = [Purpose::Run, Purpose::Expire, Purpose::Cancel, Purpose::Bury]
        .map(|purpose| unrun(purpose).as_ref().map(fake::word));
    assert_eq!(words, [None, Some("expired"), Some("cancelled"), Some("dead")]);
}
