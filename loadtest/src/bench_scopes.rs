//! What a scope costs the gateway that serves it, and Redis.
//!
//! Responsible for memory per scope of one gateway and of its Redis, after each of what can happen to a scope, and for
//! what scopes that nobody uses cost in commands. Must never assert a figure.
//!
//! Each stage is weighed after the gateway has had time to end what lives only while there is work.

pub mod resident;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use portcullis_config::Scope;
use portcullis_lua::{CompiledPolicy, PolicyStamp};
use serde_json::{Value, json};

use crate::bench_scopes::resident::Resident;
use crate::client::{Answer, Client, Submission};
use crate::cluster::{Cluster, Launcher, open_store, stand_in_beat};
use crate::error::HarnessError;
use crate::probe::{CommandCost, Probe};
use crate::report::{Table, say};

/// Requests under way at once: their connections are there before the first weighing.
const AT_ONCE: usize = 16;
/// Tasks submitted in each scope, each by a caller of its own.
const TASKS: usize = 10;
/// After this long without work a gateway keeps nothing for it, seconds.
const REST: Duration = Duration::from_secs(6);
const TENANT: &str = "bench";
const SLOTS: u32 = 1_000_000;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct BenchScopesOptions {
    /// Scopes beside the gateway's own.
    pub scopes: u32,
    /// How long idle scopes are watched, seconds.
    pub seconds: u64,
    /// Print JSON instead of tables.
    pub json: bool,
}

/// What was weighed after a stage.
#[derive(Debug)]
struct Weighed {
    stage: &'static str,
    gateway: Resident,
    redis_bytes: u64,
}

/// Measures and prints everything.
pub async fn run(options: BenchScopesOptions) -> Result<(), HarnessError> {
    let mut cluster = Cluster::builder(Launcher::beside_current_exe()?).env("PORTCULLIS_LOG", "warn");
    // Full load on few cores is not an outage.
    cluster = cluster.env("PORTCULLIS_STORE_TIMEOUT_MS", "5000");
    let mut bench = Bench { cluster: cluster.start().await?, scopes: options.scopes };
    let probe = bench.cluster.probe().await?;
    bench.warm_up().await?;
    let mut weighed = vec![bench.weigh("its own scope only", &probe).await?];
    let without = idle_commands(&probe, options.seconds).await?;

    bench.in_each_scope(async |number| expect(&bench.caller(number, 0).limits().await?, 200)).await?;
    weighed.push(bench.weigh("first use, under the default policy", &probe).await?);
    let with = idle_commands(&probe, options.seconds).await?;

    bench.in_each_scope(async |number| bench.store_document(number).await).await?;
    weighed.push(bench.weigh("a document of its own", &probe).await?);
    bench.believe_in_processors().await?;
    bench.in_each_scope(async |number| bench.submit_some(number).await).await?;
    weighed.push(bench.weigh("ten callers sent a task each", &probe).await?);
    probe.close().await;
    bench.cluster.end().await?;

    if options.json {
        let rows: Vec<Value> = weighed.iter().map(|each| each.json(&weighed[0], options.scopes)).collect();
        let idle = json!({ "its_own_scope_only": idle_json(&without), "with_all_scopes": idle_json(&with) });
        say(json!({ "scopes": options.scopes, "memory": rows, "idle_per_second": idle }));
        return Ok(());
    }
    say(format!("one gateway and its Redis, {} scopes beside the gateway's own", options.scopes));
    say(memory_table(&weighed, options.scopes));
    say(format!(
        "commands per second while nobody asks for anything, scripts' own included, over {} s",
        options.seconds
    ));
    say(command_table(&without, &with));
    Ok(())
}

struct Bench {
    cluster: Cluster,
    scopes: u32,
}

impl Bench {
    /// A caller of scope `number`.
    fn caller(&self, number: u32, name: usize) -> Client {
        self.cluster.gateway(0).of_scope(TENANT, &format!("p{number}"), "privileged", &format!("caller-{name}"))
    }

    /// Opens the connections and touches the code every later stage runs through.
    async fn warm_up(&self) -> Result<(), HarnessError> {
        let calls = stream::iter(0..50 * AT_ONCE).map(async |number| {
            let client = self.cluster.gateway(0).caller("privileged", &format!("caller-{}", number % AT_ONCE));
            expect(&client.limits().await?, 200)
        });
        calls.buffer_unordered(AT_ONCE).try_collect::<()>().await
    }

    async fn in_each_scope(&self, what: impl AsyncFn(u32) -> Result<(), HarnessError>) -> Result<(), HarnessError> {
        stream::iter(0..self.scopes).map(|number| what(number)).buffer_unordered(AT_ONCE).try_collect::<()>().await
    }

    async fn store_document(&self, number: u32) -> Result<(), HarnessError> {
        let patch = json!({
            "tenant": TENANT,
            "project": format!("p{number}"),
            "limits": { "max_queue_size": u64::from(number) + 1000 },
        });
        expect(&self.cluster.admin(0).post("/admin/gateway/update-config", &patch).await?, 200)
    }

