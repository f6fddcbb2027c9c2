//! Reports: what a run was, in figures, tables, plots and against another run.
//!
//! Responsible, itself, for tables of text and for the one place that prints. Must never compute a figure: that is
//! [`figures`], from the record and nothing else, so that every form of a report says the same.

pub mod quantiles;
pub mod figures;
pub mod expectation;
pub mod summary;
pub mod measure;
pub mod difference;
pub mod section;
pub mod terminal;
pub mod plot;
pub mod page;
pub mod command;
#[cfg(test)]
pub(crate) mod sample;

use std::fmt::{self, Write as _};
use std::io::Write as _;

pub use difference::{Difference, difference};
pub use expectation::ExpectationResult;
pub use figures::Figures;
pub use page::html;
pub use quantiles::Quantiles;
pub use summary::Summary;
pub use terminal::terminal;

/// Rows under a header. The first column stands left, all others right.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column titles.
    #[must_use]
    pub fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|title| (*title).to_owned()).collect()] }
    }

    /// Adds a row; missing cells at its end are empty.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Adds a row with as many cells as the header has, or fewer.
    pub fn push(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The titles, then the rows.
    #[must_use]
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// Whether there is nothing under the titles.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    fn width(&self, column: usize) -> usize {
        self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = self.width(column);
                if column == 0 {
                    write!(line, "{cell:<width$}")?;
                } else {
                    write!(line, "  {cell:>width$}")?;
                }
            }
            writeln!(f, "{}", line.trim_end())?;
            if number == 0 {
                writeln!(f, "{}", "─".repeat(line.chars().count()))?;
            }
        }
        Ok(())
    }
}

/// Writes a line to standard output. A reader that has gone away is no reason to fail.
pub fn say(line: impl fmt::Display) {
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns_columns() {
        let mut table = Table::new(&["type", "n"]);
        table.row(["paid".to_owned(), "10".to_owned()]);
        table.row(["anonymous".to_owned(), "9".to_owned()]);
        assert_eq!(table.to_string(), "type        n\n─────────────\npaid       10\nanonymous   9\n");
    }
}
