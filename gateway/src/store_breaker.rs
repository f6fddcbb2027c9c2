//! The local circuit breaker for Redis itself.
//!
//! Responsible for answering at once while Redis cannot: the first broken connection, or a few timeouts in a row, open
//! it; while it is open nothing touches Redis but one probe at a time; the first probe that is answered closes it.
//! Must never be fed by what Redis *decides*: a refusal is an answer.
//!
//! A command's time is counted in turns of this process: what a busy gateway is too slow to read is not late. Without
//! that, overload of a gateway would look like an outage of Redis and drop answers that have already arrived.
//!
//! Opening early costs little, because the first probe goes out at the moment of opening: a connection that only had to
//! be made again closes the breaker within a round trip.
//!
//! That Redis is away is certain only once it has been looked for in vain for a while. Time in which this process did
//! not run is not counted: one that was frozen knows nothing of it.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_lua::StoreError;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::metric;

/// Timeouts in a row that open the breaker. One may be a pause of Redis (a fork, a slow disk) that is over already.
const TIMEOUTS_TO_OPEN: u32 = 3;

/// Turns a command's time is divided in. In each of them this process gets to read what has arrived.
const TURNS: u32 = 8;

/// Pause between two probes: an outage costs Redis ten commands a second per gateway.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// A look at the clock is due after each [`PROBE_INTERVAL`] while the breaker is open; one that comes this late was not
/// held up by other work: the process did not run.
const FROZEN: Duration = PROBE_INTERVAL.saturating_mul(5);

/// Open or closed; see the module's header.
#[derive(Debug)]
pub struct StoreBreaker {
    command_timeout: Duration,
    away_after: Duration,
    open: AtomicBool,
    in_vain: Mutex<InVain>,
    timeouts_in_a_row: AtomicU32,
    opened: Notify,
}

/// For how long Redis has been looked for without an answer, up to the last look.
#[derive(Clone, Copy, Debug)]
struct InVain {
    lasted: Duration,
    last_look: Instant,
}

impl StoreBreaker {
    /// A closed breaker for commands that are given this long, of a Redis that is away for certain when it has been
    /// looked for in vain for `away_after`.
    #[must_use]
    pub fn new(command_timeout: Duration, away_after: Duration) -> Self {
        Self {
            command_timeout,
            away_after,
            open: AtomicBool::new(false),
            in_vain: Mutex::new(InVain::from_now()),
            timeouts_in_a_row: AtomicU32::new(0),
            opened: Notify::new(),
        }
    }

    /// Whether Redis is being left alone.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Whether Redis is away for certain: it has been looked for in vain for long enough, up to now.
    pub(crate) fn is_away(&self) -> bool {
        // First: whoever opens it begins to count before.
        let is_open = self.is_open();
        let in_vain = *self.in_vain();
        is_open && in_vain.last_look.elapsed() < FROZEN && in_vain.lasted >= self.away_after
    }

    /// Runs a command unless the breaker is open, and learns from how it went. Waits at most the command timeout,
    /// longer only if this process does not get to run.
    pub fn call<'a, T: 'a>(
        &'a self,
        command: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + 'a {
        // A command of the client library is a future of 20 KB, which every handler and every event stream would carry.
        let command = Box::pin(command);
        async move {
            if self.is_open() {
                return Err(StoreError::Unavailable("not asked: the last commands failed".to_owned()));
            }
            let started = Instant::now();
            let result = within(self.command_timeout, command).await;
            let result = result.unwrap_or_else(|| Err(StoreError::Unavailable("no answer in time".to_owned())));
            self.learn(&result, started.elapsed());
            result
        }
    }

    /// Probes while the breaker is open, and closes it. Never returns; owned by `run`.
    pub(crate) async fn tend<F>(&self, ping: impl Fn() -> F)
    where
        F: Future<Output = Result<(), StoreError>>,
    {
        loop {
            self.opened.notified().await;
            while self.is_open() {
                let probe = async {
                    if let Ok(Ok(())) = timeout(self.command_timeout, ping()).await {
                        self.close();
                    } else {
                        sleep(PROBE_INTERVAL).await;
                    }
                };
                self.look_until(probe).await;
            }
        }
    }

    /// Counts the time until this probe is over as time in which Redis was looked for.
    async fn look_until(&self, probe: impl Future<Output = ()>) {
        let mut probe = pin!(probe);
        while timeout(PROBE_INTERVAL, &mut probe).await.is_err() {
            self.in_vain().look();
        }
        self.in_vain().look();
    }

