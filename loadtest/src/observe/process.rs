//! What a process of this machine has used, from `/proc`.
//!
//! Responsible for two numbers per process. Must never fail a run: where there is no `/proc`, or the process has gone,
//! there is nothing to say.

use crate::record::ProcessSample;

/// Processor time and resident memory of a process; `None` if they cannot be read.
pub(super) fn usage(pid: u32) -> Option<ProcessSample> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let resident: u64 = pages.split_whitespace().nth(1)?.parse().ok()?;
    Some(ProcessSample {
        cpu_ms: ticks(&stat)? * 1000 / rustix::param::clock_ticks_per_second(),
        resident_bytes: resident * rustix::param::page_size() as u64,
    })
}

/// User and system time together (`proc_pid_stat(5)`, fields 14 and 15). The name in parentheses may hold anything,
/// also spaces and parentheses.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_times_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 17 5 0 0 20 0 4 0 12345 1000 200";
        assert_eq!(ticks(stat), Some(22));
        assert_eq!(ticks("42 (cut off"), None);
    }

    #[test]
    fn a_process_that_is_none_has_used_nothing() {
        assert_eq!(usage(u32::MAX), None);
    }
}
