//! Command lines and the variables that stand for their flags.
//!
//! Responsible for telling the two apart where one is wrong: a flag is bad usage, which whoever typed it sees; a
//! variable is bad configuration of a deployment, and is named. Must never know what a flag means, nor which status a
//! program ends with.
//!
//! A variable that is set but empty counts as not set, as compose files and charts leave those they do not mean.

use std::ffi::OsString;
use std::fmt;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, Error};

/// Why arguments cannot be used.
#[derive(Debug)]
pub enum Misuse {
    /// The command line is wrong, or asks for help.
    Usage(Error),
    /// Variables have values that their flags do not take: all of them.
    Variables(Vec<BadVariable>),
}

/// A variable whose value its flag does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadVariable {
    /// The variable.
    pub name: String,
    /// Its value, as far as it can be shown.
    pub value: Option<String>,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for BadVariable {
    /// One line, whatever the value holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason.replace(['\n', '\r'], " ");
        match &self.value {
            Some(value) => write!(f, "{}: {:?}: {reason}", self.name, value),
            None => write!(f, "{}: {reason}", self.name),
        }
    }
}

/// What these arguments, the first of which is the program's name, and the environment say.
///
/// # Errors
///
/// Why they cannot be used. A bad command line goes before bad variables: they are looked at once it is right.
pub fn arguments(
    command: Command,
    args: impl IntoIterator<Item = OsString>,
) -> Result<(ArgMatches, Vec<String>), Misuse> {
    let args: Vec<OsString> = args.into_iter().collect();
    let command = with_variables(of_the_subcommand(command, &args), &|arg| !is_empty(arg));
    let error = match command.clone().try_get_matches_from(&args) {
        Ok(matches) => {
            let used = used(&command, &matches);
            return Ok((matches, used));
        }
        Err(error) if !is_about_a_value(&error) => return Err(Misuse::Usage(error)),
        Err(error) => error,
    };
    let mut set = Vec::new();
    names(&command, &mut set);
    let fault = |name: String| {
        let alone = with_variables(command.clone(), &|arg| variable(arg).is_some_and(|each| each == name));
        let error = alone.try_get_matches_from(&args).err().filter(is_about_a_value)?;
        Some(BadVariable::of(name, &error))
    };
    let of_line = with_variables(command.clone(), &|_| false).try_get_matches_from(&args).err();
    // What is missing on the command line may be what a variable should have said.
    if let Some(of_line) = of_line.filter(|error| error.kind() != ErrorKind::MissingRequiredArgument) {
        return Err(Misuse::Usage(of_line));
    }
    let faults: Vec<BadVariable> = set.into_iter().filter_map(fault).collect();
    Err(if faults.is_empty() { Misuse::Usage(error) } else { Misuse::Variables(faults) })
}

impl BadVariable {
    fn of(name: String, error: &Error) -> Self {
        let said = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.clone()),
            Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
            _ => None,
        };
        let listed = || said(ContextKind::ValidValue).map(|values| format!("must be one of {values}"));
        let cause = std::error::Error::source(error).map(ToString::to_string);
        let reason = cause.or_else(listed).unwrap_or_else(|| "must be UTF-8".to_owned());
        Self { name, value: said(ContextKind::InvalidValue), reason }
    }
}

fn is_about_a_value(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::InvalidUtf8)
}

fn variable(arg: &Arg) -> Option<String> {
    arg.get_env().map(|name| name.to_string_lossy().into_owned())
}

fn is_empty(arg: &Arg) -> bool {
    arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty())
}

/// The command without the variables of what another subcommand does than the one that is asked for.
fn of_the_subcommand(command: Command, args: &[OsString]) -> Command {
    let line = with_variables(command.clone(), &|_| false).ignore_errors(true).try_get_matches_from(args);
    if line.is_ok_and(|matches| matches.subcommand_name().is_some()) {
        return command.mut_args(|arg| arg.env(Resettable::Reset));
    }
    command
}

/// The command with the variables of these arguments only.
fn with_variables(command: Command, wanted: &dyn Fn(&Arg) -> bool) -> Command {
    let reset = |arg: Arg| if wanted(&arg) { arg } else { arg.env(Resettable::Reset) };
    command.mut_args(reset).mut_subcommands(|subcommand| with_variables(subcommand, wanted))
}

