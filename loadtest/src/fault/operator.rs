//! An operator who changes the policy of a cluster under load, and the account of every policy that came into force.
//!
//! Responsible for when an update was sent, when it was accepted and what it made of the policy. Must never leave out a
//! policy because nobody was told that it was accepted: decisions are judged by this account.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Client;
use crate::cluster::Cluster;
use crate::cluster::builder::effective_policy;
use crate::error::HarnessError;
use crate::eventually::eventually;
use crate::record::{PolicyChange, RunClock};

/// How long one gateway may take to answer: it waits a second itself for the others to follow.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// How long it may take at the end until everything can be read.
const READ_LIMIT: Duration = Duration::from_secs(20);
const CONFIG: &str = "/admin/gateway/config";

/// Who changes policies, and every policy so far.
#[derive(Debug)]
pub struct Operator {
    clock: RunClock,
    /// Whether there can be any policy but the first.
    tried: bool,
    policies: Vec<PolicyChange>,
}

impl Operator {
    /// Begins with the policy the cluster was started with.
    #[must_use]
    pub fn new(clock: RunClock, cluster: &Cluster) -> Self {
        let effective = serde_json::to_value(cluster.policy()).unwrap_or_default();
        let boot = PolicyChange { revision: 0, sent_us: 0, accepted_us: 0, effective };
        Self { clock, tried: false, policies: vec![boot] }
    }

    /// Sends a patch to one gateway after the other; whether any accepted it. `since_us` is when that was tried first:
    /// what was stored without anybody hearing of it may be in force since then.
    pub async fn update(&mut self, cluster: &Cluster, patch: &Value, since_us: u64) -> Result<bool, HarnessError> {
        let mut body = patch.clone();
        body["reason"] = "a scenario's update".into();
        self.change(cluster, "/admin/gateway/update-config", &body, since_us).await
    }

    /// Asks one gateway after the other to go back to an earlier revision; as [`Operator::update`].
    pub async fn roll_back(&mut self, cluster: &Cluster, revision: u64, since_us: u64) -> Result<bool, HarnessError> {
        let body = json!({ "revision": revision, "reason": "a scenario's rollback" });
        self.change(cluster, "/admin/gateway/config/rollback", &body, since_us).await
    }

    /// Every policy of the run, by revision, when no fault is left that could be in the way of asking. Among them are
    /// those whose acceptance got lost: they count as accepted now, because nobody knew before.
    pub async fn account(mut self, cluster: &Cluster) -> Result<Vec<PolicyChange>, HarnessError> {
        if self.tried {
            let admin = cluster.admin(0);
            let asked = eventually(READ_LIMIT, "the gateway lists its revisions", || self.kept(&admin, cluster));
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

    async fn change(
        &mut self,
        cluster: &Cluster,
        route: &str,
        body: &Value,
        since_us: u64,
    ) -> Result<bool, HarnessError> {
        self.tried = true;
        for index in 0..cluster.members().len() {
            // One that does not answer, or cannot, leaves it to the next.
            let answered = tokio::time::timeout(ANSWER_LIMIT, cluster.admin(index).post(route, body)).await;
            let Ok(Ok(answer)) = answered else { continue };
            match answer.status {
                200 => {
                    let revision = answer.body["revision"].as_u64();
                    let revision = revision.ok_or_else(|| HarnessError::Answer(answer.text.clone()))?;
                    // What changes nothing is answered with the revision there is.
                    if self.policies.iter().all(|policy| policy.revision != revision) {
                        let (accepted_us, effective) = (self.clock.now_us(), Value::Null);
                        self.policies.push(PolicyChange { revision, sent_us: since_us, accepted_us, effective });
                    }
                    return Ok(true);
                }
                500.. => {}
                _ => return Err(HarnessError::Answer(answer.text)),
            }
        }
        Ok(false)
    }
}
