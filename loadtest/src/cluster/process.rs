//! A gateway or processor as a child process: started, watched, signalled, killed.
//!
//! Responsible for a child never outliving its handle and never failing without its last words being kept. Must never
//! choose a port: children bind port 0 and print what they got, so two clusters cannot race for one.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::error::HarnessError;

/// Lines of standard error kept for a failure message.
const LINES_KEPT: usize = 60;
/// A debug build beside other builds on two cores starts in a few seconds.
const START_LIMIT: Duration = Duration::from_secs(60);
const EXIT_LIMIT: Duration = Duration::from_secs(60);

/// What to run and how.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Name in messages.
    pub name: String,
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment, beside `PATH` and `HOME`.
    pub env: BTreeMap<String, String>,
    /// The file everything it prints is added to; `None`: only the last lines of standard error are kept.
    pub transcript: Option<PathBuf>,
}

/// A running child. Dropping it kills the process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    last_words: LastWords,
    addresses: BTreeMap<String, SocketAddr>,
    /// Drain the child's pipes, so that it never blocks on a full one; they end with the handle.
    readers: JoinSet<()>,
}

impl Process {
    /// Starts the child and waits until it prints `listening NAME=ADDR …`.
    pub async fn start(invocation: &Invocation) -> Result<Self, HarnessError> {
        let (mut process, listening) = Self::spawn(invocation)?;
        match tokio::time::timeout(START_LIMIT, listening).await {
            Ok(Ok(addresses)) => {
                process.addresses = addresses;
                Ok(process)
            }
            Ok(Err(_)) => {
                let status = process.wait().await?;
                Err(process.failure(format!("ended with {status} before it listened")))
            }
            Err(_) => Err(process.failure(format!("printed no listening line within {START_LIMIT:?}"))),
        }
    }

    /// Runs a child that is expected to end by itself; its status and what it wrote to standard error.
    pub async fn run_to_end(invocation: &Invocation) -> Result<(ExitStatus, String), HarnessError> {
        let (mut process, _listening) = Self::spawn(invocation)?;
        let status = process.wait().await?;
        Ok((status, process.stderr()))
    }

    fn spawn(invocation: &Invocation) -> Result<(Self, oneshot::Receiver<BTreeMap<String, SocketAddr>>), HarnessError> {
        let mut command = Command::new(&invocation.program);
        command.args(&invocation.args).env_clear().kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for inherited in ["PATH", "HOME"] {
            if let Some(value) = std::env::var_os(inherited) {
                command.env(inherited, value);
            }
        }
        command.envs(&invocation.env);
        let mut child =
            command.spawn().map_err(HarnessError::io(format!("starting {}", invocation.program.display())))?;
        let (last_words, transcript) = (LastWords::default(), Transcript::open(invocation.transcript.as_deref())?);
        let (announce, listening) = oneshot::channel();
        let mut readers = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            readers.spawn(read_stdout(stdout, announce, transcript.clone()));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.spawn(keep_last_words(stderr, last_words.clone(), transcript));
        }
        let addresses = BTreeMap::new();
        Ok((Self { name: invocation.name.clone(), child, last_words, addresses, readers }, listening))
    }

    /// Name in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The address it announced under this name.
    pub fn address(&self, listener: &str) -> Result<SocketAddr, HarnessError> {
        self.addresses.get(listener).copied().ok_or_else(|| self.failure(format!("announced no {listener} listener")))
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(&mut self) -> Result<(), HarnessError> {
        self.child.kill().await.map_err(HarnessError::io(format!("killing {}", self.name)))
    }

    /// SIGTERM: asks it to drain.
    pub fn terminate(&self) -> Result<(), HarnessError> {
        self.signal(Signal::TERM)
    }

    /// SIGSTOP: it freezes with every connection open. Returns when it has: on a busy machine its threads run on for a
    /// while after the signal was sent.
    pub fn pause(&self) -> Result<(), HarnessError> {
        self.signal(Signal::STOP)?;
        let stopped = waitid(WaitId::Pid(self.pid()?), WaitIdOptions::STOPPED);
        stopped.map(drop).map_err(|errno| HarnessError::io(format!("freezing {}", self.name))(errno.into()))
    }

    /// SIGCONT: it goes on, not knowing that it was away.
    pub fn resume(&self) -> Result<(), HarnessError> {
        self.signal(Signal::CONT)
    }

    /// Waits until it has ended by itself, and all it wrote has been read.
    pub async fn wait(&mut self) -> Result<ExitStatus, HarnessError> {
        let ended = async {
            let status = self.child.wait().await;
            while self.readers.join_next().await.is_some() {}
            status
        };
        match tokio::time::timeout(EXIT_LIMIT, ended).await {
            Ok(status) => status.map_err(HarnessError::io(format!("waiting for {}", self.name))),
            Err(_) => Err(self.failure(format!("still running after {EXIT_LIMIT:?}"))),
        }
    }

    /// The last lines it wrote to standard error.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.last_words.text()
    }

    fn signal(&self, signal: Signal) -> Result<(), HarnessError> {
        kill_process(self.pid()?, signal)
            .map_err(|errno| HarnessError::io(format!("signalling {}", self.name))(errno.into()))
    }

    fn pid(&self) -> Result<Pid, HarnessError> {
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        pid.ok_or_else(|| self.failure("has already ended".to_owned()))
    }

    fn failure(&self, reason: String) -> HarnessError {
        HarnessError::Process { name: self.name.clone(), reason, stderr: self.stderr() }
    }
}

