//! What the cluster is told: the policy, its shipped defaults, where it is read from, and whether it makes sense.
//!
//! A document passes [`load`] in this order: one form, environment, slices, the shipped policy beneath, shape,
//! relations. [`amend`] makes the next document of the current one and what an operator wants changed. What the
//! programs have in common when they start stands here, too: their arguments, and [`logging`].
//! Must never talk to Redis or to the network, and must never let a default number stand anywhere but in
//! `default.yaml`.

pub mod identity;
pub mod policy;
pub mod shipped;
pub mod logging;

mod fault;
mod document;
mod shape;
mod slices;
pub mod schema;
mod alias;
mod placeholder;

pub mod route;
mod check;
mod source;
mod secret_name;
mod redis_url;
mod open_redis;
mod weakness;
mod examine;
mod storable;
mod load;
mod arguments;

mod takes_effect;
mod changes;
mod patch;
mod amend;

pub use amend::{Amended, Amendment, amend};
pub use arguments::{BadVariable, Misuse, arguments};
pub use changes::{PolicyChange, changes, compare};
pub use document::{from_either, from_json, merge_patch};
pub use fault::{Fault, nearest};
pub use identity::{InvalidName, Scope, UserType};
pub use load::{LoadError, Loaded, for_scope, from_env, load, parse, parse_value};
pub use open_redis::open_redis;
pub use policy::Policy;
pub use redis_url::{RedisUrl, masked, masked_words};
pub use route::{RouteClass, Routes};
pub use secret_name::{is_secret_name, is_secret_parameter};
pub use shape::shape_faults;
pub use slices::{Component, UnknownComponent};
pub use source::Source;
pub use storable::storable;
pub use takes_effect::TakesEffect;
pub use weakness::weakness;
