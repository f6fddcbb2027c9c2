//! The program `portcullis-gateway`. Must never do more than call the library, which others embed the same way.

use std::process::ExitCode;

fn main() -> ExitCode {
    portcullis_gateway::cli::run(std::env::args_os())
}
