//! `output.lua`: streamed output of a task, written under its lease and read from any position.

use bytes::Bytes;
use fred::interfaces::StreamsInterface;
use fred::types::Value;

use crate::error::StoreError;
use crate::policy::CompiledPolicy;
use crate::reply::Reply;
use crate::script::OUTPUT;
use crate::store::ScopeStore;
use crate::task::{Lease, Output, OutputId, TaskId};

/// Most pieces written by one call.
pub const OUTPUT_BATCH: usize = 64;

impl ScopeStore {
    /// Appends pieces (at most [`OUTPUT_BATCH`]) after the attempt's first `before`, under a lease. Those that are
    /// there already are left alone, so a call may be repeated. `false`: the token is stale and nothing was written.
    pub async fn append_output(
        &self,
        policy: &CompiledPolicy,
        lease: &Lease,
        before: u64,
        pieces: Vec<Bytes>,
    ) -> Result<bool, StoreError> {
        if pieces.is_empty() || pieces.len() > OUTPUT_BATCH {
            return Err(StoreError::Protocol(format!("{} pieces in one call", pieces.len())));
        }
        let mut args: Vec<Value> = vec![
            lease.task_id.as_str().into(),
            lease.token.to_string().into(),
            before.to_string().into(),
            policy.output_ttl_ms.to_string().into(),
            policy.max_output_events.to_string().into(),
            self.keys.changes().into(),
        ];
        args.extend(pieces.into_iter().map(Value::from));
        let keys = vec![self.keys.run(), self.keys.output(&lease.task_id)];
        Ok(OUTPUT.call(&self.store, keys, args).await?.as_i64() == Some(1))
    }

    /// At most `count` pieces after a position, in order.
    pub async fn output(&self, id: &TaskId, after: OutputId, count: u32) -> Result<Vec<Output>, StoreError> {
        // A stream's second number starts at 0 where pieces start at 1: the piece after `n` is at `n`.
        let from = format!("{}-{}", after.attempt, after.piece);
        let entries: Value =
            self.store.client().xrange(self.keys.output(id), from, "+", Some(u64::from(count))).await?;
        if entries.is_null() {
            return Ok(Vec::new());
        }
        let mut entries = Reply::new("output", entries)?;
        let mut outputs = Vec::with_capacity(entries.len());
        while !entries.is_empty() {
            let mut entry = Reply::new("output", entries.value()?)?;
            let id = stream_id(&entry.text()?)?;
            let mut fields = Reply::new("output", entry.value()?)?;
            fields.bytes()?;
            outputs.push(Output { id, data: fields.bytes()? });
        }
        Ok(outputs)
    }
}

/// The position of an entry of the stream of output.
pub(crate) fn stream_id(id: &str) -> Result<OutputId, StoreError> {
    id.split_once('-')
        .and_then(|(attempt, sequence)| {
            Some(OutputId { attempt: attempt.parse().ok()?, piece: sequence.parse::<u64>().ok()?.checked_add(1)? })
        })
        .ok_or_else(|| StoreError::Protocol(format!("an output with the id {id:?}")))
}
