//! Taking back the leases of processors that went away.
//!
//! Every processor does it, so that a task waits no longer than its lease and a moment for its next attempt, whoever
//! died. Responsible for settling at once what is not to be run again. Must never judge a lease itself: the script
//! does, by the Redis clock.

use std::sync::Arc;
use std::time::Duration;

use portcullis_lua::{Outcome, Reclaimed};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::attempt::Runner;
use crate::heartbeat::Contact;
use crate::lease::Leases;
use crate::settle::{Ended, unrun};
use crate::{metric, store};

/// How long Redis must have been answering first. After an outage everybody's leases have lapsed, finished attempts
/// among them: their holders get the time to settle and renew, or all that work would be done again. Longer than
/// [`crate::backoff::resettle`] waits, and short enough to be over within a second.
const CALM: Duration = Duration::from_millis(600);

/// Takes back lapsed leases on behalf of one processor.
pub(crate) struct Reclaimer {
    pub(crate) runner: Arc<Runner>,
    pub(crate) leases: Leases,
    pub(crate) contact: Contact,
    pub(crate) settlements: mpsc::Sender<Ended>,
}

impl Reclaimer {
    /// Reclaims until `drain`: a processor that leaves takes on nothing new.
    pub(crate) async fn run(self, drain: &CancellationToken) {
        loop {
            tokio::select! {
                () = sleep(pause()) => {}
                () = drain.cancelled() => return,
            }
            // The script is bounded, so after a mass death one call is not enough.
            while self.contact.steady_for(CALM) && !drain.is_cancelled() && self.reclaim().await {}
        }
    }

    /// One call; true when there was something, so that there may be more.
    async fn reclaim(&self) -> bool {
        let active = self.runner.policy.load();
        let sent = Instant::now();
        let Reclaimed { now_ms, requeued, leases } = match self.runner.store.reclaim(active.compiled()).await {
            Ok(reclaimed) => reclaimed,
            Err(fault) => {
                store::failed("reclaim", &fault);
                return false;
            }
        };
        self.runner.clock.note(sent, now_ms);
        if requeued > 0 {
            // The script has left a wake-up for whoever has room.
            tracing::info!(requeued, "lapsed leases put back into the queue");
            metric::requeued(requeued);
        }
        let found = requeued > 0 || !leases.is_empty();
        for lease in leases {
            // A lease to run does not come from here; if one did, the queue would be the place for it.
            let outcome = unrun(lease.purpose).unwrap_or(Outcome::HandedBack);
            let held = self.leases.hold(&lease, sent, active.policy().queue.lease_ms);
            if self.settlements.send(Ended::new(lease, outcome, held)).await.is_err() {
                return false;
            }
        }
        found
    }
}

/// About 250 ms, spread so that processors do not sweep in step.
fn pause() -> Duration {
    Duration::from_millis(rand::random_range(200..=300))
}
