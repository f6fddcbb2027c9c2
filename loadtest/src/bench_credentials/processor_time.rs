//! Time on a processor to the nanosecond: a sample has too few of the ticks that `/proc/PID/stat` counts in.
//!
//! Responsible for the total of all threads of one process. Must never be asked of a process whose threads come and go:
//! what ended ones used is not in it.

use std::fs;
use std::time::Duration;

use crate::error::HarnessError;

/// What the threads of this process have used so far.
pub fn of(process: u32) -> Result<Duration, HarnessError> {
    let threads = format!("/proc/{process}/task");
    let reading = |path: &str| HarnessError::io(format!("reading {path}"));
    let mut total = Duration::ZERO;
    for thread in fs::read_dir(&threads).map_err(reading(&threads))? {
        let path = thread.map_err(reading(&threads))?.path().join("schedstat");
        let text = match fs::read_to_string(&path) {
            // It has ended since it was listed.
            Err(_) if !path.exists() => continue,
            text => text.map_err(reading(&path.to_string_lossy()))?,
        };
        let used = parse(&text);
        total += used.ok_or_else(|| HarnessError::Answer(format!("{} does not tell a time", path.display())))?;
    }
    Ok(total)
}

/// The first field is time on a processor in ns (Linux, `Documentation/scheduler/sched-stats.rst`).
fn parse(schedstat: &str) -> Option<Duration> {
    schedstat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_first_field() {
        assert_eq!(parse("1500 7 3\n"), Some(Duration::from_nanos(1500)));
        assert_eq!((parse(""), parse("x 7 3")), (None, None));
    }

    #[test]
    fn a_process_that_works_uses_more() {
        let before = of(std::process::id()).expect("a time");
        // Until it shows: the kernel accounts for a thread that runs at its ticks.
        while of(std::process::id()).expect("a time") <= before {}
    }
}
