//! When a processor speaks, and what it says.

use tokio::time::Instant;

use super::*;
use crate::fake::{self, Contents, FakeStore};
use crate::handler::{Echo, Handlers};

struct Case {
    store: Arc<FakeStore>,
    pulse: Pulse,
}

impl Case {
    fn new(slots: Option<u32>) -> Self {
        let store = FakeStore::with(Contents::default());
        let runner = Arc::new(fake::runner(&store, Handlers::new().with("chat", Echo), fake::policy()));
        let pulse = Pulse {
            worker: "w".to_owned(),
            instance: "i".to_owned(),
            version: "1".to_owned(),
            runner,
            occupancy: fake::occupancy(slots),
            contact: Contact::new(),
            drain: CancellationToken::new(),
        };
        Self { store, pulse }
    }

    /// Beats until `seen` says so.
    async fn beat_until(&self, seen: impl FnMut(&Contents) -> bool) {
        let stop = CancellationToken::new();
        tokio::select! {
            () = self.pulse.run(&stop) => unreachable!("nobody stops it"),
            () = self.store.until(seen) => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn it_speaks_at_once_and_five_times_per_timeout() {
    let case = Case::new(Some(3));
    let started = Instant::now();
    case.beat_until(|contents| contents.beats.len() == 1).await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    let beat = case.store.read(|contents| contents.beats[0].clone());
    assert_eq!((beat.slots, beat.draining, beat.kinds), (3, false, vec!["chat".to_owned()]));
    let timeout_seconds = fake::policy().monitoring.heartbeat_timeout_seconds;
    case.beat_until(|contents| contents.beats.len() == 7).await;
    assert!(started.elapsed() <= Duration::from_secs(timeout_seconds));
}

#[tokio::test(start_paused = true)]
async fn it_says_at_once_that_it_drains() {
    let case = Case::new(None);
    let drain = case.pulse.drain.clone();
    let told = async {
        case.store.until(|contents| !contents.beats.is_empty()).await;
        drain.cancel();
        Instant::now()
    };
    let ((), told) = tokio::join!(case.beat_until(|contents| contents.beats.iter().any(|beat| beat.draining)), told);
    assert_eq!(told.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn it_says_at_once_that_its_slots_have_changed() {
    let case = Case::new(None);
    let before = u32::try_from(fake::policy().service_capacity.concurrent_requests_per_process).unwrap();
    let mut policy = fake::policy();
    policy.service_capacity.concurrent_requests_per_process += 4;
    let told = async {
        case.store.until(|contents| !contents.beats.is_empty()).await;
        case.pulse.runner.policy.replace(policy, 9);
        Instant::now()
    };
    let ((), told) = tokio::join!(case.beat_until(|contents| contents.beats.len() == 2), told);
    assert_eq!(told.elapsed(), Duration::ZERO);
    let said: Vec<_> =
        case.store.read(|contents| contents.beats.iter().map(|beat| (beat.slots, beat.policy_revision)).collect());
    assert_eq!(said, [(before, 0), (before + 4, 9)]);
}

#[tokio::test(start_paused = true)]
async fn an_older_policy_is_ignored() {
    let handle = crate::policy::PolicyHandle::new(fake::policy(), 5);
    handle.replace(portcullis_config::Policy::shipped("acme", "other"), 4);
    assert_eq!(handle.load().policy.project, "shop");
}

#[tokio::test(start_paused = true)]
async fn it_counts_again_soon_after_an_outage() {
    let case = Case::new(Some(1));
    case.store.change(|contents| contents.outage = true);
    let recovery = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        case.store.change(|contents| contents.outage = false);
        Instant::now()
    };
    let ((), back) = tokio::join!(case.beat_until(|contents| !contents.beats.is_empty()), recovery);
    assert!(back.elapsed() <= Duration::from_millis(100));
    assert!(!case.pulse.contact.steady_for(Duration::from_millis(101)), "the outage was a break");
    assert!(case.pulse.contact.steady_for(Duration::ZERO));
}
