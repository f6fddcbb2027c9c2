//! Load, chaos and proof: a whole cluster on one machine, and what is asked of it.
//!
//! Responsible for real Redis servers, gateways and processors as processes, for callers that speak to them, for the
//! demonstration of the quickstart and for the measurements. Must never be needed by the cluster itself, and must never
//! assert a time: figures are reported, properties are asserted.
//!
//! | module | |
//! |---|---|
//! | [`cluster`] | starts, breaks and ends Redis, gateways and processors |
//! | [`client`] | speaks HTTP to a gateway as some caller |
//! | [`probe`] | looks into Redis from outside |
//! | [`record`] | what a run saw |
//! | [`demo`] | what `deploy/quickstart.sh` shows |
//! | [`bench_scripts`] | what each script costs Redis |
//! | [`bench_http`] | what a decision costs through HTTP |
//! | [`bench_scopes`] | what a scope costs the gateway that serves it |
//! | [`bench_streams`] | what an open event stream costs |

pub mod error;
pub mod eventually;
pub mod probe;
pub mod client;
pub mod cluster;
pub mod record;
pub mod report;
pub mod demo;
pub mod bench_scripts;
pub mod bench_http;
pub mod bench_scopes;
pub mod bench_streams;
pub mod cli;

pub use client::Client;
pub use cluster::{Cluster, Launcher};
pub use error::HarnessError;
pub use eventually::eventually;