    /// Takes note of how a command went that took this long.
    pub fn learn<T>(&self, result: &Result<T, StoreError>, took: Duration) {
        // Said once per command, not once per caller that waited for it.
        match result {
            Ok(_) | Err(StoreError::Unavailable(_)) => {}
            Err(error @ (StoreError::StalePolicy { .. } | StoreError::StaleRevocations { .. })) => {
                tracing::debug!(%error, "nothing is decided until it is caught up");
            }
            Err(error) => tracing::error!(%error, "redis gave an unusable answer"),
        }
        match result {
            // A store opened with a timeout of its own may report one as an error like any other; its lateness tells.
            Err(StoreError::Unavailable(_)) if took >= self.command_timeout * 3 / 4 => self.timed_out(),
            Err(StoreError::Unavailable(reason)) => self.trip(reason),
            _ => self.timeouts_in_a_row.store(0, Ordering::Relaxed),
        }
    }

    fn timed_out(&self) {
        if self.timeouts_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_TO_OPEN {
            self.trip("no answer in time");
        }
    }

    fn trip(&self, reason: &str) {
        if !self.is_open() {
            // First: whoever sees that it is open sees for how long.
            *self.in_vain() = InVain::from_now();
        }
        if !self.open.swap(true, Ordering::AcqRel) {
            tracing::warn!(reason, "redis does not answer: refusing until it does");
            metric::store_breaker(true);
            self.opened.notify_one();
        }
    }

    /// A probe was answered.
    pub fn close(&self) {
        self.timeouts_in_a_row.store(0, Ordering::Relaxed);
        // Whoever opens it again may have seen it open, and would not begin to count anew.
        *self.in_vain() = InVain::from_now();
        self.open.store(false, Ordering::Release);
        metric::store_breaker(false);
        tracing::info!("redis answers again");
    }

