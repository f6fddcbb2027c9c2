//! Drives a load: two threads of its own, one that keeps time and one that sends.
//!
//! Responsible for beginning and ending both, and for waiting until the last call is written down. Must never share a
//! thread with what it measures.

#[cfg(test)]
mod stub;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::arrival::Random;
use super::client::Stage;
use super::http::HttpClient;
use super::journal::{Journal, Pages};
use super::meter::Meter;
use super::pace;
use super::plan::Plan;
use super::population::Callers;
use super::stream::{self, Due, Schedule};
use super::targets::Targets;
use crate::error::HarnessError;
use crate::record::{Caller, RunClock};

/// How long calls in flight may still take when a load is stopped.
const GRACE: Duration = Duration::from_secs(2);

/// Requests that the sending thread takes over at once.
const BATCH: usize = 64;

/// Offers the load until it is over or `stop` is cancelled, and accounts for every call.
///
/// When a stream ends, its calls in flight are awaited as long as their clients would wait. When the load is stopped,
/// they are given two seconds; what is not answered then failed. Repetitions that would come later are not sent.
///
/// The ids of requests are `RUN-REQUEST-REPETITION`, with `RUN` drawn anew for each load: the numbers are those of
/// [`Call`](crate::record::Call), also where there was no answer.
pub async fn drive(
    plan: &Plan,
    targets: Targets,
    clock: RunClock,
    seed: u64,
    meter: Meter,
    stop: CancellationToken,
) -> Result<Journal, HarnessError> {
    let faults = plan.faults();
    if !faults.is_empty() {
        return Err(HarnessError::Load(faults.join("; ")));
    }
    // Also cancelled when nobody waits for this load any more.
    let stop = stop.child_token();
    let _guard = stop.clone().drop_guard();
    let load = Load::prepare(plan, targets, clock, seed, meter, &stop)?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(HarnessError::io("starting a runtime"))?;
    allow_many_files();
    let (done, journal) = oneshot::channel();
    let sending = move || {
        // Whoever waited may have gone.
        drop(done.send(load.run(&runtime)));
    };
    thread::Builder::new().name("load".to_owned()).spawn(sending).map_err(HarnessError::io("starting a thread"))?;
    journal.await.map_err(|_| HarnessError::Load("the sending thread panicked".to_owned()))?
}

/// A load that is ready.
struct Load {
    stage: Arc<Stage>,
    schedules: Vec<Schedule>,
    callers: Vec<Caller>,
    seed: u64,
}

impl Load {
    fn prepare(
        plan: &Plan,
        targets: Targets,
        clock: RunClock,
        seed: u64,
        meter: Meter,
        stop: &CancellationToken,
    ) -> Result<Self, HarnessError> {
        let mut callers = Callers::default();
        let (mut streams, mut schedules) = (Vec::new(), Vec::new());
        for (number, (name, stream)) in plan.0.iter().enumerate() {
            let (ready, schedule) = stream::ready(number, name, stream, &mut callers, seed)?;
            streams.push(ready);
            schedules.push(schedule);
        }
        let stage = Stage {
            clock,
            streams,
            credentials: callers.credentials,
            http: HttpClient::new(targets.clone())?,
            targets,
            pages: Pages::new(meter.clone(), stop.clone()),
            meter,
            run: format!("{:016x}", rand::random::<u64>()),
            next_request: AtomicU64::new(0),
            waiting: AtomicU32::new(0),
            hung_up: AtomicU64::new(0),
            stop: stop.clone(),
            cut: CancellationToken::new(),
        };
        Ok(Self { stage: Arc::new(stage), schedules, callers: callers.known, seed })
    }

    fn run(self, runtime: &Runtime) -> Result<Journal, HarnessError> {
        let Self { stage, schedules, callers, seed } = self;
        let (queue, due) = mpsc::channel(pace::QUEUE);
        let (clock, stop) = (stage.clock, stage.stop.clone());
        let ends_us = stage.streams.iter().map(|stream| stream.ends_us).max().unwrap_or(0);
        let pacing = move || pace::walk(schedules, ends_us, clock, &queue, &stop);
        let pacing = thread::Builder::new().name("load-pace".to_owned()).spawn(pacing);
        let pacing = pacing.map_err(HarnessError::io("starting a thread"))?;
        runtime.block_on(send(&stage, due, seed));
        // It has dropped its end of the queue, or `send` would not have returned.
        pacing.join().map_err(|_| HarnessError::Load("the pacing thread panicked".to_owned()))?;
        Ok(stage.pages.close(callers, stage.hung_up.load(Ordering::Relaxed)))
    }
}

/// Sends what is due until there is no more, and waits for all answers.
async fn send(stage: &Arc<Stage>, mut queue: mpsc::Receiver<Due>, seed: u64) {
    let clients = TaskTracker::new();
    let mut random = Random::seed_from_u64(seed);
    for (number, stream) in stage.streams.iter().enumerate() {
        let Some((sessions, callers)) = &stream.sessions else { continue };
        for &caller in callers {
            let (stage, sessions, seed) = (Arc::clone(stage), sessions.clone(), random.random());
            clients.spawn(async move { stage.session(number, &sessions, caller, seed).await });
        }
    }
    let mut due = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut due, BATCH).await > 0 {
        for due in due.drain(..) {
            let stage = Arc::clone(stage);
            clients.spawn(async move { stage.request(due).await });
        }
    }
    clients.close();
    tokio::select! {
        () = clients.wait() => return,
        () = stage.stop.cancelled() => {}
    }
    if tokio::time::timeout(GRACE, clients.wait()).await.is_err() {
        stage.cut.cancel();
        clients.wait().await;
    }
}

/// Every call in flight is an open file. Where no more are allowed, calls fail and say so.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
