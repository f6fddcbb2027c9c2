//! The command line of `portcullis-processor`.
//!
//! Responsible for flags, environment and exit codes: 64 for what is asked wrongly (all faults at once), 78 for a
//! refusal to start open and for a variable whose value is no good, 69 when Redis stays away longer than asked for.
//! Must never start anything before all of it has been checked.

mod args;
mod settings;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches};
use portcullis_config::{Misuse, arguments, logging, masked_words};
use portcullis_lua::Store;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::admin::{self, Admin};
use crate::drain::{Ending, Shutdown};
use crate::metric;
use crate::processor::Processor;
use args::Args;
use settings::{Settings, StartFault};

/// Where no wait is asked for: how long Redis gets to answer before the start goes on without it.
const FIRST_CONTACT: Duration = Duration::from_secs(1);

/// The setting that is read before all others.
const LOG: &str = "PORTCULLIS_LOG";

/// Runs the command with these arguments (the first is the program's name) and the process's environment, until it has
/// drained or was told twice to end.
#[must_use]
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match parse(args) {
        Ok(args) => args,
        Err(Misuse::Usage(message)) => return usage(&message),
        Err(Misuse::Variables(faults)) => {
            return refuse(&StartFault::Variables(faults.iter().map(ToString::to_string).collect()));
        }
    };
    let logging = logging::start(&args.log, args.log_format);
    let logging = logging.map_err(|fault| args.blame(LOG)(vec![format!("{LOG}: {:?}: {fault}", args.log)]));
    let settings = match (logging, Settings::of(args, &environment)) {
        (Ok(()), Ok(settings)) => settings,
        (Err(fault), Ok(_)) | (Ok(()), Err(fault)) => return refuse(&fault),
        (Err(fault), Err(others)) => return refuse(&fault.and(&others)),
    };
    logging::log_panics(|_| {});
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(fault) => return refuse(&StartFault::Other(format!("runtime: {fault}"))),
    };
    match runtime.block_on(work(settings)) {
        Ok(Ending::Drained) => ExitCode::SUCCESS,
        Ok(Ending::Aborted) => ExitCode::FAILURE,
        Err(fault) => refuse(&fault),
    }
}

/// Reads flags and variables.
fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Args, Misuse> {
    let (matches, variables) = arguments(Args::command(), args)?;
    Args::from_arg_matches(&matches).map(|args| Args { variables, ..args }).map_err(Misuse::Usage)
}

/// The process's environment; the host's name stands in where no variable gives it.
fn environment(name: &str) -> Option<String> {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|text| text.trim().to_owned());
    std::env::var(name).ok().or_else(|| if name == "HOSTNAME" { host() } else { None })
}

async fn work(settings: Settings) -> Result<Ending, StartFault> {
    let Settings { store, blame_redis_url, redis_wait, scope, boot, handlers, processor, admin_listen, admin_token } =
        settings;
    let recorder = metric::recorder();
    let store = Store::open(&store).map_err(|fault| blame_redis_url(vec![format!("REDIS_URL: {fault}")]))?;
    let listener = TcpListener::bind(admin_listen)
        .await
        .map_err(|fault| StartFault::Other(format!("admin listener {admin_listen}: {fault}")))?;
    let address = listener.local_addr().map_err(|fault| StartFault::Other(fault.to_string()))?;
    match (store.wait_ready(redis_wait.unwrap_or(FIRST_CONTACT)).await, redis_wait) {
        (Err(fault), Some(_)) => return Err(StartFault::Unreachable(fault.to_string())),
        (Err(fault), None) => tracing::warn!(%fault, "starting without redis"),
        (Ok(()), _) => {}
    }
    let shutdown = Shutdown::new();
    let mut duties = JoinSet::new();
    duties
        .spawn(admin::serve(listener, Admin { metrics: recorder, token: admin_token, drain: shutdown.drain.clone() }));
    let signals = shutdown.clone();
    duties.spawn(async move {
        if let Err(fault) = signals.follow_signals().await {
            tracing::error!(%fault, "signals cannot be followed");
        }
    });
    announce(address);
    let ending = Processor::new(&store, scope, boot, handlers, processor).run(shutdown).await;
    // The listeners go with `duties`; a hung Redis must not keep us from ending.
    let _ = tokio::time::timeout(Duration::from_millis(200), store.close()).await;
    Ok(ending)
}

/// One line for scripts, once the admin listener is bound.
fn announce(admin: std::net::SocketAddr) {
    tracing::info!(%admin, "listening");
    // Whoever closed our standard output does not want to know.
    let _ = writeln!(std::io::stdout(), "listening admin={admin}");
}

fn usage(message: &clap::Error) -> ExitCode {
    // Help and version were asked for; everything else is a mistake, which may have a password in it.
    if message.use_stderr() {
        let said = masked_words(&message.render().to_string());
        return refuse(&StartFault::Usage(vec![said.trim_end().to_owned()]));
    }
    let _ = message.print();
    ExitCode::SUCCESS
}

fn refuse(fault: &StartFault) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{fault}");
    ExitCode::from(fault.exit_code())
}
