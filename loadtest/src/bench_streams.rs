//! What thousands of open event streams cost one gateway.
//!
//! Responsible for opening them, for memory per stream, for what they cost while nothing happens and while tasks
//! produce output, and for the time until an event is delivered. Must never assert a time, and must never report a run
//! in which an event got lost: that is an error.

mod client;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use portcullis_lua::{ADMIT_BATCH, CLAIM_BATCH, CompiledPolicy, Lease, ScopeStore, TaskId, Verdict};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::bench_scopes::resident::Resident;
use crate::bench_scripts::workbench::{request_of, succeeded};
use crate::cluster::{Cluster, Launcher};
use crate::error::HarnessError;
use crate::eventually::eventually;
use crate::probe::Probe;
use crate::report::{Table, say};

use client::{Heard, follow};

/// Streams being opened at once.
const OPENING: usize = 64;
/// Calls under way at once while tasks are admitted, leased and written to.
const UNDER_WAY: usize = 16;
/// File descriptors that are not streams.
const OTHER_FILES: u64 = 512;
/// Slots of the processor that stands for capacity.
const SLOTS: u32 = 10_000_000;
/// Longest time for all streams to hear of something.
const HEARD_LIMIT: Duration = Duration::from_secs(120);
/// The caller all tasks belong to.
const PRINCIPAL: &str = "streams";
/// For how long a pass of writing to all tasks is spread, at the most.
const BURST: Duration = Duration::from_millis(10);

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct BenchStreamsOptions {
    /// Event streams, each of a task of its own.
    pub streams: u32,
    /// How long streams are watched while nothing happens, and while tasks write, seconds.
    pub seconds: u64,
    /// Pieces of output per second, over all streams.
    pub rate: u32,
    /// Print JSON instead of a table.
    pub json: bool,
}

