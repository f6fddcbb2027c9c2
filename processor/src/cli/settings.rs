//! From flags, environment and policy to what is started, or to everything that is wrong with it.
//!
//! Responsible for collecting all faults before giving up. Must never read the process environment itself, so that it
//! can be tested, and never put a secret into a message.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use portcullis_config::{Component, LoadError, Loaded, Scope, open_redis, weakness};
use portcullis_lua::StoreOptions;
use secrecy::{ExposeSecret, SecretString};

use super::args::Args;
use crate::admin;
use crate::handler::Handlers;
use crate::processor::ProcessorOptions;

/// Redis when nothing says otherwise.
const REDIS_URL: &str = "redis://127.0.0.1:6379";

/// Who runs which kind of task.
const HANDLER: &str = "PORTCULLIS_HANDLER";

/// Everything a start needs, checked.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) store: StoreOptions,
    /// What a fault of the store's URL is one of.
    pub(super) blame_redis_url: fn(Vec<String>) -> StartFault,
    pub(super) redis_wait: Option<Duration>,
    pub(super) scope: Scope,
    /// The document that applies while none is stored.
    pub(super) boot: Loaded,
    pub(super) handlers: Handlers,
    pub(super) processor: ProcessorOptions,
    pub(super) admin_listen: SocketAddr,
    pub(super) admin_token: Option<SecretString>,
}

/// Why it does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StartFault {
    /// Bad usage or configuration: every fault.
    Usage(Vec<String>),
    /// Variables whose values are no good: every one.
    Variables(Vec<String>),
    /// It would be open to everyone.
    Open(String),
    /// Redis did not answer in the time given.
    Unreachable(String),
    /// The machine would not let it.
    Other(String),
}

impl StartFault {
    /// Exit code of bad usage, as in sysexits.h.
    pub(super) const USAGE: u8 = 64;

    /// Both, as one: what was asked wrongly goes before what is configured so.
    pub(super) fn and(&self, other: &Self) -> Self {
        let is_usage = [self, other].iter().any(|fault| matches!(fault, Self::Usage(_)));
        let lines = format!("{self}\n{other}").lines().map(str::to_owned).collect();
        if is_usage { Self::Usage(lines) } else { Self::Variables(lines) }
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => Self::USAGE,
            Self::Variables(_) | Self::Open(_) => 78,
            Self::Unreachable(_) => 69,
            Self::Other(_) => 1,
        }
    }
}

impl fmt::Display for StartFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(faults) | Self::Variables(faults) => f.write_str(&faults.join("\n")),
            Self::Open(reason) | Self::Unreachable(reason) | Self::Other(reason) => f.write_str(reason),
        }
    }
}

impl Settings {
    /// Checks everything. `env` is where the policy is looked for; a flag wins over its variable there too.
    pub(super) fn of(args: Args, env: &impl Fn(&str) -> Option<String>) -> Result<Self, StartFault> {
        let mut faults = Vec::new();
        // Variables that are no good.
        let mut bad = Vec::new();
        let handlers = if args.is_from_environment(HANDLER) {
            let handlers = handlers(&args.handlers, &mut bad);
            for fault in &mut bad {
                fault.insert_str(0, &format!("{HANDLER}: "));
            }
            handlers
        } else {
            handlers(&args.handlers, &mut faults)
        };
        let blame_redis_url = args.blame("REDIS_URL");
        let (tenant, project) = (present(args.tenant), present(args.project));
        let overlaid = |name: &str| match name {
            "TENANT_ID" => tenant.clone().or_else(|| env(name)),
            "PROJECT_ID" => project.clone().or_else(|| env(name)),
            _ => env(name),
        };
        let admin_token = args.admin_token.filter(|token| !token.expose_secret().is_empty());
        let weak = admin_token.as_ref().and_then(|token| weakness(token.expose_secret()));
        let weak = weak.map(|reason| format!("PORTCULLIS_ADMIN_TOKEN {reason}"));
        let boot = boot(&overlaid, &mut faults);
        let scope = boot.as_ref().and_then(|Loaded { policy, .. }| {
            let (tenant, project) =
                (tenant.as_ref().unwrap_or(&policy.tenant), project.as_ref().unwrap_or(&policy.project));
            Scope::new(tenant, project).map_err(|fault| faults.push(fault.to_string())).ok()
        });
        let (Some(boot), Some(scope), true) = (boot, scope, faults.is_empty()) else {
            faults.extend(bad.into_iter().chain(weak));
            return Err(StartFault::Usage(faults));
        };
        if !bad.is_empty() {
            bad.extend(weak);
            return Err(StartFault::Variables(bad));
        }
        let open = |reason: String| Err(StartFault::Open(reason));
        weak.map_or(Ok(()), open)?;
        admin::check(args.admin_listen, admin_token.as_ref()).or_else(|fault| open(fault.to_string()))?;
        let written = || boot.policy.redis_url.as_ref().map(|url| url.expose().to_owned());
        let redis_url = present(args.redis_url).or_else(written).unwrap_or_else(|| REDIS_URL.to_owned());
        match open_redis(&redis_url) {
            Some(host) if !args.allow_open_redis => open(format!(
                "PORTCULLIS_ALLOW_OPEN_REDIS is not set and REDIS_URL has no password while Redis is at {host}: \
                 whoever reaches it can do anything"
            ))?,
            Some(_) => tracing::warn!("a redis that asks for no password is used wherever it is"),
            None => {}
        }
        let instance =
            present(args.instance_id).or_else(|| boot.policy.instance_id.clone()).or_else(|| present(env("HOSTNAME")));
        Ok(Self {
            store: StoreOptions {
                url: redis_url,
                connections: usize::from(args.redis_connections),
                command_timeout: Duration::from_millis(args.store_timeout_ms),
            },
            blame_redis_url,
            redis_wait: args.redis_wait_ms.map(Duration::from_millis),
            processor: ProcessorOptions {
                instance: instance.unwrap_or_else(|| "processor".to_owned()),
                slots: args.slots,
                drain_limit: Duration::from_secs(args.drain_seconds),
                force_boot: args.force_env_on_startup,
            },
            scope,
            boot,
            handlers,
            admin_listen: args.admin_listen,
            admin_token,
        })
    }
}

