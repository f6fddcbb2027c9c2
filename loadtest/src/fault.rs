//! What can be done to a cluster while it is under load, as scenario files spell it.
//!
//! Responsible for the vocabulary of faults: what each needs of the cluster, whether it lasts, whom it concerns. Must
//! never do anything itself: [`inject`] does, and undoes.
//!
//! | module | |
//! |---|---|
//! | [`timetable`] | which fault begins and ends when, written down or drawn from a seed |
//! | [`operator`] | changes policies, and keeps the account of them |
//! | [`inject`] | makes a fault happen, and undoes it |

pub mod timetable;
pub mod operator;
pub mod inject;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use inject::{Begun, Injector, Undo};
pub use operator::Operator;
pub use timetable::{Moment, RandomFaults, TimedFault, Timetable};

use crate::cluster::{Layout, Member, TopologyKind};
use crate::observe::Work;

/// Something that is done to a cluster. `do` says which it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum FaultKind {
    /// SIGKILL; started again when it is over.
    Kill {
        /// Which process.
        process: Member,
    },
    /// SIGTERM, upon which it drains and ends; started again when that and this is over.
    Stop {
        /// Which process.
        process: Member,
    },
    /// SIGSTOP, and SIGCONT when it is over: it does not know that it was away.
    Pause {
        /// Which process.
        process: Member,
    },
    /// Each process is stopped and started again, one after the other, as a deployment does.
    RollingRestart {
        /// Which of them.
        of: Fleet,
    },
    /// The server that serves the scope is frozen, its connections open.
    PauseRedis {},
    /// SIGKILL of the server that serves the scope; started again when it is over. With `append_only` it has its data
    /// then, under Sentinel or in a cluster with replicas another has taken over, and otherwise everything is lost.
    KillRedis {},
    /// The same with SIGTERM.
    StopRedis {},
    /// Everything between processes and Redis takes longer.
    SlowRedis {
        /// By so much, ms there and back.
        latency_ms: u64,
        /// And by up to so much more, ms.
        #[serde(default)]
        jitter_ms: u64,
        /// Only for this process.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        process: Option<Member>,
    },
    /// Nothing of what this process and Redis say to each other arrives until it is over.
    Partition {
        /// Which process.
        process: Member,
    },
    /// Every connection to Redis is closed by the server, once.
    CutConnections {},
    /// Nobody hears a published message, and nobody can subscribe.
    LosePubsub {},
    /// Redis forgets every script.
    FlushScripts {},
    /// An operator changes the policy.
    UpdatePolicy {
        /// What is changed, as in the body of an update.
        patch: Value,
    },
    /// An operator goes back to an earlier policy.
    RollBackPolicy {
        /// Its revision.
        revision: u64,
    },
    /// Handlers do something else; what they did before when it is over.
    ChangeBackend {
        /// Handlers of this kind.
        kind: String,
        /// What they do meanwhile.
        work: Work,
    },
    /// The wall clock of one process jumps; back when it is over.
    ShiftClock {
        /// Which process.
        process: Member,
        /// How far ahead, seconds; negative: back.
        by_seconds: i64,
    },
}

/// Which processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fleet {
    /// The gateways.
    Gateways,
    /// The processors.
    Processors,
    /// Both, gateways first.
    All,
}

impl Fleet {
    /// Whether this process is one of them.
    #[must_use]
    pub fn includes(self, member: Member) -> bool {
        match member {
            Member::Gateway(_) => self != Self::Processors,
            Member::Processor(_) => self != Self::Gateways,
        }
    }
}

/// What a fault takes hold of. Two faults of one subject do not overlap: the end of the first would undo the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A process.
    Process(Member),
    /// The clock of a process.
    Clock(Member),
    /// The way of one process to Redis, or of all.
    Link(Option<Member>),
    /// The Redis servers.
    Redis,
    /// The handlers.
    Backend,
    /// All processes.
    Fleet,
}

/// Whether a fault goes on until it is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// It must say for how long.
    Required,
    /// To the end of the run, if it does not say for how long.
    Optional,
    /// It is over when it has happened.
    Never,
}