/// The last lines of a child's standard error.
#[derive(Clone, Debug, Default)]
struct LastWords(Arc<Mutex<VecDeque<String>>>);

impl LastWords {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// Where everything a child prints is kept, if it is.
#[derive(Clone, Debug)]
struct Transcript(Option<Arc<File>>);

impl Transcript {
    fn open(path: Option<&Path>) -> Result<Self, HarnessError> {
        let open = |path: &Path| {
            let file = File::options().create(true).append(true).open(path);
            file.map(Arc::new).map_err(HarnessError::io(format!("opening {}", path.display())))
        };
        path.map(open).transpose().map(Self)
    }

    fn add(&self, line: &str) {
        if let Some(file) = &self.0 {
            // One write, so that lines of both pipes stay whole. Whoever reads it expects what is not there then.
            drop((&**file).write_all(format!("{line}\n").as_bytes()));
        }
    }
}

async fn keep_last_words(stderr: impl AsyncRead + Unpin, last_words: LastWords, transcript: Transcript) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        transcript.add(&line);
        last_words.push(line);
    }
}

/// Hands over the addresses of the first `listening` line, then reads on so that the pipe never fills.
async fn read_stdout(
    stdout: impl AsyncRead + Unpin,
    announce: oneshot::Sender<BTreeMap<String, SocketAddr>>,
    transcript: Transcript,
) {
    let mut announce = Some(announce);
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        transcript.add(&line);
        if let Some(addresses) = parse_listening(&line)
            && let Some(announce) = announce.take()
        {
            // The receiver is gone only when the whole handle is.
            drop(announce.send(addresses));
        }
    }
}

fn parse_listening(line: &str) -> Option<BTreeMap<String, SocketAddr>> {
    let pairs = line.strip_prefix("listening ")?.split_whitespace();
    pairs.map(|pair| pair.split_once('=').and_then(|(name, at)| Some((name.to_owned(), at.parse().ok()?)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_announced_addresses() {
        let addresses = parse_listening("listening public=127.0.0.1:4000 admin=[::1]:4001").expect("well formed");
        assert_eq!(addresses["public"], "127.0.0.1:4000".parse().expect("address"));
        assert_eq!(addresses["admin"], "[::1]:4001".parse().expect("address"));
    }

    #[test]
    fn takes_no_other_line_for_an_announcement() {
        assert_eq!(parse_listening("started public=127.0.0.1:4000"), None);
        assert_eq!(parse_listening("listening public=nowhere"), None);
    }

    #[test]
    fn keeps_only_the_last_lines() {
        let last_words = LastWords::default();
        for line in 0..LINES_KEPT + 5 {
            last_words.push(line.to_string());
        }
        assert!(last_words.text().starts_with("5\n"));
    }
}
