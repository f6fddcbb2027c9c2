//! The audit: one event for each decision, or a count of those that cost no call, and chains that show what was done to
//! them.
//!
//! Responsible for the whole way from an answer over HTTP to an export that is checked without Redis. Must never count
//! an answer that no gate gave.

pub(crate) mod counted;
mod ended;
pub(crate) mod export;
mod unended;
mod unwritable;
