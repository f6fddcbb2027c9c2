//! The `portcullis-processor` command. Responsible for nothing but starting [`portcullis_processor::cli`], which other
//! programs embed too.

use std::process::ExitCode;

fn main() -> ExitCode {
    portcullis_processor::cli::run(std::env::args_os())
}
