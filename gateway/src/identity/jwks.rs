//! The keys of one issuer, as last fetched.
//!
//! Responsible for when they are fetched: when none are held, when a token names one that is not among them, and,
//! once they were needed, by themselves when they are a while old or could not be had, whether or not anybody asks:
//! what an issuer takes back on a quiet day must not count again on the next, and one that is back must not seem
//! away. Must never fetch more often than the rules below, whatever tokens come, never have two fetches under way
//! (everybody who needs one waits for the same), nor give one up because whoever asked for it has gone: who keeps
//! going away would keep the keys from everybody. Keys that are older than a day prove nothing: the issuer may have
//! taken them back.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use jsonwebtoken::Algorithm;
use portcullis_config::from_json;
use serde_json::Value;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, sleep_until};

use crate::background::Background;
use crate::identity::Unproven;
use crate::identity::fetch::{FetchError, FetchFault, Fetcher};
use crate::identity::fetch_record::{FetchRecord, Outcomes};
use crate::identity::jwk::{self, KeySet, VerifyingKey};

/// Age at which keys are fetched again.
const SOFT: Duration = Duration::from_secs(10 * 60);

/// Age after which keys prove nothing.
const HARD: Duration = Duration::from_secs(24 * 3600);

/// Least time between two fetches while keys are held, whichever names are asked for.
const FETCH_EVERY: Duration = Duration::from_secs(30);

/// Least time between two fetches while none are held: everybody waits for them.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// Where a set of keys comes from.
#[async_trait]
pub(crate) trait KeySource: fmt::Debug + Send + Sync {
    /// The keys as they are published now.
    async fn fetch(&self) -> Result<KeySet, FetchError>;
}

/// The keys of one issuer.
#[derive(Debug)]
pub(crate) struct IssuerKeys {
    record: FetchRecord,
    source: Box<dyn KeySource>,
    background: Background,
    held: RwLock<Option<Arc<Held>>>,
    /// Held while a fetch is under way.
    last_look: Arc<Mutex<Option<Look>>>,
    kept_fresh: AtomicBool,
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

impl Look {
    /// When keys are to be fetched again though nobody asks.
    fn next(self) -> Instant {
        self.at + if self.failed { FETCH_EVERY } else { SOFT }
    }
}

impl IssuerKeys {
    /// The keys from this source, none held yet.
    pub(crate) fn new(record: FetchRecord, source: Box<dyn KeySource>, background: Background) -> Arc<Self> {
        Arc::new(Self {
            record,
            source,
            background,
            held: RwLock::default(),
            last_look: Arc::default(),
            kept_fresh: AtomicBool::new(false),
        })
    }

    /// The key of this name.
    ///
    /// # Errors
    ///
    /// `unknown_kid`: the issuer had none when it was last asked; `idp_unavailable`: it could not be asked.
    pub(crate) async fn key(self: &Arc<Self>, kid: &str) -> Result<Arc<VerifyingKey>, Unproven> {
        match self.known(kid) {
            Some(key) => Ok(key),
            None => self.look_for(kid).await,
        }
    }

    /// How many are held, whether they should have been fetched again by now, and how fetching them has gone.
    pub(crate) fn status(&self) -> (usize, bool, Outcomes) {
        let held = self.held();
        let overdue = held.as_ref().is_some_and(|held| held.fetched.elapsed() >= SOFT);
        (held.map_or(0, |held| held.keys.len()), overdue, self.record.outcomes())
    }

    async fn look_for(self: &Arc<Self>, kid: &str) -> Result<Arc<VerifyingKey>, Unproven> {
        let mut last_look = self.last_look.clone().lock_owned().await;
        // Whoever held the lock before may have brought it.
        if let Some(key) = self.known(kid) {
            return Ok(key);
        }
        let pause = if self.held().is_some() { FETCH_EVERY } else { RETRY_EVERY };
        if last_look.is_none_or(|look| look.at.elapsed() >= pause) {
            last_look = self.look(last_look).await?;
        }
        if let Some(key) = self.known(kid) {
            return Ok(key);
        }
        let asked = self.held().is_some() && last_look.is_some_and(|look| !look.failed);
        Err(if asked { Unproven::because("unknown_kid") } else { Unproven::idp_unavailable() })
    }

    /// Fetches once, to the end, whoever goes away meanwhile.
    async fn look(
        self: &Arc<Self>,
        mut last_look: OwnedMutexGuard<Option<Look>>,
    ) -> Result<OwnedMutexGuard<Option<Look>>, Unproven> {
        let (keys, stop) = (self.clone(), self.background.stopping().clone());
        let looking = self.background.spawn(async move {
            stop.run_until_cancelled(keys.fetch(&mut last_look)).await;
            // Also where there was none: nobody may come to ask again, and what is missing is said until it is not.
            if !keys.kept_fresh.swap(true, Ordering::AcqRel) {
                keys.background.spawn_until_stopped(keys.clone().keep_fresh());
            }
            last_look
        });
        looking.await.map_err(|_| Unproven::idp_unavailable())
    }

    /// The keys that are held stay when it fails.
    async fn fetch(&self, last_look: &mut Option<Look>) {
        let fetched = self.source.fetch().await;
        *last_look = Some(Look { at: Instant::now(), failed: fetched.is_err() });
        match fetched {
            Ok(keys) => {
                if keys.is_empty() {
                    let none = "the issuer publishes no key that is believed";
                    self.record.failed(&FetchError::Failed(FetchFault::NoUsableKey, none.to_owned()));
                    tracing::warn!(issuer = self.record.issuer(), "{none}");
                } else {
                    self.record.succeeded();
                }
                let held = Some(Arc::new(Held { keys, fetched: Instant::now() }));
                *self.held.write().unwrap_or_else(PoisonError::into_inner) = held;
            }
            Err(error) => {
                self.record.failed(&error);
                tracing::warn!(issuer = self.record.issuer(), %error, "the issuer's keys could not be fetched");
            }
        }
    }

    /// Fetches what has grown old or could not be had, for ever.
    async fn keep_fresh(self: Arc<Self>) {
        loop {
            let next = self.last_look.lock().await.map_or_else(Instant::now, Look::next);
            sleep_until(next).await;
            let mut last_look = self.last_look.lock().await;
            // Somebody may have asked meanwhile.
            if last_look.is_none_or(|look| look.next() <= Instant::now()) {
                self.fetch(&mut last_look).await;
            }
        }
    }

    fn known(&self, kid: &str) -> Option<Arc<VerifyingKey>> {
        self.held()?.keys.get(kid).cloned()
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
        jwk::parse(&body, &self.algorithms).map_err(|reason| malformed(format!("the key set {reason}")))
    }
}

impl Published {
    async fn discover(&self) -> Result<String, FetchError> {
        let url = discovery_url(&self.issuer);
        let body = self.fetcher.get(&url).await?;
        let document = std::str::from_utf8(&body).ok().and_then(|text| from_json(text).ok()).unwrap_or(Value::Null);
        // §4.3: one issuer must not be able to speak for another.
        if document["issuer"] != self.issuer.as_str() {
            return Err(malformed("the discovery document is another issuer's".to_owned()));
        }
        let named = document["jwks_uri"].as_str().map(str::to_owned);
        named.ok_or_else(|| malformed("the discovery document names no jwks_uri".to_owned()))
    }
}

fn malformed(said: String) -> FetchError {
    FetchError::Failed(FetchFault::Malformed, said)
}

/// Where an issuer's discovery document is.
pub(crate) fn discovery_url(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
}

#[cfg(test)]
mod tests;
