//! The protocol in Redis.
pub mod decision;
pub mod task;
mod stub;
pub use decision::*;
pub use task::*;
pub use stub::*;
