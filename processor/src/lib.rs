//! The workers: they lease tasks, run them and settle what became of them.
//!
//! ```text
//!              claim                    handler answers               settle
//!  queued ──────────────▶ lease ──────────▶ attempt ──────────▶ succeeded | failed
//!    ▲                      │                  │
//!    │                      │ renewed until    ├─ worth another try ─▶ retry: queued, after a backoff,
//!    │                      │ it is settled    │                       or dead, when no attempt is left
//!    │                      │                  ├─ its caller said so ─▶ cancelled
//!    │                      │                  ├─ its deadline passed ▶ expired
//!    │                      │                  ├─ we are draining ────▶ handed back: queued, first in line
//!    │                      │                  └─ the lease is lost ──▶ nothing: its next holder settles it
//!    └──── reclaim ◀────────┘ lapses with its holder
//! ```
//!
//! Each module of the second group is one of those words or one background duty. Responsible for running what was
//! admitted, at least once and never twice under one fencing token. Must never decide whether a task may run, settle
//! one without its fencing token, or speak to Redis other than through `portcullis-lua`: another processor may hold the
//! same task by now, and only the scripts know.

pub mod handler;
mod policy;
pub use handler::{AttemptContext, Handler, HandlerOutcome, Handlers, OutputSink};

mod metric;
mod store;
mod backoff;
mod clock;
mod lease;
mod settle;
mod revocation;
mod output;
mod attempt;
mod worker;
mod heartbeat;
mod follower;
mod reclaimer;

mod drain;
mod processor;
pub use backoff::jittered_retry_ms;
pub use drain::{Ending, Shutdown};
pub use lease::{LeaseEnd, Standing, renew_period, trusted_until};
pub use processor::{Processor, ProcessorOptions};

mod admin;
pub mod cli;

#[cfg(test)]
mod fake;
