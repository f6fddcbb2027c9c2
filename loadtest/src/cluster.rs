//! A whole cluster on one machine: Redis, gateways and processors, on free loopback ports, gone when dropped.
//!
//! Responsible for starting, breaking and ending real processes, for the demonstration, the load tests and the
//! integration tests alike. Must never share anything between two clusters: each has a scope of its own, and unless
//! told otherwise a Redis of its own, so that any number may run at once.

pub mod builder;
pub mod member;
pub mod process;
pub mod topology;
pub mod redis;
pub mod wire;
pub mod link;
pub mod skew;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use portcullis_config::{Policy, Scope};
use portcullis_lua::{CompiledPolicy, Heartbeat, PolicyStamp, ScopeStore, Store, StoreOptions};
use tokio::task::JoinSet;

pub use builder::{Builder, Launcher};
pub use link::Link;
pub use member::Member;
pub use process::{Invocation, Process};
pub use redis::Redis;
pub use topology::{Layout, Topology, TopologyKind};

use crate::client::Client;
use crate::error::HarnessError;
use crate::eventually::eventually;
use crate::probe::Probe;

/// How long a cluster may take until every processor it started counts for capacity.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// More connections to Redis than a gateway has: it takes turns with them, and each must have been made.
const CONNECTIONS_MAX: usize = 12;

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    gateways: Vec<Process>,
    processors: Vec<Process>,
    stand_ins: JoinSet<()>,
    settings: Builder,
    http: reqwest::Client,
    policy: Policy,
    scope: Scope,
    admin_token: String,
    redis_url: String,
    /// Empty unless each child has a way to Redis of its own.
    links: BTreeMap<Member, Link>,
    /// `None` when somebody else's Redis is used. Declared last: it goes after everything that uses it.
    topology: Option<Topology>,
}

impl Cluster {
    /// What to start.
    #[must_use]
    pub fn builder(launcher: Launcher) -> Builder {
        Builder::new(launcher)
    }

    /// An anonymous caller at gateway `index`, counted from 0 and taken modulo their number.
    #[must_use]
    pub fn gateway(&self, index: usize) -> Client {
        Client::new(self.http.clone(), self.public_address(index))
    }

    /// The operator at the admin listener of gateway `index`.
    #[must_use]
    pub fn admin(&self, index: usize) -> Client {
        self.admin_listener(index).bearer(&self.admin_token)
    }

    /// The same listener, to whoever shows nothing.
    #[must_use]
    pub fn admin_listener(&self, index: usize) -> Client {
        let process = &self.gateways[index % self.gateways.len()];
        let address = process.address("admin").unwrap_or_else(|_| unreachable!("checked when it was started"));
        Client::new(self.http.clone(), address)
    }

    /// Whoever asks this process for its health: a gateway at its public listener, a processor at its only one.
    pub fn health(&mut self, member: Member) -> Result<Client, HarnessError> {
        let http = self.http.clone();
        let listener = if matches!(member, Member::Gateway(_)) { "public" } else { "admin" };
        Ok(Client::new(http, self.member(member)?.address(listener)?))
    }

    /// Where gateway `index` listens for the public.
    #[must_use]
    pub fn public_address(&self, index: usize) -> SocketAddr {
        let process = &self.gateways[index % self.gateways.len()];
        process.address("public").unwrap_or_else(|_| unreachable!("checked when it was started"))
    }

    /// The gateways' processes.
    pub fn gateways(&mut self) -> &mut Vec<Process> {
        &mut self.gateways
    }

    /// The processors' processes.
    pub fn processors(&mut self) -> &mut Vec<Process> {
        &mut self.processors
    }

    /// Starts one more processor and waits until it counts for capacity.
    pub async fn add_processor(&mut self) -> Result<(), HarnessError> {
        let process = self.launch(Member::Processor(self.processors.len())).await?;
        self.processors.push(process);
        Ok(())
    }

    /// Starts one more gateway, whether Redis is there or not; an anonymous caller at it.
    pub async fn add_gateway(&mut self) -> Result<Client, HarnessError> {
        let index = self.gateways.len();
        let process = self.launch(Member::Gateway(index)).await?;
        self.gateways.push(process);
        Ok(self.gateway(index))
    }

    /// Starts this many more gateways, all at the same time.
    pub async fn add_gateways(&mut self, count: usize) -> Result<(), HarnessError> {
        let first = self.gateways.len();
        let members = (first..first + count).map(Member::Gateway);
        let started = futures_util::future::try_join_all(members.map(|member| self.launch(member))).await?;
        self.gateways.extend(started);
        Ok(())
    }

    /// The process in this place.
    pub fn member(&mut self, member: Member) -> Result<&mut Process, HarnessError> {
        let process = match member {
            Member::Gateway(index) => self.gateways.get_mut(index),
            Member::Processor(index) => self.processors.get_mut(index),
        };
        process.ok_or_else(|| HarnessError::Answer(format!("there is no {member}")))
    }

