//! Who waits for news of which task.
//!
//! Responsible for waking whom a change concerns, whatever its scope: the ids of tasks are unique. Must never carry
//! news itself: messages of Redis may get lost, so a woken watcher reads the task again, and all of them are woken from
//! time to time without news. They take turns in that: those of one turn look together, and so in few calls.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_lua::TaskId;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// How long a watcher trusts that no message means no change.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Turns into which the watchers are divided.
const TURNS: usize = 50;

/// The watchers of one gateway, by turn and task. Bounded by the open streams and held requests.
#[derive(Debug)]
pub(crate) struct WatchHub {
    turns: [Mutex<Watched>; TURNS],
    hasher: RandomState,
}

type Watched = HashMap<TaskId, watch::Sender<()>>;

/// One watcher of one task; forgets itself when dropped.
#[derive(Debug)]
pub(crate) struct TaskWatch {
    hub: Arc<WatchHub>,
    task_id: TaskId,
    news: watch::Receiver<()>,
}

impl Default for WatchHub {
    fn default() -> Self {
        Self { turns: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }
}

impl WatchHub {
    /// Starts watching. Everything that changes from now on is told, so watch first and read the task afterwards.
    pub(crate) fn watch(self: &Arc<Self>, task_id: &TaskId) -> TaskWatch {
        let mut tasks = self.turn_of(task_id);
        let news = match tasks.get(task_id) {
            Some(sender) => sender.subscribe(),
            None => tasks.entry(task_id.clone()).or_insert_with(|| watch::Sender::new(())).subscribe(),
        };
        TaskWatch { hub: self.clone(), task_id: task_id.clone(), news }
    }

    /// This task has changed.
    pub(crate) fn wake(&self, task_id: &TaskId) {
        if let Some(sender) = self.turn_of(task_id).get(task_id) {
            sender.send_replace(());
        }
    }

    /// Any task may have changed.
    pub(crate) fn wake_all(&self) {
        self.turns.iter().for_each(wake_each);
    }

    /// Wakes everybody once in [`LOOK_AGAIN`], one turn after the other. Never returns; owned by `run`.
    pub(crate) async fn keep_turning(&self) {
        let mut ticks = interval(LOOK_AGAIN / TURNS as u32);
        // After a pause of this process nobody has to look several times.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for turn in self.turns.iter().cycle() {
            ticks.tick().await;
            wake_each(turn);
        }
    }

    fn turn_of(&self, task_id: &TaskId) -> MutexGuard<'_, Watched> {
        let turn = self.hasher.hash_one(task_id) as usize % TURNS;
        lock(&self.turns[turn])
    }
}

fn wake_each(turn: &Mutex<Watched>) {
    for sender in lock(turn).values() {
        sender.send_replace(());
    }
}

fn lock(turn: &Mutex<Watched>) -> MutexGuard<'_, Watched> {
    turn.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TaskWatch {
    /// Waits until the task may have changed since the last call: somebody said so, or it is this watcher's turn to
    /// look.
    pub(crate) async fn changed(&mut self) {
        // The sender lives as long as this watcher.
        let _ = self.news.changed().await;
    }
}

impl Drop for TaskWatch {
    fn drop(&mut self) {
        let mut tasks = self.hub.turn_of(&self.task_id);
        // This watcher still counts itself.
        if tasks.get(&self.task_id).is_some_and(|sender| sender.receiver_count() <= 1) {
            tasks.remove(&self.task_id);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tokio::time::timeout;

    use super::*;

    /// Whether the watcher was woken.
    pub(crate) async fn woken(watch: &mut TaskWatch) -> bool {
        timeout(LOOK_AGAIN, watch.changed()).await.is_ok()
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
        assert_eq!(hub.turn_of(&id).len(), 1);
        drop(second);
        assert!(hub.turn_of(&id).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_looks_again_in_time_though_nobody_says_anything() {
        let hub = Arc::new(WatchHub::default());
        let mut watches: Vec<_> = (0..200).map(|_| hub.watch(&TaskId::generate())).collect();
        let turning = hub.clone();
        let turning = tokio::spawn(async move { turning.keep_turning().await });
        for _ in 0..2 {
            for watch in &mut watches {
                // One that has just had its turn has it again after exactly this time.
                assert!(timeout(LOOK_AGAIN + LOOK_AGAIN / 10, watch.changed()).await.is_ok());
            }
        }
        turning.abort();
    }
}
