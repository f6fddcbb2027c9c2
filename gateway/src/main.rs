//! The program `portcullis-gateway`. Must never do more than call the library, which others embed the same way.

use std::process::ExitCode;

/// A request makes some fifty small allocations that end on another thread; the system's allocator took a fifth of the
/// time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    portcullis_gateway::cli::run(std::env::args_os())
}
