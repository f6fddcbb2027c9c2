//! The tasks a gateway owns beside its connections.
//!
//! Responsible for one place where they are started and one word that ends them all. Must never be gone round: a task
//! that is spawned elsewhere outlives the gateway it works for.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Owner of the tasks of one gateway. Clones own the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Background {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Background {
    /// Starts a task that ends by itself, or soon after [`stopping`](Self::stopping) says so.
    pub(crate) fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.tasks.spawn(task)
    }

    /// Starts a task that is dropped, wherever it stands, when the gateway stops.
    pub(crate) fn spawn_until_stopped(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// Cancelled when the gateway stops.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// Tells every task to end; whether all did within `longest`.
    pub(crate) async fn finish(&self, longest: Duration) -> bool {
        self.stop.cancel();
        self.tasks.close();
        timeout(longest, self.tasks.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_task_ends_when_told_and_one_that_does_not_is_noticed() {
        let obedient = Background::default();
        obedient.spawn_until_stopped(pending());
        let stop = obedient.stopping().clone();
        obedient.clone().spawn(async move { stop.cancelled().await });
        assert!(obedient.finish(Duration::from_secs(1)).await);
        let stubborn = Background::default();
        stubborn.spawn(pending::<()>());
        assert!(!stubborn.finish(Duration::from_secs(1)).await);
    }
}
