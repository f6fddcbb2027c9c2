//! What a cluster is made of, and starting it.
//!
//! Responsible for the environment and arguments of every child. Must never let a child inherit the caller's
//! environment: a `REDIS_URL` set in a shell would have the cluster write into somebody's Redis.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use portcullis_config::{Component, Policy, Scope};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::http_client;
use crate::cluster::{Cluster, Invocation, Layout, Link, Member, Topology, TopologyKind};
use crate::error::HarnessError;

/// Where the executables of gateway and processor are.
#[derive(Clone, Debug)]
pub enum Launcher {
    /// `portcullis-loadtest` itself, whose hidden subcommands are both.
    Embedded(PathBuf),
    /// The real ones.
    Binaries {
        /// `portcullis-gateway`.
        gateway: PathBuf,
        /// `portcullis-processor`.
        processor: PathBuf,
    },
}

impl Launcher {
    /// The real executables beside the running one, or the running one itself where they were not built.
    pub fn beside_current_exe() -> Result<Self, HarnessError> {
        let this = std::env::current_exe().map_err(HarnessError::io("finding this executable"))?;
        let sibling = |name: &str| Some(this.with_file_name(name)).filter(|path| path.is_file());
        Ok(match (sibling("portcullis-gateway"), sibling("portcullis-processor")) {
            (Some(gateway), Some(processor)) => Self::Binaries { gateway, processor },
            _ => Self::Embedded(this),
        })
    }

    fn gateway(&self) -> (PathBuf, Vec<OsString>) {
        match self {
            Self::Embedded(program) => (program.clone(), vec!["gateway".into(), "serve".into()]),
            Self::Binaries { gateway, .. } => (gateway.clone(), vec!["serve".into()]),
        }
    }

    fn processor(&self) -> (PathBuf, Vec<OsString>) {
        match self {
            Self::Embedded(program) => (program.clone(), vec!["processor".into()]),
            Self::Binaries { processor, .. } => (processor.clone(), Vec::new()),
        }
    }
}

/// What to start. Every setting has a default: one gateway, no processor, the shipped policy, a private Redis that
/// keeps nothing.
#[derive(Clone, Debug)]
pub struct Builder {
    launcher: Launcher,
    gateways: usize,
    processors: usize,
    document: Value,
    handlers: Vec<String>,
    layout: Layout,
    redis_url: Option<String>,
    env: BTreeMap<String, String>,
    member_env: BTreeMap<Member, BTreeMap<String, String>>,
    transcripts: Option<PathBuf>,
}

impl Builder {
    pub(super) fn new(launcher: Launcher) -> Self {
        Self {
            launcher,
            gateways: 1,
            processors: 0,
            document: json!({}),
            handlers: Vec::new(),
            layout: Layout::default(),
            redis_url: None,
            env: BTreeMap::new(),
            member_env: BTreeMap::new(),
            transcripts: None,
        }
    }

    /// How many gateways.
    #[must_use]
    pub fn gateways(mut self, count: usize) -> Self {
        self.gateways = count;
        self
    }

    /// How many processors.
    #[must_use]
    pub fn processors(mut self, count: usize) -> Self {
        self.processors = count;
        self
    }

    /// A policy document, merged over the shipped one as any document is.
    #[must_use]
    pub fn policy(mut self, document: Value) -> Self {
        self.document = document;
        self
    }

    /// A task kind and what runs it, such as `demo` and `builtin:echo`.
    #[must_use]
    pub fn handler(mut self, kind: &str, target: &str) -> Self {
        self.handlers.push(format!("{kind}={target}"));
        self
    }

    /// Concurrent attempts of each processor.
    #[must_use]
    pub fn slots(self, slots: u32) -> Self {
        self.env("PORTCULLIS_SLOTS", &slots.to_string())
    }

    /// Whether the private Redis survives being killed.
    #[must_use]
    pub fn append_only(mut self, append_only: bool) -> Self {
        self.layout.append_only = append_only;
        self
    }

