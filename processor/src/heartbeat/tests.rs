//! When a processor speaks, and what it says.

use serde_json::json;
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
        let runner = Arc::new(fake::runner(&store, Handlers::new().with("chat", Echo), fake::live(&json!({}))));
        let pulse = Pulse {
            worker: "w".to_owned(),
            instance: "i".to_owned(),
            version: "1".to_owned(),
            runner,
            occupancy: fake::occupancy(slots),
            contact: Contact::new(),
            heard: watch::Sender::default(),
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
async fn it_says_at_once_that_its_policy_and_slots_have_changed() {
    let case = Case::new(None);
    let before = u32::try_from(fake::policy().service_capacity.concurrent_requests_per_process).unwrap();
    let changed = fake::stored(9, &json!({"service_capacity": {"concurrent_requests_per_process": before + 4}}));
    let told = async {
        case.store.until(|contents| !contents.beats.is_empty()).await;
        case.pulse.runner.policy.adopt(changed);
        Instant::now()
    };
    let ((), told) = tokio::join!(case.beat_until(|contents| contents.beats.len() == 2), told);
    assert_eq!(told.elapsed(), Duration::ZERO);
    let said: Vec<_> =
        case.store.read(|contents| contents.beats.iter().map(|beat| (beat.slots, beat.policy_revision)).collect());
    assert_eq!(said, [(before, 0), (before + 4, 9)]);
}

#[tokio::test(start_paused = true)]
async fn it_holds_a_policy_only_when_nothing_can_be_claimed_under_the_one_before() {
    let case = Case::new(None);
    let before = case.pulse.runner.policy.load();
    case.pulse.occupancy.claiming.send_replace(Some(before));
    let answered = async {
        case.store.until(|contents| !contents.beats.is_empty()).await;
        case.pulse.runner.policy.adopt(fake::stored(9, &json!({})));
        case.store.until(|contents| contents.beats.len() == 2).await;
        case.pulse.occupancy.claiming.send_replace(None);
        Instant::now()
    };
    let ((), answered) = tokio::join!(case.beat_until(|contents| contents.beats.len() == 3), answered);
    assert_eq!(answered.elapsed(), Duration::ZERO);
    let said: Vec<_> = case.store.read(|contents| contents.beats.iter().map(|beat| beat.policy_revision).collect());
    assert_eq!(said, [0, 0, 9]);
}

#[tokio::test(start_paused = true)]
async fn it_says_why_it_cannot_put_the_stored_policy_in_force() {
    let case = Case::new(None);
    let mut unknown = fake::stored(9, &json!({}));
    unknown.document = r#"{"tenant":"acme","project":"shop","key_of_a_later_version":1}"#.to_owned();
    case.pulse.runner.policy.adopt(unknown);
    case.beat_until(|contents| !contents.beats.is_empty()).await;
    let beat = case.store.read(|contents| contents.beats[0].clone());
    assert_eq!(beat.policy_revision, 0);
    assert!(beat.policy_fault.unwrap().contains("key_of_a_later_version"));
}

#[tokio::test(start_paused = true)]
async fn it_passes_on_what_it_hears_of_the_stored_policy() {
    let case = Case::new(None);
    let held = fake::stored(2, &json!({}));
    let heard = Heard { held: held.stamp, stored: PolicyStamp::new(3, "{}") };
    case.pulse.runner.policy.adopt(held);
    case.store.change(|contents| contents.stored = heard.stored);
    let mut told = case.pulse.heard.subscribe();
    case.beat_until(|contents| contents.beats.len() == 2).await;
    assert_eq!(*told.wait_for(|_| true).await.unwrap(), heard);
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
