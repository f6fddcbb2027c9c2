//! The same work against points of reference, in one run on one machine.
//!
//! Responsible for ratios: a bare answer, a bare `EVALSHA return 1`, a static 429 and Redis alone beside an admission
//! and both kinds of refusal; an application asked directly, through nginx and through a gateway; and the time from a
//! submission to the start of its handler. Must never assert a time.
//!
//! Rounds are interleaved (ABC ABC ABC) and ratios taken within a round, so that what else the machine does hits all
//! alike. Every server is a process of its own and the client writes its requests byte for byte, so that what differs
//! between two rows is what the server does. On few cores, client, server and Redis share them: the processor time each
//! of them takes per request says what limits, and hardly moves when others use the machine.

pub mod point;
pub mod connection;
pub mod drive;
pub mod cpu;
pub mod fixed_answer;
pub mod bare_server;
pub mod nginx;
pub mod benchmark;
pub mod stage;
pub mod figure;
pub mod added;
pub mod latency;

use std::time::Duration;

use serde_json::json;

use crate::cluster::Launcher;
use crate::compare::figure::Figures;
use crate::compare::latency::Latency;
use crate::compare::point::Point;
use crate::compare::stage::Stage;
use crate::error::HarnessError;
use crate::report::{Table, say};

/// A round that only warms up connections and caches.
const WARM_UP: Duration = Duration::from_millis(200);

/// What to measure.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// Points to measure, in any order; all if empty.
    pub only: Vec<Point>,
    /// Interleaved rounds of which the median is taken.
    pub rounds: u32,
    /// How long each point is measured in a round.
    pub time: Duration,
    /// Concurrent connections.
    pub connections: u32,
    /// Tasks of each latency measurement; 0 for none.
    pub tasks: u32,
    /// Print JSON instead of tables.
    pub json: bool,
}

/// Measures and prints everything.
pub async fn run(options: CompareOptions) -> Result<(), HarnessError> {
    let Measured { figures, alone, missing } = rates(&options).await?;
    let latency = match options.tasks {
        0 => Vec::new(),
        tasks => latency::measure(Launcher::beside_current_exe()?, tasks).await?,
    };
    if options.json {
        let latency: Vec<_> = latency.iter().map(Latency::json).collect();
        let missing: Vec<_> = missing.into_iter().map(Point::title).collect();
        let added = added::json(&alone);
        say(json!({ "rates": figures.json(), "added": added, "latency": latency, "not_measured": missing }));
        return Ok(());
    }
    let CompareOptions { rounds, time, connections, .. } = options;
    say(format!(
        "{connections} connections, each sending as soon as it was answered; median of {rounds} interleaved rounds of \
         {time:?};\n± is their spread; µs are processor time per request; bytes are those of one answer"
    ));
    say(figures.table());
    if alone.points().next().is_some() {
        say("what a proxy adds: one connection at a time, interleaved rounds, differences within a round");
        say(added::table(&alone));
    }
    for point in missing {
        let tool = point.tool().unwrap_or_default();
        say(format!("NOT RUN, because {tool} is not installed: {}", point.title()));
    }
    if !latency.is_empty() {
        say("time from a submission to the start of its handler");
        say(latency_table(&latency));
    }
    Ok(())
}

/// What came of the rounds.
struct Measured {
    /// Every point, over all connections.
    figures: Figures,
    /// The ways to the application, over one.
    alone: Figures,
    /// What cannot be measured here.
    missing: Vec<Point>,
}

async fn rates(options: &CompareOptions) -> Result<Measured, HarnessError> {
    let this = std::env::current_exe().map_err(HarnessError::io("finding this executable"))?;
    let mut stage = Stage::start(this, Launcher::beside_current_exe()?).await?;
    let wanted = Point::ALL.into_iter().filter(|point| options.only.is_empty() || options.only.contains(point));
    let (points, missing): (Vec<Point>, Vec<Point>) = wanted.partition(|point| stage.can(*point));
    for point in &points {
        stage.sample(*point, options.connections, WARM_UP).await?;
    }
    let (mut figures, mut alone) = (Figures::default(), Figures::default());
    let ways: Vec<Point> = added::WAYS.into_iter().filter(|way| points.contains(way)).collect();
    for _ in 0..options.rounds {
        for point in &points {
            figures.add(*point, stage.sample(*point, options.connections, options.time).await?);
        }
        for way in &ways {
            alone.add(*way, stage.sample(*way, 1, options.time).await?);
        }
    }
    stage.end().await?;
    Ok(Measured { figures, alone, missing })
}

fn latency_table(ways: &[Latency]) -> Table {
    let mut table = Table::new(&["submitted", "tasks", "p50 ms", "p90 ms", "p99 ms", "longest ms"]);
    for latency in ways {
        table.row(latency.cells());
    }
    table
}
