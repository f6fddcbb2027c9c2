//! Faults on a time axis: shaded while they last, and named where there is room.
//!
//! Responsible for names that do not cover each other. Must never hide a fault: one whose name does not fit is still
//! shaded, and all of them stand in the table.

use crate::record::Fault;

/// Rows of names above each other.
const ROWS: usize = 3;
/// Width of a letter, px; generous, because the page chooses the font.
const LETTER_PX: f64 = 7.5;
/// Longest name that is written, letters.
const LETTERS: usize = 24;

/// A fault as it is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    /// Where it begins, seconds.
    pub from: f64,
    /// Where it ends, seconds; `None` if it has no end.
    pub until: Option<f64>,
    /// Its name and the row it stands in, if there is room.
    pub label: Option<(String, usize)>,
}

/// Lays out the faults of a run over so many seconds and px, in the order in which they began.
#[must_use]
pub fn bands(faults: &[Fault], seconds: f64, width_px: f64) -> Vec<Band> {
    let mut sorted: Vec<&Fault> = faults.iter().collect();
    sorted.sort_by_key(|fault| fault.at_us);
    let px = |at: f64| at / seconds * width_px;
    let mut free_from = [0.0_f64; ROWS];
    let mut bands = Vec::new();
    for fault in sorted {
        let from = (fault.at_us as f64 / 1e6).min(seconds);
        let until = fault.until_us.map(|until| (until as f64 / 1e6).clamp(from, seconds));
        let name: String = fault.name.chars().take(LETTERS).collect();
        let (start, length) = (px(from), name.chars().count() as f64 * LETTER_PX);
        let row = free_from.iter().position(|&free| free <= start).filter(|_| start + length <= width_px);
        if let Some(row) = row {
            free_from[row] = start + length;
        }
        bands.push(Band { from, until, label: row.map(|row| (name, row)) });
    }
    bands
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(at_us: u64) -> Fault {
        Fault { name: "pause_redis".to_owned(), detail: String::new(), at_us, until_us: Some(at_us + 10) }
    }

    #[test]
    fn names_that_would_cover_each_other_stand_in_rows_or_are_left_out() {
        let faults: Vec<Fault> = (0..5).map(|n| fault(n * 1000)).collect();
        let bands = bands(&faults, 10.0, 500.0);
        let rows: Vec<Option<usize>> = bands.iter().map(|band| band.label.as_ref().map(|(_, row)| *row)).collect();
        assert_eq!(rows, [Some(0), Some(1), Some(2), None, None]);
    }

    #[test]
    fn nothing_is_drawn_beyond_the_end() {
        let bands = bands(&[fault(9_999_999), fault(u64::MAX - 10)], 10.0, 500.0);
        assert!(bands.iter().all(|band| band.until.is_some_and(|until| until <= 10.0)));
        assert!(bands.iter().all(|band| band.label.is_none()));
    }
}
