//! Renewal, trust and loss, on a clock that only moves when everybody waits.

use std::pin::pin;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::fake::{self, FakeStore};

const LEASE_MS: u64 = 1000;
const MS: Duration = Duration::from_millis(1);

/// Keeps the leases while `work` runs.
async fn keeping<T>(leases: &Leases, store: &FakeStore, work: impl Future<Output = T>) -> T {
    let (policy, stop) = (fake::live(&json!({})), CancellationToken::new());
    tokio::select! {
        done = work => done,
        () = leases.keep(store, &policy, &stop) => unreachable!("nobody stops it"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_unrenewed_lease_is_lost_before_it_can_lapse() {
    let leases = Leases::default();
    let sent = Instant::now();
    sleep(300 * MS).await; // the claim took this long to be answered
    let held = leases.hold(&fake::lease("chat", 1), sent, LEASE_MS);
    assert!(held.trusted());
    assert_eq!(held.ended().await, LeaseEnd::Lost);
    assert_eq!(sent.elapsed(), 900 * MS);
    assert!(!held.trusted());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_half_over_when_it_comes_is_renewed_at_once() {
    let (leases, store) = (Leases::default(), FakeStore::with(fake::Contents::default()));
    keeping(&leases, &store, async {
        let sent = Instant::now();
        sleep(510 * MS).await;
        let renewed = store.read(|contents| contents.renew_calls.len());
        let held = leases.hold(&fake::lease("chat", 1), sent, LEASE_MS);
        store.until(|contents| contents.renew_calls.len() > renewed).await;
        assert_eq!(sent.elapsed(), 510 * MS);
        sleep(800 * MS).await;
        assert!(held.trusted());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_renewed_lease_goes_on_and_an_outage_ends_it() {
    let (leases, store) = (Leases::default(), FakeStore::with(fake::Contents::default()));
    let held = leases.hold(&fake::lease("chat", 1), Instant::now(), LEASE_MS);
    keeping(&leases, &store, async {
        let mut ended = pin!(held.ended());
        tokio::select! {
            end = &mut ended => panic!("{end:?} although it is renewed"),
            () = store.until(|contents| contents.renew_calls.len() == 20) => {}
        }
        store.change(|contents| contents.outage = true);
        let outage = Instant::now();
        assert_eq!(ended.await, LeaseEnd::Lost);
        assert!(outage.elapsed() <= 900 * MS);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_renewal_without_an_answer_may_have_made_a_long_lease_short() {
    let (leases, store) = (Leases::default(), FakeStore::with(fake::Contents::default()));
    let began = Instant::now();
    // Held under a policy of much longer leases than the one in force.
    let held = leases.hold(&fake::lease("chat", 1), began, 60 * LEASE_MS);
    store.change(|contents| contents.outage = true);
    let end = keeping(&leases, &store, held.ended()).await;
    assert_eq!(end, LeaseEnd::Lost);
    assert!(began.elapsed() < 2 * Duration::from_millis(LEASE_MS), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_loses_nothing() {
    let (leases, store) = (Leases::default(), FakeStore::with(fake::Contents::default()));
    let held = leases.hold(&fake::lease("chat", 1), Instant::now(), LEASE_MS);
    keeping(&leases, &store, async {
        store.change(|contents| contents.outage = true);
        sleep(700 * MS).await;
        store.change(|contents| contents.outage = false);
        tokio::select! {
            end = held.ended() => panic!("{end:?} although Redis came back in time"),
            () = store.until(|contents| contents.renew_calls.len() == 5) => {}
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn renewal_tells_each_lease_its_own_end() {
    let (leases, store) = (Leases::default(), FakeStore::with(fake::Contents::default()));
    let [kept, cancelled, lost] =
        [1, 2, 3].map(|token| leases.hold(&fake::lease("chat", token), Instant::now(), LEASE_MS));
    store.change(|contents| {
        contents.renewals.insert(FencingToken(2), Renewal::Cancelled);
        contents.renewals.insert(FencingToken(3), Renewal::Lost);
    });
    keeping(&leases, &store, async {
        assert_eq!(cancelled.ended().await, LeaseEnd::Cancelled);
        assert_eq!(lost.ended().await, LeaseEnd::Lost);
        assert!(cancelled.trusted() && !lost.trusted() && kept.trusted());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_lease_is_renewed_no_more() {
    let (leases, store) = (Leases::default(), FakeStore::with(fake::Contents::default()));
    let [first, second] = [1, 2].map(|token| leases.hold(&fake::lease("chat", token), Instant::now(), LEASE_MS));
    keeping(&leases, &store, async {
        store.until(|contents| contents.renew_calls == [2]).await;
        drop(first);
        store.until(|contents| contents.renew_calls == [2, 1]).await;
        drop(second);
        sleep(10_000 * MS).await;
        assert_eq!(store.read(|contents| contents.renew_calls.len()), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn many_leases_are_renewed_in_bounded_calls() {
    let (leases, store) = (Leases::default(), FakeStore::with(fake::Contents::default()));
    let held: Vec<Held> =
        (1..=150).map(|token| leases.hold(&fake::lease("chat", token), Instant::now(), LEASE_MS)).collect();
    keeping(&leases, &store, store.until(|contents| contents.renew_calls == [64, 64, 22])).await;
    assert!(held.iter().all(Held::trusted));
}