    /// What Redis the cluster has, unless it uses one that already runs.
    #[must_use]
    pub fn redis(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Uses a Redis that already runs, in a scope of a random name.
    #[must_use]
    pub fn redis_url(mut self, url: Option<String>) -> Self {
        self.redis_url = url;
        self
    }

    /// Sets an environment variable of every child.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets an environment variable of one child.
    #[must_use]
    pub fn member_env(mut self, member: Member, name: &str, value: &str) -> Self {
        self.member_env.entry(member).or_default().insert(name.to_owned(), value.to_owned());
        self
    }

    /// Keeps everything that each child prints in a file of its name in this directory.
    #[must_use]
    pub fn transcripts(mut self, directory: &Path) -> Self {
        self.transcripts = Some(directory.to_owned());
        self
    }

    /// Starts everything and waits until it is ready for traffic.
    pub async fn start(self) -> Result<Cluster, HarnessError> {
        let topology = if self.redis_url.is_none() { Some(Topology::start(&self.layout).await?) } else { None };
        let redis_url = topology.as_ref().map(Topology::url).or_else(|| self.redis_url.clone()).unwrap_or_default();
        let links = self.links(topology.as_ref()).await?;
        let scope = Scope::new(format!("loadtest-{}", random_hex(8)), "cluster")
            .map_err(|name| HarnessError::Policy(name.to_string()))?;
        let policy = effective_policy(&self.document, &scope)?;
        let mut cluster = Cluster {
            gateways: Vec::new(),
            processors: Vec::new(),
            stand_ins: JoinSet::new(),
            http: http_client()?,
            policy,
            scope,
            admin_token: random_hex(40),
            redis_url,
            links,
            topology,
            settings: self,
        };
        for _ in 0..cluster.settings.processors {
            cluster.add_processor().await?;
        }
        for _ in 0..cluster.settings.gateways {
            cluster.add_gateway().await?;
        }
        cluster.until_ready().await?;
        Ok(cluster)
    }

    /// A way to Redis for each child, where each is to have its own.
    async fn links(&self, topology: Option<&Topology>) -> Result<BTreeMap<Member, Link>, HarnessError> {
        let mut links = BTreeMap::new();
        let standalone = topology.filter(|topology| topology.kind() == TopologyKind::Standalone);
        if let Some(topology) = standalone.filter(|_| self.layout.proxied) {
            let gateways = (0..self.gateways).map(Member::Gateway);
            for member in gateways.chain((0..self.processors).map(Member::Processor)) {
                links.insert(member, Link::to(topology.servers()[0].address()).await?);
            }
        }
        Ok(links)
    }

    pub(super) fn invocation(&self, cluster: &Cluster, member: Member) -> Invocation {
        let mut env = self.environment(cluster, member);
        let (program, mut args) = match member {
            Member::Gateway(_) => self.launcher.gateway(),
            Member::Processor(_) => self.launcher.processor(),
        };
        match member {
            Member::Gateway(_) => {
                args.push("--dev-tokens".into());
                env.entry("PORTCULLIS_LISTEN".to_owned()).or_insert_with(|| "127.0.0.1:0".to_owned());
            }
            Member::Processor(_) if self.handlers.is_empty() => {}
            Member::Processor(_) => {
                env.insert("PORTCULLIS_HANDLER".to_owned(), self.handlers.join(","));
            }
        }
        let transcript = self.transcripts.as_ref().map(|directory| directory.join(member.to_string()));
        Invocation { name: member.to_string(), program, args, env, transcript }
    }

    fn environment(&self, cluster: &Cluster, member: Member) -> BTreeMap<String, String> {
        let redis_url = cluster.links.get(&member).map_or_else(|| cluster.redis_url.clone(), Link::url);
        let mut env = BTreeMap::from(
            [
                ("GATEWAY_CONFIG_JSON", self.document.to_string()),
                ("INSTANCE_ID", member.to_string()),
                ("PORTCULLIS_ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
                ("PORTCULLIS_ADMIN_TOKEN", cluster.admin_token.clone()),
                ("PORTCULLIS_DRAIN_SECONDS", "1".to_owned()),
                ("PORTCULLIS_LOG", "info".to_owned()),
                ("PORTCULLIS_LOG_FORMAT", "text".to_owned()),
                ("PROJECT_ID", cluster.scope.project().to_owned()),
                ("REDIS_URL", redis_url),
                ("TENANT_ID", cluster.scope.tenant().to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        env.extend(self.env.clone());
        env.extend(self.member_env.get(&member).cloned().unwrap_or_default());
        env
    }
}

/// The policy the children will come to, by the same loader.
pub(crate) fn effective_policy(document: &Value, scope: &Scope) -> Result<Policy, HarnessError> {
    let document = document.to_string();
    let env = |name: &str| match name {
        "GATEWAY_CONFIG_JSON" => Some(document.clone()),
        "TENANT_ID" => Some(scope.tenant().to_owned()),
        "PROJECT_ID" => Some(scope.project().to_owned()),
        _ => None,
    };
    let loaded = portcullis_config::load(&env, Component::Ingress);
    loaded.map(|loaded| loaded.policy).map_err(|error| HarnessError::Policy(error.to_string()))
}

fn random_hex(bytes: usize) -> String {
    let mut random = rand::rng();
    let digits = (0..bytes * 2).filter_map(|_| char::from_digit(random.random_range(0..16), 16));
    digits.collect()
}
