//! The subcommands about the policy document: `check-config`, `dump-config` and `schema`.
//!
//! Responsible for printing: documents on stdout, faults and warnings on stderr, a line for each. Must never print a
//! secret of the document, because what is printed here ends in build logs.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use portcullis_config::{LoadError, Loaded};

use super::policy_source::{Audience, PolicySource, faults};
use super::{Exit, complain, print};
use crate::admin::redact;

#[derive(Args, Debug)]
pub(crate) struct CheckConfigArgs {
    /// The document, YAML or JSON; `-` reads stdin
    file: PathBuf,
    #[command(flatten)]
    audience: Audience,
    /// How to print the effective document
    #[arg(long, value_enum, default_value_t = OutputFormat::Yaml)]
    format: OutputFormat,
}

#[derive(Args, Debug)]
pub(crate) struct DumpConfigArgs {
    #[command(flatten)]
    source: PolicySource,
    /// How to print the effective document
    #[arg(long, value_enum, default_value_t = OutputFormat::Yaml)]
    format: OutputFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    Yaml,
    Json,
}

/// Prints all faults of a file, or what it means with all defaults filled in.
pub(crate) fn check_config(args: &CheckConfigArgs) -> Exit {
    let text = match read(&args.file) {
        Ok(text) => text,
        Err(error) => {
            complain([format!("{}: {error}", args.file.display())]);
            return Exit::Usage;
        }
    };
    let audience = &args.audience;
    show(portcullis_config::parse(&text, audience.component, &|name| audience.variable(name)), args.format)
}

/// Prints the policy that the environment gives a component.
pub(crate) fn dump_config(args: &DumpConfigArgs) -> Exit {
    show(args.source.load(), args.format)
}

/// Prints the JSON Schema of the policy document.
pub(crate) fn schema() -> Exit {
    print(&format!("{:#}\n", portcullis_config::schema::of_documents()));
    Exit::Success
}

/// The text of a file; `-` is stdin.
pub(super) fn read(file: &Path) -> io::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
}

fn show(loaded: Result<Loaded, LoadError>, format: OutputFormat) -> Exit {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(faults(&error));
            return Exit::Usage;
        }
    };
    complain(loaded.warnings.iter().map(|fault| format!("warning: {}: {}", fault.path, fault.message)));
    let document = redact::document(loaded.document);
    let text = match format {
        OutputFormat::Json => Ok(format!("{document:#}\n")),
        OutputFormat::Yaml => serde_yaml_ng::to_string(&document),
    };
    match text {
        Ok(text) => {
            print(&text);
            Exit::Success
        }
        Err(error) => {
            complain([format!("the effective document cannot be written as YAML: {error}")]);
            Exit::Failure
        }
    }
}