    async fn submit_some(&self, number: u32) -> Result<(), HarnessError> {
        for name in 0..TASKS {
            let task = Submission::new("bench", json!({ "number": name }));
            expect(&self.caller(number, name).submit(&task).await?, 202)?;
        }
        Ok(())
    }

    /// One heartbeat in each scope that outlasts the measurement, of a processor that takes nothing.
    async fn believe_in_processors(&self) -> Result<(), HarnessError> {
        let mut policy = self.cluster.policy().clone();
        policy.monitoring.heartbeat_timeout_seconds = 3600;
        let policy = CompiledPolicy::new(&policy, PolicyStamp::NONE);
        let store = open_store(self.cluster.redis_url()).await?;
        for number in 0..self.scopes {
            let scope =
                Scope::new(TENANT, format!("p{number}")).map_err(|name| HarnessError::Policy(name.to_string()))?;
            store.scope(&scope).heartbeat(&policy, &stand_in_beat("bench".to_owned(), SLOTS)).await?;
        }
        store.close().await;
        Ok(())
    }

    async fn weigh(&mut self, stage: &'static str, probe: &Probe) -> Result<Weighed, HarnessError> {
        tokio::time::sleep(REST).await;
        let process = &self.cluster.gateways()[0];
        let id = process.id().ok_or_else(|| HarnessError::Answer("the gateway has ended".to_owned()))?;
        let redis_bytes = probe.info_number("memory", "used_memory").await?;
        Ok(Weighed { stage, gateway: Resident::of(id)?, redis_bytes })
    }
}

fn expect(answer: &Answer, status: u16) -> Result<(), HarnessError> {
    if answer.status == status {
        return Ok(());
    }
    Err(HarnessError::Answer(format!("{} instead of {status}: {}", answer.status, answer.text)))
}

/// Calls of each command in a second, and the time they take Redis, while nothing is asked of the gateway.
type Idle = BTreeMap<String, Rate>;

#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    calls_per_second: f64,
    usec_per_second: f64,
}

async fn idle_commands(probe: &Probe, seconds: u64) -> Result<Idle, HarnessError> {
    probe.reset_statistics().await?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let costs = probe.command_costs().await?;
    // What the harness itself asked.
    let foreign = |name: &str| name.starts_with("config|") || name == "info";
    let costs = costs.into_iter().filter(|(name, _)| !foreign(name));
    let per_second = |count: u64| count as f64 / seconds as f64;
    let rate =
        |CommandCost { calls, usec }| Rate { calls_per_second: per_second(calls), usec_per_second: per_second(usec) };
    Ok(costs.map(|(name, cost)| (name, rate(cost))).collect())
}

impl Weighed {
    fn per_scope(&self, before: &Self, scopes: u32, part: impl Fn(&Self) -> u64) -> f64 {
        (part(self) as f64 - part(before) as f64) / f64::from(scopes)
    }

    fn json(&self, before: &Self, scopes: u32) -> Value {
        json!({
            "stage": self.stage,
            "resident_bytes": self.gateway.resident_bytes,
            "private_bytes": self.gateway.private_bytes,
            "redis_bytes": self.redis_bytes,
            "private_bytes_per_scope": self.per_scope(before, scopes, |each| each.gateway.private_bytes),
            "redis_bytes_per_scope": self.per_scope(before, scopes, |each| each.redis_bytes),
        })
    }
}

fn memory_table(weighed: &[Weighed], scopes: u32) -> Table {
    let header = ["after", "gateway RSS KiB", "private KiB", "bytes per scope", "Redis KiB", "bytes per scope"];
    let mut table = Table::new(&header);
    for each in weighed {
        let per_scope = |part: fn(&Weighed) -> u64| format!("{:.0}", each.per_scope(&weighed[0], scopes, part));
        table.row([
            each.stage.to_owned(),
            (each.gateway.resident_bytes / 1024).to_string(),
            (each.gateway.private_bytes / 1024).to_string(),
            per_scope(|each| each.gateway.private_bytes),
            (each.redis_bytes / 1024).to_string(),
            per_scope(|each| each.redis_bytes),
        ]);
    }
    table
}

fn command_table(without: &Idle, with: &Idle) -> Table {
    let mut table = Table::new(&["command", "its own scope only", "with all scopes", "µs of Redis, with all scopes"]);
    let mut names: Vec<&String> = without.keys().chain(with.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let rate = |rates: &Idle| rates.get(name).copied().unwrap_or_default();
        let calls = |rates: &Idle| format!("{:.1}", rate(rates).calls_per_second);
        table.row([name.clone(), calls(without), calls(with), format!("{:.0}", rate(with).usec_per_second)]);
    }
    table
}

fn idle_json(rates: &Idle) -> Value {
    let row = |(name, rate): (&String, &Rate)| {
        let figures = json!({ "calls": rate.calls_per_second, "usec": rate.usec_per_second });
        (name.clone(), figures)
    };
    Value::Object(rates.iter().map(row).collect())
}
