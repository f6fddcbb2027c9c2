//! Who waits for news of which task.
//!
//! Responsible for waking whom a change concerns, whatever its scope: the ids of tasks are unique. Must never carry
//! news itself: messages of Redis may get lost, so a woken watcher reads the task again, and looks from time to time
//! without being woken.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_lua::TaskId;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long a watcher trusts that no message means no change.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

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

    /// This task has changed.
    pub(crate) fn wake(&self, task_id: &TaskId) {
        if let Some(sender) = self.lock().get(task_id) {
            sender.send_replace(());
        }
    }

    /// Any task may have changed.
    pub(crate) fn wake_all(&self) {
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
pub(crate) mod tests {
    use tokio::time::Instant;

    use super::*;

    /// Whether the watcher was woken before it would have looked by itself.
    pub(crate) async fn woken(watch: &mut TaskWatch) -> bool {
        let started = Instant::now();
        watch.changed().await;
        started.elapsed() < LOOK_AGAIN
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
