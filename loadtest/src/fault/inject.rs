//! Makes a fault happen to a running cluster, and undoes it.
//!
//! Responsible for each fault being in force when its call returns, and for knowing how to undo it. Must never hide
//! that a process had ended by itself: that nothing can be done to it any more is an error.

use std::net::SocketAddr;
use std::time::Duration;

use super::operator::Operator;
use super::{FaultKind, Fleet};
use crate::cluster::skew::Clocks;
use crate::cluster::{Cluster, Link, Member, Process, Redis};
use crate::error::HarnessError;
use crate::eventually::eventually;
use crate::observe::{Backend, Work};

/// How long a process may take from its start until it takes work.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// How long until nobody is subscribed any more.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);

/// Does things to a cluster.
pub struct Injector<'a> {
    /// Whom.
    pub cluster: &'a mut Cluster,
    /// The handlers behind it.
    pub backend: &'a Backend,
    /// Who changes its policy.
    pub operator: Operator,
    /// Its clocks that can be set.
    pub clocks: Option<&'a Clocks>,
    /// Told the name and the id of every process that was started in the place of another.
    pub started: &'a (dyn Fn(String, u32) + Send + Sync),
    /// Told the number of every gateway that was started again, and where it listens now.
    pub moved: &'a (dyn Fn(usize, SocketAddr) + Send + Sync),
}

impl std::fmt::Debug for Injector<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Injector").field("operator", &self.operator).finish_non_exhaustive()
    }
}

/// What came of the beginning of a fault.
#[derive(Debug)]
pub enum Begun {
    /// It is in force until it is undone.
    Lasts(Undo),
    /// It has happened.
    Over,
    /// It could not happen, because of another fault. It may be tried again.
    NotYet,
}

/// How a fault is undone.
#[derive(Debug)]
pub enum Undo {
    /// A process is started again.
    Start(Member),
    /// A process is started again when it has drained.
    StartDrained(Member),
    /// A process goes on.
    Resume(Member),
    /// The Redis server of this number is started again.
    StartRedis(usize),
    /// The Redis server of this number goes on.
    ResumeRedis(usize),
    /// Links carry as before: of one process, or of all.
    Heal(Option<Member>),
    /// Subscribing is allowed again.
    Hear,
    /// Handlers of this kind do what they did before.
    Work(String, Work),
    /// The clock of a process shows what it did before.
    Clock(Member, i64),
}

