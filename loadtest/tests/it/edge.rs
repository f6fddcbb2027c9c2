//! The edge of the cluster: what clients, pages and load balancers may rely on, and what nobody gets through.
//!
//! Responsible for what shows only on the wire or behind a real balancer. Must never test through a client library what
//! such a library would not send.

mod wire;
mod smuggling;
mod bounds;
mod http2;
mod page;
mod trace;
mod balancer;
mod rolling;
mod goodbye;
mod egress;
