//! Revocation on real gateways, processors and Redis: from the moment it is answered nobody who dies with what was
//! revoked is admitted or run, and soon nobody of them is answered anywhere.
//!
//! Responsible for what only a whole cluster can show. Must never ask only the gateway that revoked: what counts is
//! what the others know.

mod cast;
mod flood;
mod ancestors;
mod queued;
mod stubborn;
mod late;
mod lost;
mod many;
mod full;
mod unreachable;
mod frozen;
mod failover;
