//! `serve`: from flags to a running gateway.
//!
//! Responsible for the order of a start: everything that can be wrong is found before a socket is bound, Redis is
//! waited for only if asked, and the addresses are announced once traffic can come. Must never bind a socket of a
//! gateway that would be open to the world: `start.rs` has the rules.

mod flags;

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_config::{Component, Fault, LoadError, Loaded, Scope, logging, open_redis};
use portcullis_lua::{Store, StoreOptions};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;

use super::policy_source::variable;
use super::signals::Signals;
use super::start::{ADMIN_TOKEN, Exposure, RLS_TOKEN, lets_in};
use super::{Exit, complain, descriptors, print};
use crate::caught::log_panics;
use crate::identity_terms::IdentityTerms;
use crate::proxy::UpstreamOptions;
use crate::{AdminOffer, DecideAskers, Ended, GatewayOptions, Listeners, Shutdown, TrustedProxies};
pub(crate) use flags::ServeArgs;

/// How long a start waits for Redis before it serves without: long enough that the first requests find the connections
/// up, short enough that a fleet that starts during an outage is there when Redis is.
const FIRST_CONTACT: Duration = Duration::from_secs(2);

/// After how long, at least, the client library gives a command up. The breaker for Redis judges whether an answer is
/// late, and knows a slow Redis from a busy gateway; this only cleans up after it.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(1);

/// Settings that are read after the command line.
const LOG: &str = "PORTCULLIS_LOG";
const ALLOWED_OPS: &str = "ADMIN_ALLOWED_OPS";
const REDIS_URL: &str = "REDIS_URL";

/// Longest time for the connections to Redis to close.
const CLOSE_STORE: Duration = Duration::from_secs(1);

/// Serves until told to stop.
pub(crate) fn serve(args: ServeArgs) -> Exit {
    let [admin_token, rls_token] = [ADMIN_TOKEN, RLS_TOKEN].map(|name| variable(name).map(SecretString::from));
    let prepared = match prepare(args, admin_token, rls_token) {
        Ok(prepared) => prepared,
        Err((exit, lines)) => {
            complain(lines);
            return exit;
        }
    };
    descriptors::raise_limit();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain([format!("the runtime could not be started: {error}")]);
            return Exit::Failure;
        }
    };
    let exit = runtime.block_on(run(prepared));
    // What a cut-short drain left running does not keep the process alive.
    runtime.shutdown_background();
    exit
}

/// Everything that was checked.
struct Prepared {
    listen: SocketAddr,
    admin_listen: SocketAddr,
    rls_listen: Option<SocketAddr>,
    rls_token: Option<SecretString>,
    redis: StoreOptions,
    redis_from_environment: bool,
    store_timeout: Duration,
    store_away_after: Duration,
    redis_wait: Option<Duration>,
    scope: Scope,
    loaded: Loaded,
    component: Component,
    force_boot: bool,
    admin_token: SecretString,
    admin_offer: AdminOffer,
    instance: String,
    trusted_proxies: TrustedProxies,
    decide_askers: DecideAskers,
    dev_tokens: bool,
    identity: IdentityTerms,
    keep_alive: Duration,
    drain: Duration,
    upstream: Option<UpstreamOptions>,
}

/// What there is once nothing was wrong.
struct Checked {
    loaded: Loaded,
    scope: Scope,
    admin_token: SecretString,
    admin_offer: AdminOffer,
    rls_token: Option<SecretString>,
    upstream: Option<UpstreamOptions>,
    identity: IdentityTerms,
}

