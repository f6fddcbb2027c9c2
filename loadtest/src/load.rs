//! The load generator: who calls when, and an account of every call.
//!
//! Responsible for offering a cluster the load a plan describes, whatever the cluster does about it. Must never let a
//! slow answer delay a scheduled request, lose a call, or hide that it was itself the bottleneck.
//!
//! | module | |
//! |---|---|
//! | [`plan`] | what load is sent, as in scenario files |
//! | `arrival`, `trace`, `population`, `stream` | who asks for what when, decided before anything is sent |
//! | [`targets`] | where it goes |
//! | `pace`, [`drive`](mod@drive), `client`, `retry`, `http` | sends it |
//! | [`meter`], [`progress`] | the run so far, for programs and for people |
//! | [`journal`], [`latency`] | every call, and how long calls took |

pub mod plan;
mod arrival;
mod trace;
mod population;
mod stream;
pub mod targets;
pub mod drive;
mod pace;
mod client;
mod retry;
mod http;
pub mod meter;
pub mod progress;
pub mod journal;
pub mod latency;

pub use drive::drive;
pub use journal::Journal;
pub use meter::{Meter, Reading};
pub use plan::{Plan, Stream};
pub use progress::Progress;
pub use targets::{Target, Targets};
