//! The command line of `portcullis-loadtest`.
//!
//! Responsible for choosing what to run and for the exit code. Must never do the work itself.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::bench_credentials::{self, BenchCredentialsOptions};
use crate::bench_scopes::{self, BenchScopesOptions};
use crate::bench_scripts::{self, BenchScriptsOptions};
use crate::bench_streams::{self, BenchStreamsOptions};
use crate::compare::point::Point;
use crate::compare::{self, CompareOptions};
use crate::demo::{self, DemoOptions};
use crate::error::HarnessError;
use crate::interruption::unless_interrupted;
use crate::invariant;
use crate::report::command::{ReportOptions, diff, report};
use crate::scenario::command::{self, RunOptions, ScenariosOptions};
use crate::simulate::{self, SimulateOptions};

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
    /// Plays scenarios: starts a cluster, sends load, breaks things, checks every invariant and expectation.
    ///
    /// Exit code 0 if all held and was met, 1 if not, 64 if a scenario does not exist or is none.
    Run(RunOptions),
    /// Lists the shipped scenarios, or prints one: a file to begin your own with.
    Scenarios(ScenariosOptions),
    /// Judges the record of a run by every invariant; exit 1 if one is violated.
    Check {
        /// The `record.json` of a run.
        #[arg(value_name = "RECORD")]
        record: PathBuf,
        /// Print the verdicts as JSON.
        #[arg(long)]
        json: bool,
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
    /// Measures admissions and refusals beside points of reference: bare answers, a bare `EVALSHA`, Redis alone.
    Compare {
        /// Measure only these points; all if left out.
        #[arg(long, value_enum, value_delimiter = ',', value_name = "POINT")]
        only: Vec<Point>,
        /// Interleaved rounds of which the median is taken.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
        /// Seconds for each point in a round.
        #[arg(long, default_value = "1", value_parser = seconds)]
        seconds: Duration,
        /// Concurrent connections.
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
        connections: u32,
        /// Tasks of each latency measurement; 0 for none.
        #[arg(long, default_value_t = 2000)]
        tasks: u32,
        /// Print the figures as JSON instead of tables.
        #[arg(long)]
        json: bool,
    },
    /// Judges the record of a run again and shows it. Exit code 1 if the run was not good.
    Report {
        /// The record.json of a run.
        record: PathBuf,
        /// Write one self-contained page with plots here.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
        /// Print the summary as JSON instead of tables.
        #[arg(long)]
        json: bool,
    },
    /// Holds the summary.json of a run against that of an earlier one.
    Diff {
        /// The earlier run.
        before: PathBuf,
        /// The later run.
        after: PathBuf,
        /// Exit with code 1 if any figure is worse by more than this, or anything is newly broken.
        #[arg(long, value_name = "PERCENT", value_parser = percent)]
        worse_than: Option<f64>,
    },
    /// Simulates whole clusters under faults, deterministically: a seed that fails once fails again.
    Simulate {
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many seeds.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
        seeds: u64,
        /// Minutes of cluster time for which callers come, in each run.
        #[arg(long, default_value_t = 1.0, value_parser = minutes)]
        minutes: f64,
        /// Print everything that happens in the run of the first seed instead.
        #[arg(long)]
        trace: bool,
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
    /// Measures what finding out who a caller is costs one gateway, by kind of credential.
    BenchCredentials {
        /// Interleaved rounds of which the median is taken.
        #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
        /// Requests of each kind in a round.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        requests: u32,
        /// Print the figures as JSON instead of a table.
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

/// A time in seconds, with or without a fraction, above 0.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|time| !time.is_zero()).ok_or_else(|| "not a number of seconds above 0".to_owned())
}

/// A percentage such as `10%` or `10`, as a share.
fn percent(text: &str) -> Result<f64, String> {
    let percent: Option<f64> = text.trim_end_matches('%').trim().parse().ok();
    let share = percent.map(|percent| percent / 100.0).filter(|share| share.is_finite() && *share >= 0.0);
    share.ok_or_else(|| "not a percentage of 0 or more, such as 10%".to_owned())
}

/// Runs the command line, program name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    // The two binaries a cluster consists of, so that tests and demonstration need nothing else built, and the server
    // they are measured against. They parse their own arguments, whose first is taken for the program's name.
    match args.get(1).and_then(|name| name.to_str()) {
        Some("gateway") => return portcullis_gateway::cli::run(args.into_iter().skip(1)),
        Some("processor") => return portcullis_processor::cli::run(args.into_iter().skip(1)),
        Some("bare-server") => return compare::bare_server::run(args.into_iter().skip(2)),
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

/// Minutes that a simulation may last: a second to a day.
fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (1.0 / 60.0..=1440.0).contains(&minutes) { Ok(minutes) } else { Err("from a second to a day".to_owned()) }
}

fn execute(command: Command) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&HarnessError::io("starting the runtime")(error)),
    };
    let outcome = runtime.block_on(async {
        match command {
            Command::Demo { once, redis_url } => demo::run(DemoOptions { once, redis_url }).await,
            Command::Run(options) => Box::pin(command::run(options)).await,
            Command::Scenarios(options) => command::scenarios(&options).map(|()| true),
            Command::Check { record, json } => invariant::command::run(&record, json),
            Command::BenchScripts { json, rounds } => {
                let work = bench_scripts::run(BenchScriptsOptions { json, rounds });
                unless_interrupted(Box::pin(work)).await.map(|()| true)
            }
            Command::Compare { only, rounds, seconds, connections, tasks, json } => {
                let options = CompareOptions { only, rounds, time: seconds, connections, tasks, json };
                unless_interrupted(Box::pin(compare::run(options))).await.map(|()| true)
            }
            Command::Report { record, html, json } => report(&ReportOptions { record, html, json }),
            Command::Diff { before, after, worse_than } => diff(&before, &after, worse_than),
            Command::Simulate { seed, seeds, minutes, trace } => {
                let seconds = (minutes * 60.0).round() as u64;
                Ok(simulate::simulate(SimulateOptions { seed, seeds, seconds, trace }))
            }
            Command::BenchScopes { scopes, seconds, json } => {
                let work = bench_scopes::run(BenchScopesOptions { scopes, seconds, json });
                unless_interrupted(Box::pin(work)).await.map(|()| true)
            }
            Command::BenchCredentials { rounds, requests, json } => {
                let options = BenchCredentialsOptions { rounds, requests, json };
                unless_interrupted(Box::pin(bench_credentials::run(options))).await.map(|()| true)
            }
            Command::BenchStreams { streams, seconds, rate, json } => {
                let options = BenchStreamsOptions { streams, seconds, rate, json };
                unless_interrupted(Box::pin(bench_streams::run(options))).await.map(|()| true)
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
    if matches!(error, HarnessError::Misuse(_)) { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_may_have_its_sign() {
        assert_eq!((percent("10%"), percent("0")), (Ok(0.1), Ok(0.0)));
        assert!(["", "%", "-1", "nan", "ten"].iter().all(|text| percent(text).is_err()));
    }

    #[test]
    fn seconds_may_have_a_fraction_but_must_pass() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(["", "0", "-1", "inf", "nan"].iter().all(|text| seconds(text).is_err()));
    }
}
