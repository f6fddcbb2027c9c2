//! The subcommand `diff-config`: what a policy document would change.
//!
//! Responsible for printing the difference between what two documents *mean*, for both components, with all defaults
//! filled in. Must never print a secret, because what is printed here ends in build logs.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use portcullis_config::{Component, Policy, PolicyChange, TakesEffect, compare, parse};
use serde_json::{Value, json};

use super::document::read;
use super::policy_source::{faults, variable};
use super::{Exit, complain, print};
use crate::admin::redact;

/// Status for documents that differ, as of `diff`.
const DIFFERENT: Exit = Exit::Failure;

#[derive(Args, Debug)]
pub(crate) struct DiffConfigArgs {
    /// The document as it is, YAML or JSON; `-` reads stdin
    old: PathBuf,
    /// The document as it is to be, YAML or JSON; `-` reads stdin
    new: PathBuf,
    /// Tenant, where a document leaves it open
    #[arg(long, value_name = "NAME", env = "TENANT_ID")]
    tenant: Option<String>,
    /// Project, where a document leaves it open
    #[arg(long, value_name = "NAME", env = "PROJECT_ID")]
    project: Option<String>,
    /// How to print the changes
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    Text,
    Json,
}

impl DiffConfigArgs {
    fn variable(&self, name: &str) -> Option<String> {
        match name {
            "TENANT_ID" => self.tenant.clone(),
            "PROJECT_ID" => self.project.clone(),
            _ => variable(name),
        }
    }
}

/// Prints what differs between two documents; succeeds if nothing does.
pub(crate) fn diff_config(args: &DiffConfigArgs) -> Exit {
    match differences(args) {
        Ok(changes) => {
            print(&written(&changes, args.format));
            if changes.is_empty() { Exit::Success } else { DIFFERENT }
        }
        Err(lines) => {
            complain(lines);
            Exit::Usage
        }
    }
}

/// What differs, or all that is wrong with either document.
fn differences(args: &DiffConfigArgs) -> Result<Vec<PolicyChange>, Vec<String>> {
    if args.old == args.new && args.old == Path::new("-") {
        return Err(vec!["only one of the two documents can be read from stdin".to_owned()]);
    }
    let policies = |file: &Path| {
        let named = |line: String| format!("{}: {line}", file.display());
        let policies = read(file).map_err(|error| vec![error.to_string()]).and_then(|text| policies(&text, args));
        policies.map_err(|lines| lines.into_iter().map(named).collect::<Vec<_>>())
    };
    compared(policies(&args.old), policies(&args.new))
}

/// What both components make of a document, or all its faults.
type Policies = Result<[Policy; 2], Vec<String>>;

fn policies(text: &str, args: &DiffConfigArgs) -> Policies {
    let load = |component| match parse(text, component, &|name| args.variable(name)) {
        Ok(loaded) => Ok(loaded.policy),
        Err(error) => Err(faults(&error)),
    };
    Ok([load(Component::Ingress)?, load(Component::Proc)?])
}

fn compared(old: Policies, new: Policies) -> Result<Vec<PolicyChange>, Vec<String>> {
    match (old, new) {
        (Ok(old), Ok(new)) => Ok(compare(&old, &new)),
        (old, new) => Err([old.err(), new.err()].into_iter().flatten().flatten().collect()),
    }
}

fn written(changes: &[PolicyChange], format: OutputFormat) -> String {
    match format {
        OutputFormat::Text => changes.iter().map(line).collect(),
        OutputFormat::Json => format!("{:#}\n", json!({ "changes": redact::document(json!(changes)) })),
    }
}

fn line(change: &PolicyChange) -> String {
    let shown = |value: &Option<Value>| match value {
        Some(value) => redact::document(value.clone()).to_string(),
        None => "(none)".to_owned(),
    };
    let note = match change.takes_effect {
        TakesEffect::AtOnce => "",
        TakesEffect::AfterRestart => "  (after a restart)",
        TakesEffect::Never => "  (without effect)",
    };
    format!("{}: {} -> {}{note}\n", change.path, shown(&change.before), shown(&change.after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> DiffConfigArgs {
        DiffConfigArgs {
            old: "-".into(),
            new: "-".into(),
            tenant: Some("acme".to_owned()),
            project: Some("shop".to_owned()),
            format: OutputFormat::Text,
        }
    }

    fn diff(old: &str, new: &str) -> Result<Vec<PolicyChange>, Vec<String>> {
        compared(policies(old, &args()), policies(new, &args()))
    }

    #[test]
    fn changes_are_told_a_line_each_with_when_they_take_effect() {
        let old = "queue: { lease_ms: 5000 }\nkinds: { chat: { cost: 2 } }\nredis_url: redis://:old-canary@db";
        let new = "gateway: { limits: { ingress: { max_queue_size: 9 } }, \
                   service_capacity: { processes_per_instance: 2 }, \
                   pools: { pg_max_connections: 5 }, redis_url: 'redis://:new-canary@db', queue: { lease_ms: 6000 } }";
        let changes = diff(old, new).unwrap();
        let text = written(&changes, OutputFormat::Text);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "kinds.chat: {\"cost\":2} -> (none)",
                "limits.ingress.max_queue_size: 0 -> 9",
                "pools.pg_max_connections: (none) -> 5  (without effect)",
                "queue.lease_ms: 5000 -> 6000",
                "redis_url: \"redis://***@db\" -> \"redis://***@db\"  (after a restart)",
                "service_capacity.processes_per_instance: 1 -> 2  (after a restart)",
            ]
        );
        let json = written(&changes, OutputFormat::Json);
        let shown: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(shown["changes"][3]["takes_effect"], "at_once");
        assert!(!json.contains("canary") && shown["changes"][0].get("after").is_none(), "{json}");
    }

    #[test]
    fn documents_that_mean_the_same_do_not_differ() {
        assert_eq!(diff("{}", "queue: { lease_ms: 10000 }\nlimits: { proc: {}, ingress: {} }").unwrap(), []);
    }

    #[test]
    fn the_faults_of_both_documents_are_told() {
        let lines = diff("queue: { lease: 1 }", "limits: 5\nprofile: prod").unwrap_err();
        let places: Vec<&str> = lines.iter().filter_map(|line| line.split(": ").next()).collect();
        assert_eq!(places, ["queue.lease", "profile", "limits"]);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_and_stdin_is_read_once() {
        assert_eq!(differences(&args()).unwrap_err().len(), 1);
        let missing = DiffConfigArgs { old: "/no/such/old".into(), new: "/no/such/new".into(), ..args() };
        let lines = differences(&missing).unwrap_err();
        assert!(lines.len() == 2 && lines[0].starts_with("/no/such/old: "), "{lines:?}");
    }
}
