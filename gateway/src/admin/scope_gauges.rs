//! The gauges of the scope, read from Redis when somebody scrapes.
//!
//! Responsible for reading at most once a second however many scrape, and for giving up quickly: during an outage the
//! metrics of the gateway itself are what an operator needs. Must never fail a scrape.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Scoped;
use crate::degraded::{self, Degraded, Fallback};
use crate::metric;

/// How old the gauges may be.
const FRESH: Duration = Duration::from_secs(1);

/// Reads the gauges, and remembers when it did.
#[derive(Debug, Default)]
pub(crate) struct ScopeGauges {
    /// Held while reading, so that scrapers at the same time wait for one answer instead of asking for their own.
    last: Mutex<LastRead>,
}

#[derive(Debug, Default)]
struct LastRead {
    at: Option<Instant>,
    /// User types seen so far: one whose last task has left the queue is no longer named by the store.
    user_types: BTreeSet<String>,
}

impl ScopeGauges {
    /// Reads the gauges unless they are fresh. What is degraded as far as this process knows is as of now.
    pub(crate) async fn refresh(&self, scoped: &Scoped) {
        metric::degraded(&Fallback::OWN, &degraded::of_gateway(scoped.gateway()));
        let mut last = self.last.lock().await;
        if last.at.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        let (store, policy) = (scoped.store(), scoped.policy());
        let (queue, processors) = tokio::join!(
            scoped.read(store.queues(policy.compiled())),
            scoped.read(store.processors(policy.compiled())),
        );
        match queue.and_then(|view| Ok((view, processors?))) {
            Ok((view, processors)) => {
                metric::degraded(&Fallback::TOLD, &degraded::told(Some(&view), Some(&processors)));
                last.user_types.extend(view.thresholds.keys().chain(view.queued_by_type.keys()).cloned());
                metric::scope(store.scope(), &view, &last.user_types);
            }
            Err(error) => {
                tracing::debug!(%error, "the numbers of the scope stay as they were");
                metric::scope_unreadable(store.scope());
                // Nobody knows of those any longer.
                metric::degraded(&Fallback::TOLD, &Degraded::new());
            }
        }
        last.at = Some(Instant::now());
    }
}
