//! Looks at tasks that somebody follows, those of many streams in one call.
//!
//! Responsible for asking Redis what is new about tasks of one scope. Must never judge whose a task is: whoever follows
//! one has been found to own it.

use std::sync::Arc;

use portcullis_lua::{LOOK_BATCH, Looked, OutputId, ScopeStore, StoreError, TaskId};

use crate::group_commit::Decide;
use crate::store_breaker::StoreBreaker;

/// Looks at the tasks of one scope.
#[derive(Clone, Debug)]
pub(crate) struct Looker {
    pub(crate) store: ScopeStore,
    pub(crate) breaker: Arc<StoreBreaker>,
}

impl Decide for Looker {
    /// A task, and the position after which output is asked for.
    type Question = (TaskId, OutputId);
    type Answer = Looked;

    fn bytes(&self, _: &Self::Question) -> usize {
        // How much comes back is bounded by the script.
        0
    }

    async fn decide(&self, tasks: Vec<Self::Question>) -> Result<Vec<Looked>, StoreError> {
        let mut looked = Vec::with_capacity(tasks.len());
        for some in tasks.chunks(LOOK_BATCH) {
            looked.extend(self.breaker.call(self.store.look(some)).await?);
        }
        Ok(looked)
    }
}
