//! What a decision costs through HTTP, beside the same server doing next to nothing.
//!
//! Responsible for ratios of one run on one machine: a bare answer, a bare `EVALSHA return 1`, an admitted task, a task
//! refused from memory; and for the time from a submission to the start of its handler. Must never assert a time.
//!
//! Every server is a process of its own and the client writes its requests byte for byte, so that what differs between
//! two rows is what the server does.

pub mod bare_server;
pub mod connection;
pub mod drive;
pub mod latency;

use std::time::Duration;

use serde_json::{Value, json};

use crate::bench_http::drive::{Driven, Load, drive};
use crate::bench_http::latency::Latency;
use crate::cluster::{Cluster, Invocation, Launcher, Process};
use crate::error::HarnessError;
use crate::report::{Table, say};

/// Slots of the processor that stands for capacity and takes nothing.
const SLOTS: u32 = 50_000_000;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct BenchHttpOptions {
    /// Seconds for each kind of request.
    pub seconds: u64,
    /// Concurrent connections.
    pub connections: u32,
    /// Tasks of the latency measurement.
    pub tasks: u32,
    /// Print JSON instead of tables.
    pub json: bool,
}

/// Measures and prints everything.
pub async fn run(options: BenchHttpOptions) -> Result<(), HarnessError> {
    let rates = rates(options).await?;
    let latency = latency::measure(options.tasks).await?;
    if options.json {
        let rows: Vec<Value> = rates.iter().map(|(name, driven)| row_json(name, driven, &rates)).collect();
        say(json!({ "rates": rows, "latency": latency.iter().map(Latency::json).collect::<Vec<_>>() }));
        return Ok(());
    }
    say(format!("requests/s with {} connections, each sending as soon as it was answered", options.connections));
    say(rate_table(&rates));
    say("time from a submission to the start of its handler, on an idle cluster, one task at a time");
    say(latency::table(&latency));
    Ok(())
}

/// Four kinds of request, one after the other, against servers that all run the whole time.
async fn rates(options: BenchHttpOptions) -> Result<Vec<(&'static str, Driven)>, HarnessError> {
    let this = std::env::current_exe().map_err(HarnessError::io("finding this executable"))?;
    let mut cluster = Cluster::builder(Launcher::beside_current_exe()?).gateways(1).env("PORTCULLIS_LOG", "warn");
    // Full load on few cores is not an outage.
    cluster = cluster.env("PORTCULLIS_STORE_TIMEOUT_MS", "2000");
    cluster = cluster.policy(json!({ "monitoring": { "heartbeat_timeout_seconds": 60 } }));
    let mut cluster = cluster.start().await?;
    cluster.stand_in(SLOTS).await?;
    let bare = Process::start(&bare_server_invocation(this, cluster.redis_url())).await?;
    let (bare, gateway) = (bare.address("public")?, cluster.public_address(0));
    let time = Duration::from_secs(options.seconds);
    let loads = [
        ("bare answer", bare, Load::plain("/bare", 202)),
        ("EVALSHA return 1", bare, Load::plain("/evalsha", 202)),
        ("admitted", gateway, Load::many_callers("/v1/tasks", 202)),
        ("refused from memory", gateway, Load::plain("/v1/tasks", 429)),
    ];
    exhaust_anonymous(&cluster).await?;
    let mut rates = Vec::new();
    for (name, address, load) in loads {
        rates.push((name, drive(address, &load, options.connections, time).await?));
    }
    cluster.end().await?;
    Ok(rates)
}

/// Uses up the burst of this machine's anonymous session, so that every further request is refused.
async fn exhaust_anonymous(cluster: &Cluster) -> Result<(), HarnessError> {
    let submission = crate::client::Submission::new("bench", Value::Null);
    for _ in 0..1000 {
        if cluster.gateway(0).submit(&submission).await?.status == 429 {
            return Ok(());
        }
    }
    Err(HarnessError::Answer("an anonymous session was never refused".to_owned()))
}

fn bare_server_invocation(program: std::path::PathBuf, redis_url: &str) -> Invocation {
    let args = vec!["bare-server".into(), redis_url.into()];
    Invocation { name: "bare server".to_owned(), program, args, env: std::collections::BTreeMap::new() }
}

fn rate_of(rates: &[(&'static str, Driven)], name: &str) -> f64 {
    rates.iter().find(|(which, _)| *which == name).map_or(f64::NAN, |(_, driven)| driven.per_second())
}

fn rate_table(rates: &[(&'static str, Driven)]) -> Table {
    let header =
        ["request", "answers", "requests/s", "× bare answer", "× EVALSHA return 1", "p50 ms", "p99 ms", "other"];
    let mut table = Table::new(&header);
    for (name, driven) in rates {
        let ratio = |base: &str| format!("{:.2}", driven.per_second() / rate_of(rates, base));
        table.row([
            (*name).to_owned(),
            driven.answers.to_string(),
            format!("{:.0}", driven.per_second()),
            ratio("bare answer"),
            ratio("EVALSHA return 1"),
            format!("{:.2}", driven.quantile_ms(0.5)),
            format!("{:.2}", driven.quantile_ms(0.99)),
            driven.unexpected.to_string(),
        ]);
    }
    table
}

fn row_json(name: &str, driven: &Driven, rates: &[(&'static str, Driven)]) -> Value {
    json!({
        "request": name,
        "answers": driven.answers,
        "unexpected": driven.unexpected,
        "per_second": driven.per_second(),
        "times_bare": driven.per_second() / rate_of(rates, "bare answer"),
        "times_evalsha": driven.per_second() / rate_of(rates, "EVALSHA return 1"),
        "p50_ms": driven.quantile_ms(0.5),
        "p99_ms": driven.quantile_ms(0.99),
    })
}
