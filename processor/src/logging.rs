//! Log lines on standard error: JSON for machines, text for a terminal.
//!
//! Must never write to standard output: scripts read that. Nor what a panic says: that may quote a payload or a secret.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// Starts logging; later calls in the same process change nothing. `Err` names a directive that is none.
pub(crate) fn start(filter: &str, format: Option<LogFormat>) -> Result<(), String> {
    let filter = EnvFilter::builder().parse(filter).map_err(|fault| format!("log filter {filter:?}: {fault}"))?;
    let terminal = io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(terminal);
    // Whoever complained about a line that could not be written would write to where it could not be.
    let lines = lines.log_internal_errors(false);
    // An embedding program may have its own subscriber, which then gets everything.
    let _ = match format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Text => lines.try_init(),
    };
    Ok(())
}

/// Has panics of this process logged like everything else, by where they happen; with the backtrace, if
/// `RUST_BACKTRACE` asks for one.
pub(crate) fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string);
        let backtrace = Some(Backtrace::capture()).filter(|trace| trace.status() == BacktraceStatus::Captured);
        tracing::error!(at, backtrace = backtrace.map(tracing::field::display), "a panic");
    }));
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::panic::catch_unwind;
    use std::process::Command;

    use serde_json::Value;

    use super::*;

    /// Tells a test that it is the process of its own that it has started, whose hook it may take over.
    const STARTED: &str = "STARTED_BY_A_TEST";

    fn panic_and_log_it() {
        start("info", Some(LogFormat::Json)).unwrap();
        log_panics();
        catch_unwind(|| panic!("canary")).unwrap_err();
    }

    #[test]
    fn the_log_says_where_it_panicked_and_not_why() {
        if std::env::var_os(STARTED).is_some() {
            return panic_and_log_it();
        }
        let this = "logging::tests::the_log_says_where_it_panicked_and_not_why";
        let mut process = Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", this, "--nocapture"]).env(STARTED, "1").env("RUST_BACKTRACE", "0");
        let output = process.output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && !log.contains("canary"), "{log}");
        let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let [panicked] = &lines[..] else { panic!("{log}") };
        assert!(panicked["at"].as_str().unwrap().contains("logging.rs:"), "{log}");
    }

    #[test]
    fn a_log_that_cannot_be_written_stops_nobody() {
        if std::env::var_os(STARTED).is_some() {
            start("info", Some(LogFormat::Json)).unwrap();
            log_panics();
            tracing::error!("nobody will know");
            return;
        }
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut process = Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", "logging::tests::a_log_that_cannot_be_written_stops_nobody", "--nocapture"]);
        let output = process.env(STARTED, "1").stderr(full).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}
