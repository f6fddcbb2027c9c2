//! The replicas of a scope, gateways and processors, and the policy each of them holds.
//!
//! Responsible for one view of the two kinds of reports (`follow.lua`, `heartbeat.lua`). Must never count a replica
//! that has fallen silent as one that still has to catch up.

use std::collections::HashMap;

use bytes::Bytes;
use fred::interfaces::HashesInterface;
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::StoreError;
use crate::follow::Said;
use crate::pack::Unpacker;
use crate::policy::CompiledPolicy;
use crate::stamp::PolicyStamp;
use crate::store::ScopeStore;
use crate::stored_policy::json;

/// What a replica does in the scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Decides.
    Gateway,
    /// Runs tasks.
    Processor,
}

/// A replica and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReplicaView {
    /// Instance of a gateway, worker of a processor.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Version of its binary.
    pub version: String,
    /// The policy it holds.
    #[serde(skip)]
    pub stamp: PolicyStamp,
    /// Its number; 0 is the document it was started with.
    pub revision: u64,
    /// When it was first heard to hold it, Redis clock, ms since the epoch.
    pub since_ms: u64,
    /// When it was last heard of, Redis clock, ms since the epoch.
    pub last_heard_ms: u64,
    /// Time since then, ms.
    pub age_ms: u64,
    /// Whether it still counts.
    pub live: bool,
    /// Why it cannot put the stored policy in force, if it cannot.
    pub fault: Option<String>,
}

/// Every replica of a scope, and what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convergence {
    /// The stored policy.
    pub stored: PolicyStamp,
    /// Gateways, then processors, by name; silent ones too, until they are forgotten.
    pub replicas: Vec<ReplicaView>,
}

impl Convergence {
    /// The live replicas that hold another policy than the stored one.
    pub fn behind(&self) -> impl Iterator<Item = &ReplicaView> {
        self.replicas.iter().filter(|replica| replica.live && replica.stamp != self.stored)
    }
}

impl ScopeStore {
    /// Which replica holds which policy, and since when.
    pub async fn convergence(&self, policy: &CompiledPolicy) -> Result<Convergence, StoreError> {
        let survey = self.survey().await?;
        let reports: HashMap<String, Bytes> = self.store.client().hgetall(self.keys.gateway()).await?;
        let mut gateways = Vec::with_capacity(reports.len());
        for (name, packed) in reports {
            let mut packed = Unpacker::new(packed);
            let (stamp, since_ms) = (PolicyStamp::from_u64(packed.count()?), packed.count()?);
            let (last_heard_ms, until_ms) = (packed.count()?, packed.count()?);
            let Said { version, fault } = json(&packed.rest())?;
            gateways.push(ReplicaView {
                name,
                role: Role::Gateway,
                version,
                stamp,
                revision: stamp.revision(),
                since_ms,
                last_heard_ms,
                age_ms: survey.now_ms.saturating_sub(last_heard_ms),
                live: survey.now_ms < until_ms,
                fault,
            });
        }
        gateways.sort_by(|a, b| a.name.cmp(&b.name));
        let processors = self.processors(policy).await?.into_iter().map(|view| ReplicaView {
            name: view.beat.worker,
            role: Role::Processor,
            version: view.beat.version,
            stamp: view.stamp,
            revision: view.stamp.revision(),
            since_ms: view.policy_since_ms,
            last_heard_ms: view.last_heartbeat_ms,
            age_ms: view.age_ms,
            // A draining processor counts for no capacity, but it still settles under some policy.
            live: view.live || (view.beat.draining && view.age_ms < policy.heartbeat_timeout_ms),
            fault: view.beat.policy_fault,
        });
        gateways.extend(processors);
        Ok(Convergence { stored: survey.stamp, replicas: gateways })
    }
}
