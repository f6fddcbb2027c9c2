//! `portcullis-loadtest`: chooses what to run.
//!
//! Responsible for nothing else. Must never hold logic: the tests run the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    portcullis_loadtest::cli::run(std::env::args_os())
}
