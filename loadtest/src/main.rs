//! `portcullis-loadtest`: chooses what to run.
//!
//! Responsible for nothing else. Must never hold logic: the tests run the library.

use std::process::ExitCode;

/// A request makes some fifty small allocations that end on another thread; the system's allocator took a fifth of the
/// time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    portcullis_loadtest::cli::run(std::env::args_os())
}
