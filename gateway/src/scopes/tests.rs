//! Scopes come, are shared and go.

use portcullis_lua::StoreOptions;

use super::duty::{SWEEP, UNUSED};
use super::*;
use crate::background::Background;
use crate::state::tests::shipped;
use crate::store_breaker::StoreBreaker;

/// The scopes of a gateway whose Redis is not there, at most `most` beside the default one.
fn scopes(most: usize) -> Arc<Scopes> {
    let url = "redis://127.0.0.1:1".to_owned();
    let timeout = Duration::from_millis(40);
    let store = Store::open(&StoreOptions { url, connections: 1, command_timeout: timeout }).unwrap();
    let shared = Shared {
        breaker: Arc::new(StoreBreaker::new(timeout, Duration::from_secs(1))),
        passes: Arc::default(),
        background: Background::default(),
        component: portcullis_config::Component::Ingress,
        replica: "gateway-1".into(),
        wake: Arc::default(),
        made: tokio::time::Instant::now(),
    };
    let mut scopes = Scopes::new(store, &scope("demo"), shipped(), shared);
    Arc::get_mut(&mut scopes).unwrap().most = most;
    scopes
}

fn scope(project: &str) -> Scope {
    Scope::new("acme", project).unwrap()
}

/// Puts a scope in as if it had been opened.
fn fill(scopes: &Scopes, project: &str) -> Arc<ServedScope> {
    let number = scopes.next_number.fetch_add(1, Ordering::Relaxed);
    let served = ServedScope::new(number, scopes.store.scope(&scope(project)), shipped(), &scopes.shared);
    let served = Arc::new(served);
    scopes.write().entry(scope(project)).or_default().fill(served.clone());
    served
}

#[tokio::test]
async fn the_default_scope_is_there_without_redis_and_no_other_is() {
    let scopes = scopes(8);
    let default = scopes.serve(&scope("demo")).await.unwrap();
    assert!(Arc::ptr_eq(&default, scopes.default_scope()));
    assert!(matches!(scopes.serve(&scope("other")).await, Err(StoreError::Unavailable(_))));
    assert!(scopes.read().is_empty(), "nothing is kept of a scope that could not be made");
}

#[tokio::test]
async fn a_served_scope_is_shared_and_needs_no_redis_any_longer() {
    let scopes = scopes(8);
    let first = fill(&scopes, "a");
    assert!(Arc::ptr_eq(&first, &scopes.serve(&scope("a")).await.unwrap()));
    let b = fill(&scopes, "b");
    assert_ne!(first.number(), b.number());
    assert_eq!(scopes.served().len(), 3);
}

#[tokio::test]
async fn of_those_who_come_for_a_scope_while_it_is_made_all_get_the_same() {
    let scopes = scopes(8);
    let slot = scopes.slot(&scope("a")).await.unwrap();
    let turn = slot.turn().await;
    let waiting = tokio::spawn({
        let scopes = scopes.clone();
        async move { scopes.serve(&scope("a")).await }
    });
    tokio::task::yield_now().await;
    let made = fill(&scopes, "a");
    drop(turn);
    assert!(Arc::ptr_eq(&made, &waiting.await.unwrap().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn only_what_nobody_uses_or_has_used_lately_is_dropped() {
    let scopes = scopes(8);
    let in_use = fill(&scopes, "in-use");
    drop(fill(&scopes, "unused"));
    tokio::time::advance(UNUSED.mul_f64(0.99)).await;
    drop(fill(&scopes, "lately"));
    let sweeping = tokio::spawn(scopes.clone().keep_swept());
    tokio::time::advance(SWEEP).await;
    while scopes.find(&scope("unused")).is_some() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(scopes.find(&scope("in-use")).is_some() && scopes.find(&scope("lately")).is_some());
    drop(in_use);
    while scopes.find(&scope("in-use")).is_some() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    sweeping.abort();
}

#[tokio::test(start_paused = true)]
async fn a_full_gateway_makes_room_by_dropping_the_longest_unused_scope() {
    let scopes = scopes(3);
    drop(fill(&scopes, "first"));
    let in_use = fill(&scopes, "in-use");
    tokio::time::advance(Duration::from_secs(1)).await;
    drop(fill(&scopes, "second"));
    tokio::time::advance(Duration::from_secs(1)).await;
    let slot = scopes.slot(&scope("new")).await.unwrap();
    assert!(scopes.find(&scope("first")).is_none());
    let second = scopes.find(&scope("second")).unwrap();
    let full = scopes.slot(&scope("newer")).await;
    assert!(matches!(full, Err(StoreError::Unavailable(_))), "all are in use, one by whoever is about to fill it");
    drop(slot);
    assert!(scopes.slot(&scope("newer")).await.is_ok(), "whoever was about to fill it has gone");
    drop((second, in_use));
}

#[tokio::test]
async fn a_scope_whose_counts_cannot_be_written_yet_is_not_dropped() {
    let scopes = scopes(8);
    let served = fill(&scopes, "a");
    served.tally().count("admitted", &portcullis_config::UserType::anonymous(), true);
    drop(served);
    let (unused, slot) = scopes.longest_unused().unwrap();
    scopes.close(&unused, slot).await;
    let kept = scopes.find(&unused).expect("there is no Redis to write them to");
    let flush = kept.tally().next_flush().expect("it was kept");
    assert_eq!(flush.entries[0].count, 1);
    kept.tally().written(&flush);
    drop(kept);
    let (unused, slot) = scopes.longest_unused().unwrap();
    scopes.close(&unused, slot).await;
    assert!(scopes.find(&unused).is_none());
}

#[tokio::test]
async fn a_caller_who_goes_away_while_a_scope_is_made_leaves_nothing_that_stays() {
    let scopes = scopes(8);
    let slot = scopes.slot(&scope("a")).await.unwrap();
    drop(slot);
    assert_eq!(scopes.read().len(), 1);
    let (abandoned, slot) = scopes.longest_unused().unwrap();
    scopes.close(&abandoned, slot).await;
    assert!(scopes.read().is_empty());
}

#[tokio::test]
async fn news_is_for_the_scope_it_names() {
    let scopes = scopes(8);
    let (a, b) = (fill(&scopes, "a"), fill(&scopes, "b"));
    for served in [&a, &b] {
        served.settle_for_tests();
    }
    scopes.note_news(&scope("a"));
    scopes.note_news(&scope("nobody-serves-it"));
    assert_eq!((a.is_due(), b.is_due()), (true, false));
    scopes.note_news_of_all();
    assert!(b.is_due());
}
