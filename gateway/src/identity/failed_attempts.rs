//! Addresses that keep presenting credentials that prove nothing.
//!
//! Responsible for how often one address may fail in a minute before it is refused without being heard. Must never
//! count against a principal, or anybody could lock anybody out, nor grow with the number of addresses: the ones seen
//! longest ago are forgotten.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::client_address::ClientAddress;

/// Time over which failures are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// Addresses that are remembered at a time.
const MAX_ADDRESSES: usize = 16_384;

/// The failures of each address in the last minute.
#[derive(Debug)]
pub struct FailedAttempts {
    per_minute: usize,
    by_address: Cache<ClientAddress, Arc<Mutex<VecDeque<Instant>>>>,
}

impl FailedAttempts {
    /// Refuses an address after this many failures in a minute.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute: per_minute as usize, by_address: Cache::new(MAX_ADDRESSES) }
    }

    /// How long this address is refused from now: 429 with that `Retry-After`; `None`: it is heard.
    #[must_use]
    pub fn refused_for(&self, address: ClientAddress) -> Option<Duration> {
        let failures = self.by_address.get(&address.network())?;
        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
        forget_old(&mut failures);
        let oldest = failures.front().filter(|_| failures.len() >= self.per_minute)?;
        Some(WINDOW.saturating_sub(oldest.elapsed()))
    }

    /// A credential from this address proved nothing.
    pub fn record(&self, address: ClientAddress) {
        let address = address.network();
        let made = self.by_address.get_or_insert_with(&address, || Ok::<_, std::convert::Infallible>(Arc::default()));
        let Ok(failures) = made;
        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
        forget_old(&mut failures);
        // One that is refused is not heard, so only requests that were under way together come this far.
        if failures.len() < self.per_minute {
            failures.push_back(Instant::now());
        }
    }
}

fn forget_old(failures: &mut VecDeque<Instant>) {
    while failures.front().is_some_and(|failure| failure.elapsed() >= WINDOW) {
        failures.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn address(text: &str) -> ClientAddress {
        ClientAddress::Known(text.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_refused_after_so_many_failures_in_any_minute() {
        let attempts = FailedAttempts::new(3);
        let ada = address("192.0.2.1");
        for _ in 0..3 {
            assert_eq!(attempts.refused_for(ada), None);
            attempts.record(ada);
            advance(Duration::from_secs(10)).await;
        }
        assert_eq!(attempts.refused_for(ada), Some(Duration::from_secs(30)));
        advance(Duration::from_secs(30)).await;
        assert_eq!(attempts.refused_for(ada), None, "the first failure is a minute old");
        attempts.record(ada);
        assert_eq!(attempts.refused_for(ada), Some(Duration::from_secs(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_told_apart_but_not_inside_one_v6_network() {
        let attempts = FailedAttempts::new(1);
        attempts.record(address("2001:db8::1"));
        assert!(attempts.refused_for(address("2001:db8::2")).is_some());
        assert!(attempts.refused_for(address("2001:db8:0:1::1")).is_none());
        attempts.record(ClientAddress::Unknown);
        assert!(attempts.refused_for(ClientAddress::Unknown).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_whatever_comes() {
        let attempts = FailedAttempts::new(20);
        for number in 0..100_000_u32 {
            attempts.record(ClientAddress::Known(std::net::Ipv4Addr::from(number).into()));
        }
        assert!(attempts.by_address.len() <= MAX_ADDRESSES);
        let ada = address("192.0.2.1");
        for _ in 0..1000 {
            attempts.record(ada);
        }
        let failures = attempts.by_address.get(&ada).unwrap();
        assert_eq!(failures.lock().unwrap().len(), 20);
    }
}
