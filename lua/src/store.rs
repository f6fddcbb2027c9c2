//! The handle on Redis: connections, timeouts, errors.
//!
//! Responsible for failing fast (a command has one attempt, a deadline, and does not queue behind a broken connection)
//! and for coming back by itself. Must never retry a command whose answer was lost: the scripts consume.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fred::clients::{Client, Pool, WithOptions};
use fred::interfaces::ClientLike;
use fred::types::Builder;
use fred::types::config::{
    Config, ConnectionConfig, Options, PerformanceConfig, ReconnectPolicy, TcpConfig, UnresponsiveConfig,
};
use portcullis_config::Scope;
use tokio::sync::OnceCell;

use crate::changes::Watches;
use crate::error::StoreError;
use crate::grounds::ActingFor;
use crate::key::Keys;

/// Time between two attempts to reach a Redis that is gone. Constant and short: a shared store that is back should
/// have its whole fleet back within a second, and a refused connection costs next to nothing.
const RECONNECT_MS: u32 = 100;
/// A connection on which an answer is this long overdue is given up and made anew.
const UNRESPONSIVE: Duration = Duration::from_secs(1);

/// What a URL may begin with, before a suffix of [`TOPOLOGIES`]; those in `s` speak TLS.
const SCHEMES: [&str; 4] = ["redis", "rediss", "valkey", "valkeys"];
/// How the rest of a scheme says which servers there are; without one, a single one.
const TOPOLOGIES: [&str; 3] = ["", "-cluster", "-sentinel"];

/// How to reach Redis.
#[derive(Clone)]
pub struct StoreOptions {
    /// `redis://`, `rediss://`, `redis-cluster://`, `redis-sentinel://`, with credentials if needed.
    pub url: String,
    /// Connections for commands; the blocking and the subscribing one come on top.
    pub connections: usize,
    /// A command without an answer after this long has failed.
    pub command_timeout: Duration,
}

impl fmt::Debug for StoreOptions {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url: _, connections, command_timeout } = self;
        let mut shown = f.debug_struct("StoreOptions");
        shown.field("connections", connections).field("command_timeout", command_timeout).finish_non_exhaustive()
    }
}

/// Handle on the Redis all scopes share. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl fmt::Debug for Store {
    /// Without the connections, whose configuration holds the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

struct Inner {
    pool: Pool,
    config: Config,
    options: Options,
    subscriber: OnceCell<(Client, Watches)>,
}

