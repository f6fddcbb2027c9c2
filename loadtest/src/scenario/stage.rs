//! What a run happens on: a cluster of its own, or somebody's deployment.
//!
//! Responsible for starting everything a scenario names, and for what can be known of a deployment by the addresses it
//! was given. Must never start a load.

use std::collections::BTreeMap;

use clap::Args;
use portcullis_config::{Policy, Scope};
use serde_json::json;

use super::Scenario;
use crate::cluster::builder::effective_policy;
use crate::cluster::skew::Clocks;
use crate::cluster::{Cluster, Launcher, Member, Redis};
use crate::error::HarnessError;
use crate::observe::Backend;
use crate::record::{PolicyChange, RunClock};

/// A cluster of the run's own, with its handlers.
#[derive(Debug)]
pub struct Stage {
    /// The cluster.
    pub cluster: Cluster,
    /// The handlers.
    pub backend: Backend,
    /// The clock of the handlers' log. It has been running since before the cluster, which has to know where they are.
    pub handlers_clock: RunClock,
    /// Wall clocks that can be set.
    pub clocks: Option<Clocks>,
}

/// Why a scenario cannot be played on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotHere(pub String);

impl Stage {
    /// Starts what the scenario names, and waits until it is ready for traffic.
    pub async fn start(scenario: &Scenario, launcher: Launcher) -> Result<Result<Self, NotHere>, HarnessError> {
        let spec = &scenario.cluster;
        let clocks = match scenario.clocks() {
            ahead if ahead.is_empty() => None,
            ahead => match Clocks::find()? {
                Some(clocks) => Some((clocks, ahead)),
                None => return Ok(Err(NotHere("libfaketime is not installed (Debian: libfaketime)".to_owned()))),
            },
        };
        let handlers_clock = RunClock::start();
        let backend = Backend::start(handlers_clock, scenario.backend.clone()).await?;
        let document = if spec.policy.is_null() { json!({}) } else { spec.policy.clone() };
        let mut builder = Cluster::builder(launcher).gateways(spec.gateways).processors(spec.processors);
        builder = builder.slots(spec.slots).redis(spec.redis).policy(document);
        for kind in scenario.backend.keys() {
            builder = builder.handler(kind, &backend.target(kind));
        }
        if let Some(timeout_ms) = spec.store_timeout_ms {
            builder = builder.env("PORTCULLIS_STORE_TIMEOUT_MS", &timeout_ms.to_string());
        }
        if let Some((clocks, ahead)) = &clocks {
            for (member, ahead_seconds) in ahead {
                builder = clocks.give(builder, *member, *ahead_seconds)?;
            }
        }
        let cluster = builder.start().await?;
        Ok(Ok(Self { cluster, backend, handlers_clock, clocks: clocks.map(|(clocks, _)| clocks) }))
    }

    /// Ids of every process of the cluster, by name.
    pub fn processes(&mut self) -> BTreeMap<String, u32> {
        let mut processes = BTreeMap::new();
        for member in self.cluster.members() {
            let id = self.cluster.member(member).ok().and_then(|process| process.id());
            processes.extend(id.map(|id| (member.to_string(), id)));
        }
        if let Ok(topology) = self.cluster.topology() {
            let ids = topology.servers().iter().map(Redis::id);
            processes.extend(ids.enumerate().filter_map(|(index, id)| Some((topology.name(index), id?))));
        }
        processes
    }

    /// What every process that is not there any more wrote last. Nobody has undone its end, so it ended by itself.
    pub fn ended(&mut self) -> Vec<(Member, String)> {
        let mut ended = Vec::new();
        for member in self.cluster.members() {
            if let Ok(process) = self.cluster.member(member)
                && !process.is_running()
            {
                ended.push((member, process.stderr()));
            }
        }
        ended
    }
}

/// A deployment that is there already, and stays.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "A deployment of your own (instead of a cluster that is started for the run)")]
pub struct Deployment {
    /// Address of a gateway, or of the balancer in front; once for each
    #[arg(long = "url", value_name = "URL")]
    pub urls: Vec<String>,
    /// Admin listener of a gateway: without it the policy is taken to be the shipped one
    #[arg(long, value_name = "URL", requires = "admin_token", requires = "urls")]
    pub admin_url: Option<String>,
    /// Token of that listener
    #[arg(long, value_name = "TOKEN", env = "PORTCULLIS_ADMIN_TOKEN", hide_env_values = true)]
    pub admin_token: Option<String>,
    /// Redis of the deployment, to read decisions and samples from
    #[arg(long, value_name = "URL", requires = "urls", requires = "scope")]
    pub redis_url: Option<String>,
    /// Scope that callers of the load belong to
    #[arg(long, value_name = "TENANT/PROJECT", value_parser = scope)]
    pub scope: Option<Scope>,
}

fn scope(text: &str) -> Result<Scope, String> {
    let (tenant, project) = text.split_once('/').ok_or("must be TENANT/PROJECT")?;
    Scope::new(tenant, project).map_err(|error| error.to_string())
}

impl Deployment {
    /// The policy in force, if its admin listener says so.
    pub async fn policy(&self) -> Result<Option<PolicyChange>, HarnessError> {
        let (Some(url), Some(token)) = (&self.admin_url, &self.admin_token) else { return Ok(None) };
        let http = crate::client::http_client()?;
        let asked = http.get(format!("{}/admin/gateway/config", url.trim_end_matches('/'))).bearer_auth(token);
        let answer = asked.send().await?;
        if !answer.status().is_success() {
            return Err(HarnessError::Answer(format!("the admin listener answers {}", answer.status())));
        }
        let shown: serde_json::Value = answer.json().await?;
        let revision = shown["revision"].as_u64().unwrap_or_default();
        Ok(Some(PolicyChange { revision, sent_us: 0, accepted_us: 0, effective: shown["effective"].clone() }))
    }

    /// What the observer takes for the policy as long as none is stored.
    pub fn policy_to_begin_with(&self, known: Option<&PolicyChange>, scope: &Scope) -> Result<Policy, HarnessError> {
        match known {
            Some(known) => serde_json::from_value(known.effective.clone())
                .map_err(|error| HarnessError::Policy(format!("the deployment's: {error}"))),
            None => effective_policy(&json!({}), scope),
        }
    }
}
