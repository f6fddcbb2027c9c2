//! The command line of `portcullis-loadtest`.
//!
//! Responsible for choosing what to run and for the exit code. Must never do the work itself.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::bench_http::{self, BenchHttpOptions};
use crate::bench_scopes::{self, BenchScopesOptions};
use crate::bench_scripts::{self, BenchScriptsOptions};
use crate::bench_streams::{self, BenchStreamsOptions};
use crate::demo::{self, DemoOptions};
use crate::error::HarnessError;

/// Exit code of bad usage (`EX_USAGE` of sysexits).
const USAGE: u8 = 64;

/// Load, chaos and measurement harness of the Portcullis cluster.
#[derive(Debug, Parser)]
#[command(name = "portcullis-loadtest", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts a cluster, sends traffic of all four user types and shows who was admitted, refused and why.
    Demo {
        /// End after the traffic; exit 0 only if all went as it should.
        #[arg(long)]
        once: bool,
        /// Use this Redis, in a scope of a random name, instead of starting one.
        #[arg(long, value_name = "URL")]
        redis_url: Option<String>,
    },
    /// Measures what each script costs Redis, beside `EVALSHA return 1` on the same server in the same run.
    BenchScripts {
        /// Print the figures as JSON instead of tables.
        #[arg(long)]
        json: bool,
        /// Interleaved rounds of which the median is taken.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
    },
    /// Measures what a decision costs through HTTP, beside the same server doing one bare `EVALSHA return 1`.
    BenchHttp {
        /// Seconds for each kind of request.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
        /// Concurrent connections.
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
        connections: u32,
        /// Tasks of the latency measurement.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        tasks: u32,
        /// Print the figures as JSON instead of tables.
        #[arg(long)]
        json: bool,
    },
    /// Measures what each of many scopes costs one gateway and Redis, in use and idle.
    BenchScopes {
        /// Scopes beside the gateway's own.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        scopes: u32,
        /// Seconds for which idle scopes are watched.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
        /// Print the figures as JSON instead of tables.
        #[arg(long)]
        json: bool,
    },
    /// Measures what thousands of open event streams cost one gateway, idle and while tasks write.
    BenchStreams {
        /// Event streams.
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=16_000))]
        streams: u32,
        /// Seconds for which the streams are watched idle, and for which tasks write.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
        /// Pieces of output per second, over all streams.
        #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
        rate: u32,
        /// Print the figures as JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command line, program name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    // The two binaries a cluster consists of, so that tests and demonstration need nothing else built, and the server
    // they are measured against. They parse their own arguments, whose first is taken for the program's name.
    match args.get(1).and_then(|name| name.to_str()) {
        Some("gateway") => return portcullis_gateway::cli::run(args.into_iter().skip(1)),
        Some("processor") => return portcullis_processor::cli::run(args.into_iter().skip(1)),
        Some("bare-server") => return bench_http::bare_server::run(args.into_iter().skip(2)),
        _ => {}
    }
    match Arguments::try_parse_from(args) {
        Ok(arguments) => execute(arguments.command),
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
            // Nobody is left to tell when even standard error is gone.
            drop(error.print());
            code
        }
    }
}

fn execute(command: Command) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&HarnessError::io("starting the runtime")(error)),
    };
    let outcome = runtime.block_on(async {
        match command {
            Command::Demo { once, redis_url } => demo::run(DemoOptions { once, redis_url }).await,
            Command::BenchScripts { json, rounds } => {
                bench_scripts::run(BenchScriptsOptions { json, rounds }).await.map(|()| true)
            }
            Command::BenchHttp { seconds, connections, tasks, json } => {
                let options = BenchHttpOptions { seconds, connections, tasks, json };
                bench_http::run(options).await.map(|()| true)
            }
            Command::BenchScopes { scopes, seconds, json } => {
                bench_scopes::run(BenchScopesOptions { scopes, seconds, json }).await.map(|()| true)
            }
            Command::BenchStreams { streams, seconds, rate, json } => {
                bench_streams::run(BenchStreamsOptions { streams, seconds, rate, json }).await.map(|()| true)
            }
        }
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

fn fail(error: &HarnessError) -> ExitCode {
    use std::io::Write;
    drop(writeln!(std::io::stderr(), "portcullis-loadtest: {error}"));
    ExitCode::FAILURE
}
