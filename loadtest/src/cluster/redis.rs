//! A real Redis server of one's own: started on a free port, stopped, frozen, started again, removed.
//!
//! Responsible for the server process, its role in a topology, its port and its directory. A child of the harness like
//! any other and no daemon, so that it cannot outlive its handle. Must never touch a server that is already running
//! on the machine, which may hold somebody's data.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rand::RngExt;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::wire::ask;
use crate::error::HarnessError;
use crate::eventually::eventually;

/// Below the range from which systems take source ports of outgoing connections: a port given up while the server is
/// stopped must still be free when it starts again.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
const PORT_ATTEMPTS: usize = 50;
const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// What sentinels call the primary they watch.
pub(super) const SERVICE_NAME: &str = "main";
/// How many of three sentinels must agree.
const SENTINEL_QUORUM: u32 = 2;
/// How long a server is silent until the others take it for dead, ms. Short, so that a failover takes few seconds; not
/// shorter, because two cores may be busy for longer than that.
const DOWN_AFTER_MS: u32 = 1500;
/// How long until a failover that does not succeed is tried again, ms.
const FAILOVER_TIMEOUT_MS: u32 = 5000;
/// Drop-in servers, in the order of preference.
const SERVERS: [&str; 2] = ["redis-server", "valkey-server"];

/// What a server is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisRole {
    /// Alone, or the first primary of a Sentinel topology.
    Primary,
    /// Follows the server on this port, until Sentinel says otherwise.
    Replica(u16),
    /// A node of a Redis Cluster.
    Node,
    /// Watches the primary that is on this port at first.
    Sentinel(u16),
}

/// A private Redis server. Dropping it kills the process and removes its directory.
#[derive(Debug)]
pub struct Redis {
    child: Option<Child>,
    port: u16,
    /// Where nodes of a cluster speak with one another. Drawn as the other is: the usual distance of 10,000 would
    /// lead among the ports that connections are given.
    bus_port: u16,
    role: RedisRole,
    append_only: bool,
    directory: TempDir,
}

impl Redis {
    /// Starts a server on a free loopback port; with `append_only` it survives being killed.
    pub async fn start(append_only: bool) -> Result<Self, HarnessError> {
        Self::start_as(RedisRole::Primary, append_only).await
    }

