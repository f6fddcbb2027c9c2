//! Ten times as many requests as an application can take: it is kept busy with as many as it can take, and no more.
//!
//! Counts requests, not time: the application is done with one request for every ten that are offered, however fast
//! they come, so ten times the load is what there is on any machine. What is missing from its places whenever it is
//! done with one is capacity that was lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::application::Application;
use super::before;
use crate::fixture::{start, until};

/// Places of the pool, of which the hard limit leaves 95 to anybody.
const PLACES: u64 = 100;
const TAKEN: usize = 95;
/// Callers that find no place and come again at once.
const TURNED_AWAY: usize = 10;
/// Requests offered for each that the application can take.
const OVERLOAD: u32 = 10;
/// Answers it gives.
const ANSWERS: usize = 400;

#[tokio::test]
async fn ten_times_the_load_leaves_goodput_at_capacity() {
    let application = Application::start().await;
    let policy = json!({
        "route_classes": { "work": { "patterns": ["/guarded/"], "max_concurrent": PLACES, "throttled": false } },
    });
    let cluster = start(before(&application, policy).gateways(2)).await;
    let (offered, stop) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicBool::new(false)));
    let (served, refused) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let mut callers = JoinSet::new();
    for number in 0..TAKEN + TURNED_AWAY {
        let client = cluster.gateway(number).caller("privileged", &format!("caller-{number}"));
        let (offered, stop, served, refused) = (offered.clone(), stop.clone(), served.clone(), refused.clone());
        callers.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let answer = client.get("/guarded/held").await.expect("an answer");
                match (answer.status, answer.code()) {
                    (200, _) => served.fetch_add(1, Ordering::SeqCst),
                    (503, "hard_limit") => refused.fetch_add(1, Ordering::SeqCst),
                    _ => panic!("{}: {}", answer.status, answer.text),
                };
                offered.add_permits(1);
            }
        });
    }
    until("every place is taken", || async { (application.running() == TAKEN).then_some(()) }).await;
    let (mut lost, mut most) = (0, 0);
    for _ in 0..ANSWERS {
        offered.acquire_many(OVERLOAD).await.expect("never closed").forget();
        let running = application.running();
        (lost, most) = (lost + TAKEN.saturating_sub(running), most.max(running));
        application.release(1);
    }
    let refused = refused.load(Ordering::SeqCst);
    stop.store(true, Ordering::SeqCst);
    application.release(TAKEN + TURNED_AWAY);
    while let Some(caller) = callers.join_next().await {
        caller.expect("it ran");
    }
    let served = served.load(Ordering::SeqCst);
    assert!(served >= ANSWERS && refused >= ANSWERS * 8, "served {served}, refused {refused}");
    assert!(most <= TAKEN, "{most} at once");
    let share = lost as f64 / (ANSWERS * TAKEN) as f64;
    assert!(share <= 0.05, "{:.1} % of the capacity was lost", share * 100.0);
}
