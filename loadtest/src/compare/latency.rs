//! From a submission to the start of its handler, on an idle cluster and at half load.
//!
//! Responsible for a time that hides nothing: it begins before the submission is sent and ends inside the handler. Must
//! never wait for an answer before the next submission at half load: a slow cluster would choose its own load.

pub mod arrangement;

use std::collections::HashMap;
use std::time::Duration;

use rand_distr::{Distribution, Exp};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::Launcher;
use crate::compare::latency::arrangement::{Arrangement, SLOTS, Start, Way};
use crate::error::HarnessError;
use crate::report::quantiles::Quantiles;

/// Long enough for the processor to be waiting again when the next task comes.
const PAUSE: Duration = Duration::from_millis(5);
/// What a handler works at half load. So many slots of so much work leave hardly any task without a free slot (Erlang's
/// C of 32 servers at half load is 0.03 %): what is measured is the cluster, not the queue.
const WORK: Duration = Duration::from_millis(40);
/// Submissions that only warm up connections and caches.
const WARM_UP: u32 = 20;

/// Times of one way to submit under one load.
#[derive(Clone, Debug)]
pub struct Latency {
    /// How tasks were submitted.
    pub way: Way,
    /// Under which load.
    pub load: &'static str,
    /// From the submission to the start of the handler.
    pub start: Quantiles,
}

impl Latency {
    /// The row as text.
    #[must_use]
    pub fn cells(&self) -> [String; 6] {
        let Quantiles { count, p50_ms, p90_ms, p99_ms, max_ms, .. } = self.start;
        let ms = |value: f64| format!("{value:.2}");
        let title = format!("{}, {}", self.way.title(), self.load);
        [title, count.to_string(), ms(p50_ms), ms(p90_ms), ms(p99_ms), ms(max_ms)]
    }

    /// The row as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({ "submitted_through": self.way.title(), "load": self.load, "start": self.start })
    }
}

/// Measures both ways, through the store alone and through a gateway, under both loads.
pub async fn measure(launcher: Launcher, tasks: u32) -> Result<Vec<Latency>, HarnessError> {
    let mut arrangement = Arrangement::start(launcher).await?;
    let mut measured = Vec::new();
    for way in Way::ALL {
        measured.push(Latency { way, load: "idle", start: idle(&mut arrangement, way, tasks).await? });
    }
    for way in Way::ALL {
        measured.push(Latency { way, load: "half load", start: half_load(&mut arrangement, way, tasks).await? });
    }
    arrangement.end().await?;
    Ok(measured)
}

/// One task at a time: nothing waits behind another.
async fn idle(arrangement: &mut Arrangement, way: Way, tasks: u32) -> Result<Quantiles, HarnessError> {
    let mut micros = Vec::new();
    for number in 0..tasks + WARM_UP {
        let sent = Instant::now();
        arrangement.submitter(way).submit(number, Duration::ZERO).await?;
        let start = arrangement.next_start().await?;
        if number >= WARM_UP {
            micros.push(start.at.duration_since(sent).as_micros() as u64);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(Quantiles::of(micros))
}

/// Poisson arrivals at half of what the slots can do. A task counts from when it was really sent: Tokio's timer is
/// late by up to a millisecond, and an arrival that is late is still an arrival of such a process.
async fn half_load(arrangement: &mut Arrangement, way: Way, tasks: u32) -> Result<Quantiles, HarnessError> {
    let per_second = f64::from(SLOTS) / WORK.as_secs_f64() / 2.0;
    let between = Exp::new(per_second).map_err(|error| HarnessError::Answer(error.to_string()))?;
    let (all, submitter) = (tasks + WARM_UP, arrangement.submitter(way));
    let arrivals = async move {
        let (mut sending, mut due, mut sent) = (JoinSet::new(), Instant::now(), HashMap::new());
        for number in 0..all {
            tokio::time::sleep_until(due).await;
            due += Duration::from_secs_f64(between.sample(&mut rand::rng()));
            sent.insert(number, Instant::now());
            let submitter = submitter.clone();
            sending.spawn(async move { submitter.submit(number, WORK).await });
        }
        while let Some(joined) = sending.join_next().await {
            joined.map_err(|panic| HarnessError::Answer(panic.to_string()))??;
        }
        Ok::<_, HarnessError>(sent)
    };
    let starts = async {
        let mut starts: Vec<Start> = Vec::new();
        while starts.len() < all as usize {
            starts.push(arrangement.next_start().await?);
        }
        Ok(starts)
    };
    let (sent, starts) = tokio::try_join!(arrivals, starts)?;
    let counted = starts.iter().filter(|start| start.number >= WARM_UP);
    let micros = counted.filter_map(|start| Some(start.at.duration_since(*sent.get(&start.number)?)));
    Ok(Quantiles::of(micros.map(|time| time.as_micros() as u64)))
}
