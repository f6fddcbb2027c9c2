//! One scenario from its start to its record.
//!
//! Responsible for the order: everything is watched before the first call, every fault is undone before rest is waited
//! for, and everything has ended before the record is complete. Must never judge what it recorded.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use super::balancer::Balancer;
use super::conduct::{Conducted, conduct};
use super::stage::{Deployment, NotHere, Stage};
use super::{Faults, Scenario, uses};
use crate::cluster::{Launcher, Member};
use crate::error::HarnessError;
use crate::fault::{Injector, Operator};
use crate::load::progress::Progress;
use crate::load::{self, Journal, Meter, Targets};
use crate::observe::{Observed, Observer, ObserverOptions};
use crate::record::{Attempt, PolicyChange, Record, RunClock};

/// A scenario that was played.
#[derive(Debug)]
pub struct Played {
    /// Everything that was watched.
    pub record: Record,
    /// Processes that ended by themselves, and their last words.
    pub ended: Vec<(Member, String)>,
    /// What people should know of this run beside its record.
    pub notes: Vec<String>,
}

/// Plays a scenario on a cluster of its own, which is gone afterwards.
pub async fn play(
    scenario: &Scenario,
    seed: u64,
    launcher: Launcher,
    stop: &CancellationToken,
) -> Result<Result<Played, NotHere>, HarnessError> {
    let starting = stop.run_until_cancelled(Box::pin(Stage::start(scenario, launcher))).await;
    let mut stage = match starting.ok_or(HarnessError::Interrupted)?? {
        Ok(stage) => stage,
        Err(not_here) => return Ok(Err(not_here)),
    };
    let watching = ObserverOptions {
        redis_url: stage.cluster.redis_url().to_owned(),
        scope: stage.cluster.scope().clone(),
        policy: stage.cluster.policy().clone(),
    };
    let targets = Targets::default();
    let balancer = Balancer::start(&targets, gateways(&mut stage)?)?;
    let prepared = stop.run_until_cancelled(Observer::prepare(watching)).await.ok_or(HarnessError::Interrupted)??;
    // Everything is ready: what the schedule intends from now on can be sent at its time.
    let (clock, started_ms) = (RunClock::start(), now_ms());
    let handlers_ahead_us = stage.handlers_clock.now_us();
    let watch = Watch { clock, targets, balancer, observer: prepared.start(clock).await };
    let (journal, conducted, operator) = under_load(scenario, seed, &mut stage, &watch, stop).await?;
    if let Some(error) = conducted.error {
        return Err(error);
    }
    if stop.is_cancelled() {
        return Err(HarnessError::Interrupted);
    }
    let watched = Box::pin(rested(watch.observer, &journal, scenario, stop)).await?;
    let (ended, policies) = (stage.ended(), operator.account(&stage.cluster).await?);
    stage.cluster.end().await?;
    let attempts = stage.backend.finish().await.into_iter().map(|attempt| behind(attempt, handlers_ahead_us)).collect();
    let notes = notes(&journal);
    let record = Record {
        name: scenario.name.clone(),
        seed,
        started_ms,
        attempts,
        faults: conducted.faults,
        policies,
        uses: uses::of(scenario),
        delayed_starts: scenario.load.0.values().flat_map(|stream| &stream.kinds).any(|kind| kind.delay_ms.is_some()),
        ..collected(clock, journal, watched)
    };
    Ok(Ok(Played { record, ended, notes }))
}

/// Plays the load of a scenario on a deployment. Nothing is done to its processes.
pub async fn play_on(
    deployment: &Deployment,
    scenario: &Scenario,
    seed: u64,
    stop: &CancellationToken,
) -> Result<Played, HarnessError> {
    let known = deployment.policy().await?;
    let prepared = match (&deployment.redis_url, &deployment.scope) {
        (Some(redis_url), Some(scope)) => {
            let policy = deployment.policy_to_begin_with(known.as_ref(), scope)?;
            let (redis_url, scope) = (redis_url.clone(), scope.clone());
            Some(Observer::prepare(ObserverOptions { redis_url, scope, policy }).await?)
        }
        _ => None,
    };
    let (clock, started_ms) = (RunClock::start(), now_ms());
    let observer = match prepared {
        Some(prepared) => Some(prepared.start(clock).await),
        None => None,
    };
    let meter = Meter::default();
    let progress = Progress::start(meter.clone(), clock, scenario.load.duration_seconds());
    let targets = Targets::new(deployment.urls.clone());
    let journal = load::drive(&scenario.load, targets, clock, seed, meter, stop.clone()).await?;
    drop(progress);
    if stop.is_cancelled() {
        return Err(HarnessError::Interrupted);
    }
    let watched = match observer {
        Some(observer) => Box::pin(rested(observer, &journal, scenario, stop)).await?,
        None => Observed { decisions_incomplete: true, ..Observed::default() },
    };
    let mut notes = notes(&journal);
    if !matches!(&scenario.faults, Faults::Timed(faults) if faults.is_empty()) {
        notes.push("faults are left out: nothing is done to a deployment".to_owned());
    }
    let policies: Vec<PolicyChange> = known.into_iter().collect();
    let record =
        Record { name: scenario.name.clone(), seed, started_ms, policies, ..collected(clock, journal, watched) };
    Ok(Played { record, ended: Vec::new(), notes })
}

