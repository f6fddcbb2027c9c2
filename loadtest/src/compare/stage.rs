//! The servers that are compared, all up the whole time, and one sample of any of them.
//!
//! Responsible for the same machine, the same Redis and the same client for every point, and for reading what each
//! process used. Must never ask a server anything while it is measured.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::cluster::{Cluster, Invocation, Launcher, Process};
use crate::compare::benchmark;
use crate::compare::connection::Connection;
use crate::compare::cpu::Cpu;
use crate::compare::drive::{Load, drive};
use crate::compare::nginx::Nginx;
use crate::compare::point::{ADMITTED, GUARDED, Point, SPENT, Way};
use crate::error::HarnessError;
use crate::probe::Probe;

/// Slots of the processor that stands for capacity and takes nothing.
const SLOTS: u32 = 50_000_000;
/// More refusals than a session of any user type needs to be refused.
const ATTEMPTS: usize = 1000;
/// About what redis-benchmark does in a second on a small machine, without and with a pipeline.
const BENCHMARK_PER_SECOND: [f64; 2] = [60_000.0, 400_000.0];

/// What one round of one point came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Answers of the expected status.
    pub answers: u64,
    /// All others.
    pub unexpected: u64,
    /// Expected answers per second.
    pub per_second: f64,
    /// Median time of an exchange, ms.
    pub p50_ms: f64,
    /// 99th percentile, ms.
    pub p99_ms: f64,
    /// Length of an answer over HTTP, head and body.
    pub answer_bytes: Option<usize>,
    /// Processor time of the HTTP server.
    pub server: Option<Duration>,
    /// Processor time of the client.
    pub client: Duration,
    /// Processor time of Redis.
    pub redis: Duration,
    /// Processor time of the application behind a proxy.
    pub behind: Option<Duration>,
}

impl Sample {
    /// Processor time of everything that took part.
    #[must_use]
    pub fn all(&self) -> Duration {
        self.server.unwrap_or_default() + self.client + self.redis + self.behind.unwrap_or_default()
    }
}

/// Everything that runs.
#[derive(Debug)]
pub struct Stage {
    cluster: Cluster,
    bare: Process,
    upstream: Process,
    nginx: Option<Nginx>,
    probe: Probe,
    digest: String,
    redis: SocketAddr,
    redis_process: u32,
    benchmark: Option<&'static str>,
}

impl Stage {
    /// Starts everything; `program` is the harness's own executable, which is the bare server too.
    pub async fn start(program: PathBuf, launcher: Launcher) -> Result<Self, HarnessError> {
        let upstream = Process::start(&bare_server(program.clone(), None)).await?;
        let application = upstream.address("public")?;
        let nginx = Nginx::start(application).await?;
        let builder = Cluster::builder(launcher).gateways(1).env("PORTCULLIS_LOG", "warn");
        let builder = builder.env("UPSTREAM_URL", &format!("http://{application}"));
        // Full load on few cores is not an outage.
        let builder = builder.env("PORTCULLIS_STORE_TIMEOUT_MS", "2000").policy(json!({
            "guarded_rest_patterns": [format!("^{GUARDED}$")],
            "monitoring": { "heartbeat_timeout_seconds": 60 },
            "rate_limits": { "roles": {
                "anonymous": { "hourly": 1, "burst": 1 },
                ADMITTED: { "hourly": -1, "burst": 1_000_000 },
                SPENT: { "hourly": -1, "burst": 1_000_000 },
            } },
            "budgets": { "spent": {
                "unit": "requests", "amount": 1, "default_estimate": 1, "period": "month",
                "per": "user_type", "user_types": [SPENT],
            } },
        }));
        let mut cluster = builder.start().await?;
        cluster.stand_in(SLOTS).await?;
        let bare = Process::start(&bare_server(program, Some(cluster.redis_url()))).await?;
        let probe = cluster.probe().await?;
        let digest = probe.load_script("return 1").await?;
        let redis_process = probe.info_number("server", "process_id").await? as u32;
        let redis = cluster.redis_url().trim_start_matches("redis://").parse();
        let redis = redis.map_err(|_| HarnessError::Answer(format!("no address: {}", cluster.redis_url())))?;
        let benchmark = benchmark::tool().await;
        let mut stage = Self { cluster, bare, upstream, nginx, probe, digest, redis, redis_process, benchmark };
        stage.teach().await?;
        Ok(stage)
    }

    /// Whether this point can be measured here.
    #[must_use]
    pub fn can(&self, point: Point) -> bool {
        match point.way() {
            Way::Redis { .. } => self.benchmark.is_some(),
            Way::Nginx(_) => self.nginx.is_some(),
            Way::Bare(_) | Way::Upstream(_) | Way::Gateway(_) => true,
        }
    }

