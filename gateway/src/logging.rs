//! Where log lines go and what they look like.
//!
//! Responsible for the filter and the format, chosen at start. Lines go to stderr: stdout belongs to what the commands
//! print. Must never be given a secret: tokens and URLs with passwords are `SecretString`s, which do not print.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// What a log line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object per line, for machines.
    Json,
    /// A line of text, for people.
    Text,
}

/// Starts logging what passes `filter`; without a format, text on a terminal and JSON elsewhere.
///
/// Only the first call of a process has an effect. Fails if the filter cannot be read.
pub fn init(filter: &str, format: Option<Format>) -> Result<(), ParseError> {
    let terminal = io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().parse(filter)?)
        .with_writer(io::stderr)
        // Whoever complained about a line that could not be written would write to where it could not be.
        .log_internal_errors(false)
        .with_ansi(terminal);
    let started = match format.unwrap_or(if terminal { Format::Text } else { Format::Json }) {
        Format::Json => subscriber.json().flatten_event(true).try_init(),
        Format::Text => subscriber.try_init(),
    };
    if started.is_err() {
        tracing::debug!("this process has a subscriber already; its filter and format stay");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::process::Command;

    use super::*;
    use crate::caught::log_panics;

    /// Tells a test that it is the process of its own that it has started, whose log nobody can write.
    const STARTED: &str = "STARTED_BY_A_TEST_OF_LOGS";

    #[test]
    fn a_log_that_cannot_be_written_stops_nobody() {
        if std::env::var_os(STARTED).is_some() {
            init("info", Some(Format::Json)).unwrap();
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

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error() {
        assert!(init("portcullis_gateway=loud", None).is_err());
    }
}
