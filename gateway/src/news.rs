//! What Redis announces, passed on to whom it concerns.
//!
//! Responsible for one subscription per gateway, whatever the number of scopes and streams. Must never wait for what
//! follows from the news, or it would miss the next: watchers and the upkeep of the scopes are woken and do the rest.

use std::future::Future;
use std::time::Duration;

use portcullis_config::Scope;
use portcullis_lua::{Change, StoreError};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::sleep;

use crate::scopes::Scopes;
use crate::watch_hub::WatchHub;

/// Pause before a subscription that could not be made is tried again.
const RETRY_SUBSCRIPTION: Duration = Duration::from_millis(200);

/// Whoever has to know of changes of policies.
pub(crate) trait Interested: Sync {
    /// There may be another policy for this scope.
    fn note_news(&self, scope: &Scope);
    /// There may be another policy for any scope.
    fn note_news_of_all(&self);
}

impl Interested for Scopes {
    fn note_news(&self, scope: &Scope) {
        Self::note_news(self, scope);
    }
    fn note_news_of_all(&self) {
        Self::note_news_of_all(self);
    }
}

/// Passes changes on for ever, subscribing again whenever that is needed. Never returns; owned by `run`.
pub(crate) async fn pass_on<F>(scopes: &impl Interested, hub: &WatchHub, subscribe: impl Fn() -> F)
where
    F: Future<Output = Result<Receiver<Change>, StoreError>>,
{
    let look_at_everything = || {
        hub.wake_all();
        scopes.note_news_of_all();
    };
    loop {
        match subscribe().await {
            Ok(mut changes) => {
                look_at_everything();
                loop {
                    match changes.recv().await {
                        Ok(Change::Task(task_id)) => hub.wake(&task_id),
                        Ok(Change::Policy(scope) | Change::Revoked(scope)) => scopes.note_news(&scope),
                        Ok(Change::Resync) | Err(RecvError::Lagged(_)) => look_at_everything(),
                        Err(RecvError::Closed) => break,
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "cannot follow changes"),
        }
        sleep(RETRY_SUBSCRIPTION).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use portcullis_lua::TaskId;
    use tokio::sync::broadcast;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::watch_hub::tests::woken;

    /// Takes note of what it is told; all scopes are `*`.
    #[derive(Clone, Default)]
    struct Notes(Arc<Mutex<Vec<String>>>);

    impl Interested for Notes {
        fn note_news(&self, scope: &Scope) {
            self.0.lock().unwrap().push(scope.to_string());
        }
        fn note_news_of_all(&self) {
            self.0.lock().unwrap().push("*".to_owned());
        }
    }

    /// A hub and notes that follow `sender`, and what keeps them following.
    fn following(sender: &broadcast::Sender<Change>) -> (Arc<WatchHub>, Notes, JoinHandle<()>) {
        let (hub, notes, sender) = (Arc::new(WatchHub::default()), Notes::default(), sender.clone());
        let (passing_hub, passing_notes) = (hub.clone(), notes.clone());
        let task = tokio::spawn(async move {
            let subscribe = || {
                let sender = sender.clone();
                async move { Ok(sender.subscribe()) }
            };
            pass_on(&passing_notes, &passing_hub, subscribe).await;
        });
        (hub, notes, task)
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_wakes_every_watcher_of_that_task_and_no_other() {
        let (sender, _keep) = broadcast::channel(8);
        let (hub, _, task) = following(&sender);
        tokio::task::yield_now().await;
        let (mine, other) = (TaskId::generate(), TaskId::generate());
        let (mut first, mut second, mut third) = (hub.watch(&mine), hub.watch(&mine), hub.watch(&other));
        sender.send(Change::Task(mine)).unwrap();
        assert!(woken(&mut first).await && woken(&mut second).await);
        assert!(!woken(&mut third).await);
        sender.send(Change::Resync).unwrap();
        assert!(woken(&mut first).await && woken(&mut third).await);
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn lost_messages_wake_everybody() {
        let (sender, _keep) = broadcast::channel(2);
        let (hub, notes, task) = following(&sender);
        let mut watch = hub.watch(&TaskId::generate());
        tokio::task::yield_now().await;
        assert!(woken(&mut watch).await, "a new subscription is a reason to look");
        for _ in 0..9 {
            sender.send(Change::Task(TaskId::generate())).unwrap();
        }
        assert!(woken(&mut watch).await);
        assert_eq!(*notes.0.lock().unwrap(), ["*", "*"]);
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn news_of_a_policy_is_for_its_scope() {
        let (sender, _keep) = broadcast::channel(8);
        let (hub, notes, task) = following(&sender);
        tokio::task::yield_now().await;
        sender.send(Change::Policy(Scope::new("acme", "shop").unwrap())).unwrap();
        sender.send(Change::Resync).unwrap();
        let mut watch = hub.watch(&TaskId::generate());
        woken(&mut watch).await;
        assert_eq!(*notes.0.lock().unwrap(), ["*", "acme/shop", "*"]);
        task.abort();
    }
}