    /// Measures a point for this long.
    pub async fn sample(&mut self, point: Point, connections: u32, time: Duration) -> Result<Sample, HarnessError> {
        match point.way() {
            Way::Redis { script, pipeline } => self.benchmark(script, pipeline, connections, time).await,
            Way::Bare(load) => {
                let (address, process) = (self.bare.address("public")?, self.bare.id());
                self.http(address, process, &load, connections, time).await
            }
            Way::Upstream(load) => {
                let (address, process) = (self.upstream.address("public")?, self.upstream.id());
                self.http(address, process, &load, connections, time).await
            }
            Way::Nginx(load) => {
                let missing = || HarnessError::Answer("nginx is not installed".to_owned());
                let nginx = self.nginx.as_ref().ok_or_else(missing)?;
                self.http(nginx.address(), nginx.id(), &load, connections, time).await
            }
            Way::Gateway(load) => {
                let process = self.cluster.gateways()[0].id();
                self.http(self.cluster.public_address(0), process, &load, connections, time).await
            }
        }
    }

    async fn http(
        &self,
        address: SocketAddr,
        process: Option<u32>,
        load: &Load,
        connections: u32,
        time: Duration,
    ) -> Result<Sample, HarnessError> {
        let process = process.ok_or_else(|| HarnessError::Answer("the server has ended".to_owned()))?;
        // What was refused for a moment is let in again after a while; whoever is to be refused is refused first.
        if load.expected() != 202 {
            refused(address, load).await?;
        }
        let connections = Connection::open_all(address, connections).await?;
        let behind = self.upstream.id().filter(|upstream| *upstream != process);
        let behind = || behind.map(Cpu::of).transpose();
        let before = (Cpu::of(process)?, Cpu::here()?, Cpu::of(self.redis_process)?, behind()?);
        let driven = drive(connections, load, time).await?;
        let used = |now: Cpu, before: Cpu| now.since(before).own;
        Ok(Sample {
            server: Some(used(Cpu::of(process)?, before.0)),
            client: used(Cpu::here()?, before.1),
            redis: used(Cpu::of(self.redis_process)?, before.2),
            behind: behind()?.zip(before.3).map(|(now, before)| used(now, before)),
            answers: driven.answers,
            unexpected: driven.unexpected,
            per_second: driven.answers as f64 / driven.elapsed.as_secs_f64(),
            p50_ms: driven.latency_us.value_at_quantile(0.5) as f64 / 1000.0,
            p99_ms: driven.latency_us.value_at_quantile(0.99) as f64 / 1000.0,
            answer_bytes: Some(driven.answer_bytes),
        })
    }

    /// The tool takes a number of requests, not a time.
    async fn benchmark(
        &self,
        script: bool,
        pipeline: u32,
        connections: u32,
        time: Duration,
    ) -> Result<Sample, HarnessError> {
        let tool = self.benchmark.ok_or_else(|| HarnessError::Answer("redis-benchmark is not installed".to_owned()))?;
        let requests = BENCHMARK_PER_SECOND[usize::from(pipeline > 1)] * time.as_secs_f64();
        let evalsha = ["EVALSHA", &self.digest, "0"];
        let command: &[&str] = if script { &evalsha } else { &["PING"] };
        let before = (Cpu::here()?, Cpu::of(self.redis_process)?);
        let ran = benchmark::run(tool, self.redis, command, connections, pipeline, requests as u64).await?;
        Ok(Sample {
            client: Cpu::here()?.since(before.0).children,
            redis: Cpu::of(self.redis_process)?.since(before.1).own,
            answers: ran.answers,
            per_second: ran.per_second,
            p50_ms: ran.p50_ms,
            p99_ms: ran.p99_ms,
            ..Sample::default()
        })
    }

    /// Shows the bare server what a gateway answers from memory, for it to repeat.
    async fn teach(&mut self) -> Result<(), HarnessError> {
        let Way::Gateway(load) = Point::Remembered.way() else { return Ok(()) };
        let wire = refused(self.cluster.public_address(0), &load).await?;
        let mut lesson = format!("PUT /static HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n", wire.len());
        lesson.push_str(std::str::from_utf8(&wire).map_err(|_| HarnessError::Answer("a refusal in bytes".to_owned()))?);
        let mut connection = Connection::open(self.bare.address("public")?).await?;
        match connection.exchange(lesson.as_bytes()).await? {
            204 => Ok(()),
            status => Err(HarnessError::Answer(format!("the bare server did not take a refusal: {status}"))),
        }
    }

    /// Ends everything.
    pub async fn end(mut self) -> Result<(), HarnessError> {
        self.probe.close().await;
        self.bare.kill().await?;
        if let Some(nginx) = self.nginx {
            nginx.end().await?;
        }
        self.upstream.kill().await?;
        self.cluster.end().await
    }
}

/// Asks until the answer is the expected one, twice in a row; the answer, byte for byte.
async fn refused(address: SocketAddr, load: &Load) -> Result<Vec<u8>, HarnessError> {
    let mut connection = Connection::open(address).await?;
    let mut in_a_row = 0;
    for _ in 0..ATTEMPTS {
        let expected = connection.exchange(load.request()).await? == load.expected();
        in_a_row = if expected { in_a_row + 1 } else { 0 };
        if in_a_row == 2 {
            return Ok(connection.answer().to_vec());
        }
    }
    Err(HarnessError::Answer(format!("never answered with {}", load.expected())))
}

/// Without a URL it is the application behind proxies.
fn bare_server(program: PathBuf, redis_url: Option<&str>) -> Invocation {
    let args = ["bare-server"].into_iter().chain(redis_url).map(Into::into).collect();
    Invocation { name: "bare server".to_owned(), program, args, env: BTreeMap::new(), transcript: None }
}
