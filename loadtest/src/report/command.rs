//! The subcommands `report` and `diff`: from files a run wrote to what people and CI read.
//!
//! Responsible for reading and writing files and for the outcome. Must never measure.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::error::HarnessError;
use crate::invariant;
use crate::record::Record;
use crate::report::difference::difference;
use crate::report::{ExpectationResult, Summary, html, say, terminal};

/// What `diff` marks when it is not told how much is worse.
const MARKED: f64 = 0.1;

/// What to report.
#[derive(Clone, Debug)]
pub struct ReportOptions {
    /// The `record.json` of a run.
    pub record: PathBuf,
    /// Where to write the page; none is written without.
    pub html: Option<PathBuf>,
    /// Print the summary as JSON instead of tables.
    pub json: bool,
}

/// Judges and shows a record again. Whether the run was good.
pub fn report(options: &ReportOptions) -> Result<bool, HarnessError> {
    let record: Record = read(&options.record)?;
    let expectations = expectations(&options.record, &record);
    let summary = Summary::of(&record, &invariant::check(&record), &expectations);
    if let Some(path) = &options.html {
        write(path, &html(&record, &summary))?;
    }
    if options.json {
        say(to_json(&summary)?);
    } else {
        say(terminal(&summary));
    }
    Ok(summary.is_good())
}

/// What was found about expectations when the run was made, from the `summary.json` beside its record: they belong to
/// the scenario, which a record does not hold.
fn expectations(path: &Path, record: &Record) -> Vec<ExpectationResult> {
    let summary = read::<Summary>(&path.with_file_name("summary.json")).ok();
    let of_this_run = |one: &Summary| (one.started_ms, one.seed) == (record.started_ms, record.seed);
    summary.filter(of_this_run).map(|summary| summary.expectations).unwrap_or_default()
}

/// Shows two `summary.json` beside each other. Whether the later is good enough: with `worse_than`, a share, it is not
/// if any figure is worse by more than that, or anything is newly broken.
pub fn diff(before: &Path, after: &Path, worse_than: Option<f64>) -> Result<bool, HarnessError> {
    let difference = difference(&read(before)?, &read(after)?, worse_than.unwrap_or(MARKED));
    say(difference.text().trim_end());
    Ok(worse_than.is_none() || !difference.is_worse())
}

/// The files of a run: its record, summary and page, in a directory that is made if it is not there.
pub fn keep(directory: &Path, record: &Record, summary: &Summary) -> Result<(), HarnessError> {
    std::fs::create_dir_all(directory).map_err(HarnessError::io(format!("making {}", directory.display())))?;
    write(&directory.join("record.json"), &to_json(record)?)?;
    write(&directory.join("summary.json"), &to_json(summary)?)?;
    write(&directory.join("report.html"), &html(record, summary))
}

fn to_json(value: &impl serde::Serialize) -> Result<String, HarnessError> {
    serde_json::to_string(value).map_err(|error| HarnessError::Answer(error.to_string()))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, HarnessError> {
    let text = std::fs::read(path).map_err(HarnessError::io(format!("reading {}", path.display())))?;
    serde_json::from_slice(&text).map_err(|error| HarnessError::Answer(format!("{}: {error}", path.display())))
}

fn write(path: &Path, text: &str) -> Result<(), HarnessError> {
    std::fs::write(path, text).map_err(HarnessError::io(format!("writing {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{admitted, record_of};

    #[test]
    fn what_is_kept_can_be_read_and_compared() {
        let directory = tempfile::tempdir().expect("a directory");
        let record = record_of(vec![admitted(0, 0), admitted(1, 1_000_000)]);
        let (name, wanted, found) = ("goodput".to_owned(), ">= 1".to_owned(), "2".to_owned());
        let expectation = ExpectationResult { name, wanted, found, met: true };
        let summary = Summary::of(&record, &invariant::check(&record), &[expectation]);
        keep(directory.path(), &record, &summary).expect("kept");
        let path = directory.path().join("summary.json");
        let again: Summary = read(&path).expect("a summary");
        assert_eq!(again, summary);
        assert_eq!(expectations(&directory.path().join("record.json"), &record), summary.expectations);
        assert!(diff(&path, &path, Some(0.0)).expect("compared"));
    }

    #[test]
    fn a_file_that_is_no_summary_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("summary.json");
        std::fs::write(&path, "{").expect("written");
        let error = diff(&path, &path, None).expect_err("no summary").to_string();
        assert!(error.contains("summary.json"), "{error}");
    }
}
