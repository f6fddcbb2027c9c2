//! Log lines of the programs, on standard error: JSON for machines, text for a terminal.
//!
//! Responsible for the filter and the format, chosen at start, and for what is told of a panic: its place. Must never
//! write to standard output, which scripts read, and never be given a secret: tokens and URLs with passwords do not
//! print, and what a panic says may quote a request, so it is not told.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// What a log line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line, for machines.
    Json,
    /// A line of text, for people.
    Text,
}

/// Starts logging what passes `filter`; without a format, text on a terminal and JSON elsewhere.
///
/// Only the first call of a process has an effect: an embedding program may have a subscriber of its own, which then
/// gets everything.
///
/// # Errors
///
/// If the filter cannot be read.
pub fn start(filter: &str, format: Option<LogFormat>) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let terminal = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(terminal);
    // Whoever complained about a line that could not be written would write to where it could not be.
    let lines = lines.log_internal_errors(false);
    let started = match format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json }) {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Text => lines.try_init(),
    };
    if started.is_err() {
        tracing::debug!("this process has a subscriber already; its filter and format stay");
    }
    Ok(())
}

/// Has panics of this process logged like everything else, by where they happen, and `noted` on the thread that panics;
/// with the backtrace, if `RUST_BACKTRACE` asks for one.
pub fn log_panics(noted: impl Fn(&str) + Send + Sync + 'static) {
    panic::set_hook(Box::new(move |panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = Some(Backtrace::capture()).filter(|trace| trace.status() == BacktraceStatus::Captured);
        tracing::error!(at, backtrace = backtrace.map(tracing::field::display), "a panic");
        noted(&at);
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
        log_panics(|_| {});
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
            log_panics(|_| {});
            tracing::error!("nobody will know");
            return;
        }
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut process = Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", "logging::tests::a_log_that_cannot_be_written_stops_nobody", "--nocapture"]);
        let output = process.env(STARTED, "1").stderr(full).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error() {
        assert!(start("portcullis_gateway=loud", None).is_err());
    }
}
