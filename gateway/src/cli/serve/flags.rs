//! The flags of `serve`.
//!
//! Responsible for names, variables, defaults and ranges, and for what `--help` says about them. Must never take a
//! secret, but for the password of a URL, which has a variable too.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, value_parser};
use ipnet::IpNet;
use portcullis_config::logging::LogFormat;
use secrecy::SecretString;

use crate::cli::policy_source::PolicySource;
use crate::proxy::UpstreamUrl;

/// What a gateway is told on its command line.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own, on or off")]
pub(crate) struct ServeArgs {
    /// Address of the public listener
    #[arg(long, value_name = "ADDR", env = "PORTCULLIS_LISTEN", default_value = "127.0.0.1:8080")]
    pub(super) listen: SocketAddr,
    /// Address of the admin listener: metrics, monitoring, operations
    #[arg(long, value_name = "ADDR", env = "PORTCULLIS_ADMIN_LISTEN", default_value = "127.0.0.1:8081")]
    pub(super) admin_listen: SocketAddr,
    /// Whether the admin listener has the operations that change something; those that read stay
    #[arg(long, value_name = "BOOL", env = "ADMIN_ALLOW_WRITES", default_value = "true",
        action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub(super) admin_allow_writes: bool,
    /// Operations of the admin listener, by `operationId` in its `/openapi.json`, comma-separated [default: all]
    #[arg(long, value_name = "NAME", env = "ADMIN_ALLOWED_OPS", value_delimiter = ',')]
    pub(super) admin_allowed_ops: Vec<String>,
    /// Redis to use: `redis://`, `rediss://`, `redis-cluster://` or `redis-sentinel://`
    /// [default: the policy's `redis_url`, else `redis://127.0.0.1:6379`]
    #[arg(long, value_name = "URL", env = "REDIS_URL", hide_env_values = true)]
    pub(super) redis_url: Option<SecretString>,
    /// Exit with status 69 if Redis has not answered after this long, milliseconds [default: serve and keep trying]
    #[arg(long, value_name = "MS", env = "PORTCULLIS_REDIS_WAIT_MS")]
    pub(super) redis_wait_ms: Option<u64>,
    /// Connections to Redis for commands
    #[arg(long, value_name = "N", env = "PORTCULLIS_REDIS_CONNECTIONS", default_value = "2",
        value_parser = value_parser!(u16).range(1..=256))]
    pub(super) redis_connections: u16,
    /// How long Redis may take for an answer before the caller gets a 503, milliseconds
    #[arg(long, value_name = "MS", env = "PORTCULLIS_STORE_TIMEOUT_MS", default_value = "40",
        value_parser = value_parser!(u64).range(1..=60_000))]
    pub(super) store_timeout_ms: u64,
    /// How long Redis has to be silent until tokens of issuers and balancers are believed by the revocations that were
    /// known before, milliseconds; until then they are refused with 503
    #[arg(long, value_name = "MS", env = "PORTCULLIS_STORE_AWAY_MS", default_value = "1000",
        value_parser = value_parser!(u64).range(1..=600_000))]
    pub(super) store_away_ms: u64,
    #[command(flatten)]
    pub(super) policy: PolicySource,
    /// Store the policy given here as the default scope's, whatever policy is stored
    #[arg(long, env = "GATEWAY_CONFIG_FORCE_ENV_ON_STARTUP", value_parser = BoolishValueParser::new())]
    pub(super) force_env_on_startup: bool,
    /// Name of this gateway in logs, documents and the reports of replicas; no two processes may share one
    /// [default: the policy's `instance_id`, else host, process id and a random suffix]
    #[arg(long, value_name = "NAME", env = "INSTANCE_ID")]
    pub(super) instance_id: Option<String>,
    /// Accept `Bearer dev:<user_type>:<principal>` as that caller, and `dev:<tenant>/<project>:<user_type>:<principal>`
    /// as one of another scope, for trying things out; loopback listeners only
    #[arg(long, env = "PORTCULLIS_DEV_TOKENS", value_parser = BoolishValueParser::new())]
    pub(super) dev_tokens: bool,
    /// Use a Redis off loopback although its URL has no password
    #[arg(long, env = "PORTCULLIS_ALLOW_OPEN_REDIS", value_parser = BoolishValueParser::new())]
    pub(super) allow_open_redis: bool,
    /// Start although no credential provider is configured: every caller is anonymous
    #[arg(long, env = "PORTCULLIS_ALLOW_ANONYMOUS_ONLY", value_parser = BoolishValueParser::new())]
    pub(super) allow_anonymous_only: bool,
    /// Whom to believe about who a caller is, YAML or JSON: issuers, balancer, API keys, internal token, sessions,
    /// delegation keys, lists of addresses [default: nobody but development tokens]
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_IDENTITY_PATH")]
    pub(super) identity_path: Option<PathBuf>,
    /// Proxies in front of this gateway that append to X-Forwarded-For; 0 ignores the header
    #[arg(long, value_name = "N", env = "TRUSTED_PROXY_COUNT", default_value = "0",
        value_parser = value_parser!(u8).range(..=8))]
    pub(super) trusted_proxy_count: u8,
    /// Networks or addresses of the last proxy, comma-separated [default: any peer]
    #[arg(long, value_name = "CIDR", env = "TRUSTED_PROXY_CIDRS", value_delimiter = ',', value_parser = parse_network)]
    pub(super) trusted_proxy_cidrs: Vec<IpNet>,
    /// Networks or addresses of the proxies that may hold places for requests by `/v1/decide` and end them,
    /// comma-separated [default: loopback if `TRUSTED_PROXY_COUNT` is 0, else nobody]
    #[arg(long, value_name = "CIDR", env = "PORTCULLIS_DECIDE_CIDRS", value_delimiter = ',',
        value_parser = parse_network)]
    pub(super) decide_cidrs: Vec<IpNet>,
    /// Application behind this gateway, `http://HOST:PORT` or `https://HOST:PORT`: gets the requests for paths that are
    /// not the gateway's own [default: none: such paths are not found]
    #[arg(long, value_name = "URL", env = "UPSTREAM_URL", hide_env_values = true)]
    pub(super) upstream_url: Option<UpstreamUrl>,
    /// Certificate authorities that an `https://` application is known by, a PEM file [default: the system's]
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_UPSTREAM_CA")]
    pub(super) upstream_ca: Option<PathBuf>,
    /// Address of Envoy's rate limit service; off loopback it needs `PORTCULLIS_RLS_TOKEN`, the bearer token of whoever
    /// may ask: who does, says who the caller is [default: not served]
    #[arg(long, value_name = "ADDR", env = "PORTCULLIS_RLS_LISTEN")]
    pub(super) rls_listen: Option<SocketAddr>,
    /// How long a connection may be silent before this gateway closes it, seconds: longer than the idle timeout of the
    /// balancer in front (60 for most, up to 4000 for an ALB), or it sends requests into connections that are closing
    #[arg(long, value_name = "SECONDS", env = "PORTCULLIS_KEEP_ALIVE_SECONDS", default_value = "75",
        value_parser = value_parser!(u64).range(5..=7200))]
    pub(super) keep_alive_seconds: u64,
    /// How long requests are still served after readiness began to fail, seconds
    #[arg(long, value_name = "SECONDS", env = "PORTCULLIS_DRAIN_SECONDS", default_value = "10",
        value_parser = value_parser!(u64).range(..=3600))]
    pub(super) drain_seconds: u64,
    /// What to log: a level, or `target=level` pairs, comma-separated
    #[arg(long, value_name = "FILTER", env = "PORTCULLIS_LOG", default_value = "info")]
    pub(super) log: String,
    /// What a log line looks like [default: text on a terminal, else json]
    #[arg(long, value_enum, env = "PORTCULLIS_LOG_FORMAT")]
    pub(super) log_format: Option<LogFormat>,
    /// The variables that gave one of these its value.
    #[arg(skip)]
    pub(crate) variables: Vec<String>,
}

/// An address is a network of one.
fn parse_network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let parsed = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    parsed.ok_or_else(|| "must be a network such as 10.0.0.0/8, or an address".to_owned())
}
