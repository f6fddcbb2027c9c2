//! Secrets that are looked for everywhere after they were presented in every way: none is found.
//!
//! Responsible for good credentials and for bad ones, at trace level. Must never look where nothing can be found: marks
//! that are no secrets have to be found in the same places.

mod watch;
mod presented;
mod astray;
