//! `verify-audit`: whether an exported chain of audit events or decisions is whole.
//!
//! Responsible for reading an export and for saying where its chain breaks first. Must never ask Redis or a gateway:
//! who checks a record does not ask the one who kept it.

use std::path::PathBuf;

use clap::Args;
use portcullis_lua::{ChainEntry, ChainHead, ExportLine, verify_chain};

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
    /// The newest head that it names.
    head: Option<ChainHead>,
    /// Whether it names one at all, even if there was none.
    has_head: bool,
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
        match serde_json::from_str(line) {
            Ok(ExportLine::Entry(entry)) => export.entries.push(entry),
            Ok(ExportLine::Head { head }) => {
                export.has_head = true;
                let newest = |head: &ChainHead| export.head.as_ref().is_none_or(|known| known.number < head.number);
                if let Some(head) = head.filter(newest) {
                    export.head = Some(head);
                }
            }
            Err(_) => faults.push(format!("line {}: neither an entry nor a head of a chain", index + 1)),
        }
    }
    if faults.is_empty() { Ok(export) } else { Err(faults) }
}

fn judge(export: &Export, noted: Option<&str>) -> Exit {
    let range = match verify_chain(&export.entries, export.head.as_ref()) {
        Ok(range) => range,
        Err(broken) => {
            print(&format!("broken: {broken}\n"));
            return Exit::Failure;
        }
    };
    let found = |noted: &str| export.entries.iter().filter_map(ChainEntry::claimed).any(|head| head.hash == noted);
    if let Some(noted) = noted.filter(|noted| !found(&noted.to_ascii_lowercase())) {
        print(&format!(
            "broken: no entry has the hash {noted}: the chain is another, or its part with it is missing\n"
        ));
        return Exit::Failure;
    }
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
    if !export.has_head {
        complain([
            "warning: the export names no head: that its newest entries are missing would not be noticed".to_owned()
        ]);
    }
    Exit::Success
}