    /// Every place for a process, gateways first.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let gateways = (0..self.gateways.len()).map(Member::Gateway);
        gateways.chain((0..self.processors.len()).map(Member::Processor)).collect()
    }

    /// Starts another process in the place of one that is gone, under the same name. A gateway listens on another port.
    pub async fn start_again(&mut self, member: Member) -> Result<(), HarnessError> {
        let process = self.launch(member).await?;
        *self.member(member)? = process;
        Ok(())
    }

    async fn launch(&self, member: Member) -> Result<Process, HarnessError> {
        let process = Process::start(&self.settings.invocation(self, member)).await?;
        process.address("admin")?;
        if matches!(member, Member::Gateway(_)) {
            process.address("public")?;
        }
        Ok(process)
    }

    /// The way of this process to Redis. Only a cluster whose Redis is proxied has them.
    pub fn link(&self, member: Member) -> Result<&Link, HarnessError> {
        self.links.get(&member).ok_or_else(|| HarnessError::Answer(format!("{member} has no way to redis of its own")))
    }

    /// Sets an environment variable of every child that is started from now on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.settings = self.settings.clone().env(name, value);
    }

    /// The Redis server of this cluster; of several the one that was started first.
    pub fn redis(&mut self) -> Result<&mut Redis, HarnessError> {
        self.topology()?.server(0)
    }

    /// The Redis servers of this cluster.
    pub fn topology(&mut self) -> Result<&mut Topology, HarnessError> {
        self.topology.as_mut().ok_or_else(|| HarnessError::Answer("this cluster uses somebody else's redis".to_owned()))
    }

    /// Where its Redis is.
    #[must_use]
    pub fn redis_url(&self) -> &str {
        &self.redis_url
    }

    /// The token of every admin listener.
    #[must_use]
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// The scope every process of the cluster serves.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// What every key of the scope starts with: the hash tag that design and documentation fix.
    #[must_use]
    pub fn key_prefix(&self) -> String {
        format!("{{{}:{}}}", self.scope.tenant(), self.scope.project())
    }

    /// The effective policy its processes were started with.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The same policy as scripts take it, at the revision of a boot document.
    #[must_use]
    pub fn compiled_policy(&self) -> CompiledPolicy {
        CompiledPolicy::new(&self.policy, PolicyStamp::NONE)
    }

    /// The scope's scripts, over connections of the caller's own.
    pub async fn store(&self) -> Result<ScopeStore, HarnessError> {
        Ok(open_store(&self.redis_url).await?.scope(&self.scope))
    }

    /// A plain connection to its Redis.
    pub async fn probe(&self) -> Result<Probe, HarnessError> {
        Probe::connect(&self.redis_url).await
    }

    /// Lets a processor of this many slots be believed in that never takes work, as long as the cluster lives.
    pub async fn stand_in(&mut self, slots: u32) -> Result<(), HarnessError> {
        let (store, policy) = (self.store().await?, self.compiled_policy());
        let beat = stand_in_beat(format!("stand-in-{:08x}", rand::random::<u32>()), slots);
        store.heartbeat(&policy, &beat).await?;
        self.stand_ins.spawn(keep_beating(store, policy, beat));
        Ok(())
    }

    /// Every stand-in falls silent.
    pub async fn dismiss_stand_ins(&mut self) {
        self.stand_ins.shutdown().await;
    }

    /// Ends every process, and removes the scope's keys from a Redis that stays.
    pub async fn end(&mut self) -> Result<(), HarnessError> {
        self.stand_ins.shutdown().await;
        for process in self.gateways.iter_mut().chain(&mut self.processors) {
            process.kill().await?;
        }
        if self.topology.is_none() {
            let probe = self.probe().await?;
            for key in probe.keys(&self.key_prefix()).await? {
                probe.command("UNLINK", [key.as_str()]).await?;
            }
            probe.close().await;
        }
        Ok(())
    }

    async fn until_ready(&self) -> Result<(), HarnessError> {
        let (store, policy, wanted) = (self.store().await?, self.compiled_policy(), self.processors.len());
        let counted = eventually(READY_LIMIT, "every processor counts for capacity", || async {
            let live = store.processors(&policy).await.ok()?.iter().filter(|processor| processor.live).count();
            (live >= wanted).then_some(())
        });
        counted.await?;
        for index in 0..self.gateways.len() {
            let client = self.gateway(index);
            let in_a_row = Cell::new(0);
            eventually(READY_LIMIT, "the gateway reaches redis", || async {
                let reached = client.limits().await.is_ok_and(|answer| answer.status == 200);
                in_a_row.set(if reached { in_a_row.get() + 1 } else { 0 });
                (in_a_row.get() >= CONNECTIONS_MAX).then_some(())
            })
            .await?;
        }
        Ok(())
    }
}

/// A store that is connected.
pub async fn open_store(redis_url: &str) -> Result<Store, HarnessError> {
    let options = StoreOptions { url: redis_url.to_owned(), connections: 1, command_timeout: Duration::from_secs(10) };
    let store = Store::open(&options)?;
    store.wait_ready(READY_LIMIT).await?;
    Ok(store)
}

/// The heartbeat of a processor that is none.
#[must_use]
pub fn stand_in_beat(worker: String, slots: u32) -> Heartbeat {
    Heartbeat {
        instance: worker.clone(),
        worker,
        slots,
        running: 0,
        draining: false,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        policy_revision: 0,
        policy_fault: None,
        kinds: vec!["*".to_owned()],
    }
}

/// Beats often enough for any valid policy, whose shortest heartbeat timeout is one second. Ends when aborted.
async fn keep_beating(store: ScopeStore, policy: CompiledPolicy, beat: Heartbeat) {
    let mut beats = tokio::time::interval(Duration::from_millis(250));
    loop {
        beats.tick().await;
        // A beat lost to an outage is made up for by the next.
        drop(store.heartbeat(&policy, &beat).await);
    }
}
