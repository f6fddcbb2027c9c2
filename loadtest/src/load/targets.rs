//! Where calls go: the gateways that are in the target group at this moment.
//!
//! Responsible for turns (round robin by call) and for changes while a load runs. Must never judge a gateway by its
//! answers: whoever starts and ends gateways says which are in, as a balancer's health checks would.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// A shared list of gateways. Clones are handles to the same list.
#[derive(Clone, Debug, Default)]
pub struct Targets(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    present: RwLock<Arc<[Target]>>,
    turn: AtomicUsize,
    version: AtomicU64,
}

/// A gateway, where it listens now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its number, which stays when it moves.
    pub gateway: u32,
    /// `http://host:port` or `https://host:port`.
    pub url: Arc<str>,
}

impl Target {
    /// Whether it is reached over TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.url.starts_with("https://")
    }
}

impl Targets {
    /// These gateways, numbered from 0.
    #[must_use]
    pub fn new(urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let targets = Self::default();
        for (gateway, url) in (0..).zip(urls) {
            targets.put(gateway, url);
        }
        targets
    }

    /// Puts a gateway in, or moves it to another address.
    pub fn put(&self, gateway: u32, url: impl Into<String>) {
        let url = url.into().trim_end_matches('/').into();
        self.change(gateway, Some(Target { gateway, url }));
    }

    /// Takes a gateway out: no further call goes there.
    pub fn remove(&self, gateway: u32) {
        self.change(gateway, None);
    }

    /// All that are in, by number.
    #[must_use]
    pub fn present(&self) -> Arc<[Target]> {
        Arc::clone(&self.0.present.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The one whose turn it is; `None` if none is in.
    pub(super) fn next(&self) -> Option<Target> {
        let present = self.present();
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
        present.get(turn % present.len().max(1)).cloned()
    }

    /// Changes whenever the list does.
    pub(super) fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    fn change(&self, gateway: u32, target: Option<Target>) {
        let mut present = self.0.present.write().unwrap_or_else(PoisonError::into_inner);
        let others = present.iter().filter(|other| other.gateway != gateway).cloned();
        let mut changed: Vec<Target> = others.chain(target).collect();
        changed.sort_unstable_by_key(|target| target.gateway);
        *present = changed.into();
        self.0.version.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_take_turns() {
        let targets = Targets::new(["http://a:1", "http://b:2/"]);
        let turns: Vec<u32> = (0..4).filter_map(|_| targets.next()).map(|target| target.gateway).collect();
        assert_eq!(turns, [0, 1, 0, 1]);
        assert_eq!(&*targets.present()[1].url, "http://b:2");
    }

    #[test]
    fn a_gateway_keeps_its_number_when_it_moves() {
        let targets = Targets::new(["http://a:1", "http://b:2"]);
        let before = targets.version();
        targets.remove(0);
        assert_eq!(targets.next().map(|target| target.gateway), Some(1));
        targets.put(0, "http://a:9");
        assert_eq!(targets.present()[0], Target { gateway: 0, url: "http://a:9".into() });
        assert!(targets.version() > before);
    }

    #[test]
    fn nobody_has_a_turn_where_nobody_is() {
        assert_eq!(Targets::default().next(), None);
    }
}
