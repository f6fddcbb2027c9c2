//! Questions about the scope, asked on an operator's behalf.
//!
//! Responsible for keeping them apart from the requests of callers: they may take longer, and how they go neither opens
//! the breaker for Redis nor closes it. Must never wait for a Redis that is known to be down.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use portcullis_lua::{ScopeStore, StoreError};
use tokio::time::timeout;

use crate::policy_in_force::PolicyInForce;
use crate::state::Gateway;

/// How long an operator waits for Redis.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// The scope a gateway serves, for reading.
#[derive(Clone, Debug)]
pub(crate) struct Scoped(pub(crate) Arc<Gateway>);

impl Scoped {
    pub(crate) fn store(&self) -> &ScopeStore {
        self.0.scope_store()
    }

    pub(crate) fn policy(&self) -> Arc<PolicyInForce> {
        self.0.policy_in_force()
    }

    /// The answer, unless Redis is left alone or does not give one in time.
    pub(crate) fn read<T>(
        &self,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> impl Future<Output = Result<T, StoreError>> {
        // A call of the store is tens of kilobytes of state: too much to carry through every layer above.
        let question = Box::pin(question);
        async {
            if self.0.store_breaker().is_open() {
                return Err(StoreError::Unavailable("not asked: the last commands failed".to_owned()));
            }
            let in_time = timeout(READ_TIMEOUT, question).await;
            in_time.unwrap_or_else(|_| Err(StoreError::Unavailable("no answer in time".to_owned())))
        }
    }
}
