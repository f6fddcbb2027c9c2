//! Who waits for news of which task.
//!
//! Responsible for one subscription per gateway, whatever the number of streams, and for waking whom a change concerns.
//! Must never carry news itself: messages of Redis may get lost, so a woken watcher reads the task again, and looks
//! from time to time without being woken.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_lua::{Change, StoreError, TaskId};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How long a watcher trusts that no message means no change.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Pause before a subscription that could not be made is tried again.
const RETRY_SUBSCRIPTION: Duration = Duration::from_millis(200);

/// The watchers of one gateway, by task. Bounded by the open streams and held requests.
#[derive(Debug, Default)]
pub(crate) struct WatchHub {
    tasks: Mutex<HashMap<TaskId, watch::Sender<()>>>,
}

/// One watcher of one task; forgets itself when dropped.
#[derive(Debug)]
pub(crate) struct TaskWatch {
    hub: Arc<WatchHub>,
    task_id: TaskId,
    news: watch::Receiver<()>,
}

impl WatchHub {
    /// Starts watching. Everything that changes from now on is told, so watch first and read the task afterwards.
    pub(crate) fn watch(self: &Arc<Self>, task_id: &TaskId) -> TaskWatch {
        let mut tasks = self.lock();
        let news = match tasks.get(task_id) {
            Some(sender) => sender.subscribe(),
            None => tasks.entry(task_id.clone()).or_insert_with(|| watch::Sender::new(())).subscribe(),
        };
        TaskWatch { hub: self.clone(), task_id: task_id.clone(), news }
    }

    /// Passes changes on for ever, subscribing again whenever that is needed. Never returns; owned by `run`.
    pub(crate) async fn follow<F>(&self, subscribe: impl Fn() -> F)
    where
        F: Future<Output = Result<Receiver<Change>, StoreError>>,
    {
        loop {
            match subscribe().await {
                Ok(mut changes) => {
                    self.wake_all();
                    self.pass_on(&mut changes).await;
                }
                Err(error) => tracing::debug!(%error, "cannot follow changes of tasks"),
            }
            sleep(RETRY_SUBSCRIPTION).await;
        }
    }

    async fn pass_on(&self, changes: &mut Receiver<Change>) {
        loop {
            match changes.recv().await {
                Ok(Change::Task(task_id)) => self.wake(&task_id),
                Ok(Change::Resync) | Err(RecvError::Lagged(_)) => self.wake_all(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn wake(&self, task_id: &TaskId) {
        if let Some(sender) = self.lock().get(task_id) {
            sender.send_replace(());
        }
    }

    fn wake_all(&self) {
        for sender in self.lock().values() {
            sender.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, watch::Sender<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TaskWatch {
    /// Waits until the task may have changed since the last call. Returns after two seconds even if nobody said so.
    pub(crate) async fn changed(&mut self) {
        // The sender lives as long as this watcher; silence and news lead to the same thing, another look.
        let _ = timeout(LOOK_AGAIN, self.news.changed()).await;
    }
}

impl Drop for TaskWatch {
    fn drop(&mut self) {
        let mut tasks = self.hub.lock();
        // This watcher still counts itself.
        if tasks.get(&self.task_id).is_some_and(|sender| sender.receiver_count() <= 1) {
            tasks.remove(&self.task_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast;
    use tokio::time::Instant;

    use super::*;

    /// Whether the watcher was woken before it would have looked by itself.
    async fn woken(watch: &mut TaskWatch) -> bool {
        let started = Instant::now();
        watch.changed().await;
        started.elapsed() < LOOK_AGAIN
    }

    /// A hub that follows `sender`, and what keeps it following.
    fn followed(sender: &broadcast::Sender<Change>) -> (Arc<WatchHub>, tokio::task::JoinHandle<()>) {
        let (hub, sender) = (Arc::new(WatchHub::default()), sender.clone());
        let following = hub.clone();
        let task = tokio::spawn(async move {
            following
                .follow(move || {
                    let sender = sender.clone();
                    async move { Ok(sender.subscribe()) }
                })
                .await;
        });
        (hub, task)
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_wakes_every_watcher_of_that_task_and_no_other() {
        let (sender, _keep) = broadcast::channel(8);
        let (hub, task) = followed(&sender);
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
        let (hub, task) = followed(&sender);
        let mut watch = hub.watch(&TaskId::generate());
        tokio::task::yield_now().await;
        assert!(woken(&mut watch).await, "a new subscription is a reason to look");
        for _ in 0..9 {
            sender.send(Change::Task(TaskId::generate())).unwrap();
        }
        assert!(woken(&mut watch).await);
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn news_before_the_wait_is_not_lost() {
        let hub = Arc::new(WatchHub::default());
        let id = TaskId::generate();
        let mut watch = hub.watch(&id);
        hub.wake(&id);
        assert!(woken(&mut watch).await);
        assert!(!woken(&mut watch).await);
    }

    #[test]
    fn the_last_watcher_takes_the_task_along() {
        let hub = Arc::new(WatchHub::default());
        let id = TaskId::generate();
        let (first, second) = (hub.watch(&id), hub.watch(&id));
        drop(first);
        assert_eq!(hub.lock().len(), 1);
        drop(second);
        assert!(hub.lock().is_empty());
    }
}