impl Injector<'_> {
    /// Makes a fault happen, which was tried first at `since_us` of the run.
    pub async fn begin(&mut self, kind: &FaultKind, since_us: u64) -> Result<Begun, HarnessError> {
        Ok(Begun::Lasts(match kind {
            FaultKind::Kill { process } => {
                self.running(*process)?.kill().await?;
                Undo::Start(*process)
            }
            FaultKind::Stop { process } => {
                self.running(*process)?.terminate()?;
                Undo::StartDrained(*process)
            }
            FaultKind::Pause { process } => {
                self.running(*process)?.pause()?;
                Undo::Resume(*process)
            }
            FaultKind::PauseRedis {} => self.pause_redis().await?,
            FaultKind::KillRedis {} => self.end_redis(true).await?,
            FaultKind::StopRedis {} => self.end_redis(false).await?,
            FaultKind::SlowRedis { latency_ms, jitter_ms, process } => {
                let (latency, jitter) = (Duration::from_millis(*latency_ms), Duration::from_millis(*jitter_ms));
                self.on_links(*process, |link| link.slow(latency, jitter))?;
                Undo::Heal(*process)
            }
            FaultKind::Partition { process } => {
                self.on_links(Some(*process), Link::partition)?;
                Undo::Heal(Some(*process))
            }
            FaultKind::LosePubsub {} => {
                self.silence().await?;
                Undo::Hear
            }
            FaultKind::ChangeBackend { kind, work } => {
                let before = self.backend.set(kind, work.clone());
                Undo::Work(kind.clone(), before.unwrap_or_default())
            }
            FaultKind::ShiftClock { process, by_seconds } => {
                let before = self.clocks()?.set(*process, *by_seconds)?;
                Undo::Clock(*process, before)
            }
            at_once => {
                let happened = self.happen(at_once, since_us).await?;
                return Ok(if happened { Begun::Over } else { Begun::NotYet });
            }
        }))
    }

    /// Undoes a fault.
    pub async fn undo(&mut self, undo: Undo) -> Result<(), HarnessError> {
        match undo {
            Undo::Start(member) => self.start(member).await,
            Undo::StartDrained(member) => {
                self.drained(member).await?;
                self.start(member).await
            }
            Undo::Resume(member) => self.cluster.member(member)?.resume(),
            Undo::StartRedis(index) => self.start_redis(index).await,
            Undo::ResumeRedis(index) => self.cluster.topology()?.server(index)?.resume(),
            Undo::Heal(process) => self.on_links(process, Link::heal),
            Undo::Hear => self.on_servers("ACL SETUSER default +subscribe +psubscribe +ssubscribe").await,
            Undo::Work(kind, work) => {
                self.backend.set(&kind, work);
                Ok(())
            }
            Undo::Clock(member, ahead_seconds) => self.clocks()?.set(member, ahead_seconds).map(drop),
        }
    }

    /// What is over when it has happened; whether it has.
    async fn happen(&mut self, kind: &FaultKind, since_us: u64) -> Result<bool, HarnessError> {
        match kind {
            FaultKind::RollingRestart { of } => self.restart(*of).await?,
            FaultKind::CutConnections {} => {
                self.on_servers("CLIENT KILL TYPE normal SKIPME yes").await?;
                self.on_servers("CLIENT KILL TYPE pubsub").await?;
            }
            FaultKind::FlushScripts {} => self.on_servers("SCRIPT FLUSH SYNC").await?,
            FaultKind::UpdatePolicy { patch } => return self.operator.update(self.cluster, patch, since_us).await,
            FaultKind::RollBackPolicy { revision } => {
                return self.operator.roll_back(self.cluster, *revision, since_us).await;
            }
            lasting => return Err(HarnessError::Answer(format!("{lasting} goes on until it is undone"))),
        }
        Ok(true)
    }

    /// The process in this place, which must not have ended by itself.
    fn running(&mut self, member: Member) -> Result<&mut Process, HarnessError> {
        let process = self.cluster.member(member)?;
        if process.is_running() {
            return Ok(process);
        }
        let (name, stderr) = (process.name().to_owned(), process.stderr());
        Err(HarnessError::Process { name, reason: "had ended by itself".to_owned(), stderr })
    }

    /// Waits until a process has ended that was asked to drain.
    async fn drained(&mut self, member: Member) -> Result<(), HarnessError> {
        let process = self.cluster.member(member)?;
        let status = process.wait().await?;
        // 1 says that it could not hand back what it held, because it did not reach Redis.
        if matches!(status.code(), Some(0 | 1)) {
            return Ok(());
        }
        let (name, stderr) = (process.name().to_owned(), process.stderr());
        Err(HarnessError::Process { name, reason: format!("ended its drain with {status}"), stderr })
    }

    async fn start(&mut self, member: Member) -> Result<(), HarnessError> {
        self.cluster.start_again(member).await?;
        let process = self.cluster.member(member)?;
        if let Some(id) = process.id() {
            (self.started)(member.to_string(), id);
        }
        if let Member::Gateway(number) = member {
            (self.moved)(number, process.address("public")?);
        }
        Ok(())
    }

    /// As a deployment does it: the next one goes when the one before is back in service.
    async fn restart(&mut self, fleet: Fleet) -> Result<(), HarnessError> {
        for member in self.cluster.members().into_iter().filter(|member| fleet.includes(*member)) {
            self.running(member)?.terminate()?;
            self.drained(member).await?;
            self.start(member).await?;
            let health = self.cluster.health(member)?;
            eventually(READY_LIMIT, &format!("{member} is ready"), || async {
                (health.get("/readyz").await.ok()?.status == 200).then_some(())
            })
            .await?;
        }
        Ok(())
    }

    async fn pause_redis(&mut self) -> Result<Undo, HarnessError> {
        let index = self.primary().await?;
        self.cluster.topology()?.server(index)?.pause()?;
        Ok(Undo::ResumeRedis(index))
    }

    async fn end_redis(&mut self, at_once: bool) -> Result<Undo, HarnessError> {
        let index = self.primary().await?;
        let server = self.cluster.topology()?.server(index)?;
        if at_once {
            server.kill().await?;
        } else {
            server.stop().await?;
        }
        Ok(Undo::StartRedis(index))
    }

    async fn start_redis(&mut self, index: usize) -> Result<(), HarnessError> {
        let topology = self.cluster.topology()?;
        topology.server(index)?.start_again().await?;
        if let Some(id) = topology.server(index)?.id() {
            (self.started)(topology.name(index), id);
        }
        Ok(())
    }

    async fn primary(&mut self) -> Result<usize, HarnessError> {
        let prefix = self.cluster.key_prefix();
        self.cluster.topology()?.primary_of(&prefix).await
    }

    fn on_links(&self, process: Option<Member>, act: impl Fn(&Link)) -> Result<(), HarnessError> {
        let members = process.map_or_else(|| self.cluster.members(), |process| vec![process]);
        members.into_iter().try_for_each(|member| self.cluster.link(member).map(&act))
    }

    /// Sends a command to every server that runs.
    async fn on_servers(&mut self, command: &str) -> Result<(), HarnessError> {
        for server in self.cluster.topology()?.servers().iter().filter(|server| server.id().is_some()) {
            server.ask(command).await?;
        }
        Ok(())
    }

    /// Whoever subscribed loses the connection and may not subscribe again; publishing stays allowed, because storing a
    /// policy needs it.
    async fn silence(&mut self) -> Result<(), HarnessError> {
        self.on_servers("ACL SETUSER default -subscribe -psubscribe -ssubscribe").await?;
        let server: &Redis = self.cluster.redis()?;
        eventually(SILENCE_LIMIT, "nobody is subscribed", || async {
            server.ask("CLIENT KILL TYPE pubsub").await.ok()?;
            server.ask("PUBSUB CHANNELS").await.ok()?.is_empty().then_some(())
        })
        .await
    }

    fn clocks(&self) -> Result<&Clocks, HarnessError> {
        self.clocks.ok_or_else(|| HarnessError::Answer("no process has a clock of its own".to_owned()))
    }
}