    /// Starts a server of a topology.
    pub async fn start_as(role: RedisRole, append_only: bool) -> Result<Self, HarnessError> {
        let mut last = None;
        for _ in 0..PORT_ATTEMPTS {
            let directory = tempfile::Builder::new().prefix("portcullis-redis-").tempdir();
            let directory = directory.map_err(HarnessError::io("making a directory for redis"))?;
            let (port, bus_port) = (free_port()?, free_port()?);
            let mut redis = Self { child: None, port, bus_port, role, append_only, directory };
            redis.configure()?;
            match redis.start_again().await {
                Ok(()) => return Ok(redis),
                Err(error @ HarnessError::Process { .. }) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| HarnessError::Answer("no port was tried".to_owned())))
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Where other nodes of a cluster reach it.
    #[must_use]
    pub fn bus_port(&self) -> u16 {
        self.bus_port
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Asks this very server; see [`ask`].
    pub async fn ask(&self, command: &str) -> Result<String, HarnessError> {
        ask(self.address(), command).await
    }

    /// Starts a stopped server again: same port, same directory.
    pub async fn start_again(&mut self) -> Result<(), HarnessError> {
        let mut child = self.spawn()?;
        let address = self.address();
        let mut ended = None;
        let answered = eventually(START_LIMIT, "redis answers", || {
            ended = child.try_wait().ok().flatten();
            let (gave_up, process) = (ended.is_some(), child.id());
            async move { (gave_up || answers(address, process).await).then_some(()) }
        })
        .await;
        if let Some(status) = ended {
            let reason = format!("ended with {status}, perhaps because port {} is taken", self.port);
            return Err(HarnessError::Process { name: "redis".to_owned(), reason, stderr: String::new() });
        }
        answered?;
        self.child = Some(child);
        Ok(())
    }

    /// SIGTERM, and waits until it is gone: the orderly way.
    pub async fn stop(&mut self) -> Result<(), HarnessError> {
        self.signal(Signal::TERM)?;
        if let Some(mut child) = self.child.take() {
            let ended = tokio::time::timeout(STOP_LIMIT, child.wait()).await;
            ended
                .map_err(|_| HarnessError::Timeout(STOP_LIMIT, "redis ends after SIGTERM".to_owned()))?
                .map_err(HarnessError::io("waiting for redis"))?;
        }
        Ok(())
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(&mut self) -> Result<(), HarnessError> {
        match self.child.take() {
            Some(mut child) => child.kill().await.map_err(HarnessError::io("killing redis")),
            None => Ok(()),
        }
    }

    /// SIGSTOP: it keeps its connections and answers nothing. Returns when it has stopped: on a busy machine it runs on
    /// for a while after the signal was sent.
    pub fn pause(&self) -> Result<(), HarnessError> {
        self.signal(Signal::STOP)?;
        let stopped = waitid(WaitId::Pid(self.pid()?), WaitIdOptions::STOPPED);
        stopped.map(drop).map_err(|errno| HarnessError::io("freezing redis")(errno.into()))
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<(), HarnessError> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), HarnessError> {
        kill_process(self.pid()?, signal).map_err(|errno| HarnessError::io("signalling redis")(errno.into()))
    }

    fn pid(&self) -> Result<Pid, HarnessError> {
        let pid = self.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        pid.ok_or_else(|| HarnessError::Answer("redis is not running".to_owned()))
    }

    /// A sentinel keeps what it learns in the file it was started with.
    fn configure(&self) -> Result<(), HarnessError> {
        let RedisRole::Sentinel(primary) = self.role else { return Ok(()) };
        let text = format!(
            "sentinel monitor {SERVICE_NAME} 127.0.0.1 {primary} {SENTINEL_QUORUM}\n\
             sentinel down-after-milliseconds {SERVICE_NAME} {DOWN_AFTER_MS}\n\
             sentinel failover-timeout {SERVICE_NAME} {FAILOVER_TIMEOUT_MS}\n"
        );
        std::fs::write(self.sentinel_file(), text).map_err(HarnessError::io("configuring a sentinel"))
    }

    fn sentinel_file(&self) -> PathBuf {
        self.directory.path().join("sentinel.conf")
    }

    fn spawn(&self) -> Result<Child, HarnessError> {
        let mut missing = None;
        for server in SERVERS {
            let mut command = Command::new(server);
            self.set_arguments(&mut command);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
            match command.spawn() {
                Ok(child) => return Ok(child),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => missing = Some(error),
                Err(error) => return Err(HarnessError::io(format!("starting {server}"))(error)),
            }
        }
        let missing = missing.unwrap_or_else(|| std::io::ErrorKind::NotFound.into());
        Err(HarnessError::io(format!("starting a server: none of {SERVERS:?} is installed"))(missing))
    }

    fn set_arguments(&self, command: &mut Command) {
        let directory = self.directory.path();
        if matches!(self.role, RedisRole::Sentinel(_)) {
            command.arg(self.sentinel_file()).arg("--sentinel");
        }
        command.arg("--port").arg(self.port.to_string()).args(["--bind", "127.0.0.1", "--loglevel", "warning"]);
        command.arg("--dir").arg(directory).arg("--logfile").arg(directory.join("redis.log"));
        if !matches!(self.role, RedisRole::Sentinel(_)) {
            let append_only = if self.append_only { "yes" } else { "no" };
            command.args(["--save", "", "--appendonly", append_only, "--appendfsync", "everysec"]);
        }
        match self.role {
            RedisRole::Primary | RedisRole::Sentinel(_) => {}
            RedisRole::Replica(primary) => {
                command.args(["--replicaof", "127.0.0.1", &primary.to_string(), "--repl-diskless-sync-delay", "0"]);
            }
            RedisRole::Node => {
                let timeout_ms = DOWN_AFTER_MS.to_string();
                command.args(["--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"]);
                command.args(["--cluster-node-timeout", &timeout_ms, "--repl-diskless-sync-delay", "0"]);
                command.arg("--cluster-port").arg(self.bus_port.to_string());
            }
        }
    }
}

/// A port nobody listens on now. Another process may still take it first; the caller then tries the next.
fn free_port() -> Result<u16, HarnessError> {
    let mut random = rand::rng();
    for _ in 0..PORT_ATTEMPTS {
        let port = random.random_range(PORTS);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(HarnessError::io("looking for a free port")(std::io::ErrorKind::AddrInUse.into()))
}

/// Whether the server is up, has loaded its data (until then it answers `-LOADING`) and is the process just started,
/// not one that took the port first.
async fn answers(address: SocketAddr, process: Option<u32>) -> bool {
    let Some(process) = process else { return false };
    let loaded = ask(address, "PING").await.is_ok();
    let line = format!("process_id:{process}");
    loaded && ask(address, "INFO server").await.is_ok_and(|info| info.lines().any(|said| said == line))
}
