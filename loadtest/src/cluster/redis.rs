//! A real Redis server of one's own: started on a free port, stopped, frozen, started again, removed.
//!
//! Responsible for the server process, its port and its directory. Must never touch a server that is already running
//! on the machine, which may hold somebody's data.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rand::RngExt;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::error::HarnessError;
use crate::eventually::eventually;

/// Below the range from which systems take source ports of outgoing connections: a port given up while the server is
/// stopped must still be free when it starts again.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
const PORT_ATTEMPTS: usize = 50;
const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Drop-in servers, in the order of preference.
const SERVERS: [&str; 2] = ["redis-server", "valkey-server"];

/// A private Redis server. Dropping it kills the process and removes its directory.
#[derive(Debug)]
pub struct Redis {
    child: Option<Child>,
    port: u16,
    append_only: bool,
    directory: TempDir,
}

impl Redis {
    /// Starts a server on a free loopback port; with `append_only` it survives being killed.
    pub async fn start(append_only: bool) -> Result<Self, HarnessError> {
        let mut last = None;
        for _ in 0..PORT_ATTEMPTS {
            let directory = tempfile::Builder::new().prefix("portcullis-redis-").tempdir();
            let directory = directory.map_err(HarnessError::io("making a directory for redis"))?;
            let mut redis = Self { child: None, port: free_port()?, append_only, directory };
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
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts a stopped server again: same port, same directory.
    pub async fn start_again(&mut self) -> Result<(), HarnessError> {
        let mut child = spawn_server(self.port, self.append_only, self.directory.path())?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
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

    /// SIGSTOP: it keeps its connections and answers nothing.
    pub fn pause(&self) -> Result<(), HarnessError> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<(), HarnessError> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), HarnessError> {
        let id = self.child.as_ref().and_then(Child::id);
        match id.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            Some(pid) => kill_process(pid, signal).map_err(|errno| HarnessError::io("signalling redis")(errno.into())),
            None => Err(HarnessError::Answer("redis is not running".to_owned())),
        }
    }
}

fn spawn_server(port: u16, append_only: bool, directory: &Path) -> Result<Child, HarnessError> {
    let mut missing = None;
    for server in SERVERS {
        let mut command = Command::new(server);
        command.arg("--port").arg(port.to_string()).args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--loglevel",
            "warning",
        ]);
        command.args(["--appendonly", if append_only { "yes" } else { "no" }, "--appendfsync", "everysec"]);
        command.arg("--dir").arg(directory).arg("--logfile").arg(directory.join("redis.log"));
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
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"PING\r\nINFO server\r\nQUIT\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let Ok(Ok(answer)) = tokio::time::timeout(Duration::from_secs(1), exchange).await else { return false };
    let Some(process) = process else { return false };
    answer.starts_with("+PONG") && answer.lines().any(|line| line == format!("process_id:{process}"))
}
