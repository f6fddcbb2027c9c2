//! `portcullis-loadtest check RECORD`: judges the record of a run again.
//!
//! Responsible for reading the file and printing the verdicts. Must never say that a record holds which it could not
//! read whole.

use std::io::BufReader;
use std::path::Path;

use super::check;
use crate::error::HarnessError;
use crate::record::Record;
use crate::report::say;

/// Prints the verdicts on the record in this file, as a table or as JSON; whether all hold.
pub fn run(path: &Path, json: bool) -> Result<bool, HarnessError> {
    let reading = || format!("reading {}", path.display());
    let file = std::fs::File::open(path).map_err(HarnessError::io(reading()))?;
    let record: Record = serde_json::from_reader(BufReader::new(file))
        .map_err(|fault| HarnessError::Answer(format!("{} is no record of a run: {fault}", path.display())))?;
    let verdicts = check(&record);
    if json {
        let text = serde_json::to_string_pretty(&verdicts);
        say(text.map_err(|fault| HarnessError::Answer(fault.to_string()))?);
    } else {
        say(format!("{verdicts}").trim_end());
    }
    Ok(verdicts.hold())
}