/// The variables of a command and of those under it, each once.
fn names(command: &Command, found: &mut Vec<String>) {
    for name in command.get_arguments().filter_map(variable) {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    command.get_subcommands().for_each(|subcommand| names(subcommand, found));
}

/// The variables that gave a value to the command that was asked for.
fn used(command: &Command, matches: &ArgMatches) -> Vec<String> {
    if let Some((name, matches)) = matches.subcommand() {
        return command.find_subcommand(name).map(|subcommand| used(subcommand, matches)).unwrap_or_default();
    }
    let from_variable = |arg: &&Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::EnvVariable);
    command.get_arguments().filter(|arg| arg.get_env().is_some()).filter(from_variable).filter_map(variable).collect()
}

#[cfg(test)]
mod tests {
    use clap::value_parser;

    use super::*;

    /// Cargo sets these for every test: `0.1.0`, which is no number, and `0`, which is one.
    const TEXT: &str = "CARGO_PKG_VERSION";
    const NUMBER: &str = "CARGO_PKG_VERSION_MAJOR";

    fn command() -> Command {
        let number = |name: &'static str, variable: &'static str| {
            Arg::new(name).long(name).env(variable).value_parser(value_parser!(u8))
        };
        let serve = || [number("bad", TEXT), number("good", NUMBER), Arg::new("choice").long("choice")];
        Command::new("program").args(serve()).subcommand(Command::new("serve").args(serve()))
    }

    fn of(command: Command, line: &str) -> Result<(ArgMatches, Vec<String>), Misuse> {
        arguments(command, std::iter::once("program").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn a_variable_that_its_flag_does_not_take_is_named_once_on_a_line_of_its_own() {
        for line in ["", "serve"] {
            let Err(Misuse::Variables(faults)) = of(command(), line) else { panic!("{line}") };
            let [fault] = &faults[..] else { panic!("{faults:?}") };
            assert_eq!((fault.name.as_str(), fault.value.as_deref()), (TEXT, Some(env!("CARGO_PKG_VERSION"))));
            assert!(fault.to_string().starts_with("CARGO_PKG_VERSION: \"") && !fault.to_string().contains('\n'));
        }
        let choice = command().arg(Arg::new("kind").long("kind").env("CARGO_PKG_NAME").value_parser(["a", "b"]));
        let Err(Misuse::Variables(faults)) = of(choice, "") else { panic!() };
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert_eq!(faults[1].reason, "must be one of a, b");
        let lines = BadVariable { name: "N".to_owned(), value: Some("a\nb".to_owned()), reason: "c\nd".to_owned() };
        assert_eq!(lines.to_string(), r#"N: "a\nb": c d"#);
    }

    #[test]
    fn a_flag_is_bad_usage_and_goes_before_its_variable() {
        for line in ["--bad x", "--good 300", "--nothing", "serve --bad x", "--bad x --nothing"] {
            assert!(matches!(of(command(), line), Err(Misuse::Usage(_))), "{line}");
        }
        let (matches, used) = of(command(), "--bad 7").unwrap();
        assert_eq!((matches.get_one("bad"), used), (Some(&7_u8), vec![NUMBER.to_owned()]));
    }

    #[test]
    fn what_a_bad_variable_should_have_said_is_not_called_missing() {
        let required = command().mut_arg("bad", |arg| arg.required(true));
        assert!(matches!(of(required, ""), Err(Misuse::Variables(faults)) if faults[0].name == TEXT));
        let missing = command().mut_arg("choice", |arg| arg.required(true)).mut_arg("bad", |arg| arg.env(NUMBER));
        assert!(matches!(of(missing, ""), Err(Misuse::Usage(_))));
    }

    #[test]
    fn help_is_asked_for_whatever_the_variables_say() {
        let Err(Misuse::Usage(error)) = of(command(), "--help") else { panic!() };
        assert_eq!(error.kind(), ErrorKind::DisplayHelp);
        assert!(error.to_string().contains(TEXT), "every variable is named: {error}");
        assert!(of(command().subcommand(Command::new("other")), "other").is_ok(), "whatever others' variables say");
    }
}
