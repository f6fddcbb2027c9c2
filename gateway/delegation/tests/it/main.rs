//! Tests of delegation chains as a stranger meets them: through the public interface only.
//!
//! Responsible for one binary with a file per promise. Must never use anything but what a tool server has.

mod forge;
mod golden;
mod mutation;
mod text;
mod assembly;
mod random;
mod proof;
mod fuzz;
