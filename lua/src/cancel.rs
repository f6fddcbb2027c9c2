//! `cancel.lua`: cancels a task of its owner.

use bytes::Bytes;
use fred::types::Value;

use crate::ended::Acting;
use crate::error::StoreError;
use crate::policy::CompiledPolicy;
use crate::script::CANCEL;
use crate::store::ScopeStore;
use crate::task::{Kept, TaskId, TaskRecord};

impl ScopeStore {
    /// Cancels a task of `principal` and returns it as it is then: `cancelled` if it was waiting; still `running` if a
    /// processor holds it, which learns of it at its next renewal; unchanged if it had ended. `None` when there is no
    /// such task, or it is somebody else's.
    pub async fn cancel(
        &self,
        policy: &CompiledPolicy,
        id: &TaskId,
        principal: &str,
    ) -> Result<Option<TaskRecord>, StoreError> {
        let Some(task) = self.task(id).await?.filter(|task| task.envelope.principal == principal) else {
            return Ok(None);
        };
        if task.status.is_terminal() {
            return Ok(Some(task));
        }
        let k = &self.keys;
        let mut keys = vec![
            k.scope(),
            k.queue(),
            k.delayed(),
            k.lease(),
            k.run(),
            k.task(),
            k.cancelled(),
            k.done(id),
            k.breaker(&task.envelope.kind),
            k.ended(),
            k.ended_head(),
        ];
        let acting = Acting::of_task(&task.envelope);
        let end = acting.map(|acting| acting.ends_task(id, &task.envelope.kind, None)).transpose()?;
        let kept = Kept { envelope: &task.envelope, created_ms: task.created_ms, result: None, error: None };
        let mut args: Vec<Value> = vec![
            self.now_arg(),
            id.as_str().into(),
            policy.result_ttl_ms.to_string().into(),
            k.changes().into(),
            kept.encode()?.into(),
            Bytes::from(end.unwrap_or_default()).into(),
            policy.max_decision_batches.to_string().into(),
        ];
        for hold in &task.envelope.holds {
            keys.push(k.budget(&hold.budget, &hold.subject));
            args.push(policy.period_number_of(&hold.budget).to_string().into());
            args.push(hold.amount.to_string().into());
        }
        CANCEL.call(&self.store, keys, args).await?;
        self.task(id).await
    }
}
