//! Flags and the environment variables that stand for them. Must never interpret a value beyond its shape: that is
//! `settings.rs`, which can report all faults at once.

#![expect(clippy::doc_markdown, reason = "these comments are the text of --help, where backticks would be noise")]

use std::net::SocketAddr;

use clap::Parser;
use clap::builder::BoolishValueParser;
use portcullis_config::identity::{project_name, tenant_name};
use portcullis_config::logging::LogFormat;
use secrecy::SecretString;

use super::settings::StartFault;

/// Runs the tasks that the gateways of a scope have admitted.
///
/// The policy is the one stored for the scope, followed while it changes. Where none is stored it is read from
/// GATEWAY_CONFIG_JSON, GATEWAY_YAML_PATH or PLATFORM_DESCRIPTORS_DIR/gateway.yaml, else the shipped one applies.
/// SIGTERM drains; a second one ends at once.
#[derive(Parser)]
#[command(name = "portcullis-processor", version)]
pub(super) struct Args {
    /// Redis: redis://, rediss://, redis-cluster:// or redis-sentinel:// [default: the policy's, else
    /// redis://127.0.0.1:6379]
    #[arg(long, env = "REDIS_URL", value_name = "URL", hide_env_values = true)]
    pub(super) redis_url: Option<String>,

    /// Use a Redis off loopback although its URL has no password
    #[arg(long, env = "PORTCULLIS_ALLOW_OPEN_REDIS", value_parser = BoolishValueParser::new())]
    pub(super) allow_open_redis: bool,

    /// Tenant whose tasks to run [default: the policy's]
    #[arg(long, env = "TENANT_ID", value_name = "NAME", value_parser = tenant_name)]
    pub(super) tenant: Option<String>,

    /// Project whose tasks to run [default: the policy's]
    #[arg(long, env = "PROJECT_ID", value_name = "NAME", value_parser = project_name)]
    pub(super) project: Option<String>,

    /// Who runs which kind of task; may be repeated, or several separated by commas. KIND is a kind or * for all
    /// others, TARGET is an http(s) URL, builtin:echo or builtin:sleep
    #[arg(long = "handler", env = "PORTCULLIS_HANDLER", value_name = "KIND=TARGET", value_delimiter = ',')]
    pub(super) handlers: Vec<String>,

    /// Attempts to run at once [default: the policy's service_capacity.concurrent_requests_per_process]
    #[arg(long, env = "PORTCULLIS_SLOTS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) slots: Option<u32>,

    /// Listener for /healthz, /readyz and /metrics; off loopback it needs PORTCULLIS_ADMIN_TOKEN
    #[arg(long, env = "PORTCULLIS_ADMIN_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8082")]
    pub(super) admin_listen: SocketAddr,

    /// Bearer token for /metrics, at least 32 random bytes; better given in the environment than on the command line
    #[arg(long, env = "PORTCULLIS_ADMIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub(super) admin_token: Option<SecretString>,

    /// Name of this machine or container in heartbeats [default: the policy's instance_id, else HOSTNAME]
    #[arg(long, env = "INSTANCE_ID", value_name = "NAME")]
    pub(super) instance_id: Option<String>,

    /// Store the policy it is started with as a new revision, unless it is the stored one
    #[arg(long, env = "GATEWAY_CONFIG_FORCE_ENV_ON_STARTUP", value_parser = BoolishValueParser::new())]
    pub(super) force_env_on_startup: bool,

    /// How long running attempts may go on after SIGTERM before they are handed back
    #[arg(long, env = "PORTCULLIS_DRAIN_SECONDS", value_name = "SECONDS", default_value_t = 25,
        value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub(super) drain_seconds: u64,

    /// End with 69 when Redis has not answered within this time at start [default: keep trying]
    #[arg(long, env = "PORTCULLIS_REDIS_WAIT_MS", value_name = "MS")]
    pub(super) redis_wait_ms: Option<u64>,

    /// Connections to Redis for commands; the one that waits for work comes on top
    #[arg(long, env = "PORTCULLIS_REDIS_CONNECTIONS", value_name = "N", default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(super) redis_connections: u16,

    /// A Redis command without an answer after this long has failed
    #[arg(long, env = "PORTCULLIS_PROCESSOR_STORE_TIMEOUT_MS", value_name = "MS", default_value_t = 500,
        value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub(super) store_timeout_ms: u64,

    /// Log filter, such as info or portcullis_processor=debug,warn
    #[arg(long, env = "PORTCULLIS_LOG", value_name = "FILTER", default_value = "info")]
    pub(super) log: String,

    /// How log lines look [default: text on a terminal, else json]
    #[arg(long, env = "PORTCULLIS_LOG_FORMAT", value_name = "FORMAT", value_enum)]
    pub(super) log_format: Option<LogFormat>,

    /// The variables that gave one of these its value
    #[arg(skip)]
    pub(super) variables: Vec<String>,
}

impl Args {
    /// Whether this variable is where a setting comes from.
    pub(super) fn is_from_environment(&self, setting: &str) -> bool {
        self.variables.iter().any(|variable| variable == setting)
    }

    /// What a fault of this setting is one of: of the command line, or of a variable.
    pub(super) fn blame(&self, setting: &str) -> fn(Vec<String>) -> StartFault {
        if self.is_from_environment(setting) { StartFault::Variables } else { StartFault::Usage }
    }
}
