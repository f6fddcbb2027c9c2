//! Passes of many gateways at once, by Redis's own clock.
//!
//! Must never inject a time: what is tried here is that nobody needs one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use portcullis_loadtest::cluster::stand_in_beat;
use portcullis_loadtest::eventually;
use portcullis_lua::{
    AdmitRequest, CompiledPolicy, PassEnded, PassLease, PassOutcome, PolicyStamp, ScopeStore, Verdict,
};

use super::pass::{budget, end, extension, pass, pool};
use super::stage::{Act, Stage, request, roomy};

/// Stores as of as many gateways, all of the same scope.
async fn gateways(stage: &Stage, act: &Act) -> Vec<ScopeStore> {
    let stores = [stage.store.clone(), stage.another_store().await, stage.another_store().await];
    stores.iter().map(|store| store.scope(act.store.scope())).collect()
}

async fn enter(store: &ScopeStore, policy: &CompiledPolicy, asked: AdmitRequest) -> Option<PassLease> {
    match store.admit(policy, &[asked]).await.expect("a decision").remove(0).verdict {
        Verdict::Passed { lease } => lease,
        Verdict::Refused(_) => None,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_96_at_once_over_three_gateways_exactly_the_places_of_the_pool_are_given() {
    let stage = Stage::set().await;
    let mut policy = roomy();
    pool(&mut policy, "reports", 20);
    let policy = CompiledPolicy::new(&policy, PolicyStamp::NONE);
    for round in 0..5 {
        let act = stage.act();
        let gateways = gateways(&stage, &act).await;
        let asked = (0..96).map(|caller| enter(&gateways[caller % 3], &policy, pass("reports", "paid", 600_000)));
        let leases: Vec<PassLease> = join_all(asked).await.into_iter().flatten().collect();
        assert_eq!(leases.len(), 18, "round {round}: nine tenths of 20");

        // Each is ended by all gateways at once, and by one of them in truth.
        let ends: Vec<_> = leases.iter().map(|lease| end(lease, PassOutcome::Succeeded)).collect();
        let ended = join_all(gateways.iter().map(|store| store.finish(&policy, &ends))).await;
        let ended: Vec<Vec<PassEnded>> = ended.into_iter().map(|ended| ended.expect("an answer")).collect();
        for place in 0..leases.len() {
            assert_eq!(
                ended.iter().filter(|ended| ended[place] == PassEnded::Now).count(),
                1,
                "round {round}, place {place}"
            );
        }
        let view = act.store.queues(&policy).await.expect("an answer");
        assert_eq!(view.pools["reports"].in_flight, 0, "round {round}");
    }
}

/// Counts what is in flight by itself, between the answer that gave a place and the call that gives it back: never more
/// than there are places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_they_come_and_go_no_more_are_in_flight_than_there_are_places() {
    const PLACES: u64 = 8;
    let stage = Stage::set().await;
    let act = stage.act();
    let mut policy = roomy();
    pool(&mut policy, "reports", PLACES);
    budget(&mut policy, 1_000_000);
    let policy = CompiledPolicy::new(&policy, PolicyStamp::NONE);
    let gateways = gateways(&stage, &act).await;
    let (inside, most, through) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    join_all((0..40).map(|caller| {
        let (store, policy) = (&gateways[caller % 3], &policy);
        let (inside, most, through) = (&inside, &most, &through);
        async move {
            for _ in 0..25 {
                let Some(lease) = enter(store, policy, pass("reports", "privileged", 600_000)).await else { continue };
                most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                assert_eq!(store.extend(policy, &[extension(&lease, None)]).await, Ok(vec![true]));
                inside.fetch_sub(1, Ordering::SeqCst);
                let ended = store.finish(policy, &[end(&lease, PassOutcome::Abandoned)]).await;
                assert_eq!(ended, Ok(vec![PassEnded::Now]));
                through.fetch_add(1, Ordering::SeqCst);
            }
        }
    }))
    .await;
    let (most, through) = (most.into_inner(), through.into_inner());
    assert!(most < PLACES, "{most} at once: the hard limit of {PLACES} is 7");
    assert!(most > 1 && through > PLACES, "{most} at once, {through} in all: nobody was in anybody's way");
    let view = act.store.queues(&policy).await.expect("an answer");
    assert_eq!(view.pools["reports"].in_flight, 0);
    let left = act.store.peek(&policy, &[request("paid", "s")]).await.expect("a decision").remove(0);
    assert_eq!((left.budgets[0].held, left.budgets[0].spent), (0, 0));
}

/// A gateway dies with passes in flight; the others give back what it held, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_gateway_held_that_vanished_comes_back_by_itself() {
    let stage = Stage::set().await;
    let act = stage.act();
    let mut policy = roomy();
    pool(&mut policy, "reports", 50);
    budget(&mut policy, 1_000_000);
    let policy = Arc::new(CompiledPolicy::new(&policy, PolicyStamp::NONE));
    act.store.heartbeat(&policy, &stand_in_beat("w".to_owned(), 1_000)).await.expect("an answer");
    let gateways = gateways(&stage, &act).await;
    for kind in ["reports", "guarded"] {
        for _ in 0..20 {
            enter(&gateways[0], &policy, pass(kind, "privileged", 200)).await.expect("a place");
        }
    }
    let kept = enter(&gateways[1], &policy, pass("reports", "privileged", 600_000)).await.expect("a place");
    let held = |view: &portcullis_lua::QueueView| view.passes + view.pools["reports"].in_flight;
    eventually(Duration::from_secs(20), "their places are free", || async {
        (held(&gateways[1].queues(&policy).await.ok()?) == 1).then_some(())
    })
    .await
    .expect("free places");
    let taken_back = join_all(gateways[1..].iter().map(|store| store.lapse(&policy, 0))).await;
    let taken_back: usize = taken_back.into_iter().map(|lapsed| lapsed.expect("an answer").taken_back).sum();
    assert_eq!(taken_back, 40, "each once");
    let left = act.store.peek(&policy, &[request("paid", "s")]).await.expect("a decision").remove(0);
    assert_eq!((left.budgets[0].held, left.budgets[0].spent), (10, 0));
    assert_eq!(gateways[1].finish(&policy, &[end(&kept, PassOutcome::Succeeded)]).await, Ok(vec![PassEnded::Now]));
    assert_eq!(held(&act.store.queues(&policy).await.expect("an answer")), 0);
}