impl FaultKind {
    /// Its name in scenario files and records.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill",
            Self::Stop { .. } => "stop",
            Self::Pause { .. } => "pause",
            Self::RollingRestart { .. } => "rolling_restart",
            Self::PauseRedis {} => "pause_redis",
            Self::KillRedis {} => "kill_redis",
            Self::StopRedis {} => "stop_redis",
            Self::SlowRedis { .. } => "slow_redis",
            Self::Partition { .. } => "partition",
            Self::CutConnections {} => "cut_connections",
            Self::LosePubsub {} => "lose_pubsub",
            Self::FlushScripts {} => "flush_scripts",
            Self::UpdatePolicy { .. } => "update_policy",
            Self::RollBackPolicy { .. } => "roll_back_policy",
            Self::ChangeBackend { .. } => "change_backend",
            Self::ShiftClock { .. } => "shift_clock",
        }
    }

    /// Whether it goes on until it is undone.
    #[must_use]
    pub fn lasting(&self) -> Lasting {
        match self {
            Self::LosePubsub {} | Self::ChangeBackend { .. } | Self::ShiftClock { .. } => Lasting::Optional,
            Self::RollingRestart { .. }
            | Self::CutConnections {}
            | Self::FlushScripts {}
            | Self::UpdatePolicy { .. }
            | Self::RollBackPolicy { .. } => Lasting::Never,
            _ => Lasting::Required,
        }
    }

    /// What it takes hold of; `None` where nothing is in the way of anything else.
    #[must_use]
    pub fn subject(&self) -> Option<Subject> {
        Some(match self {
            Self::Kill { process } | Self::Stop { process } | Self::Pause { process } => Subject::Process(*process),
            Self::ShiftClock { process, .. } => Subject::Clock(*process),
            Self::Partition { process } => Subject::Link(Some(*process)),
            Self::SlowRedis { process, .. } => Subject::Link(*process),
            Self::RollingRestart { .. } => Subject::Fleet,
            Self::ChangeBackend { .. } => Subject::Backend,
            Self::UpdatePolicy { .. } | Self::RollBackPolicy { .. } => return None,
            // Also what only asks something of the server: one that is gone cannot be asked.
            _ => Subject::Redis,
        })
    }

    /// The process it is done to, if it is one.
    #[must_use]
    pub fn process(&self) -> Option<Member> {
        match self {
            Self::Kill { process }
            | Self::Stop { process }
            | Self::Pause { process }
            | Self::Partition { process }
            | Self::ShiftClock { process, .. } => Some(*process),
            Self::SlowRedis { process, .. } => *process,
            _ => None,
        }
    }

    /// What the Redis of the cluster lacks for it.
    #[must_use]
    pub fn missing(&self, layout: &Layout) -> Option<&'static str> {
        match self {
            Self::SlowRedis { .. } | Self::Partition { .. } if !layout.proxied => {
                Some("needs `redis: { proxied: true }`: there is nothing between the processes and redis")
            }
            Self::LosePubsub {} if layout.topology != TopologyKind::Standalone => {
                Some("needs `redis: { topology: standalone }`: a message reaches subscribers over every node")
            }
            _ => None,
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::RollingRestart { of: Fleet::Gateways } => f.write_str(" of the gateways"),
            Self::RollingRestart { of: Fleet::Processors } => f.write_str(" of the processors"),
            Self::RollingRestart { of: Fleet::All } => f.write_str(" of all processes"),
            Self::SlowRedis { latency_ms, jitter_ms, process } => {
                write!(f, " by {latency_ms} to {} ms", latency_ms + jitter_ms)?;
                process.map_or(Ok(()), |process| write!(f, " for {process}"))
            }
            Self::UpdatePolicy { patch } => write!(f, " {patch}"),
            Self::RollBackPolicy { revision } => write!(f, " to {revision}"),
            Self::ChangeBackend { kind, work } => write!(f, " of {kind} to {:?}", work.service),
            Self::ShiftClock { process, by_seconds } => write!(f, " of {process} by {by_seconds:+} s"),
            other => other.process().map_or(Ok(()), |process| write!(f, " {process}")),
        }
    }
}
