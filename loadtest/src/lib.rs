//! Load, chaos and proof: a whole cluster on one machine, and what is asked of it.
//!
//! Responsible for real Redis servers, gateways and processors as processes, for callers that speak to them, for the
//! demonstration of the quickstart and for the measurements. Must never be needed by the cluster itself, and must never
//! assert a time: figures are reported, properties are asserted.
//!
//! | module | |
//! |---|---|
//! | [`cluster`] | starts, breaks and ends Redis, gateways and processors |
//! | [`interruption`] | hears that somebody wants the harness to end |
//! | [`client`] | speaks HTTP to a gateway as some caller |
//! | [`credentials`] | whom gateways believe, and what can be presented to them |
//! | [`probe`] | looks into Redis from outside |
//! | [`record`] | what a run saw |
//! | [`report`] | figures, tables, plots, differences |
//! | [`model`] | the rules of the scripts, in plain Rust |
//! | [`simulate`] | whole clusters over the model, with every accident injected, thousands of seeds |
//! | [`observe`] | watches a run: handlers, decision events, samples, the end |
//! | [`invariant`] | what must be true of every record |
//! | [`load`] | offers a load and keeps account of every call |
//! | [`fault`] | what can be done to a cluster under load |
//! | [`scenario`] | a cluster, a load, faults and expectations, as files |
//! | [`demo`] | what `deploy/quickstart.sh` shows |
//! | [`bench_scripts`] | what each script costs Redis |
//! | [`compare`] | the same work against points of reference |
//! | [`bench_scopes`] | what a scope costs the gateway that serves it |
//! | [`bench_credentials`] | what each kind of credential costs |
//! | [`bench_streams`] | what an open event stream costs |

pub mod error;
pub mod eventually;
pub mod interruption;
pub mod probe;
pub mod client;
pub mod cluster;
pub mod credentials;
pub mod record;
pub mod observe;
pub mod invariant;
pub mod load;
pub mod report;
pub mod fault;
pub mod scenario;
pub mod demo;
pub mod bench_scripts;
pub mod compare;
pub mod bench_scopes;
pub mod bench_credentials;
pub mod model;
pub mod simulate;
pub mod bench_streams;
pub mod cli;

pub use client::Client;
pub use cluster::{Cluster, Launcher};
pub use error::HarnessError;
pub use eventually::eventually;