/// Checks everything that can be checked without a socket, or says all that is wrong.
fn prepare(
    args: ServeArgs,
    admin_token: Option<SecretString>,
    rls_token: Option<SecretString>,
) -> Result<Prepared, (Exit, Vec<String>)> {
    let mut wrong = Vec::new();
    // Variables that are no good.
    let mut bad = Vec::new();
    if let Err(error) = logging::start(&args.log, args.log_format) {
        args.blame(LOG, &error.to_string(), &mut wrong, &mut bad);
    }
    log_panics();
    let mut open = Vec::new();
    let loaded = args.policy.load().map_err(|error| match &error {
        LoadError::Invalid { faults, .. } => sort(faults, "", &mut open, &mut wrong),
        LoadError::Unreadable { .. } => wrong.push(error.to_string()),
    });
    let loaded = loaded.ok();
    let scope = loaded.as_ref().and_then(|loaded| match loaded.policy.scope() {
        Ok(scope) => Some(scope),
        Err(error) => {
            wrong.push(error.to_string());
            None
        }
    });
    let upstream = args.upstream();
    let upstream = upstream.map_err(|(setting, fault)| args.blame(setting, &fault, &mut wrong, &mut bad));
    let upstream = upstream.ok().flatten();
    let admin_offer = AdminOffer::new(args.admin_allow_writes, &args.admin_allowed_ops);
    let admin_offer = admin_offer
        .map_err(|faults| faults.iter().for_each(|fault| args.blame(ALLOWED_OPS, fault, &mut wrong, &mut bad)));
    let identity = IdentityTerms::load(args.identity_path.as_deref(), &variable);
    let identity = identity.map_err(|faults| sort(&faults, "PORTCULLIS_IDENTITY_PATH: ", &mut open, &mut wrong)).ok();
    let redis_url = loaded.as_ref().map(|loaded| args.redis_url(loaded));
    let exposure = Exposure {
        public: args.listen,
        admin: args.admin_listen,
        rls: args.rls_listen,
        admin_token,
        rls_token,
        dev_tokens: args.dev_tokens,
        // One that cannot be read is wrong, not open.
        has_provider: identity.as_ref().is_none_or(IdentityTerms::has_provider),
        insecure_cookie: identity.as_ref().is_some_and(IdentityTerms::has_insecure_cookie),
        open_redis: redis_url.as_deref().filter(|_| !args.allow_open_redis).and_then(open_redis),
        allow_anonymous_only: args.allow_anonymous_only,
        trusted_proxy_count: args.trusted_proxy_count,
        knows_proxies: !args.trusted_proxy_cidrs.is_empty(),
        ip_allow: identity.as_ref().map(IdentityTerms::ip_allow).cloned().unwrap_or_default(),
    };
    open.extend(exposure.refusals());
    let refusals = open.into_iter().map(|line| format!("refusing to start open: {line}"));
    let exit = if wrong.is_empty() { Exit::Refused } else { Exit::Usage };
    wrong.extend(bad.into_iter().chain(refusals));
    match (loaded, scope, exposure.admin_token, identity, admin_offer) {
        (Some(loaded), Some(scope), Some(admin_token), Some(identity), Ok(admin_offer)) if wrong.is_empty() => {
            let rls_token = exposure.rls_token;
            let checked = Checked { loaded, scope, admin_token, admin_offer, rls_token, upstream, identity };
            Ok(args.prepared(checked))
        }
        _ => Err((exit, wrong)),
    }
}

/// Tells the faults of a document that would let somebody in from the others.
fn sort(faults: &[Fault], document: &str, open: &mut Vec<String>, wrong: &mut Vec<String>) {
    for fault in faults {
        let lines = if lets_in(fault) { &mut *open } else { &mut *wrong };
        lines.push(format!("{document}{fault}"));
    }
}

impl ServeArgs {
    /// Whether this variable is where a setting comes from.
    fn is_from_environment(&self, setting: &str) -> bool {
        self.variables.iter().any(|variable| variable == setting)
    }

    /// Says what is wrong with a setting: with the command line, or with a variable.
    fn blame(&self, setting: &str, fault: &str, wrong: &mut Vec<String>, bad: &mut Vec<String>) {
        let lines = if self.is_from_environment(setting) { bad } else { wrong };
        lines.push(format!("{setting}: {fault}"));
    }

    /// The application, if there is one, or what is wrong with which setting of it.
    fn upstream(&self) -> Result<Option<UpstreamOptions>, (&'static str, String)> {
        let Some(url) = self.upstream_url.clone() else {
            let idle = self.upstream_ca.is_some().then(|| "it vouches for UPSTREAM_URL, which is not set".to_owned());
            return idle.map_or(Ok(None), |fault| Err(("PORTCULLIS_UPSTREAM_CA", fault)));
        };
        let read = self.upstream_ca.as_ref().map(|file| {
            std::fs::read(file).map_err(|error| ("PORTCULLIS_UPSTREAM_CA", format!("{}: {error}", file.display())))
        });
        let ca = read.transpose()?;
        UpstreamOptions::new(url, ca.as_deref()).map(Some).map_err(|error| ("UPSTREAM_URL", error.to_string()))
    }

    /// The Redis to use.
    fn redis_url(&self, loaded: &Loaded) -> String {
        let url = self.redis_url.as_ref().map(|url| url.expose_secret().to_owned());
        let written = || loaded.policy.redis_url.as_ref().map(|url| url.expose().to_owned());
        url.or_else(written).unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned())
    }

    fn prepared(self, checked: Checked) -> Prepared {
        let Checked { loaded, scope, admin_token, admin_offer, rls_token, upstream, identity } = checked;
        let url = self.redis_url(&loaded);
        if self.allow_open_redis {
            tracing::warn!("a redis that asks for no password is used wherever it is");
        }
        let store_timeout = Duration::from_millis(self.store_timeout_ms);
        Prepared {
            listen: self.listen,
            admin_listen: self.admin_listen,
            rls_listen: self.rls_listen,
            rls_token,
            redis: StoreOptions {
                url,
                connections: usize::from(self.redis_connections),
                command_timeout: CLIENT_TIMEOUT.max(2 * store_timeout),
            },
            redis_from_environment: self.is_from_environment(REDIS_URL),
            store_timeout,
            store_away_after: Duration::from_millis(self.store_away_ms),
            redis_wait: self.redis_wait_ms.map(Duration::from_millis),
            instance: self.instance_id.or_else(|| loaded.policy.instance_id.clone()).unwrap_or_else(default_instance),
            decide_askers: DecideAskers::named(self.decide_cidrs, self.trusted_proxy_count),
            trusted_proxies: TrustedProxies { count: self.trusted_proxy_count, networks: self.trusted_proxy_cidrs },
            dev_tokens: self.dev_tokens,
            identity,
            component: self.policy.component(),
            force_boot: self.force_env_on_startup,
            keep_alive: Duration::from_secs(self.keep_alive_seconds),
            drain: Duration::from_secs(self.drain_seconds),
            upstream,
            scope,
            loaded,
            admin_token,
            admin_offer,
        }
    }
}

