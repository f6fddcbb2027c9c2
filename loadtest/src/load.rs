//! The load generator: who calls when, and an account of every call.
//!
//! Responsible for offering a cluster the load a plan describes, whatever the cluster does about it. Must never let a
//! slow answer delay a scheduled request, lose a call, or hide that it was itself the bottleneck.
//!
//! | module | |
//! |---|---|
//! | [`plan`] | what load is sent, as in scenario files |
//! | [`targets`] | where it goes |
//! | [`meter`] | the run so far |
//! | [`journal`], [`latency`] | every call, and how long calls took |

pub mod plan;
pub mod targets;
pub mod meter;
pub mod journal;
pub mod latency;

pub use journal::Journal;
pub use meter::{Meter, Reading};
pub use plan::{Plan, Stream};
pub use targets::{Target, Targets};
