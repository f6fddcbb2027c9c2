//! How fetching the keys of one issuer has gone.
//!
//! Responsible for when it last went well, when it last did not and why, as an operator is shown it, and for telling of
//! a fetch that was not permitted. Must never hold what was fetched, nor keep a fetch waiting for whoever is told.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::identity::epoch_ms;
use crate::identity::fetch::{FetchError, FetchFault, Forbidden};

/// Told of fetches that the rules forbid. Must answer at once: the fetch waits.
pub(crate) trait FetchWitness: fmt::Debug + Send + Sync {
    /// Keys of this issuer would have come from there.
    fn refused(&self, issuer: &str, forbidden: &Forbidden);
}

/// What is remembered of the fetches of one issuer's keys.
#[derive(Debug)]
pub(crate) struct FetchRecord {
    issuer: String,
    witness: Arc<dyn FetchWitness>,
    seen: Mutex<Outcomes>,
}

/// The last fetch of each outcome, by the clock of this machine, ms since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcomes {
    /// When keys were fetched; `None`: never yet.
    pub(crate) last_ok_ms: Option<u64>,
    /// When a fetch brought none, and why.
    pub(crate) last_error: Option<(u64, FetchFault)>,
}

impl FetchRecord {
    /// Of an issuer, or of what signs for one, whose keys were never fetched.
    pub(crate) fn new(issuer: String, witness: Arc<dyn FetchWitness>) -> Self {
        Self { issuer, witness, seen: Mutex::default() }
    }

    /// Whose keys they are.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// How it has gone.
    pub(crate) fn outcomes(&self) -> Outcomes {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keys have just been fetched.
    pub(crate) fn succeeded(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).last_ok_ms = Some(epoch_ms(SystemTime::now()));
    }

    /// A fetch has just brought no key.
    pub(crate) fn failed(&self, error: &FetchError) {
        let failure = Some((epoch_ms(SystemTime::now()), error.fault()));
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).last_error = failure;
        if let FetchError::Forbidden(forbidden) = error {
            self.witness.refused(&self.issuer, forbidden);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Remembers what it was told: issuer, host, address.
    #[derive(Debug, Default)]
    pub(crate) struct Told(Mutex<Vec<(String, String, Option<String>)>>);

    impl FetchWitness for Told {
        fn refused(&self, issuer: &str, forbidden: &Forbidden) {
            let address = forbidden.address.map(|address| address.to_string());
            self.0.lock().unwrap().push((issuer.to_owned(), forbidden.host.clone(), address));
        }
    }

    impl Told {
        pub(crate) fn all(&self) -> Vec<(String, String, Option<String>)> {
            self.0.lock().unwrap().clone()
        }
    }

    /// A record of the issuer `i`, and who is told.
    pub(crate) fn record() -> (FetchRecord, Arc<Told>) {
        let told = Arc::<Told>::default();
        (FetchRecord::new("i".to_owned(), told.clone()), told)
    }

    #[test]
    fn each_outcome_is_remembered_beside_the_other() {
        let (record, told) = record();
        assert_eq!(record.outcomes(), Outcomes::default());
        record.failed(&FetchError::Failed(FetchFault::Timeout, "too slow".to_owned()));
        let failed = record.outcomes();
        assert_eq!((failed.last_ok_ms, failed.last_error.unwrap().1), (None, FetchFault::Timeout));
        record.succeeded();
        let both = record.outcomes();
        assert!(both.last_ok_ms >= failed.last_error.map(|(at_ms, _)| at_ms));
        assert_eq!(both.last_error, failed.last_error, "what went wrong before is still to be seen");
        assert!(told.all().is_empty(), "only what is forbidden is told of");
    }

    #[test]
    fn what_is_forbidden_is_told_of_with_its_place() {
        let (record, told) = record();
        let address = Some("10.0.0.1".parse().unwrap());
        let forbidden = Forbidden { host: "keys.example".to_owned(), address, reason: "is inside" };
        record.failed(&FetchError::Forbidden(forbidden));
        assert_eq!(record.outcomes().last_error.unwrap().1, FetchFault::AddressRefused);
        assert_eq!(told.all(), [("i".to_owned(), "keys.example".to_owned(), Some("10.0.0.1".to_owned()))]);
    }
}
