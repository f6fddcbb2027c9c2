//! A recorded trace of requests, to be replayed.
//!
//! Responsible for reading it, and for saying which line cannot be read. Must never invent what a line does not say.

use std::path::Path;

use serde::Deserialize;

use crate::error::HarnessError;

/// Most lines of a trace: as many as a journal holds calls.
const MAX_LINES: usize = 3_000_000;

/// A request as it was recorded.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Recorded {
    /// When, ms since whatever the trace counts from.
    pub(super) at_ms: f64,
    /// User type of the caller.
    pub(super) user_type: String,
    /// Name of the caller; empty if it has none.
    #[serde(default)]
    pub(super) principal: String,
    /// Kind of the task.
    pub(super) kind: String,
}

/// Reads a trace, ordered by time. A file whose name ends in `.csv` has a line of column names and no quotes; any other
/// has a JSON object on each line. Further columns and fields are passed over.
pub(super) fn read(file: &Path) -> Result<Vec<Recorded>, HarnessError> {
    let text = std::fs::read_to_string(file).map_err(HarnessError::io(format!("reading {}", file.display())))?;
    let csv = file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
    let rows = if csv { from_csv(&text) } else { from_json_lines(&text) };
    let mut rows = rows.map_err(|fault| HarnessError::Load(format!("{}: {fault}", file.display())))?;
    rows.sort_by(|one, other| one.at_ms.total_cmp(&other.at_ms));
    Ok(rows)
}

fn from_json_lines(text: &str) -> Result<Vec<Recorded>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    collect(lines.map(|(number, line)| (number, serde_json::from_str(line).map_err(|error| error.to_string()))))
}

fn from_csv(text: &str) -> Result<Vec<Recorded>, String> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (_, header) = lines.next().ok_or("line 1: the column names are missing")?;
    let columns: Vec<&str> = header.split(',').map(str::trim).collect();
    let place = |name: &str| {
        columns.iter().position(|column| *column == name).ok_or_else(|| format!("line 1: no column {name}"))
    };
    let [at_ms, user_type, kind] = [place("at_ms")?, place("user_type")?, place("kind")?];
    let principal = place("principal").ok();
    collect(lines.map(|(number, line)| {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let row = || {
            let cell = |place: usize| cells.get(place).copied().ok_or("has too few columns");
            Ok(Recorded {
                at_ms: cell(at_ms)?.parse().map_err(|_| "at_ms is no number")?,
                user_type: cell(user_type)?.to_owned(),
                principal: principal.map(cell).transpose()?.unwrap_or_default().to_owned(),
                kind: cell(kind)?.to_owned(),
            })
        };
        (number, row().map_err(|fault: &str| fault.to_owned()))
    }))
}

fn collect(rows: impl Iterator<Item = (usize, Result<Recorded, String>)>) -> Result<Vec<Recorded>, String> {
    let mut read = Vec::new();
    for (number, row) in rows {
        let at = |fault: &str| format!("line {}: {fault}", number + 1);
        let row = row.map_err(|fault| at(&fault))?;
        if !row.at_ms.is_finite() {
            return Err(at("at_ms is no number"));
        }
        if read.len() == MAX_LINES {
            return Err(at("the trace is longer than a run may be"));
        }
        read.push(row);
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_and_json_lines_say_the_same() {
        let csv = "user_type, at_ms,kind,principal\npaid,20.5,chat,ada\nanonymous,10,report,\n";
        let json = r#"{"at_ms":20.5,"user_type":"paid","principal":"ada","kind":"chat","bytes":7}
{"at_ms":10,"user_type":"anonymous","kind":"report"}
"#;
        assert_eq!(from_csv(csv).unwrap(), from_json_lines(json).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trace.csv");
        std::fs::write(&file, csv).unwrap();
        let read = read(&file).unwrap();
        assert_eq!((read[0].kind.as_str(), read[1].principal.as_str()), ("report", "ada"), "ordered by time");
    }

    #[test]
    fn the_line_that_cannot_be_read_is_named() {
        assert_eq!(from_csv("at_ms,user_type\n").unwrap_err(), "line 1: no column kind");
        assert_eq!(from_csv("at_ms,user_type,kind\nx,paid,chat\n").unwrap_err(), "line 2: at_ms is no number");
        assert_eq!(from_csv("at_ms,user_type,kind\n\n1,paid\n").unwrap_err(), "line 3: has too few columns");
        assert_eq!(from_csv("at_ms,user_type,kind\nNaN,paid,chat\n").unwrap_err(), "line 2: at_ms is no number");
        assert!(from_json_lines("{}\n").unwrap_err().starts_with("line 1: missing field"));
    }
}