/// What is ready before the first call.
struct Watch {
    clock: RunClock,
    targets: Targets,
    balancer: Balancer,
    observer: Observer,
}

/// Waits for rest as long as the scenario allows, unless the run is interrupted.
async fn rested(
    observer: Observer,
    journal: &Journal,
    scenario: &Scenario,
    stop: &CancellationToken,
) -> Result<Observed, HarnessError> {
    let limit = Duration::from_secs_f64(scenario.rest_seconds);
    let finished = stop.run_until_cancelled(Box::pin(observer.finish(&journal.calls, limit))).await;
    finished.ok_or(HarnessError::Interrupted)
}

/// Offers the load and conducts the faults, until both are over and every fault is undone.
async fn under_load(
    scenario: &Scenario,
    seed: u64,
    stage: &mut Stage,
    watch: &Watch,
    stop: &CancellationToken,
) -> Result<(Journal, Conducted, Operator), HarnessError> {
    let Watch { clock, targets, balancer, observer } = watch;
    let (meter, clock, over) = (Meter::default(), *clock, stop.child_token());
    let processes = Arc::new(Mutex::new(stage.processes()));
    observer.watch_processes(stage.processes());
    let started = |name: String, id: u32| {
        let mut processes = processes.lock().unwrap_or_else(PoisonError::into_inner);
        processes.insert(name, id);
        observer.watch_processes(processes.clone());
    };
    let moved = |gateway: usize, address: SocketAddr| balancer.moved(gateway as u32, address);
    let timetable = scenario.faults.timetable(seed, &scenario.cluster.members());
    let operator = Operator::new(clock, &stage.cluster);
    let mut injector = Injector {
        cluster: &mut stage.cluster,
        backend: &stage.backend,
        operator,
        clocks: stage.clocks.as_ref(),
        started: &started,
        moved: &moved,
    };
    let progress = Progress::start(meter.clone(), clock, scenario.load.duration_seconds());
    let note = |line: &str| progress.note(line);
    let offering = async {
        let journal = load::drive(&scenario.load, targets.clone(), clock, seed, meter, over.clone()).await;
        over.cancel();
        journal
    };
    let (journal, conducted) = tokio::join!(offering, conduct(&timetable, &mut injector, clock, &over, &note));
    Ok((journal?, conducted, injector.operator))
}

fn gateways(stage: &mut Stage) -> Result<BTreeMap<u32, SocketAddr>, HarnessError> {
    let processes = (0..).zip(stage.cluster.gateways().iter());
    processes.map(|(number, process)| Ok((number, process.address("public")?))).collect()
}

fn collected(clock: RunClock, journal: Journal, watched: Observed) -> Record {
    Record {
        redis_start_ms: watched.redis_start_ms,
        took_us: clock.now_us(),
        callers: journal.callers,
        calls: journal.calls,
        decisions: watched.decisions,
        decisions_incomplete: watched.decisions_incomplete,
        earlier: watched.earlier,
        earlier_incomplete: watched.earlier_incomplete,
        samples: watched.samples,
        ending: watched.ending,
        ..Record::default()
    }
}

/// An attempt on the clock of the run.
fn behind(attempt: Attempt, ahead_us: u64) -> Attempt {
    Attempt {
        started_us: attempt.started_us.saturating_sub(ahead_us),
        ended_us: attempt.ended_us.map(|ended_us| ended_us.saturating_sub(ahead_us)),
        ..attempt
    }
}

fn notes(journal: &Journal) -> Vec<String> {
    let full = "the load was ended early: no more calls could be kept";
    journal.full.then(|| full.to_owned()).into_iter().collect()
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or_default()
}
