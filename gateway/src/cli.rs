//! The command line of a gateway: what it accepts, what it prints and the status it ends with.
//!
//! Responsible for turning flags and environment variables into options and for saying all that is wrong with them.
//! Must never hold a rule of admission. It is a library function, so that the load-test program runs the very same
//! gateway as a child process.
//!
//! Every flag of what runs in a deployment has an environment variable; a variable that is set but empty counts as not
//! set. Secrets have a variable or a file only, because the arguments of a process can be read by every user of the
//! machine.

mod policy_source;
mod document;
mod diff_config;
mod start;
mod signals;
mod descriptors;
mod serve;
mod token;
mod verify_audit;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use portcullis_config::{BadVariable, Misuse, arguments};

use crate::admin::redact;

const EXIT_STATUSES: &str = "\
Secrets, in the environment only:
  PORTCULLIS_ADMIN_TOKEN  bearer token of the admin listener; at least 32 bytes; required by `serve`
  GATEWAY_CONFIG_JSON     the policy document itself; wins over every file

Exit status:
  0   ended as asked: drained, or all well with the document, or no difference, or a chain is whole and genuine
  1   failed: a listener could not be bound, or the drain was cut short by a second signal; or: documents differ; or: a
      chain does not verify
  64  bad usage or a document with faults; every fault is listed on stderr
  69  Redis was not reached within --redis-wait-ms
  78  refused to start open to the world, or with a variable whose value is no good; each line names the setting";

/// Decides who may in: the stateless gateway of a Portcullis cluster.
#[derive(Debug, Parser)]
#[command(name = "portcullis-gateway", version, after_help = EXIT_STATUSES, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve (what happens without a subcommand, too).
    Serve(Box<serve::ServeArgs>),
    /// Print all faults of a policy document, or what it means with all defaults filled in.
    CheckConfig(document::CheckConfigArgs),
    /// Print what a policy document would change, and when that takes effect.
    DiffConfig(diff_config::DiffConfigArgs),
    /// Print the policy that the environment gives a component.
    DumpConfig(document::DumpConfigArgs),
    /// Print the JSON Schema of the policy document.
    Schema,
    /// Make and read keys, delegations and API keys.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Say whether an exported chain of audit events or decisions is whole.
    VerifyAudit(verify_audit::VerifyAuditArgs),
}

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Success,
    Failure,
    /// `EX_USAGE`: bad usage or bad configuration.
    Usage,
    /// `EX_UNAVAILABLE`: Redis was not reached in the time given.
    Unavailable,
    /// `EX_CONFIG`: it would have been open to the world, or its environment has a value that is no good.
    Refused,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Success => Self::SUCCESS,
            Exit::Failure => Self::FAILURE,
            Exit::Usage => Self::from(64),
            Exit::Unavailable => Self::from(69),
            Exit::Refused => Self::from(78),
        }
    }
}

/// Runs the program with these arguments, the first of which is its name, and the environment of this process.
///
/// Returns when it has ended; call it from outside a Tokio runtime.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match parse(args) {
        Ok(cli) => match cli.command {
            None => serve::serve(cli.serve),
            Some(Command::Serve(args)) => serve::serve(*args),
            Some(Command::CheckConfig(args)) => document::check_config(&args),
            Some(Command::DiffConfig(args)) => diff_config::diff_config(&args),
            Some(Command::DumpConfig(args)) => document::dump_config(&args),
            Some(Command::Schema) => document::schema(),
            Some(Command::Token(command)) => token::token(&command),
            Some(Command::VerifyAudit(args)) => verify_audit::verify_audit(&args),
        },
        Err(misuse) => refuse_misuse(&misuse),
    }
    .into()
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Misuse> {
    let (matches, used) = arguments(Cli::command(), args)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(Misuse::Usage)?;
    match &mut cli.command {
        None => cli.serve.variables = used,
        Some(Command::Serve(args)) => args.variables = used,
        Some(_) => {}
    }
    Ok(cli)
}

fn refuse_misuse(misuse: &Misuse) -> Exit {
    match misuse {
        Misuse::Usage(error) => refuse_usage(error),
        Misuse::Variables(faults) => {
            complain(faults.iter().map(variable_fault));
            Exit::Refused
        }
    }
}

fn refuse_usage(error: &clap::Error) -> Exit {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Nobody is left to tell if stdout is gone.
        let _ = error.print();
        return Exit::Success;
    }
    complain([usage_fault(error)]);
    Exit::Usage
}

/// What is wrong with a variable. It quotes the value, which may be a URL with a password.
fn variable_fault(fault: &BadVariable) -> String {
    redact::text(&fault.to_string())
}

/// What is wrong with the usage. It quotes the value, which may be a URL with a password.
fn usage_fault(error: &clap::Error) -> String {
    redact::text(error.render().to_string().trim_end())
}

/// Prints each line on stderr.
fn complain(lines: impl IntoIterator<Item = String>) {
    let mut stderr = io::stderr().lock();
    for line in lines {
        // Nobody is left to tell if stderr is gone.
        let _ = writeln!(stderr, "{line}");
    }
}

/// Prints text on stdout; a reader that has gone away (`| head`) is no failure.
fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Cli, Misuse> {
        parse(std::iter::once("portcullis-gateway").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serving_is_what_happens_without_a_subcommand() {
        assert!(parse_line("--drain-seconds 3").unwrap().command.is_none());
        assert!(matches!(parse_line("serve --drain-seconds 3").unwrap().command, Some(Command::Serve(_))));
    }

    #[test]
    fn bad_usage_is_64_and_help_is_0() {
        for line in [
            "--no-such-flag",
            "no-such-command",
            "--listen nowhere",
            "check-config",
            "--store-timeout-ms 0",
            "token",
            "token mint",
        ] {
            assert_eq!(refuse_misuse(&parse_line(line).unwrap_err()), Exit::Usage, "{line}");
        }
        for line in ["--help", "--version", "serve --help", "help", "token attenuate --help"] {
            assert_eq!(refuse_misuse(&parse_line(line).unwrap_err()), Exit::Success, "{line}");
        }
    }

    #[test]
    fn a_value_that_is_no_good_is_quoted_without_its_secrets() {
        let usage = |line: &str| match parse_line(line) {
            Err(Misuse::Usage(error)) => usage_fault(&error),
            other => panic!("{other:?}"),
        };
        for url in ["http://user:canary@app:80", "http://app:80/?api_key=canary", "http://canary@app"] {
            let fault = usage(&format!("serve --upstream-url {url}"));
            assert!(fault.contains("--upstream-url") && !fault.contains("canary"), "{fault}");
            let value = Some(url.to_owned());
            let fault = BadVariable { name: "UPSTREAM_URL".to_owned(), value, reason: "is none".to_owned() };
            let line = variable_fault(&fault);
            assert!(line.starts_with("UPSTREAM_URL: ") && !line.contains("canary"), "{line}");
        }
        let fault = usage("serve --trusted-proxy-count one");
        assert!(fault.contains("'one'"), "{fault}");
    }

    #[test]
    fn every_flag_of_what_is_deployed_names_its_environment_variable() {
        let command = Cli::command();
        let deployed = command.get_subcommands().filter(|subcommand| subcommand.get_name() != "verify-audit");
        let subcommands = deployed.flat_map(clap::Command::get_arguments);
        for arg in command.get_arguments().chain(subcommands).filter(|arg| arg.get_long().is_some()) {
            let built_in = matches!(arg.get_id().as_str(), "help" | "version" | "format");
            assert!(built_in || arg.get_env().is_some(), "--{} has no variable", arg.get_long().unwrap());
        }
    }
}
