//! What the cluster is told: the policy, its shipped defaults, where it is read from, and whether it makes sense.
//!
//! Must never talk to Redis or to the network, and must never let a default number stand anywhere but in `default.yaml`.

pub mod identity;
pub mod policy;

pub use identity::{InvalidName, Scope, UserType};
pub use policy::Policy;
