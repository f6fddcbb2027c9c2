//! An operator who changes the policy of a cluster under load, and the account of every policy that came into force.
//!
//! Responsible for when an update was sent, when it was accepted and what it made of the policy. Must never leave out a
//! policy because nobody was told that it was accepted: decisions are judged by this account.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::cluster::builder::effective_policy;
use crate::error::HarnessError;
use crate::eventually::eventually;
use crate::record::{PolicyChange, RunClock};

/// How long an operator tries, gateway after gateway: as long as a fault may last.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);
/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const CONFIG: &str = "/admin/gateway/config";

/// Who changes policies, and every policy so far.
#[derive(Debug)]
pub struct Operator {
    clock: RunClock,
    policies: Vec<PolicyChange>,
}

impl Operator {
    /// Begins with the policy the cluster was started with.
    #[must_use]
    pub fn new(clock: RunClock, cluster: &Cluster) -> Self {
        let effective = serde_json::to_value(cluster.policy()).unwrap_or_default();
        Self { clock, policies: vec![PolicyChange { revision: 0, sent_us: 0, accepted_us: 0, effective }] }
    }

    /// Sends a patch until it is accepted; the revision it made.
    pub async fn update(&mut self, cluster: &Cluster, patch: &Value) -> Result<u64, HarnessError> {
        let mut body = patch.clone();
        body["reason"] = "a scenario's update".into();
        self.change(cluster, "/admin/gateway/update-config", &body).await
    }

    /// Goes back to an earlier revision, as a new one; its number.
    pub async fn roll_back(&mut self, cluster: &Cluster, revision: u64) -> Result<u64, HarnessError> {
        let body = json!({ "revision": revision, "reason": "a scenario's rollback" });
        self.change(cluster, "/admin/gateway/config/rollback", &body).await
    }

    /// Every policy of the run, by revision, when no fault is left that could be in the way of asking. Among them are
    /// those whose acceptance got lost: they count as accepted now, because nobody knew before.
    pub async fn account(mut self, cluster: &Cluster) -> Result<Vec<PolicyChange>, HarnessError> {
        if self.policies.len() > 1 {
            let admin = cluster.admin(0);
            let asked = eventually(PATIENCE, "the gateway lists its revisions", || self.kept(&admin, cluster));
            for (revision, effective) in asked.await? {
                if let Some(policy) = self.policies.iter_mut().find(|policy| policy.revision == revision) {
                    policy.effective = effective;
                } else {
                    let accepted_us = self.clock.now_us();
                    self.policies.push(PolicyChange { revision, sent_us: 0, accepted_us, effective });
                }
            }
        }
        self.policies.sort_by_key(|policy| policy.revision);
        Ok(self.policies)
    }

    /// Every revision that is kept, with what its document makes of the shipped policy by the loader that every replica
    /// has; `None` until all could be read.
    async fn kept(&self, admin: &Client, cluster: &Cluster) -> Option<Vec<(u64, Value)>> {
        let listed = admin.get(&format!("{CONFIG}/revisions?limit=200")).await.ok()?;
        let mut kept = Vec::new();
        for listed in listed.body["revisions"].as_array()? {
            let revision = listed["revision"].as_u64()?;
            let record = admin.get(&format!("{CONFIG}/revisions/{revision}")).await.ok()?;
            let policy = effective_policy(record.body.get("after")?, cluster.scope()).ok()?;
            kept.push((revision, serde_json::to_value(policy).ok()?));
        }
        Some(kept)
    }

    async fn change(&mut self, cluster: &Cluster, route: &str, body: &Value) -> Result<u64, HarnessError> {
        let (sent_us, end) = (self.clock.now_us(), Instant::now() + PATIENCE);
        let mut refused = String::new();
        for turn in 0.. {
            let admin = cluster.admin(turn);
            match tokio::time::timeout(ANSWER_LIMIT, admin.post(route, body)).await {
                Ok(Ok(answer)) if answer.status == 200 => {
                    let (accepted_us, revision) = (self.clock.now_us(), answer.body["revision"].as_u64());
                    let revision = revision.ok_or_else(|| HarnessError::Answer(answer.text.clone()))?;
                    let effective = Value::Null;
                    self.policies.push(PolicyChange { revision, sent_us, accepted_us, effective });
                    return Ok(revision);
                }
                Ok(Ok(answer)) if answer.status < 500 => return Err(HarnessError::Answer(answer.text)),
                Ok(Ok(answer)) => refused = answer.text,
                Ok(Err(error)) => refused = error.to_string(),
                Err(_) => "no answer".clone_into(&mut refused),
            }
            if Instant::now() >= end {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(HarnessError::Timeout(PATIENCE, format!("the update is accepted: {refused}")))
    }
}
