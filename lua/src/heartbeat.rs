//! `heartbeat.lua`: a processor is alive and has this capacity. Never a lease.

use fred::interfaces::HashesInterface;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::pack::{Unpacker, text};
use crate::policy::CompiledPolicy;
use crate::reply::Reply;
use crate::script::HEARTBEAT;
use crate::stamp::PolicyStamp;
use crate::store::ScopeStore;
use crate::stored_policy::stamp;

/// What a processor says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    /// Unique per process start.
    pub worker: String,
    /// Name of the instance it runs on.
    pub instance: String,
    /// Attempts it runs at once.
    pub slots: u32,
    /// Attempts it runs now.
    pub running: u32,
    /// Whether it has stopped taking work; then it counts for no capacity.
    pub draining: bool,
    /// Version of its binary.
    pub version: String,
    /// Revision of the policy it follows.
    pub policy_revision: u64,
    /// Why it cannot put the stored policy in force, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_fault: Option<String>,
    /// Task kinds it has handlers for; `*` for any.
    pub kinds: Vec<String>,
}

/// A processor as the scope sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ProcessorView {
    /// Its last heartbeat.
    #[serde(flatten)]
    pub beat: Heartbeat,
    /// Time of its last heartbeat, Redis clock, ms since the epoch.
    pub last_heartbeat_ms: u64,
    /// Time since then, ms.
    pub age_ms: u64,
    /// The policy it holds.
    #[serde(skip)]
    pub stamp: PolicyStamp,
    /// When it was first heard to hold it, Redis clock, ms since the epoch.
    pub policy_since_ms: u64,
    /// Whether it counts for capacity now.
    pub live: bool,
}

impl ScopeStore {
    /// Says that a processor lives and follows this policy; it counts for the policy's heartbeat timeout. Returns the
    /// stamp that is stored now.
    pub async fn heartbeat(&self, policy: &CompiledPolicy, beat: &Heartbeat) -> Result<PolicyStamp, StoreError> {
        let k = &self.keys;
        let said = serde_json::to_string(beat).map_err(|error| StoreError::Protocol(error.to_string()))?;
        let keys = vec![k.scope(), k.processor(), k.beat()];
        let args = vec![
            self.now_arg(),
            policy.heartbeat_timeout_ms.to_string().into(),
            beat.worker.as_str().into(),
            beat.slots.to_string().into(),
            if beat.draining { "0" } else { "1" }.into(),
            said.into(),
            policy.stamp().as_u64().to_string().into(),
        ];
        let answer = HEARTBEAT.call(&self.store, keys, args).await?;
        answer.as_i64().map(stamp).ok_or_else(|| StoreError::Protocol("heartbeat returned no stamp".to_owned()))
    }

    /// Every processor that has been heard of lately, by name.
    pub async fn processors(&self, policy: &CompiledPolicy) -> Result<Vec<ProcessorView>, StoreError> {
        let now_ms = self.survey().await?.now_ms;
        let beats = self.store.client().hvals(self.keys.processor()).await?;
        let mut reply = Reply::new("processors", beats)?;
        let mut processors = Vec::with_capacity(reply.len());
        while !reply.is_empty() {
            let mut packed = Unpacker::new(reply.bytes()?);
            let accepting = packed.u8()? == 1;
            packed.u32()?;
            let last_heartbeat_ms = packed.count()?;
            let (stamp, policy_since_ms) = (PolicyStamp::from_u64(packed.count()?), packed.count()?);
            let beat: Heartbeat = serde_json::from_str(&text(&packed.rest())?)
                .map_err(|error| StoreError::Protocol(format!("a heartbeat: {error}")))?;
            let age_ms = now_ms.saturating_sub(last_heartbeat_ms);
            let live = accepting && age_ms < policy.heartbeat_timeout_ms;
            processors.push(ProcessorView { beat, last_heartbeat_ms, age_ms, stamp, policy_since_ms, live });
        }
        processors.sort_by(|a, b| a.beat.worker.cmp(&b.beat.worker));
        Ok(processors)
    }
}
