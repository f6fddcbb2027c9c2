//! The Redis of a cluster: one server, a primary with replicas under Sentinel, or the nodes of a Redis Cluster.
//!
//! Responsible for starting the servers of each kind, for the URL by which clients find them, and for knowing which of
//! them serves a scope at the moment. Must never decide a failover: that is what Sentinel and the nodes are there for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::redis::{Redis, RedisRole, SERVICE_NAME};
use crate::error::HarnessError;
use crate::eventually::eventually;

/// How long servers may take to agree on who they are.
const AGREE_LIMIT: Duration = Duration::from_secs(60);
/// Slots of a Redis Cluster.
const SLOTS: u32 = 16_384;
/// Primaries of a Redis Cluster: the fewest that can agree that one of them is gone.
const SHARDS: u32 = 3;
const SENTINELS: u32 = 3;

/// How servers are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopologyKind {
    /// One server.
    #[default]
    Standalone,
    /// A primary, its replicas, and three sentinels that replace it when it is gone.
    Sentinel,
    /// Three primaries with a third of the slots each, and replicas of each.
    Cluster,
}

/// What Redis a cluster has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Layout {
    /// How servers are put together.
    pub topology: TopologyKind,
    /// Replicas of each primary. Sentinel has at least one.
    pub replicas: u32,
    /// Whether a server that is killed has its data when it is started again.
    pub append_only: bool,
    /// Whether each process of the cluster has a way to Redis of its own that can be slowed down and cut. Standalone
    /// only: sentinels and nodes tell clients addresses that no proxy knows.
    pub proxied: bool,
}

/// The servers.
#[derive(Debug)]
pub struct Topology {
    kind: TopologyKind,
    servers: Vec<Redis>,
    sentinels: Vec<Redis>,
}

impl Topology {
    /// Starts the servers and waits until they serve.
    pub async fn start(layout: &Layout) -> Result<Self, HarnessError> {
        let mut topology = Self { kind: layout.topology, servers: Vec::new(), sentinels: Vec::new() };
        match layout.topology {
            TopologyKind::Standalone => topology.servers.push(Redis::start(layout.append_only).await?),
            TopologyKind::Sentinel => topology.start_sentinel(layout).await?,
            TopologyKind::Cluster => topology.start_cluster(layout).await?,
        }
        Ok(topology)
    }

    /// Where clients find it: `redis://`, `redis-sentinel://` or `redis-cluster://`.
    #[must_use]
    pub fn url(&self) -> String {
        let (scheme, known, service) = match self.kind {
            TopologyKind::Standalone => return self.servers[0].url(),
            TopologyKind::Sentinel => {
                ("redis-sentinel", &self.sentinels, format!("&sentinelServiceName={SERVICE_NAME}"))
            }
            TopologyKind::Cluster => ("redis-cluster", &self.servers, String::new()),
        };
        let others: Vec<String> = known.iter().skip(1).map(|server| format!("node={}", server.address())).collect();
        format!("{scheme}://{}?{}{service}", known[0].address(), others.join("&"))
    }

    /// How the servers are put together.
    #[must_use]
    pub fn kind(&self) -> TopologyKind {
        self.kind
    }

    /// The servers that hold data, in the order of their start; those of Sentinel are not among them.
    #[must_use]
    pub fn servers(&self) -> &[Redis] {
        &self.servers
    }

    /// Name of the server of this number in samples and messages.
    #[must_use]
    pub fn name(&self, index: usize) -> String {
        if self.servers.len() == 1 { "redis".to_owned() } else { format!("redis-{index}") }
    }

    /// The server of this number.
    pub fn server(&mut self, index: usize) -> Result<&mut Redis, HarnessError> {
        self.servers.get_mut(index).ok_or_else(|| HarnessError::Answer(format!("there is no redis server {index}")))
    }

    /// Number of the server that serves keys with this prefix now.
    pub async fn primary_of(&self, key_prefix: &str) -> Result<usize, HarnessError> {
        match self.kind {
            TopologyKind::Standalone => Ok(0),
            TopologyKind::Sentinel => self.elected().await,
            TopologyKind::Cluster => self.owner(key_prefix).await,
        }
    }

