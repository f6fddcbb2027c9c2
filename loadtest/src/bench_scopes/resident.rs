//! The memory of a process, as Linux accounts for it.
//!
//! Responsible for telling what is the process's own from what it shares with others. Must never be asked on a system
//! without `/proc`: there it fails with the name of the file.

use crate::error::HarnessError;

/// What a process holds in memory, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resident {
    /// All of it, pages shared with other processes included.
    pub resident_bytes: u64,
    /// What is its own alone.
    pub private_bytes: u64,
}

impl Resident {
    /// Of the process with this id, now.
    pub fn of(process: u32) -> Result<Self, HarnessError> {
        let path = format!("/proc/{process}/smaps_rollup");
        let text = std::fs::read_to_string(&path).map_err(HarnessError::io(format!("reading {path}")))?;
        parse(&text).ok_or_else(|| HarnessError::Answer(format!("{path} does not tell what is resident")))
    }
}

/// Lines such as `Private_Dirty:        1234 kB`.
fn parse(text: &str) -> Option<Resident> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
        Some(kibibytes * 1024)
    };
    let private_bytes = bytes("Private_Clean")? + bytes("Private_Dirty")?;
    Some(Resident { resident_bytes: bytes("Rss")?, private_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_shared_and_what_is_private() {
        let text = "00400000-7ffd00000000 ---p 00000000 00:00 0    [rollup]\nRss:                3000 kB\n\
                    Pss:                2000 kB\nPss_Dirty:           500 kB\nShared_Clean:       1000 kB\n\
                    Private_Clean:      1500 kB\nPrivate_Dirty:       500 kB\n";
        let expected = Resident { resident_bytes: 3000 * 1024, private_bytes: 2000 * 1024 };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse("Rss: many\n"), None);
    }
}