/// One figure of the run.
type Row = (&'static str, f64);

/// Measures and prints everything.
pub async fn run(options: BenchStreamsOptions) -> Result<(), HarnessError> {
    raise_open_files(u64::from(options.streams) + OTHER_FILES)?;
    let mut cluster = Cluster::builder(Launcher::beside_current_exe()?).env("PORTCULLIS_LOG", "warn");
    // Full load on few cores is not an outage.
    cluster = cluster.env("PORTCULLIS_STORE_TIMEOUT_MS", "5000");
    let policy = json!({
        "limits": { "max_sse_connections_per_instance": options.streams },
        "queue": { "lease_ms": 600_000 },
        "monitoring": { "heartbeat_timeout_seconds": 60 },
    });
    let mut cluster = cluster.policy(policy).start().await?;
    cluster.stand_in(SLOTS).await?;
    let gateway = cluster.gateways()[0].id().ok_or_else(|| HarnessError::Answer("the gateway has ended".to_owned()))?;
    let bench = Bench {
        gateway,
        address: cluster.public_address(0),
        scope: cluster.store().await?,
        policy: cluster.compiled_policy(),
        probe: cluster.probe().await?,
        heard: Arc::new(Heard::default()),
    };
    let rows = bench.rows(options).await?;
    cluster.end().await?;
    if options.json {
        say(Value::Object(rows.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()));
        return Ok(());
    }
    let mut table = Table::new(&["one gateway, every task followed by a stream", ""]);
    for (name, value) in rows {
        table.row([name.to_owned(), format!("{value:.2}")]);
    }
    say(table);
    Ok(())
}

struct Bench {
    gateway: u32,
    address: std::net::SocketAddr,
    scope: ScopeStore,
    policy: CompiledPolicy,
    probe: Probe,
    heard: Arc<Heard>,
}

impl Bench {
    async fn rows(&self, options: BenchStreamsOptions) -> Result<Vec<Row>, HarnessError> {
        let (count, seconds) = (u64::from(options.streams), options.seconds as f64);
        let tasks = self.admit(options.streams as usize).await?;
        let before = Resident::of(self.gateway)?;
        let (mut streams, opened) = self.open(&tasks).await?;
        self.until("every stream has told how its task stands", &self.heard.events, count).await?;
        let open = Resident::of(self.gateway)?;

        let (cpu, commands, _) = self.cost_of(Duration::from_secs(options.seconds)).await?;
        let mut rows = vec![
            ("streams", count as f64),
            ("seconds until all were open", opened.as_secs_f64()),
            ("KiB of the gateway per stream", kib_per(count, open.private_bytes, before.private_bytes)),
            ("idle: CPU of the gateway, % of a core", 100.0 * cpu / seconds),
            ("idle: Redis commands a second", commands / seconds),
        ];

        let leases = self.lease(tasks.len()).await?;
        self.until("every stream knows that its task runs", &self.heard.events, 2 * count).await?;
        let (cpu, commands, written) = self.write(&leases, options).await?;
        self.until("every piece of output has been delivered", &self.heard.pieces, written).await?;
        let latency = self.heard.latency_us();
        let ms = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1000.0;
        rows.extend([
            ("output: pieces delivered", written as f64),
            ("output: CPU of the gateway per piece, µs", 1e6 * cpu / written as f64),
            ("output: Redis commands per piece, its writing included", commands / written as f64),
            ("output: ms until delivered, p50", ms(0.5)),
            ("output: ms until delivered, p99", ms(0.99)),
        ]);

        let settled = Instant::now();
        self.settle(&leases).await?;
        self.until("every stream has told of the end", &self.heard.ends, count).await?;
        rows.push(("seconds until all had heard of their end", settled.elapsed().as_secs_f64()));
        while let Some(ended) = streams.join_next().await {
            ended.map_err(|panic| HarnessError::Answer(panic.to_string()))??;
        }
        Ok(rows)
    }

    /// Admits the tasks, past the gateway: the caller of the streams is their principal.
    async fn admit(&self, count: usize) -> Result<Vec<TaskId>, HarnessError> {
        let requests = (0..count).map(|number| {
            let mut request = request_of("privileged", &format!("session-{}", number / 100));
            request.principal = format!("dev:{PRINCIPAL}");
            request
        });
        let requests: Vec<_> = requests.collect();
        for batch in requests.chunks(ADMIT_BATCH) {
            let decisions = self.scope.admit(&self.policy, batch).await?;
            if let Some(other) = decisions.iter().find(|one| !matches!(one.verdict, Verdict::Admitted { .. })) {
                return Err(HarnessError::Answer(format!("not admitted: {:?}", other.verdict)));
            }
        }
        Ok(requests.into_iter().map(|request| request.task_id).collect())
    }

    /// Opens a stream for each task; the streams, and how long it took until the last was answered.
    async fn open(&self, tasks: &[TaskId]) -> Result<(JoinSet<Result<(), HarnessError>>, Duration), HarnessError> {
        let (started, mut streams, token) = (Instant::now(), JoinSet::new(), format!("dev:privileged:{PRINCIPAL}"));
        let mut opening = stream::iter(tasks)
            .map(|task| client::open(self.address, &token, task, &self.heard))
            .buffer_unordered(OPENING);
        while let Some(connection) = opening.try_next().await? {
            streams.spawn(follow(connection, self.heard.clone()));
        }
        Ok((streams, started.elapsed()))
    }

    async fn lease(&self, count: usize) -> Result<Vec<Lease>, HarnessError> {
        let mut leases = Vec::with_capacity(count);
        while leases.len() < count {
            let claimed = self.scope.claim(&self.policy, CLAIM_BATCH).await?;
            if claimed.leases.is_empty() {
                return Err(HarnessError::Answer(format!("only {} of {count} tasks could be leased", leases.len())));
            }
            leases.extend(claimed.leases);
        }
        Ok(leases)
    }

    /// Writes to one task after another at the rate asked for; what that cost, and how many pieces were written.
    async fn write(&self, leases: &[Lease], options: BenchStreamsOptions) -> Result<(f64, f64, u64), HarnessError> {
        let written = AtomicU64::new(0);
        let per_burst = (u64::from(options.rate) * BURST.as_millis() as u64 / 1000).max(1);
        let writing = async {
            let (mut ticks, end) = (interval(BURST), Instant::now() + Duration::from_secs(options.seconds));
            while Instant::now() < end {
                ticks.tick().await;
                let first = written.fetch_add(per_burst, Ordering::Relaxed);
                let pieces = (first..first + per_burst).map(|number| self.write_piece(leases, number));
                stream::iter(pieces).buffer_unordered(UNDER_WAY).try_collect::<()>().await?;
            }
            Ok(())
        };
        let (cpu, commands) = self.during(writing).await?;
        Ok((cpu, commands, written.load(Ordering::Relaxed)))
    }

    /// Piece `number` of all, to the task whose turn it is.
    async fn write_piece(&self, leases: &[Lease], number: u64) -> Result<(), HarnessError> {
        let (turn, index) = (number / leases.len() as u64, (number % leases.len() as u64) as usize);
        let piece = vec![Bytes::from(self.heard.now_us().to_string())];
        if self.scope.append_output(&self.policy, &leases[index], turn, piece).await? {
            return Ok(());
        }
        Err(HarnessError::Answer("a lease was lost".to_owned()))
    }

    async fn settle(&self, leases: &[Lease]) -> Result<(), HarnessError> {
        for some in leases.chunks(UNDER_WAY) {
            let settlements: Vec<_> = some.iter().map(succeeded).collect();
            self.scope.settle(&self.policy, &settlements).await?;
        }
        Ok(())
    }

    async fn cost_of(&self, time: Duration) -> Result<(f64, f64, u64), HarnessError> {
        let waiting = async {
            tokio::time::sleep(time).await;
            Ok(())
        };
        let (cpu, commands) = self.during(waiting).await?;
        Ok((cpu, commands, 0))
    }

    /// Seconds of CPU of the gateway and commands that came to Redis meanwhile, those inside scripts not counted.
    async fn during(&self, what: impl Future<Output = Result<(), HarnessError>>) -> Result<(f64, f64), HarnessError> {
        self.probe.reset_statistics().await?;
        let before = cpu_seconds(self.gateway)?;
        what.await?;
        let cpu = cpu_seconds(self.gateway)? - before;
        let costs = self.probe.command_costs().await?;
        let asked = ["evalsha", "ping", "publish", "subscribe"].iter().filter_map(|name| costs.get(*name));
        Ok((cpu, asked.map(|cost| cost.calls as f64).sum()))
    }

    async fn until(&self, what: &str, count: &AtomicU64, least: u64) -> Result<(), HarnessError> {
        let there = || async { (count.load(Ordering::Relaxed) >= least).then_some(()) };
        eventually(HEARD_LIMIT, what, there).await
    }
}

fn kib_per(count: u64, after: u64, before: u64) -> f64 {
    (after as f64 - before as f64) / count as f64 / 1024.0
}

/// Lets this process and its children open so many files, as far as the system allows.
fn raise_open_files(wanted: u64) -> Result<(), HarnessError> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let raised = Rlimit { current: Some(maximum.map_or(wanted, |most| wanted.min(most))), maximum };
    setrlimit(Resource::Nofile, raised)
        .map_err(|errno| HarnessError::io("raising the limit of open files")(errno.into()))
}

/// User and system time of a process so far, seconds.
fn cpu_seconds(process: u32) -> Result<f64, HarnessError> {
    /// Linux accounts to programs in hundredths of a second, whatever its own clock.
    const TICKS: f64 = 100.0;
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).map_err(HarnessError::io(format!("reading {path}")))?;
    // The name in brackets may have blanks in it; user and system time are the 12th and 13th field after it.
    let fields = text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(11).take(2));
    let ticks = fields.map(|fields| fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>());
    ticks.map(|ticks| ticks / TICKS).ok_or_else(|| HarnessError::Answer(format!("{path} does not tell the time used")))
}