async fn run(prepared: Prepared) -> Exit {
    let Prepared { listen, admin_listen, rls_listen, redis, redis_wait, .. } = prepared;
    let store = match Store::open(&redis) {
        Ok(store) => store,
        Err(error) => {
            complain([format!("{REDIS_URL}: {error}")]);
            return if prepared.redis_from_environment { Exit::Refused } else { Exit::Usage };
        }
    };
    match (store.wait_ready(redis_wait.unwrap_or(FIRST_CONTACT)).await, redis_wait) {
        (Err(error), Some(wait)) => {
            complain([format!("redis was not reached within {} ms: {error}", wait.as_millis())]);
            return Exit::Unavailable;
        }
        (Err(error), None) => tracing::warn!(%error, "starting without redis"),
        (Ok(()), _) => {}
    }
    let bound = match Signals::catch() {
        Ok(signals) => bind(listen, admin_listen, rls_listen).await.map(|listeners| (signals, listeners)),
        Err(error) => Err(format!("signals cannot be received: {error}")),
    };
    let (signals, listeners) = match bound {
        Ok(bound) => bound,
        Err(line) => {
            complain([line]);
            return Exit::Failure;
        }
    };
    announce(&listeners, &prepared.instance, &prepared.scope, &prepared.loaded, prepared.dev_tokens);
    let options = GatewayOptions {
        store: store.clone(),
        scope: prepared.scope,
        boot: prepared.loaded,
        force_boot: prepared.force_boot,
        component: prepared.component,
        admin_token: prepared.admin_token,
        admin_offer: prepared.admin_offer,
        rls_token: prepared.rls_token,
        instance: prepared.instance,
        trusted_proxies: prepared.trusted_proxies,
        decide_askers: prepared.decide_askers,
        dev_tokens: prepared.dev_tokens,
        identity: prepared.identity,
        keep_alive: prepared.keep_alive,
        drain: prepared.drain,
        store_timeout: prepared.store_timeout,
        store_away_after: prepared.store_away_after,
        upstream: prepared.upstream,
    };
    let shutdown = Shutdown::new();
    let ended = tokio::select! {
        ended = crate::run(listeners, options, shutdown.clone()) => ended,
        () = signals.relay(&shutdown) => Ended::CutShort,
    };
    // A Redis that is down has nothing to say goodbye to.
    let _ = tokio::time::timeout(CLOSE_STORE, store.close()).await;
    tracing::info!(?ended, "the gateway has ended");
    if ended == Ended::Drained { Exit::Success } else { Exit::Failure }
}

async fn bind(public: SocketAddr, admin: SocketAddr, rls: Option<SocketAddr>) -> Result<Listeners, String> {
    let listener = async |setting: &str, address: SocketAddr| {
        TcpListener::bind(address).await.map_err(|error| format!("{setting}: cannot listen on {address}: {error}"))
    };
    Ok(Listeners {
        public: listener("PORTCULLIS_LISTEN", public).await?,
        admin: listener("PORTCULLIS_ADMIN_LISTEN", admin).await?,
        rls: match rls {
            Some(rls) => Some(listener("PORTCULLIS_RLS_LISTEN", rls).await?),
            None => None,
        },
    })
}

/// Says where the gateway listens, to people in the log and to scripts on stdout, and what an operator should know.
fn announce(listeners: &Listeners, instance: &str, scope: &Scope, loaded: &Loaded, dev_tokens: bool) {
    for fault in &loaded.warnings {
        tracing::warn!(path = fault.path, "policy: {}", fault.message);
    }
    if dev_tokens {
        tracing::warn!("development tokens are accepted: whoever reaches this gateway can be any caller");
    }
    let address = |listener: &TcpListener| listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    let (public, admin) = (address(&listeners.public), address(&listeners.admin));
    tracing::info!(public, admin, instance, %scope, policy = %loaded.source, "listening");
    let rls = listeners.rls.as_ref().map(|listener| format!(" rls={}", address(listener))).unwrap_or_default();
    print(&format!("listening public={public} admin={admin}{rls}\n"));
}

/// Containers have the same process id and often the same host name, and no two replicas may share a name.
fn default_instance() -> String {
    let host = variable("HOSTNAME").unwrap_or_else(|| "gateway".to_owned());
    let random = ulid::Ulid::generate().to_string().split_off(20).to_ascii_lowercase();
    format!("{host}-{}-{random}", std::process::id())
}
