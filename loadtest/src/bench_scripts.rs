//! What each script costs Redis, beside the cheapest script there can be.
//!
//! Responsible for figures that can be compared across machines: every one stands beside `EVALSHA return 1` of the same
//! server in the same run, rounds are interleaved and medians taken, and the spread is shown. Must never assert a time.
//!
//! Scripts are called through the protocol crate, as gateways and processors call them. The server's own account
//! (`INFO commandstats`) is what is read, so neither the network nor this client is in the figures.

pub mod sample;
pub mod workbench;
pub mod case;
pub mod scaling;
pub mod memory;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::bench_scripts::case::Case;
use crate::bench_scripts::sample::{Figure, Sample};
use crate::bench_scripts::workbench::Workbench;
use crate::error::HarnessError;
use crate::report::{Table, say};

/// A figure whose rounds differ by more than this share is marked: something else ran on the machine.
const NOISY: f64 = 0.5;

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchScriptsOptions {
    /// Print JSON instead of tables.
    pub json: bool,
    /// Interleaved rounds.
    pub rounds: u32,
}

/// Measures and prints everything.
pub async fn run(options: BenchScriptsOptions) -> Result<(), HarnessError> {
    let bench = Workbench::start().await?;
    let figures = scripts(&bench, options.rounds).await?;
    let scaling = scaling::measure_scaling(&bench, options.rounds).await?;
    let memory = memory::measure(&bench).await?;
    if options.json {
        say(json!({ "scripts": as_json(&figures), "in_flight": scaling.json(), "memory_per_session": memory.json() }));
        return Ok(());
    }
    say("Redis time per script, from the server's own statistics; payload 200 bytes");
    say(script_table(&figures));
    say(lifecycle(&figures));
    say("cost while this many leases are out (must not grow)");
    say(scaling.table());
    say("memory of one session's limits");
    say(memory.table());
    say(memory::NOTE);
    Ok(())
}

/// Every case at every batch size, interleaved: noise hits all of them alike.
async fn scripts(bench: &Workbench, rounds: u32) -> Result<Vec<(Case, usize, Figure)>, HarnessError> {
    let mut samples: BTreeMap<(usize, usize), Vec<Sample>> = BTreeMap::new();
    for _ in 0..rounds {
        for (number, case) in Case::ALL.iter().enumerate() {
            for batch in case.batches() {
                let sample = case.run(bench, *batch).await?;
                samples.entry((number, *batch)).or_default().push(sample);
                bench.empty().await?;
            }
        }
    }
    Ok(samples.into_iter().map(|((number, batch), samples)| (Case::ALL[number], batch, Figure::of(&samples))).collect())
}

fn floor(figures: &[(Case, usize, Figure)]) -> f64 {
    find(figures, Case::Floor, 1).map_or(f64::NAN, |figure| figure.usec_per_call)
}

fn find(figures: &[(Case, usize, Figure)], case: Case, batch: usize) -> Option<&Figure> {
    figures.iter().find(|(which, size, _)| *which == case && *size == batch).map(|(_, _, figure)| figure)
}

fn script_table(figures: &[(Case, usize, Figure)]) -> Table {
    let header = ["script", "batch", "µs/call", "µs/request", "× return 1", "spread", "bytes in", "calls inside"];
    let mut table = Table::new(&header);
    for (case, batch, figure) in figures {
        let noise = if figure.spread > NOISY { " noisy" } else { "" };
        table.row([
            case.name().to_owned(),
            batch.to_string(),
            format!("{:.2}", figure.usec_per_call),
            format!("{:.2}", figure.usec_per_request),
            format!("{:.1}", figure.usec_per_request / floor(figures)),
            format!("{:.0} %{noise}", figure.spread * 100.0),
            format!("{:.0}", figure.bytes_per_call),
            format!("{:.1}", figure.inner.values().sum::<f64>().abs()),
        ]);
    }
    table
}

/// A task's whole life in Redis, in batches of 16.
fn lifecycle(figures: &[(Case, usize, Figure)]) -> String {
    let parts = [Case::AdmitAllGates, Case::Claim, Case::Settle].map(|case| find(figures, case, 16));
    let total: f64 = parts.iter().flatten().map(|figure| figure.usec_per_request).sum();
    format!(
        "a task's whole life, admit + claim + settle at 16: {total:.1} µs, {:.1} × return 1\n",
        total / floor(figures)
    )
}

fn as_json(figures: &[(Case, usize, Figure)]) -> Vec<Value> {
    let rows = figures.iter().map(|(case, batch, figure)| {
        json!({
            "script": case.name(),
            "batch": batch,
            "usec_per_call": figure.usec_per_call,
            "usec_per_request": figure.usec_per_request,
            "times_return_1": figure.usec_per_request / floor(figures),
            "spread": figure.spread,
            "bytes_per_call": figure.bytes_per_call,
            "calls_inside": figure.inner,
        })
    });
    rows.collect()
}
