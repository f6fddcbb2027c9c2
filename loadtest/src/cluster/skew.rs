//! Wall clocks of single processes that are wrong, and jump.
//!
//! Responsible for running a process under libfaketime (<https://github.com/wolfcw/libfaketime>), whose offset is a
//! file that is read again at every look at the clock. Must never touch the monotonic clock: hosts disagree about the
//! time of day, not about how long a second is.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Builder, Member};
use crate::error::HarnessError;

/// Where the Debian package `libfaketime`, Fedora, Alpine and a build from source put it; `*` is any folder.
const PLACES: [&str; 4] =
    ["/usr/lib/*/faketime", "/usr/lib64/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime"];
const LIBRARY: &str = "libfaketimeMT.so.1";

/// The wall clocks of some processes.
#[derive(Debug)]
pub struct Clocks {
    library: PathBuf,
    offsets: TempDir,
}

impl Clocks {
    /// Clocks that can be set; `None` where libfaketime is not installed.
    pub fn find() -> Result<Option<Self>, HarnessError> {
        let Some(library) = PLACES.into_iter().flat_map(folders).map(|at| at.join(LIBRARY)).find(|at| at.is_file())
        else {
            return Ok(None);
        };
        let offsets = tempfile::Builder::new().prefix("portcullis-clocks-").tempdir();
        Ok(Some(Self { library, offsets: offsets.map_err(HarnessError::io("making a directory for clocks"))? }))
    }

    /// Lets this process have a clock of its own, this far ahead, seconds.
    pub fn give(&self, builder: Builder, member: Member, ahead_seconds: i64) -> Result<Builder, HarnessError> {
        self.set(member, ahead_seconds)?;
        let variables = [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file(member).display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            // Its older name.
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        Ok(variables.into_iter().fold(builder, |builder, (name, value)| builder.member_env(member, name, &value)))
    }

    /// Sets the clock of a process that was given one, seconds ahead of the machine's; what it was before.
    pub fn set(&self, member: Member, ahead_seconds: i64) -> Result<i64, HarnessError> {
        let (file, new) = (self.file(member), self.offsets.path().join("new"));
        let before = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        // Written beside and renamed, because the process may look at any moment.
        let written = std::fs::write(&new, format!("{ahead_seconds:+}\n")).and_then(|()| std::fs::rename(&new, &file));
        written.map_err(HarnessError::io(format!("setting the clock of {member}")))?;
        Ok(before)
    }

    fn file(&self, member: Member) -> PathBuf {
        self.offsets.path().join(member.to_string())
    }
}

fn folders(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![PathBuf::from(pattern)] };
    let entries = std::fs::read_dir(Path::new(before)).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().join(after.trim_start_matches('/'))).collect()
}
