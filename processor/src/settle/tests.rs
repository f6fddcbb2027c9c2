//! Batches, outages, refusals and stale tokens.

use std::time::Duration;

use portcullis_lua::FencingToken;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;
use crate::fake::{self, Contents, FakeStore};
use crate::lease::Leases;

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
        let lease = fake::lease("chat", token);
        let held = self.leases.hold(&lease, Instant::now(), 1000);
        self.ended.send(Ended::new(lease, Outcome::Expired, held)).await.unwrap();
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