impl Store {
    /// Starts to connect and returns at once; until connected, calls fail fast as [`StoreError::Unavailable`].
    /// Must be called within a tokio runtime.
    pub fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        check_scheme(&options.url)?;
        let mut config = Config::from_url(&options.url).map_err(|error| StoreError::Url(error.to_string()))?;
        config.fail_fast = false;
        let pool = builder(&config)
            .set_policy(reconnecting())
            .build_pool(options.connections.max(1))
            .map_err(|error| StoreError::Url(error.to_string()))?;
        pool.connect();
        let options = Options {
            max_attempts: Some(1),
            timeout: Some(options.command_timeout),
            fail_fast: true,
            ..Options::default()
        };
        Ok(Self { inner: Arc::new(Inner { pool, config, options, subscriber: OnceCell::new() }) })
    }

    /// Waits until Redis answers, at most `wait`.
    pub async fn wait_ready(&self, wait: Duration) -> Result<(), StoreError> {
        let ready = async {
            loop {
                match self.ping().await {
                    Ok(()) => return,
                    Err(error) => tracing::debug!(%error, "redis is not ready"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(wait, ready)
            .await
            .map_err(|_| StoreError::Unavailable(format!("no answer within {} ms", wait.as_millis())))
    }

    /// Asks every connection for an answer.
    pub async fn ping(&self) -> Result<(), StoreError> {
        for client in self.inner.pool.clients() {
            let _: String = client.with_options(&self.inner.options).ping(None).await?;
        }
        Ok(())
    }

    /// The scope's part of the store.
    #[must_use]
    pub fn scope(&self, scope: &Scope) -> ScopeStore {
        ScopeStore {
            store: self.clone(),
            keys: Arc::new(Keys::new(scope)),
            scope: Arc::new(scope.clone()),
            now_ms: None,
            revocations: 0,
            acting_for: None,
        }
    }

    /// Closes every connection.
    pub async fn close(&self) {
        if let Some((subscriber, _)) = self.inner.subscriber.get() {
            _ = subscriber.quit().await;
        }
        _ = self.inner.pool.quit().await;
    }

    pub(crate) fn client(&self) -> WithOptions<Client> {
        self.inner.pool.next_connected().with_options(&self.inner.options)
    }

    /// How long a command may go without an answer.
    pub(crate) fn command_timeout(&self) -> Duration {
        self.inner.options.timeout.unwrap_or(UNRESPONSIVE)
    }

    /// A connection of its own, for commands that block. Not yet connected, and never made anew by itself: its server
    /// knows it by a number.
    pub(crate) fn dedicated(&self) -> Result<Client, StoreError> {
        let mut builder = builder(&self.inner.config);
        builder
            .with_config(|config| config.fail_fast = true)
            .with_connection_config(|connection| connection.unresponsive.max_timeout = None);
        Ok(builder.build()?)
    }

    /// The subscribing connection, if anything has been subscribed to.
    pub(crate) fn subscribed(&self) -> Option<&(Client, Watches)> {
        self.inner.subscriber.get()
    }

    /// The subscribing connection all watches of this store share; made on first use.
    pub(crate) async fn subscriber(&self) -> Result<&(Client, Watches), StoreError> {
        self.inner
            .subscriber
            .get_or_try_init(|| async {
                let client = builder(&self.inner.config)
                    .set_policy(reconnecting())
                    .with_connection_config(|connection| connection.unresponsive.max_timeout = None)
                    .build()?;
                let watches = Watches::follow(&client);
                client.connect();
                Ok((client, watches))
            })
            .await
    }
}

/// The scripts of one scope. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ScopeStore {
    pub(crate) store: Store,
    pub(crate) keys: Arc<Keys>,
    scope: Arc<Scope>,
    now_ms: Option<u64>,
    /// Number of the revocations its caller knows of.
    pub(crate) revocations: u64,
    /// In whose name an agent changes something through it.
    pub(crate) acting_for: Option<Arc<ActingFor>>,
}

impl ScopeStore {
    /// The scope.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The same scope at a time of the caller's choosing, ms since the epoch. For tests: everybody else must leave the
    /// clock to Redis.
    #[must_use]
    pub fn at(&self, now_ms: u64) -> Self {
        Self { now_ms: Some(now_ms), ..self.clone() }
    }

    /// The same scope for a caller that knows of this many revocations: what is decided through it fails as
    /// [`StoreError::StaleRevocations`] where the scope has others. A store that was told nothing knows of none.
    #[must_use]
    pub fn knowing(&self, revocations: u64) -> Self {
        Self { revocations, ..self.clone() }
    }

    /// The scripts' first argument.
    pub(crate) fn now_arg(&self) -> fred::types::Value {
        self.now_ms.map_or_else(String::new, |now_ms| now_ms.to_string()).into()
    }
}

/// The client library takes any scheme it does not know for a plain connection: a slip in `rediss` would give it up.
fn check_scheme(url: &str) -> Result<(), StoreError> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase()).unwrap_or_default();
    let known = |(name, topology): (&str, &str)| scheme.strip_suffix(topology) == Some(name);
    if SCHEMES.iter().any(|name| TOPOLOGIES.iter().any(|topology| known((name, topology)))) {
        return Ok(());
    }
    Err(StoreError::Url("must begin with redis://, rediss://, redis-cluster:// or redis-sentinel://".to_owned()))
}

fn builder(config: &Config) -> Builder {
    let mut builder = Builder::from_config(config.clone());
    builder
        .with_connection_config(|connection: &mut ConnectionConfig| {
            connection.connection_timeout = Duration::from_secs(1);
            connection.internal_command_timeout = Duration::from_secs(1);
            connection.max_command_attempts = 1;
            connection.reconnect_on_auth_error = true;
            connection.tcp = TcpConfig { nodelay: Some(true), ..TcpConfig::default() };
            connection.unresponsive =
                UnresponsiveConfig { max_timeout: Some(UNRESPONSIVE), interval: Duration::from_millis(250) };
        })
        .with_performance_config(|performance: &mut PerformanceConfig| performance.broadcast_channel_capacity = 4096);
    builder
}

/// For ever.
fn reconnecting() -> ReconnectPolicy {
    ReconnectPolicy::new_constant(0, RECONNECT_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> StoreOptions {
        StoreOptions { url: url.to_owned(), connections: 1, command_timeout: Duration::from_secs(1) }
    }

    #[test]
    fn a_scheme_that_is_not_known_is_no_plain_connection() {
        for url in [
            "redis://a",
            "rediss://a",
            "REDISS://a",
            "redis-cluster://a",
            "rediss-cluster://a",
            "redis-sentinel://a:1?sentinelServiceName=m",
            "valkeys://a",
        ] {
            assert_eq!(check_scheme(url), Ok(()), "{url}");
        }
        for url in
            ["", "a:6379", "http://a", "tls://a", "redis+tls://a", "reddis://a", "rediss-clustr://a", " redis://a"]
        {
            assert!(check_scheme(url).is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn nothing_that_knows_the_password_prints_it() {
        let options = options("redis://user:canary@127.0.0.1:1");
        let store = Store::open(&options).unwrap();
        let scope = store.scope(&Scope::new("acme", "demo").unwrap());
        let shown = format!("{options:?} {store:?} {scope:?}");
        assert!(shown.contains("StoreOptions") && shown.contains("acme") && !shown.contains("canary"), "{shown}");
    }
}
