//! The integration tests: a real Redis and real processes for each, all in one binary, which links once.
//!
//! Responsible for the properties that only a whole cluster can show. Must never sleep where there is a condition to
//! wait for, and must never share a cluster between tests.

mod fixture;
mod tidy;
mod startup;
mod exactness;
mod recorded;
mod operations;
mod refusal;
mod submission;
mod caller;
mod identity;
mod life;
mod events;
mod edge;
mod crash;
mod outage;
mod drain;
mod wake;
mod topology;
mod observe;
mod scenario;
mod compare;
mod script;
mod policy;
mod simulate;
mod proxy;
mod decide;
mod revocation;
mod audit;
mod canary;
