//! What makes a processor ask which policy is stored, and what does not.

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use super::*;
use crate::fake::{self, Contents, FakeStore, Look};
use crate::handler::{Echo, Handlers};

struct Case {
    store: Arc<FakeStore>,
    runner: Arc<Runner>,
    heard: watch::Sender<Heard>,
}

impl Case {
    fn new(contents: Contents) -> Self {
        let store = FakeStore::with(contents);
        let runner = Arc::new(fake::runner(&store, Handlers::new().with("*", Echo), fake::live(&json!({}))));
        Self { store, runner, heard: watch::Sender::default() }
    }

    fn follower(&self, force_boot: bool) -> Follower {
        Follower { runner: Arc::clone(&self.runner), heard: self.heard.subscribe(), force_boot }
    }

    /// A follower at work, which listens to the store's changes already.
    async fn following(&self) -> JoinSet<()> {
        let mut running = JoinSet::new();
        running.spawn(self.follower(false).run());
        while self.store.changes.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
        running
    }

    fn looks(&self) -> Vec<Look> {
        self.store.read(|contents| contents.looks.clone())
    }
}

/// The clock only moves when nobody has anything left to do.
async fn all_done() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn it_asks_before_anything_else_and_again_until_redis_answers() {
    let case = Case::new(Contents { outage: true, ..Contents::default() });
    let recovery = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(case.looks(), []);
        case.store.change(|contents| contents.outage = false);
        Instant::now()
    };
    let follower = case.follower(false);
    let (back, ()) = tokio::join!(recovery, follower.begin());
    assert!(back.elapsed() <= Duration::from_millis(100));
    assert_eq!(case.looks(), [Look::CatchUp]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_of_no_use_does_not_keep_it_from_work() {
    let case = Case::new(Contents { policy_unusable: true, ..Contents::default() });
    let minute = Duration::from_secs(60);
    tokio::time::timeout(minute, case.follower(false).begin()).await.unwrap();
    tokio::time::timeout(minute, case.follower(true).begin()).await.unwrap();
    assert_eq!(case.looks(), [Look::CatchUp, Look::ForceBoot]);
}

#[tokio::test(start_paused = true)]
async fn the_boot_document_is_forced_where_that_is_asked_for() {
    let case = Case::new(Contents::default());
    case.follower(true).begin().await;
    assert_eq!(case.looks(), [Look::ForceBoot]);
}

#[tokio::test(start_paused = true)]
async fn news_of_its_scope_and_lost_messages_make_it_ask_and_nothing_else_does() {
    let case = Case::new(Contents::default());
    let _running = case.following().await;
    let elsewhere = Change::Policy(Scope::new("acme", "other").unwrap());
    let task = || Change::Task(portcullis_lua::TaskId::generate());
    // More tasks than the channel holds: what was lost may have been about the policy.
    let rounds = [
        (vec![Change::Policy(fake::scope())], 1),
        (vec![elsewhere, task()], 1),
        (vec![Change::Resync], 2),
        (std::iter::repeat_with(task).take(20).collect(), 3),
    ];
    for (changes, looks) in rounds {
        for change in &changes {
            case.store.changes.send(change.clone()).unwrap();
        }
        all_done().await;
        assert_eq!(case.looks(), vec![Look::CatchUp; looks], "after {changes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_heard_of_another_policy_makes_it_ask() {
    let case = Case::new(Contents::default());
    let _running = case.following().await;
    let stored = PolicyStamp::new(3, "{}");
    case.heard.send_replace(Heard { held: PolicyStamp::NONE, stored });
    case.store.until(|contents| contents.looks == [Look::Hear(stored)]).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_heard_before_the_present_policy_came_into_force_is_outdated() {
    let case = Case::new(Contents::default());
    let _running = case.following().await;
    case.runner.policy.adopt(fake::stored(4, &json!({})));
    case.heard.send_replace(Heard { held: PolicyStamp::NONE, stored: PolicyStamp::new(3, "{}") });
    all_done().await;
    let (held, stored) = (case.runner.policy.stamp(), PolicyStamp::new(5, "{}"));
    case.heard.send_replace(Heard { held, stored });
    case.store.until(|contents| !contents.looks.is_empty()).await;
    assert_eq!(case.looks(), [Look::Hear(stored)]);
}

#[tokio::test(start_paused = true)]
async fn a_look_that_fails_is_made_good_by_the_next_heartbeat() {
    let case = Case::new(Contents { policy_unusable: true, ..Contents::default() });
    let _running = case.following().await;
    case.store.changes.send(Change::Policy(fake::scope())).unwrap();
    case.store.until(|contents| contents.looks == [Look::CatchUp]).await;
    let stored = PolicyStamp::new(3, "{}");
    for looks in 2..=3 {
        case.heard.send_replace(Heard { held: PolicyStamp::NONE, stored });
        case.store.until(|contents| contents.looks.len() == looks).await;
    }
    assert_eq!(case.looks(), [Look::CatchUp, Look::Hear(stored), Look::Hear(stored)]);
}
