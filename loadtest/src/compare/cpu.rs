//! Time on a processor, as Linux accounts for it.
//!
//! Responsible for the totals of one process. Must never be asked on a system without `/proc`: there it fails with the
//! name of the file.

use std::time::Duration;

use crate::error::HarnessError;

/// What a process has used since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// User and system time of all its threads.
    pub own: Duration,
    /// The same of its children that have ended and been waited for.
    pub children: Duration,
}

impl Cpu {
    /// Of the process with this id, now.
    pub fn of(process: u32) -> Result<Self, HarnessError> {
        let path = format!("/proc/{process}/stat");
        let text = std::fs::read_to_string(&path).map_err(HarnessError::io(format!("reading {path}")))?;
        parse(&text).ok_or_else(|| HarnessError::Answer(format!("{path} does not tell the time used")))
    }

    /// Of this process, now.
    pub fn here() -> Result<Self, HarnessError> {
        Self::of(std::process::id())
    }

    /// What was used after `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        let (own, children) = (self.own.saturating_sub(earlier.own), self.children.saturating_sub(earlier.children));
        Self { own, children }
    }
}

/// Fields as in `proc_pid_stat(5)`, of which the second is the program's name in parentheses and may hold anything.
fn parse(stat: &str) -> Option<Cpu> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11).map(str::parse::<u64>);
    let tick = Duration::from_secs(1) / rustix::param::clock_ticks_per_second() as u32;
    let mut both = || Some(tick * (fields.next()?.ok()? + fields.next()?.ok()?) as u32);
    Some(Cpu { own: both()?, children: both()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_behind_any_name() {
        let stat = "4242 (red is) ) S 1 4242 4242 0 -1 4194560 5 0 0 0 70 30 4 1 20 0 5 0 100 200 300\n";
        let expected = Cpu { own: Duration::from_secs(1), children: Duration::from_millis(50) };
        assert_eq!(parse(stat), Some(expected));
        assert_eq!(parse("4242 (redis) S 1"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let before = Cpu::here().expect("a process");
        assert!(Cpu::here().expect("a process").own >= before.own);
    }
}
