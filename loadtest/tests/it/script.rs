//! The scripts, each against a model or an oracle, on a real Redis, with the time injected.
//!
//! Responsible for what the headers of `lua/*.lua` guarantee, over random inputs. Must never look at how a script does
//! it: the model knows the rules, the oracles know the definitions, and neither knows the scripts.

pub(crate) mod stage;
mod ticks;
mod operation;
mod cast;
mod sequence;
mod arrival;
mod limit;
mod hop;
mod reshape;
mod refusal;
mod contention;
mod probe;
pub(crate) mod pass;
mod pass_at_once;
mod pass_damaged;
mod kind;
mod share;
mod claim;
mod reclaim;
pub(crate) mod slot;
mod silent;
mod shelf;
mod look;
mod session;
mod revocation;
mod revocation_read;
mod revoked_task;
mod write_limit;
mod once;
mod grant;
mod chain;
pub(crate) mod ended;
