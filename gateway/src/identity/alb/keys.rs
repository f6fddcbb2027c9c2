//! The keys a load balancer signs with, one by one as they are named.
//!
//! Responsible for fetching each once a day at most, and few in any minute whatever headers come. Must never be asked
//! for a key whose id is not a UUID, because the id becomes part of a URL, nor give up a fetch because whoever asked
//! for it has gone: so few are allowed that those who keep going away would keep the keys from everybody.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey};
use quick_cache::sync::Cache;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::background::Background;
use crate::identity::Unproven;
use crate::identity::fetch::{FetchError, FetchFault, Fetcher};
use crate::identity::fetch_record::{FetchRecord, Outcomes};
use crate::identity::jwk::VerifyingKey;

/// Keys, and ids of none, that are remembered.
const MAX_KEYS: usize = 64;

/// How long a key is believed without being fetched again.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// How long an id of no key is not asked for again.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);

/// Fetches in any minute: a load balancer changes its key rarely.
const FETCHES_PER_MINUTE: usize = 8;

#[derive(Debug)]
pub(super) struct AlbKeys {
    record: FetchRecord,
    url: String,
    fetcher: Fetcher,
    background: Background,
    keys: Cache<String, (Instant, Arc<VerifyingKey>)>,
    unknown: Cache<String, Instant>,
    /// When the last fetches began. Held while one is under way.
    fetches: Arc<Mutex<VecDeque<Instant>>>,
}

impl AlbKeys {
    pub(super) fn new(record: FetchRecord, url: String, fetcher: Fetcher, background: Background) -> Arc<Self> {
        let (keys, unknown) = (Cache::new(MAX_KEYS), Cache::new(MAX_KEYS));
        Arc::new(Self { record, url, fetcher, background, keys, unknown, fetches: Arc::default() })
    }

    /// The key of this id, a UUID.
    pub(super) async fn key(self: &Arc<Self>, kid: &str) -> Result<Arc<VerifyingKey>, Unproven> {
        if let Some(known) = self.known(kid) {
            return known;
        }
        let mut fetches = self.fetches.clone().lock_owned().await;
        // Whoever held the lock before may have brought it.
        if let Some(known) = self.known(kid) {
            return known;
        }
        while fetches.front().is_some_and(|fetch| fetch.elapsed() >= Duration::from_secs(60)) {
            fetches.pop_front();
        }
        if fetches.len() >= FETCHES_PER_MINUTE {
            return Err(Unproven::idp_unavailable());
        }
        fetches.push_back(Instant::now());
        let (keys, kid, stop) = (self.clone(), kid.to_owned(), self.background.stopping().clone());
        let fetching = self.background.spawn(async move {
            let key = stop.run_until_cancelled(keys.fetch(&kid)).await;
            drop(fetches);
            key
        });
        fetching.await.ok().flatten().unwrap_or(Err(Unproven::idp_unavailable()))
    }

    /// How many are held, and how fetching them has gone.
    pub(super) fn status(&self) -> (usize, Outcomes) {
        let held = self.keys.iter().filter(|(_, (fetched, _))| fetched.elapsed() < KEEP).count();
        (held, self.record.outcomes())
    }

    async fn fetch(&self, kid: &str) -> Result<Arc<VerifyingKey>, Unproven> {
        let error = match self.fetched(kid).await {
            Ok(key) => {
                self.record.succeeded();
                let key = Arc::new(VerifyingKey::new(vec![Algorithm::ES256], key));
                self.keys.insert(kid.to_owned(), (Instant::now(), key.clone()));
                return Ok(key);
            }
            Err(error) => error,
        };
        self.record.failed(&error);
        if matches!(error, FetchError::Absent(_)) {
            self.unknown.insert(kid.to_owned(), Instant::now());
            return Err(Unproven::because("unknown_kid"));
        }
        tracing::warn!(kid, %error, "the load balancer's key could not be fetched");
        Err(Unproven::idp_unavailable())
    }

    async fn fetched(&self, kid: &str) -> Result<DecodingKey, FetchError> {
        let pem = self.fetcher.get(&format!("{}/{kid}", self.url)).await?;
        let no_key = |_| FetchError::Failed(FetchFault::Malformed, "the answer is no key".to_owned());
        DecodingKey::from_ec_pem(&pem).map_err(no_key)
    }

    fn known(&self, kid: &str) -> Option<Result<Arc<VerifyingKey>, Unproven>> {
        if let Some((fetched, key)) = self.keys.get(kid)
            && fetched.elapsed() < KEEP
        {
            return Some(Ok(key));
        }
        let unknown = self.unknown.get(kid).is_some_and(|since| since.elapsed() < UNKNOWN_FOR);
        unknown.then_some(Err(Unproven::because("unknown_kid")))
    }
}