    fn in_vain(&self) -> MutexGuard<'_, InVain> {
        self.in_vain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InVain {
    fn from_now() -> Self {
        Self { lasted: Duration::ZERO, last_look: Instant::now() }
    }

    /// It is still looked for. What happened while this process was frozen is not known: then it begins anew.
    fn look(&mut self) {
        let since = self.last_look.elapsed();
        let lasted = if since < FROZEN { self.lasted + since } else { Duration::ZERO };
        *self = Self { lasted, last_look: Instant::now() };
    }
}

/// The future's output unless it takes longer than `limit`, in which this task must have had all its turns: one that
/// comes late moves the next one back.
async fn within<T>(limit: Duration, mut future: impl Future<Output = T> + Unpin) -> Option<T> {
    let (started, turn) = (Instant::now(), limit / TURNS);
    for number in 1..=TURNS {
        let end = (started + turn * number).max(Instant::now() + turn / 2);
        if let Ok(output) = timeout_at(end, &mut future).await {
            return Some(output);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::atomic::AtomicUsize;

    use portcullis_lua::PolicyStamp;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(40);
    const AWAY: Duration = Duration::from_secs(1);

    fn refused() -> Result<(), StoreError> {
        Err(StoreError::Unavailable("connection refused".to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_connection_opens_at_once_and_then_nothing_is_called() {
        let breaker = StoreBreaker::new(TIMEOUT, AWAY);
        assert!(breaker.call(ready(refused())).await.is_err());
        let called = AtomicBool::new(false);
        let command = async {
            called.store(true, Ordering::Relaxed);
            Ok(())
        };
        assert!(matches!(breaker.call(command).await, Err(StoreError::Unavailable(_))));
        assert!(!called.load(Ordering::Relaxed));
    }

    /// Whether Redis is away for certain, once the breaker's tending has had its turns.
    async fn is_away_when_tended(breaker: &StoreBreaker) -> bool {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        breaker.is_away()
    }

    #[tokio::test(start_paused = true)]
    async fn redis_is_away_when_it_was_looked_for_in_vain_and_not_while_this_process_was_frozen() {
        let breaker = StoreBreaker::new(TIMEOUT, AWAY);
        let looked_for = async {
            assert!(breaker.call(ready(refused())).await.is_err());
            assert!(!breaker.is_away());
            sleep(AWAY / 2).await;
            assert!(!breaker.is_away());
            sleep(AWAY).await;
            assert!(breaker.is_away());
            // Nothing runs: neither a probe nor what waits for its time.
            tokio::time::advance(AWAY * 7).await;
            assert!(!breaker.is_away(), "what was certain before it was frozen is not now");
            assert!(!is_away_when_tended(&breaker).await);
            sleep(AWAY * 3 / 4).await;
            assert!(!breaker.is_away());
            sleep(AWAY / 2).await;
            assert!(breaker.is_away());
            breaker.close();
            assert!(breaker.call(ready(refused())).await.is_err());
            tokio::time::advance(AWAY * 7).await;
            assert!(!is_away_when_tended(&breaker).await, "it was frozen as soon as it was opened");
        };
        tokio::select! {
            () = breaker.tend(|| ready(refused())) => unreachable!("tending has no end"),
            () = looked_for => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_redis_that_leaves_probes_unanswered_is_away_no_later_than_one_that_refuses_them() {
        let breaker = StoreBreaker::new(AWAY * 5, AWAY);
        let looked_for = async {
            assert!(breaker.call(ready(refused())).await.is_err());
            sleep(AWAY + PROBE_INTERVAL).await;
            assert!(breaker.is_away());
        };
        tokio::select! {
            () = breaker.tend(pending) => unreachable!("tending has no end"),
            () = looked_for => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn timeouts_open_it_only_in_a_row() {
        let breaker = StoreBreaker::new(TIMEOUT, AWAY);
        for _ in 0..2 {
            assert!(breaker.call(pending::<Result<(), _>>()).await.is_err());
        }
        breaker.call(ready(Ok(()))).await.unwrap();
        for _ in 0..2 {
            assert!(breaker.call(pending::<Result<(), _>>()).await.is_err());
        }
        assert!(!breaker.is_open());
        assert!(breaker.call(pending::<Result<(), _>>()).await.is_err());
        assert!(breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_of_the_client_library_counts_as_a_timeout() {
        let breaker = StoreBreaker::new(TIMEOUT, AWAY);
        let slow = async {
            sleep(TIMEOUT.mul_f64(0.9)).await;
            refused()
        };
        assert!(breaker.call(slow).await.is_err());
        assert!(!breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_no_longer_than_the_timeout() {
        let breaker = StoreBreaker::new(TIMEOUT, AWAY);
        let started = Instant::now();
        assert!(breaker.call(pending::<Result<(), _>>()).await.is_err());
        assert_eq!(started.elapsed(), TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_does_not_get_to_run_is_not_taken_for_an_outage() {
        let breaker = StoreBreaker::new(TIMEOUT, AWAY);
        let (answer, answered) = tokio::sync::oneshot::channel();
        let call = breaker.call(async { answered.await.map_err(|_| StoreError::Unavailable("gone".to_owned())) });
        let busy = async {
            // The clock passes the command's time while nothing else runs; then the answer is read.
            tokio::time::advance(TIMEOUT * 3).await;
            tokio::task::yield_now().await;
            answer.send(7).unwrap();
        };
        let (result, ()) = tokio::join!(call, busy);
        assert_eq!(result, Ok(7));
        assert!(!breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_are_errors_are_still_answers() {
        let breaker = StoreBreaker::new(TIMEOUT, AWAY);
        for _ in 0..10 {
            let (held, current) = (PolicyStamp::NONE, PolicyStamp::new(2, "{}"));
            let answer: Result<(), _> = Err(StoreError::StalePolicy { held, current });
            assert!(breaker.call(ready(answer)).await.is_err());
        }
        assert!(!breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_answered_probe_closes_it() {
        let breaker = StoreBreaker::new(TIMEOUT, AWAY);
        let probes = AtomicUsize::new(0);
        let ping = || async {
            match probes.fetch_add(1, Ordering::Relaxed) {
                0 => refused(),
                1 => pending().await,
                _ => Ok(()),
            }
        };
        let closed = async {
            assert!(breaker.call(ready(refused())).await.is_err());
            while breaker.is_open() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let started = Instant::now();
        tokio::select! {
            () = breaker.tend(ping) => unreachable!("tending has no end"),
            () = closed => {}
        }
        assert_eq!(probes.load(Ordering::Relaxed), 3);
        assert!(started.elapsed() >= PROBE_INTERVAL * 2 + TIMEOUT);
        breaker.call(ready(Ok(()))).await.unwrap();
    }
}
