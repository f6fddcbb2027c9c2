//! Ten times as many requests as an application can take: it is kept busy with as many as it can take, and no more.
//!
//! Counts requests, not time: the application lets a request go for each tick of a clock of its own, and a tick that
//! finds nobody is work that could have been done and was not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;
use tokio::task::JoinSet;

use super::application::Application;
use super::before;
use crate::fixture::{start, until};

/// Places of the pool; the hard limit leaves 19 of them to anybody.
const PLACES: u64 = 20;
const TAKEN: usize = 19;
/// Ten callers for each place.
const CALLERS: usize = 10 * TAKEN;
/// Answers that are given.
const ANSWERS: usize = 1000;

#[tokio::test]
async fn ten_times_the_load_leaves_goodput_at_capacity() {
    let application = Arc::new(Application::start().await);
    let policy = json!({
        "rate_limits": { "roles": { "privileged": { "burst": 1_000_000, "burst_window": 60, "hourly": -1 } } },
        "route_classes": { "work": { "patterns": ["/guarded/"], "max_concurrent": PLACES, "throttled": false } },
    });
    let cluster = start(before(&application, policy).gateways(2)).await;
    let (stop, served, refused) = (Arc::new(AtomicBool::new(false)), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let client = cluster.gateway(number).caller("privileged", &format!("caller-{number}"));
        let (stop, served, refused) = (stop.clone(), served.clone(), refused.clone());
        callers.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let answer = client.get("/guarded/held").await.expect("an answer");
                match answer.status {
                    200 => served.fetch_add(1, Ordering::SeqCst),
                    503 => {
                        // A client that is told to wait and comes again far too soon.
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                        refused.fetch_add(1, Ordering::SeqCst)
                    }
                    status => panic!("{status}: {}", answer.text),
                };
            }
        });
    }
    until("every place is taken", || async { (application.running() == TAKEN).then_some(()) }).await;
    // Capacity is a place at work at every tick; what is missing at a tick is lost.
    let (mut lost, mut most) = (0, 0);
    for _ in 0..ANSWERS {
        let running = application.running();
        (lost, most) = (lost + TAKEN.saturating_sub(running), most.max(running));
        application.release(1);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::SeqCst);
    application.release(CALLERS);
    while let Some(caller) = callers.join_next().await {
        caller.expect("it ran");
    }
    let (served, refused) = (served.load(Ordering::SeqCst), refused.load(Ordering::SeqCst));
    assert!(served >= ANSWERS && refused > served, "served {served}, refused {refused}");
    assert!(most <= TAKEN, "{most} at once");
    let idle = lost as f64 / (ANSWERS * TAKEN) as f64;
    assert!(idle <= 0.05, "{:.1} % of the capacity was not used", idle * 100.0);
}
