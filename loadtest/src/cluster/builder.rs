//! What a cluster is made of, and starting it.
//!
//! Responsible for the environment and arguments of every child. Must never let a child inherit the caller's
//! environment: a `REDIS_URL` set in a shell would have the cluster write into somebody's Redis.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use portcullis_config::{Component, Policy, Scope};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::http_client;
use crate::cluster::{Cluster, Invocation, Redis};
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
    append_only: bool,
    redis_url: Option<String>,
    env: BTreeMap<String, String>,
}

impl Builder {
    pub(super) fn new(launcher: Launcher) -> Self {
        Self {
            launcher,
            gateways: 1,
            processors: 0,
            document: json!({}),
            handlers: Vec::new(),
            append_only: false,
            redis_url: None,
            env: BTreeMap::new(),
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
        self.append_only = append_only;
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

    /// Starts everything and waits until it is ready for traffic.
    pub async fn start(self) -> Result<Cluster, HarnessError> {
        let redis = if self.redis_url.is_none() { Some(Redis::start(self.append_only).await?) } else { None };
        let redis_url = redis.as_ref().map(Redis::url).or_else(|| self.redis_url.clone()).unwrap_or_default();
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
            redis,
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

    pub(super) fn gateway(&self, cluster: &Cluster, index: usize) -> Invocation {
        let (program, mut args) = self.launcher.gateway();
        args.push("--dev-tokens".into());
        let name = format!("gateway-{index}");
        let mut env = self.environment(cluster, &name);
        env.entry("PORTCULLIS_LISTEN".to_owned()).or_insert_with(|| "127.0.0.1:0".to_owned());
        Invocation { name, program, args, env }
    }

    pub(super) fn processor(&self, cluster: &Cluster) -> Invocation {
        let (program, args) = self.launcher.processor();
        let name = format!("processor-{}", cluster.processors.len());
        let mut env = self.environment(cluster, &name);
        if !self.handlers.is_empty() {
            env.insert("PORTCULLIS_HANDLER".to_owned(), self.handlers.join(","));
        }
        Invocation { name, program, args, env }
    }

    fn environment(&self, cluster: &Cluster, instance: &str) -> BTreeMap<String, String> {
        let mut env = BTreeMap::from(
            [
                ("GATEWAY_CONFIG_JSON", self.document.to_string()),
                ("INSTANCE_ID", instance.to_owned()),
                ("PORTCULLIS_ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
                ("PORTCULLIS_ADMIN_TOKEN", cluster.admin_token.clone()),
                ("PORTCULLIS_DRAIN_SECONDS", "1".to_owned()),
                ("PORTCULLIS_LOG", "info".to_owned()),
                ("PORTCULLIS_LOG_FORMAT", "text".to_owned()),
                ("PROJECT_ID", cluster.scope.project().to_owned()),
                ("REDIS_URL", cluster.redis_url.clone()),
                ("TENANT_ID", cluster.scope.tenant().to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        env.extend(self.env.clone());
        env
    }
}

/// The policy the children will come to, by the same loader.
fn effective_policy(document: &Value, scope: &Scope) -> Result<Policy, HarnessError> {
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