    /// The primary by the word of any sentinel.
    async fn elected(&self) -> Result<usize, HarnessError> {
        for sentinel in &self.sentinels {
            let Ok(answer) = sentinel.ask(&format!("SENTINEL GET-MASTER-ADDR-BY-NAME {SERVICE_NAME}")).await else {
                continue;
            };
            let address = answer.replace('\n', ":");
            let found = self.servers.iter().position(|server| server.address().to_string() == address);
            return found.ok_or_else(|| HarnessError::Answer(format!("{address} is none of the servers")));
        }
        Err(HarnessError::Answer("no sentinel answers".to_owned()))
    }

    /// The node that does not send a client elsewhere.
    async fn owner(&self, key_prefix: &str) -> Result<usize, HarnessError> {
        for (index, server) in self.servers.iter().enumerate() {
            if server.id().is_some() && server.ask(&format!("EXISTS {key_prefix}")).await.is_ok() {
                return Ok(index);
            }
        }
        Err(HarnessError::Answer("no node owns the slot".to_owned()))
    }

    async fn start_sentinel(&mut self, layout: &Layout) -> Result<(), HarnessError> {
        let primary = Redis::start_as(RedisRole::Primary, layout.append_only).await?;
        let port = primary.address().port();
        self.servers.push(primary);
        for _ in 0..layout.replicas.max(1) {
            self.servers.push(Redis::start_as(RedisRole::Replica(port), layout.append_only).await?);
        }
        let replicas = self.servers.len() - 1;
        eventually(AGREE_LIMIT, "every replica is in step", || async {
            let info = self.servers[0].ask("INFO replication").await.ok()?;
            (info.matches("state=online").count() == replicas).then_some(())
        })
        .await?;
        for _ in 0..SENTINELS {
            self.sentinels.push(Redis::start_as(RedisRole::Sentinel(port), false).await?);
        }
        eventually(AGREE_LIMIT, "every sentinel knows the others and every replica", || async {
            for sentinel in &self.sentinels {
                let seen = sentinel.ask("INFO sentinel").await.ok()?;
                let whole =
                    format!("status=ok,address={},slaves={replicas},sentinels={SENTINELS}", self.servers[0].address());
                seen.contains(&whole).then_some(())?;
            }
            Some(())
        })
        .await
    }

    async fn start_cluster(&mut self, layout: &Layout) -> Result<(), HarnessError> {
        for _ in 0..SHARDS * (1 + layout.replicas) {
            self.servers.push(Redis::start_as(RedisRole::Node, layout.append_only).await?);
        }
        for (shard, node) in (0..SHARDS).zip(&self.servers) {
            let (first, last) = (shard * SLOTS / SHARDS, (shard + 1) * SLOTS / SHARDS - 1);
            node.ask(&format!("CLUSTER ADDSLOTSRANGE {first} {last}")).await?;
            node.ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", shard + 1)).await?;
        }
        for node in &self.servers[1..] {
            let (address, bus_port) = (node.address(), node.bus_port());
            self.servers[0].ask(&format!("CLUSTER MEET {} {} {bus_port}", address.ip(), address.port())).await?;
        }
        self.all_nodes("cluster_known_nodes", &self.servers.len().to_string()).await?;
        for (replica, node) in self.servers[SHARDS as usize..].iter().enumerate() {
            let primary = &self.servers[replica % SHARDS as usize];
            let id = primary.ask("CLUSTER MYID").await?;
            node.ask(&format!("CLUSTER REPLICATE {id}")).await?;
        }
        self.all_nodes("cluster_state", "ok").await?;
        self.replicas_in_step().await
    }

    /// Waits until every node says this of the cluster.
    async fn all_nodes(&self, field: &str, value: &str) -> Result<(), HarnessError> {
        let wanted = format!("{field}:{value}");
        eventually(AGREE_LIMIT, &format!("every node says {wanted}"), || async {
            for node in &self.servers {
                let info = node.ask("CLUSTER INFO").await.ok()?;
                info.lines().any(|line| line == wanted).then_some(())?;
            }
            Some(())
        })
        .await
    }

    /// Waits until every replica of the cluster has what its primary has: one that has not cannot take over.
    async fn replicas_in_step(&self) -> Result<(), HarnessError> {
        eventually(AGREE_LIMIT, "every replica is in step", || async {
            for replica in &self.servers[SHARDS as usize..] {
                let info = replica.ask("INFO replication").await.ok()?;
                info.lines().any(|line| line == "master_link_status:up").then_some(())?;
            }
            Some(())
        })
        .await
    }
}