/// A variable that is set but empty is one that is not set.
fn present(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn handlers(entries: &[String], faults: &mut Vec<String>) -> Handlers {
    match Handlers::parse(entries.iter().map(String::as_str)) {
        Ok(handlers) => {
            if handlers.is_empty() {
                faults.push("no handler: give --handler KIND=TARGET, such as --handler '*=builtin:echo'".to_owned());
            }
            handlers
        }
        Err(wrong) => {
            faults.extend(wrong.iter().map(ToString::to_string));
            Handlers::new()
        }
    }
}

fn boot(env: &impl Fn(&str) -> Option<String>, faults: &mut Vec<String>) -> Option<Loaded> {
    match portcullis_config::load(env, Component::Proc) {
        Ok(loaded) => {
            tracing::info!(source = %loaded.source, "policy");
            for warning in &loaded.warnings {
                tracing::warn!(path = warning.path, "policy: {}", warning.message);
            }
            Some(loaded)
        }
        Err(fault) => {
            faults.extend(described(&fault));
            None
        }
    }
}

fn described(fault: &LoadError) -> Vec<String> {
    match fault {
        LoadError::Invalid { source, faults } => {
            faults.iter().map(|fault| format!("{source}: {}: {}", fault.path, fault.message)).collect()
        }
        LoadError::Unreadable { .. } => vec![fault.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn settings(flags: &[&str], env: &[(&str, &str)]) -> Result<Settings, StartFault> {
        let args = Args::try_parse_from(std::iter::once(&"portcullis-processor").chain(flags)).unwrap();
        Settings::of(args, &|name| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    const SCOPE: [&str; 4] = ["--tenant", "acme", "--project", "shop"];

    fn with_scope<'a>(flags: &[&'a str]) -> Vec<&'a str> {
        [&SCOPE[..], flags].concat()
    }

    #[test]
    fn flags_are_enough() {
        let flags =
            with_scope(&["--handler", "*=builtin:echo,slow=builtin:sleep", "--slots", "7", "--instance-id", "a"]);
        let settings = settings(&flags, &[]).unwrap();
        assert_eq!(settings.scope, Scope::new("acme", "shop").unwrap());
        assert_eq!(settings.handlers.kinds(), ["*", "slow"]);
        assert_eq!(settings.processor.slots, Some(7));
        assert_eq!(settings.processor.drain_limit, Duration::from_secs(25));
        assert_eq!(settings.store.url, REDIS_URL);
        assert_eq!(settings.processor.instance, "a");
    }

    #[test]
    fn the_boot_document_is_what_processors_make_of_it() {
        let slots = |n: u64| serde_json::json!({"concurrent_requests_per_process": n});
        let written = serde_json::json!({"service_capacity": {"ingress": slots(7), "proc": slots(3)}}).to_string();
        let flags = with_scope(&["--handler", "*=builtin:echo"]);
        let started = settings(&flags, &[("GATEWAY_CONFIG_JSON", &written)]).unwrap();
        assert_eq!(started.boot.policy.service_capacity.concurrent_requests_per_process, 3);
        assert!(!started.processor.force_boot);
        assert!(settings(&[&flags[..], &["--force-env-on-startup"]].concat(), &[]).unwrap().processor.force_boot);
    }

    #[test]
    fn every_fault_is_listed_at_once() {
        let flags = with_scope(&["--handler", "Bad=builtin:echo", "--handler", "x", "--admin-token", "short"]);
        let broken = [("GATEWAY_CONFIG_JSON", r#"{"queue":{"lease_mss":1}}"#)];
        let fault = settings(&flags, &broken).unwrap_err();
        assert_eq!(fault.exit_code(), 64);
        let text = fault.to_string();
        for expected in ["Bad=builtin:echo", "\"x\"", "PORTCULLIS_ADMIN_TOKEN", "queue.lease_mss"] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        assert!(!text.contains("short\n"), "{text}");
    }

    #[test]
    fn a_handler_that_is_none_is_the_fault_of_where_it_comes_from() {
        let args = |variables: &[&str]| {
            let flags = with_scope(&["--handler", "x", "--admin-token", "short"]);
            let args = Args::try_parse_from(std::iter::once("portcullis-processor").chain(flags)).unwrap();
            Args { variables: variables.iter().map(|name| (*name).to_owned()).collect(), ..args }
        };
        let of_environment = Settings::of(args(&[HANDLER]), &|_| None).unwrap_err();
        let lines: Vec<_> = of_environment.to_string().lines().map(str::to_owned).collect();
        assert_eq!((of_environment.exit_code(), lines.len()), (78, 2), "{lines:?}");
        assert!(lines[0].starts_with("PORTCULLIS_HANDLER: ") && lines[1].starts_with("PORTCULLIS_ADMIN_TOKEN "));
        assert_eq!(Settings::of(args(&[]), &|_| None).unwrap_err().exit_code(), 64);
    }

    #[test]
    fn a_processor_without_a_handler_is_a_mistake() {
        let fault = settings(&SCOPE, &[]).unwrap_err();
        assert_eq!(fault.exit_code(), 64);
        assert!(fault.to_string().contains("--handler"), "{fault}");
    }

    #[test]
    fn it_refuses_to_start_open() {
        let flags = with_scope(&["--handler", "*=builtin:echo", "--admin-listen", "0.0.0.0:0"]);
        assert_eq!(settings(&flags, &[]).unwrap_err().exit_code(), 78);
        let with = |token: &str| settings(&[&flags[..], &["--admin-token", token]].concat(), &[]);
        let started = with("0123456789abcdef0123456789abcdef").unwrap();
        assert!(!format!("{started:?}").contains("0123456789abcdef"), "it is in no log");
        for weak in ["short", &"secret".repeat(8), "change-me-change-me-now-or-else-0123"] {
            let fault = with(weak).unwrap_err();
            let text = fault.to_string();
            assert_eq!((fault.exit_code(), text.starts_with("PORTCULLIS_ADMIN_TOKEN ")), (78, true), "{text}");
            assert!(!text.contains(weak), "{text}");
        }
    }

    #[test]
    fn a_redis_that_anybody_can_use_is_refused_unless_that_is_meant() {
        let with = |flags: &[&str]| settings(&[&with_scope(&["--handler", "*=builtin:echo"])[..], flags].concat(), &[]);
        let open = ["--redis-url", "redis://user:@10.0.0.1"];
        let fault = with(&open).unwrap_err();
        assert_eq!((fault.exit_code(), fault.to_string().split(' ').next()), (78, Some("PORTCULLIS_ALLOW_OPEN_REDIS")));
        assert!(with(&[&open[..], &["--allow-open-redis"]].concat()).is_ok());
        assert!(with(&["--redis-url", "redis://:secret@10.0.0.1"]).is_ok());
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        let flags =
            with_scope(&["--handler", "*=builtin:echo", "--redis-url", "", "--instance-id", "", "--admin-token", ""]);
        let settings = settings(&flags, &[("HOSTNAME", "host-1")]).unwrap();
        assert_eq!(settings.store.url, REDIS_URL);
        assert_eq!(settings.processor.instance, "host-1");
        assert!(settings.admin_token.is_none());
    }
}
