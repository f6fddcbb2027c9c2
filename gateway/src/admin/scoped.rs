//! Questions about one scope, asked on an operator's behalf.
//!
//! Responsible for keeping them apart from the requests of callers: they may take longer, and how they go neither opens
//! the breaker for Redis nor closes it. Must never wait for a Redis that is known to be down.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use portcullis_lua::{LivePolicy, ScopeStore, StoreError};
use tokio::time::timeout;

use super::operator::Operator;
use crate::policy_in_force::PolicyInForce;
use crate::refusal::{Cause, Refused};
use crate::scope::ServedScope;
use crate::state::Gateway;

/// How long an operator waits for Redis.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// One of the scopes a gateway serves.
#[derive(Clone, Debug)]
pub(crate) struct Scoped {
    gateway: Arc<Gateway>,
    scope: Arc<ServedScope>,
    operator: Operator,
}

impl Scoped {
    pub(crate) fn new(gateway: Arc<Gateway>, scope: Arc<ServedScope>, operator: Operator) -> Self {
        Self { gateway, scope, operator }
    }

    /// On whose behalf.
    pub(crate) fn operator(&self) -> &Operator {
        &self.operator
    }

    pub(crate) fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// The scope itself.
    pub(crate) fn scope(&self) -> &ServedScope {
        &self.scope
    }

    pub(crate) fn store(&self) -> &ScopeStore {
        self.scope.store()
    }

    /// The store, for what the operator changes.
    pub(crate) fn store_for_changes(&self) -> ScopeStore {
        self.operator.store(self.scope.store())
    }

    pub(crate) fn live(&self) -> &LivePolicy<PolicyInForce> {
        self.scope.live()
    }

    pub(crate) fn policy(&self) -> Arc<PolicyInForce> {
        self.scope.policy()
    }

    /// What Redis answers, or the refusal to give instead.
    pub(crate) fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> impl Future<Output = Result<T, Refused>> {
        let answer = self.read(question);
        async { answer.await.map_err(|error| unanswered(&error)) }
    }

    /// The answer, unless Redis is left alone or does not give one in time.
    pub(crate) fn read<T>(
        &self,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> impl Future<Output = Result<T, StoreError>> {
        // A call of the store is tens of kilobytes of state: too much to carry through every layer above.
        let question = Box::pin(question);
        async {
            if self.gateway.store_breaker().is_open() {
                return Err(StoreError::Unavailable("not asked: the last commands failed".to_owned()));
            }
            let in_time = timeout(READ_TIMEOUT, question).await;
            in_time.unwrap_or_else(|_| Err(StoreError::Unavailable("no answer in time".to_owned())))
        }
    }
}

/// Redis did not answer an operator.
pub(crate) fn unanswered(error: &StoreError) -> Refused {
    tracing::debug!(%error, "redis could not answer an operator");
    Refused::new(Cause::StoreUnavailable, "Store unavailable", "Redis did not answer this question.")
}
