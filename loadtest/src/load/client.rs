//! The life of a request, and of a caller in a closed loop.
//!
//! Responsible for making each call a plan and a client's patience ask for, and for writing it down, whatever comes of
//! it. Must never send more at once than its stream allows, and never after its stream's end.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp1};
use tokio::time::{Duration, sleep_until};
use tokio_util::sync::CancellationToken;

use super::arrival::Random;
use super::http::{Bounds, HttpClient, Submission};
use super::journal::Pages;
use super::meter::Meter;
use super::plan::{Sessions, Thinking};
use super::population::Credential;
use super::retry::comes_back_us;
use super::stream::{Due, Ready};
use super::targets::Targets;
use crate::record::{Call, Outcome, RunClock};

/// Most clients that wait to come back, in all streams. Each takes about a kilobyte.
const MAX_WAITING: u32 = 100_000;

/// Shortest pause of a session after a call that could not be sent: a gateway that is gone refuses faster than anybody
/// could ask.
const UNSENT_PAUSE_US: u64 = 10_000;

/// What all clients of a load share.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) clock: RunClock,
    pub(super) streams: Vec<Ready>,
    pub(super) credentials: Vec<Credential>,
    pub(super) targets: Targets,
    pub(super) http: HttpClient,
    pub(super) pages: Pages,
    pub(super) meter: Meter,
    /// Prefix of the ids of this run's requests.
    pub(super) run: String,
    pub(super) next_request: AtomicU64,
    pub(super) waiting: AtomicU32,
    /// Clients that hung up because too many were waiting.
    pub(super) hung_up: AtomicU64,
    /// Nothing more is sent.
    pub(super) stop: CancellationToken,
    /// What is in flight is given up.
    pub(super) cut: CancellationToken,
}

impl Stage {
    /// Sends a request, and again for as long as its client comes back. When the last answer was there, and whether
    /// the last call was sent at all.
    pub(super) async fn request(&self, due: Due) -> (u64, bool) {
        let stream = &self.streams[due.stream];
        let request = self.next_request.fetch_add(1, Ordering::Relaxed);
        let mut random = Random::seed_from_u64(due.seed);
        let mut intended_us = due.at_us;
        let mut repetition = 0;
        loop {
            // In a box, so that a client that only waits takes little room.
            let call = Box::pin(self.call(stream, &due, request, repetition, intended_us)).await;
            let back_us = stream.retry.as_ref().and_then(|retry| comes_back_us(retry, &call, due.at_us, &mut random));
            let last = (call.ended_us, !matches!(call.outcome, Outcome::Failed { sent: false, .. }));
            self.pages.write(call);
            match back_us.filter(|&back_us| back_us < stream.ends_us) {
                Some(back_us) if self.wait_until(back_us).await => intended_us = back_us,
                _ => return last,
            }
            repetition += 1;
        }
    }

    /// One caller of a closed loop: sends, waits for its answer, thinks, and so on until its stream ends.
    pub(super) async fn session(&self, of: usize, sessions: &Sessions, caller: u32, seed: u64) {
        let stream = &self.streams[of];
        let mut random = Random::seed_from_u64(seed);
        let think_us = sessions.think_ms * 1e3;
        let mut at_us = stream.starts_us + (random.random::<f64>() * think_us) as u64;
        while at_us < stream.ends_us && self.sleep_until(at_us).await {
            let (kind, seed) = (stream.kinds.draw(&mut random), random.random());
            let (ended_us, sent) = self.request(Due { at_us, stream: of, caller, kind, seed }).await;
            let thought_us = match sessions.thinking {
                Thinking::Constant => think_us,
                Thinking::Exponential => Distribution::<f64>::sample(&Exp1, &mut random) * think_us,
            };
            let thought_us = (thought_us as u64).max(if sent { 0 } else { UNSENT_PAUSE_US });
            at_us = ended_us.saturating_add(thought_us);
        }
    }

    async fn call(&self, stream: &Ready, due: &Due, request: u64, repetition: u32, intended_us: u64) -> Call {
        self.meter.offered();
        let kind = stream.kinds.get(due.kind);
        let sent_us = self.clock.now_us();
        let mut call = Call {
            caller: due.caller,
            request,
            repetition,
            gateway: 0,
            kind: kind.map(|kind| kind.name.clone()).unwrap_or_default(),
            intended_us,
            sent_us,
            ended_us: sent_us,
            outcome: Outcome::Failed { why: "too many in flight".to_owned(), sent: false },
        };
        let (Some(kind), Some(_place)) = (kind, Place::take(&stream.in_flight, stream.max_in_flight)) else {
            return call;
        };
        let Some(target) = self.targets.next() else {
            call.outcome = Outcome::Failed { why: "no gateway".to_owned(), sent: false };
            return call;
        };
        call.gateway = target.gateway;
        let submission = Submission {
            credential: &self.credentials[due.caller as usize],
            body: &kind.body,
            request_id: format!("{}-{request}-{repetition}", self.run),
            idempotency_key: kind.idempotent.then(|| format!("{}-{request}", self.run)),
        };
        let deadline = self.clock.instant(sent_us) + Duration::from_millis(stream.timeout_ms);
        self.meter.sent(sent_us.saturating_sub(intended_us));
        call.outcome = self.http.submit(&target, submission, &Bounds { deadline, cut: &self.cut }).await;
        call.ended_us = self.clock.now_us();
        self.meter.landed();
        call
    }

    /// Waits as one of a bounded number; whether the time has come.
    async fn wait_until(&self, at_us: u64) -> bool {
        let Some(_place) = Place::take(&self.waiting, MAX_WAITING) else {
            self.hung_up.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        self.meter.waits();
        let come = self.sleep_until(at_us).await;
        self.meter.waited();
        come
    }

    /// Whether the time has come, rather than the end.
    async fn sleep_until(&self, at_us: u64) -> bool {
        if self.stop.is_cancelled() {
            return false;
        }
        if at_us <= self.clock.now_us() {
            // Whoever never waits lets the others have their turn.
            tokio::task::yield_now().await;
            return true;
        }
        self.stop.run_until_cancelled(sleep_until(self.clock.instant(at_us))).await.is_some()
    }
}

/// One of a bounded number, given back when it is dropped.
struct Place<'a>(&'a AtomicU32);

impl<'a> Place<'a> {
    fn take(taken: &'a AtomicU32, most: u32) -> Option<Self> {
        let more = |taken| (taken < most).then_some(taken + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self(taken))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
