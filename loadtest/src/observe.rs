//! Watching a run from outside: the harness's own handlers, the decision events, samples of the state, the end.
//!
//! Responsible for what a record needs that no client can see. Must never change anything in the cluster, and must go
//! on watching while Redis is away: an outage is when watching is worth most.

pub mod work;
pub mod backend;
mod decision_tail;
mod gauge;
mod process;
mod policy_view;
mod settled;
pub mod observer;

pub use backend::Backend;
pub use observer::{Observed, Observer, ObserverOptions, Prepared};
pub use work::{ServiceTime, Work};
