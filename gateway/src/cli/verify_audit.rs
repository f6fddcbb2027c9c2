//! `verify-audit`: whether an exported chain of audit events or decisions is whole.
//!
//! Responsible for reading an export and for saying where its chain breaks first. Must never ask Redis or a gateway:
//! who checks a record does not ask the one who kept it.

use std::path::PathBuf;

use clap::Args;
use portcullis_lua::{ChainEntry, ChainHead, ChainRange, ExportLine, verify_chain};

use super::document::read;
use super::{Exit, complain, print};

#[derive(Args, Debug)]
pub(crate) struct VerifyAuditArgs {
    /// The export, newline-delimited JSON as of `GET /admin/audit/export`; `-` reads stdin. Several can stand one after
    /// the other
    file: PathBuf,
    /// Hash of an entry that was noted elsewhere, such as the newest of some earlier day: it must be among them
    #[arg(long, value_name = "HASH")]
    head: Option<String>,
}

/// What an export holds.
#[derive(Debug, Default)]
struct Export {
    entries: Vec<ChainEntry>,
    /// The heads that it names: of each piece its own.
    heads: Vec<ChainHead>,
    /// Whether its last line is a head, even of a chain that has none.
    ended: bool,
}

/// Says what is in the export, and fails if something was taken out, put in, moved or changed.
pub(crate) fn verify_audit(args: &VerifyAuditArgs) -> Exit {
    let export = match read(&args.file) {
        Ok(text) => parse(&text),
        Err(error) => Err(vec![format!("{}: {error}", args.file.display())]),
    };
    match export {
        Ok(export) => judge(&export, args.head.as_deref()),
        Err(faults) => {
            complain(faults);
            Exit::Usage
        }
    }
}

/// Reads an export, or names every line that is none of one.
fn parse(text: &str) -> Result<Export, Vec<String>> {
    let (mut export, mut faults) = (Export::default(), Vec::new());
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        export.ended = false;
        match serde_json::from_str(line) {
            Ok(ExportLine::Entry(entry)) => export.entries.push(entry),
            Ok(ExportLine::Head { head }) => {
                export.ended = true;
                export.heads.extend(head);
            }
            Err(_) => faults.push(format!("line {}: neither an entry nor a head of a chain", index + 1)),
        }
    }
    if export.entries.is_empty() && !export.ended && faults.is_empty() {
        faults.push("there is no line: even of a chain that has no entry, an export has a head".to_owned());
    }
    if faults.is_empty() { Ok(export) } else { Err(faults) }
}

fn judge(export: &Export, noted: Option<&str>) -> Exit {
    let range = match whole(export, noted) {
        Ok(range) => range,
        Err(broken) => {
            print(&format!("broken: {broken}\n"));
            return Exit::Failure;
        }
    };
    print(&match range {
        None => "whole: no entries\n".to_owned(),
        Some(range) => format!(
            "whole: {} entries, {} to {}, the last with hash {}\n",
            export.entries.len(),
            range.first,
            range.last.number,
            range.last.hash
        ),
    });
    if !export.ended {
        complain(["warning: the export does not end with a head: that its newest entries are missing would not be \
                   noticed"
            .to_owned()]);
    }
    Exit::Success
}

/// What the export holds, or where its chain breaks: within, or from a head that was noted, in it or elsewhere.
fn whole(export: &Export, noted: Option<&str>) -> Result<Option<ChainRange>, String> {
    let newest = export.heads.iter().max_by_key(|head| head.number);
    let range = verify_chain(&export.entries, newest).map_err(|broken| broken.to_string())?;
    let claimed: Vec<ChainHead> = export.entries.iter().filter_map(ChainEntry::claimed).collect();
    let named = |entry: &ChainHead| export.heads.iter().find(|head| head.number == entry.number && *head != entry);
    if let Some(head) = claimed.iter().find_map(named) {
        return Err(format!("a head names another entry {}: the chain was written anew since", head.number));
    }
    let found = |noted: &str| claimed.iter().any(|head| head.hash.eq_ignore_ascii_case(noted));
    match noted.filter(|noted| !found(noted)) {
        Some(noted) => {
            Err(format!("no entry has the hash {noted}: the chain is another, or its part with it is missing"))
        }
        None => Ok(range),
    }
}
