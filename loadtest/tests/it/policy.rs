//! The policy at run time: what is stored, who holds it, and that no decision is made under another one.
//!
//! Responsible for the promises of a policy change: never half applied, never lost, never two at once. Must never look
//! at a replica from inside: what it holds is told by its answers and by Redis.

mod replica;
mod revise;
mod recovery;
mod operator;
mod update;
mod refused_update;
mod killed_writer;
pub(crate) mod deaf;
mod cutover;
mod convergence;
mod silence;
mod loss;
mod live;
mod scopes;
mod boot;
