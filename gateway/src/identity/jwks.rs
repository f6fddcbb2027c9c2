//! The keys of one issuer, as last fetched.
//!
//! Responsible for when they are fetched: when none are held, when a token names one that is not among them, and behind
//! the back of requests once they are a while old. Must never fetch more often than the rules below, whatever tokens
//! come, and never have two fetches under way: everybody who needs one waits for the same. Keys that are older than a
//! day prove nothing: the issuer may have taken them back.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use jsonwebtoken::Algorithm;
use portcullis_config::from_json;
use quick_cache::sync::Cache;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::background::Background;
use crate::identity::Unproven;
use crate::identity::fetch::{FetchError, Fetcher};
use crate::identity::jwk::{self, KeySet, VerifyingKey};

/// Age after which keys are fetched again, in the background.
const SOFT: Duration = Duration::from_secs(10 * 60);

/// Age after which keys prove nothing.
const HARD: Duration = Duration::from_secs(24 * 3600);

/// Least time between two fetches while keys are held.
const FETCH_EVERY: Duration = Duration::from_secs(30);

/// Least time between two fetches while none are held: everybody waits for them.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// How long a `kid` that the issuer did not know is not asked for again.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);

/// Unknown `kid`s that are remembered.
const MAX_UNKNOWN: usize = 1024;

/// Where a set of keys comes from.
#[async_trait]
pub(crate) trait KeySource: fmt::Debug + Send + Sync {
    /// The keys as they are published now.
    async fn fetch(&self) -> Result<KeySet, FetchError>;
}

/// The keys of one issuer.
#[derive(Debug)]
pub(crate) struct IssuerKeys {
    issuer: String,
    source: Box<dyn KeySource>,
    background: Background,
    held: RwLock<Option<Arc<Held>>>,
    last_look: Mutex<Option<Look>>,
    refreshing: AtomicBool,
    unknown: Cache<String, Instant>,
}

#[derive(Debug)]
struct Held {
    keys: KeySet,
    fetched: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    failed: bool,
}

impl IssuerKeys {
    /// The keys from this source, none held yet. `issuer` is for the log.
    pub(crate) fn new(issuer: String, source: Box<dyn KeySource>, background: Background) -> Arc<Self> {
        Arc::new(Self {
            issuer,
            source,
            background,
            held: RwLock::default(),
            last_look: Mutex::default(),
            refreshing: AtomicBool::new(false),
            unknown: Cache::new(MAX_UNKNOWN),
        })
    }

    /// The key of this name.
    ///
    /// # Errors
    ///
    /// `unknown_kid`: the issuer has none; `idp_unavailable`: it could not be asked.
    pub(crate) async fn key(self: &Arc<Self>, kid: &str) -> Result<Arc<VerifyingKey>, Unproven> {
        if let Some(held) = self.held() {
            if held.fetched.elapsed() >= SOFT {
                self.refresh_behind();
            }
            if let Some(key) = held.keys.get(kid) {
                return Ok(key.clone());
            }
            if self.unknown.get(kid).is_some_and(|since| since.elapsed() < UNKNOWN_FOR) {
                return Err(Unproven::because("unknown_kid"));
            }
        }
        self.look_for(kid).await
    }

    async fn look_for(&self, kid: &str) -> Result<Arc<VerifyingKey>, Unproven> {
        let mut last_look = self.last_look.lock().await;
        // Whoever held the lock before may have brought it.
        if let Some(key) = self.held().and_then(|held| held.keys.get(kid).cloned()) {
            return Ok(key);
        }
        let pause = if self.held().is_some() { FETCH_EVERY } else { RETRY_EVERY };
        if last_look.is_none_or(|look| look.at.elapsed() >= pause) {
            self.look(&mut last_look).await;
        }
        let failed = last_look.is_none_or(|look| look.failed);
        let Some(held) = self.held() else { return Err(Unproven::idp_unavailable()) };
        if let Some(key) = held.keys.get(kid) {
            return Ok(key.clone());
        }
        if failed {
            return Err(Unproven::idp_unavailable());
        }
        self.unknown.insert(kid.to_owned(), Instant::now());
        Err(Unproven::because("unknown_kid"))
    }

    /// Fetches once. The keys that are held stay when it fails.
    async fn look(&self, last_look: &mut Option<Look>) {
        // Noted first: a caller who goes away takes the fetch along, and the next must not begin at once.
        *last_look = Some(Look { at: Instant::now(), failed: true });
        match self.source.fetch().await {
            Ok(keys) => {
                self.unknown.clear();
                let held = Some(Arc::new(Held { keys, fetched: Instant::now() }));
                *self.held.write().unwrap_or_else(PoisonError::into_inner) = held;
                *last_look = Some(Look { at: Instant::now(), failed: false });
            }
            Err(error) => {
                *last_look = Some(Look { at: Instant::now(), failed: true });
                tracing::warn!(issuer = self.issuer, %error, "the issuer's keys could not be fetched");
            }
        }
    }

    /// Starts a fetch that nobody waits for, unless one is under way or has just been.
    fn refresh_behind(self: &Arc<Self>) {
        if self.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let keys = self.clone();
        self.background.spawn_until_stopped(async move {
            let mut last_look = keys.last_look.lock().await;
            if last_look.is_none_or(|look| look.at.elapsed() >= FETCH_EVERY) {
                keys.look(&mut last_look).await;
            }
            drop(last_look);
            keys.refreshing.store(false, Ordering::Release);
        });
    }

    /// What is held and not too old to prove anything.
    fn held(&self) -> Option<Arc<Held>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner).clone();
        held.filter(|held| held.fetched.elapsed() < HARD)
    }
}

/// An issuer's key set, at its own URL or at the one its discovery document names (`OpenID` Connect Discovery 1.0).
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) issuer: String,
    pub(crate) jwks_url: Option<String>,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) fetcher: Fetcher,
}

#[async_trait]
impl KeySource for Published {
    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let url = match &self.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let body = self.fetcher.get(&url).await?;
        jwk::parse(&body, &self.algorithms).map_err(|reason| FetchError::Failed(format!("the key set {reason}")))
    }
}

impl Published {
    async fn discover(&self) -> Result<String, FetchError> {
        let url = discovery_url(&self.issuer);
        let body = self.fetcher.get(&url).await?;
        let document = std::str::from_utf8(&body).ok().and_then(|text| from_json(text).ok()).unwrap_or(Value::Null);
        // §4.3: one issuer must not be able to speak for another.
        if document["issuer"] != self.issuer.as_str() {
            return Err(FetchError::Failed("the discovery document is another issuer's".to_owned()));
        }
        let named = document["jwks_uri"].as_str().map(str::to_owned);
        named.ok_or_else(|| FetchError::Failed("the discovery document names no jwks_uri".to_owned()))
    }
}

/// Where an issuer's discovery document is.
pub(crate) fn discovery_url(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
}

#[cfg(test)]
mod tests;
